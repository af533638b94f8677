"""Predicted time of a plan: an overlap of terms, each from its own resource (rank 4)."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from anatune.hwprofile.profile import Profile
from anatune.model.energy import joules
from anatune.model.machine import Machine, machine
from anatune.model.residency import keeps
from anatune.model.traffic import Extents, Panels, Traffic, traffic
from anatune.plan import Arithmetic, Estimate, GemmPlan, MicroTile, Order, Storage
from anatune.workload.dtypes import ELEMENT_BYTES

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

STREAM_START_CYCLES = 8.0
"""Cycles to load the tile that A or B keeps in registers and to set out: the loop's exit, unlike
that of a tile of C, is one and the same for all, and predicted."""

STEPS_IN_FLIGHT = 4.0
"""Steps of a tile that keeps A or B which current cores work on at once; each is a chain of kr
multiply-adds. Fitted."""

STEPS_IN_FLIGHT_WITHOUT_C = 16.0
"""The same where k is so short that C is never read. Fitted."""

CROSSING_STORE = 3.0
"""Cycles of a store whose vector lies on two lines, as rows do that do not begin with a line: seen
on a Zen 5 guest, where A or B stays in registers and every third cycle stores."""

CROSSING_LOAD = 2.0
"""Accesses of a load whose vector lies on two lines."""

SAME_SET = 0.25
"""Share of the L2 latency that a row adds whose lines fall where those of the row before fell."""

SHARED_LINE = 2.0
"""L3 latencies that a line costs which two threads write: there and back. Seen on a Zen 5 guest as
60 to 150 cycles a row of C where 64 or 256 columns were split between two threads."""

ROW_START = 0.17
"""Exposed share of a level's latency where a row starts that no prefetcher has seen coming. A mean:
tiles of one to four rows, where nothing hides it, showed up to 10 of L2's 17 cycles."""

TRANSPOSE_CYCLES = 0.2
"""Cycles per group of neighbours along k that is packed, on top of its way: 64 shuffles and 32
moves for a square of 256 took 25 cycles on a Zen 5 guest, out of L1; rows that begin anew
double that."""

INTERLEAVE_OPS = 2
"""Vector operations per row that is interleaved with others into groups: a shift and an or."""


def predict(profile: Profile, plan: GemmPlan) -> Estimate:
    """The estimate of ``plan`` on ``profile``: the time of the busiest thread.

    T = products * (sum over tiles of k (T_multiply^p + T_loads^p + T_data^p)^(1/p)
      + T_tiles + T_C + T_packing + T_epilogue + T_shared) + T_threads + T_adding_up
    with T_data = T_L2 + T_L3 + T_memory + T_rows + T_tlb, all per step along k.
    """
    here = machine(profile, plan.grid.threads)
    x, panels, moved = _moves(plan, here)
    work = _work(plan, x, here)
    data = {
        "L2 bandwidth": moved.l1 / (here.l2_rate * LINK_SHARE),
        "L3 bandwidth": moved.l2 / (here.l3_rate * LINK_SHARE),
        "memory bandwidth": moved.l3 / (here.memory_rate * LINK_SHARE),
        "row starts": row_start_cycles(plan, moved, here),
        "TLB misses": tlb_cycles(plan, x, here),
    }
    added = {
        "tile starts": work.starts,
        "C": c_cycles(plan, x, moved, here),
        "packing": packing_cycles(plan, x, panels, here),
        "epilogue": epilogue_cycles(plan, x, here),
        "shared lines of C": shared_line_cycles(plan, x, here),
    }
    once = {"threads": here.barrier_cycles, "adding up": adding_up_cycles(plan, here)}
    ports = {"multiply-add units": work.multiply, "load ports": work.loads}
    if work.stores:
        ports["store ports"] = work.stores
    each = work.loops(sum(data.values())) + sum(added.values())
    terms = {name: x.products * c for name, c in {**ports, **data, **added}.items()}
    shown = {name: c for name, c in {**terms, **once}.items() if c or name not in RARE}
    return _estimate(plan, here, x.products * each + sum(once.values()), shown, moved)


RARE = ("epilogue", "adding up")
"""Terms that are left out where they are nothing."""


def _moves(plan: GemmPlan, here: Machine) -> tuple[Extents, Panels, Traffic]:
    """The busiest thread's extents, what the caches keep of them, and what passes the links."""
    x = Extents.of(plan)
    panels = Panels.of(plan, x, here.l1, here.l2, here.page_bytes)
    return x, panels, traffic(plan, x, panels, here.l1, here.l2, here.l3, here.page_bytes)


