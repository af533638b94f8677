"""Laws of predicted time and traffic, on shipped machines and any shape; no figure is a law."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from sample_plans import CURVED, EPILOGUES, plans, workloads

from anatune import api
from anatune.errors import IllegalPlan
from anatune.hwprofile import Profile, load_profile, profiles
from anatune.model.candidates import OBJECTIVES, best, check_plan, rank, shortlist
from anatune.model.estimate import peak_seconds, predict
from anatune.model.machine import machine as cached_machine
from anatune.plan import CacheBlocks, Estimate, GemmPlan, Storage, ThreadGrid
from anatune.workload import Matmul, matmul
from anatune.workload.matmul import LAID

ROOT = Path(__file__).resolve().parents[1]
CPUS = [name for name in profiles() if load_profile(name).cores]
SMALL = [name for name in CPUS if load_profile(name).usable_threads <= 8]
"""Machines whose plans can all be listed in a moment."""

CLOSE = 1.02
"""`best` may miss the first of `rank` by this much: it looks at the promising tiles only."""

LISTED = ("zen5", "haswell")
"""Machines on which it is held to that: wide vectors and few registers."""

ROUNDING = 1 + 1e-9

EXTENTS = st.one_of(st.integers(1, 40), st.integers(1, 5000))
SHAPES = st.builds(matmul, EXTENTS, EXTENTS, EXTENTS)
TYPES = ("float32", "float64", "bfloat16", "int8", "int16", "uint8")
LITTLE = st.integers(1, 160)
LITTLE_PRODUCTS = st.builds(matmul, LITTLE, LITTLE, LITTLE, dtype=st.sampled_from(TYPES))
few = settings(max_examples=25)
unshrunk = settings(max_examples=4, derandomize=True, phases=[Phase.explicit, Phase.generate])
"""For examples that take long: the first that fails will do."""


@cache
def machine(name: str) -> Profile:
    return load_profile(name)


def pick(profile: Profile, w: Matmul, threads: int | None = None) -> tuple[GemmPlan, Estimate]:
    return best(profile, w, threads)[0]


def traffic(estimate: Estimate) -> list[float]:
    return [size for _, size in estimate.bytes_moved]


def beyond(estimate: Estimate) -> list[float]:
    """Bytes out of each level or one further out: what a level keeps only moves nearer."""
    return [sum(traffic(estimate)[i:]) for i in range(len(traffic(estimate)))]


@pytest.mark.parametrize("name", CPUS)
@settings(max_examples=4)
@given(SHAPES | workloads(epilogues=EPILOGUES + CURVED), st.data())
def test_every_machine_has_a_plan_for_every_shape(name, w, data):
    profile = machine(name)
    threads = data.draw(st.none() | st.integers(1, min(16, profile.usable_threads)))
    plan, estimate = pick(profile, w, threads)
    assert plan.workload == w
    assert plan.grid.threads <= (threads or profile.usable_threads)
    check_plan(profile, plan)
    numbers = [estimate.seconds, estimate.cycles, estimate.joules, *traffic(estimate)]
    assert all(math.isfinite(x) and x >= 0 for x in numbers)
    assert estimate.seconds > 0 and estimate.cycles > 0
    assert 0 < estimate.peak_fraction <= 1
    assert peak_seconds(profile, w, threads or profile.usable_threads) <= estimate.seconds


@few
@given(SHAPES, st.sampled_from(SMALL))
def test_peak_seconds_are_what_the_peak_fraction_is_of(w, name):
    plan, estimate = pick(machine(name), w)
    least = peak_seconds(machine(name), w, plan.grid.threads)
    assert least == pytest.approx(estimate.seconds * estimate.peak_fraction)


@few
@given(SHAPES, st.sampled_from(SMALL), st.data())
def test_time_lies_between_the_largest_term_and_their_sum(w, name, data):
    _, estimate = data.draw(st.sampled_from(shortlist(best(machine(name), w), 8)))
    cycles = [c for _, c in estimate.terms]
    assert min(cycles) >= 0
    assert max(cycles) <= estimate.cycles * ROUNDING
    assert estimate.cycles <= sum(cycles) * ROUNDING
    assert cycles == sorted(cycles, reverse=True) and estimate.bound == estimate.terms[0][0]


def grown(profile: Profile, level: int, more_ways: int) -> Profile:
    caches = tuple(
        replace(c, ways=c.ways + more_ways) if c.level == level else c for c in profile.core.caches
    )
    return replace(profile, cores=(replace(profile.core, caches=caches), *profile.cores[1:]))


@settings(max_examples=60)
@given(SHAPES, st.sampled_from(SMALL), st.integers(1, 3), st.integers(1, 16), st.data())
def test_more_ways_never_bring_more_traffic(w, name, level, more_ways, data):
    """The plan stays the same: a larger cache keeps at least what the smaller one kept."""
    profile = machine(name)
    plan, before = data.draw(st.sampled_from(shortlist(best(profile, w), 8)))
    after = predict(grown(profile, level, more_ways), plan)
    for place, was, now in zip(("L2", "L3", "memory"), beyond(before), beyond(after)):
        assert now <= was * ROUNDING, f"{place} and on, L{level} of {more_ways} more ways: {plan}"


@pytest.mark.parametrize("name", LISTED)
@unshrunk
@example(matmul(37, 25, 131))
@example(matmul(64, 96, 50, dtype="int8"))
@given(LITTLE_PRODUCTS)
def test_best_finds_what_rank_finds(name, w):
    quick, ranked = best(machine(name), w, 2), rank(machine(name), w, 2)
    found, first = quick[0][1].seconds, ranked[0][1].seconds
    assert found <= CLOSE * first, f"{quick[0][0]} against {ranked[0][0]}"
    for order in (ranked, quick):
        costs = [estimate.seconds for _, estimate in order]
        assert costs == sorted(costs)
        assert len({plan for plan, _ in order}) == len(order)
    assert {plan for plan, _ in quick} <= {plan for plan, _ in ranked}


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_objectives_order_the_same_plans(objective):
    w, cost = matmul(21, 34, 13), OBJECTIVES[objective]
    ranked = rank(machine("haswell"), w, 2, objective)
    costs = [cost(estimate) for _, estimate in ranked]
    assert costs == sorted(costs)
    assert {plan for plan, _ in ranked} == {plan for plan, _ in rank(machine("haswell"), w, 2)}
    quick = cost(best(machine("haswell"), w, 2, objective)[0][1])
    assert costs[0] <= quick <= CLOSE * costs[0]


# Any legal plan, chosen or not.

ANY_PLAN = plans(bits=st.just(512), epilogues=EPILOGUES + CURVED)


@settings(max_examples=150)
@given(ANY_PLAN, st.sampled_from(["zen5", "icelake_sp", "sapphire_rapids"]))
def test_every_legal_plan_has_an_estimate(plan, name):
    estimate = predict(machine(name), plan)
    numbers = [estimate.joules, *(c for _, c in estimate.terms), *traffic(estimate)]
    assert all(math.isfinite(x) and x >= 0 for x in numbers)
    assert 0 < estimate.seconds < math.inf and 0 < estimate.cycles < math.inf
    assert 0 < estimate.peak_fraction <= 1
    cycles = [c for _, c in estimate.terms]
    assert max(cycles) <= estimate.cycles * ROUNDING <= sum(cycles) * ROUNDING**2
    assert estimate == predict(machine(name), GemmPlan.from_json(plan.to_json()))


@settings(max_examples=150)
@given(ANY_PLAN)
def test_packing_ahead_never_costs_more_than_packing_at_each_call(plan):
    constant = replace(plan, workload=replace(plan.workload, constant_b=True), b=Storage.PACKED)
    ahead = replace(constant, b=Storage.PACKED_AHEAD)
    profile = machine("zen5")
    assert predict(profile, ahead).cycles <= predict(profile, constant).cycles * ROUNDING


@settings(max_examples=150)
@given(ANY_PLAN)
def test_products_of_a_batch_take_as_long_as_there_are(plan):
    """A thread's products one after another; the same rectangle twice is not over sooner."""
    w, profile = plan.workload, machine("zen5")
    one = replace(plan, workload=replace(w, batch=1, broadcast_a=False, broadcast_b=False),
                  grid=replace(plan.grid, batch=1))  # fmt: skip
    all_of_them = replace(plan, grid=replace(plan.grid, batch=1))
    assert predict(profile, one).cycles <= predict(profile, all_of_them).cycles * ROUNDING


