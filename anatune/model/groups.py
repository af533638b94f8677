"""Steps that read each other's results: which are absorbed, which share a region (rank 4)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from anatune.hwprofile.profile import Profile
from anatune.model import candidates
from anatune.model.fusion import best_member, options
from anatune.model.machine import machine
from anatune.model.rows import best_rows
from anatune.plan.fusion import Decision, FusionEstimate, FusionPlan
from anatune.plan.group import (
    AloneStage,
    Blocks,
    GroupEstimate,
    GroupPlan,
    Stage,
    StageEstimate,
    TogetherStage,
)
from anatune.workload.absorb import absorbable, absorbed
from anatune.workload.fused import Fused
from anatune.workload.group import Group, Step

Option = tuple[GroupPlan, GroupEstimate]

Costed = tuple[Stage, StageEstimate]

LONGEST = 12
"""Steps of a stage at most: each is code of its own within one loop."""


def group_options(profile: Profile, workload: Group, threads: int | None = None) -> list[Option]:
    """The plans for ``workload``, best first: the model's pick, and each step by itself."""
    count = candidates.thread_count(profile, threads)
    found: dict[GroupPlan, GroupEstimate] = {}
    every = absorbable(workload)
    for names in dict.fromkeys(((), every)):
        for fuse in (False, True):
            plan, estimate = _staged(profile, workload, names, count, fuse)
            found.setdefault(plan, estimate)
    return sorted(found.items(), key=lambda option: option[1].seconds)


def _staged(
    profile: Profile, workload: Group, names: tuple[str, ...], threads: int, fuse: bool
) -> Option:
    """The fastest sequence of stages for what is left when ``names`` are absorbed.

    A dynamic programme over the steps in their order: the best way to do the first of them, each
    stage a run of neighbours. Exact for the costs and the order that it is given.
    """
    group = absorbed(workload, names)
    steps = group.steps
    best: list[tuple[float, tuple[Costed, ...]]] = [(0.0, ())]
    for stop in range(1, len(steps) + 1):
        ways = []
        for start in range(max(0, stop - LONGEST) if fuse else stop - 1, stop):
            for costed in _stages(profile, group, steps[start:stop], threads):
                before, stages = best[start]
                ways.append((before + costed[1].cycles, (*stages, costed)))
        best.append(min(ways, key=lambda way: way[0]))
    cycles, stages = best[-1]
    plan = GroupPlan(workload=workload, absorbed=names, stages=tuple(s for s, _ in stages))
    seconds = cycles / machine(profile, threads).hz
    return plan, GroupEstimate(seconds=seconds, stages=tuple(e for _, e in stages))


def _stages(
    profile: Profile, group: Group, steps: Sequence[Step], threads: int
) -> list[Costed]:
    """The ways to do these steps in one region."""
    if len(steps) == 1:
        return [_alone(profile, group, steps[0], threads)]
    found: list[Costed] = []
    blocks = Blocks(group, tuple(step.name for step in steps))
    rows = best_rows(profile, blocks, threads, group.operand_bytes)
    if rows is not None:
        found.append(rows)
    names = {step.name for step in steps}
    if threads > 1 and not any(names & set(step.reads) for step in steps):
        found += _together(profile, steps, threads)
    return found


def _alone(profile: Profile, group: Group, step: Step, threads: int) -> Costed:
    plan, estimate = best_member(profile, step.workload, threads, group.operand_bytes)
    here = machine(profile, threads)
    barrier = here.barrier_cycles if plan.threads > 1 else 0.0
    return AloneStage(step=step.name, plan=plan), StageEstimate(
        cycles=estimate.cycles, barrier_cycles=barrier,
        steps=((estimate.cycles, estimate.bound),),
    )


def _together(profile: Profile, steps: Sequence[Step], threads: int) -> list[Costed]:
    fused = Fused(tuple(step.workload for step in steps))
    hz = machine(profile, threads).hz
    found: list[Costed] = []
    for plan, estimate in _fused_options(profile, fused, threads):
        if plan.decision is Decision.ONE_BY_ONE:
            continue
        stage = TogetherStage(names=tuple(step.name for step in steps), plan=plan)
        barrier = machine(profile, threads).barrier_cycles
        found.append((stage, StageEstimate(
            cycles=estimate.seconds * hz, barrier_cycles=barrier, steps=estimate.members)))
    return found


@lru_cache(maxsize=256)
def _fused_options(
    profile: Profile, fused: Fused, threads: int
) -> list[tuple[FusionPlan, FusionEstimate]]:
    return options(profile, fused, threads)
