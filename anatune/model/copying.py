"""What it costs to copy A and B into panels (rank 4)."""

from __future__ import annotations

from anatune.model.machine import Machine
from anatune.model.traffic import Extents, Panels
from anatune.plan import GemmPlan, Storage
from anatune.plan.nouns import DIMS

TRANSPOSE_CYCLES = 0.2
"""Cycles per group of neighbours along k that is packed, on top of its way: 64 shuffles and 32
moves for a square of 256 took 25 cycles on a Zen 5 guest, out of L1; rows that begin anew
double that."""

INTERLEAVE_OPS = 2
"""Vector operations per row that is interleaved with others into groups: a shift and an or."""


def packing_cycles(plan: GemmPlan, x: Extents, panels: Panels, here: Machine) -> float:
    """Copies of A and B: what the ports take, or the links out of and into the caches if longer."""
    w, order = plan.workload, plan.order
    total = 0.0
    if plan.packs_b:
        size = panels.x_block if order.in_l3 == "B" else panels.y_block
        total += _times_packed(plan, x, "B") * packing_b_cycles(plan, x, size, here)
    if plan.a is not Storage.IN_PLACE:
        elements = x.m * x.k * _times_packed(plan, x, "A")
        moved = elements * w.element_bytes / here.rate_for(w.operand_bytes)
        total += _together(_reordering(plan, elements, w.trans_a, here), moved, w.trans_a)
    return total


def _times_packed(plan: GemmPlan, x: Extents, operand: str) -> int:
    """How often each element is copied: once per block along the dimension that its operand lacks,
    where that loop stands outside the one inside which a block is packed."""
    outer = plan.order.outer
    (missing,) = set(outer) - set(DIMS[operand])
    packed_in = max(map(outer.index, DIMS[operand]))
    return x.blocks(missing) if outer.index(missing) < packed_in else 1


def packing_b_cycles(plan: GemmPlan, x: Extents, block_bytes: int, here: Machine) -> float:
    """All of a thread's B once, into memory that is filled ``block_bytes`` at a time."""
    w, lanes = plan.workload, plan.tile.lanes * plan.multiply.group
    elements = x.n * x.k
    write = elements * plan.b_bytes / here.rate_for(block_bytes)
    if plan.b is Storage.PACKED_ON_FIRST_USE:
        grouping = _reordering(plan, elements, True, here) if plan.multiply.group > 1 else 0.0
        return max(elements / lanes / here.stores, write) + grouping
    read = elements * w.operands["b"].element_bytes / here.rate_for(w.operand_bytes)
    across = not w.trans_b
    return _together(_reordering(plan, elements, across, here), read + write, across)


def _together(ports: float, links: float, across: bool) -> float:
    """Rows that run across the panel come while others are put away; squares are waited for."""
    return max(ports, links) if across else ports + links


def _reordering(plan: GemmPlan, elements: int, across: bool, here: Machine) -> float:
    """Ports' cycles for elements that are put into panels.

    ``across``: rows that run across the panel are copied as they are, or interleaved by
    `INTERLEAVE_OPS`; else each group goes its own way, `TRANSPOSE_CYCLES`.
    """
    g = plan.multiply.group
    if not across:
        return elements / g * TRANSPOSE_CYCLES
    vectors = elements / (plan.tile.lanes * g)
    ports = 1 / here.stores + g / here.loads
    work = INTERLEAVE_OPS * (g - 1) / here.fma_per_cycle if g > 1 else 0.0
    return vectors * (ports + work)
