"""The wider search: it goes on from the model's ranking with what was measured so far (rank 7.5).

A generation corrects the model by the measurements, and proposes the plans from which it expects
most: of the model's space, and of what comes of mixing and changing the best plans. What it does
next follows from `Measurer.measured` and the seed alone, so that a run that was cut off goes on as
if it had not been.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from anatune.hwprofile.profile import Profile
from anatune.model import candidates as model
from anatune.model.candidates import Ranked
from anatune.model.estimate import predict
from anatune.plan import Plan
from anatune.search.correction import NOISE
from anatune.search.features import Array, Table
from anatune.search.gain import Together, expected_gain
from anatune.search.measurer import Measurer
from anatune.search.past import Past
from anatune.search.shortlist import WAVE, entries, known, unknown
from anatune.search.space import Space
from anatune.search.variation import varied
from anatune.workload import Matmul

Rows = NDArray[np.intp]

SEED = 2016
"""Of the random numbers: the same measurements lead to the same proposals."""

OPENED, OPENED_EACH = 2000, 100
"""Plans of the model's space that are looked at from the start, and for each one that was measured
more: looking at one takes 0.1 ms, measuring one a fraction of a second."""

ATTEMPTS = 128
"""Tries to make new plans out of the best ones in a generation: about 20 ms, of which half lead to
a plan that is legal and new."""

PARENTS = 8
"""Measured plans that new ones are made of: the best wave."""

NEW_SHARE = 0.25
"""Part of a wave that is kept for such plans, which the model's enumeration does not list."""

CLOSE_LOOK = 192
"""Plans that a wave is put together from, those with most to expect."""

GAIN = 0.001
"""Share of the best time that the most promising plan must be expected to save: a tenth of what two
timings of one kernel differ by."""

PATIENCE = 3
"""Generations in a row without such a plan after which the search ends: in each, new plans are made
and more of the space is looked at, which may find some."""


def search(
    race: Measurer,
    profile: Profile,
    workload: Matmul,
    threads: int | None,
    objective: str,
    *,
    seed: int = SEED,
) -> None:
    """Measure what is expected to gain most until the budget, or what it could gain, is spent."""
    space = Space(profile, workload, threads, objective)
    first = unknown(model.shortlist(space.ranked, WAVE), known(race))
    wave = list(islice(first, race.left))
    if wave and not race.over:
        race.measure(entries(wave, "model"))
    evolution = Evolution(race, space, seed)
    idle = 0
    while not race.over and idle < PATIENCE:
        wave, gain = evolution.wave(min(WAVE, race.left))
        if not wave:
            return
        idle = idle + 1 if gain < GAIN else 0
        race.measure(entries(wave, "evolve"))


class Evolution:
    """Proposes waves of plans."""

    def __init__(self, race: Measurer, space: Space, seed: int) -> None:
        self._race = race
        self._space = space
        self._seed = seed
        self._listed: list[Ranked] = []
        self._table = Table.of([])
        self._seen: set[Plan] = set()  # what is listed
        self._proposed: set[Plan] = set()  # whatever became of it, once is enough
        self._list(space.ranked)

    def wave(self, count: int) -> tuple[list[Ranked], float]:
        """At most ``count`` plans, and the share of the best time that one is expected to save.

        No plans where all were measured, and no new ones can be made.
        """
        taken = known(self._race) | self._proposed
        past = Past(self._race, self._space)
        rows = self._rows_left(taken)
        ranked = [self._listed[row] for row in rows]
        table, new = self._table.take(rows), self._new_plans(past, taken)
        is_new = np.repeat([False, True], [len(ranked), len(new)])
        ranked, table = ranked + new, table.joined(Table.of(new))
        if not ranked:
            return [], 0.0
        costs, sd = past.costs(ranked, table)
        chances = past.chances(table)
        gains = expected_gain(past.best, costs, sd) * chances
        close = _close_look(gains, is_new)
        together = Together(
            past.best, costs[close], past.covariance(table.take(close), sd[close]),
            chances[close], NOISE,
        )  # fmt: skip
        wave = [ranked[close[place]] for place in _places(together, is_new[close], count)]
        self._proposed |= {plan for plan, _ in wave}
        return wave, float(gains.max())

    def _rows_left(self, taken: set[Plan]) -> Rows:
        """Rows of plans that are listed and not taken, after more of the space was opened."""
        wanted = OPENED + OPENED_EACH * len(taken)
        while True:
            before = len(self._space.opened)
            self._space.open(wanted)
            self._list(self._space.opened[before:])
            rows = [row for row, (plan, _) in enumerate(self._listed) if plan not in taken]
            if rows or len(self._space.opened) == before:
                return np.array(rows, dtype=np.intp)
            wanted += OPENED

    def _list(self, ranked: Sequence[Ranked]) -> None:
        fresh = list(unknown(ranked, self._seen))
        self._listed += fresh
        self._table = self._table.joined(Table.of(fresh))

    def _new_plans(self, past: Past, taken: set[Plan]) -> list[Ranked]:
        """Plans that come of the best measured ones and are neither listed nor taken."""
        parents = [plan for plan, _ in past.timed[:PARENTS]]
        if not parents:
            return []
        rng = np.random.default_rng((self._seed, len(taken)))
        made = (varied(self._space, parents, rng) for _ in range(ATTEMPTS))
        fresh = dict.fromkeys(p for p in made if p and p not in taken and p not in self._seen)
        return [(plan, predict(self._space.profile, plan)) for plan in fresh]


def _close_look(gains: Array, is_new: NDArray[np.bool_]) -> Rows:
    """Places of the plans with most to gain, and of the same among new ones."""
    by_gain = np.argsort(-gains, kind="stable")
    new = by_gain[is_new[by_gain]]
    kept = round(NEW_SHARE * CLOSE_LOOK)
    return np.unique(np.concatenate([by_gain[: CLOSE_LOOK - kept], new[:kept]]))


def _places(together: Together, is_new: NDArray[np.bool_], count: int) -> Iterator[int]:
    """At most ``count`` picks, the last of them new plans while there are some."""
    kept_for_new = round(NEW_SHARE * count)
    for number in range(min(count, len(is_new))):
        new_left = is_new & together.left
        only_new = number >= count - kept_for_new and new_left.any()
        yield together.pick(new_left if only_new else together.left)
