"""The table by micro-architecture: rows that add up and are found by one name only."""

from __future__ import annotations

from collections import Counter

import pytest

from anatune.hwprofile import load_profile, profiles
from anatune.hwprofile.detect.cache_chain import is_complete, settle
from anatune.hwprofile.detect.facts import Part, Reading
from anatune.hwprofile.detect.uarch_find import EFFICIENCY_CORES, ROWS, find

WIDTHS = {128, 256, 512}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_adds_up_and_names_its_source(row):
    assert row.where and row.mcpu and row.source.kind == "document"
    assert is_complete(row.caches)
    settled = settle([Reading(source=row.source, caches=row.caches)])
    assert [(s.level.size_bytes, s.level.ways) for s in settled] == [
        (c.size_bytes, c.ways) for c in row.caches
    ]
    for rates in (row.fma, row.loads, row.stores):
        assert set(rates) <= WIDTHS and all(0.5 <= rate <= 4 for rate in rates.values())
        # A wider vector never moves at a higher rate.
        assert [rates[b] for b in sorted(rates)] == sorted(rates.values(), reverse=True)


def test_rows_are_found_by_one_name_only():
    assert max(Counter(row.name for row in ROWS).values()) == 1
    assert max(Counter(part for row in ROWS for part in row.parts).values()) == 1
    twice = [name for name, n in Counter(m for row in ROWS for m in row.mcpu).items() if n > 1]
    assert twice == ["znver5"]  # two widths of the data path under one name


def test_find_prefers_the_part_and_falls_back_to_the_name():
    granite_ridge = Part(vendor="AuthenticAMD", family=0x1A, model=0x44)
    assert find(granite_ridge, "x86-64", None).name == "zen5"
    assert find(Part(vendor="AuthenticAMD", family=0x1A, model=0x24), "znver5", None).fma == {
        256: 2,
        128: 2,
    }
    assert find(Part(), "haswell", None).name == "haswell"
    assert find(Part(), "no-such-cpu", None) is None


def test_small_cores_are_never_described_by_the_row_of_the_large():
    for chip, small in EFFICIENCY_CORES.items():
        assert find(Part(), chip, "efficiency") is small
        assert find(Part(), chip, "performance") is not small
    assert find(Part(vendor="GenuineIntel", family=6, model=0x9A), "x86-64", "efficiency").name == (
        "gracemont"
    )
    assert find(Part(implementer=0x41, arm_part=0xFFF), "cortex-a76", "efficiency") is None


def shipped():
    for name in profiles():
        profile = load_profile(name)
        for index, core in enumerate(profile.cores):
            row = find(Part(), profile.target.mcpu, "efficiency" if index else None)
            if row is not None:
                yield pytest.param(core, row, id=f"{name}-{core.name}")


@pytest.mark.parametrize(("core", "row"), list(shipped()))
def test_table_and_shipped_profiles_never_disagree(core, row):
    """The two were written down apart; each may leave out what the other has."""
    bits = core.vector_bits
    tlb = core.tlb
    compared = 0
    for stated, table in (
        (core.fma_per_cycle, row.fma.get(bits)),
        (core.fma_latency_cycles, row.fma_latency_cycles),
        (core.loads_per_cycle, row.loads.get(bits)),
        (core.stores_per_cycle, row.stores.get(bits)),
        (tlb and tlb.entries, row.tlb_entries),
        (tlb and tlb.second_entries, row.tlb_second_entries),
        (tlb and tlb.page_bytes, row.tlb_entries and row.page_bytes),
        *((a.ways, b.ways) for a, b in zip(core.caches, row.caches)),
        *((a.line_bytes, b.line_bytes) for a, b in zip(core.caches, row.caches)),
    ):
        if stated is not None and table is not None:
            assert stated == table
            compared += 1
    assert compared >= 4
