"""Bytes that each cache level takes in from the one beyond it: the plan's traffic (rank 4)."""

from __future__ import annotations

from dataclasses import dataclass

from anatune.hwprofile.profile import CacheLevel
from anatune.model.residency import PAGE_BYTES, kept_share, keeps, keeps_rows, strided_lines
from anatune.plan import GemmPlan, Storage


@dataclass(frozen=True)
class Extents:
    """Extents of the work of the busiest thread, and how often its loops turn."""

    m: int
    n: int
    k: int
    row_tiles: int  # turns of ir over all of m
    column_tiles: int  # turns of jr over all of n
    row_blocks: int  # Ni
    column_blocks: int  # Nj
    k_blocks: int  # Np

    @classmethod
    def of(cls, plan: GemmPlan) -> Extents:
        m = min(plan.thread_rows, plan.workload.m)
        n = min(plan.thread_columns, plan.workload.n)
        return cls(
            m=m,
            n=n,
            k=plan.workload.k,
            row_tiles=-(-m // plan.tile.mr),
            column_tiles=-(-n // plan.tile.nr),
            row_blocks=-(-m // plan.blocks.mc),
            column_blocks=-(-n // plan.blocks.nc),
            k_blocks=plan.k_blocks,
        )


@dataclass(frozen=True)
class Traffic:
    """Bytes of A and B that L1 takes out of L2, L2 out of L3 and L3 out of memory, one thread.

    ``c`` are the bytes of C that move at the ends of tiles, out of and back into level ``c_level``
    (2: L2, 3: L3, 4: memory). ``row_starts`` counts rows of B, read in place, that L1 lacks.
    """

    l1: float
    l2: float
    l3: float
    c: float
    c_level: int
    row_starts: float

    def out_of(self, level: int) -> float:
        """All bytes out of a level: 2 for L2, 3 for L3, 4 for memory."""
        return (self.l1, self.l2, self.l3)[level - 2] + (self.c if self.c_level == level else 0.0)


NO_TRAFFIC = Traffic(l1=0.0, l2=0.0, l3=0.0, c=0.0, c_level=2, row_starts=0.0)


@dataclass(frozen=True)
class Panels:
    """Sizes in bytes of what the levels are meant to keep, and what they do keep of it."""

    a_block: int
    b_micro: int
    b_block: int
    b_in_l1: bool
    b_in_l2: bool
    a_in_l1: bool
    a_in_l2: bool

    @classmethod
    def of(
        cls,
        plan: GemmPlan,
        x: Extents,
        l1: CacheLevel,
        l2: CacheLevel | None,
        page_bytes: int = PAGE_BYTES,
    ) -> Panels:
        s, tile, blocks = plan.workload.element_bytes, plan.tile, plan.blocks
        kc, mc, nc = blocks.kc, min(blocks.mc, x.m), min(blocks.nc, x.n)
        width = min(tile.nr, x.n)
        a_block, b_micro, b_block = mc * kc * s, kc * width * s, kc * nc * s
        a_micro = tile.mr * kc * s
        stride = plan.workload.n * s

        def b_stays(level: CacheLevel, beside: int) -> bool:
            if plan.b is Storage.IN_PLACE:
                together = keeps(level, b_micro + beside)
                return together and keeps_rows(level, kc, width * s, stride, page_bytes)
            return keeps(level, b_micro + beside)

        return cls(
            a_block=a_block,
            b_micro=b_micro,
            b_block=b_block,
            b_in_l1=b_stays(l1, a_micro),
            b_in_l2=l2 is not None and b_stays(l2, a_micro),
            a_in_l1=keeps(l1, a_block + b_micro),
            a_in_l2=l2 is not None and keeps(l2, a_block + 2 * b_micro),
        )


def traffic(
    plan: GemmPlan,
    x: Extents,
    panels: Panels,
    l1: CacheLevel,
    l2: CacheLevel | None,
    l3: CacheLevel | None,
    page_bytes: int = PAGE_BYTES,
) -> Traffic:
    """Traffic of B3A2C0 with either operand packed or in place (counted as in ECM models).

    Elements, times S: A passes L2->L1 once per column tile, m*k*ceil(n/nr), unless L1 keeps A_c;
    B once per row block, n*k*Ni, where L1 keeps B_r, else once per row tile; C is read and written
    once per k block, 2*m*n*Np. One level further out the same with A_c in L2 and B_c in L3. Nothing
    comes out of a level beyond one that keeps all operands: they were in use just before.
    L3, which does not evict strictly the oldest, keeps its share of what does not fit.
    """
    s = plan.workload.element_bytes
    a, b, c = x.m * x.k * s, x.n * x.k * s, x.m * x.n * s
    packed = b if plan.packs_b else 0
    packed += a if plan.a is not Storage.IN_PLACE else 0
    everything = a + b + c + packed
    moved_c = 2.0 * c * x.k_blocks
    if keeps(l1, everything):
        return NO_TRAFFIC
    b_passes = x.row_blocks if panels.b_in_l1 else x.row_tiles
    into_l1 = _evicted_rows_of_a(plan, x, l1, page_bytes) + b * b_passes
    into_l1 += a * (x.column_blocks if panels.a_in_l1 else x.column_tiles)
    in_place = plan.b is Storage.IN_PLACE
    row_starts = float(b_passes * x.k * x.column_tiles) if in_place else 0.0
    if l2 is not None and keeps(l2, everything):
        return Traffic(into_l1, 0.0, 0.0, moved_c, 2, row_starts)
    b_turns = x.row_blocks
    if l2 is not None and keeps(l2, panels.a_block + panels.b_block):
        b_turns = 1
    if not panels.b_in_l1 and not panels.b_in_l2:
        b_turns = x.row_tiles
    into_l2 = a * (x.column_blocks if panels.a_in_l2 else x.column_tiles) + b * b_turns
    if l3 is not None and keeps(l3, plan.workload.operand_bytes + packed * plan.grid.threads):
        return Traffic(into_l1, into_l2, 0.0, moved_c, 3, row_starts)
    kept_b = panels.b_block * plan.grid.threads
    kept_a = plan.workload.m * x.k * s + kept_b
    into_l3 = a * _passes(x.column_blocks, kept_share(l3, kept_a))
    into_l3 += b * _passes(x.row_blocks, kept_share(l3, kept_b))
    return Traffic(into_l1, into_l2, into_l3, moved_c, 4, row_starts)


def _passes(turns: int, kept: float) -> float:
    """How often an operand comes from memory that L3 keeps the share ``kept`` of between turns."""
    return 1 + (turns - 1) * (1 - kept)


def _evicted_rows_of_a(plan: GemmPlan, x: Extents, l1: CacheLevel, page_bytes: int) -> float:
    """Bytes that L1 takes in again because rows of A read in place fall into the same sets.

    A line of A serves as many steps along k as it has elements; where the mr rows of a tile find
    less room than that, two ways left to B and C, the rest is fetched at every step.
    """
    if plan.a is not Storage.IN_PLACE:
        return 0.0
    s, line = plan.workload.element_bytes, l1.line_bytes
    lines = strided_lines(l1, 1, plan.workload.k * s, page_bytes)
    room = lines * max(0, l1.ways - 2) / l1.ways
    excess = max(0.0, min(plan.tile.mr, x.m) - room)
    return excess * line * x.k * x.row_tiles * x.column_tiles
