"""The measured pass: waves of candidates, then a final between the best (rank 6)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from math import inf
from typing import Any

from anatune.measure.budget import Budget
from anatune.measure.entry import Entry
from anatune.measure.outcome import Measurement, Outcome
from anatune.measure.runner import Runner
from anatune.measure.settle import choose, is_settled
from anatune.measure.track import Track
from anatune.units import TIME

HEAT_ROUNDS = 3
"""Undisturbed samples of each candidate of a wave."""

MEND_ROUNDS = 12
"""Rounds at most in which disturbed samples are taken again."""

HOPELESS = (2.0, 1.5)
"""Times the best one's time from which a candidate of one undisturbed sample has no second, and one
of two no third. Above what a neighbour makes of a good one unseen (1.8 on two threads), and above
the mean of a sample with and one without him: with 1.5 and 1.25, a quarter of simulated passes
beside bursts of milliseconds missed the best plan, with these a twentieth."""

KEEP_WITHIN = 0.06
"""A plan slower than the best by more than this share takes no part in the final."""

FINALISTS = 4
"""Plans that run in the final."""

DOUBTFUL = 2
"""Unstable plans that run in it beside them."""

FINAL_ROUNDS = 25
"""Undisturbed rounds after which the final ends, settled or not."""

PREPARE_SHARE = 0.7
"""Share of the time that a wave has after which no further plan of it is built."""

FINAL_SHARE = 0.2
"""Share of the budget's seconds that is left to the final."""

DISTURBED = "others used the machine: tune again while it is quiet, or with a larger budget"
UNSTEADY = "its times differ by more than 10 % though nothing else was seen to run: tune again"

Cost = Callable[[Entry, float], float]


