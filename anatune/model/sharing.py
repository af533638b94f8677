"""A cache that a workload shares with what runs before and after it (rank 4)."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import log2

from anatune.hwprofile.profile import CacheLevel, Profile


def sharing_cache(profile: Profile, level: int, mine: float, all_bytes: float) -> Profile:
    """``profile`` as a workload sees it whose ``mine`` bytes are among ``all_bytes`` in use.

    Where a level cannot hold all of them, it has as many ways as its part of the bytes comes to:
    ways are what Low et al. (section 4) give operands, too. 1, 2, 4, ... of them, so that
    workloads of about one size are planned once.
    """
    found = next((c for c in profile.core.caches if c.level == level), None)
    if found is None or all_bytes <= found.size_bytes or mine >= all_bytes:
        return profile
    part = max(1.0, found.ways * mine / all_bytes)
    return _with_ways(profile, level, min(found.ways, 2 ** round(log2(part))))


@lru_cache(maxsize=64)
def _with_ways(profile: Profile, level: int, ways: int) -> Profile:
    def fewer(cache: CacheLevel) -> CacheLevel:
        return replace(cache, ways=ways) if cache.level == level else cache

    cores = tuple(
        replace(core, caches=tuple(map(fewer, core.caches))) for core in profile.cores
    )
    return replace(profile, cores=cores)