@dataclass(frozen=True)
class Pieces:
    """So many runs of ``turns`` steps, each of which takes so many cycles of each kind of port."""

    count: float
    turns: float
    multiply: float
    loads: float
    stores: float = 0.0


@dataclass(frozen=True)
class Work:
    """What the ports have to do for one product, in cycles; ``starts`` of tiles come on top."""

    pieces: tuple[Pieces, ...]
    starts: float

    @property
    def multiply(self) -> float:
        return sum(p.count * p.turns * p.multiply for p in self.pieces)

    @property
    def loads(self) -> float:
        return sum(p.count * p.turns * p.loads for p in self.pieces)

    @property
    def stores(self) -> float:
        return sum(p.count * p.turns * p.stores for p in self.pieces)

    def loops(self, data_cycles: float) -> float:
        """Cycles of all loops; what comes from beyond L1 is spread over them evenly.

        Overlapped piece by piece: a low edge tile waits for its data though whole tiles hide it.
        """
        data = data_cycles / sum(p.count * p.turns for p in self.pieces)
        total: float = sum(
            p.count * p.turns * _overlapped(p.multiply, p.loads, p.stores, data)
            for p in self.pieces
        )
        return total


def _work(plan: GemmPlan, x: Extents, here: Machine) -> Work:
    if plan.order.in_registers == "C":
        return _work_of_c_tiles(plan, x, here)
    return _work_of_streams(plan, x, here)


def _work_of_c_tiles(plan: GemmPlan, x: Extents, here: Machine) -> Work:
    """Tiles that keep C: a step along k issues mr*nv multiplies and loads mr + nv operands."""
    kinds = tile_kinds(plan.tile, x.m, x.n)
    pieces = tuple(
        Pieces(
            count=count,
            turns=x.groups,
            multiply=multiply_step(rows, vectors, plan.multiply, here),
            loads=load_step(rows, vectors, here),
        )
        for count, rows, vectors in kinds
    )
    return Work(pieces, tile_cycles(plan, kinds, x, here))


def _work_of_streams(plan: GemmPlan, x: Extents, here: Machine) -> Work:
    extents = (x.m, x.n, x.k)
    pieces = _stream_pieces(plan.tile, plan.multiply, plan.order, extents, here, _stride_of_c(plan))
    return Work(pieces, STREAM_START_CYCLES * sum(p.count for p in pieces))


def _stride_of_c(plan: GemmPlan) -> int:
    return int(plan.workload.ldc or 0) * ELEMENT_BYTES[str(plan.workload.out_dtype)]


