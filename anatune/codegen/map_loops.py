"""What the loops of all element-wise workloads share: operands, stores, chunks (rank 5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tvm.tirx.script import builder as T

from anatune.codegen.convert import cast, filled, narrow, widen
from anatune.codegen.elementwise import emit as emit_expression
from anatune.codegen.vectors import ON_STACK, Row, index
from anatune.plan.maps import MapPlan
from anatune.workload.dtypes import accumulator_of
from anatune.workload.expression import Operand

OUT = "out"
"""Key of the result among the buffers."""


@dataclass(frozen=True)
class Loops:
    plan: MapPlan
    buffers: Mapping[str, Any]

    def value(self, row: Row, i: Any, j: Any, u: int) -> Any:
        """Vector ``u`` of the elements' expression, of the row from (i, j), as `Map.held`."""
        w = self.plan.workload
        zero = filled(0, w.held, row.lanes)  # the expression has no sum
        computed = emit_expression(
            w.element, zero, lambda op: self.operand(op, row, i, j, u), row.lanes
        )
        return _as(computed, w.element.computed, w.held)

    def operand(self, op: Operand, row: Row, i: Any, j: Any, u: int) -> Any:
        buffer, computed = self.buffers[op.name], accumulator_of(op.dtype, op.dtype)
        where = self.read_at(op, i, j)
        if "n" in op.axes:
            return widen(row.load(buffer, where, u), op.dtype, computed)
        return splat(widen(buffer[where], op.dtype, computed), row.lanes)

    def read_at(self, op: Operand, i: Any, j: Any) -> tuple[Any, ...]:
        """Subscripts of what ``op`` reads for the result's element (i, j)."""
        if not op.axes:
            return (index(0),)
        down, right = self.plan.workload.shift(op)
        if self.plan.flat and op.axes == ("m", "n"):
            return (j + (down * self.plan.workload.n + right),)
        return self.at(op.axes, i + down, j + right)

    def at(self, axes: tuple[str, ...], i: Any, j: Any) -> tuple[Any, ...]:
        """Subscripts of an element of an array along ``axes``."""
        if axes == ("m",):
            return (i,)
        one_axis = self.plan.flat or self.plan.workload.rank == 1
        return (j,) if one_axis or axes == ("n",) else (i, j)

    def store(self, row: Row, i: Any, j: Any, u: int, value: Any, held: str) -> None:
        w = self.plan.workload
        narrowed = narrow(value, held, str(w.out_dtype))
        row.store(self.buffers[OUT], self.at(("m", "n"), i, j), u, narrowed)

    def finished(self, value: Any, row: Row, i: Any, j: Any, u: int) -> Any:
        """What the folded or carried value of (i, j) becomes before it is stored."""
        w = self.plan.workload
        if not w.finish:
            return value
        return emit_expression(
            w.finished, value, lambda op: self.operand(op, row, i, j, u), row.lanes
        )

    def along_row(self, body: Callable[[Any, Row], None]) -> None:
        """``body(j, row)`` for all chunks of a row: whole ones in a loop, then the last."""
        plan = self.plan
        columns = plan.extents[1]
        with T.serial(0, index(columns // plan.chunk)) as number:
            body(number * plan.chunk, Row(plan.chunk, plan.lanes))
        if columns % plan.chunk:
            first = columns - columns % plan.chunk
            body(index(first), Row(columns % plan.chunk, plan.lanes))


@dataclass(frozen=True)
class ColumnLoops(Loops):
    """Chunks of columns, each of them down all rows."""

    def chunks(self, start: Any, stop: Any) -> None:
        plan = self.plan
        columns = plan.extents[1]
        whole = columns // plan.chunk
        with T.serial(0, T.min(stop, index(whole)) - T.min(start, index(whole))) as number:
            self.columns((start + number) * plan.chunk, Row(plan.chunk, plan.lanes))
        if columns % plan.chunk:
            with T.If(stop == plan.chunks), T.Then():
                self.columns(index(whole * plan.chunk), Row(columns % plan.chunk, plan.lanes))

    def columns(self, j: Any, row: Row) -> None:
        """All rows of the columns from ``j`` on."""
        raise NotImplementedError


def on_stack(shape: tuple[int, int], dtype: str) -> Any:
    return T.alloc_buffer(shape, dtype, scope="local", annotations=ON_STACK)


def get(partial: Any, u: Any, lanes: int) -> Any:
    return partial[_subscript(u), T.ramp(0, 1, lanes) if lanes > 1 else index(0)]


def put(partial: Any, u: Any, lanes: int, value: Any) -> None:
    where = T.ramp(0, 1, lanes) if lanes > 1 else index(0)
    T.buffer_store(partial, value, [_subscript(u), where])


def _subscript(u: Any) -> Any:
    return index(u) if isinstance(u, int) else u


def splat(scalar: Any, lanes: int) -> Any:
    """A number in all lanes."""
    return scalar if lanes == 1 else T.broadcast(scalar, lanes)


def _as(value: Any, held: str, dtype: str) -> Any:
    return value if held == dtype else cast(value, dtype)
