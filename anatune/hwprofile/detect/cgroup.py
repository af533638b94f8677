"""CPU quota of this process's control groups, versions 1 and 2, walked up to the root."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from anatune.hwprofile.detect.facts import parse_int
from anatune.hwprofile.detect.system import System

# Where distributions mount them; asked as well, because a container may hide its mount table.
_USUAL_MOUNTS = (
    ("/sys/fs/cgroup", 2),
    ("/sys/fs/cgroup/unified", 2),
    ("/sys/fs/cgroup/cpu", 1),
    ("/sys/fs/cgroup/cpu,cpuacct", 1),
)


@dataclass(frozen=True)
class _Mount:
    point: str
    root: str  # the group that the mount shows as its top
    version: int


def quota_cpus(system: System) -> float | None:
    """CPUs' worth of time that the tightest group up to the root allows; None is unlimited."""
    paths = _own_paths(system.read_text("/proc/self/cgroup") or "")
    quotas = [
        quota
        for mount in _mounts(system.read_text("/proc/self/mountinfo") or "")
        for folder in _walk_up(mount, paths.get(mount.version, "/"))
        if (quota := _quota(system, folder, mount.version)) is not None
    ]
    return min(quotas, default=None)


def _own_paths(text: str) -> dict[int, str]:
    """Our group by version, from lines id:controllers:path; version 2 is id 0, no controllers."""
    paths: dict[int, str] = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            paths[2] = path
        elif "cpu" in controllers.split(","):
            paths[1] = path
    return paths


def _mounts(text: str) -> list[_Mount]:
    mounts = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(" "), right.split(" ")
        if len(fields) < 5 or len(kind) < 3:
            continue
        if kind[0] == "cgroup2":
            mounts.append(_Mount(fields[4], fields[3], 2))
        elif kind[0] == "cgroup" and "cpu" in kind[2].split(","):
            mounts.append(_Mount(fields[4], fields[3], 1))
    seen = {mount.point for mount in mounts}
    return mounts + [_Mount(p, "/", v) for p, v in _USUAL_MOUNTS if p not in seen]


def _walk_up(mount: _Mount, path: str) -> list[str]:
    """Folders from our group up to the mount; only the mount, if our group lies outside it."""
    own, root = PurePosixPath("/" + path.strip("/")), PurePosixPath("/" + mount.root.strip("/"))
    inner = own.relative_to(root) if own.is_relative_to(root) else own.relative_to("/")
    if ".." in inner.parts:
        inner = PurePosixPath()
    folder = PurePosixPath(mount.point)
    return [str(folder / part) for part in (inner, *inner.parents)]


def _quota(system: System, folder: str, version: int) -> float | None:
    if version == 2:
        words = (system.read_text(f"{folder}/cpu.max") or "").split()
        quota = parse_int(words[0]) if words else None
        period = parse_int(words[1]) if len(words) > 1 else 100_000  # the kernel's default
    else:
        quota = parse_int(system.read_text(f"{folder}/cpu.cfs_quota_us"))
        period = parse_int(system.read_text(f"{folder}/cpu.cfs_period_us"))
    if not quota or not period or quota < 0 or period < 0:
        return None  # "max", -1, 0, an empty file or none at all: no limit
    return quota / period
