"""One block of a TVM function, with what becomes of its result, as one workload (rank 5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from tvm import tirx
from tvm.ir.expr import TensorLoad

from anatune.codegen.arrays import Arrays, Source
from anatune.codegen.frames import ARRAY, Frame, extent_of, frame_of, stored_rows
from anatune.codegen.stage_inlining import Anchor, factors_of, is_product
from anatune.codegen.stages import Axis, Places, Stage, shown
from anatune.codegen.tir_expression import ElementReader, applied
from anatune.errors import WorkloadError
from anatune.workload.dtypes import accumulator_of, is_float
from anatune.workload.expression import Expression, Operand, Sum, parse
from anatune.workload.fused import Workload
from anatune.workload.maps import Map
from anatune.workload.matmul import Matmul
from anatune.workload.nodes import Apply, Constant
from anatune.workload.whole import exact_as, range_of

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


def part_of(anchor: Anchor, arrays: Arrays) -> Part:
    """Raises WorkloadError for what no workload says, with the block and the expression."""
    try:
        product = _product(anchor, arrays) if factors_of(anchor.stage) else None
        return product or _map(anchor, arrays)
    except WorkloadError as error:
        if str(error).startswith("block "):
            raise
        raise WorkloadError(f"block {anchor.last.name!r}: {error}") from None


def _map(anchor: Anchor, arrays: Arrays) -> Part:
    stage = anchor.stage
    frame, over, rank = _fitting(stage)
    reader = _reader(stage, frame, arrays, None, "float32")
    element = reader.node(stage.value)
    dtype = next((op.dtype for op in element.operands if op.axes == ARRAY),
                 next((op.dtype for op in element.operands), "float32"))
    out_dtype = _dtype(stage.buffer)
    held = element.computed
    finish = ""
    if stage.fold:
        _check_fold(stage, element, out_dtype)
        along = {"n": "m", "m": "n"}[over] if rank == 2 else ""
        finished = _finished(anchor, frame, arrays, held, along)
        out_dtype = _dtype(anchor.last.buffer)
        finish = "" if isinstance(finished, Sum) else epilogue_text(finished, held, held)
        if finish and parse(finish, held, held) != finished:
            stage.refuse(f"{finish}: cannot be written down")
    workload = Map(
        m=extent_of(frame.m), n=extent_of(frame.n), rank=rank, each=array_text(element, dtype),
        fold=stage.fold, over=over, finish=finish, dtype=dtype, out_dtype=out_dtype,
    )  # fmt: skip
    if workload.element != element:
        stage.refuse(f"{shown(stage.value)}: cannot be written down")
    return _part(anchor, workload, arrays, element)


def _part(anchor: Anchor, workload: Workload, arrays: Arrays, element: Any = None) -> Part:
    sources = {
        name: arrays.source(name) for name in workload.operands
        if isinstance(workload, Map) or name not in ("a", "b")
    }  # fmt: skip
    output = arrays.name_of(anchor.last.buffer)
    return Part(anchor.last.name, workload, sources, output, element)


def _fitting(stage: Stage) -> tuple[Frame, str, int]:
    """The frame, folded axis and rank of arrays in which all loads are seen."""
    least: list[Any] = []
    for frame, over, rank in _frames(stage):
        lost = [load for load in stage.loads if _unseen(frame, load, rank)]
        if not lost:
            return frame, over, rank
        least = lost if not least or len(lost) < len(least) else least
    axes = ", ".join(f"{axis.var.name} of {axis.extent}" for axis in (*stage.axes, *stage.folded))
    stage.refuse(f"{shown(least[0])}: lies neither along all axes ({axes}) in their order, nor "
                 "along the first or last ones, nor is it a single number")


def _unseen(frame: Frame, load: Any, rank: int) -> bool:
    along = frame.along(load)
    return along is None or (rank == 1 and along[1] not in (ARRAY, ()))


def _frames(stage: Stage) -> Iterator[tuple[Frame, str, int]]:
    axes, folded = stage.axes, _by_steps(stage)
    if stage.fold and axes:
        yield Frame((), axes, folded), "n", 2
        yield Frame((), folded, axes), "m", 2
    elif stage.fold or len(axes) < 2:
        yield Frame((), (), (*axes, *folded)), "n", 1
    else:  # rows are the last axis, as in what reads or writes the array besides
        for cut in range(len(axes) - 1, 0, -1):
            yield Frame((), axes[:cut], axes[cut:]), "n", 2


def _by_steps(stage: Stage) -> tuple[Axis, ...]:
    """The folded axes in the order in which the array with the most of them has them."""
    places = Places((*stage.axes, *stage.folded))
    found = [place[1] for place in map(places.of, stage.loads) if place is not None]
    keys = {axis.key for axis in stage.folded}
    steps = max(found, key=lambda steps: len(keys & set(steps)), default={})
    return tuple(sorted(stage.folded, key=lambda axis: -steps.get(axis.key, 0)))


def _check_fold(stage: Stage, element: Expression, dtype: str) -> None:
    """Whether the fold in the type of its buffer is that in the type that elements have."""
    wanted, held = accumulator_of(dtype, dtype), element.computed
    least, most = range_of(element)
    count = extent_of(stage.folded) if stage.fold == "sum" else 1
    whole = Apply(function="mul", arguments=(element, Constant(value=count, dtype="int32")))
    exact = is_float(wanted) and not is_float(held) and exact_as(whole, wanted)
    if wanted != held and not exact:
        stage.refuse(f"{shown(stage.value)}: a {stage.fold} in {wanted} of values in {held}")
    if stage.fold == "sum" and not is_float(dtype) and dtype != "int32":
        stage.refuse(f"{shown(stage.value)}: sums in {dtype} wrap around; sum in int32")


def _finished(
    anchor: Anchor, frame: Frame, arrays: Arrays, held: str, along: str
) -> Expression:
    """What is stored, of the folded value."""
    stage, tail = anchor.stage, anchor.tail
    total = _started(stage, Frame((), (), stage.axes), arrays, held, along)
    if tail is None:
        return total
    reader = _reader(tail, Frame((), (), tail.axes), arrays, stage.buffer, held, along)
    return reader.node(tail.value).of(total)


def _started(
    stage: Stage, frame: Frame, arrays: Arrays, held: str, along: str | None = None
) -> Expression:
    """The fold as far as it goes, with what it begins with where that has a say."""
    total: Expression = Sum(held)
    if stage.start is None:
        stage.refuse(f"adds to what {stage.buffer.name} held before; begin with T.init()")
    if _is_neutral(stage):
        return total
    start = _reader(stage, frame, arrays, None, held, along).node(stage.start)
    return applied(COMBINED[stage.fold], (total, start), held)


def _is_neutral(stage: Stage) -> bool:
    start = stage.start
    if not isinstance(start, (tirx.IntImm, tirx.FloatImm)):
        return False
    dtype, value = _dtype(stage.buffer), float(start.value)
    if stage.fold == "sum":
        return value == 0
    if dtype in LOWEST:
        end = LOWEST[dtype]
        return value <= end if stage.fold == "max" else value >= -end
    low, high = tirx.min_value(dtype), tirx.max_value(dtype)
    return value == float((low if stage.fold == "max" else high).value)


def _reader(
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


def _product(anchor: Anchor, arrays: Arrays) -> Part | None:
    """A matrix product; None where it is none, or is better read as a fold."""
    stage = anchor.stage
    found = _matrices(stage)
    if found is None:
        return None
    (batch, m, n), (a, b), options = found
    dtype, dtype_b = _dtype(a.source), _dtype(b.source)
    held = accumulator_of(dtype, dtype_b)
    sums = _dtype(stage.buffer)
    if accumulator_of(sums, sums) != held or not (is_float(sums) or sums == "int32"):
        stage.refuse(f"{shown(stage.value)}: sums in {sums}; those of {dtype} and {dtype_b} are "
                     f"kept in {held}")
    sizes = extent_of(batch), extent_of(m), extent_of(n)
    total = _started(stage, Frame(batch, m, n), arrays, held)
    stored = total
    if anchor.tail is not None:
        frame = frame_of(anchor.tail.axes, *sizes)
        reader = _reader(anchor.tail, frame, arrays, stage.buffer, held)
        stored = reader.node(anchor.tail.value).of(total)
    out_dtype = _dtype(anchor.last.buffer)
    text = "" if isinstance(stored, Sum) else epilogue_text(stored, held, out_dtype)
    workload = Matmul(
        batch=sizes[0], m=sizes[1], n=sizes[2], k=extent_of(stage.folded), dtype=dtype,
        dtype_b=dtype_b, out_dtype=out_dtype, epilogue=text, **options,
    )  # fmt: skip
    if workload.expression != stored:
        anchor.last.refuse(f"{shown(anchor.last.value)}: cannot be written down")
    part = _part(anchor, workload, arrays)
    places = Places((*stage.axes, *stage.folded))
    for name, load in (("a", a), ("b", b)):
        place = places.of(load)
        assert place is not None
        tensor = workload.operands[name]
        part.sources[name] = arrays.seen(stage, load.source, place[0], tensor.elements)
    return part


def _matrices(stage: Stage) -> Any:
    """((batch, m, n) axes, the loads of A and B, how they are stored), if there is such a view."""
    factors = factors_of(stage)
    places = Places((*stage.axes, *stage.folded))
    if factors is None or stage.fold != "sum" or not is_product(stage):
        return None
    axes = stage.axes
    for a, b in (factors, factors[::-1]):
        steps_a, steps_b = (places.of(load)[1] for load in (a, b))  # type: ignore[index]
        k = sorted(stage.folded, key=lambda axis: -steps_a.get(axis.key, 0))
        for top in range(len(axes) + 1):
            for cut in range(top, len(axes) + 1):
                batch, m, n = axes[:top], axes[top:cut], axes[cut:]
                stored_a = _stored("a", steps_a, batch, m, k)
                stored_b = _stored("b", steps_b, batch, k, n)
                if stored_a is None or stored_b is None:
                    continue
                options = stored_a | stored_b
                if not (options["broadcast_a"] and options["broadcast_b"]):
                    return (batch, m, n), (a, b), options
    stage.refuse(f"{shown(stage.value)}: no product of matrices that lie row by row or column by "
                 "column, one after the other in a batch")


def _stored(name: str, steps: Any, batch: Any, rows: Any, columns: Any) -> dict[str, Any] | None:
    for transposed in (False, True):
        outer, inner = (columns, rows) if transposed else (rows, columns)
        found = stored_rows(steps, batch, outer, inner)
        if found is not None:
            leading, one = found
            return {
                f"trans_{name}": transposed, f"broadcast_{name}": one, f"ld{name}": leading,
            }  # fmt: skip
    return None


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


def _dtype(buffer: Any) -> str:
    return str(buffer.dtype)
