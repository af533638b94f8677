"""Plan -> TIR of scans: what each step leaves is carried in registers (rank 5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tvm.tirx.script import builder as T

from anatune.codegen.convert import filled, widen
from anatune.codegen.elementwise import emit as emit_expression
from anatune.codegen.map_loops import ColumnLoops, Loops, get, on_stack, put, splat
from anatune.codegen.transpose import transposed
from anatune.codegen.vectors import Row, index
from anatune.workload.expression import Operand

Column = Callable[[Any], Any]
"""The vector of an operand that belongs to a column of a square."""


@dataclass(frozen=True)
class ColumnScan(ColumnLoops):
    """c[i, :] = step(c[i - 1, :]): what a chunk of columns carries stays in registers."""

    def columns(self, j: Any, row: Row) -> None:
        w, lanes = self.plan.workload, self.plan.lanes
        carried = on_stack((row.vectors, lanes), w.held)
        for u in range(row.vectors):
            put(carried, u, lanes, filled(w.initial, w.held, lanes))
        with T.serial(0, index(w.m)) as i:
            for u in range(row.vectors):
                new = T.bind(self._stepped(get(carried, u, lanes), row, i, j, u))
                put(carried, u, lanes, new)
                self.store(row, i, j, u, self.finished(new, row, i, j, u), w.result_dtype)

    def _stepped(self, carried: Any, row: Row, i: Any, j: Any, u: int) -> Any:
        element = self.plan.workload.element
        return emit_expression(
            element, carried, lambda op: self.operand(op, row, i, j, u), row.lanes
        )


@dataclass(frozen=True)
class RowScan(Loops):
    """c[:, j] = step(c[:, j - 1]): a vector holds a column of as many rows as it has lanes.

    Squares of elements are transposed in registers on their way in and out. With one lane there is
    one row after the other.
    """

    def blocks(self, start: Any, stop: Any) -> None:
        """Blocks of rows; the last one begins early enough to be whole, and does some rows again.

        Where there are fewer rows than lanes the other lanes hold zeros.
        """
        m, lanes = self.plan.workload.m, self.plan.lanes
        present = min(m, lanes)
        with T.serial(0, stop - start) as number:
            first = T.bind(T.min((start + number) * lanes, index(m - present)))
            self._rows(first, present)

    def _rows(self, i: Any, present: int) -> None:
        """Square after square of rows from ``i`` on, of which ``present`` exist."""
        w, lanes = self.plan.workload, self.plan.lanes
        carried = on_stack((1, lanes), w.held)
        put(carried, 0, lanes, filled(w.initial, w.held, lanes))
        with T.serial(0, index(w.n // lanes)) as number:
            self._square(carried, i, number * lanes, present, lanes)
        if w.n % lanes:
            self._square(carried, i, index(w.n - w.n % lanes), present, w.n % lanes)

    def _square(self, carried: Any, i: Any, j: Any, present: int, columns: int) -> None:
        """As many steps as a vector has lanes, or the ``columns`` that are left."""
        w, lanes = self.plan.workload, self.plan.lanes
        row = Row(columns, lanes)
        reads = (*w.element.reads, *w.finished.reads)
        read = {op.label: self._columns(op, i, j, present, row) for op in reads}
        results = on_stack((lanes, lanes), w.result_dtype)
        with T.serial(0, index(columns)) as p:
            here = _at(read, p)
            new = T.bind(emit_expression(w.element, get(carried, 0, lanes), here, lanes))
            put(carried, 0, lanes, new)
            put(results, p, lanes, emit_expression(w.finished, new, here, lanes))
        nothing = filled(0, w.result_dtype, lanes)
        done = [T.bind(get(results, p, lanes)) if p < columns else nothing for p in range(lanes)]
        for r, value in enumerate(transposed(done)[:present]):
            self.store(row, i + r, j, 0, value, w.result_dtype)

    def _columns(self, op: Operand, i: Any, j: Any, present: int, row: Row) -> Column:
        """Vectors of an operand beside the columns of a square, rows in its lanes."""
        lanes, buffer = row.lanes, self.buffers[op.name]
        if not op.axes:
            one = T.bind(self.operand(op, row, i, j, 0))
            return lambda p: one
        if op.axes == ("m",):
            held = Row(present, lanes).load(buffer, self.read_at(op, i, j), 0)
            rows = T.bind(widen(held, op.dtype, op.computed))
            return lambda p: rows
        if op.axes == ("n",):
            return lambda p: splat(
                widen(buffer[self.read_at(op, i, j + p)], op.dtype, op.computed), lanes
            )
        nothing = filled(0, op.computed, lanes)
        square = [T.bind(self.operand(op, row, i + r, j, 0)) if r < present else nothing
                  for r in range(lanes)]
        columns = on_stack((lanes, lanes), op.computed)
        for p, column in enumerate(transposed(square)[: row.columns]):
            put(columns, p, lanes, column)
        return lambda p: get(columns, p, lanes)


def _at(read: Mapping[str, Column], p: Any) -> Callable[[Operand], Any]:
    """What operands have for column ``p``."""
    return lambda op: read[op.label](p)
