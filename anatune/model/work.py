"""What the ports of a core have to do for a plan: multiply-adds, loads, stores (rank 4)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from anatune.model.machine import Machine
from anatune.model.traffic import Extents
from anatune.plan import Arithmetic, Cover, ExternalKernel, GemmPlan, MicroTile, Order

OVERLAP = 4.0
"""Exponent p of T = (sum T_i^p)^(1/p): 1 adds the terms (ECM), infinity takes the largest
(roofline). This and the other constants of `work`, `copying` and `estimate` were fitted on a 2-core
Zen 5 guest to about 2200 plans of 17 products, timed as benchmarks/model_accuracy.py times them
(its --json lines hold what a fit needs)."""

TILE_START_CYCLES = 28.0
"""Cycles to leave one tile's loop and to fill the pipeline of the next: a mispredicted exit (about
15 cycles on current cores), the addresses, the first loads of A and B."""

STREAM_START_CYCLES = 8.0
"""Cycles to load the tile that A or B keeps in registers and to set out: the loop's exit, unlike
that of a tile of C, is one and the same for all, and predicted."""

COVER_CYCLES = 25.0
"""Cycles to look up how a cover cuts a span: about as many instructions, most of which wait for the
one before, in the assembly for AVX-512. Not measured by itself."""

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


Lengths = tuple[int, int, int]
"""Extents along m, n and k."""

Kind = tuple[int, int, int]
"""So many tiles of so many rows and vectors."""


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


def work_of(plan: GemmPlan, x: Extents, here: Machine) -> Work:
    """The work of the busiest thread on one product."""
    c = plan.workload.output
    stride = c.leading * c.element_bytes
    lengths = x.m, x.n, x.k
    if plan.micro_kernel is not None:
        return _external_work(plan, plan.micro_kernel, lengths, here)
    pieces = _pieces(plan.tile, plan.multiply, plan.order, lengths, here, stride, plan.covers)
    if plan.order.in_registers == "C":
        kinds = _tile_kinds(plan.tile, x.m, x.n, plan.covers)
        starts = _c_tile_starts(plan, kinds, here) + _look_ups(plan, x)
        return Work(pieces, x.k_blocks * starts)
    turns = sum(p.count for p in pieces)
    covered = plan.cover(plan.order.along) is not None
    return Work(pieces, turns * (STREAM_START_CYCLES + COVER_CYCLES * covered))


def least_cycles(
    tile: MicroTile, arithmetic: Arithmetic, order: Order, extents: Lengths, here: Machine,
    kernel: ExternalKernel | None = None,
) -> float:  # fmt: skip
    """Cycles that no choice of blocks and packing can avoid: ports, latency, one start a tile."""
    if kernel is not None:
        m, n, k = extents
        return (m // tile.mr) * (n // tile.nr) * kernel.cost.of(k)
    start = TILE_START_CYCLES if order.in_registers == "C" else STREAM_START_CYCLES
    return sum(
        p.count * (start + p.turns * max(p.multiply, p.loads, p.stores))
        for p in _pieces(tile, arithmetic, order, extents, here)
    )


def rate_of(arithmetic: Arithmetic, here: Machine) -> tuple[float, float]:
    """Vectors of sums that are added to per cycle, and cycles from one sum to the next."""
    dot = here.core.dot(arithmetic.name)
    per_cycle = dot.per_cycle if dot else None
    latency = dot.latency_cycles if dot else None
    return per_cycle or here.fma_per_cycle / arithmetic.instructions, latency or here.fma_latency


def _pieces(
    tile: MicroTile, arithmetic: Arithmetic, order: Order, extents: Lengths, here: Machine,
    stride: int = 0, covers: tuple[Cover, ...] = (),
) -> tuple[Pieces, ...]:  # fmt: skip
    """Runs of the micro-kernel over ``extents``; ``stride``: bytes between rows of C, if known."""
    if order.in_registers == "C":
        return _c_pieces(tile, arithmetic, extents, here, covers)
    return _stream_pieces(tile, arithmetic, order, extents, here, stride, covers)


def _c_pieces(
    tile: MicroTile, arithmetic: Arithmetic, extents: Lengths, here: Machine,
    covers: tuple[Cover, ...] = (),
) -> tuple[Pieces, ...]:  # fmt: skip
    """Tiles that keep C: a step along k issues mr*nv multiply-adds, N a cycle.

    It loads mr elements of A, broadcast, and nv vectors of B. Each accumulator takes one product a
    step and waits for the one before, so a step takes L at least (Low et al., register step, from
    the other side).
    """
    m, n, k = extents
    return _plain_pieces(_tile_kinds(tile, m, n, covers), arithmetic, k, here)


def _plain_pieces(
    kinds: list[Kind], arithmetic: Arithmetic, k: int, here: Machine
) -> tuple[Pieces, ...]:
    rate, latency = rate_of(arithmetic, here)
    return tuple(
        Pieces(
            count=count,
            turns=-(-k // arithmetic.group),
            multiply=max(rows * vectors / rate, latency),
            loads=(rows + vectors) / here.loads,
        )
        for count, rows, vectors in kinds
    )


def tile_cycles(plan: GemmPlan, rows: int, vectors: int, here: Machine) -> float:
    """One tile that keeps C, of so many rows and vectors: one of several in one place.

    B_r comes out of L2 where it is longer than half of L1 (the rule of hand-tuned libraries), A_r
    is at hand; the narrower a tile is, the more of the one or the other each product takes.
    """
    rate, latency = rate_of(plan.multiply, here)
    group = plan.multiply.group
    steps = -(-min(plan.workload.k, plan.blocks.kc) // group)
    vector_bytes = plan.tile.lanes * group * plan.b_bytes
    far = steps * plan.tile.vectors * vector_bytes > here.l1.size_bytes / 2
    data = vectors * vector_bytes / here.l2_rate if far else 0.0
    ports = _overlapped(
        max(rows * vectors / rate, latency), (rows + vectors) / here.loads, data
    )
    return TILE_START_CYCLES + rows * vectors / here.stores + steps * ports


def stream_cycles(plan: GemmPlan, steps: int, here: Machine) -> float:
    """All passes along the product of tiles that keep A or B, so many steps along k of them."""
    w = plan.workload
    lengths = (w.m, w.n, steps)
    tile = replace(plan.tile, kr=steps)
    pieces = _stream_pieces(tile, plan.multiply, plan.order, lengths, here, 0)
    return sum(
        p.count * (STREAM_START_CYCLES + p.turns * _overlapped(p.multiply, p.loads, p.stores))
        for p in pieces
    )


def _c_tile_starts(plan: GemmPlan, kinds: list[Kind], here: Machine) -> float:
    """Of one k block: the start of each tile's loop, and the ports' work on C.

    C is prefetched, read if not new, written.
    """
    touches = (plan.k_blocks - 1) / plan.k_blocks + plan.prefetch_c
    return sum(
        count * (TILE_START_CYCLES + rows * vectors * (1 / here.stores + touches / here.loads))
        for count, rows, vectors in kinds
    )


def _look_ups(plan: GemmPlan, x: Extents) -> float:
    """Of one k block, tiles that keep C: the inner loop's cover once a turn of the outer one."""
    outer, inner = plan.order.inner
    per_turn = COVER_CYCLES * (plan.cover(inner) is not None)
    once = COVER_CYCLES * (plan.cover(outer) is not None)
    return once + x.tiles(outer) * per_turn


