"""Which of several choices serves which part of a range: exact, over sampled values (rank 4).

Nothing here knows what is chosen: a choice has a predicted cost at every sampled value of some
dims. First a set of choices is taken, as few as pay; then the range is cut, by a tree of cuts of
least total loss, so that one comparison after the other leads to the choice of a value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, product
from math import inf

from anatune.errors import require

Values = tuple[int, ...]
"""A value of each dim, in their order."""

WORST = 20.0
"""How much more a loss weighs for each part by which it is larger: a loss of 5 % counts twice. A
mean alone would pay for many good values with a few bad ones."""

CHOICE_PRICE = 0.003
"""Mean loss that a further choice must save whatever its size. This price and the others are our
weights for what is not predicted: time to compile, and a plan that can be read."""

SIZE_PRICE = 0.006
"""Mean loss that a choice of the mean size must save besides, others in proportion: its code is to
be built, stored and cached."""

CUT_PRICE = 3e-4
"""Mean loss that a further cut must save: a comparison takes a nanosecond of a call of ten
microseconds, and a range that is cut to pieces says less to its reader."""

MOST_EXACT = 10
"""Choices of which every set is tried; more are thinned out one by one first."""


@dataclass(frozen=True)
class Piece:
    """Sampled values from one to another, both included, by their places on the axes; a choice."""

    first: tuple[int, ...]
    last: tuple[int, ...]
    choice: int


@dataclass(frozen=True)
class Sampled:
    """Predicted costs at the points of a grid.

    Attributes:
        axes: values of each dim, ascending.
        weights: of each point, by its places; 1 is usual.
        costs: of each choice, by the places of a point; infinite where it does not serve.
    """

    axes: tuple[Values, ...]
    weights: Mapping[Values, float]
    costs: Sequence[Mapping[Values, float]]

    @property
    def points(self) -> list[Values]:
        """Places on the axes of all points."""
        return list(product(*(range(len(axis)) for axis in self.axes)))

    def losses(self) -> list[dict[Values, float]]:
        """Of each choice at each point: how much worse than the best there, weighed."""
        best = {p: min(cost[p] for cost in self.costs) for p in self.points}
        total = sum(self.weights.values())
        return [
            {p: self.weights[p] / total * _weighed(cost[p] / best[p] - 1) for p in self.points}
            for cost in self.costs
        ]


def choose(sampled: Sampled, sizes: Sequence[float], most: float = inf) -> tuple[int, ...]:
    """The set of choices of least mean loss, `CHOICE_PRICE` and `SIZE_PRICE` included.

    Args:
        sizes: of each choice, in the unit of ``most``, such as bytes of code.
        most: what the sizes of those that are taken may add up to; one is taken in any case.
    """
    losses = sampled.losses()
    usual = sum(sizes) / len(sizes)

    def price(chosen: Sequence[int]) -> float:
        loss = sum(min(losses[c][p] for c in chosen) for p in sampled.points)
        return loss + sum(CHOICE_PRICE + SIZE_PRICE * sizes[c] / usual for c in chosen)

    left = [c for c in range(len(losses)) if min(losses[c].values()) < inf]
    while len(left) > MOST_EXACT:
        left.remove(min(left, key=lambda c: price([other for other in left if other != c])))
    sets = (s for count in range(1, len(left) + 1) for s in combinations(left, count))
    fitting = [s for s in sets if len(s) == 1 or sum(sizes[c] for c in s) <= most]
    found = min(fitting, key=price)
    require(price(found) < inf, "no set of choices serves the whole range")
    return found


def cut(sampled: Sampled, chosen: Sequence[int]) -> list[Piece]:
    """The pieces of least total loss that a tree of cuts makes, each with one of ``chosen``.

    Exact, by dynamic programming over all boxes of the grid: a box is one piece, or cut in two.
    """
    losses = sampled.losses()
    sums = {c: _Sums.of(sampled, losses[c]) for c in chosen}

    @cache
    def best(first: Values, last: Values) -> tuple[float, tuple[Piece, ...]]:
        whole = {c: sums[c].inside(first, last) for c in chosen}
        choice = min(chosen, key=whole.__getitem__)
        pieces: tuple[Piece, ...] = (Piece(first, last, choice),)
        found = whole[choice] + CUT_PRICE, pieces
        if min(whole.values()) <= 0:
            return found
        for axis, (low, high) in enumerate(zip(first, last)):
            for place in range(low, high):
                below = best(first, _with(last, axis, place))
                above = best(_with(first, axis, place + 1), last)
                if below[0] + above[0] < found[0]:
                    found = below[0] + above[0], below[1] + above[1]
        return found

    ends = tuple(len(axis) - 1 for axis in sampled.axes)
    return list(best(tuple(0 for _ in ends), ends)[1])


def crossing(low: int, high: int, better_above: Callable[[int], bool]) -> int:
    """The last of low..high - 1 before ``better_above`` holds, which it does at ``high``."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if better_above(middle) else (middle, high)
    return low


def _weighed(loss: float) -> float:
    return loss * (1 + WORST * loss)


def _with(places: Values, axis: int, place: int) -> Values:
    return (*places[:axis], place, *places[axis + 1 :])


@dataclass(frozen=True)
class _Sums:
    """Sums of losses over boxes. Infinite ones are counted apart: their differences would not be
    numbers."""

    finite: Mapping[Values, float]
    infinite: Mapping[Values, float]

    @classmethod
    def of(cls, sampled: Sampled, losses: Mapping[Values, float]) -> _Sums:
        finite = {p: loss if loss < inf else 0.0 for p, loss in losses.items()}
        infinite = {p: float(loss == inf) for p, loss in losses.items()}
        return cls(_prefix(sampled, finite), _prefix(sampled, infinite))

    def inside(self, first: Values, last: Values) -> float:
        never = _inside(self.infinite, first, last) > 0
        return inf if never else _inside(self.finite, first, last)


def _prefix(sampled: Sampled, losses: Mapping[Values, float]) -> dict[Values, float]:
    """Sums of all losses below each corner of the grid, so that a box's sum takes 2^d look-ups."""
    sums: dict[Values, float] = {}
    for corner in product(*(range(len(axis) + 1) for axis in sampled.axes)):
        if 0 in corner:
            sums[corner] = 0.0
            continue
        total = losses[tuple(place - 1 for place in corner)]
        for steps in product((0, 1), repeat=len(corner)):
            if any(steps):
                before = tuple(place - step for place, step in zip(corner, steps))
                total -= (-1) ** sum(steps) * sums[before]
        sums[corner] = total
    return sums


def _inside(sums: Mapping[Values, float], first: Values, last: Values) -> float:
    """Sum of what `_prefix` summed over a box, both ends included."""
    total = 0.0
    for steps in product((0, 1), repeat=len(first)):
        corner = tuple(low if step else high + 1 for step, low, high in zip(steps, first, last))
        total += (-1) ** sum(steps) * sums[corner]
    return max(total, 0.0)
