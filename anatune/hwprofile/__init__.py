"""Facts of machines: the profile format, its files, and where they are found (rank 1).

In the order in which a file passes through: `places` finds it, `strict_yaml` makes a tree of it,
`read` checks each fact against `schema`, `load` builds the nouns of `profile`, `laws` tests that
they fit. `dump` goes the other way. `grammar` has the words in which `schema` is written.
"""

from anatune.hwprofile.dump import content_hash, dump_profile
from anatune.hwprofile.json_schema import json_schema
from anatune.hwprofile.load import parse_profile
from anatune.hwprofile.lookup import check_file, load_profile, profiles
from anatune.hwprofile.profile import (
    CacheLevel,
    Citation,
    CoreKind,
    Dot,
    Gpu,
    Memory,
    Profile,
    Source,
    Target,
    Tlb,
    hardware_threads,
)

__all__ = [
    "CacheLevel",
    "Citation",
    "CoreKind",
    "Dot",
    "Gpu",
    "Memory",
    "Profile",
    "Source",
    "Target",
    "Tlb",
    "check_file",
    "content_hash",
    "dump_profile",
    "hardware_threads",
    "json_schema",
    "load_profile",
    "parse_profile",
    "profiles",
]
