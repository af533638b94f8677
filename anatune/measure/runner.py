"""Where candidates are built, checked and timed: a worker process, or a recording (rank 6)."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from anatune.errors import BuildError, WorkerError
from anatune.measure.outcome import Measurement, Outcome
from anatune.measure.worker import HUNG, Worker, WorkerFailure
from anatune.plan import GemmPlan
from anatune.workload import Tensor

if TYPE_CHECKING:
    from anatune.codegen.build import Kernel

START_S = 30.0
"""Time in which a worker must have started and made its operands, seconds."""

HANG_FACTOR = 100.0
"""A kernel that takes this many times its predicted time, on top of `START_S`, is taken to hang."""


class Runner(Protocol):
    """What the race needs of whoever runs its candidates."""

    def prepare(self, plan: GemmPlan, predicted_s: float) -> Measurement:
        """Build, run once and verify; `Outcome.OK` without a timing, or what went wrong."""
        ...

    def calibrate(self, plan: GemmPlan, batch_s: float, predicted_s: float) -> int:
        """Calls that make a batch of about ``batch_s``. Raises WorkerError where that fails."""
        ...

    def sample(self, plan: GemmPlan, calls: int, predicted_s: float) -> float:
        """Seconds per call over a batch of ``calls``. Raises WorkerError where that fails."""
        ...


class LocalRunner:
    """Builds in this process and runs in a worker; a context manager."""

    def __init__(self, plan: GemmPlan) -> None:
        self._workload = plan.workload
        self._worker = Worker(
            "anatune.measure.bench:Bench", (plan.workload,), threads=plan.grid.threads
        )
        self._numbers = itertools.count()
        self._loadables: dict[GemmPlan, tuple[str, Tensor | None]] = {}
        self.kernels: dict[GemmPlan, Kernel] = {}

    def __enter__(self) -> LocalRunner:
        self._folder = tempfile.TemporaryDirectory(prefix="anatune-")
        self._worker.__enter__()
        return self

    def __exit__(self, *reason: object) -> None:
        self._worker.__exit__(*reason)
        self._folder.cleanup()

    def prepare(self, plan: GemmPlan, predicted_s: float) -> Measurement:
        from anatune.codegen.build import build
        from anatune.codegen.link import write_loadable
        from anatune.codegen.operands import packed_b

        try:
            kernel = build(plan)
            # Each name is used once: the loader hands out a library that it has open by its name.
            stem = Path(self._folder.name) / f"kernel{next(self._numbers)}"
            loadable = write_loadable(kernel.executable, stem), packed_b(plan)
        except BuildError as error:
            return Measurement(Outcome.COMPILE_ERROR, note=str(error))
        try:
            wrong = self._worker.call("check", loadable, timeout_s=_patience(1, predicted_s))
        except WorkerFailure as error:
            return Measurement(_outcome(error), note=str(error))
        except WorkerError as error:
            return Measurement(Outcome.RUN_ERROR, note=str(error))
        if wrong:
            return Measurement(Outcome.WRONG_RESULT, note=wrong)
        self._loadables[plan] = loadable
        self.kernels[plan] = kernel
        return Measurement(Outcome.OK)

    def calibrate(self, plan: GemmPlan, batch_s: float, predicted_s: float) -> int:
        timeout_s = _patience(1, max(batch_s, predicted_s))
        calls = self._worker.call("calibrate", self._loadables[plan], batch_s, timeout_s=timeout_s)
        return int(calls)

    def sample(self, plan: GemmPlan, calls: int, predicted_s: float) -> float:
        timeout_s = _patience(calls, predicted_s)
        seconds = self._worker.call("sample", self._loadables[plan], calls, timeout_s=timeout_s)
        return float(seconds)


class ReplayRunner:
    """Answers from recorded samples, so that a policy is tested without a device and a clock.

    ``recorded`` maps a plan to its samples in seconds, taken in a circle, or to how it failed.
    """

    def __init__(self, recorded: Mapping[GemmPlan, tuple[float, ...] | Measurement]) -> None:
        self._recorded = recorded
        self.asked: list[GemmPlan] = []

    def prepare(self, plan: GemmPlan, predicted_s: float) -> Measurement:
        answer = self._recorded[plan]
        return answer if isinstance(answer, Measurement) else Measurement(Outcome.OK)

    def calibrate(self, plan: GemmPlan, batch_s: float, predicted_s: float) -> int:
        samples = self._recorded[plan]
        assert not isinstance(samples, Measurement)
        return max(1, round(batch_s / samples[0])) if samples[0] else 1

    def sample(self, plan: GemmPlan, calls: int, predicted_s: float) -> float:
        samples = self._recorded[plan]
        assert not isinstance(samples, Measurement)
        taken = self.asked.count(plan)
        self.asked.append(plan)
        return samples[taken % len(samples)]


def _patience(calls: int, predicted_s: float) -> float:
    return START_S + HANG_FACTOR * calls * predicted_s


def _outcome(failure: WorkerFailure) -> Outcome:
    return Outcome.TIMEOUT if failure.how == HUNG else Outcome.RUN_ERROR
