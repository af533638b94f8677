"""Why workloads are fused, run side by side or left alone, with the numbers (rank 4)."""

from __future__ import annotations

from collections.abc import Sequence

from anatune.hwprofile.profile import Profile
from anatune.model.fusion import Option
from anatune.model.machine import machine
from anatune.plan.fusion import Decision, FusionEstimate, FusionPlan, Member
from anatune.units import CLOCK

MEANING = {
    Decision.FUSED: "fuse: one region, divided by predicted cost",
    Decision.SIDE_BY_SIDE: "side by side: one region, threads of their own",
    Decision.ONE_BY_ONE: "leave: one after the other, a region each",
}

SHOWN_SHARES = 16
"""Shares that are printed; the others are like them."""


def explain_fusion(profile: Profile, found: Sequence[Option], chosen: FusionPlan) -> str:
    """The decision for ``chosen`` among ``found``, then members and shares."""
    here = machine(profile, max(plan.threads for plan, _ in found))
    estimate = next(estimate for plan, estimate in found if plan == chosen)
    lines = [f"{chosen.workload} on {profile.name} ({profile.title})", "decision"]
    for plan, each in found:
        mark = " (chosen)" if plan == chosen else ""
        lines.append(f"  {MEANING[plan.decision]}: {each}{mark}")
    lines += [f"  a barrier: {here.barrier_cycles:.4g} cycles at {CLOCK.show(here.hz)}", "members"]
    for number, (member, (cycles, bound)) in enumerate(zip(chosen.members, estimate.members)):
        lines.append(f"  {number}. {member.plan.workload}: {member.plan}")
        bounded = f"bound by {bound}{_cut(member)}"
        lines.append(f"     {cycles:.4g} cycles, all threads together; {bounded}")
    return "\n".join([*lines, *_shares(chosen, estimate)])


def _cut(member: Member) -> str:
    if not member.along:
        return ""
    return f"; cut along {member.along} in {member.units} pieces of {member.unit}"


def _shares(plan: FusionPlan, estimate: FusionEstimate) -> list[str]:
    if not plan.shares:
        return []
    mean = sum(estimate.workers) / len(estimate.workers)
    lines = [f"shares (busiest thread {max(estimate.workers) / mean:.3f} of the mean)"]
    for number, (share, cycles) in enumerate(zip(plan.shares, estimate.workers)):
        if number == SHOWN_SHARES:
            lines.append(f"  and {len(plan.shares) - number} more")
            break
        pieces = ", ".join(f"{p.member}[{p.start}:{p.stop}]" for p in share) or "nothing"
        lines.append(f"  thread {number}: {pieces}: {cycles:.4g} cycles")
    return lines
