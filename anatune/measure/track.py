"""Timing candidates beside a reference kernel that tells when somebody else disturbs (rank 6)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

from anatune.errors import WorkerError
from anatune.measure.entry import Entry
from anatune.measure.outcome import Measurement, Timing
from anatune.measure.reference import Reference
from anatune.measure.runner import Runner, outcome_of

BATCH_S = 0.0025
"""Length of a timed batch, seconds: over pyperf's limit of 1 ms, under which it warns. Samples
differ more between processes than within one, so more processes tell more than longer batches."""

WARM = 0.03
"""Share by which a batch is faster than the one before where a kernel is still warming up."""

WARM_UPS = 5
"""Batches after which a kernel counts as warm however they went."""

LONG_S = 0.04
"""A kernel whose calibration takes so many seconds, ten batches, has warmed up in it."""

CALM_PATIENCE_S = 3.0
"""Time that a pass spends on waiting for a quiet machine, seconds: three of the longest bursts of a
neighbour that the simulated passes had beside them."""

REST_S = 0.02
"""Pause between two looks at a disturbed machine, seconds."""


@dataclass
class Racer:
    """A candidate that is being timed."""

    entry: Entry
    build_s: float = 0.0
    calls: int = 0  # of a batch; 0 until calibrated
    samples: list[float] = field(default_factory=list)
    references: list[float] = field(default_factory=list)  # the slower of those around each sample
    warm_up: list[float] = field(default_factory=list)

    def add(self, seconds: float, before: float) -> Callable[[float], None]:
        """Count a sample; what is returned takes the reference sample after it."""
        place = len(self.samples)
        self.samples.append(seconds)
        self.references.append(before)

        def told(after: float) -> None:
            self.references[place] = max(before, after)

        return told


class Track:
    """Takes samples one at a time; whoever fails is written to ``failed`` and leaves.

    Args:
        clock, rest: tell the time and pass it, seconds.
    """

    def __init__(
        self,
        runner: Runner,
        clock: Callable[[], float] = time.monotonic,
        rest: Callable[[float], Any] = time.sleep,
    ) -> None:
        self._runner, self._clock, self._rest = runner, clock, rest
        self._racers: dict[Entry, Racer] = {}
        self._gone: dict[Entry, Racer] = {}  # were let go; what they took still counts
        self._reference: Reference | None = None
        self._pace: Entry | None = None  # whose kernel is the reference
        self._pace_calls = 0
        self._patience_s = CALM_PATIENCE_S
        self.failed: dict[Entry, Measurement] = {}

    def enter(self, entry: Entry, build_s: float) -> None:
        """A candidate that was built and checked."""
        self._racers[entry] = Racer(entry, build_s)

    def __contains__(self, entry: Entry) -> bool:
        return entry in self._racers

    def leave(self, entry: Entry) -> None:
        """It is not timed any more."""
        if entry in self._racers:
            self._gone[entry] = self._racers.pop(entry)
            self._runner.let_go(entry)

    def lap(
        self, entries: Sequence[Entry], *, renewed: bool = False, until: float = inf
    ) -> None:
        """A sample of each in turn; the kernel of the first of all is the reference from then on.

        ``renewed``: each goes on in memory that lies elsewhere. Whose turn comes after ``until``
        has none, unless nobody had one yet.
        """
        for entry in entries:
            if self._reference is not None and self._clock() > until:
                break
            if entry in self._racers:
                try:
                    if renewed:
                        self._runner.renew(entry)
                    self._time(entry)
                except WorkerError as error:
                    self._fail(entry, error)
        if self._reference is not None and self._reference.is_awaited:
            self._look()

    def timing(self, entry: Entry) -> Timing | None:
        """What is known of a candidate, beside the quiet machine of now; None: nothing."""
        racer = self._racers.get(entry) or self._gone.get(entry)
        if racer is None or not racer.samples or self._reference is None:
            return None
        around, quiet_s = tuple(racer.references), self._reference.quiet_s
        return Timing(tuple(racer.samples), around, quiet_s, tuple(racer.warm_up))

    def latest(self, entry: Entry) -> Timing:
        """The last sample of a candidate alone."""
        whole = self.timing(entry)
        assert whole is not None
        return Timing(whole.samples_s[-1:], whole.references_s[-1:], whole.quiet_s)

    def build_s(self, entry: Entry) -> float:
        return self._racers[entry].build_s if entry in self._racers else 0.0

    def await_calm(self, until: float) -> bool:
        """Wait until the reference is as fast as it was; `CALM_PATIENCE_S` in a pass at most."""
        while self._reference is not None and not self._reference.is_calm:
            start = self._clock()
            if start > until or self._patience_s <= 0:
                return False
            self._rest(REST_S)
            self._look()
            self._patience_s -= max(REST_S, self._clock() - start)
        return True

    def _time(self, entry: Entry) -> None:
        racer = self._racers[entry]
        cold = not racer.calls
        if cold:
            self._warm(racer)
        if self._reference is not None and (cold or self._reference.is_old):
            self._look()
        if entry not in self._racers:  # it was the reference, and failed as such
            return
        reference = self._reference or self._begin(racer)
        seconds = self._runner.sample(entry, racer.calls)
        reference.worked(seconds * racer.calls, racer.add(seconds, reference.last_s))

    def _begin(self, racer: Racer) -> Reference:
        """Have a candidate's kernel as the reference."""
        self._pace, self._pace_calls = racer.entry, racer.calls
        first_s = self._runner.pace(racer.entry, racer.calls)
        self._reference = Reference(first_s, first_s * racer.calls)
        return self._reference

    def _look(self) -> None:
        """Take a sample of the reference."""
        assert self._reference is not None and self._pace is not None
        try:
            self._reference.count(self._runner.pace(self._pace, self._pace_calls))
        except WorkerError as error:
            self._fail(self._pace, error)

    def _warm(self, racer: Racer) -> None:
        """Calibrate, and run until batches do not get faster any more."""
        start, before = self._clock(), inf
        racer.calls = self._runner.calibrate(racer.entry, BATCH_S)
        is_warm = self._clock() - start > LONG_S
        while not is_warm and len(racer.warm_up) < WARM_UPS:
            seconds = self._runner.sample(racer.entry, racer.calls)
            racer.warm_up.append(seconds)
            is_warm, before = seconds >= before * (1 - WARM), seconds

    def _fail(self, entry: Entry, error: WorkerError) -> None:
        """Drop a candidate. With the reference, all samples beside it lose their meaning."""
        self.failed[entry] = Measurement(outcome_of(error), note=str(error))
        self._racers.pop(entry, None)
        self._runner.let_go(entry)
        if entry == self._pace:
            self._pace = self._reference = None
            for racer in (*self._racers.values(), *self._gone.values()):
                racer.samples.clear()
                racer.references.clear()
