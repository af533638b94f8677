"""Where candidates are built, checked and timed: processes here, or a recording (rank 6)."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from anatune.codegen.operands import packed_b
from anatune.errors import WorkerError
from anatune.measure.builder import Builder, Built
from anatune.measure.entry import Entry
from anatune.measure.flush import Flush
from anatune.measure.nursery import Cell, Nursery
from anatune.measure.outcome import Measurement, Outcome
from anatune.measure.worker import GREEDY, HUNG, Worker, WorkerFailure
from anatune.plan import Plan
from anatune.workload import Matmul, Tensor

START_S = 30.0
"""Time in which a worker must have started and made its operands, seconds."""

HANG_FACTOR = 100.0
"""A kernel that takes this many times its predicted time, on top of `START_S`, is taken to hang."""

Loadable = tuple[str, Tensor | None]
"""File of a kernel, and its B packed ahead of time, None where it takes B as it is."""


class Runner(Protocol):
    """What the race needs of whoever runs its candidates."""

    def prepare(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, Measurement]]:
        """Build each, run it once and verify it; in the order in which they get ready.

        `Outcome.OK` without a timing, or what went wrong.
        """
        ...

    def calibrate(self, entry: Entry, batch_s: float) -> int:
        """Calls that make a batch of about ``batch_s``. Raises WorkerError where that fails."""
        ...

    def sample(self, entry: Entry, calls: int) -> float:
        """Seconds per call over a batch of ``calls``. Raises WorkerError where that fails."""
        ...

    def let_go(self, entry: Entry) -> None:
        """The entry is not timed any more: what it holds may be freed."""
        ...


class LocalRunner:
    """Runs kernels on this machine, each in a process of its own; a context manager.

    Args:
        workload: what all of them compute.
        threads: size of TVM's thread pool in each process.
        builder: compiles them; entered and left by whoever made it.
        flush: given where times are to be cold.
        memory_bytes: memory that a candidate may take; None: all.
        start_s: time in which a candidate must have answered, besides what it is predicted to take.
    """

    def __init__(
        self,
        workload: Matmul,
        threads: int,
        builder: Builder,
        flush: Flush | None = None,
        memory_bytes: float | None = None,
        start_s: float = START_S,
    ) -> None:
        factory = "anatune.measure.bench:Bench"
        self._nursery = Nursery(factory, (workload, flush), threads, memory_bytes)
        self._builder, self._start_s = builder, start_s
        self._cells: dict[Plan, tuple[Cell | Worker, Loadable]] = {}

    def __enter__(self) -> LocalRunner:
        self._nursery.__enter__()
        return self

    def __exit__(self, *reason: object) -> None:
        for cell, _ in self._cells.values():
            cell.kill()
        self._nursery.__exit__(*reason)

    def prepare(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, Measurement]]:
        for entry, built in self._builder.build(entries):
            if isinstance(built, Measurement):
                yield entry, built
            else:
                yield entry, self._check(entry, built)

    def calibrate(self, entry: Entry, batch_s: float) -> int:
        timeout_s = self._patience_s(max(batch_s, entry.predicted_s))
        cell, loadable = self._cells[entry.plan]
        return int(cell.call("calibrate", loadable, batch_s, timeout_s=timeout_s))

    def sample(self, entry: Entry, calls: int) -> float:
        timeout_s = self._patience_s(calls * entry.predicted_s)
        cell, loadable = self._cells[entry.plan]
        return float(cell.call("sample", loadable, calls, timeout_s=timeout_s))

    def mean(self, entry: Entry, calls: int) -> float:
        """`sample`, with nothing left out: the average, as other libraries are timed."""
        timeout_s = self._patience_s(calls * entry.predicted_s)
        cell, loadable = self._cells[entry.plan]
        return float(cell.call("mean", loadable, calls, timeout_s=timeout_s))

    def let_go(self, entry: Entry) -> None:
        if entry.plan in self._cells:
            self._cells.pop(entry.plan)[0].kill()

    def _check(self, entry: Entry, built: Built) -> Measurement:
        loadable = built.path, packed_b(entry.plan)
        try:
            cell = self._nursery.cell()
        except WorkerError as error:
            return Measurement(Outcome.RUN_ERROR, note=str(error), build_s=built.build_s)
        try:
            wrong = cell.call("check", loadable, timeout_s=self._patience_s(entry.predicted_s))
        except WorkerError as error:
            cell.kill()
            return Measurement(outcome_of(error), note=str(error), build_s=built.build_s)
        if wrong:
            cell.kill()
            return Measurement(Outcome.WRONG_RESULT, note=wrong, build_s=built.build_s)
        self.let_go(entry)  # a plan may be prepared again
        self._cells[entry.plan] = cell, loadable
        self._builder.keep(entry.plan)
        return Measurement(Outcome.OK, build_s=built.build_s)

    def _patience_s(self, predicted_s: float) -> float:
        return self._start_s + HANG_FACTOR * predicted_s


def outcome_of(error: WorkerError) -> Outcome:
    """The name of what a process that ran a kernel died of, or of the error that it told."""
    if not isinstance(error, WorkerFailure):
        return Outcome.RUN_ERROR
    if error.how == HUNG:
        return Outcome.TIMEOUT
    if error.how == GREEDY or error.code == -signal.SIGKILL:
        return Outcome.KILLED
    return Outcome.ILLEGAL if error.code == -signal.SIGILL else Outcome.RUN_ERROR


class ReplayRunner:
    """Answers from recorded samples, so that a policy is tested without a device and a clock.

    ``recorded`` maps a plan to its samples in seconds, taken in a circle, or to how it failed.
    """

    def __init__(self, recorded: Mapping[Plan, tuple[float, ...] | Measurement]) -> None:
        self._recorded = recorded
        self.asked: list[Plan] = []

    def prepare(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, Measurement]]:
        for entry in entries:
            answer = self._recorded[entry.plan]
            yield entry, answer if isinstance(answer, Measurement) else Measurement(Outcome.OK)

    def calibrate(self, entry: Entry, batch_s: float) -> int:
        samples = self._samples(entry.plan)
        return max(1, round(batch_s / samples[0])) if samples[0] else 1

    def sample(self, entry: Entry, calls: int) -> float:
        samples = self._samples(entry.plan)
        taken = self.asked.count(entry.plan)
        self.asked.append(entry.plan)
        return samples[taken % len(samples)]

    def let_go(self, entry: Entry) -> None:
        pass

    def _samples(self, plan: Plan) -> tuple[float, ...]:
        samples = self._recorded[plan]
        assert not isinstance(samples, Measurement)
        return samples
