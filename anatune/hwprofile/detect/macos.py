"""macOS: one sysctl call; sizes by performance level, no associativity: the table fills it."""

from __future__ import annotations

from anatune.hwprofile.detect.facts import (
    MAX_THREADS_EACH,
    HostFacts,
    Part,
    RawCache,
    RawKind,
    Reading,
    parse_int,
    plausible_clock,
)
from anatune.hwprofile.detect.system import System
from anatune.hwprofile.profile import Source

SYSCTL_COMMAND = ("sysctl", "hw", "machdep.cpu", "kern.hv_vmm_present")
SYSCTL = Source(name="sysctl", kind="detected", where="sysctl hw machdep.cpu")
_MAX_LEVELS = 4
_MAX_CORES = 1024

Keys = dict[str, str]


def read(system: System) -> HostFacts:
    keys = parse(system.run(SYSCTL_COMMAND) or "")
    count = parse_int(keys.get("hw.nperflevels")) or 0
    levels = [f"hw.perflevel{i}." for i in range(min(count, _MAX_LEVELS))]
    # Without levels (Intel Macs) the plain keys describe the only kind; with them, the plain keys
    # may describe the small cores, so they are not looked at.
    kinds = tuple(_kind(keys, level, i) for i, level in enumerate(levels)) or (_plain_kind(keys),)
    threads = sum(kind.count * kind.threads_each for kind in kinds)
    return HostFacts(
        source=SYSCTL,
        kinds=kinds,
        usable_threads=max(1, min(threads, system.cpu_count() or threads)),
        flags=_flags(keys),
        brand=keys.get("machdep.cpu.brand_string") or None,
        memory_bytes=_positive(keys, "hw.memsize"),
        virtualized=keys.get("kern.hv_vmm_present") == "1",
    )


def parse(text: str) -> Keys:
    keys: Keys = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            keys[name.strip()] = value.strip()
    return keys


def _positive(keys: Keys, name: str, limit: int = 1 << 60) -> int | None:
    number = parse_int(keys.get(name))
    return number if number is not None and 0 < number <= limit else None


def _kind(keys: Keys, level: str, index: int) -> RawKind:
    """One performance level; the system numbers them from the fastest down."""
    count = _positive(keys, f"{level}physicalcpu", _MAX_CORES) or 1
    threads = _positive(keys, f"{level}logicalcpu", _MAX_CORES) or count
    return RawKind(
        count=count,
        threads_each=max(1, min(threads // count, MAX_THREADS_EACH)),
        role="performance" if index == 0 else "efficiency",
        readings=(Reading(source=SYSCTL, caches=_caches(keys, level, count)),),
    )


def _plain_kind(keys: Keys) -> RawKind:
    count = _positive(keys, "hw.physicalcpu", _MAX_CORES) or 1
    threads = _positive(keys, "hw.logicalcpu", _MAX_CORES) or count
    return RawKind(
        count=count,
        threads_each=max(1, min(threads // count, MAX_THREADS_EACH)),
        part=Part(
            vendor=keys.get("machdep.cpu.vendor"),
            family=parse_int(keys.get("machdep.cpu.family")),
            model=parse_int(keys.get("machdep.cpu.model")),
        ),
        clock_one_hz=plausible_clock(_positive(keys, "hw.cpufrequency_max")),
        clock_all_hz=plausible_clock(_positive(keys, "hw.cpufrequency")),
        readings=(Reading(source=SYSCTL, caches=_caches(keys, "hw.", count)),),
    )


def _caches(keys: Keys, level: str, count: int) -> tuple[RawCache, ...]:
    line = _positive(keys, "hw.cachelinesize")
    sharing = {
        1: 1,
        2: _positive(keys, f"{level}cpusperl2"),
        3: _positive(keys, f"{level}cpusperl3"),
    }
    defaults = {2: 1 if level == "hw." else None, 3: count}
    return tuple(
        RawCache(
            level=number,
            size_bytes=size,
            line_bytes=line,
            cores=sharing[number] or defaults.get(number),
        )
        for number, name in ((1, "l1dcachesize"), (2, "l2cachesize"), (3, "l3cachesize"))
        if (size := _positive(keys, f"{level}{name}"))
    )


def _flags(keys: Keys) -> frozenset[str]:
    """Feature names in LLVM's spelling as far as vectors need them."""
    listed = " ".join(
        keys.get(f"machdep.cpu.{name}", "") for name in ("features", "leaf7_features")
    )
    flags = {word.lower() for word in listed.split()}
    if keys.get("hw.optional.AdvSIMD") == "1" or keys.get("hw.optional.neon") == "1":
        flags.add("neon")
    # Intel Macs write AVX1.0 where LLVM writes avx.
    return frozenset(flags | ({"avx"} if "avx1.0" in flags else set()))
