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
from anatune.model.estimate import predict
from anatune.model.machine import machine
from anatune.model.maps import best_map, unit_cost
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
    """A member with what its pieces take while all workers are busy."""

    member: Member
    cost: Cost
    bound: str


def options(profile: Profile, workload: Fused, threads: int | None = None) -> list[Option]:
    """The plans for ``workload``, best first: at most one of each `Decision`.

    One thread computes one thing after the other in any case, and so does a single workload.
    """
    count = candidates.thread_count(profile, threads)
    found = [_one_by_one(profile, workload, count)]
    if count > 1 and len(workload.members) > 1:
        found += [_fused(profile, workload, count), _side_by_side(profile, workload, count)]
    return sorted(found, key=lambda option: option[1].seconds)


def _one_by_one(profile: Profile, workload: Fused, threads: int) -> Option:
    """Each member by its own best plan, with a parallel region of its own."""
    members, seconds, terms = [], 0.0, []
    for one in workload.members:
        plan, estimate = best_member(profile, one, threads, workload.operand_bytes)
        along = "m" if isinstance(plan, GemmPlan) else ""
        members.append(Member(plan=plan, along=along))
        terms.append((estimate.cycles * plan.threads, estimate.bound))
        seconds += estimate.seconds
    plan_ = FusionPlan(workload=workload, decision=Decision.ONE_BY_ONE, members=tuple(members))
    barriers = sum(m.plan.threads > 1 for m in members)
    return plan_, FusionEstimate(
        seconds=seconds, workers=(), members=tuple(terms), barriers=barriers
    )


def _fused(profile: Profile, workload: Fused, threads: int) -> Option:
    """All units of all members divided over the threads by what they are predicted to take."""
    costed = [_costed(profile, one, workload, threads, threads) for one in workload.members]
    costs, units = [c.cost for c in costed], [c.member.units for c in costed]
    shares = divide(costs, units, threads)
    return _option(profile, workload, Decision.FUSED, costed, shares)


def _side_by_side(profile: Profile, workload: Fused, threads: int) -> Option:
    """Members on threads of their own: no thread has pieces of two that others share."""
    count = len(workload.members)
    if count >= threads:
        costed = [_costed(profile, one, workload, 1, threads) for one in workload.members]
        whole = [c.cost.of(c.member.units) for c in costed]
        shares = tuple(
            tuple(Piece(member=k, start=0, stop=costed[k].member.units) for k in group)
            for group in whole_members(whole, threads)
        )
        return _option(profile, workload, Decision.SIDE_BY_SIDE, costed, shares)
    each = [1] * count
    costed = [_costed(profile, one, workload, 1, threads) for one in workload.members]
    for _ in range(threads - count):
        slowest = max(range(count), key=lambda k: _busiest(costed[k], each[k]))
        each[slowest] += 1
        one = workload.members[slowest]
        costed[slowest] = _costed(profile, one, workload, each[slowest], threads)
    shares = tuple(
        tuple(replace(piece, member=k) for piece in share)
        for k, c in enumerate(costed)
        for share in divide([c.cost], [c.member.units], each[k])
    )
    return _option(profile, workload, Decision.SIDE_BY_SIDE, costed, shares)


def _busiest(costed: _Costed, workers: int) -> float:
    return costed.cost.of(-(-costed.member.units // workers))


def _option(
    profile: Profile, workload: Fused, decision: Decision, costed: Sequence[_Costed],
    shares: Shares,
) -> Option:  # fmt: skip
    here = machine(profile, len(shares))
    costs = [c.cost for c in costed]
    workers = cycles_of(shares, costs)
    pieces = [p for share in shares for p in share]
    members = tuple(
        (sum(c.cost.of(p.units) for p in pieces if p.member == k), c.bound)
        for k, c in enumerate(costed)
    )
    seconds = (max(workers) + here.barrier_cycles) / here.hz
    plan = FusionPlan(
        workload=workload, decision=decision, members=tuple(c.member for c in costed),
        shares=shares,
    )  # fmt: skip
    return plan, FusionEstimate(seconds=seconds, workers=workers, members=members, barriers=1)


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


@lru_cache(maxsize=256)
def _ranked_products(
    profile: Profile, one: Matmul, threads: int
) -> Sequence[tuple[GemmPlan, Estimate]]:
    return candidates.best(profile, one, threads)[:TRIED]


def _costed(
    profile: Profile, one: Workload, together: Fused, sharing: int, busy: int
) -> _Costed:
    """A member as ``sharing`` workers would divide it, costed with ``busy`` of them at work."""
    if isinstance(one, Matmul):
        return _costed_product(profile, one, sharing, busy)
    plan, estimate = best_map(profile, one, 1, together.operand_bytes)
    cost = unit_cost(profile, plan, busy, together.operand_bytes)
    return _Costed(Member(plan=plan), Cost(0.0, cost.cycles), estimate.bound)


@lru_cache(maxsize=64)
def _costed_product(profile: Profile, one: Matmul, sharing: int, busy: int) -> _Costed:
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
    costed = [_Costed(m, *_cost_of_product(profile, m, sharing, busy)) for m in found]
    return min(costed, key=lambda c: _busiest(c, sharing))


def _cost_of_product(
    profile: Profile, member: Member, sharing: int, busy: int
) -> tuple[Cost, str]:
    """A line through what an even share takes, and half of it."""
    many = max(1, member.units // sharing)
    few = max(1, many // 2)
    at_many, bound = _piece_cycles(profile, member, many, busy)
    if many == few:
        return Cost(0.0, at_many / many), bound
    at_few, _ = _piece_cycles(profile, member, few, busy)
    each = max((at_many - at_few) / (many - few), at_many / many / 2)
    return Cost(max(0.0, at_many - many * each), each), bound


def _piece_cycles(
    profile: Profile, member: Member, units: int, busy: int
) -> tuple[float, str]:
    """Cycles of a piece: a thread's share of a product that is ``busy`` times as large."""
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
    estimate = predict(profile, shares)
    return estimate.cycles - machine(profile, busy).barrier_cycles, estimate.bound