def _stream_pieces(
    tile: MicroTile, arithmetic: Arithmetic, order: Order, extents: tuple[int, int, int],
    here: Machine, stride: int = 0,
) -> tuple[Pieces, ...]:
    """Tiles that keep A or B: a step along n or m takes a vector of C in, and puts it back.

    The sums of one step are a chain of kr multiply-adds; `STEPS_IN_FLIGHT` of them run at once.
    Rows of C that do not begin with a line cross lines. Where rows are a multiple of a page apart
    (``stride``, in bytes), a load looks like the store before, by the low bits of its address, and
    waits for it: then there is one chain at a time.
    """  # fmt: skip
    m, n, k = extents
    rate, latency = rate_of(arithmetic, here)
    vectors = -(-n // tile.lanes)
    down = order.in_registers == "B"
    turns, sides = (m, _parts(vectors, tile.vectors)) if down else (vectors, _parts(m, tile.mr))
    crossing = stride % here.l1.line_bytes > 0
    load = CROSSING_LOAD if crossing else 1.0
    store = CROSSING_STORE if crossing else 1.0 / here.stores
    aliased = down and stride > 0 and stride % here.page_bytes == 0
    in_flight = 1.0 if aliased else STEPS_IN_FLIGHT
    if k <= tile.kr:  # C is only written: no chain begins with a load that a store may hold up
        in_flight = STEPS_IN_FLIGHT_WITHOUT_C
    return tuple(
        Pieces(
            count=count * deep,
            turns=turns,
            multiply=_overlapped(sums * steps / rate, steps * latency / in_flight),
            loads=(load * sums + steps) / here.loads,
            stores=store * sums,
        )
        for count, sums in sides
        for deep, steps in _parts(k, tile.kr)
    )


def _overlapped(*cycles: float) -> float:
    """What terms take together that overlap: (sum T_i^p)^(1/p)."""
    total: float = sum(c**OVERLAP for c in cycles) ** (1 / OVERLAP)
    return total


def _parts(extent: int, tile: int) -> list[tuple[int, int]]:
    """How many tiles of which size cover ``extent``."""
    return [(c, size) for c, size in ((extent // tile, tile), (1, extent % tile)) if c and size]


def rate_of(arithmetic: Arithmetic, here: Machine) -> tuple[float, float]:
    """Vectors of sums that are added to per cycle, and cycles from one sum to the next."""
    dot = here.core.dot(arithmetic.name)
    known = dot is not None and dot.per_cycle
    per_cycle = dot.per_cycle if dot and known else here.fma_per_cycle / arithmetic.instructions
    latency = (dot.latency_cycles if dot else None) or here.fma_latency
    return per_cycle or here.fma_per_cycle, latency


def multiply_step(rows: int, vectors: int, arithmetic: Arithmetic, here: Machine) -> float:
    """Cycles of a tile's multiply-adds in one step along k: it issues mr*nv of them, N a cycle.

    Each accumulator takes one a step and waits for the one before, so a step takes L at least (Low
    et al., register step, from the other side).
    """
    rate, latency = rate_of(arithmetic, here)
    return max(rows * vectors / rate, latency)


def load_step(rows: int, vectors: int, here: Machine) -> float:
    """Cycles of its loads in one step along k: mr elements of A, broadcast, and nv vectors of B."""
    return (rows + vectors) / here.loads


def _estimate(
    plan: GemmPlan, here: Machine, cycles: float, terms: dict[str, float], moved: Traffic
) -> Estimate:
    w, threads = plan.workload, plan.grid.threads
    rate, _ = rate_of(plan.multiply, here)
    peak_cycles = w.flops / (2 * rate * plan.tile.lanes * plan.multiply.group * threads)
    levels_beyond = ((2, "L2"), (3, "L3"), (4, "memory"))
    all_products = plan.thread_batch * threads
    bytes_moved = tuple((name, moved.out_of(level) * all_products) for level, name in levels_beyond)
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


def least_cycles(
    tile: MicroTile, arithmetic: Arithmetic, order: Order, extents: dict[str, int], here: Machine
) -> float:
    """Cycles that no choice of blocks and packing can avoid: ports, latency, one start a tile."""
    m, n, k = extents["m"], extents["n"], extents["k"]
    if order.in_registers != "C":
        pieces = _stream_pieces(tile, arithmetic, order, (m, n, k), here)
        starts = STREAM_START_CYCLES * sum(p.count for p in pieces)
        return starts + sum(p.count * p.turns * max(p.multiply, p.loads, p.stores) for p in pieces)
    groups = -(-k // arithmetic.group)
    return sum(
        count
        * (
            TILE_START_CYCLES
            + groups
            * max(multiply_step(rows, vectors, arithmetic, here), load_step(rows, vectors, here))
        )
        for count, rows, vectors in tile_kinds(tile, m, n)
    )


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


def epilogue_cycles(plan: GemmPlan, x: Extents, here: Machine) -> float:
    """Vector operations of the epilogue on all of C, as fast as multiply-adds, and its arrays."""
    w = plan.workload
    if w.stores_sums:
        return 0.0
    vectors = x.m * -(-x.n // plan.tile.lanes)
    narrowing = 0 if w.out_dtype == w.accumulator else 1
    work = vectors * (w.expression.operations + narrowing) / here.fma_per_cycle
    arrays = [op for op in w.expression.operands if len(op.axes) == 2]
    size = sum(x.m * x.n * ELEMENT_BYTES[op.dtype] for op in arrays)
    return work + (size / _link(w.operand_bytes, here) if size else 0.0)


def adding_up_cycles(plan: GemmPlan, here: Machine) -> float:
    """Sums of ``depth`` threads written, read and added, by one of them."""
    if plan.grid.depth == 1:
        return 0.0
    w = plan.workload
    elements = w.batch * w.m * w.n * (plan.grid.depth + 1)
    vectors = elements / plan.tile.lanes
    size = elements * ELEMENT_BYTES[w.accumulator]
    return max(vectors / here.loads, size / _link(size, here)) + here.l3_latency


def row_start_cycles(plan: GemmPlan, moved: Traffic, here: Machine) -> float:
    """Rows read in place start without the prefetcher, which stops at the end of a page.

    The share `ROW_START` of an L2 latency is exposed per row; rows that share a page share it. Rows
    that fall into the same set of L1 wait for each other: `SAME_SET`, divided by the places within
    a page at which rows start (`residency.strided_lines`).
    """
    stride = _stride(plan)
    new_page = ROW_START * min(1.0, stride / here.page_bytes)
    same_set = SAME_SET * gcd(here.page_bytes, stride) / here.page_bytes
    return moved.row_starts * here.l2_latency * (new_page + same_set)


def _stride(plan: GemmPlan) -> int:
    """Bytes between the rows that a tile goes down: of B, or of C where B stays in registers."""
    w = plan.workload
    if plan.order.in_registers == "B":
        return int(w.ldc or 0) * ELEMENT_BYTES[str(w.out_dtype)]
    return int(w.ldb or 0) * plan.b_bytes


def tlb_cycles(plan: GemmPlan, x: Extents, here: Machine) -> float:
    """Pages that a tile goes down, at each pass that needs more of them than the TLB has.

    Tiles that keep C walk rows of a B read in place, tiles that keep B rows of C and of A.
    """
    if plan.order.in_registers == "A":
        return 0.0
    if plan.order.in_registers == "C":
        if plan.b is not Storage.IN_PLACE:
            return 0.0
        pages = _pages(plan.blocks.kc, _stride(plan), here)
        if pages + plan.tile.mr <= here.tlb_entries:
            return 0.0
        return pages * here.tlb_miss_cycles * x.row_tiles * x.column_tiles * x.k_blocks
    rows = min(plan.blocks.mc, x.m)
    pages = _pages(rows, _stride(plan), here)
    pages += _pages(rows, int(plan.workload.lda or 0) * plan.a_bytes, here)
    if pages + plan.tile.kr <= here.tlb_entries:
        return 0.0
    return pages * here.tlb_miss_cycles * x.step_tiles * x.column_tiles * x.row_blocks


def _pages(rows: int, stride: int, here: Machine) -> int:
    return min(rows, -(-rows * stride // here.page_bytes))


def shared_line_cycles(plan: GemmPlan, x: Extents, here: Machine) -> float:
    """Lines of C that two threads write, where the columns of one end and the next one's begin.

    Such a line travels to the neighbour and back once a row and k block. Columns of a thread are
    whole vectors, but callers' arrays need not begin with a line, so one is shared all the same.
    """
    neighbours = min(2, plan.grid.columns - 1)
    return x.m * x.k_blocks * neighbours * SHARED_LINE * here.l3_latency


def packing_cycles(plan: GemmPlan, x: Extents, panels: Panels, here: Machine) -> float:
    """Copies of A and B: what the ports take, or the links out of and into the caches if longer."""
    w, order = plan.workload, plan.order
    total = 0.0
    if plan.packs_b:
        again = x.row_blocks if order.outer.index("m") < order.outer.index("n") else 1
        size = panels.x_block if order.in_l3 == "B" else panels.y_block
        total += again * _packing_b(plan, x, size, here)
    if plan.a is not Storage.IN_PLACE:
        again = x.column_blocks if order.outer.index("n") < order.outer.index("m") else 1
        elements = x.m * x.k * again
        moved = elements * w.element_bytes / _link(w.operand_bytes, here)
        total += _together(_reordering(plan, elements, w.trans_a, here), moved, w.trans_a)
    return total


def _packing_b(plan: GemmPlan, x: Extents, block_bytes: int, here: Machine) -> float:
    w, lanes = plan.workload, plan.tile.lanes * plan.multiply.group
    elements = x.n * x.k
    write = elements * plan.b_bytes / _link(block_bytes, here)
    if plan.b is Storage.PACKED_ON_FIRST_USE:
        grouping = _reordering(plan, elements, True, here) if plan.multiply.group > 1 else 0.0
        return max(elements / lanes / here.stores, write) + grouping
    stored = ELEMENT_BYTES[str(w.dtype_b)]
    read = elements * stored / _link(w.operand_bytes, here)
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


def _link(size_bytes: float, here: Machine) -> float:
    """Bytes per cycle out of the nearest level beyond L1 that keeps ``size_bytes``."""
    if here.l2 is not None and keeps(here.l2, size_bytes):
        return here.l2_rate
    if here.l3 is not None and keeps(here.l3, size_bytes):
        return here.l3_rate
    return here.memory_rate
