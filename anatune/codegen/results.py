"""Where sums go: into C, through the epilogue, or aside until they are complete (rank 5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tvm.tirx.script import builder as T

from anatune.codegen.convert import narrow, widen
from anatune.codegen.elementwise import emit as emit_expression
from anatune.codegen.sizes import Sizes
from anatune.codegen.vectors import Row, index
from anatune.plan import GemmPlan
from anatune.workload.dtypes import accumulator_of
from anatune.workload.expression import OUT, Operand


LONG_EPILOGUE = 8
"""Operations per vector from which an epilogue is a loop over rows: unrolled over a whole tile it
would outgrow the L1 instruction cache, and take LLVM seconds."""


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
        """Whether the epilogue is so long that its code should be there but once a tile."""
        return self.plan.workload.expression.operations > LONG_EPILOGUE

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
        whole = self.plan.workload.stores_sums or self.plan.grid.depth > 1

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

    def _load_c(self, row: Row, i: Any, j: Any, u: int) -> Any:
        return row.load(self.buffers["c"], self.c_at(i, j), u)

    def _finish(self, row: Row, i: Any, j: Any, u: int, value: Any) -> None:
        w = self.plan.workload
        if not w.stores_sums:
            operand = lambda op: self._operand(op, row, i, j, u)  # noqa: E731
            value = emit_expression(w.expression, value, operand, row.lanes)
            value = narrow(value, w.expression.dtype, str(w.out_dtype))
        row.store(self.buffers["c"], self.c_at(i, j), u, value)

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
