"""Windows: cores, caches and sharing from the bytes of GetLogicalProcessorInformationEx."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from anatune.hwprofile.detect.facts import (
    MAX_THREADS_EACH,
    HostFacts,
    Part,
    RawCache,
    RawKind,
    Reading,
)
from anatune.hwprofile.detect.system import System
from anatune.hwprofile.profile import Source

PROCESSOR_CALL = "GetLogicalProcessorInformationEx"
MEMORY_CALL = "GlobalMemoryStatusEx"
WINDOWS = Source(name="windows", kind="detected", where=PROCESSOR_CALL)

# winnt.h: LOGICAL_PROCESSOR_RELATIONSHIP and PROCESSOR_CACHE_TYPE.
_RELATION_CORE, _RELATION_CACHE = 0, 2
_UNIFIED, _DATA = 0, 2
_FULLY_ASSOCIATIVE = 0xFF
_GROUP_CPUS = 64
_MAX_GROUPS = 64
_HEADER = struct.Struct("<II")  # Relationship, Size of the whole record
_CORE = struct.Struct("<BB20xH")  # Flags, EfficiencyClass, GroupCount
_CACHE = struct.Struct("<BBHII18xH")  # Level, Associativity, LineSize, CacheSize, Type, GroupCount
_AFFINITY = struct.Struct("<QH6x")  # Mask, Group


@dataclass(frozen=True)
class _Core:
    cpus: frozenset[int]
    efficiency_class: int  # higher is faster


@dataclass(frozen=True)
class _Cache:
    cpus: frozenset[int]
    level: int
    ways: int | None
    line_bytes: int
    size_bytes: int


def read(system: System) -> HostFacts:
    cores, caches = parse(system.native(PROCESSOR_CALL) or b"")
    part = _part(system.processor())
    online = frozenset(cpu for core in cores for cpu in core.cpus)
    allowed = (system.affinity() or frozenset()) & online or online
    kinds = [
        _kind(group, cores, caches, allowed, part)
        for group in _group(cores, caches)
        if any(core.cpus & allowed for core in group)
    ] or [RawKind(count=system.cpu_count() or 1, part=part)]
    package = system.py_cpuinfo()  # the only portable way to brand and flags here
    return HostFacts(
        source=WINDOWS,
        kinds=tuple(kinds),
        usable_threads=max(1, len(allowed) or system.cpu_count() or 1),
        flags=_flags(package),
        brand=str(package.get("brand_raw") or "") or None,
        memory_bytes=_memory(system.native(MEMORY_CALL) or b""),
        # The hypervisor flag is no proof here: security features put bare machines under Hyper-V.
        virtualized=False,
    )


def parse(data: bytes) -> tuple[list[_Core], list[_Cache]]:
    """Cores and data caches; records that are cut short or inconsistent end the list."""
    cores: list[_Core] = []
    caches: dict[tuple[int, frozenset[int]], _Cache] = {}
    for relation, body in _records(data):
        if relation == _RELATION_CORE and len(body) >= _CORE.size:
            _, efficiency_class, groups = _CORE.unpack_from(body)
            cpus = _cpus(body, _CORE.size, groups)
            if 1 <= len(cpus) <= MAX_THREADS_EACH:
                cores.append(_Core(cpus, efficiency_class))
        if relation == _RELATION_CACHE and len(body) >= _CACHE.size:
            level, ways, line, size, kind, groups = _CACHE.unpack_from(body)
            # Before Windows Server 2022 the group count was a reserved zero, meaning one.
            cpus = _cpus(body, _CACHE.size, max(groups, 1))
            if cpus and kind in (_UNIFIED, _DATA):
                if ways == _FULLY_ASSOCIATIVE:
                    ways = size // line if line else None
                caches[level, cpus] = _Cache(cpus, level, ways, line, size)
    return cores, list(caches.values())


def _records(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _HEADER.size <= len(data):
        relation, size = _HEADER.unpack_from(data, offset)
        if size < _HEADER.size or offset + size > len(data):
            return
        yield relation, data[offset + _HEADER.size : offset + size]
        offset += size


def _cpus(body: bytes, offset: int, groups: int) -> frozenset[int]:
    cpus: set[int] = set()
    for index in range(min(groups, _MAX_GROUPS)):
        start = offset + index * _AFFINITY.size
        if start + _AFFINITY.size > len(body):
            break
        mask, group = _AFFINITY.unpack_from(body, start)
        if group < _MAX_GROUPS:
            cpus.update(group * _GROUP_CPUS + b for b in range(_GROUP_CPUS) if mask >> b & 1)
    return frozenset(cpus)


def _caches_of(core: _Core, cores: list[_Core], caches: list[_Cache]) -> tuple[RawCache, ...]:
    mine = sorted((c for c in caches if c.cpus & core.cpus), key=lambda c: c.level)
    return tuple(
        RawCache(
            level=c.level,
            size_bytes=c.size_bytes,
            ways=c.ways,
            line_bytes=c.line_bytes,
            cores=sum(1 for other in cores if other.cpus & c.cpus),
        )
        for c in {c.level: c for c in mine}.values()
    )


def _group(cores: list[_Core], caches: list[_Cache]) -> list[list[_Core]]:
    """Kinds of core, fastest first."""
    groups: dict[object, list[_Core]] = {}
    for core in cores:
        geometry = tuple(
            (c.level, c.size_bytes, c.ways, c.line_bytes) for c in _caches_of(core, cores, caches)
        )
        groups.setdefault((core.efficiency_class, geometry), []).append(core)
    return sorted(groups.values(), key=lambda g: -g[0].efficiency_class)


def _role(core: _Core, cores: list[_Core]) -> str | None:
    classes = {other.efficiency_class for other in cores}
    if len(classes) == 1:
        return None
    return "performance" if core.efficiency_class == max(classes) else "efficiency"


def _kind(
    group: list[_Core],
    cores: list[_Core],
    caches: list[_Cache],
    allowed: frozenset[int],
    part: Part,
) -> RawKind:
    cpus = frozenset().union(*(core.cpus for core in group))
    each = [_caches_of(core, cores, caches) for core in group]
    widest = max(each, key=lambda cs: sum(c.cores or 0 for c in cs))
    return RawKind(
        count=len(group),
        threads_each=max(len(core.cpus) for core in group),
        cpus=tuple(sorted(cpus & allowed)),
        role=_role(group[0], cores),
        part=part,
        readings=(Reading(source=WINDOWS, caches=widest),),
    )


def _part(processor: str) -> Part:
    """From text such as: Intel64 Family 6 Model 151 Stepping 2, GenuineIntel."""
    match = re.search(r"Family ([0-9]{1,4}) Model ([0-9]{1,4}) .*, *(\w+)$", processor, re.A)
    if match is None:
        return Part()
    return Part(vendor=match[3], family=int(match[1]), model=int(match[2]))


def _flags(package: dict[str, object]) -> frozenset[str]:
    flags = package.get("flags")
    return (
        frozenset(str(f).lower() for f in flags)
        if isinstance(flags, (list, tuple))
        else frozenset()
    )


def _memory(data: bytes) -> int | None:
    """MEMORYSTATUSEX: length and load (32 bit each), then total physical bytes (64 bit)."""
    return struct.unpack_from("<Q", data, 8)[0] or None if len(data) >= 16 else None
