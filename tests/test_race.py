"""The measured pass by replay: who starts, who goes on, who wins, what is kept, when it ends."""

from __future__ import annotations

import itertools
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from race_samples import ALL, ENTRIES, MS, PLANS, place, race_on, recorded, run
from simulated_machine import SimulatedRunner

from anatune.errors import WorkerError
from anatune.measure import race as module
from anatune.measure.budget import Budget
from anatune.measure.entry import Entry
from anatune.measure.outcome import MEASURED, Measurement, Outcome, Timing
from anatune.measure.race import HEAT_ROUNDS, UNSTEADY, Race
from anatune.measure.replay import ReplayRunner
from anatune.measure.track import BATCH_S

FAILURES = [o for o in Outcome if o not in (*MEASURED, Outcome.SKIPPED)]


def outcomes(measurements: list[Measurement]) -> list[Outcome]:
    return [m.outcome for m in measurements]


def counts(runner) -> list[int]:
    """Samples of each plan, those of its warm-up included."""
    return [runner.asked.count(plan) for plan in PLANS]


class Failing(ReplayRunner):
    """Fails in the sample of a plan that has had so many."""

    def __init__(self, recorded, fails: dict, error: BaseException) -> None:
        super().__init__(recorded)
        self._fails, self._error = fails, error

    def sample(self, entry, calls):
        if self.asked.count(entry.plan) == self._fails.get(entry.plan):
            raise self._error
        return super().sample(entry, calls)


def failing(fails: dict, *seconds: float, error: BaseException | None = None) -> Failing:
    answers = dict(zip(PLANS, [(s,) for s in seconds]))
    return Failing(answers, fails, error or WorkerError("it is gone"))


IN_HEATS, IN_FINAL = 3, 8
"""Samples of a plan after which it is in its second round, and in the final."""


def test_the_models_pick_runs_first_and_rounds_go_to_and_fro():
    runner = recorded(5 * MS, 5 * MS, 5 * MS)
    run(runner, 3)
    a, b, c = PLANS[:3]
    first, rest = runner.asked[:-6], runner.asked[-6:]
    assert list(dict.fromkeys(first)) == [a, b, c] and first == sorted(first, key=PLANS.index)
    assert rest == [c, b, a, a, b, c]


def test_the_fastest_wins():
    race, found = run(recorded(30 * MS, 10 * MS, 20 * MS), 3)
    assert place(race.best) == 1 and place(race.finish()) == 1
    assert outcomes(found) == [Outcome.OK] * 3
    assert found[1].timing.median_s == 10 * MS


@pytest.mark.parametrize("outcome", FAILURES)
def test_failures_are_kept_and_passed_over(outcome):
    failure = Measurement(outcome, note="so it went")
    race, found = run(recorded(failure, 20 * MS, failure), 3)
    assert found[0] == found[2] == failure
    assert place(race.finish()) == 1
    assert [m for _, m in race.measured][0] == failure


@pytest.mark.parametrize("after", (0, 2, IN_HEATS, IN_FINAL))
def test_a_worker_that_fails_in_the_middle_costs_its_plan_only(after):
    race, _ = run(failing({PLANS[0]: after}, 10 * MS, 10.2 * MS, 12 * MS), 3)
    assert place(race.finish()) == 1
    assert dict(race.measured)[ENTRIES[0]] == Measurement(Outcome.RUN_ERROR, note="it is gone")
    assert outcomes([m for _, m in race.measured][1:]) == [Outcome.OK] * 2


def test_where_all_finalists_fail_the_next_best_has_its_turn():
    runner = failing({PLANS[0]: IN_FINAL, PLANS[1]: IN_FINAL}, 10 * MS, 10 * MS, 15 * MS)
    race, _ = run(runner, 3)
    assert place(race.finish()) == 2
    assert outcomes([m for _, m in race.measured][:2]) == [Outcome.RUN_ERROR] * 2


def test_without_candidates_there_is_no_winner():
    race = race_on(recorded())
    assert race.best is None and race.finish() is None and race.measure([]) == []


def test_where_all_fail_there_is_no_winner():
    failure = Measurement(Outcome.COMPILE_ERROR, note="no")
    race, _ = run(recorded(failure, failure), 2)
    assert race.best is None and race.finish() is None


