"""Where sums go: into C, through the epilogue, or aside until they are complete (rank 5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from anatune.codegen.convert import narrow, widen
from anatune.codegen.elementwise import emit as emit_expression
from anatune.codegen.sizes import Sizes
from anatune.codegen.span import Span
from anatune.codegen.vectors import Row, index
from anatune.plan import GemmPlan
from anatune.plan.gemm import LONG_EPILOGUE
from anatune.workload.dtypes import accumulator_of
from anatune.workload.expression import OUT, Operand


AT_ONCE = 4
"""Vectors of C that an epilogue of blocks works on at once: each waits for its own operations
alone, four cycles each on current cores, which start two in a cycle."""


@dataclass(frozen=True)
class Results:
    """C of one product of the batch, and the incomplete sums of the thread that makes it.

    ``sums_at(i, j)`` are the subscripts of ``sums`` for an element of C.
    """

    sizes: Sizes
    buffers: Mapping[str, Any]
    item: Any
    sums: Any = None
    sums_at: Callable[[Any, Any], tuple[Any, ...]] | None = None

    @property
    def plan(self) -> GemmPlan:
        return self.sizes.plan

    @property
    def is_long(self) -> bool:
        """Whether tiles have an epilogue so long that its code should be there but once a tile."""
        long = self.plan.workload.expression.operations > LONG_EPILOGUE
        return long and not self.plan.finishes_blocks

    def c_at(self, i: Any, j: Any) -> tuple[Any, ...]:
        return (i, j) if self.sizes.one_product else (self.item, i, j)

    def store(self, row: Row, i: Any, j: Any, u: int, value: Any, first: bool, last: bool) -> None:
        """Put away sums of vector ``u`` of the row from (i, j): the first, the last of them."""
        if not self.sizes.keeps_sums_apart:
            if not first:
                value = self._load_c(row, i, j, u) + value
            self._finish(row, i, j, u, value)
            return
        assert self.sums_at is not None
        where = self.sums_at(i, j)
        if not first:
            value = row.load(self.sums, where, u) + value
        if last and self.plan.grid.depth == 1:
            self._finish(row, i, j, u, value)
        else:
            row.store(self.sums, where, u, value)

    def so_far(self, row: Row, i: Any, j: Any, u: int) -> Any:
        """Sums of earlier turns, to go on from."""
        if not self.sizes.keeps_sums_apart:
            return self._load_c(row, i, j, u)
        assert self.sums_at is not None
        return row.load(self.sums, self.sums_at(i, j), u)

    def replace(self, row: Row, i: Any, j: Any, u: int, value: Any, last: bool) -> None:
        """Put away sums that hold those of earlier turns already."""
        if last or not self.sizes.keeps_sums_apart:
            self._finish(row, i, j, u, value)
        else:
            assert self.sums_at is not None
            row.store(self.sums, self.sums_at(i, j), u, value)

    def by_turn(self, first: Any, last: Any, emit: Callable[[bool, bool], None]) -> None:
        """``emit(first, last)`` under the conditions of those names, as few times as needed."""
        if self.sizes.one_turn:
            emit(True, True)
            return
        whole = self.plan.c_takes_sums or self.plan.grid.depth > 1

        def by_last(is_first: bool) -> None:
            # A k that varies may come in one turn; one that does not is known to have several.
            if whole or (is_first and self.sizes.is_fixed("k")):
                emit(is_first, False)
                return
            with T.If(last):
                with T.Then():
                    emit(is_first, True)
                with T.Else():
                    emit(is_first, False)

        with T.If(first):
            with T.Then():
                by_last(True)
            with T.Else():
                by_last(False)

    def prefetch(self, row: Row, i: Any, j: Any, u: int) -> None:
        """Ask for the line that vector ``u`` of the row from (i, j) will be written to."""
        if self.sizes.keeps_sums_apart and self.sums_at is not None:
            row.prefetch(self.sums, self.sums_at(i, j), u)
        else:
            row.prefetch(self.buffers["c"], self.c_at(i, j), u)

    def add_up(self) -> None:
        """C from the sums of all slices of k."""
        plan, w = self.plan, self.plan.workload  # k and n are fixed where sums are shared
        parts = -(-w.k // plan.thread_depth)  # the others had nothing to sum, and wrote nothing

        def element(i: Any, column: Any, row: Row) -> None:
            for u in range(row.vectors):
                total = row.load(self.sums, (self.item, index(0), i, column), u)
                for part in range(1, parts):
                    total = total + row.load(self.sums, (self.item, index(part), i, column), u)
                self._finish(row, i, column, u, total)

        lanes = plan.tile.lanes
        with T.serial(0, self.sizes.extent("m")) as i:
            with T.serial(0, index(w.n // lanes)) as j:
                element(i, j * lanes, Row(lanes, lanes))
            if w.n % lanes:
                element(i, index(w.n - w.n % lanes), Row(w.n % lanes, lanes))

    def finish_block(self, rows: Span, columns: Span) -> None:
        """What becomes of a block of sums in C that are complete (`GemmPlan.finishes_blocks`)."""
        lanes = self.plan.tile.lanes
        whole = tirx.floordiv(columns.length, lanes)

        def vectors(i: Any, j: Any, row: Row) -> None:
            sums = [T.bind(self._load_c(row, i, j, u)) for u in range(row.vectors)]
            done = [T.bind(self._result(row, i, j, u, value)) for u, value in enumerate(sums)]
            for u, value in enumerate(done):
                self._put(row, i, j, u, value)

        with T.serial(0, rows.length) as number:
            i = T.bind(rows.start + number)
            with T.serial(0, tirx.floordiv(whole, AT_ONCE)) as chunk:
                vectors(i, columns.start + chunk * (AT_ONCE * lanes), Row(AT_ONCE * lanes, lanes))
            first = tirx.floordiv(whole, AT_ONCE) * AT_ONCE
            with T.serial(0, whole - first) as vector:
                vectors(i, columns.start + (first + vector) * lanes, Row(lanes, lanes))
            self._last_of_row(columns, whole * lanes, lambda j, row: vectors(i, j, row))

    def _last_of_row(
        self, columns: Span, done: Any, body: Callable[[Any, Row], None]
    ) -> None:
        """``body`` for what is left of a row of a block, less than a vector; of numbers for
        extents, only the last block can have that."""
        lanes = self.plan.tile.lanes
        if not self.sizes.is_fixed("n"):
            rest = columns.length - done
            with T.If(rest > 0), T.Then():
                body(columns.start + done, Row(lanes, lanes, T.bind(rest)))
            return
        edge = self.plan.workload.n % lanes
        if edge:
            with T.If(columns.stop == self.plan.workload.n), T.Then():
                body(columns.start + done, Row(edge, lanes))

    def _load_c(self, row: Row, i: Any, j: Any, u: int) -> Any:
        return row.load(self.buffers["c"], self.c_at(i, j), u)

    def _finish(self, row: Row, i: Any, j: Any, u: int, value: Any) -> None:
        if not self.plan.c_takes_sums:
            value = self._result(row, i, j, u, value)
        self._put(row, i, j, u, value)

    def _put(self, row: Row, i: Any, j: Any, u: int, value: Any) -> None:
        row.store(self.buffers["c"], self.c_at(i, j), u, value)

    def _result(self, row: Row, i: Any, j: Any, u: int, value: Any) -> Any:
        """What is stored, of complete sums."""
        w = self.plan.workload
        operand = lambda op: self._operand(op, row, i, j, u)  # noqa: E731
        value = emit_expression(w.expression, value, operand, row.lanes)
        return narrow(value, w.expression.dtype, str(w.out_dtype))

    def _operand(self, op: Operand, row: Row, i: Any, j: Any, u: int) -> Any:
        buffer = self.buffers["c" if op.name == OUT else op.name]
        computed = accumulator_of(op.dtype, op.dtype)
        if op.axes == ("n",):
            value = row.load(buffer, (j,), u)
        elif op.axes == ("m", "n"):
            value = row.load(buffer, self.c_at(i, j), u)
        else:
            scalar = buffer[i] if op.axes else buffer[index(0)]
            return T.broadcast(widen(scalar, op.dtype, computed), row.lanes)
        return widen(value, op.dtype, computed)
