"""What a search asks of the race that measures its proposals (rank 7.5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from anatune.measure.entry import Entry
from anatune.measure.outcome import Measurement


class Measurer(Protocol):
    """Measures waves of candidates until its budget is spent; a search needs no more than this."""

    def measure(self, entries: Sequence[Entry]) -> list[Measurement]:
        """Build, check and time ``entries``: one measurement each, in their order."""
        ...

    @property
    def over(self) -> bool:
        """Whether the budget is spent."""
        ...

    @property
    def left(self) -> int:
        """Candidates that the budget still has room for."""
        ...

    @property
    def measured(self) -> Sequence[tuple[Entry, Measurement]]:
        """All so far, those of earlier runs that this one goes on from included."""
        ...
