"""Linux: caches and topology of every CPU from sysfs, grouped into kinds; lscpu where silent."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from anatune.hwprofile.detect import cpuinfo
from anatune.hwprofile.detect.cache_chain import is_complete
from anatune.hwprofile.detect.cgroup import quota_cpus
from anatune.hwprofile.detect.facts import (
    MAX_THREADS_EACH,
    HostFacts,
    Part,
    RawCache,
    RawKind,
    Reading,
    parse_cpu_list,
    parse_int,
    parse_size,
    plausible_clock,
)
from anatune.hwprofile.detect.system import System
from anatune.hwprofile.profile import Source

CPU = "/sys/devices/system/cpu"
SYSFS = Source(name="sysfs", kind="detected", where=f"{CPU} and /proc of the running Linux")
LSCPU = Source(name="lscpu", kind="detected", where="lscpu -J -C")
_LSCPU_COMMAND = ("lscpu", "-J", "-C")
# Intel's hybrid chips have one performance-monitoring unit for each kind of core.
_INTEL_KINDS = (
    ("cpu_core", "performance"),
    ("cpu_atom", "efficiency"),
    ("cpu_lowpower", "efficiency"),
)
_GUEST_MARKS = (
    "qemu",
    "kvm",
    "vmware",
    "virtualbox",
    "virtual machine",
    "hvm domu",
    "bochs",
    "xen",
)


@dataclass(frozen=True, kw_only=True)
class _Cpu:
    """One logical processor, as sysfs shows it."""

    number: int
    siblings: frozenset[int]  # hardware threads of its core, itself among them
    unit: str | None  # the Intel monitoring unit that lists it
    part: Part
    capacity: int | None
    max_hz: float | None
    base_hz: float | None
    caches: tuple[RawCache, ...]

    @property
    def geometry(self) -> tuple[Any, ...]:
        return tuple((c.level, c.size_bytes, c.ways, c.sets, c.line_bytes) for c in self.caches)


def read(system: System) -> HostFacts:
    blocks, common = cpuinfo.parse(system.read_text("/proc/cpuinfo") or "")
    online = _online(system, blocks)
    allowed = (system.affinity() or frozenset()) & set(online) or frozenset(online)
    cpus = _read_cpus(system, online, blocks)
    groups = _group(cpus)
    fallback = () if len(groups) > 1 else tuple(_lscpu(system, groups[0], cpus))
    flags = cpuinfo.flags_of(blocks)
    board = (system.read_text("/sys/firmware/devicetree/base/model") or "").strip("\0\n ")
    return HostFacts(
        source=SYSFS,
        kinds=tuple(
            _kind(g, allowed, first=g is groups[0], more=fallback)
            for g in groups
            if any(cpu.number in allowed for cpu in g)
        ),
        usable_threads=_usable_threads(len(allowed), quota_cpus(system)),
        flags=flags,
        flags_complete=bool(flags),
        brand=cpuinfo.brand_of(blocks, common) or board or None,
        memory_bytes=memory_bytes(system),
        virtualized="hypervisor" in flags or _guest_marks(system),
    )


def _online(system: System, blocks: Iterable[int]) -> tuple[int, ...]:
    listed = parse_cpu_list(system.read_text(f"{CPU}/online"))
    if listed or (listed := tuple(sorted(blocks))):
        return listed
    return tuple(sorted(system.affinity() or ())) or tuple(range(max(1, system.cpu_count() or 1)))


def _usable_threads(allowed: int, quota: float | None) -> int:
    """Whole CPUs only: a thread that gets half a CPU holds up the barrier for all the others."""
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def _read_cpus(
    system: System, online: Sequence[int], blocks: dict[int, cpuinfo.Block]
) -> tuple[_Cpu, ...]:
    siblings = {n: _siblings(system, n, frozenset(online)) for n in online}
    units = {
        cpu: unit
        for unit, _ in _INTEL_KINDS
        for cpu in parse_cpu_list(system.read_text(f"/sys/devices/{unit}/cpus"))
    }
    return tuple(
        _Cpu(
            number=n,
            siblings=siblings[n],
            unit=units.get(n),
            part=cpuinfo.part_of(blocks.get(n, {})),
            capacity=parse_int(system.read_text(f"{CPU}/cpu{n}/cpu_capacity")),
            max_hz=_khz(system, f"{CPU}/cpu{n}/cpufreq/cpuinfo_max_freq"),
            base_hz=_khz(system, f"{CPU}/cpu{n}/cpufreq/base_frequency"),
            caches=_sysfs_caches(system, n, siblings),
        )
        for n in online
    )


def _siblings(system: System, cpu: int, online: frozenset[int]) -> frozenset[int]:
    for name in ("core_cpus_list", "thread_siblings_list"):
        listed = parse_cpu_list(system.read_text(f"{CPU}/cpu{cpu}/topology/{name}"))
        threads = online & set(listed)
        if cpu in threads and len(threads) <= MAX_THREADS_EACH:
            return threads
    return frozenset({cpu})


def _khz(system: System, path: str) -> float | None:
    khz = parse_int(system.read_text(path))
    return plausible_clock(None if khz is None else khz * 1000)


def _sysfs_caches(
    system: System, cpu: int, siblings: dict[int, frozenset[int]]
) -> tuple[RawCache, ...]:
    caches: dict[int, RawCache] = {}
    folder = f"{CPU}/cpu{cpu}/cache"
    for index in system.list_dir(folder):
        if not index.startswith("index"):
            continue

        def text(name: str, index: str = index) -> str | None:
            return system.read_text(f"{folder}/{index}/{name}")

        level = parse_int(text("level"))
        if level is None or (text("type") or "").strip() not in ("Data", "Unified"):
            continue
        shared = parse_cpu_list(text("shared_cpu_list"))
        caches[level] = RawCache(
            level=level,
            size_bytes=parse_size(text("size")),
            ways=parse_int(text("ways_of_associativity")),
            sets=parse_int(text("number_of_sets")),
            line_bytes=parse_int(text("coherency_line_size")),
            cores=len({siblings[n] for n in shared if n in siblings}) or None,
        )
    return tuple(caches[level] for level in sorted(caches))


def _group(cpus: Sequence[_Cpu]) -> list[list[_Cpu]]:
    """Kinds of core, fastest first: alike in silicon and in caches, whoever shares them."""
    known = {(c.unit, c.part): c.geometry for c in cpus if c.caches}
    groups: dict[Any, list[_Cpu]] = {}
    for cpu in cpus:
        # Capacity also differs between equal cores of unequal turbo, so it decides only where
        # nothing else names the silicon.
        named = cpu.unit or cpu.part != Part()
        geometry = cpu.geometry if cpu.caches else known.get((cpu.unit, cpu.part), ())
        key = (cpu.unit, cpu.part, None if named else cpu.capacity, geometry)
        groups.setdefault(key, []).append(cpu)
    return sorted(groups.values(), key=_slowness)


def _slowness(group: Sequence[_Cpu]) -> tuple[Any, ...]:
    units = [unit for unit, _ in _INTEL_KINDS]
    unit = group[0].unit
    return (
        units.index(unit) if unit else 0,
        -max(c.capacity or 0 for c in group),
        -max(c.max_hz or 0 for c in group),
        -sum(c.size_bytes or 0 for c in group[0].caches),
    )


def _kind(
    group: Sequence[_Cpu], allowed: frozenset[int], *, first: bool, more: tuple[Reading, ...]
) -> RawKind:
    cores = {cpu.siblings for cpu in group}
    role = dict(_INTEL_KINDS).get(group[0].unit or "", None if first else "efficiency")
    return RawKind(
        count=len(cores),
        threads_each=max(map(len, cores)),
        cpus=tuple(sorted(c.number for c in group if c.number in allowed)),
        role=role,
        part=group[0].part,
        clock_one_hz=max((c.max_hz for c in group if c.max_hz), default=None),
        clock_all_hz=min((c.base_hz for c in group if c.base_hz), default=None),
        readings=(Reading(source=SYSFS, caches=_widest(group)), *more),
    )


def _widest(group: Sequence[_Cpu]) -> tuple[RawCache, ...]:
    """The caches of the core that shares most: the share of each core is not overstated."""
    return max((c.caches for c in group), key=lambda cs: sum(c.cores or 0 for c in cs))


def _lscpu(system: System, group: Sequence[_Cpu], cpus: Sequence[_Cpu]) -> Iterable[Reading]:
    """lscpu starts a process, so it is asked only where sysfs leaves something open."""
    if is_complete(_widest(group)):
        return
    try:
        rows = json.loads(system.run(_LSCPU_COMMAND) or "")["caches"]
        caches = [_lscpu_cache(row, len({c.siblings for c in cpus})) for row in rows]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return  # an old lscpu, or none
    yield Reading(source=LSCPU, caches=tuple(c for c in caches if c is not None))


def _lscpu_cache(row: dict[str, Any], cores: int) -> RawCache | None:
    level = parse_int(str(row.get("level")))
    if level is None or row.get("type") not in ("Data", "Unified"):
        return None
    one, total = parse_size(str(row.get("one-size"))), parse_size(str(row.get("all-size")))
    instances = total // one if one and total else None
    return RawCache(
        level=level,
        size_bytes=one,
        ways=parse_int(str(row.get("ways"))),
        sets=parse_int(str(row.get("sets"))),
        line_bytes=parse_int(str(row.get("coherency-size"))),
        cores=max(1, cores // instances) if instances else None,
    )


def memory_bytes(system: System) -> int | None:
    for line in (system.read_text("/proc/meminfo") or "").splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "MemTotal:" and (kib := parse_int(words[1])):
            return kib * 1024 if kib > 0 else None
    return None


def _guest_marks(system: System) -> bool:
    """Arm kernels list no hypervisor flag: firmware and the device tree tell instead."""
    if (system.read_text("/sys/hypervisor/type") or "").strip():
        return True
    if system.list_dir("/sys/firmware/devicetree/base/hypervisor"):
        return True
    names = [
        system.read_text(f"/sys/class/dmi/id/{n}") or "" for n in ("sys_vendor", "product_name")
    ]
    words = " ".join(names).lower()
    return any(mark in words for mark in _GUEST_MARKS) or (
        "amazon ec2" in words and "metal" not in words
    )