class Race:
    """Candidates come in waves; `finish` decides between the best.

    Args:
        runner: builds and runs.
        budget: how many, how long.
        clock, rest: tell the time and pass it, seconds.
        tell: told what is going on.
        journal: called with each measurement as soon as it stands, and again after the final.
        alone: holds the machine while something is compiled or timed.
        seen: what earlier runs of this pass measured, in the order in which they did.
        spent_s: seconds of the budget that those took.
        least_s: what no plan can be faster than, for those who watch; 0: not known.
    """

    def __init__(
        self,
        runner: Runner,
        budget: Budget,
        *,
        clock: Callable[[], float] = time.monotonic,
        rest: Callable[[float], Any] = time.sleep,
        tell: Callable[[str], None] = lambda text: None,
        journal: Callable[[Entry, Measurement], None] = lambda entry, measurement: None,
        alone: Callable[[], AbstractContextManager[Any]] = nullcontext,
        seen: Sequence[tuple[Entry, Measurement]] = (),
        spent_s: float = 0.0,
        least_s: float = 0.0,
    ) -> None:
        self._runner, self._budget, self._clock = runner, budget, clock
        self._tell, self._journal, self._alone = tell, journal, alone
        self._track = Track(runner, clock, rest)
        self._results = dict(seen)
        self._proposed = dict.fromkeys(self._results)
        self._earlier = set(self._results)
        self._start = clock() - spent_s
        self._least_s = least_s

    @property
    def measured(self) -> list[tuple[Entry, Measurement]]:
        """All so far, in the order in which they were proposed, those of earlier runs first."""
        return [(e, self._results[e]) for e in self._proposed if e in self._results]

    def rank(self, entry: Entry) -> int:
        """Place in the order of all that were proposed, from 1 on."""
        return list(self._proposed).index(entry) + 1

    @property
    def left(self) -> int:
        """Candidates that the budget still has room for."""
        return max(0, self._budget.candidates - len(self._results))

    @property
    def over(self) -> bool:
        """Whether the budget is spent, but for what the final needs."""
        late = self._clock() >= self._until and bool(self._results)  # a first wave there always is
        return not self.left or late

    @property
    def spent_s(self) -> float:
        """Seconds since the pass began, those of earlier runs included."""
        return self._clock() - self._start

    @property
    def best(self) -> Entry | None:
        """The fastest so far; None before the first."""
        close = self._close(lambda entry, seconds: seconds)
        return min(close, key=lambda e: (self._is_doubtful(e), self._median_s(e)), default=None)

    def measure(self, entries: Sequence[Entry]) -> list[Measurement]:
        """Build, check and time ``entries``, as many as the budget has room for.

        One measurement each; `Outcome.SKIPPED` for those that it has no room or time for.
        """
        new = [entry for entry in dict.fromkeys(entries) if entry not in self._results]
        wave = new[: self.left]
        self._proposed.update(dict.fromkeys(wave))
        try:
            self._prepare(wave)
            with self._alone():
                self._heats(wave)
        finally:  # after an interruption too: what was measured is kept
            for entry in wave:
                self._conclude(entry)
        self._let_the_slow_go()
        skipped = Measurement(Outcome.SKIPPED, note="outside the budget")
        return [self._results.get(entry, skipped) for entry in entries]

    def finish(self, cost: Cost = lambda entry, seconds: seconds) -> Entry | None:
        """The best candidate, by a final between those that are close; None where none works.

        ``cost(entry, seconds)`` is what is made small. The final ends as soon as each is proven
        slower than the leader or tied with it; of the tied, the first in the model's order is best.
        """
        while finalists := self._close(cost):
            best = self._best_of(finalists, cost)
            if best is not None:
                return best
        return None

    def _best_of(self, finalists: Sequence[Entry], cost: Cost) -> Entry | None:
        """None where all of them fail now; they are then known as such, and close no more."""
        try:
            self._prepare([entry for entry in finalists if entry not in self._track], inf)
            running = [entry for entry in finalists if entry in self._track]
            if len(running) < 2:
                return next(iter(running), None)
            with self._alone():
                return self._final(running, cost)
        finally:
            for entry in finalists:
                self._conclude(entry)

    @property
    def _until(self) -> float:
        """When the final begins."""
        return self._start + (1 - FINAL_SHARE) * self._budget.seconds

    def _prepare(self, wave: Sequence[Entry], share: float = PREPARE_SHARE) -> None:
        """Build and check, until ``share`` of the time is gone and something works."""
        now = self._clock()
        limit = now + share * max(0.0, self._until - now)
        some = self._best_s < inf
        with self._alone():
            for number, (entry, found) in enumerate(self._runner.prepare(wave), 1):
                self._report(f"checked {number} of {len(wave)}")
                if found.outcome is Outcome.OK:
                    self._track.enter(entry, found.build_s)
                    some = True
                else:
                    self._track.failed[entry] = found
                    self._conclude(entry)
                if some and self._clock() > limit:
                    break

    def _heats(self, wave: Sequence[Entry]) -> None:
        """`HEAT_ROUNDS` samples of each, and as many more as others spoiled."""
        hopeless: set[Entry] = set()
        for number in range(HEAT_ROUNDS + MEND_ROUNDS):
            lacking = [e for e in wave if self._lacks_samples(e) and e not in hopeless]
            mending = number >= HEAT_ROUNDS
            if not lacking or (number and self._clock() > self._until):
                return
            if mending and not self._track.await_calm(self._until):
                return
            self._report(f"timing {len(lacking)}, {'again' if mending else f'round {number + 1}'}")
            in_turn = lacking if number % 2 == 0 else lacking[::-1]
            self._track.lap(in_turn, renewed=number > 0, until=self._until)
            hopeless |= self._hopeless(wave)

    def _lacks_samples(self, entry: Entry) -> bool:
        timing = self._track.timing(entry)
        return entry in self._track and (timing is None or len(timing.calm_s) < HEAT_ROUNDS)

    def _hopeless(self, wave: Sequence[Entry]) -> set[Entry]:
        timings = {entry: self._track.timing(entry) for entry in wave}
        calm = {entry: t for entry, t in timings.items() if t is not None and t.calm_s}
        best_s = min([*(t.median_s for t in calm.values()), self._best_s])
        return {
            entry
            for entry, t in calm.items()
            if t.median_s > HOPELESS[min(len(t.calm_s), len(HOPELESS)) - 1] * best_s
        }

    def _final(self, running: Sequence[Entry], cost: Cost) -> Entry | None:
        """Rounds of all finalists until `settle` has seen enough; who fails in it leaves it."""
        rounds: list[list[float]] = []
        end = self._start + self._budget.seconds
        for number in range(FINAL_ROUNDS + MEND_ROUNDS):
            if len(rounds) == FINAL_ROUNDS or (number and self._clock() > end):
                break
            self._report(f"final between {len(running)}, round {number + 1}")
            quiet = self._track.await_calm(end)
            self._track.lap(running if number % 2 == 0 else running[::-1], renewed=True)
            alive = [entry for entry in running if entry in self._track]
            if len(alive) < len(running):
                return self._final(alive, cost) if len(alive) > 1 else next(iter(alive), None)
            latest = [self._track.latest(entry) for entry in running]
            if quiet and not all(timing.calm_s for timing in latest):
                continue
            # Not corrected where disturbed: all of a round are, and their ratios are what counts.
            rounds.append([cost(e, timing.samples_s[0]) for e, timing in zip(running, latest)])
            if is_settled(list(zip(*rounds))):
                break
        if not rounds:  # the time was over before an undisturbed one: the heats decide
            return min(running, key=lambda e: (self._is_doubtful(e), cost(e, self._median_s(e))))
        return running[choose(list(zip(*rounds)))]

    def _close(self, cost: Cost) -> list[Entry]:
        """Those that may be the best, in the model's order, as far as the heats tell.

        Of the unstable ones `DOUBTFUL`, whose times may be anything: the final times them anew.

        Those of earlier runs are not held against those of this one: the machine may have been
        another then. The final decides between the best of both.
        """
        timed = [entry for entry, m in self._results.items() if m.timing is not None]
        costs = {entry: cost(entry, self._median_s(entry)) for entry in timed}
        sound = [entry for entry in timed if not self._is_doubtful(entry)]
        doubtful = sorted(filter(self._is_doubtful, timed), key=costs.__getitem__)[:DOUBTFUL]
        earlier = _best_of([e for e in sound if e in self._earlier], costs)
        latest = _best_of([e for e in sound if e not in self._earlier], costs)
        close = [*earlier, *latest, *doubtful]
        return sorted(close, key=lambda e: (e.predicted is None, cost(e, e.predicted_s)))

    def _let_the_slow_go(self) -> None:
        close = self._close(lambda entry, seconds: seconds)
        for entry, _ in self.measured:
            if entry not in close:
                self._track.leave(entry)

    def _conclude(self, entry: Entry) -> None:
        """Write down what is known of a candidate, if anything is."""
        timing = self._track.timing(entry)
        if entry in self._track.failed:
            self._record(entry, self._track.failed[entry])
        elif timing is not None:
            note = DISTURBED if timing.disturbed else UNSTEADY if timing.unstable else ""
            outcome = Outcome.UNSTABLE if note else Outcome.OK
            self._record(entry, Measurement(outcome, timing, note, self._track.build_s(entry)))

    def _record(self, entry: Entry, measurement: Measurement) -> None:
        if self._results.get(entry) != measurement:
            self._results[entry] = measurement
            self._journal(entry, measurement)

    def _is_doubtful(self, entry: Entry) -> bool:
        return self._results[entry].outcome is Outcome.UNSTABLE

    def _median_s(self, entry: Entry) -> float:
        recorded = self._results[entry].timing
        timing = recorded and (self._track.timing(entry) or recorded)  # the clock may have changed
        return inf if timing is None else timing.median_s

    @property
    def _best_s(self) -> float:
        """The least median so far; infinite before the first."""
        return min(map(self._median_s, self._results), default=inf)

    def _report(self, doing: str) -> None:
        """One line: what is done, the best so far, what is left to gain, and the time left."""
        parts = [doing]
        if self._best_s < inf:
            parts.append(f"best {TIME.show(self._best_s)}")
            if self._least_s:
                gain = max(0.0, 1 - self._least_s / self._best_s)
                parts.append(f"at most {gain:.0%} to gain")
        if self._budget.seconds < inf:
            left = max(0.0, self._start + self._budget.seconds - self._clock())
            parts.append(f"{left:.1f} s left")
        self._tell(", ".join(parts))


def _best_of(entries: Sequence[Entry], costs: Mapping[Entry, float]) -> list[Entry]:
    """The few of least cost that are close to each other."""
    best = sorted(entries, key=costs.__getitem__)[:FINALISTS]
    return [entry for entry in best if costs[entry] <= costs[best[0]] * (1 + KEEP_WITHIN)]
