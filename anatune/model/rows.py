"""Steps block of rows by block of rows: how high blocks are, plans, predicted time (rank 4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby, islice, product
from math import prod

from anatune.errors import IllegalPlan, require
from anatune.hwprofile.profile import Profile
from anatune.model import candidates
from anatune.model.cache_blocks import round_up
from anatune.model.copying import packing_b_cycles
from anatune.model.machine import machine
from anatune.model.maps import WRITE_ALLOCATE, best_map, level_of, unit_cost
from anatune.model.shapes import Shape
from anatune.model.sharing import sharing_cache
from anatune.model.traffic import Extents
from anatune.model.work import OVERLAP
from anatune.plan import GemmPlan, Storage, ThreadGrid
from anatune.plan.fusion import MemberPlan
from anatune.plan.group import Blocks, RowsStage, StageEstimate
from anatune.plan.maps import MapPlan
from anatune.workload.blocks import has_own_b, place_of
from anatune.workload.dtypes import ELEMENT_BYTES
from anatune.workload.maps import SOFTMAX, Map
from anatune.workload.matmul import Matmul

CUTS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 128, 256, 512, 1024)
"""Blocks of an item that are tried, so far as these are of a row or more."""

COARSE = 3
"""One in so many heights is looked at, and then the neighbours of the best."""

KEPT = 3
"""Plans of a block that are kept of each way to store B: cycles and packing weigh against each
other."""

MOST_WAYS = 1000
"""Combinations of plans that one of somebody's own is looked for among."""

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
    heights = _heights(blocks, threads)
    found: dict[int, Planned] = {}

    def look_at(places: Iterable[int]) -> None:
        for rows in (heights[place] for place in places if 0 <= place < len(heights)):
            if rows not in found:
                for planned in _stages(profile, blocks, rows, threads, around_bytes, 1):
                    found[rows] = planned

    look_at(range(0, len(heights), COARSE))
    for _ in range(COARSE):
        if not found:
            return None
        least = min(found, key=lambda rows: found[rows][1].cycles)
        look_at((heights.index(least) - 1, heights.index(least) + 1))
    return min(found.values(), key=lambda planned: planned[1].cycles)


def predict_rows(
    profile: Profile, blocks: Blocks, stage: RowsStage, around_bytes: float
) -> StageEstimate:
    """What ``stage`` takes; where its plans are none that the model has, what the best would.

    Raises:
        IllegalPlan: there is no plan for blocks of so many rows.
    """
    best: StageEstimate | None = None
    for plans in (1, KEPT):
        ways = _stages(profile, blocks, stage.rows, stage.threads, around_bytes, plans)
        for found, estimate in islice(ways, MOST_WAYS):
            best = best or estimate
            if found == stage:
                return estimate
    require(best, f"rows = {stage.rows}: profile {profile.name} has no plan for such blocks")
    assert best is not None
    return best


