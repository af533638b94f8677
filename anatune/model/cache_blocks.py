"""How much of A and B each cache level keeps: the second step of a plan, from kc up to nc.

Each level keeps one block, lets two others stream through, and every block takes whole ways:
L1 keeps B_r, L2 keeps A_c, L3 keeps B_c. Each step starts from what the step before it chose.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import ceil

from anatune.errors import require
from anatune.hwprofile.profile import CacheLevel, CoreKind, Profile, Tlb
from anatune.plan import CacheBlocks, MicroTile

KEEPING_WAYS = 3  # one way each for the block that stays and for the two that stream past it
GUEST_SHARE = 2  # a virtual machine counts on 1/2 of a last-level cache: others may use the rest

WHY_EXTENT = "{name} = {extent}: must be 1 or more"
WHY_L1_MISSING = "caches of {core}: no L1, so no rule gives kc; give kc"
WHY_L1_WAYS = "L1 of {ways} ways cannot keep B_r while A_r and C stream: {least} needed; give kc"
WHY_L1_SMALL = "{mr}x{nr} tile: one step along k overfills its share of L1; take a smaller tile"
WHY_L2_WAYS = "kc = {kc}: B_r takes {taken} of {ways} ways of L2, none is left for A_c; lower kc"
WHY_L3_WAYS = (
    "mc = {mc}, kc = {kc}: A_c of {threads} threads takes {taken} of {ways} ways of L3,"
    " none is left for B_c; lower mc"
)
WHY_BLOCK = "{name} can be {limit} at most, less than its unit {unit}: take another kc or tile"


def way_bytes(level: CacheLevel) -> int:
    """N_i * C_i: what one way of a cache level holds."""
    return level.sets * level.line_bytes


def ways_taken(size_bytes: int, level: CacheLevel) -> int:
    """C_Xi: whole ways of a cache level that a block of ``size_bytes`` occupies."""
    return -(-size_bytes // way_bytes(level))


def round_down(value: int, unit: int) -> int:
    """The largest multiple of ``unit`` that is not above ``value``."""
    return value - value % unit


def round_up(value: int, unit: int) -> int:
    """The smallest multiple of ``unit`` that is not below ``value``."""
    return -(-value // unit) * unit


def kc_ratio(l1: CacheLevel, tile: MicroTile, element_bytes: int) -> int:
    """kc that fills the ways of L1 in the ratio of the tile's sides, one way left to C.

    Low et al., L1 step, as the authors' code and LLVM Polly have it:
    C_Ar = floor((W1-1) / (1 + nr/mr)), kc = C_Ar*N1*C1 / (mr*S). Their code's special cases:
    C_Ar = 0 gives A_r one way and B_r the rest, kc = (W1-2)*N1*C1 / (nr*S);
    W1 = 2 gives kc = N1*C1 / (2*mr*S).
    """
    mr, nr, ways = tile.mr, tile.nr, l1.ways
    require(ways >= 2, WHY_L1_WAYS.format(ways=ways, least=2))
    a_ways = (ways - 1) * mr // (mr + nr)
    if ways == 2:
        kc = way_bytes(l1) // (2 * mr * element_bytes)
    elif a_ways == 0:
        kc = (ways - 2) * way_bytes(l1) // (nr * element_bytes)
    else:
        kc = a_ways * way_bytes(l1) // (mr * element_bytes)
    require(kc >= 1, WHY_L1_SMALL.format(mr=mr, nr=nr))
    return kc


def kc_integer_program(l1: CacheLevel, tile: MicroTile, element_bytes: int) -> int:
    """The largest kc for which A_r, B_r and one way of C fit L1 in whole ways.

    max kc subject to ceil(mr*kc*S / (N1*C1)) + ceil(nr*kc*S / (N1*C1)) + 1 <= W1.
    Differs: the paper fixes the ratio of ways first and may lose a way to the rounding of C_Br;
    from three ways up this is never below `kc_ratio`, and equal on the machines of its table.
    """
    require(l1.ways >= KEEPING_WAYS, WHY_L1_WAYS.format(ways=l1.ways, least=KEEPING_WAYS))
    way = way_bytes(l1)
    a_step, b_step = tile.mr * element_bytes, tile.nr * element_bytes
    shared_out = l1.ways - 1
    kc = max(
        min(a_ways * way // a_step, (shared_out - a_ways) * way // b_step)
        for a_ways in range(1, shared_out)
    )
    require(kc >= 1, WHY_L1_SMALL.format(mr=tile.mr, nr=tile.nr))
    return kc


def kc_half_l1(l1: CacheLevel, tile: MicroTile, element_bytes: int) -> int:
    """kc for which B_r fills half of L1, as hand-tuned libraries choose it.

    After MTL5's blocking rules, not in the paper: kc = L1 / 2 / (nr*S); A_r streams from L2.
    """
    kc = l1.size_bytes // (2 * tile.nr * element_bytes)
    require(kc >= 1, WHY_L1_SMALL.format(mr=tile.mr, nr=tile.nr))
    return kc


def mc_occupied(l2: CacheLevel, tile: MicroTile, kc: int, element_bytes: int) -> int:
    """Rows of A_c that L2 keeps while B_r and C stream, before rounding to mr.

    Low et al., L2 step: C_Br2 = ceil(nr*kc*S / (N2*C2)), C_Ac = W2 - 1 - C_Br2,
    mc = C_Ac*N2*C2 / (kc*S).
    Differs: the ways that B_r occupies are counted, for the actual kc; the authors' codes take a
    ratio instead, two of them different ones that part where kc is small.
    """
    b_ways = ways_taken(tile.nr * kc * element_bytes, l2)
    a_ways = l2.ways - 1 - b_ways
    require(a_ways >= 1, WHY_L2_WAYS.format(kc=kc, taken=b_ways, ways=l2.ways))
    return a_ways * way_bytes(l2) // (kc * element_bytes)


def nc_occupied(l3: CacheLevel, mc: int, kc: int, element_bytes: int, *, threads: int = 1) -> int:
    """Columns of B_c that L3 keeps while A_c and C stream, before rounding to nr.

    Low et al., L3 step: C_Ac3 = ceil(mc*kc*S / (N3*C3)), C_Bc = W3 - 1 - C_Ac3,
    nc = C_Bc*N3*C3 / (kc*S).
    Differs: occupied ways as in `mc_occupied`; and ``threads`` that share the L3 and the loop over
    m bring one A_c each, T*mc*kc*S, while B_c is common to them.
    """
    a_ways = ways_taken(threads * mc * kc * element_bytes, l3)
    b_ways = l3.ways - 1 - a_ways
    why = WHY_L3_WAYS.format(mc=mc, kc=kc, threads=threads, taken=a_ways, ways=l3.ways)
    require(b_ways >= 1, why)
    return b_ways * way_bytes(l3) // (kc * element_bytes)


def mc_beside_panel(l3: CacheLevel, kc: int, element_bytes: int, *, threads: int = 1) -> int:
    """Rows of A_c for which the blocks of all threads take at most half of L3 from B_c.

    Not in the paper, whose L3 dwarfs L2: T*mc*kc*S <= floor((W3-1) / 2) * N3*C3. It binds where
    many cores with a large L2 share a small L3.
    """
    return (l3.ways - 1) // 2 * way_bytes(l3) // (threads * kc * element_bytes)


def even_out(
    extent: int, limit: int, unit: int = 1, *, workers: int = 1, name: str = "block"
) -> int:
    """The block, a multiple of ``unit`` or all of ``extent``, that makes the fewest trips equal.

    block = ceil(extent / (T * ceil(extent / (T*limit)))), then up to ``unit``: 1000 within 512 is
    500 + 500, not 512 + 488. The limit is rounded down to ``unit`` first, so the block stays
    within it.
    """
    require(limit >= unit, WHY_BLOCK.format(name=name, limit=limit, unit=unit))
    together = workers * round_down(limit, unit)
    blocks = workers * -(-extent // together)
    return min(extent, round_up(-(-extent // blocks), unit))


def balanced_mc(m: int, mc: int, mr: int, threads: int) -> int:
    """mc, at most as given, for which the threads on the loop over m get equally many full blocks.

    After MTL5, not in the paper: mc = ceil(m / (T * ceil(m / (T*mc)))), then up to mr.
    Differs: the mc inside is rounded down to mr first, so that rounding up never leaves the cache
    and never adds a block; rounding down last may add blocks, and a turn of the slowest thread.
    """
    return even_out(m, mc, mr, workers=threads, name="mc")


def sharers(level: CacheLevel, core: CoreKind, threads: int) -> int:
    """How many of ``threads`` meet in one instance of a cache level; cores fill up evenly.

    On a hybrid chip no more threads meet there than this kind of core runs.
    """
    on_this_kind = min(threads, core.count * core.threads_each)
    return min(threads, level.cores * ceil(on_this_kind / core.count))


def own_share(level: CacheLevel, core: CoreKind, threads: int) -> CacheLevel:
    """The part of a cache level that one of ``threads`` can count on.

    Sets are divided, ways are not: the streams of one thread still meet all ways of a set.
    """
    return replace(level, sets=max(1, level.sets // sharers(level, core, threads)))


@lru_cache(maxsize=64)
def levels(machine: Profile, threads: int) -> tuple[CacheLevel | None, ...]:
    """L1, L2 and L3 as the model uses them; None for a level that does not exist.

    L1 and L2 keep what is private to a thread: its share. L3 keeps B_c, common to all: undivided,
    or its guest's share on a virtual machine. L2 or L3 of fewer than three ways cannot keep a
    block against two streams and count as missing.
    """
    core = machine.core
    found: list[CacheLevel | None] = [None, None, None]
    for level in core.caches:
        if level.level > 3 or (level.level > 1 and level.ways < KEEPING_WAYS):
            continue
        if level.level < 3:
            found[level.level - 1] = own_share(level, core, threads)
        else:
            parts = GUEST_SHARE if machine.virtualized else 1
            found[2] = replace(level, sets=max(1, level.sets // parts))
    return tuple(found)


def extent_by_tlb(tlb: Tlb | None, extent: int, unit: int, step_bytes: int) -> int:
    """Bound of a block that no cache keeps: half of what the TLB reaches, or all of ``extent``.

    Half, because A_c and B_c are walked in turn; ``step_bytes`` is what the block grows by, kc*S.
    Never less than ``unit``: a TLB miss costs time, it forbids nothing.
    """
    if tlb is None:
        return round_up(extent, unit)
    pages = tlb.second_entries or tlb.entries
    return max(unit, pages * tlb.page_bytes // (2 * step_bytes))


def default_kc(l1: CacheLevel, tile: MicroTile, element_bytes: int) -> int:
    """kc when nobody asks for another: the integer program, or the paper's case for two ways."""
    rule = kc_integer_program if l1.ways >= KEEPING_WAYS else kc_ratio
    return rule(l1, tile, element_bytes)


