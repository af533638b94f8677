"""Laws of the register and cache steps, over machines that nobody has built."""

from __future__ import annotations

from dataclasses import replace
from math import ceil, prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anatune.errors import IllegalPlan
from anatune.hwprofile.profile import CacheLevel, CoreKind, Profile, Target, Tlb
from anatune.model import cache_blocks as cb
from anatune.model import registers
from anatune.plan import MicroTile, Order

ELEMENT_BYTES = st.sampled_from([1, 2, 4, 8])
EXTENTS = st.integers(1, 20_000)
THREADS = st.integers(1, 8)


@st.composite
def tiles(draw) -> MicroTile:
    lanes = draw(st.sampled_from([2, 4, 8, 16]))
    return MicroTile(mr=draw(st.integers(1, 31)), nr=lanes * draw(st.integers(1, 6)), lanes=lanes)


@st.composite
def first_levels(draw) -> CacheLevel:
    """L1 of at least three ways, each large enough for one step of any tile above."""
    return CacheLevel(
        level=1,
        ways=draw(st.integers(3, 16)),
        sets=draw(st.sampled_from([32, 48, 64, 128, 256])),
        line_bytes=draw(st.sampled_from([64, 128])),
        cores=1,
    )


@st.composite
def machines(draw) -> Profile:
    """Up to three levels, each so much larger than the one below that every plan exists."""
    caches = [draw(first_levels())]
    for number, growth, sharing in ((2, 4, 1), (3, 256, 8)):
        if draw(st.booleans()):
            ways = draw(st.integers(4, 20))
            size = caches[0].size_bytes * growth * draw(st.integers(1, 6))
            caches.append(
                CacheLevel(
                    level=number, ways=ways, sets=-(-size // (64 * ways)), line_bytes=64,
                    cores=sharing,
                )  # fmt: skip
            )
    core = CoreKind(
        name="any", count=8, threads_each=1, clock_one_hz=None, clock_all_hz=None,
        vector_bits=512, vector_registers=32, fma_per_cycle=2, fma_latency_cycles=4,
        loads_per_cycle=2, stores_per_cycle=1, caches=tuple(caches),
        tlb=draw(st.none() | st.builds(Tlb, entries=st.integers(16, 4096))),
    )  # fmt: skip
    return Profile(
        name="any", title="any", target=Target(isa="x86_64", mcpu="any"), cores=(core,),
        virtualized=draw(st.booleans()),
    )  # fmt: skip


@st.composite
def problems(draw) -> dict:
    names = ("m", "n", "k")
    return {name: draw(EXTENTS) for name in names} | {
        "machine": draw(machines()),
        "tile": draw(tiles()),
        "element_bytes": draw(ELEMENT_BYTES),
        "threads": draw(THREADS),
    }


@given(st.integers(1, 64), st.integers(1, 12), st.sampled_from([0.5, 1, 2, 4]))
def test_near_square_tile_is_the_least_that_covers_the_latency(lanes, latency, per_cycle) -> None:
    floor = registers.floor_accumulators(lanes, latency, per_cycle)
    along, other = registers.near_square_tile(lanes, latency, per_cycle)
    assert along % lanes == 0
    assert along**2 >= floor > (along - lanes) ** 2
    assert along * other >= floor > along * (other - 1)


@given(st.integers(3, 32), st.sampled_from([64, 128, 256, 512]), ELEMENT_BYTES)
def test_legal_tiles_are_all_that_pass_the_check(count, vector_bits, element_bytes) -> None:
    core = CoreKind(
        name="any", count=1, threads_each=1, clock_one_hz=None, clock_all_hz=None,
        vector_bits=vector_bits, vector_registers=count, fma_per_cycle=2, fma_latency_cycles=4,
        loads_per_cycle=2, stores_per_cycle=1, caches=(),
    )  # fmt: skip
    lanes = core.lanes(element_bytes)
    legal = set(registers.legal_tiles(core, element_bytes))
    assert len(legal) == len(registers.legal_tiles(core, element_bytes))
    for vectors in range(1, count):
        for mr in range(1, count):
            tile = MicroTile(mr=mr, nr=vectors * lanes, lanes=lanes)
            fits = mr * vectors + vectors + 1 <= count
            assert fits == (tile in legal)
            if not fits:
                with pytest.raises(IllegalPlan):
                    registers.check_tile(tile, core, element_bytes)
    for tile in legal:
        registers.check_tile(tile, core, element_bytes)


STREAMS = [order for order in Order if order.in_registers != "C"]


@given(
    st.integers(3, 32),
    st.sampled_from([64, 128, 256, 512]),
    ELEMENT_BYTES,
    st.sampled_from(STREAMS),
)
def test_tiles_that_keep_a_or_b_fit_the_registers(count, vector_bits, element_bytes, order) -> None:
    """Several steps each, as one would load and store C for a single multiply-add."""
    core = CoreKind(
        name="any", count=1, threads_each=1, clock_one_hz=None, clock_all_hz=None,
        vector_bits=vector_bits, vector_registers=count, fma_per_cycle=2, fma_latency_cycles=4,
        loads_per_cycle=2, stores_per_cycle=1, caches=(),
    )  # fmt: skip
    tiles = registers.streaming_tiles(core, element_bytes, order)
    assert len(set(tiles)) == len(tiles) and (tiles or count < 6)
    for tile in tiles:
        registers.check_tile(tile, core, element_bytes, order)
        assert registers.registers_of(tile, order)[0] <= count
        assert 2 <= tile.kr <= registers.STREAM_STEPS and tile.lanes == core.lanes(element_bytes)


@given(tiles(), st.sampled_from(list(Order)), st.integers(1, 16))
def test_larger_tiles_need_more_registers(tile, order, steps) -> None:
    tile = replace(tile, kr=1 if order.in_registers == "C" else steps)
    needed, said = registers.registers_of(tile, order)
    assert needed > tile.accumulators
    parts = [part.split(" ")[0] for part in said.split(" + ")]
    assert sum(prod(map(int, part.split("*"))) for part in parts) == needed
    taller, wider = replace(tile, mr=tile.mr + 1), replace(tile, nr=tile.nr + tile.lanes)
    for larger in (taller, wider):
        assert registers.registers_of(larger, order)[0] > needed


@given(st.integers(1, 32), st.integers(1, 8), st.integers(1, 4), st.integers(1, 4))
def test_ports_bind_where_loads_take_longer(mr, vectors, fmas, loads) -> None:
    bound = registers.port_bound(mr, vectors, fmas, loads)
    assert 0 < bound <= 1
    assert (bound == 1) == (mr * vectors * loads >= (mr + vectors) * fmas)


def l1_ways(l1: CacheLevel, tile: MicroTile, kc: int, element_bytes: int) -> int:
    a_r, b_r = tile.mr * kc * element_bytes, tile.nr * kc * element_bytes
    return cb.ways_taken(a_r, l1) + cb.ways_taken(b_r, l1) + 1


@given(first_levels(), tiles(), ELEMENT_BYTES)
def test_ways_of_l1_add_up(l1, tile, element_bytes) -> None:
    ratio = cb.kc_ratio(l1, tile, element_bytes)
    best = cb.kc_integer_program(l1, tile, element_bytes)
    assert l1_ways(l1, tile, ratio, element_bytes) <= l1.ways
    assert l1_ways(l1, tile, best, element_bytes) <= l1.ways
    assert l1_ways(l1, tile, best + 1, element_bytes) > l1.ways
    assert best >= ratio


@given(first_levels(), tiles(), ELEMENT_BYTES, st.integers(0, 8), st.integers(0, 64))
def test_kc_never_falls_when_l1_grows(l1, tile, element_bytes, more_ways, more_sets) -> None:
    larger = replace(l1, ways=l1.ways + more_ways, sets=l1.sets + more_sets)
    for rule in (cb.kc_ratio, cb.kc_integer_program, cb.kc_half_l1):
        assert rule(larger, tile, element_bytes) >= rule(l1, tile, element_bytes)


@given(EXTENTS, st.integers(1, 20_000), st.integers(1, 64))
def test_evening_out_adds_neither_size_nor_blocks(extent, limit, unit) -> None:
    limit = max(limit, unit)
    whole = limit - limit % unit
    block = cb.even_out(extent, limit, unit)
    trips = -(-extent // whole)
    assert block <= limit
    assert block % unit == 0 or block == extent
    assert -(-extent // block) <= trips
    assert trips * block < extent + trips * unit


@given(EXTENTS, st.integers(1, 2000), st.integers(1, 31), THREADS)
def test_balance_never_slows_the_slowest_thread(m, limit, mr, threads) -> None:
    mc = max(limit, mr)
    balanced, blind = cb.balanced_mc(m, mc, mr, threads), cb.round_down(mc, mr)
    assert balanced <= mc

    def rows_of_slowest(block: int) -> int:
        return ceil(ceil(m / block) / threads) * block

    assert rows_of_slowest(balanced) <= rows_of_slowest(blind)


@given(problems())
def test_blocks_keep_to_the_extents_and_the_tile(problem) -> None:
    blocks, tile = cb.clamped_blocks(**problem), problem["tile"]
    assert 1 <= blocks.kc <= problem["k"]
    assert blocks.mc % tile.mr == 0 or blocks.mc == problem["m"]
    assert blocks.nc % tile.nr == 0 or blocks.nc == problem["n"]
    assert blocks.mc <= problem["m"] and blocks.nc <= problem["n"]


@given(problems())
def test_ways_of_every_level_add_up(problem) -> None:
    blocks, tile = cb.clamped_blocks(**problem), problem["tile"]
    step = blocks.kc * problem["element_bytes"]
    l1, l2, l3 = cb.levels(problem["machine"], problem["threads"])
    assert l1_ways(l1, tile, blocks.kc, problem["element_bytes"]) <= l1.ways
    if l2 is not None:
        a_c = cb.ways_taken(cb.round_up(blocks.mc, tile.mr) * step, l2)
        assert a_c + cb.ways_taken(tile.nr * step, l2) + 1 <= l2.ways
    if l3 is not None:
        a_c = cb.ways_taken(problem["threads"] * blocks.mc * step, l3)
        b_c = cb.ways_taken(cb.round_up(blocks.nc, tile.nr) * step, l3)
        assert a_c + b_c + 1 <= l3.ways


@given(problems())
def test_the_final_kc_gives_the_same_blocks_again(problem) -> None:
    blocks = cb.clamped_blocks(**problem)
    assert cb.clamped_blocks(**problem, kc=blocks.kc) == blocks


@given(problems(), EXTENTS)
def test_mc_and_nc_follow_from_the_kc_in_use(problem, kc) -> None:
    """Without a team and a narrow L3, the published steps and the evening out say it all."""
    problem["threads"] = 1
    limit = min(kc, cb.default_kc(problem["machine"].core.caches[0], problem["tile"], 1))
    blocks = cb.clamped_blocks(**problem, kc=limit // problem["element_bytes"] + 1)
    tile, size = problem["tile"], problem["element_bytes"]
    _, l2, l3 = cb.levels(problem["machine"], 1)
    if l2 is not None:
        rows = cb.mc_occupied(l2, tile, blocks.kc, size)
        assert blocks.mc == cb.even_out(problem["m"], rows, tile.mr)
    if l3 is not None:
        columns = cb.nc_occupied(l3, blocks.mc, blocks.kc, size)
        assert blocks.nc == cb.even_out(problem["n"], columns, tile.nr)
