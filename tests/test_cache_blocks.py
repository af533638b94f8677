"""Cache blocks: clamping, evening out, sharing, missing levels, the texts of refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest

from anatune.errors import IllegalPlan
from anatune.hwprofile.profile import CacheLevel, CoreKind, Profile, Target, Tlb
from anatune.model import cache_blocks as cb
from anatune.plan import CacheBlocks, MicroTile

L1 = CacheLevel(level=1, sets=64, ways=12, line_bytes=64, cores=1)
L2 = CacheLevel(level=2, sets=1024, ways=16, line_bytes=64, cores=1)
L3 = CacheLevel(level=3, sets=32768, ways=16, line_bytes=64, cores=8)
TILE = MicroTile(mr=14, nr=32, lanes=16)


def machine(*caches: CacheLevel, count: int = 8, **facts) -> Profile:
    core = CoreKind(
        name="big", count=count, threads_each=2, clock_one_hz=None, clock_all_hz=None,
        vector_bits=512, vector_registers=32, fma_per_cycle=2, fma_latency_cycles=4,
        loads_per_cycle=2, stores_per_cycle=1, caches=caches, tlb=facts.pop("tlb", None),
    )  # fmt: skip
    return Profile(
        name="m", title="m", target=Target(isa="x86_64", mcpu="znver5"), cores=(core,), **facts
    )


ZEN5 = machine(L1, L2, L3)


def test_small_problem_is_one_block() -> None:
    assert cb.clamped_blocks(ZEN5, TILE, 49, 40, 64, 4) == CacheBlocks(mc=49, nc=40, kc=64)


def test_smaller_k_gives_larger_mc() -> None:
    deep = cb.clamped_blocks(ZEN5, TILE, 10**6, 64, 1000, 4)
    flat = cb.clamped_blocks(ZEN5, TILE, 10**6, 64, 50, 4)
    assert deep.kc == 200 and flat.kc == 50
    assert flat.mc > 3 * deep.mc


def test_blocks_are_even() -> None:
    assert cb.even_out(1000, 512) == 500
    assert cb.even_out(1000, 999, 14) == 504
    assert cb.clamped_blocks(ZEN5, TILE, 64, 64, 1000, 4, kc=512).kc == 500


def test_kc_keeps_to_the_unit_of_a_dot_product() -> None:
    assert cb.clamped_blocks(ZEN5, TILE, 64, 64, 1001, 1, kc=512, k_unit=4).kc == 504


def test_rounding() -> None:
    assert (cb.round_down(64, 6), cb.round_up(64, 6), cb.round_up(60, 6)) == (60, 66, 60)


def test_threads_get_equally_many_blocks() -> None:
    # Rounding 64 down to 60 would make 18 blocks, three turns of 60 rows for the slowest thread.
    assert cb.balanced_mc(1024, 64, 6, 8) == 48
    assert cb.balanced_mc(32, 32, 8, 4) == 8
    assert cb.balanced_mc(32, 32, 8, 1) == 32
    assert cb.clamped_blocks(ZEN5, TILE, 112, 64, 64, 4, threads=4).mc == 28


def test_threads_share_what_their_cores_share() -> None:
    core = machine(L1, L2, L3, count=8).core
    assert cb.sharers(L1, core, 8) == 1
    assert cb.sharers(L1, core, 16) == 2  # two hardware threads on each core
    assert cb.sharers(L3, core, 4) == 4
    assert cb.sharers(L3, machine(L3, count=16).core, 16) == 8
    assert cb.own_share(replace(L2, cores=4), core, 4).size_bytes == L2.size_bytes // 4


def test_second_hardware_thread_halves_kc() -> None:
    alone = cb.clamped_blocks(ZEN5, TILE, 10**5, 32, 10**5, 4, threads=8)
    paired = cb.clamped_blocks(ZEN5, TILE, 10**5, 32, 10**5, 4, threads=16)
    assert paired.kc == pytest.approx(alone.kc / 2, rel=0.01)


def test_guest_counts_on_half_of_l3() -> None:
    full = cb.levels(ZEN5, 1)[2]
    guest = cb.levels(replace(ZEN5, virtualized=True), 1)[2]
    assert guest.size_bytes * 2 == full.size_bytes
    assert cb.levels(replace(ZEN5, virtualized=True), 1)[:2] == cb.levels(ZEN5, 1)[:2]


def test_a_blocks_of_many_threads_leave_half_of_a_small_l3_to_b() -> None:
    small = replace(L3, sets=4096)  # 4 MiB for eight blocks of 0.9 MiB
    blocks = cb.clamped_blocks(machine(L1, L2, small), TILE, 10**5, 10**5, 10**5, 4, threads=8)
    assert cb.ways_taken(8 * blocks.mc * blocks.kc * 4, small) == 7
    assert cb.ways_taken(blocks.nc * blocks.kc * 4, small) == 8


def test_without_l3_n_is_bounded_by_the_problem_or_the_tlb() -> None:
    assert cb.clamped_blocks(machine(L1, L2), TILE, 100, 10**5 + 1, 500, 4).nc == 10**5 + 1
    tlb = Tlb(entries=96, second_entries=4096)
    blocks = cb.clamped_blocks(machine(L1, L2, tlb=tlb), TILE, 100, 10**5, 500, 4)
    assert 0.9 < blocks.nc * blocks.kc * 4 / (4096 * 4096 / 2) <= 1
    tiny = machine(L1, L2, tlb=Tlb(entries=1))
    assert cb.clamped_blocks(tiny, TILE, 100, 10**5, 500, 4).nc == TILE.nr


def test_without_l2_m_is_bounded_by_the_problem_or_the_tlb() -> None:
    assert cb.clamped_blocks(machine(L1), TILE, 1000, 64, 500, 4).mc == 1000
    tlb = Tlb(entries=48)
    blocks = cb.clamped_blocks(machine(L1, tlb=tlb), TILE, 1000, 64, 500, 4)
    assert 0.8 < blocks.mc * blocks.kc * 4 / (48 * 4096 / 2) <= 1


def test_level_of_two_ways_counts_as_missing() -> None:
    assert cb.levels(machine(L1, replace(L2, ways=2), L3), 1)[1] is None


def test_two_ways_of_l1_take_the_special_case() -> None:
    two = replace(L1, ways=2)
    assert cb.kc_ratio(two, TILE, 4) == 64 * 64 // (2 * 14 * 4)
    assert cb.default_kc(two, TILE, 4) == cb.kc_ratio(two, TILE, 4)


def test_default_kc_is_the_integer_program() -> None:
    tile = MicroTile(mr=6, nr=32, lanes=16)
    assert cb.default_kc(L1, tile, 4) == 288 != cb.kc_ratio(L1, tile, 4)


REFUSALS = {
    "L1 of 1 ways cannot keep B_r while A_r and C stream: 2 needed; give kc": lambda: (
        cb.kc_ratio(replace(L1, ways=1), TILE, 4)
    ),
    "L1 of 2 ways cannot keep B_r while A_r and C stream: 3 needed; give kc": lambda: (
        cb.kc_integer_program(replace(L1, ways=2), TILE, 4)
    ),
    "14x32 tile: one step along k overfills its share of L1; take a smaller tile": lambda: (
        cb.kc_integer_program(replace(L1, sets=1, line_bytes=32, ways=4), TILE, 4)
    ),
    "kc = 16384: B_r takes 32 of 16 ways of L2, none is left for A_c; lower kc": lambda: (
        cb.clamped_blocks(ZEN5, TILE, 64, 64, 16384, 4, kc=10**6)
    ),
    "mc = 900, kc = 10000: A_c of 2 threads takes 35 of 16 ways of L3, none is left for B_c;"
    " lower mc": lambda: cb.nc_occupied(L3, 900, 10000, 4, threads=2),
    "caches of big: no L1, so no rule gives kc; give kc": lambda: (
        cb.clamped_blocks(machine(L2), TILE, 64, 64, 64, 4)
    ),
    "mc can be 13 at most, less than its unit 14: take another kc or tile": lambda: (
        cb.balanced_mc(100, 13, 14, 1)
    ),
    "n = 0: must be 1 or more": lambda: cb.clamped_blocks(ZEN5, TILE, 64, 0, 64, 4),
    "kc can be 0 at most, less than its unit 1: take another kc or tile": lambda: (
        cb.clamped_blocks(ZEN5, TILE, 64, 64, 64, 4, kc=0)
    ),
}


@pytest.mark.parametrize("message", REFUSALS)
def test_refusals_name_their_numbers(message: str) -> None:
    with pytest.raises(IllegalPlan) as refusal:
        REFUSALS[message]()
    assert str(refusal.value) == message
