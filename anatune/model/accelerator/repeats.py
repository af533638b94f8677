"""When turns of a loop repeat, so that all further ones need not be walked (rank 4).

Once two turns in a row leave the same state behind, shifted in time, all further turns of the same
sizes do: what starts when is a matter of maxima and sums.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SAME = 1e-6
"""Cycles by which times of two turns may differ and still count as the same: rounding of floats."""


@dataclass
class Turns:
    """The last turns of one loop: how far each time moved in them."""

    times: list[float] = field(default_factory=list)
    shape: tuple[object, ...] = ()
    step: int = 0
    steps: int = 0  # of the last turn
    moves: list[float] = field(default_factory=list)
    alike: int = 0  # turns in a row that moved all times alike

    def add(self, times: list[float], shape: tuple[object, ...], step: int) -> None:
        """The state after one more turn: its times, and all else of it."""
        fits = shape == self.shape and len(times) == len(self.times)
        moves = [now - then for now, then in zip(times, self.times)] if fits else []
        self.alike = self.alike + 1 if moves and _same(moves, self.moves) else 0
        self.times, self.shape, self.moves = times, shape, moves
        self.steps, self.step = step - self.step, step

    @property
    def repeats(self) -> bool:
        """Times move as the engine's does, or are of what this loop does not touch."""
        period = self.moves[0] if self.alike else 0.0
        moving = self.moves[:-2]  # the last two are sums, not times
        return self.alike > 0 and all(min(abs(m - period), abs(m)) <= SAME for m in moving)


def _same(one: list[float], other: list[float]) -> bool:
    return len(one) == len(other) and all(abs(x - y) <= SAME for x, y in zip(one, other))
