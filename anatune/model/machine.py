"""What the time model reads of a profile, with a figure in place of each unknown one (rank 4)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from anatune.errors import ProfileError, require
from anatune.hwprofile.profile import CacheLevel, CoreKind, Profile
from anatune.model.cache_blocks import levels
from anatune.model.residency import PAGE_BYTES, keeps

FALLBACK = {
    "fma_per_cycle": 1.0, "fma_latency": 4.0, "loads": 1.0, "stores": 1.0,
    "l2_latency": 14.0, "l3_latency": 50.0,
}  # fmt: skip
"""Rates and cycles that the profile does not know: one unit of each kind, most cores' latencies."""

FALLBACK_TLB_ENTRIES = 64
"""First-level entries where the profile has no TLB: those of most current cores."""

FALLBACK_LINK = (32.0, 16.0, 4.0)
"""Bytes per cycle out of L2, L3 and memory where the profile has none: half of what Zen 5 does."""

FALLBACK_HZ = 2e9
"""Clock of a core whose profile has none: figures compare plans, whatever it is."""

FALLBACK_BARRIER_S = 5e-6
"""The upper end of what TVM's thread pool was seen to need on two cores."""


@dataclass(frozen=True)
class Machine:
    """One thread's view of the machine while ``threads`` are at work; no rate is unknown."""

    core: CoreKind
    threads: int
    hz: float
    fma_per_cycle: float
    fma_latency: float
    loads: float
    stores: float
    l1: CacheLevel
    l2: CacheLevel | None
    l3: CacheLevel | None
    l2_latency: float  # cycles
    l3_latency: float
    l2_rate: float  # bytes per cycle and thread out of L2
    l3_rate: float
    memory_rate: float
    page_bytes: int
    tlb_entries: int
    tlb_miss_cycles: float
    barrier_cycles: float

    def rate(self, level: int) -> float:
        """Bytes per cycle and thread out of a level: 2 for L2, 3 for L3, 4 for memory."""
        return (self.l2_rate, self.l3_rate, self.memory_rate)[level - 2]

    def rate_for(self, size_bytes: float) -> float:
        """Bytes per cycle out of the nearest level beyond L1 that keeps ``size_bytes``."""
        if self.l2 is not None and keeps(self.l2, size_bytes):
            return self.l2_rate
        if self.l3 is not None and keeps(self.l3, size_bytes):
            return self.l3_rate
        return self.memory_rate


@lru_cache(maxsize=64)
def machine(profile: Profile, threads: int) -> Machine:
    """The model's view of ``profile`` with ``threads`` at work.

    Raises:
        ProfileError: the profile describes no CPU, or no first-level cache.
    """
    require(profile.cores, f"profile {profile.name}: describes no CPU cores", ProfileError)
    core = profile.core
    l1, l2, l3 = levels(profile, threads)
    require(l1 is not None, f"profile {profile.name}: caches: no L1 data cache", ProfileError)
    assert l1 is not None  # for type checkers
    alone = threads == 1
    hz = (core.clock_one_hz if alone else core.clock_all_hz or core.clock_one_hz) or FALLBACK_HZ
    memory = profile.memory
    memory_rate = memory.read_one_bytes_per_s if alone else memory.read_all_bytes_per_s
    tlb = core.tlb

    def rate(level: CacheLevel | None, fallback: float) -> float:
        if level is None:
            return fallback
        found = level.read_bytes_per_cycle if alone else level.read_all_bytes_per_cycle
        return found or level.read_bytes_per_cycle or fallback

    return Machine(
        core=core,
        threads=threads,
        hz=hz,
        fma_per_cycle=core.fma_per_cycle or FALLBACK["fma_per_cycle"],
        fma_latency=core.fma_latency_cycles or FALLBACK["fma_latency"],
        loads=core.loads_per_cycle or FALLBACK["loads"],
        stores=core.stores_per_cycle or FALLBACK["stores"],
        l1=l1,
        l2=l2,
        l3=l3,
        l2_latency=(l2.latency_cycles if l2 else None) or FALLBACK["l2_latency"],
        l3_latency=(l3.latency_cycles if l3 else None) or FALLBACK["l3_latency"],
        l2_rate=rate(l2, FALLBACK_LINK[0]),
        l3_rate=rate(l3, FALLBACK_LINK[1]),
        memory_rate=(memory_rate / (hz * threads) if memory_rate else FALLBACK_LINK[2]),
        page_bytes=tlb.page_bytes if tlb else PAGE_BYTES,
        tlb_entries=tlb.entries if tlb else FALLBACK_TLB_ENTRIES,
        tlb_miss_cycles=(tlb.miss_cycles or 0.0) if tlb else 0.0,
        barrier_cycles=0.0 if alone else (profile.barrier_s or FALLBACK_BARRIER_S) * hz,
    )
