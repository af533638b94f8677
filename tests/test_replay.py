"""Passes over again: from samples, from records; what was not recorded is said to be unknown."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from race_samples import ENTRIES, MS, PLANS, place, race_on, recorded
from record_samples import records

from anatune.hwprofile import load_profile
from anatune.measure.budget import Budget
from anatune.measure.entry import Entry
from anatune.measure.outcome import MEASURED, Measurement, Outcome, Timing
from anatune.measure.replay import UNKNOWN, ReplayRunner
from anatune.records import Origin, Pass, ProfileId, Store
from anatune.records.replay import replay_of

THIS = Pass(
    workload=PLANS[0].workload, profile=ProfileId.of(load_profile("zen4")), threads=1,
    origin=Origin.here(),
)  # fmt: skip


def test_samples_come_in_a_circle_and_move_the_clock():
    runner = recorded((1 * MS, 2 * MS), 5 * MS)
    a, b = ENTRIES[:2]
    assert [runner.sample(a, 10) for _ in range(3)] == [1 * MS, 2 * MS, 1 * MS]
    assert runner.sample(b, 1) == 5 * MS
    assert runner.asked == [a.plan] * 3 + [b.plan]
    assert runner.clock() == pytest.approx(0.045)
    runner.rest(1.0)
    assert runner.clock() == pytest.approx(1.045)
    assert runner.calibrate(a, 0.004) == 4


def test_what_was_not_recorded_is_unknown_and_nothing_else_suffers():
    failure = Measurement(Outcome.TIMEOUT, note="it hung")
    race = race_on(recorded(failure, 2 * MS))
    assert race.measure(ENTRIES[:3])[::2] == [failure, UNKNOWN]
    assert place(race.finish()) == 1


def timing(*samples: float, disturbed: int = 0) -> Timing:
    """With so many samples at the end that were disturbed, and took 1.8 times as long."""
    slow = (1.8 * samples[0],) * disturbed
    return Timing((*samples, *slow), (1.0,) * len(samples) + (1.8,) * disturbed, 1.0)


def test_a_store_is_replayed(tmp_path):
    """The pass comes to what the recorded one came to, and takes no device."""
    store = Store(tmp_path / "records.jsonl")
    failure = Measurement(Outcome.ILLEGAL, note="worker died: SIGILL")
    found = [
        Measurement(Outcome.OK, timing(12 * MS, 12.1 * MS, 12.2 * MS, disturbed=3)),
        failure,
        Measurement(Outcome.UNSTABLE, timing(10 * MS, 10.1 * MS, 10.2 * MS)),
    ]
    told = [THIS.measured(e, m, n) for n, (e, m) in enumerate(zip(ENTRIES, found), 1)]
    early = THIS.measured(ENTRIES[0], Measurement(Outcome.OK, Timing((1 * MS,))), 1)
    store.append([early, *told])
    runner = replay_of(store.all())
    race = race_on(runner, Budget(3))
    again = race.measure(ENTRIES[:3])
    assert [m.outcome for m in again] == [Outcome.OK, Outcome.ILLEGAL, Outcome.OK]
    assert again[1].note == failure.note
    assert set(again[0].timing.samples_s) <= {0.012, 0.0121, 0.0122}
    assert race.finish() == ENTRIES[2]


def test_records_that_cannot_be_read_and_kernels_that_were_not_timed_are_left_out():
    fine = THIS.measured(ENTRIES[0], Measurement(Outcome.OK, timing(1 * MS)), 1)
    of_later = replace(fine, plan_json='{"kind": "of a later version"}')
    untimed = THIS.measured(ENTRIES[1], Measurement(Outcome.OK), 2)
    runner = replay_of([of_later, untimed, fine])
    assert [m for _, m in runner.prepare(ENTRIES[:2])] == [Measurement(Outcome.OK), UNKNOWN]


@given(st.lists(records(), max_size=4))
def test_every_record_that_tells_something_is_answered(many):
    runner = replay_of(many)
    assert isinstance(runner, ReplayRunner)
    for entry, found in runner.prepare([Entry(record.plan) for record in many]):
        of_plan = [r for r in many if r.plan == entry.plan]
        if found.outcome is Outcome.OK:
            timings = [r.timing for r in of_plan if r.timing is not None]
            assert runner.sample(entry, 1) in {s for t in timings for s in t.judged_s}
        elif found is UNKNOWN:
            assert all(r.timing is None and r.outcome in MEASURED for r in of_plan)
        else:
            assert found in [r.measurement for r in of_plan]