@settings(max_examples=60)
@given(ANY_PLAN, st.sampled_from(["m", "n", "k"]), st.integers(2, 4))
def test_a_larger_product_in_the_same_blocks_takes_longer(plan, dim, times):
    """Whole tiles, so that the larger one has none that is cut shorter."""
    w, tile = plan.workload, plan.tile
    whole = {"m": plan.grid.rows * tile.mr, "n": plan.grid.columns * tile.nr,
             "k": plan.grid.depth * plan.k_unit}  # fmt: skip
    small = {**whole, dim: whole[dim] * plan.blocks.mc}
    blocks = CacheBlocks(mc=tile.mr, nc=tile.nr, kc=plan.k_unit)

    def cycles(extents: dict[str, int]) -> float:
        of = replace(w, **extents, **dict.fromkeys(LAID))
        return predict(machine("zen5"), replace(plan, workload=of, blocks=blocks)).cycles

    assert cycles(small) <= cycles({**small, dim: small[dim] * times}) * ROUNDING


@pytest.mark.parametrize("name", CPUS)
@pytest.mark.parametrize("size", [1000, 4096])
def test_more_threads_are_never_predicted_slower_on_big_squares(name, size):
    """Doublings, as the model also tries half of the threads that it may use."""
    profile, w = machine(name), matmul(size, size, size)
    counts = [1, 2, 4] if profile.usable_threads >= 4 else [1, profile.usable_threads]
    times = [pick(profile, w, count)[1].seconds for count in counts]
    for fewer, more in zip(times, times[1:]):
        assert more <= fewer * ROUNDING, dict(zip(counts, times))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", LISTED)
