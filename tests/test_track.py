"""Samples beside a reference: warm-up apart, disturbed ones told from both sides, bounded waits."""

from __future__ import annotations

import pytest
from race_samples import ENTRIES, MS, PLANS
from simulated_machine import SimulatedRunner

from anatune.errors import WorkerError
from anatune.measure.outcome import Outcome
from anatune.measure.track import BATCH_S, CALM_PATIENCE_S, LONG_S, WARM_UPS, Track

KERNEL_S = 0.2 * MS
FOREVER = 1e9
A, B, C = ENTRIES[:3]


class Warming(SimulatedRunner):
    """Batches of a plan take these factors, then its true time."""

    def __init__(self, seconds, factors) -> None:
        super().__init__(seconds)
        self._factors = list(factors)

    def sample(self, entry, calls):
        factor = self._factors.pop(0) if self._factors else 1.0
        return factor * super().sample(entry, calls)


def track_of(runner, count: int = 3) -> Track:
    track = Track(runner, runner.clock, runner.rest)
    for entry in ENTRIES[:count]:
        track.enter(entry, 0.1)
    return track


def steady(slowdown=lambda now: 1.0, seconds: float = KERNEL_S) -> SimulatedRunner:
    return SimulatedRunner(dict.fromkeys(PLANS, seconds), slowdown)


def test_warm_up_is_seen_and_kept_apart():
    runner = Warming(dict.fromkeys(PLANS, KERNEL_S), [3.0, 2.0, 1.2, 1.01])
    track = track_of(runner, 1)
    track.lap([A])
    timing = track.timing(A)
    factors = [seconds / KERNEL_S for seconds in timing.warm_up_s]
    assert factors == pytest.approx([3.0, 2.0, 1.2, 1.01, 1.0])
    assert timing.samples_s == pytest.approx((KERNEL_S,))


def test_a_kernel_that_is_warm_at_once_has_two_batches_of_warm_up():
    track = track_of(steady(), 1)
    track.lap([A])
    track.lap([A])
    timing = track.timing(A)
    assert (len(timing.warm_up_s), len(timing.samples_s)) == (2, 2)


def test_warming_up_ends():
    runner = Warming(dict.fromkeys(PLANS, KERNEL_S), [0.9**n for n in range(50)])
    track = track_of(runner, 1)
    track.lap([A])
    assert len(track.timing(A).warm_up_s) == WARM_UPS


def test_long_kernels_warm_up_while_they_are_calibrated():
    runner = steady(seconds=2 * LONG_S)
    track = track_of(runner, 1)
    track.lap([A])
    assert track.timing(A).warm_up_s == ()
    assert runner.now == pytest.approx(4 * 2 * LONG_S)  # calibrated, and between two references


def test_a_batch_has_as_many_calls_as_fit():
    track = track_of(steady(), 1)
    track.lap([A])
    assert track._racers[A].calls == round(BATCH_S / KERNEL_S)


def test_on_a_quiet_machine_every_sample_is_calm():
    track = track_of(steady())
    for _ in range(4):
        track.lap([A, B, C])
    for entry in (A, B, C):
        timing = track.timing(entry)
        assert len(timing.calm_s) == len(timing.samples_s) == len(timing.references_s) == 4
        assert timing.quiet_s == pytest.approx(KERNEL_S) and not timing.disturbed


class Switched:
    """Others come when they are told to."""

    def __init__(self) -> None:
        self.factor = 1.0

    def __call__(self, now: float) -> float:
        return self.factor


class ByTurn(SimulatedRunner):
    """Others come and go before the n-th batch of all, the references' included."""

    def __init__(self, turns: dict[int, float]) -> None:
        self._switch, self._turns, self._count = Switched(), turns, 0
        super().__init__(dict.fromkeys(PLANS, KERNEL_S), self._switch)

    def _parts(self, entry, calls, place):
        self._switch.factor = self._turns.get(self._count, self._switch.factor)
        self._count += 1
        return super()._parts(entry, calls, place)


WARMED = 3 * 4
"""Batches of the first lap of three: two of warm-up, a reference and a sample each; then one more
reference."""


def test_a_sample_is_disturbed_where_the_reference_before_or_after_it_was():
    """Second lap, batch by batch: A, B, C, and the reference; only that last one is slowed."""
    track = track_of(ByTurn({WARMED + 1 + 3: 1.8, WARMED + 1 + 4: 1.0}))
    track.lap([A, B, C])
    track.lap([A, B, C])
    for entry in (A, B, C):
        assert track.timing(entry).references_s[1] == pytest.approx(1.8 * KERNEL_S)
        assert len(track.timing(entry).calm_s) == 1
    track.lap([A])  # the reference before it was disturbed, the one after it was not
    assert len(track.timing(A).calm_s) == 1
    track.lap([A])
    assert len(track.timing(A).calm_s) == 2


