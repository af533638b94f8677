"""What samples of one kernel say of the machine: quiet, calm, another clock; whom they tell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anatune.measure.outcome import CALM
from anatune.measure.reference import AGE_BATCHES, AGE_S, QUIET_SHARE, RECENT, Reference


def reference(*samples: float, batch_s: float = 0.004) -> Reference:
    first, *rest = samples
    made = Reference(first, batch_s)
    for seconds in rest:
        made.count(seconds)
    return made


SERIES = st.lists(st.floats(0.5, 20.0), min_size=1, max_size=3 * RECENT)


@given(SERIES)
def test_the_quiet_machine_is_among_the_fastest_of_late(samples):
    quiet_s = reference(*samples).quiet_s
    recent = samples[-RECENT:]
    assert quiet_s in recent
    assert sum(sample < quiet_s for sample in recent) <= QUIET_SHARE * len(recent)


@given(st.lists(st.floats(0.99, 1.01), min_size=RECENT, max_size=RECENT), st.data())
def test_disturbed_samples_do_not_move_it_while_some_are_quiet(samples, data):
    quiet = data.draw(st.sets(st.integers(0, RECENT - 1), min_size=RECENT // 5))
    seen = [s if i in quiet else 1.8 * s for i, s in enumerate(samples)]
    assert 0.99 <= reference(*seen).quiet_s <= 1.01


def test_another_clock_is_the_new_quiet_machine_after_a_while():
    both = [1.0] * 100 + [1.1] * RECENT
    assert reference(*both[:110]).quiet_s == 1.0
    assert reference(*both).quiet_s == 1.1
    assert reference(*both, 1.0).is_calm


@pytest.mark.parametrize(
    "last, calm", [(1.0, True), (0.9, True), (1 + 0.9 * CALM, True), (1 + 1.1 * CALM, False)]
)
def test_it_is_calm_where_the_last_sample_is_that_of_the_quiet_machine(last, calm):
    assert reference(*[1.0] * 20, last).is_calm is calm


def test_who_ran_since_the_last_sample_is_told_the_next_one_once():
    made, told = reference(1.0), []
    assert not made.is_awaited
    made.worked(0.001, told.append)
    made.worked(0.001, told.append)
    assert made.is_awaited and told == []
    made.count(1.5)
    assert told == [1.5, 1.5] and not made.is_awaited
    made.count(1.0)
    assert told == [1.5, 1.5]


@pytest.mark.parametrize("batch_s, age_s", [(0.004, AGE_S), (0.5, AGE_BATCHES * 0.5)])
def test_it_is_old_after_some_work_of_others(batch_s, age_s):
    made = reference(1.0, batch_s=batch_s)
    made.worked(0.9 * age_s, lambda seconds: None)
    assert not made.is_old
    made.worked(0.2 * age_s, lambda seconds: None)
    assert made.is_old
    made.count(1.0)
    assert not made.is_old
