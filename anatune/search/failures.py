"""How likely a plan is to fail as plans near it did (rank 7.5)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from anatune.measure.outcome import Outcome
from anatune.model.candidates import Ranked
from anatune.search.features import Array, Table, squares_apart

BENEFIT = 1.0
"""Plans just like it that would have to fail before one is expected to fail as likely as not: a
single worker may be killed for reasons of its own."""

SHARPNESS = 2.0
"""What the square of a distance is taken times: failures, unlike times, end at a limit, so that a
plan at distance 1 is told a seventh of what one just like it is told."""


class Failures:
    """Plans that gave no time, by outcome, beside those that did."""

    def __init__(self, fine: Sequence[Ranked], failed: Sequence[tuple[Ranked, Outcome]]) -> None:
        self._fine = Table.of(fine)
        self._failed = [
            Table.of([plan for plan, how in failed if how is outcome])
            for outcome in dict.fromkeys(how for _, how in failed)
        ]

    def chance_of_success(self, table: Table) -> Array:
        """1 where nothing failed; the lower, the more plans that are like it failed for one reason.

        Like it in what tells most against it: its tile, its blocks, or one of its named choices.
        """
        chance = np.ones(len(table))
        for failed in self._failed:
            for near in (_near_in_tile, _near_in_blocks):
                of_fine, of_failed = near(table, self._fine), near(table, failed)
                chance = np.minimum(chance, _chance(of_fine, of_failed))
            of_choices = _chance(_made(self._fine).sum(axis=0), _made(failed).sum(axis=0))
            chance = np.minimum(chance, np.where(_made(table), of_choices, 1.0).min(axis=1))
        return chance


def _chance(fine: Array, failed: Array) -> Array:
    return (BENEFIT + fine) / (BENEFIT + fine + failed)


def _made(table: Table) -> NDArray[np.bool_]:
    """Which named choices each plan made."""
    made: NDArray[np.bool_] = table.ways > 0
    return made


def _near_in_tile(table: Table, others: Table) -> Array:
    return _near(table.tiles, others.tiles)


def _near_in_blocks(table: Table, others: Table) -> Array:
    return _near(table.blocks, others.blocks)


def _near(one: Array, other: Array) -> Array:
    """How many of the others each is like, those less like it counted less."""
    near: Array = np.exp(-SHARPNESS * squares_apart(one, other)).sum(axis=1)
    return near