def test_a_single_candidate_needs_no_final():
    runner = recorded(20 * MS, 30 * MS)
    race, _ = run(runner, 2)
    heats = counts(runner)
    assert place(race.finish()) == 0
    assert counts(runner) == heats


NOISY = tuple(x * MS for x in (20.0, 20.4, 19.6, 20.2, 19.8))


def test_ties_within_the_noise_go_to_the_model():
    assert place(run(recorded(20.1 * MS, NOISY), 2)[0].finish()) == 0
    assert place(run(recorded(NOISY, 20.1 * MS), 2)[0].finish()) == 0
    assert place(run(recorded(20.9 * MS, 20.0 * MS), 2)[0].finish()) == 1
    assert place(run(recorded(*[20 * MS] * 5), 5)[0].finish()) == 0


def test_the_models_order_is_that_of_its_predictions_whoever_came_first():
    race = race_on(recorded(*[20 * MS] * 3))
    unknown = Entry(PLANS[0])
    race.measure([unknown, ENTRIES[2], ENTRIES[1]])
    assert race.finish() == ENTRIES[1]


def test_slow_ones_are_let_go_after_their_wave():
    runner = SimulatedRunner(dict(zip(PLANS, (20 * MS, 25 * MS, 20.2 * MS))))
    race, found = run(runner, 3)
    assert runner.gone == [PLANS[1]]
    assert len(found[1].timing.samples_s) == HEAT_ROUNDS  # and it stays in the table
    heats = counts(runner)
    assert place(race.finish()) == 0
    grown = [after > before for after, before in zip(counts(runner), heats)]
    assert grown[:3] == [True, False, True]


def test_hopeless_ones_have_one_sample_or_two():
    race, found = run(recorded(10 * MS, 30 * MS, 16 * MS, 12 * MS), 4)
    assert [len(m.timing.samples_s) for m in found] == [HEAT_ROUNDS, 1, 2, HEAT_ROUNDS]
    assert outcomes(found) == [Outcome.OK] * 4


def test_no_more_finalists_than_said():
    runner = recorded(*[20 * MS] * 8)
    race, _ = run(runner, 8)
    heats = counts(runner)
    race.finish()
    assert sum(a > b for a, b in zip(counts(runner), heats)) == module.FINALISTS


def test_short_kernels_are_timed_in_batches():
    calls = []

    class Noting(ReplayRunner):
        def sample(self, entry, count):
            calls.append(count)
            return super().sample(entry, count)

    run(Noting({PLANS[0]: (BATCH_S / 8,)}), 1)
    assert set(calls) == {8}


def test_a_call_that_takes_no_time_ends_the_race_all_the_same():
    assert place(run(recorded(0.0, 0.0), 2)[0].finish()) == 0


def test_a_budget_of_candidates():
    race, found = run(recorded(*[20 * MS] * 5), 5, Budget(candidates=2))
    assert outcomes(found) == [Outcome.OK] * 2 + [Outcome.SKIPPED] * 3
    assert found[-1].note == "outside the budget"
    assert race.over and race.left == 0 and len(race.measured) == 2


@given(st.floats(0.001, 1000), st.integers(1, 12))
def test_however_short_the_time_the_models_pick_is_measured(step, count):
    ticks = itertools.count(0.0, step)
    race = Race(recorded(*[20 * MS] * count), Budget(12, 0.001), clock=lambda: next(ticks))
    assert not race.over
    found = race.measure(ENTRIES[:count])
    assert found[0].timing is not None and race.over
    assert race.finish() is not None


@pytest.mark.parametrize("count", (1, 6, 24))
@pytest.mark.parametrize("seconds", (0.01, 1.0, 3.0))
def test_a_budget_of_time_is_kept_to_within_a_round(count, seconds):
    runner = SimulatedRunner(dict.fromkeys(PLANS, 20 * MS), build_s=0.2)
    budget = Budget(candidates=24, seconds=seconds)
    race, found = run(runner, count, budget)
    race.finish()
    built = len(runner.prepared)
    assert runner.prepared == PLANS[:built]
    measured = outcomes(found).count(Outcome.OK)
    assert 1 <= measured <= built
    assert outcomes(found) == [Outcome.OK] * measured + [Outcome.SKIPPED] * (count - measured)
    first = 0.2 + 6 * 20 * MS  # one is built and timed whatever the budget
    last_round = 2 * module.FINALISTS * 20 * MS
    assert runner.now <= max(seconds, first) + 0.2 + last_round


