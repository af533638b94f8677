"""The model's pick where TVM's search starts: a trace with its tile and blocks (rank 7.5).

MetaSchedule cuts the loops of a product into "SSRSRS": rows and columns into four factors each, the
sum into two, and orders them ``i0 j0 | i1 j1 | k0 | i2 j2 | k1 | i3 j3``. The pick's register tile
becomes the innermost of these, its cache blocks the two innermost together, its threads' shares the
three innermost. Factors divide the extent, so each is the largest that does and is not above what
the pick has: a larger tile would not fit into the registers, a larger block not into its cache.
"""

from __future__ import annotations

from math import isqrt, prod
from typing import Any

from anatune.plan import GemmPlan

CUT, CHOICE = "SamplePerfectTile", "SampleCategorical"
"""Instructions whose decisions follow the pick; others keep what they drew."""


def seeded(trace: Any, pick: GemmPlan) -> Any | None:
    """``trace``, of a design space, with the pick's decisions; None where it is not cut so."""
    cuts = [inst for inst in trace.insts if inst.kind.name == CUT]
    wanted = factors(pick)
    if [int(inst.attrs[0]) for inst in cuts] != [len(part) for part in wanted]:
        return None
    decided: list[tuple[Any, Any]] = list(zip(cuts, wanted))
    tile_rows = wanted[-3][-1]
    for inst in trace.insts:
        if inst.kind.name == CHOICE:  # of how many steps an unrolled loop may have
            decided.append((inst, _least_that_holds(tile_rows, [int(x) for x in inst.attrs[0]])))
    for inst, decision in decided:
        trace = trace.with_decision(inst, decision, True)
    return trace


def factors(pick: GemmPlan) -> list[list[int]]:
    """What the loops of C's sums are cut into, outermost factor first: batch, rows, columns, k."""
    w, tile, blocks = pick.workload, pick.tile, pick.blocks
    batch = [_cut(w.batch, [1], 1, 1, 1)] if w.batch > 1 else []
    rows = _cut(w.m, _divisors(w.m), tile.mr, blocks.mc, pick.thread_extent("m"))
    # A whole row of the tile is one vector to LLVM, which takes apart what is no power of two:
    # 8x48 was seen to be 30 times slower than 8x32.
    powers = [d for d in _divisors(w.n) if d.bit_count() == 1]
    columns = _cut(w.n, powers, tile.nr, blocks.nc, pick.thread_extent("n"))
    return [*batch, rows, columns, _cut(w.k, _divisors(w.k), blocks.kc)]


def _cut(extent: int, innermost: list[int], *sizes: int) -> list[int]:
    """Factors of ``extent``, outermost first, the last one of ``innermost``: their products, from
    the last one on, are as near below ``sizes`` as can be."""
    found = [max(d for d in innermost if d <= sizes[0])]
    for size in sizes[1:]:
        inside = prod(found)
        blocks = max(1, size // inside)
        found.insert(0, max(d for d in _divisors(extent // inside) if d <= blocks))
    return [extent // prod(found), *found]


def _divisors(number: int) -> list[int]:
    small = [d for d in range(1, isqrt(number) + 1) if number % d == 0]
    return [*small, *(number // d for d in small)]


def _least_that_holds(steps: int, choices: list[int]) -> int:
    """Place of the smallest of ``choices`` that is at least ``steps``, or of the largest."""
    ample = [limit for limit in choices if limit >= steps]
    return choices.index(min(ample) if ample else max(choices))
