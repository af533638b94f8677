"""Side by side with the installed libraries, each with its best setting (rank 9).

Every runner has a process of its own, and they take turns. The heats find the setting that suits a
library best for this very shape; the final is what counts.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from anatune.errors import OptionError, WorkerError, require
from anatune.hwprofile import Profile
from anatune.machine import cpu_only
from anatune.measure.outcome import Outcome
from anatune.measure.runner import LocalRunner
from anatune.measure.worker import Worker
from anatune.plan import CodeTarget, GemmPlan
from anatune.report.turns import Entrant, fastest, take_turns
from anatune.workload import Matmul

OURS = "anatune"
AS_INSTALLED = "as installed"

TOLD_CORE_TYPES = {
    "x86_64": ("SkylakeX", "Cooperlake", "SapphireRapids", "Zen", "Haswell"),
    "aarch64": ("ARMV8", "NEOVERSEN1", "NEOVERSEV1", "NEOVERSEN2"),
}
"""Instruction set -> core types that OpenBLAS can be told (its driver/others/dynamic*.c)."""

BATCH_S = 0.02
"""Length of a timed batch, seconds: long against the timer and against one thread's wake-up."""

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

    @classmethod
    def of(cls, entrant: Entrant) -> Row:
        timing = entrant.timing
        if timing is None:
            return cls(entrant.library, entrant.setting, note=entrant.note or "not timed")
        return cls(entrant.library, entrant.setting, timing.median_s, timing.spread_s, entrant.note)


@dataclass(frozen=True)
class Comparison:
    """All rows for one plan; ours first. ``tried`` has the heats of the settings that lost."""

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


def runnable_here(target: Any, progress: Tell = lambda text: None) -> Profile:
    """The profile of ``target``, whose kernels this machine can run.

    Raises:
        OptionError: it cannot, or they are not for a CPU.
        ProfileError: no such profile.
    """
    from anatune.codegen.target import runs_here

    profile = cpu_only(target, progress)
    code = CodeTarget.of(profile.target)
    why = f"target = {profile.name!r}: compare measures, and this machine cannot run code for it"
    require(runs_here(code), why, OptionError)
    return profile


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
        OptionError: fewer than one round.
        BuildError, VerificationError, WorkerError: our own kernel does not build, computes
            something else, or does not run.
    """
    require(rounds >= 1, f"rounds = {rounds}: at least 1", OptionError)
    with ExitStack() as stack:
        ours = _start_ours(plan, predicted_s, stack)
        installed, told = _start_numpy(plan, threads or plan.grid.threads, stack, progress)
        progress("finding the setting that suits the library best")
        take_turns([ours, installed, *told], HEAT_ROUNDS, BATCH_S)
        best = fastest(told)
        tried = tuple(Row.of(e) for e in told if e is not best)
        final = [e for e in (ours, installed, best) if e is not None]
        for entrant in final:
            entrant.samples.clear()
        progress(f"{rounds} rounds, turn and turn about")
        take_turns(final, rounds, BATCH_S)
    return Comparison(plan, tuple(Row.of(e) for e in final), tried)


def numpy_entrant(
    workload: Matmul, threads: int, core_type: str | None, stack: ExitStack
) -> Entrant:
    """``numpy.matmul`` in a process of its own, checked; OpenBLAS is told ``core_type`` if given.

    One that fails has no turns, and says why.
    """
    factory = "anatune.report.competitors:NumpyMatmul"
    worker = stack.enter_context(Worker(factory, (workload, threads, core_type), threads))
    entrant = Entrant("numpy", AS_INSTALLED if core_type is None else f"told {core_type}")
    try:
        entrant.note = worker.call("check", timeout_s=PATIENCE_S)
        entrant.library = f"numpy ({worker.call('library', timeout_s=PATIENCE_S)})"
    except WorkerError as error:
        entrant.note = str(error)
    if not entrant.note:
        entrant.batch = lambda calls: float(worker.call("sample", calls, timeout_s=PATIENCE_S))
    return entrant


def _start_ours(plan: GemmPlan, predicted_s: float, stack: ExitStack) -> Entrant:
    local = stack.enter_context(LocalRunner(plan))
    ready = local.prepare(plan, predicted_s)
    why = f"plan {plan}: {ready.outcome.value}: {ready.note}"
    require(ready.outcome is Outcome.OK, why, ready.outcome.error)
    return Entrant(OURS, "tuned", lambda calls: local.sample(plan, calls, predicted_s))


def _start_numpy(
    plan: GemmPlan, threads: int, stack: ExitStack, progress: Tell
) -> tuple[Entrant, list[Entrant]]:
    """numpy as installed and, where its BLAS is OpenBLAS, told each core type."""
    progress("starting numpy")
    installed = numpy_entrant(plan.workload, threads, None, stack)
    told: list[Entrant] = []
    if "openblas" in installed.library.lower():
        for core_type in TOLD_CORE_TYPES.get(plan.target.isa, ()):
            progress(f"starting numpy told {core_type}")
            told.append(numpy_entrant(plan.workload, threads, core_type, stack))
    return installed, told
