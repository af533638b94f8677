"""Work of unequal pieces divided over workers, so that all end together (rank 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

from anatune.plan.fusion import Piece

HALVINGS = 50
"""Steps of the search for the level: beyond float64's digits."""

Shares = tuple[tuple[Piece, ...], ...]


@dataclass(frozen=True)
class Cost:
    """What a piece of ``units`` takes: ``fixed`` once, as for packing, and ``each`` a unit."""

    fixed: float
    each: float

    def of(self, units: int) -> float:
        return self.fixed + units * self.each if units else 0.0

    def fitting(self, room: float) -> int:
        """How many units ``room`` has place for."""
        return max(0, floor((room - self.fixed) / self.each * (1 + 1e-12)))


def divide(costs: Sequence[Cost], units: Sequence[int], workers: int) -> Shares:
    """All units of all members, shared out in order to ``workers`` so that the busiest has least.

    A worker takes what the one before has left, up to a level; the lowest level with nothing left
    over is found by halving. Members are cut where a share ends, so a member has at most one piece
    in a share. Without fixed costs no share exceeds the mean by more than the largest unit.
    """
    total = sum(cost.of(n) for cost, n in zip(costs, units))
    low, high = total / workers * (1 - 1e-9), total * (1 + 1e-9)
    best = _filled(costs, units, workers, high)
    assert best is not None  # one worker can do it all
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        found = _filled(costs, units, workers, middle)
        if found is None:
            low = middle
        else:
            best, high = found, middle
    return best


def _filled(
    costs: Sequence[Cost], units: Sequence[int], workers: int, level: float
) -> Shares | None:
    """Shares of up to ``level``; None where they do not hold everything."""
    shares: list[tuple[Piece, ...]] = []
    member, start = 0, 0
    for _ in range(workers):
        mine: list[Piece] = []
        room = level
        while member < len(costs):
            taken = min(costs[member].fitting(room), units[member] - start)
            if not taken:
                break
            mine.append(Piece(member=member, start=start, stop=start + taken))
            room -= costs[member].of(taken)
            start += taken
            if start == units[member]:
                member, start = member + 1, 0
        shares.append(tuple(mine))
    return tuple(shares) if member == len(costs) else None


def whole_members(seconds: Sequence[float], workers: int) -> tuple[tuple[int, ...], ...]:
    """Members of each worker, none of them cut: longest first, to whoever is free first (Graham,
    "Bounds on multiprocessing timing anomalies", 1969)."""
    groups: list[list[int]] = [[] for _ in range(workers)]
    for number in sorted(range(len(seconds)), key=lambda k: -seconds[k]):
        min(groups, key=lambda group: sum(seconds[k] for k in group)).append(number)
    return tuple(tuple(sorted(group)) for group in groups)


def cycles_of(shares: Shares, costs: Sequence[Cost]) -> tuple[float, ...]:
    """What each worker has to do."""
    return tuple(sum(costs[p.member].of(p.units) for p in share) for share in shares)
