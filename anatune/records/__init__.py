"""What was measured and decided, kept for the next run: one JSON line each (rank 7, no TVM).

origin -> record -> line -> lines_file -> store -> journal   a pass writes, the next one finds
                                  select -> tidy     people list, export, merge and prune
                                         kernels     built kernels beside the records
"""

from anatune.records.journal import Journal
from anatune.records.kernels import Kernels
from anatune.records.origin import Origin
from anatune.records.record import Effort, Pass, ProfileId, Record, Verdict
from anatune.records.store import Store, default_path, open_store

__all__ = [
    "Effort",
    "Journal",
    "Kernels",
    "Origin",
    "Pass",
    "ProfileId",
    "Record",
    "Store",
    "Verdict",
    "default_path",
    "open_store",
]
