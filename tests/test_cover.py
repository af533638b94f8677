"""Tiles of several sizes that cover an extent: all of it, cheaply; and those of the model."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from itertools import combinations_with_replacement

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_plans import plan

from anatune.errors import IllegalPlan
from anatune.hwprofile import load_profile
from anatune.model.cover import cheapest_cover, covers
from anatune.model.dynamic import SAME, SIZES_TWICE, _few_sizes, with_covers
from anatune.model.estimate import predict
from anatune.model.machine import machine
from anatune.model.work import tile_cycles
from anatune.plan import Cover, GemmPlan

COSTS = st.dictionaries(st.integers(1, 7), st.integers(1, 30).map(float), min_size=1, max_size=5)


@st.composite
def some_covers(draw) -> Cover:
    """Any cover: whole tiles need not come first in its choice of sizes."""
    tile = draw(st.integers(1, 9))
    cost = draw(st.dictionaries(st.integers(1, tile), st.floats(0.1, 9)))
    cost = {1: 1.0, tile: float(tile), **cost}
    pieces = tuple(covers(2 * tile - 1, cost))
    return Cover(dim="n", unit=draw(st.sampled_from([1, 4, 16])), tile=tile, pieces=pieces)


@given(some_covers(), st.integers(1, 400))
def test_counts_add_up(cover, extent):
    found = cover.counts(extent)
    assert sum(count * size for count, size in found) == extent
    assert all(count > 0 and 0 < size <= cover.tile * cover.unit for count, size in found)
    short = [(count, size) for count, size in found if size % cover.unit]
    assert short in ([], [(1, found[-1][1])]), "only the last vector may be short"


@given(some_covers(), st.integers(1, 400))
def test_counts_are_those_of_the_pieces(cover, extent):
    """Whole tiles, then the pieces for the rest: nothing else is asked of the code."""
    units = -(-extent // cover.unit)
    rest = cover.rest(units)
    assert 0 <= rest < 2 * cover.tile and (units - rest) % cover.tile == 0
    assert rest >= min(units, cover.tile), "one whole tile at least may be cut differently"
    sizes = [cover.tile] * ((units - rest) // cover.tile) + list(cover.pieces[rest])
    wanted = sorted(size * cover.unit for size in sizes)
    found = [size for count, size in cover.counts(extent) for _ in range(count)]
    found[-1] += units * cover.unit - extent
    assert sorted(found) == wanted
    assert len(cover.smaller(rest)) <= cover.slots
    assert set(cover.smaller(rest)) <= set(cover.sizes)


@pytest.mark.parametrize(
    ("tile", "pieces", "why"),
    [
        (2, ((), (1,), (2,)), r"pieces = 3 entries: one for each rest below 4"),
        (2, ((), (1,), (2,), (2,)), r"pieces\[3\] = \(2,\): sizes of at most 2 that add up to 3"),
        (2, ((), (1,), (2,), (3,)), r"pieces\[3\] = \(3,\): sizes of at most 2 that add up to 3"),
        (2, ((), (1,), (2,), (1, 2)), r"pieces\[3\] = \(1, 2\): sizes"),
        (2, ((), (1, 0), (2,), (2, 1)), r"pieces\[1\] = \(1, 0\): sizes"),
    ],
)
def test_covers_that_are_refused(tile, pieces, why):
    with pytest.raises(IllegalPlan, match=f"^{why}"):
        Cover(dim="m", unit=1, tile=tile, pieces=pieces)


def cheapest(extent: int, cost: dict[int, float]) -> float | None:
    """By trying everything."""
    counts = range(extent // min(cost) + 1)
    sums = (s for n in counts for s in combinations_with_replacement(cost, n) if sum(s) == extent)
    return min((sum(cost[size] for size in sizes) for sizes in sums), default=None)


@given(COSTS, st.integers(0, 12))
def test_the_cheapest_cover_is_the_cheapest(cost, extent):
    least = cheapest(extent, cost)
    if least is None:
        with pytest.raises(IllegalPlan, match=f"^extent = {extent}: no tiles of sizes "):
            cheapest_cover(extent, cost)
        return
    found = cheapest_cover(extent, cost)
    assert sum(found) == extent and list(found) == sorted(found, reverse=True)
    assert sum(cost[size] for size in found) == least


@given(COSTS)
def test_all_covers_are_the_cheapest_of_each(cost):
    cost = {1: 9.0, **cost}
    assert covers(12, cost) == [cheapest_cover(extent, cost) for extent in range(13)]


def test_of_equally_cheap_covers_that_with_fewer_tiles_is_taken():
    assert cheapest_cover(6, {1: 1.0, 2: 2.0, 3: 3.0}) == (3, 3)
    assert cheapest_cover(0, {3: 1.0}) == ()


# What the model makes of it.

PROFILES = ["zen5", "haswell", "neoverse_v1"]
SHAPES = [(14, 2), (6, 4), (31, 1), (1, 6), (8, 3)]


def made_for(
    profile, rows: int, vectors: int, m: int = 200, n: int = 512, k: int = 64
) -> GemmPlan:
    lanes = profile.core.vector_bits // 32
    from anatune.plan import CodeTarget

    nr = vectors * lanes
    blocks = {"mc": -(-m // rows) * rows, "nc": -(-n // nr) * nr}
    target = CodeTarget.of(profile.target)
    return plan(m, n, k, rows, nr, lanes, target=target, arithmetic="fma32", **blocks)


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize(("rows", "vectors"), SHAPES)
def test_covers_are_of_the_tile_and_of_few_sizes(name, rows, vectors):
    profile = load_profile(name)
    covered = with_covers(profile, made_for(profile, rows, vectors), "mn")
    for dim, right in (("m", (1, rows)), ("n", (covered.tile.lanes, vectors))):
        cover = covered.cover(dim)
        assert cover is not None and (cover.unit, cover.tile) == right
        assert len({*cover.sizes, cover.tile}) <= max(SIZES_TWICE, 2)


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("k", [64, 768])
def test_few_sizes_cost_about_as_much_as_all(name, k):
    """No rest loses more than `SAME`, unless so many sizes are too many; more never cost more."""
    profile = load_profile(name)
    p = made_for(profile, 14, 2, k=k)
    cost = {h: tile_cycles(p, h, 2, machine(profile, 1)) for h in range(1, 15)}

    def totals(every) -> list[float]:
        return [sum(cost[size] for size in pieces) for pieces in every]

    best, before = totals(covers(27, cost)), inf
    for most in (2, 4, 7, 14):
        few = _few_sizes(cost, SAME, most)
        used = {size for pieces in few for size in pieces}
        assert {1, 14} <= used and len(used) <= max(most, 2)
        found = totals(few)
        assert sum(found) <= before * 1.0001
        before = sum(found)
        if len(used) < most:
            assert all(some <= least * (1 + SAME) * 1.0001 for some, least in zip(found, best))
    assert all(some <= least * (1 + SAME) * 1.0001 for some, least in zip(found, best))


def test_a_cover_makes_a_ragged_product_cheaper():
    """What it is for: 15 rows of tiles of 14, where the one row that is left is slow by itself."""
    profile = load_profile("zen5")
    p = made_for(profile, 14, 2, m=15)
    assert predict(profile, with_covers(profile, p, "m")).seconds <= predict(profile, p).seconds
    assert with_covers(profile, p, "k") == replace(p, covers=())


def test_a_cover_must_be_the_tiles():
    p = made_for(load_profile("zen5"), 4, 2)
    good = Cover(dim="m", unit=1, tile=4, pieces=tuple(covers(7, {1: 1.0, 4: 2.0})))
    assert replace(p, covers=(good,)).cover("m") == good
    other = Cover(dim="m", unit=1, tile=3, pieces=tuple(covers(5, {1: 1.0, 3: 2.0})))
    with pytest.raises(IllegalPlan, match="^cover of m by 3 times 1: the tile is "):
        replace(p, covers=(other,))
    with pytest.raises(IllegalPlan, match="^cover of m by 4 times 2: the tile is "):
        replace(p, covers=(replace(good, unit=2),))
    with pytest.raises(IllegalPlan, match="^covers: two of m$"):
        replace(p, covers=(good, good))
    with pytest.raises(IllegalPlan, match="^cover of 'b': of 'm', 'n' or 'k'$"):
        replace(p, covers=(replace(good, dim="b"),))
