"""Detection on macOS, replayed from sysctl's text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anatune.errors import ProfileError
from anatune.hwprofile.detect import CapturedSystem, detect_host, host_fingerprint
from anatune.hwprofile.detect.macos import SYSCTL_COMMAND, parse

M1 = Path(__file__).parent / "data" / "hosts" / "macos_m1"
KIB, MIB = 1 << 10, 1 << 20


@pytest.fixture
def m1():
    return CapturedSystem(M1)


def with_sysctl(system, monkeypatch, text):
    monkeypatch.setattr(system, "run", lambda command: text if command == SYSCTL_COMMAND else None)
    return detect_host(system.llvm, system)


def test_kinds_come_from_the_levels_and_ways_from_the_table(m1):
    profile = detect_host(m1.llvm, m1)
    fast, small = profile.cores
    assert [(c.name, c.count, c.threads_each) for c in profile.cores] == [
        ("firestorm", 4, 1),
        ("icestorm", 4, 1),
    ]
    assert [(c.size_bytes, c.ways, c.line_bytes, c.cores) for c in fast.caches] == [
        (128 * KIB, 8, 128, 1),
        (12 * MIB, 12, 128, 4),
    ]
    assert [(c.size_bytes, c.ways) for c in small.caches] == [(64 * KIB, 8), (4 * MIB, 16)]
    assert (fast.vector_bits, fast.vector_registers, fast.fma_per_cycle) == (128, 32, 4)
    assert fast.tlb is not None and fast.tlb.page_bytes == 16 * KIB
    assert profile.target.isa == "aarch64" and profile.brand == "Apple M1"
    assert profile.usable_threads == 8 and not profile.virtualized
    assert profile.memory.size_bytes == 16 << 30
    cited = {c.fact: c.source for c in profile.citations}
    assert cited["cores.firestorm.caches.1.line"] == "sysctl"
    assert cited["cores.firestorm.caches.1.ways"] == "uarch_firestorm"


def test_an_unknown_apple_core_has_assumed_ways(m1):
    m1.facts["llvm"]["mcpu"] = "apple-m99"
    profile = detect_host(m1.llvm, m1)
    assert [c.name for c in profile.cores] == ["performance", "efficiency"]
    assert profile.core.caches[0].size_bytes == 128 * KIB
    assert "cores.performance.caches.1.ways" in profile.assumed
    assert "cores.performance.caches.1.line" not in profile.assumed


def test_intel_mac_has_one_kind_from_the_plain_keys(m1, monkeypatch):
    m1.facts |= {"machine": "x86_64", "cpu_count": 12}
    m1.facts["llvm"] = {"mcpu": "skylake", "triple": "", "features": ["sse2", "avx", "avx2"]}
    text = """hw.physicalcpu: 6
hw.logicalcpu: 12
hw.cachelinesize: 64
hw.l1dcachesize: 32768
hw.l2cachesize: 262144
hw.l3cachesize: 12582912
hw.cpufrequency_max: 2600000000
hw.memsize: 17179869184
machdep.cpu.vendor: GenuineIntel
machdep.cpu.family: 6
machdep.cpu.model: 158
machdep.cpu.features: SSE SSE2 AVX1.0 FMA
machdep.cpu.leaf7_features: AVX2 BMI1
machdep.cpu.brand_string: Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz
kern.hv_vmm_present: 1
"""
    profile = with_sysctl(m1, monkeypatch, text)
    core = profile.core
    assert (core.name, core.count, core.threads_each) == ("skylake", 6, 2)
    assert [(c.ways, c.cores) for c in core.caches][:2] == [(8, 1), (4, 1)]
    assert core.caches[2].cores == 6 and "cores.skylake.caches.3.ways" in profile.assumed
    assert core.vector_bits == 256 and core.clock_one_hz == 2.6e9
    assert profile.virtualized and profile.usable_threads == 12


def test_silent_sysctl_gives_assumed_caches(m1, monkeypatch):
    m1.facts["llvm"]["mcpu"] = "generic"
    profile = with_sysctl(m1, monkeypatch, None)
    assert profile.usable_threads == 1
    assert "cores.generic.caches.1.ways" in profile.assumed


def test_fingerprint_ignores_what_changes_between_calls(m1, monkeypatch):
    base = host_fingerprint(m1)
    text = m1.run(SYSCTL_COMMAND)
    monkeypatch.setattr(m1, "run", lambda command: text + "hw.activecpu: 3\n")
    assert host_fingerprint(m1) == base
    monkeypatch.setattr(m1, "run", lambda command: text.replace("17179869184", "8589934592"))
    assert host_fingerprint(m1) != base


KEYS = sorted(parse((M1 / "sysctl.txt").read_text()))


@settings(max_examples=100, deadline=None)
@given(
    changes=st.dictionaries(
        st.sampled_from(KEYS),
        st.one_of(st.integers(-(2**70), 2**70).map(str), st.text(max_size=8)),
    )
)
def test_any_values_give_a_profile_or_a_profile_error(changes):
    system = CapturedSystem(M1)
    text = "\n".join(
        f"{k}: {v}" for k, v in {**parse(system.run(SYSCTL_COMMAND)), **changes}.items()
    )
    system.run = lambda command: text
    try:
        profile = detect_host(system.llvm, system)
    except ProfileError:
        return
    assert profile.usable_threads >= 1 and profile.core.caches
