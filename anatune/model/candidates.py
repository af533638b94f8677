"""All legal plans of a workload on a machine, and the few that are worth measuring (rank 4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from numbers import Integral
from typing import Any

from anatune.errors import IllegalPlan, OptionError, require
from anatune.hwprofile.profile import Profile
from anatune.model.cache_blocks import clamped_blocks, default_kc, kc_half_l1, round_up
from anatune.model.energy import static_joules
from anatune.model.estimate import least_cycles, predict, prefetch_pays
from anatune.model.machine import machine
from anatune.model.registers import check_tile, legal_tiles
from anatune.plan import CacheBlocks, CodeTarget, Estimate, GemmPlan, MicroTile, Storage, ThreadGrid
from anatune.workload import Matmul

Ranked = tuple[GemmPlan, Estimate]
Shape = tuple[MicroTile, ThreadGrid]

KC_STRETCHES = (2, 4, 8, 16)
"""Multiples of the model's kc that are candidates too: a longer B_r streams from L2, and C moves
less often. Hand-tuned libraries do so (AMD's Zen 5 sgemm: 480 where the L1 rule gives 256)."""

NARROW = 8
"""Part of the model's nc that is a candidate too: an eighth of a last-level cache is about a
core's own."""

SKETCHED, PROMISING, PER_WIDTH = 32, 5, 2
"""Pairs of tile and thread grid that `best` looks at, looks at closely, and of these per width."""

LIGHT_SHARE = 0.65
"""Accumulators of a light tile, as a share of the most that any has: 18 of AVX-512's 28. On large
products of a Zen 5 guest such tiles were 1 to 2 % faster than the model's tall ones."""

PER_TILE = 2
"""Plans of one register tile in a shortlist: different tiles tell a measurement more."""

PER_CALL = (Storage.IN_PLACE, Storage.PACKED, Storage.PACKED_ON_FIRST_USE)
CONSTANT = (Storage.IN_PLACE, Storage.PACKED_AHEAD)
"""How B may reach the micro-kernel: B that changes from call to call, and B that does not."""

OBJECTIVES: dict[str, Callable[[Estimate], float]] = {
    "time": lambda e: e.seconds,
    "energy": lambda e: e.joules,
    "edp": lambda e: e.joules * e.seconds,
}
"""What is made small: seconds, modelled joules, or their product."""


def measured_cost(ranked: Ranked, seconds: float, objective: str) -> float:
    """The objective's value for a plan measured to take ``seconds``; energy stays modelled."""
    plan, estimate = ranked
    threads = plan.grid.threads
    more = static_joules(seconds, threads) - static_joules(estimate.seconds, threads)
    return OBJECTIVES[objective](replace(estimate, seconds=seconds, joules=estimate.joules + more))


def check_objective(objective: str) -> None:
    """Raise OptionError for an objective that is not one of `OBJECTIVES`."""
    why = f"objective = {objective!r}: one of {', '.join(map(repr, OBJECTIVES))}"
    require(objective in tuple(OBJECTIVES), why, OptionError)


def thread_count(profile: Profile, threads: int | None) -> int:
    """``threads`` where given and possible, else all that the profile says may be used."""
    if threads is None:
        return profile.usable_threads
    given: Any = threads  # numpy's integers too; whatever else a caller may hand over
    whole = isinstance(given, Integral) and not isinstance(given, bool)
    require(
        whole and 1 <= threads <= profile.usable_threads,
        f"threads = {threads!r}: a whole number from 1 to {profile.usable_threads}, the usable "
        f"threads of {profile.name}",
        OptionError,
    )
    return int(threads)


def rank(
    profile: Profile, workload: Matmul, threads: int | None = None, objective: str = "time"
) -> list[Ranked]:
    """Every legal plan with its estimate, best first."""
    check_objective(objective)
    count = thread_count(profile, threads)
    shapes = _shapes(profile, workload, count)
    plans = (plan for shape in shapes for plan in _plans(profile, workload, *shape))
    return _ordered(profile, plans, objective)


def best(
    profile: Profile, workload: Matmul, threads: int | None = None, objective: str = "time"
) -> list[Ranked]:
    """`rank` without the tiles and thread grids that cannot win, in milliseconds.

    `SKETCHED` of them, those that are fastest with all operands at hand, are tried with two plans
    each, and the `PROMISING` best of these with every plan. That order is by time: for another
    objective everything is ranked.
    """
    if objective != "time":
        return rank(profile, workload, threads, objective)

    def sketch(shape: Shape) -> float:
        return min(
            (predict(profile, plan).seconds for plan in _sketches(profile, workload, *shape)),
            default=float("inf"),
        )

    shapes = _shapes(profile, workload, thread_count(profile, threads))
    shapes.sort(key=lambda shape: _least_seconds(profile, workload, *shape))
    in_order = sorted(shapes[:SKETCHED], key=sketch)
    promising = _mixed(in_order)[:PROMISING]
    light = [shape for shape in in_order if _is_light(shape[0], shapes)][:1]
    promising += [shape for shape in light if shape not in promising]
    plans = (plan for shape in promising for plan in _plans(profile, workload, *shape))
    return _ordered(profile, plans, objective)


def shortlist(ranked: Sequence[Ranked], count: int) -> list[Ranked]:
    """``count`` plans worth measuring, the model's pick first, then what it is least sure of.

    The best light tile, as the model has no term for the pressure of tall ones on registers and
    prefetchers; the best of each other width, as widths differ in what they ask of ports and links;
    then the order of the ranking. Of one register tile at most `PER_TILE` plans are taken.
    """
    shapes = [(plan.tile, plan.grid) for plan, _ in ranked]
    light = [r for r in ranked if _is_light(r[0].tile, shapes)]
    widths = {r[0].tile.nr: r for r in reversed(ranked)}  # the best of each stays
    by_width = sorted(widths.values(), key=ranked.index)
    taken: Counter[MicroTile] = Counter()
    chosen: list[Ranked] = []
    for item in (ranked[0], *light[:1], *by_width[: count // 2], *ranked):
        tile = item[0].tile
        if len(chosen) < count and taken[tile] < PER_TILE and item not in chosen:
            taken[tile] += 1
            chosen.append(item)
    return chosen


def _is_light(tile: MicroTile, shapes: Sequence[Shape]) -> bool:
    """Whether ``tile`` leaves registers free that the largest of ``shapes`` needs."""
    most = max(t.accumulators for t, _ in shapes)
    return tile.accumulators <= LIGHT_SHARE * most


def check_plan(profile: Profile, plan: GemmPlan) -> None:
    """Raise IllegalPlan, with the numbers, for a plan that the machine cannot hold."""
    check_tile(plan.tile, profile.core, plan.workload.element_bytes)
    require(
        plan.grid.threads <= profile.usable_threads,
        f"grid = {plan.grid.rows}x{plan.grid.columns}: {plan.grid.threads} threads, profile "
        f"{profile.name} has {profile.usable_threads}",
    )


def _ordered(profile: Profile, plans: Iterator[GemmPlan], objective: str) -> list[Ranked]:
    ranked = [(plan, predict(profile, plan)) for plan in plans]
    require(ranked, f"profile {profile.name}: no legal plan; its caches keep no register tile")
    weight = OBJECTIVES[objective]
    return sorted(ranked, key=lambda item: weight(item[1]))


def _shapes(profile: Profile, workload: Matmul, threads: int) -> list[Shape]:
    """Register tiles no larger than the product, each with the thread grids that it can feed."""
    lanes = profile.core.lanes(workload.element_bytes)
    widest = -(-workload.n // lanes) * lanes
    tiles = [
        t
        for t in legal_tiles(profile.core, workload.element_bytes)
        if t.mr <= workload.m and t.nr <= widest
    ]
    return [(t, g) for t in tiles for g in _grids(workload, t, threads)]


def _grids(workload: Matmul, tile: MicroTile, threads: int) -> list[ThreadGrid]:
    """Grids of ``threads``, half of them, and so on, that leave every thread a tile of its own."""
    row_tiles, column_tiles = -(-workload.m // tile.mr), -(-workload.n // tile.nr)
    counts = {max(1, threads >> halvings) for halvings in range(threads.bit_length())}
    return [
        ThreadGrid(rows=rows, columns=count // rows)
        for count in sorted(counts)
        for rows in range(1, count + 1)
        if count % rows == 0 and rows <= row_tiles and count // rows <= column_tiles
    ]


def _plans(
    profile: Profile, workload: Matmul, tile: MicroTile, grid: ThreadGrid
) -> Iterator[GemmPlan]:
    """Plans of one tile and grid: each kc worth trying, each operand packed or in place."""
    seen = set()
    for limit in _kc_limits(profile, workload, tile, grid):
        plan = _plan(profile, workload, tile, grid, limit)
        if plan is None or plan.blocks.kc in seen:
            continue
        seen.add(plan.blocks.kc)
        storages = CONSTANT if workload.constant_b else PER_CALL
        for a, b in product((Storage.IN_PLACE, Storage.PACKED), storages):
            yield replace(plan, a=a, b=b)
        for blocks in {_streaming_a(plan), _narrow(plan)} - {plan.blocks}:
            for b in (storages[0], storages[-1]):
                yield replace(plan, b=b, blocks=blocks)


def _sketches(
    profile: Profile, workload: Matmul, tile: MicroTile, grid: ThreadGrid
) -> Iterator[GemmPlan]:
    """Two plans that tell what a tile and grid are good for: kc by the rule, and the longest."""
    limits = _kc_limits(profile, workload, tile, grid)
    for limit in {limits[0], max(limits)}:
        plan = _plan(profile, workload, tile, grid, limit)
        if plan is not None:
            packed = Storage.PACKED_AHEAD if workload.constant_b else Storage.PACKED_ON_FIRST_USE
            yield replace(plan, b=packed)


def _kc_limits(
    profile: Profile, workload: Matmul, tile: MicroTile, grid: ThreadGrid
) -> tuple[int, ...]:
    """The model's kc, multiples of it, and the half-L1 rule of hand-tuned libraries."""
    l1 = machine(profile, grid.threads).l1
    by_rule = default_kc(l1, tile, workload.element_bytes)
    half = kc_half_l1(l1, tile, workload.element_bytes)
    return (by_rule, *(s * by_rule for s in KC_STRETCHES), max(1, half))


def _streaming_a(plan: GemmPlan) -> CacheBlocks:
    """Blocks for which a micro-panel of B stays and all of A streams past it: one block of rows.

    The paper keeps A_c in L2 instead; where the link out of the next level feeds A fast enough this
    order spares a long kc the second and later passes over B and C.
    """
    w = plan.workload
    mc, nc = min(plan.thread_rows, w.m), min(plan.tile.nr, w.n)
    return CacheBlocks(kc=plan.blocks.kc, mc=mc, nc=nc)


def _narrow(plan: GemmPlan) -> CacheBlocks:
    """Blocks with a B_c that takes a small part of L3: A, C and other cores want the rest of it.

    The paper fills L3 with B_c; where all of A and C stream past it does not stay there.
    """
    nc = round_up(-(-plan.blocks.nc // NARROW), plan.tile.nr)
    return replace(plan.blocks, nc=min(nc, plan.blocks.nc))


def _mixed(shapes: Sequence[Shape]) -> list[Shape]:
    """``shapes`` in order, but only the first `PER_WIDTH` of each width of tile."""
    seen: Counter[int] = Counter()
    kept = []
    for tile, grid in shapes:
        seen[tile.nr] += 1
        if seen[tile.nr] <= PER_WIDTH:
            kept.append((tile, grid))
    return kept


def _plan(
    profile: Profile, workload: Matmul, tile: MicroTile, grid: ThreadGrid, kc: int | None
) -> GemmPlan | None:
    """The plan of one tile, grid and limit of kc, or None where no cache block fits."""
    m, n = _thread_extents(workload, tile, grid)
    try:
        blocks = clamped_blocks(
            profile, tile, m, n, workload.k, workload.element_bytes,
            kc=kc, threads=grid.threads, sharing_m=1,
        )  # fmt: skip
    except IllegalPlan:
        return None
    plan = GemmPlan(
        workload=workload,
        target=CodeTarget.of(profile.target),
        tile=tile,
        blocks=blocks,
        grid=grid,
    )
    return replace(plan, prefetch_c=prefetch_pays(plan, machine(profile, grid.threads)))


def _thread_extents(workload: Matmul, tile: MicroTile, grid: ThreadGrid) -> tuple[int, int]:
    """Rows and columns of C of the thread that has most of them."""
    rows = -(-workload.m // (tile.mr * grid.rows)) * tile.mr
    columns = -(-workload.n // (tile.nr * grid.columns)) * tile.nr
    return min(rows, workload.m), min(columns, workload.n)


def _least_seconds(profile: Profile, workload: Matmul, tile: MicroTile, grid: ThreadGrid) -> float:
    """Seconds, not cycles: the clock differs between one thread and several."""
    here = machine(profile, grid.threads)
    m, n = _thread_extents(workload, tile, grid)
    return (here.barrier_cycles + least_cycles(tile, m, n, workload.k, here)) / here.hz
