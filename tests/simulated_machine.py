"""A machine with a clock of its own, on which others work on and off: no process, no waiting."""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from anatune.measure.entry import Entry
from anatune.measure.outcome import Measurement, Outcome
from anatune.plan import Plan

STEP_S = 5e-4
"""Time for which a slowdown is taken to be constant, seconds: an eighth of a batch."""

PARTS = 8
"""Parts of a batch that are timed apart."""

Slowdown = Callable[[float], float]


class SimulatedRunner:
    """Kernels take their true time, times ``slowdown(now)``, times noise of each batch's own.

    Args:
        true_seconds: per call, on the quiet machine.
        slowdown: how many times longer things take at a moment.
        noise: draws factors whose logarithms have the standard deviations ``spread``, of a batch,
            and ``placement``, of a process.
        build_s: that compiling and checking one plan takes.
    """

    def __init__(
        self,
        true_seconds: Mapping[Plan, float],
        slowdown: Slowdown = lambda now: 1.0,
        noise: np.random.Generator | None = None,
        spread: float = 0.0,
        placement: float = 0.0,
        build_s: float = 0.0,
    ) -> None:
        self._true_s, self._slowdown = true_seconds, slowdown
        self._noise, self._spread, self._placement = noise, spread, placement
        self._build_s = build_s
        self._places: dict[Plan, float] = {}
        self._pace_place = self._drawn(placement)
        self.now = 0.0
        self.asked: list[Plan] = []
        self.prepared: list[Plan] = []
        self.gone: list[Plan] = []

    def clock(self) -> float:
        return self.now

    def rest(self, seconds: float) -> None:
        self.now += seconds

    def prepare(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, Measurement]]:
        for entry in entries:
            self._work(self._build_s)
            self.prepared.append(entry.plan)
            self.renew(entry)
            yield entry, Measurement(Outcome.OK, build_s=self._build_s)

    def calibrate(self, entry: Entry, batch_s: float) -> int:
        calls = max(1, round(batch_s / self._true_s[entry.plan]))
        self._work(calls * self._true_s[entry.plan])
        return calls

    def sample(self, entry: Entry, calls: int) -> float:
        """As on a real machine, the median of parts of the batch."""
        return statistics.median(self._parts(entry, calls, self._places.get(entry.plan, 1.0)))

    def mean(self, entry: Entry, calls: int) -> float:
        """The plain average over a batch."""
        return statistics.mean(self._parts(entry, calls, self._places.get(entry.plan, 1.0)))

    def pace(self, entry: Entry, calls: int) -> float:
        return statistics.median(self._parts(entry, calls, self._pace_place))

    def renew(self, entry: Entry) -> None:
        self._places[entry.plan] = self._drawn(self._placement)

    def _parts(self, entry: Entry, calls: int, place: float) -> list[float]:
        self.asked.append(entry.plan)
        count = min(PARTS, calls)
        part_s = self._true_s[entry.plan] * place * self._drawn(self._spread) * calls / count
        return [self._work(part_s) * count / calls for _ in range(count)]

    def _drawn(self, spread: float) -> float:
        """A factor whose logarithm has the standard deviation ``spread``."""
        return float(np.exp(self._noise.normal(0.0, spread))) if self._noise else 1.0

    def let_go(self, entry: Entry) -> None:
        self.gone.append(entry.plan)

    def _work(self, seconds: float) -> float:
        """Do what takes ``seconds`` on the quiet machine; how long that took."""
        start = self.now
        while seconds > 0:
            slower = self._slowdown(self.now)
            done = min(seconds, STEP_S / slower)
            self.now += done * slower
            seconds -= done
        return self.now - start


def neighbour(
    draw: np.random.Generator, busy_s: tuple[float, float], free_s: tuple[float, float],
    mild: float = 1.8, worst: float = 17.0, rare: float = 0.2, until: float = 60.0,
) -> Slowdown:  # fmt: skip
    """Another process on and off: its bursts cost ``mild``, a share ``rare`` up to ``worst``."""
    starts, costs = [0.0], [1.0]
    now = draw.uniform(0, free_s[1])
    while now < until:
        harsh = draw.random() < rare
        starts.append(now)
        costs.append(np.exp(draw.uniform(np.log(mild), np.log(worst))) if harsh else mild)
        now += draw.uniform(*busy_s)
        starts.append(now)
        costs.append(1.0)
        now += draw.uniform(*free_s)
    return lambda moment: costs[bisect_right(starts, moment) - 1]