def _external_work(
    plan: GemmPlan, kernel: ExternalKernel, extents: Lengths, here: Machine
) -> Work:
    """Whole tiles at the cost that the kernel is known to have, edges as generated.

    Its cost covers C where it adds to C itself; elsewhere its sums lie beside C, and are read again
    and stored as a generated tile's.
    """
    m, n, k = extents
    kinds = _tile_kinds(plan.tile, m, n, plan.covers)
    has_whole = m >= kernel.mr and n >= kernel.nr
    whole, edges = (kinds[:1], kinds[1:]) if has_whole else ([], kinds)
    blocks, rest = divmod(k, plan.blocks.kc)
    cycles = blocks * kernel.cost.of(plan.blocks.kc) + (kernel.cost.of(rest) if rest else 0.0)
    called = tuple(
        Pieces(count=count, turns=k, multiply=cycles / k, loads=0.0) for count, _, _ in whole
    )
    starts = _c_tile_starts(plan, edges, here)
    if not plan.sums_go_to_c:
        starts += _c_tile_starts(plan, whole, here)
    pieces = (*called, *_plain_pieces(edges, plan.multiply, k, here))
    return Work(pieces, plan.k_blocks * starts)


def plain_tile_cycles(tile: MicroTile, arithmetic: Arithmetic, k: int, here: Machine) -> float:
    """Cycles of one whole generated tile by the ports alone, with its start."""
    (piece,) = _plain_pieces([(1, tile.mr, tile.vectors)], arithmetic, k, here)
    return TILE_START_CYCLES + piece.turns * max(piece.multiply, piece.loads)


def _stream_pieces(
    tile: MicroTile, arithmetic: Arithmetic, order: Order, extents: Lengths, here: Machine,
    stride: int, covers: tuple[Cover, ...] = (),
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
    rows = _cut(m, tile.mr, "m", covers)
    across = _cut(vectors * tile.lanes, tile.nr, "n", covers)
    columns = [(count, -(-width // tile.lanes)) for count, width in across]
    turns, sides = (m, columns) if down else (vectors, rows)
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
        for deep, steps in _cut(k, tile.kr, "k", covers)
    )


def _parts(extent: int, tile: int) -> list[tuple[int, int]]:
    """How many tiles of which size cover ``extent``."""
    return [(c, size) for c, size in ((extent // tile, tile), (1, extent % tile)) if c and size]


def _overlapped(*cycles: float) -> float:
    """What terms take together that overlap: (sum T_i^p)^(1/p)."""
    total: float = sum(c**OVERLAP for c in cycles) ** (1 / OVERLAP)
    return total


def _cut(extent: int, tile: int, dim: str, covers: tuple[Cover, ...]) -> list[tuple[int, int]]:
    """`_parts`, or what the cover of this dimension makes of ``extent``."""
    cover = next((cover for cover in covers if cover.dim == dim), None)
    return _parts(extent, tile) if cover is None else cover.counts(extent)


def _tile_kinds(tile: MicroTile, m: int, n: int, covers: tuple[Cover, ...] = ()) -> list[Kind]:
    """The tiles that cover m x n elements of C; whole ones first, where there are any."""
    rows = _cut(m, tile.mr, "m", covers)
    columns = [(count, -(-width // tile.lanes)) for count, width in _cut(n, tile.nr, "n", covers)]
    return [(a * b, height, vectors) for a, height in rows for b, vectors in columns]