def test_two_threads_are_never_predicted_slower_in_any_type(name, dtype):
    w = matmul(1000, 1000, 1000, dtype=dtype)
    one, two = (pick(machine(name), w, count)[1].seconds for count in (1, 2))
    assert two <= one * ROUNDING


@few
@given(SHAPES, st.sampled_from(SMALL))
def test_the_same_question_has_the_same_answer(w, name):
    again = load_profile(name)
    cached_machine.cache_clear()
    assert pick(again, w) == pick(machine(name), w)


@few
@given(SHAPES, st.sampled_from(SMALL))
def test_predicting_a_plan_gives_the_estimate_it_was_ranked_by(w, name):
    plan, estimate = pick(machine(name), w)
    assert api.predict(plan, w, name) == estimate
    assert GemmPlan.from_json(plan.to_json()) == plan


def test_a_plan_of_another_workload_is_refused():
    plan = api.plan(matmul(64, 64, 64), "zen5")
    with pytest.raises(IllegalPlan) as caught:
        api.predict(plan, matmul(64, 64, 65), "zen5")
    want = "plan: is of matmul 64x64x64 float32, the workload is matmul 64x64x65 float32"
    assert str(caught.value) == want


def test_a_plan_for_more_threads_than_there_are_is_refused():
    plan = replace(api.plan(matmul(640, 640, 64), "zen5"), grid=ThreadGrid(rows=4))
    with pytest.raises(IllegalPlan) as caught:
        api.predict(plan, plan.workload, "zen5")
    assert str(caught.value) == "grid = 4x1: 4 threads, profile zen5 has 2"


def test_a_plan_for_other_vectors_is_refused():
    plan = api.plan(matmul(640, 640, 64), "zen5")
    with pytest.raises(
        IllegalPlan, match="^.* tile assumes vectors of 16 elements, .* has 8: set lanes$"
    ):
        api.predict(plan, plan.workload, "haswell")


def test_deciding_needs_no_tvm(tmp_path):
    """Nor the numbers' library: plans are arithmetic on a profile."""
    code = (
        "import sys, json, anatune as at; w = at.matmul(196, 256, 2304)\n"
        "for n in ('zen5', 'a64fx'): p = at.plan(w, n); at.predict(p, w, n); at.explain(p, n)\n"
        "at.rank(w, 'generic_x86_64'); at.why_not('8x48', w, 'zen5')\n"
        "print(json.dumps([m for m in ('tvm', 'tvm_ffi', 'numpy') if m in sys.modules]))"
    )
    setup = f"import sys; sys.path[:0] = [{str(ROOT)!r}]\n"
    done = subprocess.run(
        [sys.executable, "-c", setup + code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
