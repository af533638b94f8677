"""What a user may ask of a described accelerator, arguments checked (rank 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anatune.errors import OptionError, require
from anatune.hwprofile.profile import Profile
from anatune.model.accelerator.choose import best
from anatune.model.accelerator.estimate import checked
from anatune.model.accelerator.ranges import TileFamily, plan_family
from anatune.model.accelerator.simulate import simulate
from anatune.plan.accelerator import Simulation, TilePlan
from anatune.workload import Matmul


def plan_tiles(
    profile: Profile, workload: Matmul, threads: int | None, objective: str
) -> TilePlan | TileFamily:
    """The best plan; of a workload with dims, configurations and cuts."""
    why = f"threads = {threads!r}: {profile.name} has one tile engine; leave the option out"
    require(threads in (None, 1), why, OptionError)
    if workload.dims:
        return plan_family(profile, workload, objective)
    return best(profile, workload, objective)


def tile_plan(plan: Any, profile: Profile, values: Mapping[str, int] | None = None) -> TilePlan:
    """``plan`` if it is one for accelerators, else IllegalPlan; that of a family at ``values``."""
    if isinstance(plan, TileFamily):
        return plan.at(**(values or {}))
    why = f"plan = {type(plan).__name__}: {profile.name} takes what anatune.plan returns for it"
    require(isinstance(plan, TilePlan), why)
    assert isinstance(plan, TilePlan)
    return plan


def simulate_plan(
    profile: Profile, plan: Any, numbers: bool, values: Mapping[str, int]
) -> Simulation:
    """The plan's command stream, executed on the described machine."""
    tiles = tile_plan(plan, profile, values)
    return simulate(checked(profile, tiles), tiles, numbers=numbers)
