"""Fuse, run side by side, or one after the other: the three planned and compared (rank 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from anatune.errors import IllegalPlan
from anatune.hwprofile.profile import Profile
from anatune.model import candidates
from anatune.model.cache_blocks import round_up
from anatune.model.division import Cost, Shares, cycles_of, divide, whole_members
from anatune.model.energy import static_joules
from anatune.model.estimate import predict
from anatune.model.machine import machine
from anatune.model.maps import best_map, predict_map, unit_cost
from anatune.model.shapes import Shape
from anatune.model.sharing import sharing_cache
from anatune.plan import Estimate, GemmPlan, ThreadGrid
from anatune.plan.fusion import (
    Decision,
    FusionEstimate,
    FusionPlan,
    Member,
    Piece,
    alone,
)
from anatune.plan.maps import MapPlan
from anatune.workload.fused import Fused, Workload
from anatune.workload.maps import Map
from anatune.workload.matmul import STRIDES, Matmul

TRIED = 12
"""Plans of a product, best first, whose pieces are costed for a share of it."""

GRID_SIDE = {"m": "rows", "n": "columns", "batch": "batch"}

Option = tuple[FusionPlan, FusionEstimate]


@dataclass(frozen=True)
class _Costed:
    """A member with what its pieces take while all workers are busy.

    ``whole`` and ``threads`` are an estimate of ``units`` of its units, by so many threads.
    """

    member: Member
    cost: Cost
    whole: Estimate
    units: int
    threads: int


def options(
    profile: Profile, workload: Fused, threads: int | None = None, objective: str = "time"
) -> list[Option]:
    """The plans for ``workload``, best first: for the time, at most one of each `Decision`.

    One thread computes one thing after the other in any case, and so does a single workload. For
    energy one thread is a choice of its own.
    """
    count = candidates.thread_count(profile, threads)
    plans = [_one_by_one(profile, workload, count)]
    if count > 1 and len(workload.members) > 1:
        plans += [_fused(profile, workload, count), _side_by_side(profile, workload, count)]
    if count > 1 and objective != "time":
        plans.append(_one_by_one(profile, workload, 1))
    weight = candidates.OBJECTIVES[objective]
    found = [(plan, predict_fusion(profile, plan)) for plan in dict.fromkeys(plans)]
    return sorted(found, key=lambda option: weight(option[1]))


def predict_fusion(profile: Profile, plan: FusionPlan) -> FusionEstimate:
    """The estimate of ``plan``: members one after the other, or the busiest worker and a barrier.
    """
    if plan.decision is Decision.ONE_BY_ONE:
        return _in_turn(profile, plan)
    busy, here = len(plan.shares), machine(profile, len(plan.shares))
    costed = [
        _costed(profile, member, plan.workload, _sharing(plan, number), busy)
        for number, member in enumerate(plan.members)
    ]
    costs = [c.cost for c in costed]
    workers = cycles_of(plan.shares, costs)
    pieces = [p for share in plan.shares for p in share]
    members = [
        (sum(c.cost.of(p.units) for p in pieces if p.member == k), c.whole.bound)
        for k, c in enumerate(costed)
    ]
    cycles = max(workers) + here.barrier_cycles
    parts = [(c.whole, c.threads, c.member.units / c.units) for c in costed]
    return _together(cycles, here.hz, busy, parts, members, barriers=1, workers=workers)


def check_fusion(profile: Profile, plan: FusionPlan) -> None:
    """Raise IllegalPlan, with the numbers, for a plan that the machine cannot hold."""
    candidates.check_threads(profile, plan.threads)
    for member in plan.members:
        if isinstance(member.plan, GemmPlan):
            candidates.check_plan(profile, member.plan)


def _sharing(plan: FusionPlan, number: int) -> int:
    """Workers that a member is divided over."""
    if plan.decision is Decision.FUSED:
        return len(plan.shares)
    return sum(any(p.member == number for p in share) for share in plan.shares)


def _one_by_one(profile: Profile, workload: Fused, threads: int) -> FusionPlan:
    """Each member by its own best plan, with a parallel region of its own."""
    size = workload.operand_bytes
    plans = [best_member(profile, one, threads, size)[0] for one in workload.members]
    members = tuple(
        Member(plan=plan, along="m" if isinstance(plan, GemmPlan) else "") for plan in plans
    )
    return FusionPlan(workload=workload, decision=Decision.ONE_BY_ONE, members=members)


def _in_turn(profile: Profile, plan: FusionPlan) -> FusionEstimate:
    parts, cycles, seconds = [], 0.0, 0.0
    for one in (member.plan for member in plan.members):
        estimate = predict_member(profile, one, plan.workload.operand_bytes)
        parts.append((estimate, one.threads, 1.0))
        cycles, seconds = cycles + estimate.cycles, seconds + estimate.seconds
    members = [(estimate.cycles * threads, estimate.bound) for estimate, threads, _ in parts]
    barriers = sum(threads > 1 for _, threads, _ in parts)
    return _together(cycles, cycles / seconds, plan.threads, parts, members, barriers=barriers)


def _together(
    cycles: float, hz: float, threads: int, parts: Sequence[tuple[Estimate, int, float]],
    members: Sequence[tuple[float, str]], *, barriers: int, workers: tuple[float, ...] = (),
) -> FusionEstimate:  # fmt: skip
    """Sums over ``parts``: estimates, their threads, and how many times over each is there."""
    moved: dict[str, float] = {}
    joules = static_joules(cycles / hz, threads)
    at_peak = 0.0
    for one, one_threads, times in parts:
        for level, size in one.bytes_moved:
            moved[level] = moved.get(level, 0.0) + times * size
        joules += times * (one.joules - static_joules(one.seconds, one_threads))
        at_peak += times * one.peak_fraction * one.cycles * one_threads
    terms = {f"workload {k}, {bound}": taken for k, (taken, bound) in enumerate(members)}
    return FusionEstimate(
        seconds=cycles / hz,
        cycles=cycles,
        peak_fraction=at_peak / (cycles * threads),
        joules=joules,
        terms=tuple(sorted(terms.items(), key=lambda item: -item[1])),
        bytes_moved=tuple(moved.items()),
        workers=workers,
        members=tuple(members),
        barriers=barriers,
    )


def _fused(profile: Profile, workload: Fused, threads: int) -> FusionPlan:
    """All units of all members divided over the threads by what they are predicted to take."""
    costed = [_planned(profile, one, workload, threads, threads) for one in workload.members]
    costs, units = [c.cost for c in costed], [c.member.units for c in costed]
    shares = divide(costs, units, threads)
    return _plan(workload, Decision.FUSED, costed, shares)


def _side_by_side(profile: Profile, workload: Fused, threads: int) -> FusionPlan:
    """Members on threads of their own: no thread has pieces of two that others share."""
    count = len(workload.members)
    if count >= threads:
        costed = [_planned(profile, one, workload, 1, threads) for one in workload.members]
        whole = [c.cost.of(c.member.units) for c in costed]
        shares = tuple(
            tuple(Piece(member=k, start=0, stop=costed[k].member.units) for k in group)
            for group in whole_members(whole, threads)
        )
        return _plan(workload, Decision.SIDE_BY_SIDE, costed, shares)
    each = [1] * count
    costed = [_planned(profile, one, workload, 1, threads) for one in workload.members]
    for _ in range(threads - count):  # by plans for one thread: each plan takes milliseconds
        slowest = max(range(count), key=lambda k: _busiest(costed[k], each[k]))
        each[slowest] += 1
    costed = [
        _planned(profile, one, workload, sharing, threads)
        for one, sharing in zip(workload.members, each)
    ]
    shares = tuple(
        tuple(replace(piece, member=k) for piece in share)
        for k, c in enumerate(costed)
        for share in divide([c.cost], [c.member.units], each[k])
    )
    return _plan(workload, Decision.SIDE_BY_SIDE, costed, shares)


def _busiest(costed: _Costed, workers: int) -> float:
    return costed.cost.of(-(-costed.member.units // workers))


def _plan(
    workload: Fused, decision: Decision, costed: Sequence[_Costed], shares: Shares
) -> FusionPlan:
    members = tuple(c.member for c in costed)
    return FusionPlan(workload=workload, decision=decision, members=members, shares=shares)


def best_member(
    profile: Profile, one: Workload, threads: int, working_bytes: float
) -> tuple[GemmPlan | MapPlan, Estimate]:
    """The plan of a workload that has the machine to itself, and its estimate."""
    return ranked_members(profile, one, threads, working_bytes)[0]


def ranked_members(
    profile: Profile, one: Workload, threads: int, working_bytes: float
) -> Sequence[tuple[GemmPlan | MapPlan, Estimate]]:
    """Its most promising plans, best first, beside ``working_bytes`` that are used in turn: what
    the last level does not keep until it is wanted again comes from memory."""
    if isinstance(one, Map):
        return [best_map(profile, one, threads, working_bytes)]
    seen = sharing_cache(profile, 3, one.operand_bytes, working_bytes)
    return _ranked_products(seen, one, threads)


def predict_member(profile: Profile, plan: GemmPlan | MapPlan, working_bytes: float) -> Estimate:
    """The estimate of a plan as `ranked_members` has it."""
    if isinstance(plan, MapPlan):
        return predict_map(profile, plan, working_bytes)
    seen = sharing_cache(profile, 3, plan.workload.operand_bytes, working_bytes)
    return predict(seen, plan)


@lru_cache(maxsize=256)
def _ranked_products(
    profile: Profile, one: Matmul, threads: int
) -> Sequence[tuple[GemmPlan, Estimate]]:
    return candidates.best(profile, one, threads)[:TRIED]


def _planned(
    profile: Profile, one: Workload, together: Fused, sharing: int, busy: int
) -> _Costed:
    """The plan of a member that ``sharing`` workers divide, ``busy`` of them at work, costed."""
    if isinstance(one, Matmul):
        return _planned_product(profile, one, sharing, busy)
    plan, _ = best_map(profile, one, 1, together.operand_bytes)
    return _costed(profile, Member(plan=plan), together, sharing, busy)


def _costed(
    profile: Profile, member: Member, together: Fused, sharing: int, busy: int
) -> _Costed:
    plan = member.plan
    if isinstance(plan, GemmPlan):
        return _costed_product(profile, member, sharing, busy)
    cost = unit_cost(profile, plan, busy, together.operand_bytes)
    whole = predict_map(profile, replace(plan, threads=busy), together.operand_bytes)
    return _Costed(member, Cost(0.0, cost.cycles), whole, plan.units, busy)


@lru_cache(maxsize=64)
def _planned_product(profile: Profile, one: Matmul, sharing: int, busy: int) -> _Costed:
    """The plan and the cut of a product whose share is predicted to take least."""

    def one_way(shape: Shape) -> bool:
        grid = shape.grid
        cuts = sum(side > 1 for side in (grid.rows, grid.columns, grid.batch))
        return grid.depth == 1 and cuts <= 1

    found: dict[Member, None] = {}
    for plan, _ in candidates.best(profile, one, sharing, keep=one_way)[:TRIED]:
        for along, side in GRID_SIDE.items():
            if along == "batch" and one.batch < sharing:
                continue
            if plan.grid.threads == 1 or getattr(plan.grid, side) > 1:
                try:
                    found[Member(plan=alone(plan, along), along=along)] = None
                except IllegalPlan:  # B cannot be packed anew by each piece
                    continue
    costed = [_costed_product(profile, member, sharing, busy) for member in found]
    return min(costed, key=lambda c: _busiest(c, sharing))


@lru_cache(maxsize=1024)
def _costed_product(profile: Profile, member: Member, sharing: int, busy: int) -> _Costed:
    """A line through what an even share takes, and half of it."""
    barrier = machine(profile, busy).barrier_cycles
    many = max(1, member.units // sharing)
    few = max(1, many // 2)
    whole = _pieces(profile, member, many, busy)
    at_many = whole.cycles - barrier
    if many == few:
        return _Costed(member, Cost(0.0, at_many / many), whole, many * busy, busy)
    at_few = _pieces(profile, member, few, busy).cycles - barrier
    each = max((at_many - at_few) / (many - few), at_many / many / 2)
    cost = Cost(max(0.0, at_many - many * each), each)
    return _Costed(member, cost, whole, many * busy, busy)


def _pieces(profile: Profile, member: Member, units: int, busy: int) -> Estimate:
    """``busy`` pieces at once: threads' shares of a product that is so many times as large."""
    plan = member.plan
    assert isinstance(plan, GemmPlan)
    w = plan.workload
    extent = units * member.unit
    larger = {**dict.fromkeys(STRIDES), member.along: extent * busy}
    if w.trans_a and member.along == "m":
        larger["lda"] = max(w.operands["a"].leading, extent * busy)
    if member.along == "n":
        larger["ldc"] = max(w.output.leading, extent * busy)
        if not w.trans_b:
            larger["ldb"] = max(w.operands["b"].leading, extent * busy)
    blocks = plan.blocks
    if member.along != "batch":  # a block of all rows or columns need not hold whole units
        whole = round_up(blocks.along(member.along), member.unit)
        blocks = replace(blocks, **{f"{member.along}c": whole})
    grid = ThreadGrid(**{GRID_SIDE[member.along]: busy})
    larger_w = replace(w, **larger)  # type: ignore[arg-type]
    shares = replace(plan, workload=larger_w, grid=grid, blocks=blocks)
    return predict(profile, shares)
