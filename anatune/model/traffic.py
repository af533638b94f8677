"""Bytes that each cache level takes in from the one beyond it: the plan's traffic (rank 4).

Terms speak of roles, as an `Order` names them: X lives in L3, Y in L2, Z in registers.
"""

from __future__ import annotations

from dataclasses import dataclass

from anatune.hwprofile.profile import CacheLevel
from anatune.model.machine import Machine
from anatune.model.residency import kept_share, keeps, keeps_rows, strided_lines
from anatune.plan import GemmPlan, Storage
from anatune.plan.nouns import DIMS
from anatune.workload.dtypes import ELEMENT_BYTES

READ_AND_WRITTEN = 2
"""Times that C passes a link where A or B passes it once."""


@dataclass(frozen=True)
class Extents:
    """Extents of one product of the busiest thread, and how often its loops turn."""

    m: int
    n: int
    k: int
    groups: int  # along k, of as many steps as the instruction takes
    row_tiles: int  # turns of ir over all of m
    column_tiles: int  # turns of jr over all of n
    step_tiles: int  # turns along k of tiles that keep A or B
    row_blocks: int  # Ni
    column_blocks: int  # Nj
    k_blocks: int  # Np
    products: int  # of the batch

    @classmethod
    def of(cls, plan: GemmPlan) -> Extents:
        m, n, k = (plan.thread_extent(dim) for dim in "mnk")
        return cls(
            m=m,
            n=n,
            k=k,
            groups=-(-k // plan.multiply.group),
            row_tiles=-(-m // plan.tile.mr),
            column_tiles=-(-n // plan.tile.nr),
            step_tiles=-(-k // plan.tile.kr),
            row_blocks=-(-m // plan.blocks.mc),
            column_blocks=-(-n // plan.blocks.nc),
            k_blocks=plan.k_blocks,
            products=plan.thread_batch,
        )

    def along(self, dim: str) -> int:
        return {"m": self.m, "n": self.n, "k": self.k}[dim]

    def tiles(self, dim: str) -> int:
        return {"m": self.row_tiles, "n": self.column_tiles, "k": self.step_tiles}[dim]

    def blocks(self, dim: str) -> int:
        return {"m": self.row_blocks, "n": self.column_blocks, "k": self.k_blocks}[dim]


@dataclass(frozen=True)
class Traffic:
    """Bytes that L1 takes out of L2, L2 out of L3 and L3 out of memory, one thread, one product.

    ``c`` are the bytes of C that move at the ends of tiles that keep it, out of and back into level
    ``c_level`` (2: L2, 3: L3, 4: memory). ``row_starts`` counts rows that are come to from a row
    above, and that L1 lacks; ``far_lines`` lines that a tile comes to in this way and that L2 lacks
    too.
    """

    l1: float
    l2: float
    l3: float
    c: float
    c_level: int
    row_starts: float
    far_lines: float = 0.0

    def out_of(self, level: int) -> float:
        """All bytes out of a level: 2 for L2, 3 for L3, 4 for memory."""
        return (self.l1, self.l2, self.l3)[level - 2] + (self.c if self.c_level == level else 0.0)


NO_TRAFFIC = Traffic(l1=0.0, l2=0.0, l3=0.0, c=0.0, c_level=2, row_starts=0.0)


def element_bytes(plan: GemmPlan, operand: str) -> int:
    """Bytes of an element of A, B or C where the micro-kernel meets it."""
    if operand == "C":
        w = plan.workload
        apart = plan.keeps_sums_apart
        return ELEMENT_BYTES[w.accumulator] if apart else w.output.element_bytes
    return plan.a_bytes if operand == "A" else plan.b_bytes


def block_extent(plan: GemmPlan, x: Extents, dim: str) -> int:
    """The block along ``dim``, or all of a thread where that is less."""
    return min(plan.blocks.along(dim), x.along(dim))


@dataclass(frozen=True)
class Panels:
    """Sizes in bytes of what the levels are meant to keep, and what they do keep of it.

    Of B3A2C0: X_r is B_r, X_c is B_c, Y_c is A_c.
    """

    y_block: int
    x_micro: int
    x_block: int
    x_in_l1: bool
    x_in_l2: bool
    y_in_l1: bool
    y_in_l2: bool

    @classmethod
    def of(cls, plan: GemmPlan, x: Extents, here: Machine) -> Panels:
        order, l1, l2 = plan.order, here.l1, here.l2
        first, last = order.inner
        along = block_extent(plan, x, order.along)
        s_x, s_y = (element_bytes(plan, o) for o in (order.in_l3, order.in_l2))
        width = min(plan.tile.along(first), x.along(first))
        x_micro = along * width * s_x
        y_micro = _footprint(plan, order.in_l2, last, along, plan.tile.along(last), l1)
        x_block = along * block_extent(plan, x, first) * s_x
        y_block = along * block_extent(plan, x, last) * s_y

        def stays(operand: str, level: CacheLevel, across: str, width: int, beside: int) -> bool:
            size = _footprint(plan, operand, across, along, width, level)
            run, stride = _runs(plan, operand, across, along, width)
            if not keeps(level, size + beside):
                return False
            rows = along * width * element_bytes(plan, operand) // run
            return not stride or keeps_rows(level, rows, run, stride, here.page_bytes)

        def x_stays(level: CacheLevel) -> bool:
            return stays(order.in_l3, level, first, width, y_micro)

        def y_stays(level: CacheLevel, beside: int) -> bool:
            height = block_extent(plan, x, last)
            return stays(order.in_l2, level, last, height, beside)

        return cls(
            y_block=y_block,
            x_micro=x_micro,
            x_block=x_block,
            x_in_l1=x_stays(l1),
            x_in_l2=l2 is not None and x_stays(l2),
            y_in_l1=y_stays(l1, x_micro),
            y_in_l2=l2 is not None and y_stays(l2, 2 * x_micro),
        )


def _footprint(
    plan: GemmPlan, operand: str, across: str, along: int, width: int, level: CacheLevel
) -> int:
    """Bytes of a level that a panel of ``along`` x ``width`` takes: of its runs, whole lines."""
    size = along * width * element_bytes(plan, operand)
    run, stride = _runs(plan, operand, across, along, width)
    whole = -(-run // level.line_bytes) * level.line_bytes
    return size // run * whole if stride else size


def _runs(plan: GemmPlan, operand: str, across: str, along: int, width: int) -> tuple[int, int]:
    """Bytes that lie side by side in a micro-panel read in place, and from one run to the next.

    The stride is 0 where the panel is packed.
    """
    w, size = plan.workload, element_bytes(plan, operand)
    arrays = {"A": w.operands["a"], "B": w.operands["b"], "C": w.output}
    stored = {"A": plan.a, "B": plan.b, "C": Storage.IN_PLACE}[operand]
    if stored is not Storage.IN_PLACE:
        return along * width * size, 0
    transposed = {"A": w.trans_a, "B": w.trans_b, "C": False}[operand]
    side_by_side = DIMS[operand][0 if transposed else 1]
    return (width if side_by_side == across else along) * size, arrays[operand].leading * size


def traffic(plan: GemmPlan, x: Extents, panels: Panels, here: Machine) -> Traffic:
    """Traffic of one product with each operand packed or in place (counted as in ECM models).

    Bytes, of B3A2C0 in brackets: Y passes L2->L1 once per tile of X (A: m*k*ceil(n/nr)), unless L1
    keeps Y_c; X once per block of Y (B: n*k*Ni), where L1 keeps X_r, else once per tile of Y; Z
    once per block along the dimension that X and Y share (C: 2*m*n*Np). One level further out the
    same with Y_c in L2 and X_c in L3. Nothing comes out of a level beyond one that keeps all
    operands: they were in use just before. L3, which does not evict strictly the oldest, keeps its
    share of what does not fit.
    """
    order, l2, l3 = plan.order, here.l2, here.l3
    first, last = order.inner
    size = {o: _operand_bytes(plan, x, o) for o in "ABC"}
    everything = _all_bytes(plan, x, size)
    if keeps(here.l1, everything):
        return NO_TRAFFIC
    passing = {o: size[o] * (READ_AND_WRITTEN if o == "C" else 1) for o in "ABC"}
    in_x, in_y, in_z = (passing[o] for o in (order.in_l3, order.in_l2, order.in_registers))
    moved_z = float(in_z * x.blocks(order.along))
    in_c, in_loop = (moved_z, 0.0) if order.in_registers == "C" else (0.0, moved_z)
    x_passes = x.blocks(last) if panels.x_in_l1 else x.tiles(last)
    y_passes = x.blocks(first) if panels.y_in_l1 else x.tiles(first)
    into_l1 = _evicted_rows_of_a(plan, x, here) + in_x * x_passes + in_loop + in_y * y_passes
    row_starts = _row_starts(plan, x, {order.in_l3: x_passes, order.in_l2: y_passes})
    if l2 is not None and keeps(l2, everything):
        return Traffic(into_l1, 0.0, 0.0, in_c, 2, row_starts)
    x_passes, y_passes = _passes_into_l2(x, panels, first, last, l2)
    into_l2 = in_y * y_passes + in_x * x_passes + in_loop
    far = _far_lines(plan, x, here)
    if l3 is not None and keeps(l3, _bytes_of_all_threads(plan, x, size)):
        return Traffic(into_l1, into_l2, 0.0, in_c, 3, row_starts, far)
    x_share, y_share = _kept_in_l3(plan, x, l3)
    into_l3 = in_y * _passes(x.blocks(first), y_share)
    into_l3 += in_x * _passes(x.blocks(last), x_share) + in_loop
    return Traffic(into_l1, into_l2, into_l3, in_c, 4, row_starts, far)


def _all_bytes(plan: GemmPlan, x: Extents, size: dict[str, int]) -> int:
    """Bytes of all operands of all products, with the copies that a call makes."""
    copies = size["B"] if plan.packs_b else 0
    copies += size["A"] if plan.a is not Storage.IN_PLACE else 0
    return (sum(size.values()) + copies) * x.products


def _bytes_of_all_threads(plan: GemmPlan, x: Extents, size: dict[str, int]) -> int:
    """What L3 would have to keep, which threads share: their rows of A and C, and their B."""
    grid, w = plan.grid, plan.workload
    sides = {"m": grid.rows, "n": grid.columns, "k": grid.depth}
    whole = {o: size[o] * sides[one] * sides[other] for o, (one, other) in DIMS.items()}
    products = min(w.batch, x.products * grid.batch)
    copies = size["B"] if plan.packs_b else 0
    copies += size["A"] if plan.a is not Storage.IN_PLACE else 0
    return sum(whole.values()) * products + copies * x.products * grid.threads


def _passes_into_l2(
    x: Extents, panels: Panels, first: str, last: str, l2: CacheLevel | None
) -> tuple[int, int]:
    """How often X and Y come out of L3."""
    x_passes = x.blocks(last)
    if l2 is not None and keeps(l2, panels.y_block + panels.x_block):
        x_passes = 1
    if not panels.x_in_l1 and not panels.x_in_l2:
        x_passes = x.tiles(last)
    return x_passes, x.blocks(first) if panels.y_in_l2 else x.tiles(first)


def _kept_in_l3(plan: GemmPlan, x: Extents, l3: CacheLevel | None) -> tuple[float, float]:
    """Shares of X and of Y that L3 keeps until they are wanted again."""
    order = plan.order
    first, last = order.inner
    x_along = block_extent(plan, x, order.along)
    kept_x = x_along * x.along(first) * element_bytes(plan, order.in_l3)
    # Threads that share X bring a Y each.
    kept_y = plan.workload.along(last) * x.along(order.along) * element_bytes(plan, order.in_l2)
    return kept_share(l3, kept_x), kept_share(l3, kept_y + kept_x)


def _row_starts(plan: GemmPlan, x: Extents, passes: dict[str, int]) -> float:
    """How often a tile comes to a row, read in place, that L1 lacks and no prefetcher foresees.

    Tiles that keep C go down rows of B; tiles that keep B go down rows of C and of A.
    """
    if plan.order.in_registers == "C":
        return float(passes["B"] * x.k * x.column_tiles) if plan.b is Storage.IN_PLACE else 0.0
    if plan.order.in_registers == "A":
        return 0.0
    visits = {"C": x.m * x.column_tiles, "A": x.m * x.step_tiles}
    in_place = {"C": True, "A": plan.a is Storage.IN_PLACE and not plan.workload.trans_a}
    return float(sum(passes[o] * visits[o] for o in "CA" if in_place[o]))


def _far_lines(plan: GemmPlan, x: Extents, here: Machine) -> float:
    """Lines of an A read in place down its rows, a few steps along k at a time, that are not in L2
    when a tile that keeps B first comes to them. Lines of one row follow each other much later, so
    no prefetcher sees a run."""
    down_rows = plan.order.in_registers == "B" and not plan.workload.trans_a
    if not down_rows or plan.a is not Storage.IN_PLACE:
        return 0.0
    return float(x.m * -(-x.k * plan.a_bytes // here.l1.line_bytes))


def _operand_bytes(plan: GemmPlan, x: Extents, operand: str) -> int:
    one, other = DIMS[operand]
    return x.along(one) * x.along(other) * element_bytes(plan, operand)


def _passes(turns: int, kept: float) -> float:
    """How often an operand comes from memory that L3 keeps the share ``kept`` of between turns."""
    return 1 + (turns - 1) * (1 - kept)


def _evicted_rows_of_a(plan: GemmPlan, x: Extents, here: Machine) -> float:
    """Bytes that L1 takes in again because rows of A read in place fall into the same sets.

    A line of A serves as many steps along k as it has elements; where the mr rows of a tile find
    less room than that, two ways left to B and C, the rest is fetched at every step.
    """
    w, l1 = plan.workload, here.l1
    if plan.a is not Storage.IN_PLACE or w.trans_a or plan.order.in_registers != "C":
        return 0.0
    lines = strided_lines(l1, 1, w.operands["a"].leading * plan.a_bytes, here.page_bytes)
    room = lines * max(0, l1.ways - 2) / l1.ways
    excess = max(0.0, min(plan.tile.mr, x.m) - room)
    return excess * l1.line_bytes * x.groups * x.row_tiles * x.column_tiles
