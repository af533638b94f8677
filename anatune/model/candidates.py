"""All legal plans of a workload on a machine, and the few that are worth measuring (rank 4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import inf
from numbers import Integral
from typing import Any

from anatune.errors import IllegalPlan, OptionError, require
from anatune.hwprofile.profile import Profile
from anatune.model.cache_blocks import clamped_blocks, default_kc, kc_half_l1, round_up
from anatune.model.energy import static_joules
from anatune.model.estimate import least_cycles, predict, prefetch_pays
from anatune.model.machine import machine
from anatune.model.registers import check_tile, legal_tiles, streaming_tiles
from anatune.plan import (
    Arithmetic,
    CacheBlocks,
    CodeTarget,
    Estimate,
    GemmPlan,
    MicroTile,
    Order,
    Storage,
    ThreadGrid,
    arithmetics,
)
from anatune.workload import Matmul
from anatune.workload.dtypes import ELEMENT_BYTES

Ranked = tuple[GemmPlan, Estimate]


@dataclass(frozen=True)
class Shape:
    """What is decided first: everything but blocks and storage."""

    arithmetic: Arithmetic
    order: Order
    tile: MicroTile
    grid: ThreadGrid


KC_STRETCHES = (2, 4, 8, 16)
"""Multiples of the model's kc that are candidates too: a longer B_r streams from L2, and C moves
less often. Hand-tuned libraries do so (AMD's Zen 5 sgemm: 480 where the L1 rule gives 256)."""

NARROW = 8
"""Part of the model's nc that is a candidate too: an eighth of a last-level cache is about a
core's own."""

SKETCHED = {"C": 24, "A": 8, "B": 8}
"""Shapes that `best` looks at, by the operand in registers."""

PROMISING, PER_WIDTH = 5, 2
"""Shapes that it looks at closely, and of these per order and width."""

LIGHT_SHARE = 0.65
"""Accumulators of a light tile, as a share of the most that any has: 18 of AVX-512's 28. On large
products of a Zen 5 guest such tiles were 1 to 2 % faster than the model's tall ones."""

CLOSE = 1.25
"""Plans predicted to take longer than this many times the best one's time are not measured for the
operand that they keep in registers alone: beyond what predictions of such plans were off by."""

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
    profile: Profile, workload: Matmul, threads: int | None = None, objective: str = "time",
    keep: Callable[[Shape], bool] = lambda shape: True,
) -> list[Ranked]:  # fmt: skip
    """Every legal plan with its estimate, best first; only of shapes that ``keep`` lets through."""
    check_objective(objective)
    count = thread_count(profile, threads)
    shapes = filter(keep, _shapes(profile, workload, count))
    plans = (plan for shape in shapes for plan in _plans(profile, workload, shape))
    return _ordered(profile, plans, objective)


def best(
    profile: Profile, workload: Matmul, threads: int | None = None, objective: str = "time",
    keep: Callable[[Shape], bool] = lambda shape: True,
) -> list[Ranked]:  # fmt: skip
    """`rank` without the tiles and thread grids that cannot win, in milliseconds.

    `SKETCHED` of them, of each kind those that are fastest with all operands at hand, are tried
    with two plans each, and the `PROMISING` best of these with every plan.
    """
    check_objective(objective)
    weight = OBJECTIVES[objective]

    def sketch(shape: Shape) -> float:
        sketches = _sketches(profile, workload, shape)
        return min((weight(predict(profile, plan)) for plan in sketches), default=inf)

    shapes = list(filter(keep, _shapes(profile, workload, thread_count(profile, threads))))
    shapes.sort(key=lambda shape: _least_seconds(profile, workload, shape))
    in_order = sorted(_some_of_each_kind(shapes), key=sketch)
    promising = _mixed(in_order)[:PROMISING]
    light_shapes = _light(shapes)
    light = [shape for shape in in_order if shape in light_shapes][:1]
    by_kind = {shape.order.in_registers: shape for shape in reversed(in_order)}
    promising += [s for s in {*light, *by_kind.values()} if s not in promising]
    plans = (plan for shape in promising for plan in _plans(profile, workload, shape))
    return _ordered(profile, plans, objective)


