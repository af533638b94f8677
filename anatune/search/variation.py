"""New plans from good ones: fields of two of them mixed, one or two changed (rank 7.5).

Blocks take sizes that the model's enumeration does not list; tiles, orders and grids stay within
its list, which holds every one that a machine can keep. What becomes illegal on the way is mended
where that is plain, else given up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from numpy.random import Generator

from anatune.errors import IllegalPlan
from anatune.model.candidates import check_plan
from anatune.model.shapes import CONSTANT, PER_CALL, Shape
from anatune.plan import CacheBlocks, CodeTarget, GemmPlan, Order, Storage
from anatune.search.space import Space

BLOCK_OCTAVES = 0.6
"""Standard deviation of a change of a block, in octaves: two of three stay within a factor of 1.5.
"""

TILE_STEPS = (-2, -1, 1, 2)
"""Rows, vectors or steps that a tile's side changes by."""

MIXED = 0.5
"""Share of new plans that have two parents."""

CHANGES = (1, 1, 2)
"""Fields that are changed, drawn from these."""

T = TypeVar("T")


@dataclass(frozen=True)
class Draft:
    """A plan's fields that need not go together."""

    shape: Shape
    blocks: Mapping[str, float]  # by dimension
    a: Storage
    b: Storage
    prefetch_c: bool

    @classmethod
    def of(cls, plan: GemmPlan) -> Draft:
        blocks = {dim: plan.blocks.along(dim) for dim in "mnk"}
        return cls(Shape.of(plan), blocks, plan.a, plan.b, plan.prefetch_c)


def varied(space: Space, parents: Sequence[GemmPlan], rng: Generator) -> GemmPlan | None:
    """A legal plan made from one or two of ``parents``, or None where the attempt led to none."""
    draft = Draft.of(_one_of(parents, rng))
    if rng.random() < MIXED:
        draft = _mixed(draft, Draft.of(_one_of(parents, rng)), rng)
    for _ in range(_one_of(CHANGES, rng)):
        draft = _one_of(_CHANGES, rng)(draft, space, rng)
    return mended(space, draft)


def mended(space: Space, draft: Draft) -> GemmPlan | None:
    """``draft`` with whole blocks and storages that its shape can read, or None."""
    shape, w = draft.shape, space.workload
    if shape not in space.shapes:
        return None
    blocks = {dim: _whole(shape, space, dim, size) for dim, size in draft.blocks.items()}
    keeps_c = shape.order.in_registers == "C"
    try:
        plan = GemmPlan(
            workload=w,
            target=CodeTarget.of(space.profile.target),
            tile=shape.tile,
            blocks=CacheBlocks(mc=blocks["m"], nc=blocks["n"], kc=blocks["k"]),
            arithmetic=shape.arithmetic.name,
            order=shape.order,
            a=Storage.PACKED,
            b=Storage.PACKED_AHEAD if w.constant_b else Storage.PACKED,
            prefetch_c=draft.prefetch_c and keeps_c and shape.kernel is None,
            grid=shape.grid,
            micro_kernel=shape.kernel,
        )
        check_plan(space.profile, plan)
    except IllegalPlan:
        return None
    return replace(plan, a=draft.a, b=draft.b) if plan.may_store(draft.a, draft.b) else plan


def _whole(shape: Shape, space: Space, dim: str, size: float) -> int:
    """The nearest block that is a multiple of the tile, or all that a thread has."""
    unit, extent = shape.unit(dim), shape.thread_extent(space.workload, dim)
    return min(extent, unit * max(1, round(size / unit)))


def _mixed(one: Draft, other: Draft, rng: Generator) -> Draft:
    """Each field from either."""
    return Draft(
        shape=_one_of((one, other), rng).shape,
        blocks={dim: _one_of((one, other), rng).blocks[dim] for dim in "mnk"},
        a=_one_of((one, other), rng).a,
        b=_one_of((one, other), rng).b,
        prefetch_c=_one_of((one, other), rng).prefetch_c,
    )


def _other_tile(draft: Draft, space: Space, rng: Generator) -> Draft:
    tile, step = draft.shape.tile, _one_of(TILE_STEPS, rng)
    taller = replace(tile, mr=max(1, tile.mr + step))
    wider = replace(tile, nr=tile.lanes * max(1, tile.vectors + step))
    deeper = replace(tile, kr=max(1, tile.kr + step))
    sides = (taller, wider, deeper)[: 2 if draft.shape.order.in_registers == "C" else 3]
    return replace(draft, shape=replace(draft.shape, tile=_one_of(sides, rng)))


def _other_order(draft: Draft, space: Space, rng: Generator) -> Draft:
    """The order that swaps what L2 and L3 keep: what stays in registers needs tiles of its own."""
    now = draft.shape.order
    swapped = Order(f"{now.in_l2}3{now.in_l3}2{now.in_registers}0")
    return replace(draft, shape=replace(draft.shape, order=swapped))


def _other_grid(draft: Draft, space: Space, rng: Generator) -> Draft:
    grid = _one_of(space.grids, rng)
    return replace(draft, shape=replace(draft.shape, grid=grid))


def _other_block(draft: Draft, space: Space, rng: Generator) -> Draft:
    dim = _one_of("mnk", rng)
    extent = draft.shape.thread_extent(space.workload, dim)
    size = min(draft.blocks[dim], extent) * 2.0 ** rng.normal(0.0, BLOCK_OCTAVES)
    return replace(draft, blocks={**draft.blocks, dim: size})


def _other_storage(draft: Draft, space: Space, rng: Generator) -> Draft:
    if rng.random() < 0.5:
        return replace(draft, a=_one_of((Storage.IN_PLACE, Storage.PACKED), rng))
    return replace(draft, b=_one_of(_storages_of_b(space), rng))


def _other_prefetch(draft: Draft, space: Space, rng: Generator) -> Draft:
    return replace(draft, prefetch_c=not draft.prefetch_c)


_CHANGES: tuple[Callable[[Draft, Space, Generator], Draft], ...] = (
    _other_tile, _other_tile, _other_block, _other_block, _other_order, _other_grid,
    _other_storage, _other_prefetch,
)  # fmt: skip
"""Ways to change a draft; tiles and blocks, which have most values, twice as often."""


def _storages_of_b(space: Space) -> tuple[Storage, ...]:
    return CONSTANT if space.workload.constant_b else PER_CALL


def _one_of(choices: Sequence[T], rng: Generator) -> T:
    return choices[int(rng.integers(len(choices)))]
