"""The plain loops of a product, which TVM's own search schedules, and its traces on them (rank 5).

Unlike `gemm`, nothing here decides how: the loops are what the product means, one element of C
after another, and a trace is the list of instructions that turned them into a kernel once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import tvm
import tvm_ffi
from tvm import te, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.s_tir import Schedule, Trace
from tvm.tirx.script import builder as T

from anatune.codegen.call import ENTRY
from anatune.codegen.convert import narrow, stored, widen
from anatune.codegen.elementwise import emit
from anatune.errors import WorkloadError, require
from anatune.plan import SchedulePlan
from anatune.workload import Matmul, Tensor
from anatune.workload.expression import Operand

SUMS = "sums"
"""Block of the sums where an epilogue follows; otherwise they are C itself, block `C`."""

C = "c"


def plain_loops(workload: Matmul) -> tvm.IRModule:
    """The loops of ``main(a, b, ..., c)``, the operands of the epilogue before C.

    Raises:
        WorkloadError: a C that is added to: the blocks of a schedule either read or write it.
    """
    why = f"beta = {workload.beta:g}: TVM's search computes C anew; use search='evolve'"
    require(not workload.beta, why, WorkloadError)
    tensors = {**workload.operands, C: workload.output}
    inputs = {
        name: te.placeholder(x.shape or (1,), stored(x.dtype), name)
        for name, x in workload.operands.items()
    }
    sums = _sums(workload, inputs)
    c = sums if workload.stores_sums else _finished(workload, inputs, sums)
    function = te.create_prim_func([*inputs.values(), c])
    main = _as_called(function, list(tensors.values()))
    return tvm.IRModule({ENTRY: main.with_attr("global_symbol", ENTRY)})


def scheduled(plan: SchedulePlan) -> Schedule:
    """The plain loops of ``plan``, with the instructions of its trace carried out on them.

    The trace of a measured candidate ends with what MetaSchedule's postprocessors did, so that
    nothing is left to be decided or rewritten here.
    """
    schedule = Schedule(plain_loops(plan.workload), error_render_level="fast")
    Trace.apply_json_to_schedule(json.loads(plan.trace), schedule)
    return schedule


def trace_text(trace: Trace) -> str:
    """``trace`` as one line of JSON."""
    return json.dumps(_plain(trace.as_json()))


def _plain(value: Any) -> Any:
    """What ``as_json`` leaves in TVM's own numbers, as Python's."""
    if isinstance(value, (tirx.IntImm, tirx.FloatImm)):
        return value.value
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value


def _sums(w: Matmul, inputs: Mapping[str, Any]) -> Any:
    """C's sums of products."""
    p = te.reduce_axis((0, w.k), "k")

    def factor(name: str, batch: tuple[Any, ...], place: tuple[Any, Any]) -> Any:
        tensor = inputs[name]
        value = tensor[batch[: len(tensor.shape) - 2] + place]
        return widen(tirx.convert(value), w.operands[name].dtype, w.accumulator)

    def element(*at: Any) -> Any:
        batch, (i, j) = at[:-2], at[-2:]
        a = factor("a", batch, (p.var, i) if w.trans_a else (i, p.var))
        b = factor("b", batch, (j, p.var) if w.trans_b else (p.var, j))
        return te.sum(a * b, axis=p)

    return te.compute(w.output.shape, element, name=C if w.stores_sums else SUMS)


def _finished(w: Matmul, inputs: Mapping[str, Any], sums: Any) -> Any:
    """What is stored of the sums."""

    def element(*at: Any) -> Any:
        def operand(op: Operand) -> Any:
            places = {(): (0,), ("m",): at[-2:-1], ("n",): at[-1:], ("m", "n"): at}
            value = tirx.convert(inputs[op.name][places[op.axes]])
            return widen(value, op.dtype, op.computed)

        def result() -> Any:
            value = emit(w.expression, tirx.convert(sums[at]), operand, 1)
            return narrow(value, w.expression.dtype, str(w.out_dtype))

        return _one_expression(result)

    return te.compute(w.output.shape, element, name=C)


def _one_expression(emitted: Callable[[], Any]) -> Any:
    """What ``emitted`` returns, as an expression that holds the variables which it binds."""
    with IRBuilder() as builder:
        with T.prim_func():
            T.func_name(ENTRY)
            T.evaluate(emitted())
    body = builder.get().body
    *binds, last = body.seq if isinstance(body, tirx.SeqStmt) else [body]
    value = last.value
    for bind in reversed(binds):
        value = tirx.Let(bind.var, bind.value, value)
    return value


def _as_called(function: tirx.PrimFunc, tensors: list[Tensor]) -> tirx.PrimFunc:
    """``function`` with parameters that lie as callers' do: rows apart where ``tensors`` say so,
    and aligned to an element, where te would trust them to begin at a multiple of 64 bytes."""
    params = [_parameter(*pair) for pair in zip(function.params, tensors, strict=True)]

    def called(var: Any) -> Any:
        pairs = zip(function.params, params)
        return next((param for old, param in pairs if var.same_as(old)), var)

    body = tvm_ffi.structural_map(function.body, (tirx.Var, called))
    return tirx.PrimFunc(params, body, attrs=function.attrs)


def _parameter(given: Any, tensor: Tensor) -> Any:
    strides = None if tensor.compact else list(tensor.strides)
    align = tensor.element_bytes
    return tirx.decl_buffer(
        given.shape, given.dtype, given.name, strides=strides, data_alignment=align
    )