def clamped_blocks(
    machine: Profile,
    tile: MicroTile,
    m: int,
    n: int,
    k: int,
    element_bytes: int,
    *,
    kc: int | None = None,
    threads: int = 1,
    sharing_m: int | None = None,
    k_unit: int = 1,
) -> CacheBlocks:
    """Blocks for one product: kc, then mc from that kc, then nc from both; each clamped and even.

    After arXiv 2304.14480: kc = min(k, kc), mc = min(m, mc(kc)), nc = min(n, nc(mc, kc)); a small
    k makes mc larger, so that A_c still fills L2. ``kc`` replaces the rule for L1; ``k_unit`` is
    what a dot-product instruction takes at once. ``threads`` share the caches; ``sharing_m`` of
    them (all, unless given) share the loop over m: 1 where ``m`` is already a thread's own.
    Without L2, m and the TLB bound mc; without L3, n and the TLB bound nc.
    Differs: blocks are evened out over their trips; and A_c gives way to B_c in a small L3.
    """
    for name, extent in (("m", m), ("n", n), ("k", k), ("threads", threads)):
        require(extent >= 1, WHY_EXTENT.format(name=name, extent=extent))
    core = machine.core
    sharing_m = threads if sharing_m is None else sharing_m
    l1, l2, l3 = levels(machine, threads)
    if kc is None:
        require(l1 is not None, WHY_L1_MISSING.format(core=core.name))
        assert l1 is not None  # for type checkers
        kc = default_kc(l1, tile, element_bytes)
    kc = even_out(k, kc, k_unit, name="kc")
    step_bytes = kc * element_bytes

    if l2 is not None:
        mc = mc_occupied(l2, tile, kc, element_bytes)
    else:
        mc = extent_by_tlb(core.tlb, m, tile.mr, step_bytes)
    if l3 is None:
        mc = balanced_mc(m, mc, tile.mr, sharing_m)
        nc = extent_by_tlb(core.tlb, n, tile.nr, step_bytes)
    else:
        together = sharers(l3, core, threads)
        mc = min(mc, mc_beside_panel(l3, kc, element_bytes, threads=together))
        mc = balanced_mc(m, mc, tile.mr, sharing_m)
        nc = nc_occupied(l3, mc, kc, element_bytes, threads=together)
    return CacheBlocks(mc=mc, nc=even_out(n, nc, tile.nr, name="nc"), kc=kc)
