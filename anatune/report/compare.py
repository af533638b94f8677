"""Side by side with the installed libraries, each with its best setting, turn and turn about (rank 9).

Every runner has a process of its own. They take turns, so that a drift of the machine meets all alike;
the heats find the setting that suits a library best for this very shape, the final is what counts.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol

from anatune.errors import OptionError, VerificationError, WorkerError, require
from anatune.measure.outcome import Outcome
from anatune.measure.runner import LocalRunner
from anatune.measure.worker import Worker
from anatune.plan import GemmPlan

OURS = "anatune"
AS_INSTALLED = "as installed"

TOLD_CORE_TYPES = {
    "x86_64": ("SkylakeX", "Cooperlake", "SapphireRapids", "Zen", "Haswell"),
    "aarch64": ("ARMV8", "NEOVERSEN1", "NEOVERSEV1", "NEOVERSEN2"),
}
"""Core types by which OpenBLAS can be told the processor (its driver/others/dynamic*.c); ISA -> names."""

BATCH_S = 0.02
"""Length of a timed batch, seconds: long against the timer and against one thread's wake-up."""

SETTLE_S = 0.03
"""Pause before a turn, seconds: the threads of TVM's pool spin some milliseconds before they sleep."""

HEAT_ROUNDS = 3
"""Rounds in which every setting of a library runs."""

FINAL_ROUNDS = 9
"""Rounds of the final, whose median counts."""

PATIENCE_S = 120.0
"""A runner that has not answered after this many seconds is taken to hang."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """One runner's result: median seconds per call and their spread, or why there is none."""

    library: str
    setting: str
    time_s: float | None = None
    spread_s: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """All rows for one plan; ours first. ``tried`` has the heats of the settings that did not win."""

    plan: GemmPlan
    rows: tuple[Row, ...]
    tried: tuple[Row, ...] = ()

    @property
    def ratio(self) -> float | None:
        """Our speed over that of the fastest other runner; None where either has no time."""
        ours, *others = (row.time_s for row in self.rows)
        timed = [t for t in others if t is not None]
        return min(timed) / ours if ours and timed else None

    def flops_per_s(self, row: Row) -> float | None:
        return self.plan.workload.flops / row.time_s if row.time_s else None


class Turn(Protocol):
    """One runner's process: seconds per call over a batch."""

    def __call__(self, calls: int) -> float: ...


@dataclass
class _Runner:
    library: str
    setting: str
    turn: Turn | None = None  # None: it failed, and `note` says how
    calls: int = 0  # per batch; 0 as long as nobody knows
    samples: list[float] = field(default_factory=list)
    note: str = ""

    def row(self) -> Row:
        if not self.samples:
            return Row(self.library, self.setting, note=self.note or "not timed")
        middle = statistics.median(self.samples)
        spread = statistics.median(abs(s - middle) for s in self.samples)
        return Row(self.library, self.setting, middle, spread, self.note)


def compare(
    plan: GemmPlan,
    predicted_s: float,
    threads: int | None = None,
    progress: Tell = lambda text: None,
    rounds: int = FINAL_ROUNDS,
) -> Comparison:
    """Time the kernel of ``plan`` beside numpy's matmul, as installed and told the core type.

    The libraries may use ``threads``; None: as many as the plan, which may have left some idle.

    Raises:
        WorkerError, VerificationError: our own kernel that does not run or computes something else.
    """
    require(rounds >= 1, f"rounds = {rounds}: at least 1", OptionError)
    with ExitStack() as stack:
        ours = _start_ours(plan, predicted_s, stack)
        installed, told = _start_numpy(plan, threads or plan.grid.threads, stack, progress)
        progress("finding the setting that suits the library best")
        _take_turns([ours, installed, *told], HEAT_ROUNDS)
        best = min(
            (r for r in told if r.samples), key=lambda r: r.row().time_s or math.inf, default=None
        )
        tried = tuple(r.row() for r in told if r is not best)
        final = [r for r in (ours, installed, best) if r is not None]
        for runner in final:
            runner.samples.clear()
        progress(f"{rounds} rounds, turn and turn about")
        _take_turns(final, rounds)
    return Comparison(plan, tuple(r.row() for r in final), tried)


def _start_ours(plan: GemmPlan, predicted_s: float, stack: ExitStack) -> _Runner:
    local = stack.enter_context(LocalRunner(plan))
    ready = local.prepare(plan, predicted_s)
    wrong = ready.outcome is Outcome.WRONG_RESULT
    require(not wrong, f"plan {plan}: {ready.note}", VerificationError)
    require(
        ready.outcome is Outcome.OK,
        f"plan {plan}: {ready.outcome.value}: {ready.note}",
        WorkerError,
    )
    return _Runner(OURS, "tuned", lambda calls: local.sample(plan, calls, predicted_s))


def _start_numpy(
    plan: GemmPlan, threads: int, stack: ExitStack, progress: Tell
) -> tuple[_Runner, list[_Runner]]:
    """numpy as installed and, where its BLAS is OpenBLAS, told each core type in turn."""
    progress("starting numpy")
    installed, worker = _start(plan, threads, "numpy", AS_INSTALLED, None, stack)
    if worker is None:
        return installed, []
    library = str(worker.call("library", timeout_s=PATIENCE_S))
    installed.library = f"numpy ({library})"
    core_types: Sequence[str] = ()
    if "openblas" in library.lower():
        core_types = TOLD_CORE_TYPES.get(plan.target.isa, ())
    told = []
    for core_type in core_types:
        progress(f"starting numpy told {core_type}")
        setting = f"told {core_type}"
        told.append(_start(plan, threads, installed.library, setting, core_type, stack)[0])
    return installed, told


def _start(
    plan: GemmPlan,
    threads: int,
    library: str,
    setting: str,
    core_type: str | None,
    stack: ExitStack,
) -> tuple[_Runner, Worker | None]:
    """A checked runner; one that fails has no turns, and says why."""
    factory = "anatune.report.competitors:NumpyMatmul"
    worker = stack.enter_context(Worker(factory, (plan.workload, threads, core_type), threads))
    runner = _Runner(library, setting)
    try:
        runner.note = worker.call("check", timeout_s=PATIENCE_S)
    except WorkerError as error:
        runner.note = str(error)
    if runner.note:
        return runner, None
    runner.turn = lambda calls: _sample(worker, calls)
    return runner, worker


def _sample(worker: Worker, calls: int) -> float:
    return float(worker.call("sample", calls, timeout_s=PATIENCE_S))


def _take_turns(
    runners: Sequence[_Runner], rounds: int, rest: Callable[[float], Any] = time.sleep
) -> None:
    """``rounds`` batches of each runner, every second round in the opposite order."""
    for number in range(rounds):
        for runner in runners if number % 2 == 0 else reversed(runners):
            if runner.turn is None:
                continue
            rest(SETTLE_S)
            try:
                if not runner.calls:
                    runner.calls = max(1, math.ceil(BATCH_S / max(runner.turn(1), 1e-9)))
                runner.samples.append(runner.turn(runner.calls))
            except WorkerError as error:
                runner.note, runner.turn = str(error), None
