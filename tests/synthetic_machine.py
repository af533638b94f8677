"""A machine that is not what its profile says, and a race on it: no code, no clock."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import cache

import numpy as np

from anatune.hwprofile import Profile, load_profile
from anatune.measure.entry import Entry
from anatune.measure.outcome import Measurement, Outcome, Timing
from anatune.model.candidates import check_plan
from anatune.model.estimate import predict
from anatune.plan import Estimate, GemmPlan
from anatune.search.features import DATA, PORTS

OVERLAP = 3.0
"""Exponent with which this machine's ports overlap: not the model's."""

OF_TILE, OF_WAY, OF_PLAN = 0.05, 0.03, 0.015
"""Standard deviations of what the model has no term for: of a tile, of order and storages, of one
plan."""

NOISE = 0.01
SAMPLES = 5


class Synthetic:
    """True times: the model's terms distorted, effects that it knows nothing of, noise.

    ``seed`` draws the machine; the same seed has the same times.
    """

    def __init__(self, profile: str, seed: int, fails=lambda plan: None) -> None:
        self.profile: Profile = load_profile(profile)
        self.seed = seed
        self.fails = fails

    def seconds(self, plan: GemmPlan, estimate: Estimate | None = None) -> float:
        e = estimate or predict(self.profile, plan)
        terms = {name: cycles * self._factor(name, 0.35) for name, cycles in e.terms}
        ports = [terms.get(name, 0.0) for name in PORTS]
        data = sum(terms.get(name, 0.0) for name in DATA)
        added = sum(c for name, c in terms.items() if name not in (*PORTS, *DATA))
        loops = sum(c**OVERLAP for c in (*ports, data)) ** (1 / OVERLAP)
        resident = plan.order.in_registers
        unknown = (
            self._factor("everything", 0.3)
            * self._factor(("resident", resident), 0.1)
            * self._factor(("tile", plan.tile, resident), OF_TILE)
            * self._factor(("way", plan.order, plan.a, plan.b), OF_WAY)
            * self._factor(str(plan), OF_PLAN)
        )
        return (loops + added) * unknown * e.seconds / e.cycles

    def samples(self, plan: GemmPlan) -> tuple[float, ...]:
        noise = self._random(("noise", str(plan))).normal(0.0, NOISE, SAMPLES)
        return tuple(self.seconds(plan) * np.exp(noise))

    def measurement(self, plan: GemmPlan) -> Measurement:
        outcome = self.fails(plan)
        if outcome is not None:
            return Measurement(outcome, note="as drawn")
        return Measurement(Outcome.OK, Timing(self.samples(plan)))

    @cache
    def _factor(self, what: object, sd: float) -> float:
        return float(np.exp(self._random(what).normal(0.0, sd)))

    def _random(self, what: object) -> np.random.Generator:
        return np.random.default_rng((self.seed, zlib.crc32(repr(what).encode())))


class FakeRace:
    """What a search asks of a race; refuses what a search must not do."""

    def __init__(self, machine: Synthetic, budget: int, measured=()) -> None:
        self.machine = machine
        self.budget = budget
        self.measured: list[tuple[Entry, Measurement]] = list(measured)
        self.waves: list[Sequence[Entry]] = []

    @property
    def left(self) -> int:
        return self.budget - len(self.measured)

    @property
    def over(self) -> bool:
        return self.left <= 0

    def measure(self, entries: Sequence[Entry]) -> list[Measurement]:
        known = {entry.plan for entry, _ in self.measured}
        plans = [entry.plan for entry in entries]
        assert 0 < len(plans) <= self.left, "more than the budget"
        assert len(set(plans)) == len(plans) and not known & set(plans), "a plan twice"
        for plan in plans:
            check_plan(self.machine.profile, plan)
        found = [self.machine.measurement(plan) for plan in plans]
        self.measured += zip(entries, found)
        self.waves.append(entries)
        return found

    def best_s(self, count: int | None = None) -> float:
        """True seconds of the plan that looks best after ``count`` measurements."""
        timed = [(m.timing.median_s, e.plan) for e, m in self.measured[:count] if m.timing]
        return self.machine.seconds(min(timed, key=lambda item: item[0])[1])

    @property
    def plans(self) -> list[GemmPlan]:
        return [entry.plan for entry, _ in self.measured]
