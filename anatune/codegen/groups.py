"""Plan of workloads that read each other's results -> one function of several regions (rank 5)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from anatune.codegen.arithmetic import imported
from anatune.codegen.call import ENTRY
from anatune.codegen.convert import stored
from anatune.codegen.fusion import arithmetics, emit_alone, emit_one_region
from anatune.codegen.gemm import buffer_of
from anatune.codegen.maps import OUT
from anatune.codegen.rows import emit_rows
from anatune.codegen.views import as_planned, view
from anatune.plan.fusion import MemberPlan
from anatune.plan.gemm import GemmPlan
from anatune.plan.group import AloneStage, GroupPlan, RowsStage, Stage


def lower_group(plan: GroupPlan) -> dict[str, tirx.PrimFunc]:
    """``main(inputs, ..., results)`` by name."""
    with IRBuilder() as builder:
        with T.prim_func():
            T.func_name(ENTRY)
            T.func_attr({"tirx.noalias": True, "global_symbol": ENTRY})
            memory = _memory(plan)
            with ExitStack() as scope:
                for multiply, lanes in arithmetics(plan.plans):
                    scope.enter_context(imported(multiply, lanes))
                for stage in plan.stages:
                    _emit(plan, stage, memory)
    return {ENTRY: builder.get()}


def _memory(plan: GroupPlan) -> dict[str, Any]:
    """Of every input and result that is not a thread's own, by name."""
    given = plan.workload
    memory = {name: T.arg(name, buffer_of(tensor)) for name, tensor in given.inputs.items()}
    memory |= {name: T.arg(f"{name}_out", buffer_of(tensor))
               for name, tensor in given.results.items()}
    near = {name for stage in plan.stages if isinstance(stage, RowsStage)
            for name in plan.blocks(stage).near}
    for step in plan.steps.steps:
        if step.name not in memory and step.name not in near:
            result = step.workload.output
            memory[step.name] = T.alloc_buffer((result.span,), stored(result.dtype))
    return memory


def _emit(plan: GroupPlan, stage: Stage, memory: Mapping[str, Any]) -> None:
    if isinstance(stage, RowsStage):
        emit_rows(stage, plan.blocks(stage), memory)
    elif isinstance(stage, AloneStage):
        emit_alone(stage.plan, _buffers(plan, stage.step, stage.plan, memory))
    else:
        members = zip(stage.names, stage.plan.members)
        buffers = [_buffers(plan, name, member.plan, memory) for name, member in members]
        emit_one_region(stage.plan, buffers)


def _buffers(
    plan: GroupPlan, name: str, step_plan: MemberPlan, memory: Mapping[str, Any]
) -> dict[str, Any]:
    """A step's operands and its result, by the names that its code knows them by."""
    step = plan.steps.by_name[name]
    tensors = step.workload.operands
    buffers = {op: view(memory[source], tensors[op]) for op, source in step.sources}
    key = "c" if isinstance(step_plan, GemmPlan) else OUT
    buffers[key] = view(memory[name], step.workload.output)
    return as_planned(step_plan, buffers)
