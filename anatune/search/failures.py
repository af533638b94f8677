"""How likely a plan is to fail as plans near it did (rank 7.5)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from anatune.measure.outcome import Outcome
from anatune.model.candidates import Ranked
from anatune.search.correction import nearness
from anatune.search.features import Array, Table

BENEFIT = 1.0
"""Plans as near as can be that would have to fail before one is expected to fail as likely as not:
a single worker may be killed for reasons of its own."""


class Failures:
    """Plans that gave no time, by outcome, beside those that did."""

    def __init__(self, fine: Sequence[Ranked], failed: Sequence[tuple[Ranked, Outcome]]) -> None:
        self._fine = Table.of(fine)
        self._failed = Table.of([plan for plan, _ in failed])
        self._outcomes = np.array([outcome.value for _, outcome in failed], dtype=object)

    def chance_of_success(self, table: Table) -> Array:
        """1 where nothing near failed; the lower, the more plans near failed for one reason."""
        against = np.zeros(len(table))
        near = nearness(table, self._failed)
        for outcome in Counter(self._outcomes):
            against = np.maximum(against, near[:, self._outcomes == outcome].sum(axis=1))
        benefit = BENEFIT + nearness(table, self._fine).sum(axis=1)
        chance: Array = benefit / (benefit + against)
        return chance
