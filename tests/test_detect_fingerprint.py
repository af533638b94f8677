"""The fingerprint changes with what makes a kept profile stale, and with nothing else."""

from __future__ import annotations

import re

import pytest
from captured_hosts import NAMES, host, rewrite

from anatune.hwprofile.detect import host_fingerprint


def test_fingerprint_follows_what_matters_and_nothing_else():
    base = host_fingerprint(host("linux_zen5_vm"))
    assert re.fullmatch("[0-9a-f]{16}", base)
    quiet = host("linux_zen5_vm")
    text = quiet.files["/proc/cpuinfo"]
    quiet.files["/proc/cpuinfo"] = re.sub("cpu MHz\t\t: .*", "cpu MHz\t\t: 1234.5", text)
    rewrite(quiet, "/proc/meminfo", "MemTotal: 24684000 kB")
    assert quiet.files["/proc/cpuinfo"] != text and host_fingerprint(quiet) == base
    for pattern, value in (
        ("/proc/meminfo", "MemTotal: 1 kB"),
        ("cpu1/cache/index3/size", "16384K"),
        ("cpu.cfs_quota_us", "50000"),
        ("cpu/online", "0"),
        ("/proc/cpuinfo", text.replace("stepping\t: 1", "stepping\t: 2")),
        ("/proc/cpuinfo", text.replace(" avx512f ", " ")),
    ):
        assert host_fingerprint(rewrite(host("linux_zen5_vm"), pattern, value)) != base, pattern
    bound = host("linux_zen5_vm")
    bound.facts["affinity"] = [1]
    assert host_fingerprint(bound) != base
    assert len({host_fingerprint(host(name)) for name in NAMES}) == len(NAMES)


def test_fingerprint_starts_nothing(monkeypatch):
    system = host("linux_zen5_vm")
    for call in ("run", "py_cpuinfo"):
        monkeypatch.setattr(system, call, lambda *_: pytest.fail("started something"))
    host_fingerprint(system)
