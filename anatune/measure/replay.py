"""A runner that answers from what was recorded: no device, and a clock of its own (rank 6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle

from anatune.measure.entry import Entry
from anatune.measure.outcome import Measurement, Outcome
from anatune.plan.read import AnyPlan

UNKNOWN = Measurement(Outcome.SKIPPED, note="not in the recording")


class ReplayRunner:
    """Takes a candidate's recorded samples in a circle, so that policies are tested by replay.

    Args:
        recorded: of each plan its samples, seconds per call, or how it failed.

    Attributes:
        asked: the plan of each sample that was taken.
    """

    def __init__(self, recorded: Mapping[AnyPlan, Sequence[float] | Measurement]) -> None:
        self._failed = {p: found for p, found in recorded.items() if isinstance(found, Measurement)}
        self._first = {p: s[0] for p, s in recorded.items() if not isinstance(s, Measurement)}
        self._samples = {p: cycle(s) for p, s in recorded.items() if not isinstance(s, Measurement)}
        self._now = 0.0
        self.asked: list[AnyPlan] = []

    def clock(self) -> float:
        """Seconds that what was replayed has taken; building took none."""
        return self._now

    def rest(self, seconds: float) -> None:
        self._now += seconds

    def prepare(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, Measurement]]:
        for entry in entries:
            known = entry.plan in self._samples
            found = Measurement(Outcome.OK) if known else self._failed.get(entry.plan, UNKNOWN)
            yield entry, found

    def calibrate(self, entry: Entry, batch_s: float) -> int:
        seconds = self._first[entry.plan]
        calls = max(1, round(batch_s / seconds)) if seconds else 1
        self.rest(calls * seconds)
        return calls

    def sample(self, entry: Entry, calls: int) -> float:
        self.asked.append(entry.plan)
        seconds = next(self._samples[entry.plan])
        self.rest(calls * seconds)
        return seconds

    def pace(self, entry: Entry, calls: int) -> float:
        """The first sample, always: what was recorded knows of no disturbance."""
        self.rest(calls * self._first[entry.plan])
        return self._first[entry.plan]

    def renew(self, entry: Entry) -> None:
        """What was recorded stays what it is."""

    def let_go(self, entry: Entry) -> None:
        """Nothing is held."""
