"""Predicted time of a plan: an overlap of terms, each from its own resource (rank 4)."""

from __future__ import annotations

from math import gcd

from anatune.hwprofile.profile import Profile
from anatune.model.energy import joules
from anatune.model.machine import Machine, machine
from anatune.model.residency import keeps
from anatune.model.traffic import Extents, Panels, Traffic, traffic
from anatune.plan import Estimate, GemmPlan, MicroTile, Storage

OVERLAP = 4.0
"""Exponent p of T = (sum T_i^p)^(1/p): 1 adds the terms (ECM), infinity takes the largest
(roofline). This and the constants below were fitted on a 2-core Zen 5 guest to about 2200 plans of
17 products, timed as benchmarks/model_accuracy.py times them (its --json lines hold what a fit
needs)."""

TILE_START_CYCLES = 28.0
"""Cycles to leave one tile's loop and to fill the pipeline of the next: a mispredicted exit (about
15 cycles on current cores), the addresses, the first loads of A and B."""

LINK_SHARE = 0.9
"""Share of a level's probed read rate that a tile's loop gets: it reads shorter runs."""

SAME_SET = 0.25
"""Share of the L2 latency that a row adds whose lines fall where those of the row before fell."""

SHARED_LINE = 2.0
"""L3 latencies that a line costs which two threads write: there and back. Seen on a Zen 5 guest as
60 to 150 cycles a row of C where 64 or 256 columns were split between two threads."""

ROW_START = 0.17
"""Exposed share of a level's latency where a row starts that no prefetcher has seen coming. A mean:
tiles of one to four rows, where nothing hides it, showed up to 10 of L2's 17 cycles."""

TRANSPOSE_CYCLES = 0.33
"""Cycles per element of A that is packed: LLVM makes vector shuffles of the copy; fitted."""


def predict(profile: Profile, plan: GemmPlan) -> Estimate:
    """The estimate of ``plan`` on ``profile``: the time of the busiest thread.

    T = sum over tiles of k (T_fma^p + T_loads^p + T_data^p)^(1/p)
      + T_tiles + T_C + T_packing + T_shared + T_threads
    with T_data = T_L2 + T_L3 + T_memory + T_rows + T_tlb, all per step along k.
    """
    here = machine(profile, plan.grid.threads)
    x, panels, moved = _moves(plan, here)
    kinds = tile_kinds(plan.tile, x.m, x.n)
    data = {
        "L2 bandwidth": moved.l1 / (here.l2_rate * LINK_SHARE),
        "L3 bandwidth": moved.l2 / (here.l3_rate * LINK_SHARE),
        "memory bandwidth": moved.l3 / (here.memory_rate * LINK_SHARE),
        "row starts of B": row_start_cycles(plan, moved, here),
        "TLB misses": tlb_cycles(plan, x, here),
    }
    added = {
        "tile starts": tile_cycles(plan, kinds, x, here),
        "C": c_cycles(plan, x, moved, here),
        "packing": packing_cycles(plan, x, panels, here),
        "shared lines of C": shared_line_cycles(plan, x, here),
        "threads": here.barrier_cycles,
    }
    loops = loop_cycles(kinds, x, here, sum(data.values()))
    ports = {
        "multiply-add units": fma_cycles(kinds, x.k, here),
        "load ports": load_cycles(kinds, x.k, here),
    }
    return _estimate(plan, here, loops + sum(added.values()), {**ports, **data, **added}, moved)


def _moves(plan: GemmPlan, here: Machine) -> tuple[Extents, Panels, Traffic]:
    """The busiest thread's extents, what the caches keep of them, and what passes the links."""
    x = Extents.of(plan)
    panels = Panels.of(plan, x, here.l1, here.l2, here.page_bytes)
    return x, panels, traffic(plan, x, panels, here.l1, here.l2, here.l3, here.page_bytes)


def fma_step(rows: int, vectors: int, here: Machine) -> float:
    """Cycles of a tile's multiply-adds in one step along k: it issues mr*nv of them, N a cycle.

    Each accumulator takes one FMA a step and waits for the one before, so a step takes L at least
    (Low et al., register step, from the other side).
    """
    return max(rows * vectors / here.fma_per_cycle, here.fma_latency)


