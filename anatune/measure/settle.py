"""When a comparison is decided: paired samples in, slower, tied or open out (rank 6)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum
from functools import cache
from statistics import median

CONFIDENCE = 0.95
"""Of the interval that a median ratio is said to lie in."""

TIE = 0.01
"""Share by which two plans may differ and still count as equally fast: about what the same kernel
differs by from one process to the next, as its pages fall into other sets of the caches."""

MOST_TIED = 0.02
"""Share by which a plan that is not proven slower may trail and still be taken: where none trails
by more, further rounds could not change what is taken by more than that."""


class Verdict(Enum):
    """How a plan stands beside the leader."""

    SLOWER = "slower"
    TIED = "tied"
    OPEN = "open"


def beside(leader: Sequence[float], other: Sequence[float]) -> Verdict:
    """How ``other`` stands beside ``leader``: costs of the same rounds, pair by pair.

    The median of the ratios lies between two of them, so many from either end that as many throws
    of a coin fall on one side with at most 1 - `CONFIDENCE`: no distribution is assumed (David and
    Nagaraja, "Order Statistics", 3rd ed., section 7.1).
    """
    ratios = sorted(map(_ratio, other, leader))
    depth = _depth(len(ratios))
    if not depth:
        return Verdict.OPEN
    low, high = ratios[depth - 1], ratios[-depth]
    if low > 1 - TIE and high < 1 + TIE:
        return Verdict.TIED
    if low > 1:
        return Verdict.SLOWER
    return Verdict.TIED if high < 1 + MOST_TIED else Verdict.OPEN


def lead(costs: Sequence[Sequence[float]]) -> int:
    """Place of the one with the smallest median."""
    return min(range(len(costs)), key=lambda place: median(costs[place]))


def is_settled(costs: Sequence[Sequence[float]]) -> bool:
    """Whether each is slower than the leader or tied with it."""
    leader = costs[lead(costs)]
    others = (c for c in costs if c is not leader)
    return all(beside(leader, other) is not Verdict.OPEN for other in others)


def choose(costs: Sequence[Sequence[float]]) -> int:
    """Place of the one to take: the first, in the order given, that is as good as the leader.

    As good is what is tied, or what trails by `MOST_TIED` at most without being proven slower.
    """
    best = lead(costs)
    limit = median(costs[best]) * (1 + MOST_TIED)
    for place, cost in enumerate(costs):
        near = median(cost) <= limit
        if place == best or (near and beside(costs[best], cost) is not Verdict.SLOWER):
            return place
    return best


def _ratio(cost: float, leaders: float) -> float:
    """Two calls that took no time by a coarse clock are as fast as each other."""
    if leaders:
        return cost / leaders
    return math.inf if cost else 1.0


@cache
def _depth(count: int) -> int:
    """How far from either end of ``count`` sorted ratios the interval begins; 0: too few."""
    depth, tail = 0, 0.0
    while depth < count:
        tail += 2 * math.comb(count, depth) / 2.0**count
        if tail > 1 - CONFIDENCE:
            return depth
        depth += 1
    return depth