def test_a_late_wave_stops_at_once():
    runner = SimulatedRunner(dict.fromkeys(PLANS, 20 * MS), build_s=1.0)
    race = race_on(runner, Budget(candidates=24, seconds=2.0))
    race.measure(ENTRIES[:2])
    assert race.over
    race.measure(ENTRIES[2:8])
    assert len(runner.prepared) <= 3


def test_a_late_wave_of_failures_stops_too_where_something_works():
    class Broken(SimulatedRunner):
        def prepare(self, entries):
            for entry, found in super().prepare(entries):
                fails = entry.plan in PLANS[2:]
                yield entry, Measurement(Outcome.COMPILE_ERROR, note="no") if fails else found

    runner = Broken(dict.fromkeys(PLANS, 20 * MS), build_s=1.0)
    race = race_on(runner, Budget(candidates=24, seconds=4.0))
    race.measure(ENTRIES[:2])
    race.measure(ENTRIES[2:12])
    assert 3 <= len(runner.prepared) <= 5
    alone = race_on(runner, Budget(candidates=24, seconds=0.5))
    alone.measure(ENTRIES[4:8])
    assert len(alone.measured) == 4


def test_disturbed_rounds_of_the_final_do_not_count():
    """Whoever disturbs meets the better one, each time, until he is gone."""

    class Pursued(SimulatedRunner):
        left, slow = 0, 1.0

        def sample(self, entry, calls):
            if entry.plan == PLANS[0] and self.left:
                self.left, self.slow = self.left - 1, 1.2
            return super().sample(entry, calls)

        def pace(self, entry, calls):
            seconds = super().pace(entry, calls)
            self.slow = 1.0
            return seconds

        def _work(self, seconds):
            return super()._work(seconds * self.slow)

    runner = Pursued(dict(zip(PLANS, (10 * MS, 10.5 * MS))))
    race, _ = run(runner, 2)
    runner.left = module.MEND_ROUNDS
    assert place(race.finish()) == 0
    assert runner.left == 0


SAMPLES = st.lists(st.floats(1e-4, 1.0), min_size=1, max_size=5).map(tuple)
ANSWERS = SAMPLES | st.sampled_from(FAILURES).map(lambda o: Measurement(o, note="failed"))


@given(
    st.lists(ANSWERS, min_size=1, max_size=12), st.integers(1, 12), st.floats(0, 5),
    st.integers(1, 12),
)  # fmt: skip
def test_whatever_happens_there_is_one_measurement_each(answers, candidates, seconds, wave):
    race = race_on(recorded(*answers), Budget(candidates, seconds))
    entries = ENTRIES[: len(answers)]
    waves = [entries[i : i + wave] for i in range(0, len(entries), wave)]
    found = [m for part in waves for m in race.measure(part)]
    assert len(found) == len(answers)
    for answer, result in zip(answers, found):
        if result.outcome in MEASURED:
            assert set(result.timing.samples_s) <= set(answer)
        else:
            assert result.timing is None and result.note
            assert result == answer or result.outcome is Outcome.SKIPPED
    winner = race.finish()
    assert len(race.measured) <= candidates
    measured = [entry for entry, m in race.measured if m.timing is not None]
    assert (winner in measured) if measured else winner is None


def test_what_was_measured_is_not_measured_again():
    runner = recorded(10 * MS, 20 * MS)
    race, found = run(runner, 2)
    before = counts(runner)
    assert race.measure([ENTRIES[1], ENTRIES[0], ENTRIES[1]]) == [found[1], found[0], found[1]]
    assert counts(runner) == before


def test_winner_by_another_cost():
    joules = dict(zip(ENTRIES, (2.0, 1.0, 1.01)))
    race, _ = run(recorded(20 * MS, 20.5 * MS, 20.5 * MS), 3)
    assert place(race.finish(lambda entry, seconds: seconds * joules[entry])) == 1
    assert place(race.finish()) == 0