def load_step(rows: int, vectors: int, here: Machine) -> float:
    """Cycles of its loads in one step along k: mr elements of A, broadcast, and nv vectors of B."""
    return (rows + vectors) / here.loads


def loop_cycles(kinds: list[TileKind], x: Extents, here: Machine, data_cycles: float) -> float:
    """Cycles of all tiles' loops along k; what comes from beyond L1 is spread over them evenly.

    Overlapped tile by tile: a low edge tile waits for its data though whole tiles hide it.
    """
    data_step = data_cycles / (x.k * sum(count for count, _, _ in kinds))
    step_cycles: float = sum(
        count
        * (
            fma_step(rows, vectors, here) ** OVERLAP
            + load_step(rows, vectors, here) ** OVERLAP
            + data_step**OVERLAP
        )
        ** (1 / OVERLAP)
        for count, rows, vectors in kinds
    )
    return x.k * step_cycles


def _estimate(
    plan: GemmPlan, here: Machine, cycles: float, terms: dict[str, float], moved: Traffic
) -> Estimate:
    w, threads = plan.workload, plan.grid.threads
    peak_cycles = w.flops / (2 * here.fma_per_cycle * plan.tile.lanes * threads)
    levels_beyond = ((2, "L2"), (3, "L3"), (4, "memory"))
    bytes_moved = tuple((name, moved.out_of(level) * threads) for level, name in levels_beyond)
    seconds = cycles / here.hz
    return Estimate(
        seconds=seconds,
        cycles=cycles,
        peak_fraction=peak_cycles / cycles,
        joules=joules(w, dict(bytes_moved), seconds, threads),
        terms=tuple(sorted(terms.items(), key=lambda item: -item[1])),
        bytes_moved=bytes_moved,
    )


TileKind = tuple[int, int, int]
"""How many tiles of a thread have how many rows and how many vectors."""


