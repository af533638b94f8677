"""Facts by micro-architecture that no operating system tells; only those we are sure of.

The rows are in `uarch_x86` and `uarch_arm`; `uarch_find` looks them up. Rates are per vector width,
because several cores split wide vectors. What a row leaves out, a probe fills.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from anatune.hwprofile.detect.facts import Part, RawCache
from anatune.hwprofile.profile import Source

KIB = 1 << 10
MIB = 1 << 20
APPLE_PAGE_BYTES = 16 * KIB


@dataclass(frozen=True, kw_only=True)
class Uarch:
    """One core design. ``fma``, ``loads``, ``stores``: full-width operations per cycle, by bits."""

    name: str
    where: str
    mcpu: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    fma: Mapping[int, float] = field(default_factory=dict)
    fma_latency_cycles: float | None = None
    loads: Mapping[int, float] = field(default_factory=dict)
    stores: Mapping[int, float] = field(default_factory=dict)
    tlb_entries: int | None = None
    tlb_second_entries: int | None = None
    page_bytes: int = 4 * KIB
    sve_bits: int | None = None
    caches: tuple[RawCache, ...] = ()
    far_holds: str | None = None  # what level 3 keeps: copies | victims | own

    @property
    def source(self) -> Source:
        return Source(name=f"uarch_{self.name}", kind="document", where=self.where)


def cache(
    level: int, size_bytes: int, ways: int, *, cores: int = 1, line_bytes: int = 64
) -> RawCache:
    """A fallback level, for where the system is silent."""
    return RawCache(
        level=level, size_bytes=size_bytes, ways=ways, line_bytes=line_bytes, cores=cores
    )


def intel(*models: int) -> tuple[Part, ...]:
    return tuple(Part(vendor="GenuineIntel", family=6, model=m) for m in models)


def amd(family: int, *models: int) -> tuple[Part, ...]:
    return tuple(Part(vendor="AuthenticAMD", family=family, model=m) for m in models)


def arm(*parts: int) -> tuple[Part, ...]:
    return tuple(Part(implementer=0x41, arm_part=p) for p in parts)
