"""How commands print what serves a whole range: regions, variants, predictions (rank 9)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from anatune.cli.show import print_table, rate, seconds
from anatune.units import CAPACITY

if TYPE_CHECKING:
    from anatune.family import FamilyResult
    from anatune.hwprofile import Profile
    from anatune.plan import DynamicPlan, Estimate, Region

COLUMNS = ("region", "variant", "at", "predicted", "rate", "bound by")


def print_family(profile: Profile, plan: DynamicPlan) -> None:
    """Which variant serves which part of the range, with what is predicted at both ends of it."""
    click.echo(str(plan.workload))
    rows = []
    for region, values, estimate in _ends(profile, plan):
        flops = plan.workload.at(**values).flops
        first = values == region.ends[0]
        shown = (str(region), str(region.variant)) if first else ("", "")
        numbers = (seconds(estimate.seconds), rate(flops / estimate.seconds), estimate.bound)
        rows.append((*shown, _told(values), *numbers))
    print_table(COLUMNS, rows, numbers=("variant", "predicted", "rate"))
    for number, variant in enumerate(plan.variants, 1):
        click.echo(f"variant {number}: {variant}")


def family_fields(profile: Profile, plan: DynamicPlan) -> list[dict[str, Any]]:
    """The same for JSON: one object for each end of a region."""
    return [
        {
            "region": str(region), "variant": region.variant, "values": values,
            "predicted_s": estimate.seconds, "bound": estimate.bound,
        }
        for region, values, estimate in _ends(profile, plan)
    ]  # fmt: skip


def print_family_result(result: FamilyResult, written: Path | None) -> None:
    """The plan, which members were checked, and where the kernel went."""
    print_family(result.profile, result.plan)
    checked = "; ".join(map(_told, result.checked))
    click.echo(f"checked   {checked or 'nothing: compiled for another machine'}")
    click.echo("measured  nothing: the plan is the model's alone")
    if result.code_bytes:
        click.echo(f"code      {CAPACITY.show(result.code_bytes)}")
    if written is not None:
        click.echo(f"written to {written}")


def _ends(
    profile: Profile, plan: DynamicPlan
) -> Iterator[tuple[Region, dict[str, int], Estimate]]:
    from anatune.model.dynamic import predict_member

    for region in plan.regions:
        for values in region.ends:
            yield region, values, predict_member(profile, plan, **values)


def _told(values: dict[str, int]) -> str:
    return ", ".join(f"{dim} = {value}" for dim, value in values.items())
