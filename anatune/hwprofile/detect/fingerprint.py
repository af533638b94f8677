"""A short hash that changes when a kept profile of this host no longer describes it."""

from __future__ import annotations

import hashlib

from anatune.hwprofile.detect import cpuinfo, macos, windows
from anatune.hwprofile.detect.cgroup import quota_cpus
from anatune.hwprofile.detect.facts import parse_cpu_list
from anatune.hwprofile.detect.linux import CPU, memory_bytes
from anatune.hwprofile.detect.system import LocalSystem, System

_HEX_DIGITS = 16
_MEMORY_STEP_BYTES = 256 << 20  # kernels keep a little more or less for themselves at each boot
_CACHE_FILES = (
    "level",
    "type",
    "size",
    "ways_of_associativity",
    "number_of_sets",
    "shared_cpu_list",
)
# Keys that stay the same between boots of one Mac.
_MAC_KEYS = ("hw.perflevel", "hw.l", "hw.cachelinesize", "hw.memsize", "hw.ncpu", "machdep.cpu.")


def host_fingerprint(system: System | None = None) -> str:
    """Milliseconds, and neither TVM nor py-cpuinfo: it is asked on every start."""
    system = system or LocalSystem()
    readers = {"linux": _linux, "darwin": _macos, "windows": _windows}
    reader = readers.get(system.platform(), lambda _: ())
    affinity = sorted(system.affinity() or ())
    facts = (
        system.platform(),
        system.machine(),
        system.processor(),
        system.cpu_count(),
        affinity,
        *reader(system),
    )
    return hashlib.sha256(repr(facts).encode("utf-8", "replace")).hexdigest()[:_HEX_DIGITS]


def _linux(system: System) -> tuple[object, ...]:
    online = system.read_text(f"{CPU}/online")
    cpus = parse_cpu_list(online) or (0,)
    return (
        cpuinfo.identity(system.read_text("/proc/cpuinfo") or ""),
        online,
        quota_cpus(system),
        _memory(system),
        # The first and the last: hybrid chips number their kinds one after the other, and reading
        # hundreds of CPUs would take longer than a start may.
        *(_cache_files(system, cpu) for cpu in sorted({cpus[0], cpus[-1]})),
    )


def _cache_files(system: System, cpu: int) -> tuple[object, ...]:
    folder = f"{CPU}/cpu{cpu}/cache"
    return tuple(
        system.read_text(f"{folder}/{index}/{name}")
        for index in system.list_dir(folder)
        for name in _CACHE_FILES
        if index.startswith("index")
    )


def _memory(system: System) -> int:
    return (memory_bytes(system) or 0) // _MEMORY_STEP_BYTES


def _macos(system: System) -> tuple[object, ...]:
    keys = macos.parse(system.run(macos.SYSCTL_COMMAND) or "")
    return tuple(sorted((k, v) for k, v in keys.items() if k.startswith(_MAC_KEYS)))


def _windows(system: System) -> tuple[object, ...]:
    memory = system.native(windows.MEMORY_CALL) or b""
    return (system.native(windows.PROCESSOR_CALL), memory[8:16])
