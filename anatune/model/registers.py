"""Which register tiles fit and how busy they keep the FMA units: the first step of a plan."""

from __future__ import annotations

from math import ceil, isqrt

from anatune.errors import require
from anatune.hwprofile.profile import CoreKind
from anatune.plan import MicroTile

WHY_EMPTY = "{mr}x{nr} tile has no elements: both extents must be 1 or more"
WHY_LANES = "{mr}x{nr} tile assumes vectors of {lanes} elements, {core} has {core_lanes}: set lanes"
WHY_WIDTH = "{mr}x{nr} tile is not whole vectors wide: nr must be a multiple of {lanes}"
WHY_REGISTERS = (
    "{mr}x{nr} tile needs {needed} of {registers} registers: {mr}*{vectors} accumulators"
    " + {vectors} for a row of B + 1 for A; take fewer rows or columns"
)


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


def port_bound(mr: int, vectors: int, fma_per_cycle: float, loads_per_cycle: float) -> float:
    """Share of FMA peak that the load ports allow; 1.0 where the FMA units are the limit.

    Not in the paper: min(1, (mr*nv/N) / ((mr+nv)/loads)); a broadcast from memory is a load too.
    """
    fma_cycles = mr * vectors / fma_per_cycle
    load_cycles = (mr + vectors) / loads_per_cycle
    return min(1.0, fma_cycles / load_cycles)


def legal_tiles(core: CoreKind, element_bytes: int) -> tuple[MicroTile, ...]:
    """Every tile of whole vectors that fits the register file, narrow before wide, then by rows."""
    lanes = core.lanes(element_bytes)
    spare = core.vector_registers - 1  # one register holds the element of A
    return tuple(
        MicroTile(mr=mr, nr=vectors * lanes, lanes=lanes)
        for vectors in range(1, spare // 2 + 1)
        for mr in range(1, spare // vectors)
    )


def check_tile(tile: MicroTile, core: CoreKind, element_bytes: int) -> None:
    """Raise `IllegalPlan` with the numbers unless ``tile`` is one of `legal_tiles`."""
    lanes = core.lanes(element_bytes)
    shape = {"mr": tile.mr, "nr": tile.nr}
    require(min(tile.mr, tile.nr) >= 1, WHY_EMPTY.format(**shape))
    require(
        tile.lanes == lanes,
        WHY_LANES.format(lanes=tile.lanes, core=core.name, core_lanes=lanes, **shape),
    )
    require(tile.nr % lanes == 0, WHY_WIDTH.format(lanes=lanes, **shape))
    needed = registers_needed(tile.mr, tile.vectors)
    require(
        needed <= core.vector_registers,
        WHY_REGISTERS.format(
            needed=needed, registers=core.vector_registers, vectors=tile.vectors, **shape
        ),
    )