def tile_kinds(tile: MicroTile, m: int, n: int) -> list[TileKind]:
    """The tiles that cover m x n elements of C: whole ones and those at the edges."""
    rows = [(m // tile.mr, tile.mr), (1, m % tile.mr)]
    columns = [(n // tile.nr, tile.vectors), (1, -(-(n % tile.nr) // tile.lanes))]
    return [(a * b, h, v) for a, h in rows for b, v in columns if a * b and h and v]


def least_cycles(tile: MicroTile, m: int, n: int, k: int, here: Machine) -> float:
    """Cycles that no choice of blocks and packing can avoid: ports, latency, one start a tile."""
    return sum(
        count
        * (
            TILE_START_CYCLES
            + k * max(fma_step(rows, vectors, here), load_step(rows, vectors, here))
        )
        for count, rows, vectors in tile_kinds(tile, m, n)
    )


def fma_cycles(kinds: list[TileKind], k: int, here: Machine) -> float:
    """Cycles of the multiply-adds of all tiles; edge tiles run at their own, lower rate."""
    return k * sum(count * fma_step(rows, vectors, here) for count, rows, vectors in kinds)


def load_cycles(kinds: list[TileKind], k: int, here: Machine) -> float:
    """Cycles of the load ports: the loads of all tiles of a kind at the rate of the ports."""
    return k * sum(load_step(count * rows, count * vectors, here) for count, rows, vectors in kinds)


def tile_cycles(plan: GemmPlan, kinds: list[TileKind], x: Extents, here: Machine) -> float:
    """Start of each tile's loop, and the ports' work on C: prefetched, read if not new, written."""
    touches = (x.k_blocks - 1) / x.k_blocks + plan.prefetch_c
    per_block = sum(
        count * (TILE_START_CYCLES + rows * vectors * (1 / here.stores + touches / here.loads))
        for count, rows, vectors in kinds
    )
    return x.k_blocks * per_block


def c_cycles(plan: GemmPlan, x: Extents, moved: Traffic, here: Machine) -> float:
    """C between tiles: its bytes over the link, and without a prefetch the start of each row.

    Added to the loops: the next tile's multiply-adds wait for what the last one writes.
    """
    over_link = moved.c / here.rate(moved.c_level)
    if plan.prefetch_c or not moved.c:
        return over_link
    return over_link + _c_row_starts(x, moved, here)


def prefetch_pays(plan: GemmPlan, here: Machine) -> bool:
    """Whether asking for C ahead, a load a vector, costs less than the starts of its rows do."""
    x, _, moved = _moves(plan, here)
    asking = x.k_blocks * x.row_tiles * x.column_tiles * plan.tile.accumulators / here.loads
    return moved.c > 0 and asking < _c_row_starts(x, moved, here)


def _c_row_starts(x: Extents, moved: Traffic, here: Machine) -> float:
    latency = here.l2_latency if moved.c_level == 2 else here.l3_latency
    return x.m * x.column_tiles * (2 * x.k_blocks - 1) * ROW_START * latency


def row_start_cycles(plan: GemmPlan, moved: Traffic, here: Machine) -> float:
    """Rows of B read in place start without the prefetcher, which stops at the end of a page.

    The share `ROW_START` of an L2 latency is exposed per row; rows that share a page share it. Rows
    that fall into the same set of L1 wait for each other: `SAME_SET`, divided by the places within
    a page at which rows start (`residency.strided_lines`).
    """
    stride = plan.workload.n * plan.workload.element_bytes
    new_page = ROW_START * min(1.0, stride / here.page_bytes)
    same_set = SAME_SET * gcd(here.page_bytes, stride) / here.page_bytes
    return moved.row_starts * here.l2_latency * (new_page + same_set)


def tlb_cycles(plan: GemmPlan, x: Extents, here: Machine) -> float:
    """Pages of a micro-panel of B read in place, at each pass that needs more than the TLB has."""
    if plan.b is not Storage.IN_PLACE:
        return 0.0
    stride = plan.workload.n * plan.workload.element_bytes
    pages = min(plan.blocks.kc, -(-plan.blocks.kc * stride // here.page_bytes))
    if pages + plan.tile.mr <= here.tlb_entries:
        return 0.0
    return pages * here.tlb_miss_cycles * x.row_tiles * x.column_tiles * x.k_blocks


def shared_line_cycles(plan: GemmPlan, x: Extents, here: Machine) -> float:
    """Lines of C that two threads write, where the columns of one end and the next one's begin.

    Such a line travels to the neighbour and back once a row and k block. Columns of a thread are
    whole vectors, but callers' arrays need not begin with a line, so one is shared all the same.
    """
    neighbours = min(2, plan.grid.columns - 1)
    return x.m * x.k_blocks * neighbours * SHARED_LINE * here.l3_latency


def packing_cycles(plan: GemmPlan, x: Extents, panels: Panels, here: Machine) -> float:
    """Copies of A and B: what the ports take, or the links out of and into the caches if longer."""
    s, lanes = plan.workload.element_bytes, plan.tile.lanes
    total = 0.0
    if plan.packs_b:
        elements = x.n * x.k
        write = elements * s / _link(panels.b_block, here)
        if plan.b is Storage.PACKED:
            ports = elements / lanes * (1 / here.loads + 1 / here.stores)
            total += max(ports, elements * s / _link(plan.workload.operand_bytes, here) + write)
        else:
            total += max(elements / lanes / here.stores, write)
    if plan.a is not Storage.IN_PLACE:
        elements = x.m * x.k * x.column_blocks
        transposition = elements * TRANSPOSE_CYCLES
        total += max(transposition, elements * s / _link(plan.workload.operand_bytes, here))
    return total


def _link(size_bytes: float, here: Machine) -> float:
    """Bytes per cycle out of the nearest level beyond L1 that keeps ``size_bytes``."""
    if here.l2 is not None and keeps(here.l2, size_bytes):
        return here.l2_rate
    if here.l3 is not None and keeps(here.l3, size_bytes):
        return here.l3_rate
    return here.memory_rate
