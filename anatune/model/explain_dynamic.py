"""Where a family's range is cut and why, each variant with its covers and reasons (rank 4)."""

from __future__ import annotations

from collections.abc import Iterator

from anatune.hwprofile.profile import Profile
from anatune.model.dynamic import UNSURE, Choice
from anatune.model.estimate import predict
from anatune.model.explain import explain
from anatune.plan import Cover, DynamicPlan, Estimate, GemmPlan, Region
from anatune.plan.dynamic import as_member
from anatune.units import TIME

SHOWN_RESTS = 8
"""Rests of a cover that are printed; the others follow the same list of sizes."""


def explain_family(profile: Profile, plan: DynamicPlan) -> str:
    """The regions with what is predicted at their ends, the cuts, then every variant's reasons."""
    lines = [f"{plan.workload} on {profile.name} ({profile.title})", "regions (modelled)"]
    lines += [f"  {line}" for region in plan.regions for line in _region(profile, plan, region)]
    lines += ["covers"]
    for number, variant in enumerate(plan.variants, 1):
        lines += [f"  variant {number}, {_cover(cover)}" for cover in variant.covers]
    for number, variant in enumerate(plan.variants, 1):
        lines += [f"variant {number}, as it is made for {variant.workload}"]
        lines += [f"  {line}" for line in explain(profile, variant).splitlines()[1:]]
    return "\n".join(lines)


def _region(profile: Profile, plan: DynamicPlan, region: Region) -> Iterator[str]:
    """The region's variant, and at each end how the others would do."""
    variant = plan.variants[region.variant - 1]
    yield f"{region}: variant {region.variant}, {variant}"
    for values in region.ends:
        at = ", ".join(f"{dim} = {value}" for dim, value in values.items())
        estimate = predict(profile, as_member(variant, plan.workload.at(**values)))
        yield f"  {at}: {estimate}{_others(profile, plan, region, values, estimate)}"


def _others(
    profile: Profile, plan: DynamicPlan, region: Region, values: dict[str, int], mine: Estimate
) -> str:
    """The best of the other variants there, with what it is held back by where it is faster."""
    others = [
        (Choice(other, plan.workload).seconds(profile, values), number, other)
        for number, other in enumerate(plan.variants, 1)
        if number != region.variant
    ]
    if not others:
        return ""
    seconds, number, other = min(others, key=lambda o: o[0])
    return f"; variant {number}: {TIME.show(seconds)}{_doubt(other)}"


def _doubt(plan: GemmPlan) -> str:
    factor = UNSURE[plan.order.in_registers]
    return "" if factor == 1 else f", counted {factor - 1:.0%} longer as the model is less sure"


def _cover(cover: Cover) -> str:
    sizes = ", ".join(str(size * cover.unit) for size in cover.sizes) or "no others"
    few = range(1, min(2 * cover.tile, SHOWN_RESTS + 1))
    cuts = ", ".join(
        f"{rest * cover.unit} = {'+'.join(str(size * cover.unit) for size in cover.pieces[rest])}"
        for rest in few
    )
    whole = cover.tile * cover.unit
    return f"{cover.dim}: tiles of {whole} and, where the extent ends, {sizes}; rests {cuts}"
