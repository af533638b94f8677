"""Ways to compute several workloads: a plan for each, what the model predicts of it, and its pick.

Nothing here measures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fusion_rows import UNFUSED, way_of

from anatune.hwprofile.profile import Profile
from anatune.model.fusion import options
from anatune.model.groups import group_options
from anatune.plan import GemmPlan
from anatune.plan.fusion import Decision, FusionPlan, Member, Piece
from anatune.plan.fusion import alone as for_one
from anatune.plan.group import GroupPlan, TogetherStage
from anatune.workload.fused import Fused
from anatune.workload.group import Group

FUSED = way_of(Decision.FUSED)

PLANNED = "planned together"
"""The model's way for a group, where it is none of the `Decision`s."""

Plan = GroupPlan | FusionPlan


@dataclass(frozen=True)
class Ways:
    """Plans and predicted seconds by way; a way that the model did not cost has a plan alone."""

    plans: Mapping[str, Plan]
    predicted_s: Mapping[str, float]
    pick: str


def ways_of(profile: Profile, workload: Fused | Group, threads: int) -> Ways:
    """All decisions for workloads that do not read each other's results, and the pick."""
    if isinstance(workload, Group):
        return _of_one_input(profile, workload, threads)
    found = options(profile, workload, threads)
    plans = {way_of(plan.decision): plan for plan, _ in found}
    predicted = {way_of(plan.decision): estimate.seconds for plan, estimate in found}
    pick = next(iter(plans))
    if FUSED not in plans:
        plans[FUSED] = in_a_row(plans[UNFUSED])
    return Ways(plans, predicted, pick)


def _of_one_input(profile: Profile, workload: Group, threads: int) -> Ways:
    """Workloads that share an input: their group's pick is some decision, or blocks of its rows."""
    own = planned_together(profile, workload, threads)
    members = Fused(tuple(step.workload for step in workload.steps))
    names = tuple(step.name for step in workload.steps)
    plans, predicted = dict(own.plans), dict(own.predicted_s)
    pick = own.pick
    for plan, estimate in options(profile, members, threads):
        if plan.decision is Decision.ONE_BY_ONE:
            continue
        way, stage = way_of(plan.decision), TogetherStage(names=names, plan=plan)
        plans[way] = GroupPlan(workload=workload, absorbed=(), stages=(stage,))
        predicted[way] = estimate.seconds
        if plans.get(PLANNED) == plans[way]:
            pick = way
            del plans[PLANNED], predicted[PLANNED]
    return Ways(plans, predicted, pick)


def planned_together(profile: Profile, workload: Group, threads: int) -> Ways:
    """The model's pick for a group beside every step by itself; one way if they are the same."""
    found = group_options(profile, workload, threads)
    best, estimate = found[0]
    plain, of_plain = next((plan, e) for plan, e in found if left_alone(plan))
    if best == plain:
        return Ways({UNFUSED: plain}, {UNFUSED: of_plain.seconds}, UNFUSED)
    predicted = {PLANNED: estimate.seconds, UNFUSED: of_plain.seconds}
    return Ways({PLANNED: best, UNFUSED: plain}, predicted, PLANNED)


def left_alone(plan: GroupPlan) -> bool:
    return plan.decision is Decision.ONE_BY_ONE


def in_a_row(unfused: FusionPlan) -> FusionPlan:
    """One thread has nothing to decide: its fused way is all whole pieces in a row."""
    members = tuple(map(_for_one, unfused.members))
    share = tuple(Piece(member=k, start=0, stop=m.units) for k, m in enumerate(members))
    return FusionPlan(
        workload=unfused.workload, decision=Decision.FUSED, members=members, shares=(share,)
    )


def _for_one(member: Member) -> Member:
    if isinstance(member.plan, GemmPlan):
        return replace(member, plan=for_one(member.plan, member.along))
    return member
