"""Steps block of rows by block of rows: how high blocks are, plans, predicted time (rank 4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from math import prod

from anatune.errors import IllegalPlan
from anatune.hwprofile.profile import CacheLevel, Profile
from anatune.model import candidates
from anatune.model.cache_blocks import round_up
from anatune.model.copying import packing_b_cycles
from anatune.model.machine import Machine, machine
from anatune.model.maps import best_map, unit_cost
from anatune.model.shapes import Shape
from anatune.model.traffic import Extents
from anatune.model.work import OVERLAP
from anatune.plan import GemmPlan, Storage, ThreadGrid
from anatune.plan.fusion import MemberPlan
from anatune.plan.group import Blocks, RowsStage, StageEstimate
from anatune.workload.blocks import RESULT, place_of
from anatune.workload.dtypes import ELEMENT_BYTES
from anatune.workload.fused import Workload
from anatune.workload.group import Step
from anatune.workload.maps import Map
from anatune.workload.matmul import Matmul

CUTS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 128, 256, 512, 1024)
"""Blocks of an item that are tried, so far as these are of a row or more."""

LEAST_ELEMENTS = 64
"""Elements of a block of the widest array at least: less is all loop and no work."""

Planned = tuple[RowsStage, StageEstimate]


def best_rows(
    profile: Profile, blocks: Blocks, threads: int, around_bytes: float
) -> Planned | None:
    """The stage that is predicted to be fastest; None where there cannot be one.

    ``around_bytes``: what is in use around it, which tells where its inputs come from.
    """
    if blocks.why_not:
        return None
    found = (
        _planned(profile, blocks, rows, threads, around_bytes)
        for rows in _heights(blocks, threads)
    )
    return min(filter(None, found), key=lambda planned: planned[1].cycles, default=None)


def _heights(blocks: Blocks, threads: int) -> Iterator[int]:
    """Rows of blocks that are tried: parts of an item, so that the last block is about as high."""
    rows = blocks.rows_of_item
    width = max(_width(step.workload) for step in blocks.steps)
    tried = dict.fromkeys(-(-rows // cuts) for cuts in CUTS if cuts <= rows)
    for height in tried:
        if blocks.count(height) * blocks.items >= threads and height * width >= LEAST_ELEMENTS:
            yield height


def _width(workload: Workload) -> int:
    return workload.n


def _planned(
    profile: Profile, blocks: Blocks, rows: int, threads: int, around_bytes: float
) -> Planned | None:
    """Blocks of so many rows: the time of the thread that has most of them."""
    here = machine(profile, threads)
    per_item = blocks.count(rows)
    units = blocks.items * per_item
    mine = -(-units // threads)
    kept = _kept_bytes(blocks, rows)
    plans: list[MemberPlan] = []
    each: list[float] = []
    bounds: list[str] = []
    for step in blocks.steps:
        workload = blocks.workload(step, rows)
        if isinstance(workload, Map):
            plan, cycles, bound = _map(profile, workload, threads, kept)
        else:
            sharing = max(1, min(per_item, mine)) if _own_b(step) else mine
            product = _product(profile, workload, threads, sharing, _share(here, kept, workload))
            if product is None:
                return None
            plan, cycles, bound = product
        plans.append(plan)
        each.append(cycles)
        bounds.append(bound)
    streamed = _streamed_bytes(blocks, rows) / here.rate_for(around_bytes / threads)
    block = (sum(each) ** OVERLAP + streamed**OVERLAP) ** (1 / OVERLAP)
    filled = blocks.rows_of_item / (rows * per_item)  # the last block of an item has less to do
    busiest = mine * block * (filled if mine >= per_item else 1.0)
    stage = RowsStage(names=blocks.names, plans=tuple(plans), rows=rows, threads=threads)
    terms = tuple((cycles * mine, bound) for cycles, bound in zip(each, bounds))
    return stage, StageEstimate(
        cycles=busiest + here.barrier_cycles, barrier_cycles=here.barrier_cycles, steps=terms
    )


def _map(
    profile: Profile, workload: Map, threads: int, kept: float
) -> tuple[MemberPlan, float, str]:
    plan, estimate = best_map(profile, workload, 1, kept)
    return plan, plan.units * unit_cost(profile, plan, threads, kept * threads).cycles, \
        estimate.bound


@lru_cache(maxsize=512)
def _product(
    profile: Profile, workload: Matmul, threads: int, sharing: int, share: float
) -> tuple[GemmPlan, float, str] | None:
    """The plan of a block of a product, its cycles, and what binds it.

    ``sharing``: blocks that use the same B one after the other; ``share``: of the second level.
    """
    seen = _with_share(profile, share)
    here = machine(seen, threads)
    found: list[tuple[GemmPlan, float, str]] = []
    for constant in (False, True):
        for plan, bound, cycles in _of_one(seen, replace(workload, constant_b=constant), threads):
            if constant and plan.b is Storage.PACKED_AHEAD:
                size = prod(plan.packed_ahead_shape) * ELEMENT_BYTES[plan.multiply.b]
                cycles += packing_b_cycles(plan, Extents.of(plan), size, here) / sharing
            elif constant:
                continue
            found.append((plan, cycles, bound))
    return min(found, key=lambda item: item[1], default=None)


def _of_one(
    profile: Profile, workload: Matmul, threads: int
) -> Iterator[tuple[GemmPlan, str, float]]:
    """Plans of one thread, costed while ``threads`` are at work on blocks of their own."""
    here = machine(profile, threads)
    larger = workload
    if threads > 1:
        rows = workload.m * threads
        lda = rows if workload.trans_a else None
        leading = max(workload.operands["a"].leading, lda or 0)
        larger = replace(workload, m=rows, lda=leading)

    def one_way(shape: Shape) -> bool:
        return shape.grid.threads == shape.grid.rows == threads

    for plan, estimate in candidates.best(profile, larger, threads, keep=one_way)[:4]:
        if plan.thread_rows != workload.m:  # whole tiles: shares are uneven, and the model's error
            cycles = (estimate.cycles - here.barrier_cycles) * workload.m / plan.thread_rows
        else:
            cycles = estimate.cycles - here.barrier_cycles
        blocks = replace(plan.blocks, mc=round_up(plan.blocks.mc, plan.unit("m")))
        try:
            alone = replace(plan, workload=workload, grid=ThreadGrid(), blocks=blocks)
        except IllegalPlan:
            continue
        yield alone, estimate.bound, cycles


def _kept_bytes(blocks: Blocks, rows: int) -> float:
    """What a thread uses again with each block: results on the way, and each B."""
    size = 0.0
    for step in blocks.steps:
        workload = blocks.workload(step, rows)
        size += workload.output.size_bytes
        if isinstance(workload, Matmul):
            size += workload.operands["b"].size_bytes
    return size


def _share(here: Machine, kept: float, workload: Matmul) -> float:
    """Of the second level, what a step's operands get beside those of the others; a multiple of
    a way."""
    if here.l2 is None or kept <= here.l2.size_bytes:
        return 1.0
    ways = here.l2.ways
    return max(1, round(ways * min(1.0, workload.operand_bytes / kept))) / ways


@lru_cache(maxsize=64)
def _with_share(profile: Profile, share: float) -> Profile:
    """``profile`` with fewer ways of the second level: a share of the cache, as Low et al. count
    what an operand may have."""
    if share == 1.0:
        return profile

    def fewer(level: CacheLevel) -> CacheLevel:
        if level.level != 2:
            return level
        return replace(level, ways=max(1, round(level.ways * share)))

    cores = tuple(
        replace(core, caches=tuple(map(fewer, core.caches))) for core in profile.cores
    )
    return replace(profile, cores=cores)


def _streamed_bytes(blocks: Blocks, rows: int) -> float:
    """What passes once a block: rows of arrays that do not lie near, results twice."""
    seen: dict[str, float] = {}
    for step in blocks.steps:
        workload = blocks.workload(step, rows)
        for operand, source in step.sources:
            place = place_of(step.workload, operand, blocks.rows_of_item)
            if source not in blocks.near and place.row:
                seen[source] = workload.operands[operand].size_bytes
        if step.name not in blocks.near:
            place = place_of(step.workload, RESULT, blocks.rows_of_item)
            seen[step.name] = 2.0 * workload.output.size_bytes
    return sum(seen.values())


def _own_b(step: Step) -> bool:
    w = step.workload
    return isinstance(w, Matmul) and w.batch > 1 and not w.broadcast_b
