"""Plan of several workloads -> one function, with one parallel region for all of them (rank 5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from anatune.codegen import gemm
from anatune.codegen.arithmetic import imported
from anatune.codegen.call import ENTRY
from anatune.codegen.maps import OUT, emit_units
from anatune.codegen.sizes import Sizes
from anatune.codegen.span import Span
from anatune.codegen.vectors import index
from anatune.codegen.views import as_planned
from anatune.plan import GemmPlan
from anatune.plan.fusion import Decision, FusionPlan, Member, MemberPlan
from anatune.plan.maps import MapPlan
from anatune.workload.fused import Fused

Buffers = list[dict[str, Any]]
"""Of each member: its operands by name, and its result."""


def lower_fusion(plan: FusionPlan) -> dict[str, tirx.PrimFunc]:
    """``main(inputs of each member, ..., results)`` by name."""
    with IRBuilder() as builder:
        with T.prim_func():
            T.func_name(ENTRY)
            T.func_attr({"tirx.noalias": True, "global_symbol": ENTRY})
            buffers = _arguments(plan)
            with ExitStack() as scope:
                for multiply, lanes in arithmetics(plan.plans):
                    scope.enter_context(imported(multiply, lanes))
                if plan.decision is Decision.ONE_BY_ONE:
                    for member, mine in zip(plan.members, buffers):
                        emit_alone(member.plan, mine)
                else:
                    emit_one_region(plan, buffers)
    return {ENTRY: builder.get()}


def lower_map(plan: MapPlan) -> dict[str, tirx.PrimFunc]:
    """``main(inputs, result)`` by name."""
    single = Fused((plan.workload,))
    members = (Member(plan=plan),)
    return lower_fusion(
        FusionPlan(workload=single, decision=Decision.ONE_BY_ONE, members=members)
    )


def _arguments(plan: FusionPlan) -> Buffers:
    buffers: Buffers = [{} for _ in plan.members]
    for number, name, tensor in plan.workload.inputs():
        buffers[number][name] = T.arg(f"{name}_{number}", gemm.buffer_of(tensor))
    for number, (member, mine) in enumerate(zip(plan.members, buffers)):
        key = "c" if isinstance(member.plan, GemmPlan) else OUT
        mine[key] = T.arg(f"out_{number}", gemm.buffer_of(member.plan.workload.output))
    return [as_planned(member.plan, mine) for member, mine in zip(plan.members, buffers)]


def arithmetics(plans: Iterable[MemberPlan]) -> dict[tuple[Any, int], None]:
    """What `imported` must be told of, each once."""
    products = [plan for plan in plans if isinstance(plan, GemmPlan)]
    return dict.fromkeys((p.multiply, p.tile.lanes) for p in products)


def emit_alone(plan: MemberPlan, buffers: Mapping[str, Any]) -> None:
    """All of a workload, as its own plan says."""
    if isinstance(plan, GemmPlan):
        gemm.emit_product(Sizes(plan), buffers)
    else:
        _alone(plan, buffers)


def _alone(plan: MapPlan, buffers: Mapping[str, Any]) -> None:
    """A member that has all threads: equal shares, as all its units cost the same."""
    if plan.threads == 1:
        emit_units(plan, buffers, index(0), index(plan.units))
        return
    share = -(-plan.units // plan.threads)
    with T.parallel(0, index(plan.threads)) as thread:
        start = T.bind(T.min(thread * share, index(plan.units)))
        stop = T.bind(T.min(start + share, index(plan.units)))
        with T.If(start < stop), T.Then():
            emit_units(plan, buffers, start, stop)


def emit_one_region(plan: FusionPlan, buffers: Buffers) -> None:
    """The shares of ``plan``, each by its worker."""
    if len(plan.shares) == 1:
        for piece in plan.shares[0]:
            member = plan.members[piece.member]
            _piece(member, buffers[piece.member], index(piece.start), index(piece.stop))
        return
    with T.parallel(0, index(len(plan.shares))) as thread:
        for number, ranges in _rounds(plan):
            start = T.bind(_by_thread(thread, [first for first, _ in ranges]))
            stop = T.bind(_by_thread(thread, [last for _, last in ranges]))
            with T.If(start < stop), T.Then():
                _piece(plan.members[number], buffers[number], start, stop)


def _rounds(plan: FusionPlan) -> list[tuple[int, list[tuple[int, int]]]]:
    """Members in order, each as often as some thread has a piece of it; what each thread has then.

    A member's code is there once a round, not once a thread, and bounds are looked up before it.
    """
    rounds = []
    for number in range(len(plan.members)):
        mine = [[p for p in share if p.member == number] for share in plan.shares]
        for turn in range(max(map(len, mine))):
            now = [pieces[turn] if turn < len(pieces) else None for pieces in mine]
            rounds.append((number, [(p.start, p.stop) if p else (0, 0) for p in now]))
    return rounds


def _by_thread(thread: Any, values: list[int]) -> Any:
    """``values[thread]``, as a chain of selections: constants need no table in memory."""
    chosen = index(values[-1])
    for number in range(len(values) - 2, -1, -1):
        if values[number] != values[number + 1]:
            chosen = T.Select(thread <= number, index(values[number]), chosen)
    return chosen


def _piece(member: Member, buffers: Mapping[str, Any], start: Any, stop: Any) -> None:
    if isinstance(member.plan, GemmPlan):
        _product_piece(member.plan, member, buffers, start, stop)
    else:
        emit_units(member.plan, buffers, start, stop)


def _product_piece(
    plan: GemmPlan, member: Member, buffers: Mapping[str, Any], start: Any, stop: Any
) -> None:
    """A span of rows, columns or products of the batch, by the loops of a whole product."""
    w = plan.workload
    whole = {dim: Span.whole(w.along(dim)) for dim in "mnk"}
    first = T.bind(start * member.unit)
    last = T.bind(T.min(stop * member.unit, index(member.extent)))
    mine = Span(first, last, index(0))
    items = mine if member.along == "batch" else Span.whole(w.batch)
    spans = whole if member.along == "batch" else {**whole, member.along: mine}
    place = gemm._Place(items=items, spans=spans, first_of_rows=start == 0)
    gemm._Thread(Sizes(plan), buffers, place, None).run()
