"""Shapes of plans: arithmetic, order, tile and grid, and the plans that each shape has (rank 4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from anatune.errors import IllegalPlan
from anatune.hwprofile.profile import CacheLevel, Profile
from anatune.model.cache_blocks import clamped_blocks, default_kc, kc_half_l1, round_up
from anatune.model.estimate import prefetch_pays
from anatune.model.external import tile_of
from anatune.model.machine import machine
from anatune.model.registers import legal_tiles, streaming_tiles
from anatune.model.work import least_cycles
from anatune.plan import (
    ARITHMETIC,
    Arithmetic,
    CacheBlocks,
    CodeTarget,
    ExternalKernel,
    GemmPlan,
    MicroTile,
    Order,
    Storage,
    ThreadGrid,
    arithmetics,
)
from anatune.plan.registered import kernels_for
from anatune.workload import Matmul
from anatune.workload.dtypes import ELEMENT_BYTES

KC_STRETCHES = (2, 4, 8, 16)
"""Multiples of the model's kc that are candidates too: a longer B_r streams from L2, and C moves
less often. Hand-tuned libraries do so (AMD's Zen 5 sgemm: 480 where the L1 rule gives 256)."""

NARROW = 8
"""Part of the model's nc that is a candidate too: an eighth of a last-level cache is about a
core's own."""

PER_CALL = (Storage.IN_PLACE, Storage.PACKED, Storage.PACKED_ON_FIRST_USE)
CONSTANT = (Storage.IN_PLACE, Storage.PACKED_AHEAD)
"""How B may reach the micro-kernel: B that changes from call to call, and B that does not."""

Storages = tuple[Storage, Storage]
"""Of A and of B."""


@dataclass(frozen=True)
class Shape:
    """What is decided first: everything but blocks and storage."""

    arithmetic: Arithmetic
    order: Order
    tile: MicroTile
    grid: ThreadGrid
    kernel: ExternalKernel | None = None  # of whole tiles; None: generated

    @classmethod
    def of(cls, plan: GemmPlan) -> Shape:
        return cls(plan.multiply, plan.order, plan.tile, plan.grid, plan.micro_kernel)

    def unit(self, dim: str) -> int:
        """What a block along ``dim`` is a multiple of."""
        return self.tile.unit(dim, self.arithmetic.group)

    def thread_extent(self, workload: Matmul, dim: str) -> int:
        """Rows or columns of C, or steps, of the thread that has most of them."""
        whole = workload.along(dim)
        return min(whole, self.grid.share(whole, dim, self.unit(dim)))

    @property
    def roles(self) -> MicroTile:
        """The tile as the paper's formulas have it: mr for what only Y has, nr for what only X has.
        """
        first, last = self.order.inner
        return MicroTile(mr=self.tile.along(last), nr=self.tile.along(first), lanes=1)

    @property
    def element_bytes(self) -> int:
        """Bytes of an element where the formulas know but one kind: the larger of A's and B's."""
        return max(ELEMENT_BYTES[self.arithmetic.a], ELEMENT_BYTES[self.arithmetic.b])

    def along_by_rule(self, l1: CacheLevel) -> int:
        """The model's kc or, where A or B stays, the block of what the micro-kernel runs along."""
        return default_kc(l1, self.roles, self.element_bytes)

    def along_limits(self, l1: CacheLevel) -> tuple[int, ...]:
        """Limits of that block: by the rule, multiples, and by the half-L1 rule of libraries."""
        by_rule = self.along_by_rule(l1)
        half = kc_half_l1(l1, self.roles, self.element_bytes)
        unit = self.unit(self.order.along)
        limits = (by_rule, *(stretch * by_rule for stretch in KC_STRETCHES), half)
        return tuple(max(unit, limit) for limit in limits)


def shapes_of(profile: Profile, workload: Matmul, threads: int) -> list[Shape]:
    """Every arithmetic, order and tile no larger than the product, each with grids it can feed."""
    target = CodeTarget.of(profile.target)
    found = []
    for arithmetic in arithmetics(workload, target):
        for order in Order if arithmetic.group == 1 else (Order.B3A2C0, Order.A3B2C0):
            for tile in _tiles(profile, workload, arithmetic, order):
                grids = _grids(workload, arithmetic, order, tile, threads)
                found += [Shape(arithmetic, order, tile, grid) for grid in grids]
    return found + _external_shapes(profile, workload, threads)


def _external_shapes(profile: Profile, workload: Matmul, threads: int) -> list[Shape]:
    """Those of registered micro-kernels."""
    found = []
    for kernel in kernels_for(workload, CodeTarget.of(profile.target)):
        tile, arithmetic = tile_of(kernel, profile.core), ARITHMETIC[kernel.arithmetic]
        for order in (Order.B3A2C0, Order.A3B2C0):
            grids = _grids(workload, arithmetic, order, tile, threads)
            found += [Shape(arithmetic, order, tile, grid, kernel) for grid in grids]
    return found


def least_seconds(profile: Profile, workload: Matmul, shape: Shape) -> float:
    """What no plan of ``shape`` can beat; seconds, as the clock differs with the threads at work.
    """
    here = machine(profile, shape.grid.threads)
    m, n, k = (shape.thread_extent(workload, dim) for dim in "mnk")
    extents = (m, n, k)
    cycles = least_cycles(
        shape.tile, shape.arithmetic, shape.order, extents, here, shape.kernel
    )
    products = -(-workload.batch // shape.grid.batch)
    return (here.barrier_cycles + products * cycles) / here.hz


def plans_of(profile: Profile, workload: Matmul, shape: Shape) -> Iterator[GemmPlan]:
    """Plans of one shape: each kc worth trying, each operand packed or in place."""
    seen = set()
    for limit in shape.along_limits(machine(profile, shape.grid.threads).l1):
        plan = _plan(profile, workload, shape, limit)
        if plan is None or plan.blocks in seen:
            continue
        seen.add(plan.blocks)
        storages = _legal_storages(plan)
        yield from (replace(plan, a=a, b=b) for a, b in storages)
        others = dict.fromkeys((_streaming_y(plan), _narrow(plan)))
        for blocks, (a, b) in product(others, _furthest_apart(storages)):
            if blocks != plan.blocks:
                yield replace(plan, a=a, b=b, blocks=blocks)


def sketches_of(profile: Profile, workload: Matmul, shape: Shape) -> Iterator[GemmPlan]:
    """A few plans that tell what a shape is good for: kc by the rule, and the longest."""
    limits = shape.along_limits(machine(profile, shape.grid.threads).l1)
    for limit in {limits[0], max(limits)}:
        plan = _plan(profile, workload, shape, limit)
        if plan is not None:
            for a, b in _furthest_apart(_legal_storages(plan)):
                yield replace(plan, a=a, b=b)


def _tiles(
    profile: Profile, workload: Matmul, arithmetic: Arithmetic, order: Order
) -> list[MicroTile]:
    size = ELEMENT_BYTES[arithmetic.accumulator]
    if order.in_registers == "C":
        tiles = legal_tiles(profile.core, size)
    else:
        tiles = streaming_tiles(profile.core, size, order)
    lanes = profile.core.lanes(size)
    widest = round_up(workload.n, lanes)
    return [t for t in tiles if t.mr <= workload.m and t.nr <= widest and t.kr <= workload.k]


def _grids(
    workload: Matmul, arithmetic: Arithmetic, order: Order, tile: MicroTile, threads: int
) -> list[ThreadGrid]:
    """Grids of ``threads``, half of them, and so on, that leave every thread a tile of its own."""
    row_tiles, column_tiles = -(-workload.m // tile.mr), -(-workload.n // tile.nr)
    most_deep = -(-workload.k // arithmetic.group) if order.in_registers == "C" else 1
    counts = sorted({max(1, threads >> halvings) for halvings in range(threads.bit_length())})
    return [
        ThreadGrid(rows=rows, columns=count // batch // depth // rows, depth=depth, batch=batch)
        for count in counts
        for batch in _divisors(count, workload.batch)
        for depth in _divisors(count // batch, most_deep)
        for rows in _divisors(count // batch // depth, row_tiles)
        if count // batch // depth // rows <= column_tiles
    ]


def _divisors(number: int, most: int) -> list[int]:
    return [d for d in range(1, min(number, most) + 1) if number % d == 0]


def _plan(profile: Profile, workload: Matmul, shape: Shape, along: int) -> GemmPlan | None:
    """The plan of one shape and limit of kc, or None where no cache block fits."""
    order, grid = shape.order, shape.grid
    first, last = order.inner
    y_extent, x_extent, extent = (
        shape.thread_extent(workload, dim) for dim in (last, first, order.along)
    )
    try:
        roles = clamped_blocks(
            profile, shape.roles, y_extent, x_extent, extent, shape.element_bytes,
            kc=along, threads=grid.threads, sharing_m=1, k_unit=shape.unit(order.along),
        )  # fmt: skip
    except IllegalPlan:
        return None
    plan = GemmPlan(
        workload=workload,
        target=CodeTarget.of(profile.target),
        tile=shape.tile,
        blocks=_with(roles, {last: roles.mc, first: roles.nc, order.along: roles.kc}),
        arithmetic=shape.arithmetic.name,
        order=order,
        a=Storage.PACKED,
        b=Storage.PACKED_AHEAD if workload.constant_b else Storage.PACKED,
        grid=grid,
        micro_kernel=shape.kernel,
    )
    if shape.kernel is not None:
        return plan
    here = machine(profile, grid.threads)
    return replace(plan, prefetch_c=order.in_registers == "C" and prefetch_pays(plan, here))


def _with(blocks: CacheBlocks, extents: Mapping[str, int]) -> CacheBlocks:
    """``blocks`` with others along the dimensions of ``extents``."""
    return replace(blocks, **{f"{dim}c": extent for dim, extent in extents.items()})


def _streaming_y(plan: GemmPlan) -> CacheBlocks:
    """Blocks for which X_r stays and all of Y streams past it: in B3A2C0 one block of rows.

    The paper keeps Y_c in L2 instead; where the link out of the next level feeds Y fast enough this
    order spares a long kc the second and later passes over B and C.
    """
    first, last = plan.order.inner
    narrowest = min(plan.unit(first), plan.thread_extent(first))
    return _with(plan.blocks, {last: plan.thread_extent(last), first: narrowest})


def _narrow(plan: GemmPlan) -> CacheBlocks:
    """Blocks with an X_c that takes a small part of L3: the others and other cores want the rest.

    The paper fills L3 with X_c; where all of Y and Z stream past it does not stay there.
    """
    first, _ = plan.order.inner
    now = plan.blocks.along(first)
    return _with(plan.blocks, {first: min(now, round_up(-(-now // NARROW), plan.unit(first)))})


def _legal_storages(plan: GemmPlan) -> list[Storages]:
    """Ways for A and B to reach the micro-kernel of ``plan``, in place first."""
    of_b = CONSTANT if plan.workload.constant_b else PER_CALL
    pairs = product((Storage.IN_PLACE, Storage.PACKED), of_b)
    return [(a, b) for a, b in pairs if plan.may_store(a, b)]


def _furthest_apart(storages: Sequence[Storages]) -> tuple[Storages, ...]:
    """The first way for A, with the first and the last for B."""
    of_b = [(a, b) for a, b in storages if a is storages[0][0]]
    return tuple(dict.fromkeys((of_b[0], of_b[-1])))