def _heights(blocks: Blocks, threads: int) -> list[int]:
    """Rows of blocks that may be: parts of an item, so that the last block is about as high."""
    rows = blocks.rows_of_item
    width = max(step.workload.n for step in blocks.steps)
    parts = dict.fromkeys(-(-rows // cuts) for cuts in CUTS if cuts <= rows)
    return [
        height for height in parts
        if blocks.count(height) * blocks.items >= threads and height * width >= LEAST_ELEMENTS
    ]  # fmt: skip


def saved_cycles(
    profile: Profile, blocks: Blocks, threads: int, around_bytes: float
) -> float:
    """At most this much is saved by blocks of rows: results on the way that need not be written
    and read again, inputs that several steps read, and barriers."""
    if blocks.why_not:
        return 0.0
    here = machine(profile, threads)
    size = 0.0
    read: set[str] = set()
    for step in blocks.steps:
        output = step.workload.output.size_bytes
        size += WRITE_ALLOCATE * output if step.name in blocks.near else 0.0
        for operand, source in step.sources:
            again = source in read or source in blocks.names
            size += step.workload.operands[operand].size_bytes if again else 0.0
            read.add(source)
    links = size / threads / level_of(here, around_bytes)[1]
    return links + (len(blocks.steps) - 1) * here.barrier_cycles


def every_rows(
    profile: Profile, blocks: Blocks, threads: int, around_bytes: float, plans: int
) -> Iterator[Planned]:
    """Stages of every height, with up to ``plans`` plans of each step in all combinations."""
    if blocks.why_not:
        return
    for rows in _heights(blocks, threads):
        yield from _stages(profile, blocks, rows, threads, around_bytes, plans)


def _stages(
    profile: Profile, blocks: Blocks, rows: int, threads: int, around_bytes: float, plans: int
) -> Iterator[Planned]:
    """Blocks of so many rows: the time of the thread that has most of them."""
    here = machine(profile, threads)
    per_item = blocks.count(rows)
    units = blocks.items * per_item
    mine = -(-units // threads)
    kept = _kept_bytes(blocks, rows)
    choices = []
    for step in blocks.steps:
        workload = blocks.workload(step, rows)
        if isinstance(workload, Map):
            choices.append([_map(profile, workload, threads, kept)])
        else:
            sharing = max(1, min(per_item, mine)) if has_own_b(step.workload) else mine
            seen = sharing_cache(profile, 2, workload.operand_bytes, kept)
            choices.append(_products(seen, workload, threads, sharing)[:plans])
    level, rate = level_of(here, around_bytes)
    streamed = [size / rate for size in _streamed_bytes(blocks, rows)]
    filled = blocks.rows_of_item / (rows * per_item)  # the last block of an item has less to do
    for costs in product(*choices):
        cycles = [
            _fed_from(level, c.plan, c.cycles, waited) for c, waited in zip(costs, streamed)
        ]
        share = mine * (filled if mine >= per_item else 1.0)
        yield RowsStage(
            names=blocks.names, plans=tuple(c.plan for c in costs), rows=rows, threads=threads
        ), StageEstimate(
            cycles=share * sum(cycles) + here.barrier_cycles,
            barrier_cycles=here.barrier_cycles,
            steps=tuple((each * share, c.bound) for each, c in zip(cycles, costs)),
        )  # fmt: skip


def _fed_from(level: str, plan: MemberPlan, cycles: float, waited: float) -> float:
    """Cycles of a step with those that its arrays take from a level: the longer hides the other,
    but for softmax out of memory (`maps.unit_cost`)."""
    if level == "memory" and isinstance(plan, MapPlan) and plan.workload.fold == SOFTMAX:
        return cycles + waited
    return float((cycles**OVERLAP + waited**OVERLAP) ** (1 / OVERLAP))


@dataclass(frozen=True)
class _Costed:
    """A plan for a block, its cycles, and what binds it."""

    plan: MemberPlan
    cycles: float
    bound: str


def _map(profile: Profile, workload: Map, threads: int, kept: float) -> _Costed:
    plan, estimate = best_map(profile, workload, 1, kept)
    unit = unit_cost(profile, plan, threads, kept * threads)
    return _Costed(plan, plan.units * unit.cycles, estimate.bound)


def _products(
    profile: Profile, workload: Matmul, threads: int, sharing: int
) -> list[_Costed]:
    """Plans of a block of a product, best first, of which ``sharing`` use the same B in turn."""
    ways = _ways(profile, workload, threads, sharing == 1)
    costs = [_Costed(way.plan, way.cycles + way.packing / sharing, way.bound) for way in ways]
    return sorted(costs, key=lambda cost: cost.cycles)


@dataclass(frozen=True)
class _Way:
    """A plan for a block, its cycles, those of packing B for as many blocks as there are."""

    plan: GemmPlan
    cycles: float
    packing: float
    bound: str


@lru_cache(maxsize=1024)
def _ways(profile: Profile, workload: Matmul, threads: int, once: bool) -> tuple[_Way, ...]:
    """The most promising plans of one thread, costed while ``threads`` are at work on their own.

    B is read in place or packed ahead of the blocks that share it; where a B serves but ``once``,
    also as it is read.
    """
    here, found = machine(profile, threads), []
    for constant in (True, False) if once else (True,):
        ranked = _of_one(profile, replace(workload, constant_b=constant), threads)
        for storage, plans in groupby(sorted(ranked, key=_by_storage), key=_by_storage):
            for plan, cycles, bound in islice(plans, KEPT):
                packing = 0.0
                if storage == Storage.PACKED_AHEAD.value:
                    size = prod(plan.packed_ahead_shape) * ELEMENT_BYTES[plan.multiply.b]
                    packing = packing_b_cycles(plan, Extents.of(plan), size, here)
                elif constant:
                    plan = replace(plan, workload=workload)
                found.append(_Way(plan, cycles, packing, bound))
    return tuple(found)


def _by_storage(costed: tuple[GemmPlan, float, str]) -> str:
    return costed[0].b.value


def _of_one(
    profile: Profile, workload: Matmul, threads: int
) -> Iterator[tuple[GemmPlan, float, str]]:
    """Plans for one block out of as many as there are threads, best first."""
    here = machine(profile, threads)
    rows = workload.m * threads
    lda = rows if workload.trans_a else 0
    leading = max(workload.operands["a"].leading, lda)
    larger = replace(workload, m=rows, lda=leading)

    def one_way(shape: Shape) -> bool:
        grid = shape.grid
        return shape.order.in_registers == "C" and grid.threads == grid.rows == threads

    for plan, estimate in candidates.best(profile, larger, threads, keep=one_way):
        cycles = estimate.cycles - here.barrier_cycles
        cycles *= workload.m / plan.thread_extent("m")  # shares are of whole tiles
        blocks = replace(plan.blocks, mc=round_up(plan.blocks.mc, plan.unit("m")))
        try:
            alone = replace(plan, workload=workload, grid=ThreadGrid(), blocks=blocks)
        except IllegalPlan:
            continue
        bound = next(name for name, _ in estimate.terms if name != "threads")
        yield alone, cycles, bound


def _kept_bytes(blocks: Blocks, rows: int) -> float:
    """What a thread uses again with each block: results on the way, and each B."""
    size = 0.0
    for step in blocks.steps:
        workload = blocks.workload(step, rows)
        if blocks.owner.get(step.name) in (None, step.name):
            size += workload.output.size_bytes
        if isinstance(workload, Matmul):
            size += workload.operands["b"].size_bytes
    return size


def _streamed_bytes(blocks: Blocks, rows: int) -> list[float]:
    """What passes for a block because of each step: rows of arrays that do not lie near, at the
    first step that reads them, and results that are for others."""
    seen: set[str] = set()
    found = []
    for step in blocks.steps:
        workload, size = blocks.workload(step, rows), 0.0
        for operand, source in step.sources:
            by_rows = place_of(step.workload, operand, blocks.rows_of_item).row > 0
            if by_rows and source not in blocks.names and source not in seen:
                size += workload.operands[operand].size_bytes
                seen.add(source)
        if step.name not in blocks.near:
            size += WRITE_ALLOCATE * workload.output.size_bytes
        found.append(size)
    return found
