"""Candidates and passes for tests of the race: no device, a clock that the samples move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf

from sample_plans import plan

from anatune.measure.budget import Budget
from anatune.measure.entry import Entry
from anatune.measure.outcome import Measurement
from anatune.measure.race import Race
from anatune.measure.replay import ReplayRunner
from anatune.plan import Estimate, Plan

MS = 1e-3
BASE = plan(64, 64, 64, 4, 16, 8)
PLANS: list[Plan] = [replace(BASE, blocks=replace(BASE.blocks, kc=kc)) for kc in range(1, 25)]


def estimate(seconds: float) -> Estimate:
    return Estimate(
        seconds=seconds, cycles=1e6, peak_fraction=0.5, joules=1.0, terms=(("loads", 1e6),),
        bytes_moved=(),
    )  # fmt: skip


ENTRIES = [Entry(p, estimate(n * MS)) for n, p in enumerate(PLANS, 1)]
"""In the model's order."""

ALL = Budget(candidates=len(PLANS), seconds=inf)


def recorded(*answers: float | Sequence[float] | Measurement) -> ReplayRunner:
    """Answers for the first plans: seconds, several, or how it failed."""
    as_series = [(a,) if isinstance(a, float) else a for a in answers]
    return ReplayRunner(dict(zip(PLANS, as_series)))


def race_on(runner, budget: Budget = ALL, **options) -> Race:
    """A race whose time is the runner's."""
    return Race(runner, budget, clock=runner.clock, rest=runner.rest, **options)


def run(runner, count: int, budget: Budget = ALL, **options) -> tuple[Race, list[Measurement]]:
    """The first plans in one wave."""
    race = race_on(runner, budget, **options)
    return race, race.measure(ENTRIES[:count])


def place(winner: Entry | None) -> int | None:
    return None if winner is None else ENTRIES.index(winner)
