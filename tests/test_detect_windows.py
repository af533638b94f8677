"""Detection on Windows, replayed from the bytes of the system calls."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anatune.errors import ProfileError
from anatune.hwprofile.detect import CapturedSystem, detect_host, host_fingerprint
from anatune.hwprofile.detect.windows import MEMORY_CALL, PROCESSOR_CALL, parse

FOLDER = Path(__file__).parent / "data" / "hosts" / "windows_hybrid"
KIB, MIB = 1 << 10, 1 << 20
RECORDS = CapturedSystem(FOLDER).native(PROCESSOR_CALL)


def replay(data: bytes | None) -> CapturedSystem:
    system = CapturedSystem(FOLDER)
    memory = system.native(MEMORY_CALL)
    system.native = lambda call: data if call == PROCESSOR_CALL else memory
    return system


def test_hybrid_chip():
    system = replay(RECORDS)
    profile = detect_host(system.llvm, system)
    fast, small = profile.cores
    assert [(c.name, c.count, c.threads_each) for c in profile.cores] == [
        ("golden_cove", 6, 2),
        ("gracemont", 4, 1),
    ]
    assert (fast.cpus, small.cpus) == (tuple(range(12)), (12, 13, 14, 15))
    assert [(c.size_bytes, c.ways, c.sets, c.cores) for c in fast.caches] == [
        (48 * KIB, 12, 64, 1),
        (1280 * KIB, 10, 2048, 1),
        (20 * MIB, 10, 32768, 10),
    ]
    assert [(c.size_bytes, c.cores) for c in small.caches][:2] == [(32 * KIB, 1), (2 * MIB, 4)]
    assert profile.usable_threads == 16 and profile.memory.size_bytes == 32 << 30
    assert profile.brand == "12th Gen Intel(R) Core(TM) i5-12600K"
    assert profile.target.isa == "x86_64" and fast.vector_bits == 256 and not profile.assumed


def test_the_package_s_cache_numbers_are_never_used():
    system = replay(RECORDS)
    wrong = system.facts["py_cpuinfo"]
    sizes = {c.size_bytes for core in detect_host(system.llvm, system).cores for c in core.caches}
    assert not sizes & {wrong["l2_cache_size"], wrong["l3_cache_size"]}


def test_flags_of_the_package_do_not_overrule_llvm():
    """From the registry it lists no AVX at all."""
    system = replay(RECORDS)
    system.facts["py_cpuinfo"]["flags"] = ["mmx", "sse", "sse2"]
    profile = detect_host(system.llvm, system)
    assert profile.core.vector_bits == 256 and "avx2" in profile.target.features
    system.facts["llvm"]["features"] = []
    assert detect_host(system.llvm, system).core.vector_bits == 128


def test_affinity_limits_threads_and_kinds():
    system = replay(RECORDS)
    system.facts["affinity"] = [12, 13]
    profile = detect_host(system.llvm, system)
    assert [c.name for c in profile.cores] == ["gracemont"]
    assert profile.usable_threads == 2 and profile.core.cpus == (12, 13)


def test_second_processor_group_and_full_associativity():
    mask = struct.pack("<QH6x", 0b11, 1)
    core = struct.pack("<II", 0, 48) + struct.pack("<BB20xH", 1, 0, 1) + mask
    cache = struct.pack("<II", 2, 56) + struct.pack("<BBHII18xH", 1, 255, 64, 4096, 2, 1) + mask
    cores, caches = parse(core + cache)
    assert cores[0].cpus == {64, 65}
    assert (caches[0].ways, caches[0].cpus) == (64, {64, 65})


def test_without_an_answer_the_processor_count_remains():
    system = replay(None)
    profile = detect_host(system.llvm, system)
    assert profile.core.count == 16 and profile.usable_threads == 16
    assert "cores.golden_cove.count" not in profile.assumed


def test_fingerprint_follows_the_records(monkeypatch):
    base = host_fingerprint(replay(RECORDS))
    assert host_fingerprint(replay(RECORDS)) == base
    assert host_fingerprint(replay(RECORDS[:-48])) != base


@settings(max_examples=150, deadline=None)
@given(
    edits=st.dictionaries(st.integers(0, len(RECORDS) - 1), st.integers(0, 255), max_size=30),
    length=st.integers(0, len(RECORDS)),
)
def test_any_bytes_give_a_profile_or_a_profile_error(edits, length):
    data = bytearray(RECORDS)
    for offset, value in edits.items():
        data[offset] = value
    system = replay(bytes(data[:length]))
    try:
        profile = detect_host(system.llvm, system)
    except ProfileError:
        return
    assert profile.usable_threads >= 1 and profile.core.caches


@pytest.mark.parametrize("size", [0, 1, 7, 2**32 - 1])
def test_a_record_that_lies_about_its_size_ends_the_list(size):
    good, _ = parse(RECORDS)
    assert len(good) == 10
    assert parse(struct.pack("<II", 0, size) + RECORDS) == ([], [])
