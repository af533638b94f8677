"""What one operating system's reader hands over: raw, perhaps absurd, never derived."""

from __future__ import annotations

import re
from dataclasses import dataclass

from anatune.hwprofile.profile import Source

MAX_CPUS = 4096  # cores that a profile may hold; a longer list is nonsense
MAX_THREADS_EACH = 8  # POWER has eight, which is the most
_DIGITS = 18  # longer numbers overflow 64 bits and are no fact of any machine
CLOCK_RANGE_HZ = (1e8, 1e10)
NOMINAL_CLOCK = Source(
    name="nominal_clock",
    kind="document",
    where="limits that the maker states to the operating system, not what multiply-adds sustain",
)
_SIZE_UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True, kw_only=True)
class RawCache:
    """One data or unified cache as a source states it; ``cores`` share one instance."""

    level: int
    size_bytes: int | None = None
    ways: int | None = None
    sets: int | None = None
    line_bytes: int | None = None
    cores: int | None = None


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The caches of one core according to one source."""

    source: Source
    caches: tuple[RawCache, ...]


@dataclass(frozen=True, kw_only=True)
class Part:
    """How the silicon names itself: x86 by vendor, family, model; Arm by implementer and part."""

    vendor: str | None = None
    family: int | None = None
    model: int | None = None
    implementer: int | None = None
    arm_part: int | None = None


@dataclass(frozen=True, kw_only=True)
class RawKind:
    """One kind of core; ``role`` is performance or efficiency where the system tells them apart."""

    count: int
    threads_each: int = 1
    cpus: tuple[int, ...] = ()
    role: str | None = None
    part: Part = Part()
    clock_one_hz: float | None = None
    clock_all_hz: float | None = None
    readings: tuple[Reading, ...] = ()


@dataclass(frozen=True, kw_only=True)
class HostFacts:
    """One machine as its operating system shows it; the kinds of core come fastest first."""

    source: Source
    kinds: tuple[RawKind, ...]
    usable_threads: int
    flags: frozenset[str] = frozenset()
    flags_complete: bool = False  # what is not listed must not be used
    brand: str | None = None
    memory_bytes: int | None = None
    virtualized: bool = False


def parse_int(text: str | None, base: int = 10) -> int | None:
    """The whole number that ``text`` is, or None for anything else."""
    stripped = (text or "").strip()
    if not stripped or len(stripped) > _DIGITS or not stripped.isascii():
        return None
    try:
        return int(stripped, base)
    except ValueError:
        return None


def plausible_clock(hertz: int | None) -> float | None:
    low, high = CLOCK_RANGE_HZ
    return float(hertz) if hertz is not None and low <= hertz <= high else None


def parse_size(text: str | None) -> int | None:
    """Bytes from the kernel's and lscpu's spelling: 48K, 1M, 1.3M; binary units all."""
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,3})?)([BKMG]?)", (text or "").strip(), re.A)
    if match is None:
        return None
    return int(float(match[1]) * _SIZE_UNITS[match[2]])


def parse_cpu_list(text: str | None) -> tuple[int, ...]:
    """Numbers of a kernel list such as 0-3,8; empty when absent or not such a list."""
    cpus: set[int] = set()
    for part in (text or "").strip().split(","):
        first, dash, last = part.partition("-")
        low, high = parse_int(first), parse_int(last if dash else first)
        if low is None or high is None or not 0 <= low <= high < MAX_CPUS:
            return ()
        cpus.update(range(low, high + 1))
    return tuple(sorted(cpus))
