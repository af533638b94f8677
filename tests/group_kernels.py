"""Kernels of several workloads in one region, for tests: cut in parts, run and compared."""

from __future__ import annotations

import anatune as at
from anatune.codegen.build import build
from anatune.codegen.group_call import GroupCall
from anatune.measure.group_bench import check_member, drawn
from anatune.plan.fusion import Decision, FusionPlan, Piece
from anatune.plan.maps import MapPlan


def cut(units, parts):
    """``parts`` ranges that cover ``units``, some of them empty."""
    ends = [0, *(round(units * k / parts + 0.3) for k in range(1, parts)), units]
    return [(a, min(b, units)) for a, b in zip(ends, ends[1:])]


def fused_in_parts(members, parts):
    shares = [[] for _ in range(parts)]
    for number, member in enumerate(members):
        for share, (start, stop) in zip(shares, cut(member.units, parts)):
            if stop > start:
                share.append(Piece(member=number, start=start, stop=stop))
    return FusionPlan(
        workload=at.fused([m.plan.workload for m in members]), decision=Decision.FUSED,
        members=tuple(members), shares=tuple(map(tuple, shares)),
    )  # fmt: skip


def assert_right(plan):
    assert FusionPlan.from_json(plan.to_json()) == plan
    call = GroupCall(plan.workload, build(plan).function)
    inputs = [drawn(member, seed) for seed, member in enumerate(plan.workload.members)]
    results = call(*(inputs[k][name] for k, name, _ in plan.workload.inputs()))
    for member, mine, result in zip(plan.workload.members, inputs, results):
        check_member(member, mine, result)


def map_plan(workload, target, unroll):
    widest = "float64" in (workload.held, *(op.dtype for op in workload.element.operands))
    return MapPlan(workload=workload, target=target, lanes=8 if widest else 16, unroll=unroll)