def shortlist(ranked: Sequence[Ranked], count: int) -> list[Ranked]:
    """``count`` plans worth measuring, the model's pick first, then what it is least sure of.

    The best plan for each operand in registers, which differ most in what they ask of the caches;
    the best light tile, as the model has no term for the pressure of tall ones on registers and
    prefetchers; the best of each other width, as widths differ in what they ask of ports and links;
    then the order of the ranking. Of one register tile at most `PER_TILE` plans are taken.
    """
    shapes = [Shape(p.multiply, p.order, p.tile, p.grid) for p, _ in ranked]
    light_shapes = _light(shapes)
    light = [r for r, shape in zip(ranked, shapes) if shape in light_shapes]
    # The best of each stays, where many have one key.
    close = [r for r in ranked if r[1].seconds <= CLOSE * ranked[0][1].seconds]
    resident = {r[0].order.in_registers: r for r in reversed(close)}
    widths = {(r[0].order.in_registers, r[0].tile.nr): r for r in reversed(ranked)}
    by_width = sorted(widths.values(), key=ranked.index)
    first = (ranked[0], *sorted(resident.values(), key=ranked.index), *light[:1])
    taken: Counter[MicroTile] = Counter()
    chosen: list[Ranked] = []
    for item in (*first, *by_width[: count // 2], *ranked):
        tile = item[0].tile
        if len(chosen) < count and taken[tile] < PER_TILE and item not in chosen:
            taken[tile] += 1
            chosen.append(item)
    return chosen


def _light(shapes: Sequence[Shape]) -> set[Shape]:
    """Those that keep C and leave registers free that the largest of them needs."""
    keep_c = [shape for shape in shapes if shape.order.in_registers == "C"]
    most = max((shape.tile.accumulators for shape in keep_c), default=0)
    return {shape for shape in keep_c if shape.tile.accumulators <= LIGHT_SHARE * most}


def check_plan(profile: Profile, plan: GemmPlan) -> None:
    """Raise IllegalPlan, with the numbers, for a plan that the machine cannot hold."""
    check_tile(
        plan.tile, profile.core, ELEMENT_BYTES[plan.multiply.accumulator], plan.order
    )
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
    """Every arithmetic, order and tile no larger than the product, each with grids it can feed."""
    target = CodeTarget.of(profile.target)
    found = []
    for arithmetic in arithmetics(workload, target):
        for order in Order if arithmetic.group == 1 else (Order.B3A2C0, Order.A3B2C0):
            for tile in _tiles(profile, workload, arithmetic, order):
                grids = _grids(workload, arithmetic, order, tile, threads)
                found += [Shape(arithmetic, order, tile, grid) for grid in grids]
    return found


def _tiles(
    profile: Profile, workload: Matmul, arithmetic: Arithmetic, order: Order
) -> list[MicroTile]:
    size = ELEMENT_BYTES[arithmetic.accumulator]
    if order.in_registers == "C":
        tiles = legal_tiles(profile.core, size)
    else:
        tiles = streaming_tiles(profile.core, size, order)
    lanes = profile.core.lanes(size)
    widest = -(-workload.n // lanes) * lanes
    return [
        t for t in tiles if t.mr <= workload.m and t.nr <= widest and t.kr <= workload.k
    ]


def _grids(
    workload: Matmul, arithmetic: Arithmetic, order: Order, tile: MicroTile, threads: int
) -> list[ThreadGrid]:
    """Grids of ``threads``, half of them, and so on, that leave every thread a tile of its own."""
    row_tiles, column_tiles = -(-workload.m // tile.mr), -(-workload.n // tile.nr)
    most_deep = -(-workload.k // arithmetic.group) if order.in_registers == "C" else 1
    counts = {max(1, threads >> halvings) for halvings in range(threads.bit_length())}
    grids = []
    for count in sorted(counts):
        for batch in _divisors(count, workload.batch):
            for depth in _divisors(count // batch, most_deep):
                over_c = count // batch // depth
                for rows in _divisors(over_c, row_tiles):
                    if over_c // rows <= column_tiles:
                        columns = over_c // rows
                        grids.append(
                            ThreadGrid(rows=rows, columns=columns, depth=depth, batch=batch)
                        )
    return grids


def _divisors(number: int, most: int) -> list[int]:
    return [d for d in range(1, min(number, most) + 1) if number % d == 0]


def _plans(profile: Profile, workload: Matmul, shape: Shape) -> Iterator[GemmPlan]:
    """Plans of one shape: each kc worth trying, each operand packed or in place."""
    seen = set()
    for limit in _along_limits(profile, shape):
        plan = _plan(profile, workload, shape, limit)
        if plan is None or plan.blocks in seen:
            continue
        seen.add(plan.blocks)
        storages = list(_legal_storages(plan))
        yield from (replace(plan, a=a, b=b) for a, b in storages)
        read_first = [pair for pair in storages if pair[0] is storages[0][0]]
        for blocks in {_streaming_y(plan), _narrow(plan)} - {plan.blocks}:
            for a, b in {read_first[0], read_first[-1]}:
                yield replace(plan, a=a, b=b, blocks=blocks)


def _sketches(profile: Profile, workload: Matmul, shape: Shape) -> Iterator[GemmPlan]:
    """A few plans that tell what a shape is good for: kc by the rule, and the longest."""
    limits = _along_limits(profile, shape)
    for limit in {limits[0], max(limits)}:
        plan = _plan(profile, workload, shape, limit)
        if plan is not None:
            storages = list(_legal_storages(plan))
            read_first = [pair for pair in storages if pair[0] is storages[0][0]]
            yield from (replace(plan, a=a, b=b) for a, b in {read_first[0], read_first[-1]})


def _legal_storages(plan: GemmPlan) -> Iterator[tuple[Storage, Storage]]:
    """Ways for A and B to reach the micro-kernel of ``plan``, in place first."""
    of_b = CONSTANT if plan.workload.constant_b else PER_CALL
    for a, b in product((Storage.IN_PLACE, Storage.PACKED), of_b):
        if plan.may_store(a, b):
            yield a, b


def _roles(shape: Shape) -> MicroTile:
    """The tile as the paper's formulas have it: mr for what only Y has, nr for what only X has."""
    first, last = shape.order.inner
    size = {"m": shape.tile.mr, "n": shape.tile.nr, "k": shape.tile.kr}
    return MicroTile(mr=size[last], nr=size[first], lanes=1)


def _unit(shape: Shape, dim: str) -> int:
    """What a block along ``dim`` is a multiple of."""
    tile = shape.tile
    return {"m": tile.mr, "n": tile.nr, "k": max(tile.kr, shape.arithmetic.group)}[dim]


def _element_bytes(shape: Shape) -> int:
    """Bytes of an element where the formulas know but one kind: the larger of A's and B's."""
    return max(ELEMENT_BYTES[shape.arithmetic.a], ELEMENT_BYTES[shape.arithmetic.b])


def _along_limits(profile: Profile, shape: Shape) -> tuple[int, ...]:
    """The model's kc, multiples of it, and the half-L1 rule of hand-tuned libraries.

    Where A or B stays in registers, the same of what the micro-kernel runs along.
    """
    l1 = machine(profile, shape.grid.threads).l1
    tile, size = _roles(shape), _element_bytes(shape)
    by_rule, half = default_kc(l1, tile, size), kc_half_l1(l1, tile, size)
    unit = _unit(shape, shape.order.along)
    limits = (by_rule, *(s * by_rule for s in KC_STRETCHES), half)
    return tuple(max(unit, limit) for limit in limits)


def _with_blocks(blocks: CacheBlocks, extents: dict[str, int]) -> CacheBlocks:
    return replace(blocks, **{f"{dim}c": extent for dim, extent in extents.items()})


def _streaming_y(plan: GemmPlan) -> CacheBlocks:
    """Blocks for which X_r stays and all of Y streams past it: in B3A2C0 one block of rows.

    The paper keeps Y_c in L2 instead; where the link out of the next level feeds Y fast enough this
    order spares a long kc the second and later passes over B and C.
    """
    first, last = plan.order.inner
    whole = _thread_extents(plan)
    tile = {"m": plan.tile.mr, "n": plan.tile.nr, "k": plan.k_unit}
    extents = {last: whole[last], first: min(tile[first], whole[first])}
    return _with_blocks(plan.blocks, extents)


def _narrow(plan: GemmPlan) -> CacheBlocks:
    """Blocks with an X_c that takes a small part of L3: the others and other cores want the rest.

    The paper fills L3 with X_c; where all of Y and Z stream past it does not stay there.
    """
    first, _ = plan.order.inner
    tile = {"m": plan.tile.mr, "n": plan.tile.nr, "k": plan.k_unit}[first]
    now = {"m": plan.blocks.mc, "n": plan.blocks.nc, "k": plan.blocks.kc}[first]
    return _with_blocks(plan.blocks, {first: min(now, round_up(-(-now // NARROW), tile))})


def _some_of_each_kind(shapes: Sequence[Shape]) -> list[Shape]:
    """The first `SKETCHED` of ``shapes`` for each number of threads: fewer take less energy."""
    seen: Counter[tuple[str, int]] = Counter()
    kept = []
    for shape in shapes:
        resident = shape.order.in_registers
        seen[resident, shape.grid.threads] += 1
        if seen[resident, shape.grid.threads] <= SKETCHED[resident]:
            kept.append(shape)
    return kept


def _mixed(shapes: Sequence[Shape]) -> list[Shape]:
    """``shapes`` in order, but only the first `PER_WIDTH` of each order and width of tile."""
    seen: Counter[tuple[Order, int]] = Counter()
    kept = []
    for shape in shapes:
        kind = (shape.order, shape.tile.nr)
        seen[kind] += 1
        if seen[kind] <= PER_WIDTH:
            kept.append(shape)
    return kept


def _plan(profile: Profile, workload: Matmul, shape: Shape, along: int) -> GemmPlan | None:
    """The plan of one shape and limit of kc, or None where no cache block fits."""
    order, tile, grid = shape.order, shape.tile, shape.grid
    first, last = order.inner
    extents = _shares(workload, shape)
    try:
        roles = clamped_blocks(
            profile, _roles(shape), extents[last], extents[first], extents[order.along],
            _element_bytes(shape), kc=along, threads=grid.threads, sharing_m=1,
            k_unit=_unit(shape, order.along),
        )  # fmt: skip
    except IllegalPlan:
        return None
    by_dim = {last: roles.mc, first: roles.nc, order.along: roles.kc}
    plan = GemmPlan(
        workload=workload,
        target=CodeTarget.of(profile.target),
        tile=tile,
        blocks=CacheBlocks(mc=by_dim["m"], nc=by_dim["n"], kc=by_dim["k"]),
        arithmetic=shape.arithmetic.name,
        order=order,
        a=Storage.PACKED,
        b=Storage.PACKED_AHEAD if workload.constant_b else Storage.PACKED,
        grid=grid,
    )
    here = machine(profile, grid.threads)
    return replace(plan, prefetch_c=order.in_registers == "C" and prefetch_pays(plan, here))


def _shares(workload: Matmul, shape: Shape) -> dict[str, int]:
    """Rows and columns of C and steps of the thread that has most of them."""
    parts = {"m": shape.grid.rows, "n": shape.grid.columns, "k": shape.grid.depth}
    whole = {"m": workload.m, "n": workload.n, "k": workload.k}
    units = {dim: _unit(shape, dim) for dim in parts}
    return {
        dim: min(whole[dim], -(-whole[dim] // (units[dim] * parts[dim])) * units[dim])
        for dim in parts
    }


def _thread_extents(plan: GemmPlan) -> dict[str, int]:
    w = plan.workload
    shares = {"m": plan.thread_rows, "n": plan.thread_columns, "k": plan.thread_depth}
    whole = {"m": w.m, "n": w.n, "k": w.k}
    return {dim: min(share, whole[dim]) for dim, share in shares.items()}


def _least_seconds(profile: Profile, workload: Matmul, shape: Shape) -> float:
    """Seconds, not cycles: the clock differs between one thread and several."""
    here = machine(profile, shape.grid.threads)
    cycles = least_cycles(shape.tile, shape.arithmetic, shape.order, _shares(workload, shape), here)
    products = -(-workload.batch // shape.grid.batch)
    return (here.barrier_cycles + products * cycles) / here.hz
