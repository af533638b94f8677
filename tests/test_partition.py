"""Which choice serves which part of a range, against trying everything; families of products."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import combinations, product
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_plans import plan

from anatune.errors import IllegalPlan
from anatune.hwprofile import load_profile
from anatune.model import partition
from anatune.model.dynamic import plan_family, predict_member
from anatune.model.partition import CHOICE_PRICE, CUT_PRICE, WORST, Sampled, choose, crossing, cut
from anatune.plan import DynamicPlan, ThreadGrid
from anatune.plan.dynamic import as_member
from anatune.workload import Dim, matmul

COST = st.sampled_from([1.0, 1.01, 1.1, 1.5, 3.0])


@st.composite
def grids(draw, dims=st.integers(1, 2), may_fail: bool = False) -> Sampled:
    """A few values of each dim, a few choices; with ``may_fail`` some cannot serve somewhere."""
    most = (6,) if (count := draw(dims)) == 1 else (3,) * count
    axes = tuple(tuple(range(1, 1 + draw(st.integers(1, n)))) for n in most)
    points = list(product(*(range(len(axis)) for axis in axes)))
    weights = {p: draw(st.sampled_from([1.0, 1.0, 4.0])) for p in points}
    cost = COST | st.just(inf) if may_fail else COST
    choices = draw(st.integers(1, 4))
    costs = [{p: draw(COST if c == 0 else cost) for p in points} for c in range(choices)]
    return Sampled(axes, weights, costs)


def loss(sampled: Sampled, choice: int, point: tuple[int, ...]) -> float:
    """What the documents say of a loss, written down once more."""
    part = sampled.costs[choice][point] / min(cost[point] for cost in sampled.costs) - 1
    return sampled.weights[point] / sum(sampled.weights.values()) * part * (1 + WORST * part)


def set_price(sampled: Sampled, chosen) -> float:
    each = (min(loss(sampled, c, p) for c in chosen) for p in sampled.points)
    return sum(each) + CHOICE_PRICE * len(chosen)


def subsets(count: int) -> Iterator[tuple[int, ...]]:
    for size in range(1, count + 1):
        yield from combinations(range(count), size)


@given(grids(may_fail=True), st.integers(1, 6))
def test_the_choices_are_the_cheapest_set_that_fits(sampled, most):
    sizes = [1 + c for c in range(len(sampled.costs))]
    found = choose(sampled, sizes, most)
    assert len(found) == 1 or sum(sizes[c] for c in found) <= most
    able = [s for s in subsets(len(sizes)) if len(s) == 1 or sum(sizes[c] for c in s) <= most]
    assert set_price(sampled, found) == pytest.approx(min(set_price(sampled, s) for s in able))


@given(grids())
def test_a_choice_that_is_best_everywhere_is_the_only_one(sampled):
    best = {p: min(cost[p] for cost in sampled.costs) for p in sampled.points}
    with_best = Sampled(sampled.axes, sampled.weights, [*sampled.costs, best])
    found = choose(with_best, [1.0] * len(with_best.costs))
    assert len(found) == 1 and with_best.costs[found[0]] == best
    (piece,) = cut(with_best, found)
    assert piece.first == tuple(0 for _ in sampled.axes) and piece.choice == found[0]
    assert piece.last == tuple(len(axis) - 1 for axis in sampled.axes)


def test_no_choices_that_serve_the_whole_range():
    sampled = Sampled(((1, 2),), {(0,): 1.0, (1,): 1.0}, [{(0,): 1.0, (1,): inf},
                                                          {(0,): inf, (1,): 1.0}])
    assert choose(sampled, [1.0, 1.0]) == (0, 1)
    with pytest.raises(IllegalPlan, match="^no set of choices serves the whole range$"):
        choose(sampled, [1.0, 1.0], 1.5)


def test_one_bad_value_counts_more_than_many_that_are_nearly_good():
    """3 % at nearly all values are better than 21 % at one of ten, whose mean is less."""
    even = {(p,): 1.03 for p in range(10)}
    uneven = {(p,): 1.25 if p == 4 else 1.0 for p in range(10)}
    sampled = Sampled((tuple(range(1, 11)),), dict.fromkeys(even, 1.0), [even, uneven])
    assert choose(sampled, [1.0, 1.0], 1.0) == (0,)


def test_many_choices_are_thinned_to_those_that_matter():
    """Each of 14 is the only good one somewhere, two of them where it weighs most."""
    count = partition.MOST_EXACT + 4
    axis = tuple(range(1, count + 1))
    costs = [{(p,): 1.0 if p == c else 1.2 for p in range(count)} for c in range(count)]
    weights = {(p,): 1e6 if p in (2, 9) else 1.0 for p in range(count)}
    assert choose(Sampled((axis,), weights, costs), [1.0] * count) == (2, 9)


@given(grids(may_fail=True))
def test_cuts_are_the_cheapest_tree(sampled):
    chosen = choose(sampled, [1.0] * len(sampled.costs))
    pieces = cut(sampled, chosen)
    total = sum(loss(sampled, p.choice, at) for p in pieces for at in inside(p.first, p.last))
    assert total + CUT_PRICE * len(pieces) == pytest.approx(cheapest_tree(sampled, chosen))


def cheapest_tree(sampled: Sampled, chosen) -> float:
    """By trying every tree, sums and all."""

    @cache
    def best(first, last) -> float:
        whole = min(sum(loss(sampled, c, p) for p in inside(first, last)) for c in chosen)
        trees = [whole + CUT_PRICE]
        for axis, (low, high) in enumerate(zip(first, last)):
            for place in range(low, high):
                below = (*last[:axis], place, *last[axis + 1 :])
                above = (*first[:axis], place + 1, *first[axis + 1 :])
                trees.append(best(first, below) + best(above, last))
        return min(trees)

    return best(tuple(0 for _ in sampled.axes), tuple(len(axis) - 1 for axis in sampled.axes))


def inside(first, last) -> list[tuple[int, ...]]:
    return list(product(*(range(low, high + 1) for low, high in zip(first, last))))


@given(grids(dims=st.integers(1, 3), may_fail=True))
def test_pieces_tile_the_range(sampled):
    pieces = cut(sampled, choose(sampled, [1.0] * len(sampled.costs)))
    covered = sorted(p for piece in pieces for p in inside(piece.first, piece.last))
    assert covered == sampled.points


@given(st.integers(1, 50), st.integers(1, 50), st.integers(0, 60))
def test_crossing(low, length, threshold):
    high = low + length
    found = crossing(low, high, lambda value: value > threshold or value == high)
    assert found == min(max(low, threshold), high - 1)


# Families of products.

PROFILE = load_profile("zen5")
FAMILIES = {
    "rows": matmul(Dim("m", 1, 512), 768, 768),
    "rows without an end": matmul(Dim("m"), 64, 48),
    "rows that are likely": matmul(Dim("m", 1, 300, likely=(7, 128)), 256, 64),
    "one value": matmul(Dim("m", 77, 77), 64, 48),
    "columns": matmul(64, Dim("n", 1, 300), 64),
    "steps": matmul(64, 64, Dim("k", 1, 2000)),
    "scores": matmul(Dim("s", 1, 256), Dim("s", 1, 256), 64, batch=12),
    "images": matmul(49 * Dim("b", 1, 32), 512, 64),
    "batch": matmul(32, 32, 32, batch=Dim("b", 1, 64)),
    "rows and batch": matmul(Dim("m", 1, 128), 64, 64, batch=Dim("b", 1, 8)),
    "int8": matmul(Dim("m", 1, 256), 256, 256, dtype="int8"),
    "constant B": matmul(Dim("m", 1, 256), 256, 256, constant_b=True),
}


@cache
def planned(name: str, threads: int = 2) -> DynamicPlan:
    return plan_family(PROFILE, FAMILIES[name], threads)


def sample_values(dim: Dim) -> list[int]:
    last = dim.high or 9000
    return sorted({*range(dim.low, min(last, 40) + 1), *range(dim.low, last + 1, 37), last})


@pytest.mark.parametrize("name", FAMILIES)
def test_each_value_is_in_one_region(name):
    p = planned(name)
    edges = {(i.dim, e) for r in p.regions for i in r.intervals for e in (i.low, i.high) if e}
    near = {dim.name: {e + d for n, e in edges if n == dim.name for d in (-1, 0, 1)}
            for dim in p.workload.dims}
    each = [sorted({v for v in (*sample_values(dim), *near[dim.name])
                    if dim.low <= v <= (dim.high or v)}) for dim in p.workload.dims]
    names = [dim.name for dim in p.workload.dims]
    for some in product(*each):
        values = dict(zip(names, some))
        assert sum(values in region for region in p.regions) == 1, values
        assert p.variant_at(**values) in p.variants
    outside = {dim.name: dim.high + 1 for dim in p.workload.dims if dim.high}
    if outside:
        beyond = {dim.name: outside.get(dim.name, dim.low) for dim in p.workload.dims}
        assert not any(beyond in region for region in p.regions)
        with pytest.raises(IllegalPlan, match="in none of the regions"):
            p.variant_at(**beyond)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_member_has_a_prediction(name):
    p = planned(name)
    names = [dim.name for dim in p.workload.dims]
    for some in product(*(sample_values(dim)[::7] for dim in p.workload.dims)):
        assert predict_member(PROFILE, p, **dict(zip(names, some))).seconds > 0


@pytest.mark.parametrize("name", FAMILIES)
def test_every_variant_is_used_and_plans_are_read_back(name):
    p = planned(name)
    assert {region.variant for region in p.regions} == set(range(1, len(p.variants) + 1))
    assert p.regions[0].variant == 1
    assert DynamicPlan.from_json(p.to_json()) == p
    assert len(set(p.variants)) == len(p.variants)


def test_a_range_of_one_value_is_not_cut():
    assert len(planned("one value").regions) == len(planned("one value").variants) == 1


def test_no_end_stays_no_end():
    assert planned("rows without an end").regions[-1].intervals[0].high is None


def test_fewer_bytes_are_fewer_variants():
    family = FAMILIES["rows"]
    counts = [len(plan_family(PROFILE, family, 2, most_bytes=b).variants) for b in (1, 1 << 20)]
    assert counts[0] == 1 < counts[1]


def test_threads_of_a_smaller_batch_have_nothing_to_do():
    made = plan(9, 9, 9, 4, 16, 16, of={"batch": 3}, grid=ThreadGrid(rows=2, batch=2), nc=16)
    alone = as_member(made, matmul(9, 9, 9))
    assert alone.grid == ThreadGrid(rows=2) and alone.workload.batch == 1
    assert as_member(made, matmul(9, 9, 9, batch=7)).grid == made.grid


def test_a_constant_b_has_one_form():
    assert len({v.packed_ahead_layout for v in planned("constant B").variants}) == 1
