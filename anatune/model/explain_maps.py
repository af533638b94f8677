"""Why an element-wise kernel, a fold or a softmax is cut as it is, with the numbers (rank 4)."""

from __future__ import annotations

from collections.abc import Sequence

from anatune.hwprofile.profile import Profile
from anatune.model.machine import machine
from anatune.model.maps import CODE_OPERATIONS, operations_of_vector, registers_of
from anatune.model.work import OVERLAP
from anatune.plan import Estimate
from anatune.plan.maps import MapPlan
from anatune.units import CAPACITY, CLOCK, ENERGY, TIME

SHOWN_WAYS = 8
"""Other plans that are named; the rest are slower."""


def explain_map(
    profile: Profile, ways: Sequence[tuple[MapPlan, Estimate]], plan: MapPlan
) -> str:
    """The cut, the terms of the time, binding one first, and the ways that were not taken."""
    estimate, w = dict(ways)[plan], plan.workload
    share = -(-plan.units // plan.threads)
    in_registers, operations = registers_of(w, plan.unroll), operations_of_vector(w)
    lines = [
        f"{w} on {profile.name} ({profile.title})",
        f"plan: {plan}",
        "vectors",
        f"  {plan.lanes} lanes of {w.held}; {plan.unroll} at once take {in_registers} of "
        f"{profile.core.vector_registers} registers",
        f"  {operations:g} operations each; a turn of {plan.unroll * operations:g}, "
        f"at most {CODE_OPERATIONS} where more than one vector is taken",
        "units",
        f"  {plan.units} of a {plan.unit}; the busiest of {plan.threads} thread(s) has {share}",
        f"traffic (modelled, {plan.threads} thread(s) together)",
        *(f"  out of {name}: {CAPACITY.show(int(size))}" for name, size in estimate.bytes_moved),
        "time (modelled, busiest thread)",
        *(f"  {name}: {c:.4g} cycles, {c / estimate.cycles:.1%}" for name, c in estimate.terms),
        *_sum(profile, plan, estimate),
        "ways",
    ]
    for number, (way, its) in enumerate(ways):
        if number < SHOWN_WAYS or way == plan:
            mark = " (chosen)" if way == plan else ""
            lines.append(f"  {way}: {TIME.show(its.seconds)}, bound by {its.bound}{mark}")
    return "\n".join(lines)


def _sum(profile: Profile, plan: MapPlan, estimate: Estimate) -> list[str]:
    here = machine(profile, plan.threads)
    names = dict(estimate.terms)
    added = " + ".join(name for name in ("turns", "rows", "row starts", "threads") if name in names)
    return [
        f"  T = (sum of the other terms ^ {OVERLAP:g}) ^ (1/{OVERLAP:g}) + {added} = "
        f"{estimate.cycles:.4g} cycles at {CLOCK.show(here.hz)} = {TIME.show(estimate.seconds)}",
        f"  bound by {estimate.bound}; {ENERGY.show(estimate.joules)} (modelled, 7 nm constants)",
    ]