def test_times_that_differ_by_themselves_are_flagged():
    assert not Timing((1.0, 1.01, 0.99)).unstable and Timing((1.0, 2.0, 3.0)).unstable
    assert Timing((2.0, 1.0, 9.0)).median_s == 2.0 and Timing((2.0, 1.0, 9.0)).best_s == 1.0
    assert Timing((2.0, 1.0, 9.0)).spread_s == 1.0 and Timing((3.0,)).spread_s == 0.0
    swinging = tuple(x * MS for x in (10.0, 13.0, 16.0))
    _, found = run(recorded(12 * MS, swinging), 2)
    assert outcomes(found) == [Outcome.OK, Outcome.UNSTABLE]
    assert [m.note for m in found] == ["", UNSTEADY]


def test_the_best_of_the_first_wave_meets_that_of_the_third_in_the_final():
    times = [10 * MS, 14 * MS, 15 * MS, 16 * MS, 10.05 * MS, 17 * MS]
    runner = SimulatedRunner(dict(zip(PLANS, times)))
    race = race_on(runner)
    for first in (0, 2, 4):
        race.measure(ENTRIES[first : first + 2])
    heats = counts(runner)
    assert runner.prepared == PLANS[:6] and set(runner.gone) == {PLANS[i] for i in (1, 2, 3, 5)}
    assert place(race.finish()) == 0
    assert [i for i, (a, b) in enumerate(zip(counts(runner), heats)) if a > b] == [0, 4]
    assert runner.prepared == PLANS[:6]


def seen(*seconds: float) -> list[tuple[Entry, Measurement]]:
    found = [Measurement(Outcome.OK, Timing((s,) * HEAT_ROUNDS)) for s in seconds]
    return list(zip(ENTRIES, found))


def test_a_resumed_pass_goes_on_where_it_stopped():
    runner = SimulatedRunner(dict(zip(PLANS, (10 * MS, 15 * MS, 10.5 * MS))), build_s=0.1)
    failure = Measurement(Outcome.TIMEOUT, note="it hung")
    before = [*seen(10 * MS, 15 * MS), (ENTRIES[5], failure)]
    race = race_on(runner, Budget(4, 10.0), seen=before, spent_s=7.0)
    assert race.spent_s == 7.0 and race.left == 1 and not race.over
    found = race.measure(ENTRIES[:4])
    assert found[:2] == [m for _, m in before[:2]] and found[3].outcome is Outcome.SKIPPED
    assert runner.prepared == [PLANS[2]]
    assert place(race.finish()) == 0
    assert runner.prepared == [PLANS[2], PLANS[0]]  # whoever runs in the final is built again
    assert dict(race.measured)[ENTRIES[5]] == failure


def test_the_best_of_a_spent_pass_is_found_though_no_time_is_left():
    runner = SimulatedRunner(dict(zip(PLANS, (10.4 * MS, 10 * MS))), build_s=0.1)
    race = race_on(runner, Budget(8, 1.0), seen=seen(10.4 * MS, 10 * MS), spent_s=1.0)
    assert race.over
    assert place(race.finish()) == 1


def test_old_times_of_a_faster_machine_do_not_keep_new_ones_from_the_final():
    """The clock has fallen since: what is now best looks slower than all that ran before."""
    times = (11.5 * MS, 11.6 * MS, 11.7 * MS, 11.8 * MS, 10.8 * MS)
    runner = SimulatedRunner(dict(zip(PLANS, times)))
    race = race_on(runner, seen=seen(*(s / 1.15 for s in times[:4])))
    race.measure([ENTRIES[4]])
    assert place(race.finish()) == 4


def test_a_plan_that_worked_before_and_fails_now_makes_room():
    failure = Measurement(Outcome.COMPILE_ERROR, note="no compiler any more")
    race = race_on(recorded(failure, 12 * MS), seen=seen(10 * MS, 12 * MS))
    assert place(race.finish()) == 1
    assert dict(race.measured)[ENTRIES[0]] == failure


class Journal:
    """What a race told of each candidate, in order."""

    def __init__(self, asked=()) -> None:
        self.told: list[tuple[Entry, Measurement]] = []
        self.samples_before: list[int] = []
        self._asked = asked

    def __call__(self, entry: Entry, measurement: Measurement) -> None:
        self.told.append((entry, measurement))
        self.samples_before.append(len(self._asked))