def test_the_latest_sample_is_judged_alone():
    track = track_of(ByTurn({WARMED + 1: 1.8}))
    track.lap([A, B, C])
    assert track.latest(A).calm_s
    track.lap([A, B, C])
    assert track.latest(A).samples_s == pytest.approx((1.8 * KERNEL_S,))
    assert not track.latest(A).calm_s


def test_samples_of_another_clock_are_not_calm_and_are_scaled_to_that_of_now():
    switch = Switched()
    track = track_of(steady(switch))
    for _ in range(3):
        track.lap([A, B, C])
    track.leave(C)
    switch.factor = 1.1
    for _ in range(30):
        track.await_calm(FOREVER)
        track.lap([A])
    assert len(track.timing(A).calm_s) >= 10
    for entry in (A, B, C):
        assert track.timing(entry).median_s == pytest.approx(1.1 * KERNEL_S)
    assert track.timing(B).calm_s == track.timing(C).calm_s == ()


def test_calm_is_awaited_until_it_comes():
    switch = Switched()
    runner = steady(lambda now: 1.8 if 1.0 < now < 1.5 else switch(now))
    track = track_of(runner, 1)
    track.lap([A])
    assert track.await_calm(FOREVER)
    runner.now = 1.1
    track.lap([A])
    assert track.await_calm(FOREVER) and 1.5 <= runner.now < 1.6


def test_waits_are_bounded_all_together():
    """Others take ever more of the machine."""
    runner = steady(lambda now: 1.0 if now < 0.2 else 1.8 * 1.5 ** (now - 0.2))
    track = track_of(runner, 1)
    while runner.now < 0.3:
        track.lap([A])
    start = runner.now
    for _ in range(30):
        assert not track.await_calm(runner.now + 0.3)
    assert CALM_PATIENCE_S <= runner.now - start < CALM_PATIENCE_S + 0.3


def test_a_load_that_stays_is_the_machine_as_it_is():
    switch = Switched()
    runner = steady(switch)
    track = track_of(runner, 1)
    for _ in range(100):
        track.lap([A])
    switch.factor = 1.8
    track.lap([A])
    assert track.await_calm(FOREVER)
    track.lap([A])
    assert track.latest(A).calm_s


def test_nobody_waits_beyond_the_time():
    switch = Switched()
    runner = steady(switch)
    track = track_of(runner, 1)
    track.lap([A])
    switch.factor = 17.0
    track._look()
    start = runner.now
    assert not track.await_calm(start + 0.3)
    assert 0.3 <= runner.now - start < 0.5


def test_a_lap_ends_with_the_time_but_not_before_somebody_ran():
    track = track_of(steady())
    track.lap([A, B, C], until=-1.0)
    assert track.timing(A) is not None and track.timing(B) is None
    track.lap([B, C], until=-1.0)
    assert track.timing(B) is None


class Mortal(SimulatedRunner):
    """Its reference dies as often as told."""

    def __init__(self, deaths: int) -> None:
        super().__init__(dict.fromkeys(PLANS, KERNEL_S))
        self._deaths = deaths

    def pace(self, entry, calls):
        if self._deaths and self.now > 0.06:
            self._deaths -= 1
            raise WorkerError("it is gone")
        return super().pace(entry, calls)


@pytest.mark.parametrize("deaths", (1, 2, 3))
def test_samples_beside_a_reference_that_died_are_void(deaths):
    track = track_of(Mortal(deaths))
    track.lap([A, B, C])
    for _ in range(8):
        track.lap([A, B, C])
    assert list(track.failed) == [A, B, C][:deaths]
    assert {m.outcome for m in track.failed.values()} == {Outcome.RUN_ERROR}
    assert track.timing(A) is None and A not in track
    for entry in (B, C)[deaths - 1 :]:
        timing = track.timing(entry)
        assert 0 < len(timing.samples_s) < 9 and timing.calm_s == timing.samples_s


def test_who_left_is_not_timed_and_its_process_may_end():
    runner = steady()
    track = track_of(runner)
    track.lap([A, B, C])
    before = track.timing(A)
    track.leave(A)
    track.leave(A)
    asked = len(runner.asked)
    track.lap([A])
    assert runner.gone == [PLANS[0]] and A not in track and len(runner.asked) == asked
    assert track.timing(A) == before


def test_in_renewed_laps_each_goes_on_elsewhere():
    renewed = []

    class Renewing(SimulatedRunner):
        def renew(self, entry):
            renewed.append(entry)
            super().renew(entry)

    track = Track(Renewing(dict.fromkeys(PLANS, KERNEL_S)))
    track.enter(A, 0.0)
    track.enter(B, 0.0)
    track.lap([A, B])
    assert renewed == []
    track.lap([B, A], renewed=True)
    assert renewed == [B, A]
