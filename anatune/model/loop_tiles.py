"""The tiles that cover a loop of independent turns at the least predicted cost (rank 4)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from anatune.hwprofile.profile import Profile
from anatune.model.cover import cheapest_cover
from anatune.model.loops import INTERLEAVED, ISSUED_PER_CYCLE, LOOP_INSTRUCTIONS, ports_of
from anatune.model.machine import Machine, machine
from anatune.model.work import STREAM_START_CYCLES
from anatune.plan.loops import Loop, TileChoice, TileFamily
from anatune.workload.dtypes import ELEMENT_BYTES


def best_family(profile: Profile, choice: TileChoice) -> TileFamily:
    """The tile sizes that cover a loop at the least predicted cost.

    A constant extent: exactly, by dynamic programming. One that is known at call time only: the
    best of all sets of powers of two up to four vectors, over the remainders that a likely extent
    and its next neighbours leave, all of them equally likely.
    """
    here = machine(profile, 1)
    bytes_ = max((ELEMENT_BYTES.get(w.dtype, 4) for _, w in choice.works), default=4)
    lanes = here.core.lanes(bytes_)
    most = int(lanes * INTERLEAVED)
    sizes = [s for s in (1 << p for p in range(most.bit_length())) if s <= most]
    cost = {size: tile_cycles(choice, size, here) for size in sizes}
    if choice.extent is not None:
        whole = max(0, choice.extent // most - 1)
        rest = cheapest_cover(choice.extent - whole * most, cost)
        return TileFamily(sizes=(most,) * whole + rest)
    likely = max(1, int(choice.likely))
    extents = range(likely, likely + most)
    some = [c for n in range(len(sizes)) for c in combinations(sizes[1:], n)]
    families = [(*sorted(each, reverse=True), 1) for each in some]
    best = min(families, key=lambda f: (sum(_chain(e, f, cost) for e in extents), len(f)))
    return TileFamily(sizes=best)


def tile_cycles(choice: TileChoice, size: int, here: Machine) -> float:
    """Cycles of one tile of ``size`` turns of the loop, and of the jump to the next one."""
    total = LOOP_INSTRUCTIONS / ISSUED_PER_CYCLE
    for loops, work in choice.works:
        tile = Loop(name=choice.loop, turns=float(size), fixed=True, independent=True,
                    kind="vectorized" if size > 1 else "unrolled")  # fmt: skip
        total += ports_of((tile, *loops), work, here).overlapped
    return total


def _chain(extent: int, family: tuple[int, ...], cost: Mapping[int, float]) -> float:
    """Cycles of as many of the largest tiles as fit, then of the next: each size is a loop."""
    total = 0.0
    for size in family:
        count, extent = divmod(extent, size)
        total += count * cost[size] + STREAM_START_CYCLES * (count > 0) + 1.0 / ISSUED_PER_CYCLE
    return total
