"""What was measured so far, and what it says of the plans that were not (rank 7.5)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from anatune.hwprofile.profile import Profile
from anatune.measure.entry import Entry
from anatune.measure.outcome import MEASURED, Measurement, Outcome
from anatune.model.candidates import Ranked, measured_cost
from anatune.model.estimate import predict
from anatune.plan import GemmPlan
from anatune.search.correction import Correction, Observation
from anatune.search.failures import Failures
from anatune.search.features import Array, Table
from anatune.search.gain import NO_DOUBT
from anatune.search.measurer import Measurer
from anatune.search.space import Space


class Past:
    """The corrected model, and the plans that it learnt from.

    Costs are logarithms of the objective, so that a difference of 0.01 is a percent.

    Attributes:
        timed: plans that have a time, cheapest first.
        best: cost of the best of them, as corrected: one lucky sample does not set it.
        correction: what their times say of the model.
    """

    def __init__(self, race: Measurer, space: Space) -> None:
        self._objective = space.objective
        observed, failed = told_apart(race.measured, space.profile)
        observed.sort(key=lambda o: measured_cost(o.plan, o.seconds, space.objective))
        self.timed = [o.plan for o in observed]
        self.correction = Correction(observed)
        self._failures = Failures(self.timed, failed)
        known = self.timed or space.ranked[:1]
        self.best = float(self.costs(known, Table.of(known))[0].min())

    def costs(self, ranked: Sequence[Ranked], table: Table) -> tuple[Array, Array]:
        """Corrected costs of plans, and their standard deviations."""
        off_by, sd = self.correction.mean_and_sd(table)
        seconds = table.seconds * np.exp(off_by)
        costs = self._costs(ranked, seconds)
        return costs, self._costs(ranked, seconds * np.exp(sd)) - costs

    def covariance(self, table: Table, sd: Array) -> Array:
        """Between the costs of plans whose standard deviations are ``sd``.

        Seconds vary together, costs with them: energy, part of which is spent anyway, varies less.
        """
        of_seconds = self.correction.covariance(table)
        stretch = sd / np.sqrt(np.maximum(np.diag(of_seconds), NO_DOUBT**2))
        return of_seconds * np.outer(stretch, stretch)

    def chances(self, table: Table) -> Array:
        """How likely each plan is to give a time at all."""
        return self._failures.chance_of_success(table)

    def _costs(self, ranked: Sequence[Ranked], seconds: Array) -> Array:
        pairs = zip(ranked, seconds.tolist())
        return np.log([measured_cost(plan, s, self._objective) for plan, s in pairs])


def told_apart(
    measured: Iterable[tuple[Entry, Measurement]], profile: Profile
) -> tuple[list[Observation], list[tuple[Ranked, Outcome]]]:
    """Plans that have a time, and plans that failed with how; other engines' plans are left out.

    The model has no terms for those. Estimates are made anew: a record's terms may be those of
    another version of the model.
    """
    observed: list[Observation] = []
    failed: list[tuple[Ranked, Outcome]] = []
    for entry, m in measured:
        if not isinstance(entry.plan, GemmPlan) or m.outcome is Outcome.SKIPPED:
            continue
        plan = (entry.plan, predict(profile, entry.plan))
        if m.outcome not in MEASURED:
            failed.append((plan, m.outcome))
        elif m.timing is not None:
            noise = m.timing.spread_s / m.timing.median_s
            observed.append(Observation(plan, m.timing.median_s, noise))
    return observed, failed
