"""Which register tiles fit and how busy they keep the FMA units: the first step of a plan."""

from __future__ import annotations

from itertools import product
from math import ceil, isqrt

from anatune.errors import require
from anatune.hwprofile.profile import CoreKind
from anatune.plan import MicroTile, Order

WHY_EMPTY = "{mr}x{nr} tile has no elements: both extents must be 1 or more"
WHY_LANES = "{mr}x{nr} tile assumes vectors of {lanes} elements, {core} has {core_lanes}: set lanes"
WHY_WIDTH = "{mr}x{nr} tile is not whole vectors wide: nr must be a multiple of {lanes}"
WHY_REGISTERS = "{tile} tile needs {needed} of {registers} registers: {sum}; take a smaller one"

STREAM_STEPS = 16
"""Steps along k of a tile that keeps A or B, at most."""

STREAMS = 12
"""Rows of B and C together that a tile which keeps A follows at once: about as many streams as the
prefetchers of current cores keep apart."""

PIECES = (1, 2, 4)
"""Rows or vectors of C that pass by a tile at once: more sums that do not wait for each other."""


def floor_accumulators(lanes: int, latency: float, per_cycle: float) -> int:
    """Elements of C that must be in flight so that no FMA waits for the one before it.

    Low et al., register step: mr * nr >= Nvec * L * N.
    """
    return ceil(lanes * latency * per_cycle)


def near_square_tile(lanes: int, latency: float, per_cycle: float) -> tuple[int, int]:
    """The smallest near-square tile at the floor: (extent along the vectors, other extent).

    Low et al., register step: v = ceil(sqrt(Nvec*L*N) / Nvec) * Nvec, other = ceil(Nvec*L*N / v).
    Differs: whole numbers throughout, so no root or quotient is off by a rounding error.
    """
    floor = floor_accumulators(lanes, latency, per_cycle)
    root = isqrt(floor - 1) + 1
    vector_dim = -(-root // lanes) * lanes
    return vector_dim, -(-floor // vector_dim)


def registers_needed(mr: int, vectors: int) -> int:
    """Vector registers that hold the accumulators, one row of B and one broadcast element of A.

    After MTL5's blocking rules, not in the paper: mr*nv + nv + 1 <= R.
    """
    return mr * vectors + vectors + 1


def registers_of(tile: MicroTile, order: Order) -> tuple[int, str]:
    """Vector registers that a tile needs, and what for.

    C stays: see `registers_needed`. A stays, each element broadcast: mr*kr, mr*nv sums on their way
    and a row of B. B stays: kr*nv, mr*nv sums and an element of A.
    """
    mr, nv, kr = tile.mr, tile.vectors, tile.kr
    if order.in_registers == "C":
        parts = f"{mr}*{nv} accumulators + {nv} for a row of B + 1 for A"
        return registers_needed(mr, nv), parts
    sums = f"{mr}*{nv} for C"
    if order.in_registers == "A":
        return mr * kr + mr * nv + nv, f"{mr}*{kr} for A + {sums} + {nv} for a row of B"
    return kr * nv + mr * nv + 1, f"{kr}*{nv} for B + {sums} + 1 for A"


def port_bound(mr: int, vectors: int, fma_per_cycle: float, loads_per_cycle: float) -> float:
    """Share of FMA peak that the load ports allow; 1.0 where the FMA units are the limit.

    Not in the paper: min(1, (mr*nv/N) / ((mr+nv)/loads)); a broadcast from memory is a load too.
    """
    fma_cycles = mr * vectors / fma_per_cycle
    load_cycles = (mr + vectors) / loads_per_cycle
    return min(1.0, fma_cycles / load_cycles)


def legal_tiles(core: CoreKind, element_bytes: int) -> tuple[MicroTile, ...]:
    """Every tile of whole vectors that keeps C in registers, narrow before wide, then by rows.

    ``element_bytes`` are those of a sum.
    """
    lanes = core.lanes(element_bytes)
    spare = core.vector_registers - 1  # one register holds the element of A
    return tuple(
        MicroTile(mr=mr, nr=vectors * lanes, lanes=lanes)
        for vectors in range(1, spare // 2 + 1)
        for mr in range(1, spare // vectors)
    )


def streaming_tiles(core: CoreKind, element_bytes: int, order: Order) -> tuple[MicroTile, ...]:
    """Tiles that keep A or B in registers while C streams past, up to `STREAM_STEPS` long."""
    lanes = core.lanes(element_bytes)
    rows, vectors = (range(1, 9), PIECES) if order.in_registers == "A" else (PIECES, range(1, 9))
    tiles = (
        MicroTile(mr=mr, nr=nv * lanes, lanes=lanes, kr=kr)
        for mr, nv, kr in product(rows, vectors, range(2, STREAM_STEPS + 1))
        if order.in_registers == "B" or mr + kr <= STREAMS
    )
    return tuple(t for t in tiles if registers_of(t, order)[0] <= core.vector_registers)


def check_tile(
    tile: MicroTile, core: CoreKind, element_bytes: int, order: Order = Order.B3A2C0
) -> None:
    """Raise `IllegalPlan` with the numbers unless the register file holds ``tile``."""
    lanes = core.lanes(element_bytes)
    shape = {"mr": tile.mr, "nr": tile.nr}
    require(min(tile.mr, tile.nr, tile.kr) >= 1, WHY_EMPTY.format(**shape))
    require(
        tile.lanes == lanes,
        WHY_LANES.format(lanes=tile.lanes, core=core.name, core_lanes=lanes, **shape),
    )
    require(tile.nr % lanes == 0, WHY_WIDTH.format(lanes=lanes, **shape))
    needed, what = registers_of(tile, order)
    require(
        needed <= core.vector_registers,
        WHY_REGISTERS.format(tile=tile, needed=needed, registers=core.vector_registers, sum=what),
    )
