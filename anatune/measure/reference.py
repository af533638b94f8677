"""The machine as a kernel sees it: one kernel timed again and again through a pass (rank 6)."""

from __future__ import annotations

from collections.abc import Callable

from anatune.measure.outcome import CALM

QUIET_SHARE = 0.1
"""Share of the reference samples that are taken to be faster than usual by chance. With twice as
many, 6 of 200 simulated passes on a machine that was seldom quiet missed the best plan, not 2."""

RECENT = 48
"""Reference samples that tell what the quiet machine is now: a second of waiting or work, longer
than most disturbances. Where all samples of a pass told, simulated passes whose clock fell by 10 %
waited in vain for the old one, for as long as they could."""

AGE_S = 0.012
"""Work after which the reference runs again, seconds: three batches, shorter than most disturbances
and than a scheduler lets one of two processes run."""

AGE_BATCHES = 3
"""The same in batches of the reference, where those are long: it takes a quarter of the time."""


class Reference:
    """Samples of one kernel, and what they say of the moments in between.

    Args:
        first_s: its first sample, seconds per call.
        batch_s: what a batch of it takes.
    """

    def __init__(self, first_s: float, batch_s: float) -> None:
        self.samples = [first_s]
        self._age_s = max(AGE_S, AGE_BATCHES * batch_s)
        self._since_s = 0.0
        self._waiting: list[Callable[[float], None]] = []

    @property
    def last_s(self) -> float:
        return self.samples[-1]

    @property
    def is_old(self) -> bool:
        """Whether so much ran since the last sample that it says nothing of now."""
        return self._since_s >= self._age_s

    @property
    def is_awaited(self) -> bool:
        """Whether somebody ran since the last sample."""
        return bool(self._waiting)

    @property
    def quiet_s(self) -> float:
        """What it takes on the quiet machine, as far as that was seen lately."""
        recent = sorted(self.samples[-RECENT:])
        return recent[int(QUIET_SHARE * len(recent))]

    @property
    def is_calm(self) -> bool:
        """Whether the last sample saw nothing of others."""
        return self.last_s <= self.quiet_s * (1 + CALM)

    def count(self, seconds: float) -> None:
        """Add a sample, and tell those who ran since the one before."""
        self.samples.append(seconds)
        self._since_s = 0.0
        waiting, self._waiting = self._waiting, []
        for told in waiting:
            told(seconds)

    def worked(self, seconds: float, told: Callable[[float], None]) -> None:
        """Something else ran for so long; ``told`` is called with the next sample."""
        self._waiting.append(told)
        self._since_s += seconds
