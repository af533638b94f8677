"""The measured pass on recorded samples: who starts, who goes on, who wins, when it ends."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_plans import plan

from anatune.errors import WorkerError
from anatune.measure import race as module
from anatune.measure.budget import Budget
from anatune.measure.outcome import Measurement, Outcome, Timing
from anatune.measure.race import race, winner
from anatune.measure.runner import ReplayRunner

MS = 1e-3
BASE = plan(64, 64, 64, 4, 16, 8)
PLANS = [replace(BASE, blocks=replace(BASE.blocks, kc=kc)) for kc in range(1, 13)]
ALL = Budget(candidates=len(PLANS), seconds=math.inf)


def recorded(*answers) -> ReplayRunner:
    """A runner that answers for the first plans: seconds, a tuple of them, or how it failed."""
    as_tuples = [(a,) if isinstance(a, float) else a for a in answers]
    return ReplayRunner(dict(zip(PLANS, as_tuples)))


def run(
    runner: ReplayRunner, count: int, budget: Budget = ALL, clock=lambda: 0.0
) -> list[Measurement]:
    return race([(p, 10 * MS) for p in PLANS[:count]], runner, budget, clock)


def outcomes(measurements: list[Measurement]) -> list[Outcome]:
    return [m.outcome for m in measurements]


class Clock:
    """A clock that moves on by ``step`` seconds each time it is asked."""

    def __init__(self, step: float) -> None:
        self._ticks = itertools.count(0.0, step)

    def __call__(self) -> float:
        return next(self._ticks)


class Slow(ReplayRunner):
    """Takes ``cost`` seconds of its own clock for each kernel that it prepares or runs."""

    def __init__(self, recorded, build_s: float, run_s: float) -> None:
        super().__init__(recorded)
        self.now, self._build_s, self._run_s = 0.0, build_s, run_s
        self.prepared: list = []

    def prepare(self, plan, predicted_s):
        self.now += self._build_s
        self.prepared.append(plan)
        return super().prepare(plan, predicted_s)

    def sample(self, plan, calls, predicted_s):
        self.now += self._run_s
        return super().sample(plan, calls, predicted_s)


def test_the_models_pick_runs_first_and_rounds_are_interleaved():
    runner = recorded(20 * MS, 20 * MS, 20 * MS)
    run(runner, 3)
    assert runner.asked[:6] == PLANS[:3] * 2


def test_the_fastest_wins():
    results = run(recorded(30 * MS, 10 * MS, 20 * MS), 3)
    assert winner(results) == 1
    assert outcomes(results) == [Outcome.OK] * 3
    assert results[1].timing.median_s == 10 * MS


FAILURES = [o for o in Outcome if o not in (Outcome.OK, Outcome.SKIPPED)]


@pytest.mark.parametrize("outcome", FAILURES)
def test_failures_are_kept_and_passed_over(outcome):
    failure = Measurement(outcome, note="so it went")
    results = run(recorded(failure, 20 * MS, failure), 3)
    assert results[0] == results[2] == failure
    assert winner(results) == 1


def test_a_worker_that_fails_in_the_middle_costs_its_plan_only():
    class Failing(ReplayRunner):
        def sample(self, plan, calls, predicted_s):
            if plan == PLANS[0] and self.asked.count(plan) == 2:
                raise WorkerError("it is gone")
            return super().sample(plan, calls, predicted_s)

    runner = Failing(dict(zip(PLANS, [(10 * MS,), (20 * MS,)])))
    results = run(runner, 2)
    assert results[0] == Measurement(Outcome.RUN_ERROR, note="it is gone")
    assert winner(results) == 1


def test_nothing_measured_has_no_winner():
    failure = Measurement(Outcome.COMPILE_ERROR, note="no")
    assert winner(run(recorded(failure, failure), 2)) is None
    assert winner([]) is None
    assert winner([Measurement(Outcome.SKIPPED)]) is None


def test_ties_within_the_noise_go_to_the_model():
    noisy = tuple(x * MS for x in (20.0, 20.4, 19.6, 20.2, 19.8))
    results = run(recorded(20.1 * MS, noisy), 2)
    assert winner(results) == 0
    clear = run(recorded(20.9 * MS, 20.0 * MS), 2)
    assert winner(clear) == 1


def test_equal_plans_keep_the_models_order():
    assert winner(run(recorded(*[20 * MS] * 5), 5)) == 0


def test_slow_ones_are_let_go_after_the_heats():
    runner = recorded(20 * MS, 40 * MS, 20.2 * MS)
    results = run(runner, 3)
    heats = runner.asked.count(PLANS[1])
    assert runner.asked.count(PLANS[0]) == runner.asked.count(PLANS[2]) > heats
    assert len(results[1].timing.samples_s) == module.HEAT_ROUNDS  # and stays in the table
    assert winner(results) == 0


def test_no_more_finalists_than_said():
    runner = recorded(*[20 * MS] * 8)
    run(runner, 8)
    longest = max(runner.asked.count(p) for p in PLANS[:8])
    assert sum(runner.asked.count(p) == longest for p in PLANS[:8]) == module.FINALISTS


def test_short_kernels_are_timed_in_batches():
    calls = []

    class Noting(ReplayRunner):
        def sample(self, plan, n, predicted_s):
            calls.append(n)
            return super().sample(plan, n, predicted_s)

    run(Noting({PLANS[0]: (module.BATCH_S / 8,)}), 1)
    assert set(calls) == {8}


def test_a_call_that_takes_no_time_ends_the_race_all_the_same():
    assert winner(run(recorded(0.0, 0.0), 2)) == 0


def test_a_budget_of_candidates():
    results = run(recorded(*[20 * MS] * 5), 5, Budget(candidates=2, seconds=math.inf))
    assert outcomes(results) == [Outcome.OK] * 2 + [Outcome.SKIPPED] * 3
    assert results[-1].note == "outside the budget"


@given(st.floats(0.001, 1000), st.integers(1, 12))
def test_however_short_the_time_the_models_pick_is_measured(step, count):
    results = run(
        recorded(*[20 * MS] * count), count, Budget(candidates=12, seconds=0.001), Clock(step)
    )
    assert results[0].timing is not None
    assert winner(results) is not None


def test_a_budget_of_time_stops_building_and_running():
    runner = Slow({p: (20 * MS,) for p in PLANS}, build_s=1.0, run_s=0.1)
    results = run(runner, 12, Budget(candidates=12, seconds=6.0), lambda: runner.now)
    built = len(runner.prepared)
    assert built < 12 and runner.prepared == PLANS[:built]
    assert outcomes(results) == [Outcome.OK] * built + [Outcome.SKIPPED] * (12 - built)
    one_more_round = built * 0.1 * 2
    assert runner.now <= 6.0 + one_more_round


SAMPLES = st.lists(st.floats(1e-3, 1.0), min_size=1, max_size=5).map(tuple)
ANSWERS = SAMPLES | st.sampled_from(FAILURES).map(lambda o: Measurement(o, note="failed"))


@given(st.lists(ANSWERS, min_size=1, max_size=12), st.integers(1, 12), st.floats(0, 0.01))
def test_whatever_happens_there_is_one_measurement_each(answers, candidates, step):
    results = run(recorded(*answers), len(answers), Budget(candidates, 1.0), Clock(step))
    assert len(results) == len(answers)
    for answer, result in zip(answers, results):
        if result.outcome is Outcome.OK:
            assert set(result.timing.samples_s) <= set(answer)
        else:
            assert result.timing is None and result.note
            assert result == answer or result.outcome is Outcome.SKIPPED
    place = winner(results)
    measured = [m for m in results if m.timing is not None]
    assert (place is None) == (not measured)
    if measured:
        assert results[place].outcome is Outcome.OK


def test_winner_by_another_cost():
    results = run(recorded(20 * MS, 20.5 * MS), 2)
    joules = [2.0, 1.0]
    assert winner(results) == 0
    assert winner(results, lambda place, seconds: seconds * joules[place]) == 1


def test_unstable_timings_are_flagged():
    assert not Timing((1.0, 1.01, 0.99)).unstable
    assert Timing((1.0, 2.0, 3.0)).unstable
    assert Timing((2.0, 1.0, 9.0)).median_s == 2.0
    assert Timing((2.0, 1.0, 9.0)).best_s == 1.0
    assert Timing((2.0, 1.0, 9.0)).spread_s == 1.0
    assert Timing((3.0,)).spread_s == 0.0
    results = run(recorded(tuple(x * MS for x in (10.0, 20.0, 30.0))), 1)
    assert results[0].timing.unstable
