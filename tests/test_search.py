"""Searches over synthetic machines: what they find, what they never do, how they go on."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_plans import workloads
from synthetic_machine import FakeRace, Synthetic

from anatune.hwprofile import load_profile
from anatune.measure.entry import Entry
from anatune.measure.outcome import Measurement, Outcome
from anatune.model import candidates as model
from anatune.model.shapes import Shape
from anatune.plan import CodeTarget, SchedulePlan, Storage
from anatune.search import evolve, shortlist
from anatune.search.failures import Failures
from anatune.search.features import Table
from anatune.search.gain import Together, expected_gain
from anatune.search.past import told_apart
from anatune.search.space import Space
from anatune.search.variation import Draft, mended, varied
from anatune.workload import matmul

SEARCHES = pytest.mark.parametrize("search", [shortlist.search, evolve.search])

MACHINES = [
    ("haswell", matmul(49, 512, 576)),
    ("cortex_a76", matmul(196, 512, 64)),
    ("zen2", matmul(256, 256, 64)),
]
BUDGET, RANDOM_RUNS = 32, 20

SMALL = matmul(64, 96, 80)


def run(search, machine, workload, budget, measured=(), threads=1, objective="time") -> FakeRace:
    race = FakeRace(machine, budget, measured)
    if not race.over:
        search(race, machine.profile, workload, threads, objective)
    return race


@pytest.fixture(scope="module")
def study() -> list[tuple[float, float, float, float]]:
    """Of each machine: seconds after `BUDGET` measurements by evolve, in the model's order, at
    random in the mean; and the best of all plans that the model lists."""
    rows = []
    for name, workload in MACHINES:
        machine = Synthetic(name, 0)
        ranked = model.rank(machine.profile, workload, 1)
        true = np.array([machine.seconds(plan, estimate) for plan, estimate in ranked])
        rng = np.random.default_rng(0)
        drawn = [rng.choice(true, BUDGET, replace=False).min() for _ in range(RANDOM_RUNS)]
        found = [
            run(s, machine, workload, BUDGET).best_s() for s in (evolve.search, shortlist.search)
        ]
        rows.append((*found, float(np.mean(drawn)), float(true.min())))
    return rows


def test_evolve_beats_the_models_order_and_chance(study):
    for evolved, in_order, drawn, _ in study:
        assert evolved <= in_order * 1.01  # within what one timing is off by
        assert evolved < drawn
    evolved, in_order, *_ = np.exp(np.log(study).mean(axis=0))
    assert evolved < in_order


def test_evolve_comes_near_the_best_of_the_space(study):
    assert all(evolved <= 1.03 * best for evolved, _, _, best in study)


@SEARCHES
@pytest.mark.parametrize("budget", [1, 5, 8, 21])
def test_budget_is_spent_to_the_last_candidate_and_the_models_pick_comes_first(search, budget):
    machine = Synthetic("haswell", 0)
    race = run(search, machine, SMALL, budget)
    assert len(race.measured) == budget  # and never more: the race would refuse
    assert race.plans[0] == model.best(machine.profile, SMALL, 1)[0][0]
    assert all(len(wave) <= shortlist.WAVE for wave in race.waves)


@SEARCHES
def test_a_run_that_was_cut_off_goes_on_as_if_it_had_not_been(search):
    machine = Synthetic("haswell", 0)
    whole = run(search, machine, SMALL, 32)
    half = whole.measured[:16]
    assert run(search, machine, SMALL, 32, half).plans == whole.plans


@SEARCHES
def test_a_run_that_was_cut_off_within_a_wave_measures_nothing_twice(search):
    machine = Synthetic("haswell", 0)
    whole = run(search, machine, SMALL, 24)
    race = run(search, machine, SMALL, 24, whole.measured[1:14])
    assert len(set(race.plans)) == 24  # the race refuses a plan that it knows
    assert whole.plans[0] in race.plans


def test_same_seed_same_proposals():
    machine = Synthetic("haswell", 0)
    one, same = (run(evolve.search, machine, SMALL, 16) for _ in range(2))
    other = FakeRace(machine, 16)
    evolve.search(other, machine.profile, SMALL, 1, "time", seed=1)
    assert one.plans == same.plans != other.plans


@settings(max_examples=4)
@given(workloads(most=300), st.sampled_from(["haswell", "neoverse_n1"]), st.integers(1, 2),
       st.sampled_from(sorted(model.OBJECTIVES)))  # fmt: skip
def test_all_proposals_are_legal(workload, name, threads, objective):
    machine = Synthetic(name, 0)
    race = run(evolve.search, machine, workload, 16, threads=threads, objective=objective)
    assert race.measured  # the race checks each plan against the machine
    assert all(plan.workload == workload and plan.threads <= threads for plan in race.plans)
    assert all(workload.constant_b or p.b is not Storage.PACKED_AHEAD for p in race.plans)


@SEARCHES
def test_small_spaces_are_measured_to_the_end(search):
    machine = Synthetic("haswell", 0)
    workload = matmul(1, 1, 1)
    race = run(search, machine, workload, 1000)
    listed = {plan for plan, _ in model.rank(machine.profile, workload, 1)}
    assert listed == set(race.plans) or search is evolve.search and race.left


def test_evolve_ends_where_nothing_is_left_to_gain():
    race = run(evolve.search, Synthetic("haswell", 0), matmul(1, 500, 1), 2000)
    few = evolve.PATIENCE * shortlist.WAVE
    assert few < len(race.measured) < 1000


def test_shortlist_goes_on_in_the_models_order():
    machine = Synthetic("haswell", 0)
    workload = matmul(48, 64, 40)
    ranked = model.best(machine.profile, workload, 1)
    race = run(shortlist.search, machine, workload, len(ranked) + 40)
    costs = [e.predicted.seconds for e, _ in race.measured]
    first = [plan for plan, _ in model.shortlist(ranked, shortlist.SHORTLIST)]
    assert race.plans[: len(first)] == first
    assert costs[len(first) : len(ranked)] == sorted(costs[len(first) : len(ranked)])
    assert costs[len(ranked) :] == sorted(costs[len(ranked) :])


def test_the_space_is_walked_in_the_order_of_the_full_ranking():
    profile = load_profile("haswell")
    for objective in model.OBJECTIVES:
        space = Space(profile, matmul(4, 8, 4), 2, objective)
        walked = [space.cost(item) for item in space.in_order()]
        ranked = model.rank(profile, space.workload, 2, objective)
        assert walked == [model.OBJECTIVES[objective](estimate) for _, estimate in ranked]


def test_the_first_plans_of_a_space_leave_most_of_it_closed():
    space = Space(load_profile("haswell"), matmul(784, 512, 128), 1, "time")
    list(islice(space.in_order(), 20))
    assert len(space.opened) < 4000
    before = len(space.opened)
    space.open(before)
    assert len(space.opened) == before


def fails_in_place(plan):
    return Outcome.WRONG_RESULT if plan.a is Storage.IN_PLACE else None


def test_failed_plans_are_not_proposed_again_and_their_like_is_avoided():
    """The same machine, once as it is and once with all plans failing that read A in place."""
    workload = matmul(64, 1024, 256)
    sound, failing = (
        [plan.a for plan in run(evolve.search, Synthetic("haswell", 0, fails), workload, 48).plans]
        for fails in (lambda plan: None, fails_in_place)
    )
    assert sound[8:].count(Storage.IN_PLACE) > 2 * failing[8:].count(Storage.IN_PLACE) > 0


def test_a_machine_on_which_all_fails_is_given_up():
    race = run(evolve.search, Synthetic("haswell", 0, lambda plan: Outcome.TIMEOUT), SMALL, 40)
    assert {m.outcome for _, m in race.measured} == {Outcome.TIMEOUT}


def test_the_more_fail_for_one_reason_the_less_is_expected():
    ranked = model.rank(load_profile("haswell"), SMALL, 1)
    near, far = Table.of(ranked[:1]), Table.of(ranked[-1:])

    def chance(*outcomes, of=near):
        failed = [(ranked[0], outcome) for outcome in outcomes]
        return float(Failures(ranked[-1:], failed).chance_of_success(of)[0])

    once, twice = chance(Outcome.KILLED), chance(Outcome.KILLED, Outcome.KILLED)
    assert chance() == 1 > once > twice > 0
    assert chance(Outcome.KILLED, Outcome.TIMEOUT) == once
    assert chance(Outcome.KILLED, of=far) > once


def test_other_engines_plans_are_left_to_them():
    machine = Synthetic("haswell", 0)
    race = run(shortlist.search, machine, SMALL, 8)
    target = CodeTarget.of(machine.profile.target)
    foreign = SchedulePlan(workload=SMALL, target=target, threads=1, trace="[[], []]")
    measured = [(Entry(foreign, None, "metaschedule"), race.measured[0][1]), *race.measured]
    skipped = (Entry(race.plans[0]), Measurement(Outcome.SKIPPED))
    fine, failed = told_apart([*measured, skipped], machine.profile)
    assert [o.plan[0] for o in fine] == race.plans and not failed
    assert len(run(evolve.search, machine, SMALL, 24, measured).measured) == 24


def test_new_plans_are_legal_and_have_blocks_that_the_model_does_not_list():
    profile = load_profile("haswell")
    space = Space(profile, matmul(500, 300, 700), 1, "time")
    parents = [plan for plan, _ in space.ranked[:8]]
    rng = np.random.default_rng(0)
    made = [plan for plan in (varied(space, parents, rng) for _ in range(300)) if plan]
    for plan in made:
        model.check_plan(profile, plan)
        assert Shape.of(plan) in space.shapes
    listed = {p.blocks for p, _ in model.rank(profile, space.workload, 1)}
    assert len(made) > 100
    assert {plan.blocks for plan in made} - listed
    assert len({plan.tile for plan in made}) > len({plan.tile for plan in parents})


def test_what_a_change_breaks_is_mended_or_given_up():
    space = Space(load_profile("haswell"), matmul(500, 300, 700), 1, "time")
    plan = space.ranked[0][0]
    draft = Draft.of(plan)
    assert mended(space, draft) == plan
    beyond = mended(space, replace(draft, blocks={"m": 1e9, "n": 0.1, "k": 333.3}))
    assert (beyond.blocks.mc, beyond.blocks.nc, beyond.blocks.kc) == (500, plan.tile.nr, 333)
    constant = mended(space, replace(draft, b=Storage.PACKED_AHEAD))
    assert constant.b is Storage.PACKED
    shape = replace(draft.shape, tile=replace(plan.tile, mr=40))
    assert mended(space, replace(draft, shape=shape)) is None


def test_expected_gain():
    costs, sd = np.array([0.0, 0.1, 0.1, -0.2]), np.array([0.0, 0.0, 0.1, 0.0])
    sure, none, perhaps, more = expected_gain(0.05, costs, sd)
    assert sure == pytest.approx(0.05, rel=1e-3) and none == 0
    assert 0 < perhaps < 0.05 and more == pytest.approx(0.25, rel=1e-3)


def test_a_wave_spreads():
    """Of two plans that tell the same and one that is a little dearer, the twin comes last."""
    covariance = np.array([[1.0, 0.999, 0.0], [0.999, 1.0, 0.0], [0.0, 0.0, 1.0]]) * 0.01
    together = Together(0.0, np.array([0.0, 0.0, 0.01]), covariance, np.ones(3), noise=0.001)
    anything = np.ones(3, dtype=bool)
    assert [together.pick(anything) for _ in range(3)] == [0, 2, 1]
