"""Where candidates are built, checked and timed: processes of this machine (rank 6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

from anatune.codegen.operands import packed_b
from anatune.errors import WorkerError
from anatune.measure.builder import Builder, Built
from anatune.measure.entry import Entry
from anatune.measure.flush import Flush
from anatune.measure.nursery import Cell, Nursery
from anatune.measure.outcome import Measurement, Outcome
from anatune.measure.worker import HUNG, Worker, WorkerFailure
from anatune.workload import Matmul, Tensor
from anatune.workload.fused import Fused
from anatune.workload.group import Group
from anatune.workload.maps import Map

START_S = 30.0
"""Time in which a worker must have started and made its operands, seconds."""

HANG_FACTOR = 100.0
"""A kernel that takes this many times its predicted time, on top of `START_S`, is taken to hang."""

BENCHES: dict[type, str] = {
    Matmul: "anatune.measure.bench:Bench",
    Map: "anatune.measure.group_bench:GroupBench",
    Fused: "anatune.measure.group_bench:GroupBench",
    Group: "anatune.measure.group_bench:DependentBench",
}
"""What the process serves that runs kernels, by what these compute."""

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

    def pace(self, entry: Entry, calls: int) -> float:
        """`sample` in a process that nothing else uses and that is not renewed: the reference."""
        ...

    def renew(self, entry: Entry) -> None:
        """Have the entry run in memory that lies elsewhere. Raises WorkerError."""
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
        workload: Any,
        threads: int,
        builder: Builder,
        flush: Flush | None = None,
        memory_bytes: float | None = None,
        start_s: float = START_S,
    ) -> None:
        factory = BENCHES[type(workload)]
        self._nursery = Nursery(factory, (workload, flush), threads, memory_bytes)
        self._builder, self._start_s = builder, start_s
        self._cells: dict[Any, tuple[Cell | Worker, Loadable]] = {}
        self._paces: dict[Any, tuple[Cell | Worker, Loadable]] = {}

    def __enter__(self) -> LocalRunner:
        self._nursery.__enter__()
        return self

    def __exit__(self, *reason: object) -> None:
        for cell, _ in (*self._cells.values(), *self._paces.values()):
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
        return self._timed("sample", self._cells[entry.plan], entry, calls)

    def pace(self, entry: Entry, calls: int) -> float:
        if entry.plan not in self._paces:
            self._paces[entry.plan] = self._nursery.cell(), self._cells[entry.plan][1]
        return self._timed("sample", self._paces[entry.plan], entry, calls)

    def renew(self, entry: Entry) -> None:
        """Go on in a new process: where its pages lie is drawn anew."""
        cell, loadable = self._cells[entry.plan]
        cell.kill()
        self._cells[entry.plan] = self._nursery.cell(), loadable

    def mean(self, entry: Entry, calls: int) -> float:
        """`sample`, with nothing left out: the average, as other libraries are timed."""
        return self._timed("mean", self._cells[entry.plan], entry, calls)

    def let_go(self, entry: Entry) -> None:
        if entry.plan in self._cells:
            self._cells.pop(entry.plan)[0].kill()

    def _check(self, entry: Entry, built: Built) -> Measurement:
        loadable = built.path, packed_b(entry.plan)
        cell = self._nursery.cell()  # where that fails, no candidate is to blame
        found = Measurement(Outcome.SKIPPED)
        try:
            found = replace(self._first_run(cell, entry, loadable), build_s=built.build_s)
        finally:  # also where the user interrupts
            if found.outcome is not Outcome.OK:
                cell.kill()
        if found.outcome is Outcome.OK:
            self.let_go(entry)  # a plan may be prepared again
            self._cells[entry.plan] = cell, loadable
            self._builder.keep(entry.plan)
        return found

    def _first_run(self, cell: Cell | Worker, entry: Entry, loadable: Loadable) -> Measurement:
        try:
            wrong = cell.call("check", loadable, timeout_s=self._patience_s(entry.predicted_s))
        except WorkerError as error:
            return Measurement(outcome_of(error), note=str(error))
        return Measurement(Outcome.WRONG_RESULT if wrong else Outcome.OK, note=wrong)

    def _timed(
        self, how: str, where: tuple[Cell | Worker, Loadable], entry: Entry, calls: int
    ) -> float:
        cell, loadable = where
        timeout_s = self._patience_s(calls * entry.predicted_s)
        return float(cell.call(how, loadable, calls, timeout_s=timeout_s))

    def _patience_s(self, predicted_s: float) -> float:
        return self._start_s + HANG_FACTOR * predicted_s


def outcome_of(error: WorkerError) -> Outcome:
    """The name of what a process that ran a kernel died of, or of the error that it told."""
    if not isinstance(error, WorkerFailure):
        return Outcome.RUN_ERROR
    if error.how == HUNG:
        return Outcome.TIMEOUT
    if error.killed:
        return Outcome.KILLED
    return Outcome.ILLEGAL if error.signal == "SIGILL" else Outcome.RUN_ERROR
