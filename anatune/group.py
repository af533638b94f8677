"""The pipeline of all but single matrix products: ways planned, built, verified, timed (rank 8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from anatune.codegen.library import Code
from anatune.errors import AnatuneError, WorkerError
from anatune.group_result import GroupCandidate, GroupResult
from anatune.hwprofile import Profile
from anatune.machine import HOST, cpu_only
from anatune.measure.alone import alone
from anatune.measure.budget import Budget
from anatune.measure.builder import Builder
from anatune.measure.entry import Entry
from anatune.measure.nursery import Nursery
from anatune.measure.outcome import Measurement, Outcome
from anatune.measure.pinning import processors
from anatune.model import candidates as model
from anatune.model.fusion import options
from anatune.model.groups import group_options
from anatune.plan import CodeTarget
from anatune.plan.fusion import FusionEstimate, FusionPlan
from anatune.plan.group import GroupEstimate, GroupPlan
from anatune.records import Kernels
from anatune.workload.fused import Fused
from anatune.workload.group import Group
from anatune.workload.maps import Map

INDEPENDENT_BENCH = "anatune.measure.group_bench:GroupBench"
DEPENDENT_BENCH = "anatune.measure.group_bench:DependentBench"

PATIENCE_S = 60.0
"""Time that a worker may take besides what a kernel is predicted to take, seconds."""

HANG_FACTOR = 1000.0
"""A request that takes this many times what a call is predicted to take is taken to hang."""

BATCH_S = 0.004
"""Length of a timed batch, seconds."""

ROUNDS = 5
"""Times that all ways are timed in turn; a way's fastest counts, as all else only slows it down."""

FASTER = 0.98
"""Share of the model's pick's time below which another way is taken for it: less is noise."""

TogetherPlan = FusionPlan | GroupPlan

Option = tuple[TogetherPlan, FusionEstimate | GroupEstimate]

MODEL_ONLY = Measurement(Outcome.SKIPPED, note="model only")
ELSEWHERE = Measurement(Outcome.SKIPPED, note="for another machine: compiled, not run")


def tune_group(
    workload: Fused | Group | Map, target: Any = HOST, *, budget: Any = None,
    threads: int | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> GroupResult:  # fmt: skip
    """A verified kernel for workloads that are computed together, and the decision how.

    Args:
        workload: what `fused`, `group`, `chain`, `elementwise`, `stencil`, `reduce`, `scan` or
            `softmax` returns.
        budget: 0: the model decides, and its pick is verified; else all ways are built, verified
            and timed in turn, and the fastest is taken.
        target, threads, progress: as `tune` takes them.

    Raises:
        WorkloadError, OptionError, ProfileError: an argument that cannot be used, named.
        BuildError, VerificationError, WorkerError: no way led to a kernel that works.
    """
    single = isinstance(workload, Map)
    together = Fused((workload,)) if isinstance(workload, Map) else workload
    limit = Budget.parse(budget)
    profile = cpu_only(target, progress)
    count = model.thread_count(profile, threads)
    ways = _options(profile, together, count)
    if not _runs_here(profile):
        return _result(profile, ways, {ways[0][0]: ELSEWHERE}, {}, ways[0][0], None, single)
    wanted = ways if limit.candidates else ways[:1]
    bench = DEPENDENT_BENCH if isinstance(together, Group) else INDEPENDENT_BENCH
    with Nursery(bench, (together,), count) as nursery, Builder(processors(), Kernels()) as builder:
        found: dict[TogetherPlan, Measurement] = {}
        paths: dict[TogetherPlan, Path] = {}
        for entry, built in builder.build([Entry(plan) for plan, _ in wanted]):
            plan = entry.plan
            progress(f"verifying: {plan.decided}")
            if isinstance(built, Measurement):
                found[plan] = built
                continue
            paths[plan] = Path(built.path)
            found[plan] = _checked(nursery, paths[plan], _patience_s(dict(ways)[plan]))
            if found[plan].outcome is Outcome.OK:
                builder.keep(plan)
        fine = [(p, e) for p, e in wanted if found[p].outcome is Outcome.OK]
        if not fine:
            raise _why_none(found)
        seconds = _timed(nursery, fine, paths) if len(fine) > 1 else {}
        chosen = _chosen([plan for plan, _ in fine], seconds)
        return _result(profile, ways, found, seconds, chosen, Code.of(paths[chosen]), single)


def _options(profile: Profile, workload: Fused | Group, threads: int) -> list[Option]:
    """The ways to compute ``workload``, the model's pick first."""
    if isinstance(workload, Group):
        return list(group_options(profile, workload, threads))
    return list(options(profile, workload, threads))


def _chosen(fine: Sequence[TogetherPlan], seconds: dict[TogetherPlan, float]) -> TogetherPlan:
    """The first, which is the model's pick, unless another was clearly faster."""
    pick = fine[0]
    if not seconds:
        return pick
    fastest = min(fine, key=lambda plan: seconds[plan])
    return fastest if seconds[fastest] < FASTER * seconds[pick] else pick


def _patience_s(estimate: FusionEstimate | GroupEstimate) -> float:
    return PATIENCE_S + HANG_FACTOR * estimate.seconds


def _checked(nursery: Nursery, path: Path, patience_s: float) -> Measurement:
    with nursery.cell() as cell:
        try:
            wrong = cell.call("check", str(path), timeout_s=patience_s)
        except WorkerError as error:
            return Measurement(Outcome.RUN_ERROR, note=str(error))
    return Measurement(Outcome.WRONG_RESULT if wrong else Outcome.OK, note=wrong)


def _timed(
    nursery: Nursery, ways: Sequence[Option], paths: dict[TogetherPlan, Path]
) -> dict[TogetherPlan, float]:
    """Seconds of each way, all timed in turn so that no way has the quiet minutes alone."""
    samples: dict[TogetherPlan, list[float]] = {plan: [] for plan, _ in ways}
    with alone(), nursery.cell() as cell:
        calls = {
            plan: cell.call("calls", str(paths[plan]), BATCH_S, timeout_s=PATIENCE_S)
            for plan, _ in ways
        }
        for _ in range(ROUNDS):
            for plan, estimate in ways:
                arguments = (str(paths[plan]), calls[plan])
                patience_s = _patience_s(estimate)
                samples[plan].append(cell.call("sample", *arguments, timeout_s=patience_s))
    return {plan: min(times) for plan, times in samples.items()}


def _result(
    profile: Profile, ways: Sequence[Option], found: dict[TogetherPlan, Measurement],
    seconds: dict[TogetherPlan, float], chosen: TogetherPlan, code: Code | None, single: bool,
) -> GroupResult:  # fmt: skip
    candidates = [
        GroupCandidate(plan, estimate, found.get(plan, MODEL_ONLY), seconds.get(plan))
        for plan, estimate in ways
    ]
    place = [plan for plan, _ in ways].index(chosen)
    return GroupResult(profile, code, candidates, place, single)


def _runs_here(profile: Profile) -> bool:
    from anatune.codegen.target import runs_here

    return runs_here(CodeTarget.of(profile.target))


def _why_none(found: dict[TogetherPlan, Measurement]) -> AnatuneError:
    first = next(iter(found.values()))
    why = f"none of {len(found)} ways gave a working kernel; the first: {first.note}"
    return first.outcome.error(why)
