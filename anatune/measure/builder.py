"""Candidates are compiled in processes that may die, one for each core at once (rank 6)."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from anatune.errors import IllegalPlan, WorkerError
from anatune.hwprofile import Profile
from anatune.measure.entry import Entry
from anatune.measure.flush import CHAINS, DTYPE, Flush, flushed_bytes
from anatune.measure.nursery import Cell, Nursery
from anatune.measure.outcome import Measurement, Outcome
from anatune.measure.worker import HUNG, Worker, WorkerFailure
from anatune.plan import CodeTarget
from anatune.plan.read import AnyPlan, read_any
from anatune.workload.dtypes import ELEMENT_BYTES

PATIENCE_S = 60.0
"""Time that a compilation may always take, seconds: hundreds of times what it takes."""

PATIENCE_FACTOR = 50.0
"""Times the median of those before, for machines and plans that are slower still."""

COMPILER = "anatune.measure.builder:Compiler"
"""What the process serves whose forks compile."""


FOLDER = "anatune-build"
"""Beginning of the names of folders for what is built; the process that made one comes next."""


STOP_S = 0.01
"""Pause before looking again whether all compilations that were stopped have ended, seconds."""


@dataclass(frozen=True)
class Built:
    """A kernel that can be loaded: its file, and what compiling took; 0 where it was at hand."""

    path: str
    build_s: float = 0.0


class KernelCache(Protocol):
    """Kernels that were built and found right before."""

    def get(self, plan: AnyPlan) -> Path | None: ...

    def put(self, plan: AnyPlan, library: Path) -> Path | None: ...


class Compiler:
    """Inside the builder's process: TVM, imported once for all forks."""

    def __init__(self) -> None:
        from anatune.codegen import build

        self._build = build.build

    def compile(self, plan: str, stem: str) -> str:
        """Write the kernel of a plan in JSON to a file named from ``stem``; its path."""
        from anatune.codegen.link import is_ours, write_loadable, write_sendable
        from anatune.codegen.target import triple_of

        kernel = self._build(read_any(plan))
        if is_ours(kernel.plan.target.isa):
            return write_loadable(kernel.executable, Path(stem), kernel.objects)
        triple = triple_of(kernel.plan.target)
        return write_sendable(kernel.executable, Path(stem), triple, kernel.objects)

    def compile_flush(
        self, target: CodeTarget, lanes: int, threads: int, size: int, stem: str
    ) -> Flush:
        """Write the probe that reads ``size`` bytes, shared out to ``threads``, to empty caches."""
        from anatune.codegen.link import write_loadable
        from anatune.codegen.probes import Probe, build_probe

        step = lanes * CHAINS
        elements = -(-size // (ELEMENT_BYTES[DTYPE] * threads * step)) * step
        probe = Probe("read", DTYPE, lanes, threads, chains=CHAINS, elements=elements)
        path = write_loadable(build_probe(probe, target), Path(stem))
        return Flush(path, probe.data_elements, probe.out_elements)


class Builder:
    """Builds plans in parallel, in processes that are replaced when one dies; a context manager.

    Its process starts on the first compilation, as starting takes half a second.

    Args:
        jobs: compilations at once.
        cache: where kernels are looked for before they are built; None: nowhere.
        memory_bytes: memory that all compilations at once may take; None: all.
    """

    def __init__(
        self, jobs: int, cache: KernelCache | None = None, memory_bytes: float | None = None
    ) -> None:
        self._jobs, self._cache = max(1, jobs), cache
        self._memory_bytes = None if memory_bytes is None else memory_bytes / self._jobs
        self._nursery: Nursery | None = None
        self._numbers = itertools.count()
        self._idle: list[Cell | Worker] = []  # its append and pop are atomic
        self._busy: list[Cell | Worker] = []
        self._taken_s: list[float] = []
        self.built: dict[AnyPlan, Built] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Builder:
        sweep(Path(tempfile.gettempdir()))
        self._folder = tempfile.TemporaryDirectory(prefix=f"{FOLDER}-{os.getpid()}-")
        return self

    def __exit__(self, *reason: object) -> None:
        for cell in self._idle:
            cell.kill()
        if self._nursery is not None:
            self._nursery.__exit__(*reason)
        self._folder.cleanup()

    def warm_up(self) -> None:
        """Start the process that holds the compiler, so that it is ready when it is needed."""
        with self._lock:
            if self._nursery is None:
                nursery = Nursery(COMPILER, (), memory_bytes=self._memory_bytes)
                self._nursery = nursery.__enter__()

    def build(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, Built | Measurement]]:
        """Each entry with its kernel, or with what went wrong, as they get ready."""
        at_hand = {entry: self._cached(entry) for entry in entries}
        for entry, kernel in at_hand.items():
            if kernel is not None:
                self.built[entry.plan] = kernel
                yield entry, kernel
        missing = [entry for entry, kernel in at_hand.items() if kernel is None]
        if not missing:
            return
        self.warm_up()
        pool = ThreadPoolExecutor(min(self._jobs, len(missing)))
        jobs: dict[Future[Built | Measurement], Entry] = {}
        try:
            for entry in missing:
                jobs[pool.submit(self._compile, entry)] = entry
            for job in as_completed(jobs):
                yield jobs[job], job.result()
        finally:  # nobody may wait for the rest: a compiler may hang, and something is timed next
            pool.shutdown(wait=False, cancel_futures=True)
            stopped: list[Cell | Worker] = []
            while not all(job.done() for job in jobs):  # some may only begin now
                busy = list(self._busy)
                for cell in busy:
                    cell.stop()
                stopped += busy
                time.sleep(STOP_S)
            self._discard(stopped)

    def flush(self, profile: Profile, threads: int) -> Flush:
        """What empties the caches of ``profile`` on ``threads``. Raises WorkerError."""
        self.warm_up()
        assert self._nursery is not None
        target, lanes = CodeTarget.of(profile.target), profile.core.lanes(ELEMENT_BYTES[DTYPE])
        stem = str(Path(self._folder.name) / "flush")
        size = flushed_bytes(profile)
        with self._nursery.cell() as cell:
            arguments = (target, lanes, threads, size, stem)
            made: Flush = cell.call("compile_flush", *arguments, timeout_s=PATIENCE_S)
            return made

    def path(self, plan: AnyPlan) -> Path:
        """Where the kernel of ``plan`` lies, which was built or at hand."""
        return Path(self.built[plan].path)

    def keep(self, plan: AnyPlan) -> None:
        """Put a kernel that was found right where the next run looks for it."""
        built = self.built[plan]
        if self._cache is not None and built.build_s:
            self._cache.put(plan, Path(built.path))

    def _cached(self, entry: Entry) -> Built | None:
        found = None if self._cache is None else self._cache.get(entry.plan)
        return None if found is None else Built(str(found))

    def _compile(self, entry: Entry) -> Built | Measurement:
        # Each name is used once: the loader hands out a library that it has open by its name.
        stem = Path(self._folder.name) / f"kernel{next(self._numbers)}"
        start = time.perf_counter()
        cell = self._cell()  # where that fails, no candidate is to blame
        self._busy.append(cell)
        try:
            text, patience_s = entry.plan.to_json(), self._patience_s()
            path = cell.call("compile", text, str(stem), timeout_s=patience_s)
        except WorkerFailure as error:
            return Measurement(_how(error), note=f"compiling: {error}")
        except WorkerError as error:
            self._idle.append(cell)
            illegal = str(error).startswith(f"{IllegalPlan.__name__}:")
            outcome = Outcome.ILLEGAL if illegal else Outcome.COMPILE_ERROR
            return Measurement(outcome, note=str(error))
        finally:
            self._busy.remove(cell)
        self._idle.append(cell)
        taken_s = time.perf_counter() - start
        self._taken_s.append(taken_s)
        built = self.built[entry.plan] = Built(str(path), taken_s)
        return built

    def _discard(self, stopped: Sequence[Cell | Worker]) -> None:
        """Those that had just finished are idle, and dead: the next plan would be blamed for it."""
        for cell in stopped:
            if cell in self._idle:
                self._idle.remove(cell)
                cell.kill()

    def _cell(self) -> Cell | Worker:
        """One that has compiled before, as what it looked up then is known to it; else a new one.

        Raises WorkerError.
        """
        assert self._nursery is not None
        try:
            return self._idle.pop()
        except IndexError:
            return self._nursery.cell()

    def _patience_s(self) -> float:
        usual_s = statistics.median(self._taken_s) if self._taken_s else 0.0
        return max(PATIENCE_S, PATIENCE_FACTOR * usual_s)


def _how(failure: WorkerFailure) -> Outcome:
    """A compiler that dies did not compile; one that hangs or is killed is named so."""
    if failure.how == HUNG:
        return Outcome.TIMEOUT
    return Outcome.KILLED if failure.killed else Outcome.COMPILE_ERROR


def sweep(folder: Path) -> None:
    """Remove what builders left in ``folder`` whose processes were killed."""
    if not hasattr(os, "fork"):  # asking Windows whether a process lives would end it
        return
    for left in folder.glob(f"{FOLDER}-*-*"):
        maker = left.name.split("-")[2]
        with contextlib.suppress(OSError, ValueError):
            if left.stat().st_uid == os.getuid() and not _lives(int(maker)):
                shutil.rmtree(left, ignore_errors=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
