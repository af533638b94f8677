"""Plan -> kernel, through TVM; no policy: it does what the plan says (rank 5).

TVM reads two environment variables when its thread pool starts. Its defaults do not suit a library:
half of the processors (it assumes two threads a core), and the caller's thread tied to one
processor for good, which every thread started later inherits.
"""

import os

_processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
os.environ.setdefault("TVM_BIND_THREADS", "0")
os.environ.setdefault("TVM_NUM_THREADS", str(_processors or 1))
