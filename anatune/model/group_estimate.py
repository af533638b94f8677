"""What a plan of steps that read each other is predicted to take, stage by stage (rank 4)."""

from __future__ import annotations

from collections.abc import Sequence

from anatune.hwprofile.profile import Profile
from anatune.model import candidates
from anatune.model.fusion import predict_fusion, predict_member
from anatune.model.machine import machine
from anatune.model.rows import predict_rows
from anatune.plan import Estimate, GemmPlan
from anatune.plan.fusion import FusionEstimate
from anatune.plan.group import (
    AloneStage,
    GroupEstimate,
    GroupPlan,
    Stage,
    StageEstimate,
    TogetherStage,
)


def predict_group(profile: Profile, plan: GroupPlan) -> GroupEstimate:
    """The estimate of ``plan``; blocks of rows that the model would not plan so are taken to run
    as well as those that it would."""
    threads = plan.threads
    stages = [_predicted(profile, plan, stage, threads) for stage in plan.stages]
    return of_stages(profile, plan.stages, stages, threads)


def check_group_plan(profile: Profile, plan: GroupPlan) -> None:
    """Raise IllegalPlan, with the numbers, for a plan that the machine cannot hold."""
    candidates.check_threads(profile, plan.threads)
    for one in plan.plans:
        if isinstance(one, GemmPlan):
            candidates.check_plan(profile, one)


def of_stages(
    profile: Profile, stages: Sequence[Stage], estimates: Sequence[StageEstimate], threads: int
) -> GroupEstimate:
    """Stages one after the other; the terms are the cycles of steps."""
    terms = {
        f"{name}, {bound}": cycles
        for stage, estimate in zip(stages, estimates)
        for name, (cycles, bound) in zip(stage.names, estimate.steps)
    }
    cycles = sum(estimate.cycles for estimate in estimates)
    return GroupEstimate(
        seconds=cycles / machine(profile, threads).hz, cycles=cycles, stages=tuple(estimates),
        terms=tuple(sorted(terms.items(), key=lambda item: -item[1])),
    )  # fmt: skip


def of_step(
    profile: Profile, estimate: Estimate, mine: int, threads: int
) -> StageEstimate:
    """A step by itself on ``mine`` of ``threads``."""
    barrier = machine(profile, threads).barrier_cycles if mine > 1 else 0.0
    steps = ((estimate.cycles, estimate.bound),)
    return StageEstimate(cycles=estimate.cycles, barrier_cycles=barrier, steps=steps)


def of_region(profile: Profile, estimate: FusionEstimate, threads: int) -> StageEstimate:
    """Independent steps in one region."""
    here, busy = machine(profile, threads), len(estimate.workers)
    return StageEstimate(
        cycles=estimate.seconds * here.hz, barrier_cycles=here.barrier_cycles,
        steps=tuple((cycles / busy, bound) for cycles, bound in estimate.members),
    )  # fmt: skip


def _predicted(
    profile: Profile, plan: GroupPlan, stage: Stage, threads: int
) -> StageEstimate:
    around = plan.steps.operand_bytes
    if isinstance(stage, AloneStage):
        estimate = predict_member(profile, stage.plan, around)
        return of_step(profile, estimate, stage.plan.threads, threads)
    if isinstance(stage, TogetherStage):
        return of_region(profile, predict_fusion(profile, stage.plan), threads)
    return predict_rows(profile, plan.blocks(stage), stage, around)
