"""Why steps are absorbed, share a region or stand alone, with the numbers (rank 4)."""

from __future__ import annotations

from collections.abc import Sequence

from anatune.hwprofile.profile import Profile
from anatune.model.groups import Option
from anatune.model.machine import machine
from anatune.plan.group import AloneStage, GroupPlan, RowsStage, Stage, StageEstimate
from anatune.units import CAPACITY, CLOCK


def explain_group(profile: Profile, found: Sequence[Option], chosen: GroupPlan) -> str:
    """The decision for ``chosen`` among ``found``, then its stages."""
    here = machine(profile, chosen.threads)
    estimate = next(estimate for plan, estimate in found if plan == chosen)
    lines = [f"{chosen.workload} on {profile.name} ({profile.title})", "decision"]
    for plan, each in found:
        mark = " (chosen)" if plan == chosen else ""
        lines.append(f"  {plan}: {each}{mark}")
    lines.append(f"  a barrier: {here.barrier_cycles:.4g} cycles at {CLOCK.show(here.hz)}")
    if chosen.absorbed:
        lines.append(f"  in no array, computed where they are read: {', '.join(chosen.absorbed)}")
    lines.append("stages")
    for stage, costs in zip(chosen.stages, estimate.stages):
        lines += _stage(chosen, stage, costs)
    return "\n".join(lines)


def _stage(plan: GroupPlan, stage: Stage, estimate: StageEstimate) -> list[str]:
    lines = [f"  {_title(plan, stage)}: {estimate.cycles:.4g} cycles"]
    for name, step_plan, (cycles, bound) in zip(stage.names, stage.plans, estimate.steps):
        workload = plan.steps.by_name[name].workload
        lines.append(f"    {name} = {workload}: {step_plan}")
        lines.append(f"      {cycles:.4g} cycles, bound by {bound}")
    return lines


def _title(plan: GroupPlan, stage: Stage) -> str:
    if isinstance(stage, AloneStage):
        return "alone"
    if not isinstance(stage, RowsStage):
        return f"independent, {stage.plan.decision.value.replace('_', ' ')}"
    blocks = plan.blocks(stage)
    count = blocks.items * blocks.count(stage.rows)
    near = sum(
        blocks.workload(step, stage.rows).output.size_bytes
        for step in blocks.steps if step.name in blocks.near
    )  # fmt: skip
    kept = f", {CAPACITY.show(near)} on the way in the thread's memory" if near else ""
    return f"{count} blocks of {stage.rows} rows, all steps for each{kept}"
