"""What parts of a function are, and how their expressions are read and written down (rank 5)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tvm import tirx
from tvm.ir.expr import TensorLoad

from anatune.codegen.arrays import Arrays, Source
from anatune.codegen.frames import ARRAY, Frame, extent_of
from anatune.codegen.places import shown
from anatune.codegen.stage_inlining import Anchor
from anatune.codegen.stages import Stage
from anatune.codegen.tir_expression import ElementReader, applied
from anatune.workload.expression import Expression, Operand, Sum
from anatune.workload.fused import Workload
from anatune.workload.maps import Map
from anatune.workload.nodes import Apply

LOWEST = {"float64": -1.7976931348623157e308, "float32": -3.4028234663852886e38,
          "float16": -65504.0, "bfloat16": -3.3895313892515355e38}  # fmt: skip
"""Where TVM begins the largest of floats (their lowest finite numbers)."""

COMBINED = {"sum": "add", "max": "max", "min": "min"}


@dataclass(frozen=True)
class Part:
    """A workload, the arrays that its operands see, and the array that it writes.

    ``element``: a `Map`'s own expression, whose operands have names of the function at large.
    """

    block: str
    workload: Workload
    sources: dict[str, Source]
    output: str
    element: Expression | None = None


def made_part(anchor: Anchor, workload: Workload, arrays: Arrays, element: Any = None) -> Part:
    sources = {
        name: arrays.source(name) for name in workload.operands
        if isinstance(workload, Map) or name not in ("a", "b")
    }  # fmt: skip
    output = arrays.name_of(anchor.last.buffer)
    return Part(anchor.last.name, workload, sources, output, element)


def started(
    stage: Stage, frame: Frame, arrays: Arrays, held: str, along: str | None = None
) -> Expression:
    """The fold as far as it goes, with what it begins with where that has a say."""
    total: Expression = Sum(held)
    if stage.start is None:
        stage.refuse(f"adds to what {stage.buffer.name} held before; begin with T.init()")
    if _is_neutral(stage):
        return total
    start = reader_of(stage, frame, arrays, None, held, along).node(stage.start)
    return applied(COMBINED[stage.fold], (total, start), held)


def _is_neutral(stage: Stage) -> bool:
    start = stage.start
    if not isinstance(start, (tirx.IntImm, tirx.FloatImm)):
        return False
    dtype, value = dtype_of(stage.buffer), float(start.value)
    if stage.fold == "sum":
        return value == 0
    if dtype in LOWEST:
        end = LOWEST[dtype]
        return value <= end if stage.fold == "max" else value >= -end
    low, high = tirx.min_value(dtype), tirx.max_value(dtype)
    return value == float((low if stage.fold == "max" else high).value)


def reader_of(
    stage: Stage, frame: Frame, arrays: Arrays, total: Any, accumulator: str,
    along: str | None = None,
) -> ElementReader:
    """Reads a stage's expression; ``total`` is the buffer of the fold that its loads stand for.

    ``along``: the one axis of arrays that lie along the result; "" where that is a number.
    """

    def operand(expr: Any) -> Expression:
        if not isinstance(expr, TensorLoad):
            return arrays.scalar(stage, expr)
        if total is not None and expr.source.same_as(total):
            return Sum(accumulator)
        seen = frame.along(expr)
        if seen is not None and along is not None:
            seen = seen[0], () if not along or not seen[1] else (along,)
        if seen is None:
            stage.refuse(f"{shown(expr)}: lies neither along all axes of the result nor along "
                         "its rows or columns, nor is it a single number")
        return arrays.operand(stage, expr.source, *seen, elements=_elements(frame, seen[1], along))

    return ElementReader(stage, operand, accumulator)


def _elements(frame: Frame, axes: tuple[str, ...], along: str | None) -> int:
    if not axes:
        return 1
    if along is not None or axes == ARRAY:
        return extent_of((*frame.batch, *frame.m, *frame.n))
    return extent_of(frame.m if axes == ("m",) else frame.n)


def array_text(node: Expression, dtype: str) -> str:
    """An expression of arrays as `parse_arrays` reads it."""
    def put(op: Operand) -> Operand:
        axes = {(): ("0",), ARRAY: ()}.get(op.axes, op.axes)
        return replace(op, axes=axes, usual=op.dtype == _usual(op, dtype, dtype))

    return str(with_operands(node, put))


def epilogue_text(node: Expression, accumulator: str, output: str) -> str:
    """An expression of a sum as `parse` reads it."""
    def put(op: Operand) -> Operand:
        return replace(op, usual=op.dtype == _usual(op, accumulator, output))

    return str(with_operands(node, put))


def _usual(op: Operand, accumulator: str, output: str) -> str:
    return output if len(op.axes) == 2 else accumulator


def with_operands(node: Expression, put: Any) -> Expression:
    """``node`` with ``put`` of each operand in its place."""
    if isinstance(node, Operand):
        result: Expression = put(node)
        return result
    if not isinstance(node, Apply):
        return node
    arguments = tuple(with_operands(part, put) for part in node.arguments)
    return Apply(function=node.function, arguments=arguments)


def dtype_of(buffer: Any) -> str:
    return str(buffer.dtype)
