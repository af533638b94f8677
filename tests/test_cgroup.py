"""CPU quotas of control groups, versions 1 and 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from anatune.hwprofile.detect import CapturedSystem, detect_host
from anatune.hwprofile.detect.cgroup import quota_cpus

HOSTS = Path(__file__).parent / "data" / "hosts"
V2 = "31 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
V1 = "31 24 0:26 / /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"


class Files:
    """A `System` that only reads text."""

    def __init__(self, **files: str):
        self.files = files

    def read_text(self, path: str) -> str | None:
        return self.files.get(path)


def quota(cgroup: str, mounts: str, files: dict[str, str]) -> float | None:
    return quota_cpus(
        Files(**{"/proc/self/cgroup": cgroup, "/proc/self/mountinfo": mounts, **files})
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("150000 100000\n", 1.5),
        ("150000", 1.5),
        ("50000 100000", 0.5),
        ("max 100000", None),
        ("", None),
        ("0 100000", None),
        ("100000 0", None),
        ("-1 100000", None),
        ("junk junk", None),
        ("9" * 40 + " 1", None),
    ],
)
def test_version_2_text(text, expected):
    assert quota("0::/\n", V2, {"/sys/fs/cgroup/cpu.max": text}) == expected


def test_the_tightest_group_on_the_way_to_the_root_counts():
    files = {
        "/sys/fs/cgroup/a/b/cpu.max": "max 100000",
        "/sys/fs/cgroup/a/cpu.max": "300000 100000",
        "/sys/fs/cgroup/cpu.max": "200000 100000",
        "/sys/fs/cgroup/other/cpu.max": "100000 100000",
    }
    assert quota("0::/a/b\n", V2, files) == 2.0


def test_version_1_by_controller_among_others():
    files = {"/cg/cpu/a/cpu.cfs_quota_us": "250000", "/cg/cpu/a/cpu.cfs_period_us": "100000"}
    assert quota("4:memory:/m\n3:cpuacct,cpu:/a\n0::/\n", V1, files) == 2.5
    assert quota("4:memory:/m\n3:cpuacct:/a\n0::/\n", V1, files) is None


def test_version_1_mount_that_shows_our_group_as_its_top():
    mounts = "31 24 0:26 /docker/abc /cg/cpu ro - cgroup cgroup rw,cpu\n"
    files = {"/cg/cpu/cpu.cfs_quota_us": "50000", "/cg/cpu/cpu.cfs_period_us": "100000"}
    assert quota("3:cpu:/docker/abc\n", mounts, files) == 0.5


def test_group_below_the_top_that_the_mount_shows():
    mounts = "31 24 0:26 /docker/abc /cg/cpu ro - cgroup cgroup rw,cpu\n"
    files = {"/cg/cpu/sub/cpu.cfs_quota_us": "50000", "/cg/cpu/sub/cpu.cfs_period_us": "100000"}
    assert quota("3:cpu:/docker/abc/sub\n", mounts, files) == 0.5


def test_group_outside_the_namespace_reads_the_mount():
    assert quota("0::/../../x\n", V2, {"/sys/fs/cgroup/cpu.max": "100000 100000"}) == 1.0


def test_hidden_mount_table_still_finds_the_usual_place():
    assert quota("0::/\n", "", {"/sys/fs/cgroup/cpu.max": "100000 100000"}) == 1.0


def test_both_versions_at_once():
    files = {
        "/cg/cpu/cpu.cfs_quota_us": "400000",
        "/cg/cpu/cpu.cfs_period_us": "100000",
        "/sys/fs/cgroup/cpu.max": "300000 100000",
    }
    assert quota("1:cpu:/\n0::/\n", V1 + V2, files) == 3.0


def test_nothing_to_read_is_no_limit():
    assert quota_cpus(Files()) is None


@pytest.mark.parametrize(
    ("name", "threads", "cpus"),
    [
        ("container_quota_1_5", 1, tuple(range(8))),
        ("container_affinity_one", 1, (2,)),
        ("linux_zen5_vm", 2, (0, 1)),
    ],
)
def test_usable_threads(name, threads, cpus):
    system = CapturedSystem(HOSTS / name)
    profile = detect_host(system.llvm, system)
    assert (profile.usable_threads, profile.core.cpus) == (threads, cpus)


def test_a_quota_below_one_leaves_one_thread_and_a_large_one_the_affinity():
    system = CapturedSystem(HOSTS / "container_quota_1_5")
    path = "/sys/fs/cgroup/kubepods.slice/pod7.slice/cpu.max"
    for text, threads in (("20000 100000", 1), ("399000 100000", 3), ("99900000 1000", 6)):
        system.files[path] = text
        assert detect_host(system.llvm, system).usable_threads == threads
