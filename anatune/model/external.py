"""Tiles that an external micro-kernel computes, and what `explain` says of them (rank 4)."""

from __future__ import annotations

from math import gcd

from anatune.hwprofile.profile import CoreKind, Profile
from anatune.model.machine import machine
from anatune.model.work import plain_tile_cycles
from anatune.plan import ExternalKernel, GemmPlan, MicroTile
from anatune.workload.dtypes import ELEMENT_BYTES


def tile_of(kernel: ExternalKernel, core: CoreKind) -> MicroTile:
    """The kernel's tile, in vectors that the edges' generated tiles can be cut into."""
    lanes = gcd(kernel.nr, core.lanes(ELEMENT_BYTES[kernel.dtype]))
    return MicroTile(mr=kernel.mr, nr=kernel.nr, lanes=lanes)


def of_kernel(profile: Profile, plan: GemmPlan) -> list[str]:
    """Who computes whole tiles, at what cost, and what a generated tile of that size would take."""
    kernel = plan.micro_kernel
    assert kernel is not None
    here = machine(profile, plan.grid.threads)
    steps = min(plan.blocks.kc, plan.thread_extent("k"))
    theirs, ours = kernel.cost.of(steps), plain_tile_cycles(plan.tile, plan.multiply, steps, here)
    return [
        f"external micro-kernel {kernel}, symbol {kernel.symbol}",
        f"a tile of {steps} steps: {theirs:.4g} cycles by {kernel.cost.origin}; a generated one by "
        f"the ports {ours:.4g}",
        "edges: generated tiles; sums go "
        + ("straight to C" if plan.sums_go_to_c else "by way of a tile beside C"),
    ]
