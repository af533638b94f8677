"""The measured pass: a few plans, in the model's order, timed side by side (rank 6)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from anatune.errors import WorkerError
from anatune.measure.budget import Budget
from anatune.measure.outcome import Measurement, Outcome, Timing
from anatune.measure.runner import Runner
from anatune.plan import GemmPlan

BATCH_S = 0.004
"""Length of a timed batch, seconds: over pyperf's limit of 1 ms, under which it warns."""

HEAT_ROUNDS = 3
"""Rounds in which every plan runs before the slow ones are let go."""

FINAL_ROUNDS = 9
"""Rounds after which the final ends."""

KEEP_WITHIN = 0.05
"""A plan slower than the best by more than this share is let go."""

FINALISTS = 3
"""Plans that run in the final."""

PREPARE_SHARE = 0.5
"""Share of the budget's seconds after which no further plan is built."""


@dataclass
class Racer:
    """A plan in the race."""

    rank: int
    plan: GemmPlan
    predicted_s: float
    calls: int = 0  # of a batch; 0 until calibrated
    samples: list[float] = field(default_factory=list)

    @property
    def timing(self) -> Timing:
        return Timing(tuple(self.samples))


def race(
    plans: Sequence[tuple[GemmPlan, float]],
    runner: Runner,
    budget: Budget,
    clock: Callable[[], float] = time.monotonic,
    progress: Callable[[str], None] = lambda text: None,
) -> list[Measurement]:
    """Measure ``plans``, pairs of a plan and its predicted seconds, in the model's order.

    Returns one Measurement per plan, in the same order; those that the budget did not reach are
    `Outcome.SKIPPED`. Rounds are interleaved, so that a drift of the machine meets all plans alike.
    """
    end = clock() + budget.seconds
    results = [Measurement(Outcome.SKIPPED, note="outside the budget")] * len(plans)
    racers: list[Racer] = []
    for rank, (plan, predicted_s) in enumerate(plans[: budget.candidates]):
        if rank and clock() > end - (1 - PREPARE_SHARE) * budget.seconds:
            break
        progress(f"checking {rank + 1} of {min(len(plans), budget.candidates)}")
        results[rank] = runner.prepare(plan, predicted_s)
        if results[rank].outcome is Outcome.OK:
            racers.append(Racer(rank, plan, predicted_s))
    for racer in _run(racers, runner, end, clock, progress, results):
        results[racer.rank] = Measurement(Outcome.OK, racer.timing)
    return results


def _run(
    racers: list[Racer],
    runner: Runner,
    end: float,
    clock: Callable[[], float],
    progress: Callable[[str], None],
    results: list[Measurement],
) -> list[Racer]:
    """Heats, then the final; racers whose worker failed are written to ``results`` and dropped."""
    finished: list[Racer] = []
    running = list(racers)
    for number in range(FINAL_ROUNDS):
        settled = number >= HEAT_ROUNDS and len(running) < 2
        if settled or (number and clock() > end):
            break
        progress(f"timing round {number + 1} of {FINAL_ROUNDS}, {len(running)} plans")
        for racer in list(running):
            try:
                _sample(racer, runner)
            except WorkerError as error:
                results[racer.rank] = Measurement(Outcome.RUN_ERROR, note=str(error))
                running.remove(racer)
        if number + 1 == HEAT_ROUNDS:
            kept = _finalists(running)
            finished += [r for r in running if r not in kept]
            running = kept
    return [r for r in finished + running if r.samples]


def _sample(racer: Racer, runner: Runner) -> None:
    if not racer.calls:
        racer.calls = runner.calibrate(racer.plan, BATCH_S, racer.predicted_s)
    racer.samples.append(runner.sample(racer.plan, racer.calls, racer.predicted_s))


def _finalists(running: list[Racer]) -> list[Racer]:
    by_time = sorted(running, key=lambda r: r.timing.best_s)
    limit = by_time[0].timing.best_s * (1 + KEEP_WITHIN) if by_time else 0.0
    return [r for r in by_time[:FINALISTS] if r.timing.best_s <= limit]


def winner(
    measurements: Sequence[Measurement],
    cost: Callable[[int, float], float] = lambda place, seconds: seconds,
) -> int | None:
    """Place of the best plan; a tie within the noise goes to the earlier one, the model's order.

    ``cost(place, seconds)`` is what is made small. Only plans that ran to the end are compared: the
    others were let go because they were slower.
    """
    timed = [(i, m.timing) for i, m in enumerate(measurements) if m.timing is not None]
    if not timed:
        return None
    rounds = max(len(t.samples_s) for _, t in timed)
    final = [(i, t) for i, t in timed if len(t.samples_s) == rounds]
    best, timing = min(final, key=lambda item: cost(item[0], item[1].median_s))
    limit = cost(best, timing.median_s + timing.spread_s)
    return next(i for i, t in final if cost(i, t.median_s) <= limit)
