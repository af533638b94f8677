"""What full blocks leave along a dimension, covered by blocks of the cheapest sizes (rank 4)."""

from __future__ import annotations

from collections.abc import Callable

from anatune.model.accelerator.machine import Machine
from anatune.model.cover import cheapest_cover
from anatune.plan.accelerator import OPERANDS, Run, TilePlan, runs, with_covers

Score = Callable[[TilePlan], float]


def with_edges(here: Machine, plan: TilePlan, score: Score) -> TilePlan:
    """The plan with the cover of each dimension that costs least, if that lowers its score."""
    best, least = plan, score(plan)
    for dim in "mnk":
        if plan.trips(dim) > 1:
            tried = with_covers(best, {dim: cheapest(here, best, dim)})
            found = score(tried)
            if found < least:
                best, least = tried, found
    return best


def cheapest(here: Machine, plan: TilePlan, dim: str) -> tuple[Run, ...]:
    """An exact cover of one dimension by blocks no larger than the plan's, the others full.

    The cost of a block is what binds it: operations, or the transfers beside them. Full blocks
    are set aside until what is left is less than two of them.
    """
    grain, extent = here.grain[dim], plan.workload.along(dim)
    block = here.units(dim, plan.block(dim))
    units = here.units(dim, extent)
    full = max(0, units // block - 1)
    costs = {size: _cost(here, plan, dim, size * grain) for size in range(1, block + 1)}
    tail = cheapest_cover(units - full * block, costs)
    sizes = [size * grain for size in (*[block] * full, *tail)]
    sizes[-1] -= units * grain - extent  # the smallest block has the edge that is not filled
    return runs(tuple(sizes))


def _cost(here: Machine, plan: TilePlan, dim: str, size: int) -> float:
    """Cycles of one step whose block is ``size`` long along ``dim``."""
    block = {d: plan.block(d) for d in "mnk"} | {dim: size}
    slices, apart, last = here.slices(block["m"], block["n"], block["k"], here.interval)
    busy = dict.fromkeys(here.dma, 0.0)
    for operand, (one, other) in OPERANDS.items():
        name = plan.buffers(operand).dma
        moved = here.transfer(operand, (block[one], block[other]), here.dma[name])
        often = plan.visits(operand) * plan.trips(one) * plan.trips(other) / plan.steps
        busy[name] += moved.cycles * often
    return max((slices - 1) * apart + last, *busy.values())