def test_the_journal_has_each_once_and_finalists_twice():
    failure = Measurement(Outcome.COMPILE_ERROR, note="no")
    runner = recorded(10 * MS, 15 * MS, failure, 10.1 * MS)
    journal = Journal(runner.asked)
    race, _ = run(runner, 4, journal=journal)
    assert journal.told[0] == (ENTRIES[2], failure) and journal.samples_before[0] == 0
    assert sorted(place(e) for e, _ in journal.told) == [0, 1, 2, 3]
    race.finish()
    assert sorted(place(e) for e, _ in journal.told[4:]) == [0, 3]
    assert dict(journal.told) == dict(race.measured)


@pytest.mark.parametrize("after", (0, 2, IN_HEATS))
def test_an_interruption_in_the_heats_keeps_all_that_was_measured(after):
    runner = failing({PLANS[1]: after}, *[10 * MS] * 3, error=KeyboardInterrupt())
    journal = Journal()
    race = race_on(runner, journal=journal)
    with pytest.raises(KeyboardInterrupt):
        race.measure(ENTRIES[:3])
    timed = 1 if after < IN_HEATS else 3
    assert [place(entry) for entry, _ in journal.told] == list(range(timed))
    assert all(m.timing.samples_s for _, m in journal.told)
    assert place(race.best) == 0 and dict(race.measured) == dict(journal.told)


def test_an_interruption_in_the_final_keeps_its_samples():
    runner = failing({PLANS[1]: IN_FINAL}, 10 * MS, 10.3 * MS, error=KeyboardInterrupt())
    journal = Journal()
    race, found = run(runner, 2, journal=journal)
    with pytest.raises(KeyboardInterrupt):
        race.finish()
    for entry, before in zip(ENTRIES, found):
        last = dict(journal.told)[entry].timing
        assert len(last.samples_s) > len(before.timing.samples_s)


def test_the_machine_is_held_whenever_something_is_compiled_or_timed():
    held: list[bool] = []

    @contextmanager
    def alone():
        held.append(True)
        yield
        held.pop()

    class Watched(SimulatedRunner):
        def _work(self, seconds):
            assert len(held) == 1
            return super()._work(seconds)

    race, _ = run(Watched(dict.fromkeys(PLANS, 10 * MS), build_s=0.1), 4, alone=alone)
    assert race.finish() is not None and not held


def test_the_reference_may_die():
    """Its plan counts as failed; what was measured beside it is measured again."""

    class Mortal(SimulatedRunner):
        paces = 0

        def pace(self, entry, calls):
            self.paces += 1
            if self.paces == 5:
                raise WorkerError("it is gone")
            return super().pace(entry, calls)

    race, found = run(Mortal(dict(zip(PLANS, (9 * MS, 11 * MS, 10 * MS, 12 * MS)))), 4)
    assert found[0] == Measurement(Outcome.RUN_ERROR, note="it is gone")
    assert outcomes(found[1:]) == [Outcome.OK] * 3
    assert all(len(m.timing.samples_s) >= HEAT_ROUNDS for m in found[1:])
    assert place(race.finish()) == 2


def test_the_progress_line_says_what_is_done_what_is_best_and_what_is_left():
    lines: list[str] = []
    runner = SimulatedRunner(dict(zip(PLANS, (10 * MS, 10.1 * MS))), build_s=0.5)
    race, _ = run(runner, 2, Budget(8, 10.0), tell=lines.append, least_s=8 * MS)
    assert lines[:2] == ["checked 1 of 2, 9.5 s left", "checked 2 of 2, 9.0 s left"]
    assert lines[2] == "timing 2, round 1, 9.0 s left"
    del lines[:]
    race.finish()
    head, _, best, gain, _ = lines[0].split(", ")
    assert head == "final between 2" and best == "best 10 ms"
    assert gain == "at most 20% to gain"
    times = [float(line.split(", ")[-1].removesuffix(" s left")) for line in lines]
    assert times == sorted(times, reverse=True) and times[0] < 9.0


def test_without_a_limit_or_a_bound_the_progress_line_leaves_them_out():
    lines: list[str] = []
    race, _ = run(recorded(10 * MS, 10 * MS), 2, ALL, tell=lines.append)
    race.finish()
    assert lines[0] == "checked 1 of 2"
    assert lines[-1].startswith("final between 2, round ") and lines[-1].endswith(", best 10 ms")
