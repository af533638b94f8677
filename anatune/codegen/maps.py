"""Plan -> TIR of element-wise workloads, folds, scans and softmax, on explicit vectors (rank 5)."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from anatune.codegen.convert import filled, narrow
from anatune.codegen.elementwise import wrapped
from anatune.codegen.map_loops import OUT, ColumnLoops, Loops, get, on_stack, put
from anatune.codegen.scans import ColumnScan, RowScan
from anatune.codegen.transcendental import exp
from anatune.codegen.vectors import Row, index
from anatune.plan.maps import MapPlan
from anatune.workload.dtypes import INTEGER_RANGE
from anatune.workload.maps import FOLDS, SCAN, SOFTMAX

__all__ = ["OUT", "emit_units"]

Combine = Callable[[Any, Any], Any]

COMBINE: dict[str, Combine] = {
    "sum": lambda x, y: x + y if x.ty.dtype.is_float else wrapped(operator.add, x, y),
    "max": lambda x, y: T.max(x, y),
    "min": lambda x, y: T.min(x, y),
}

INFINITY = float("inf")


def emit_units(plan: MapPlan, buffers: Mapping[str, Any], start: Any, stop: Any) -> None:
    """Units ``start`` to ``stop`` of the plan, as one thread computes them.

    ``buffers`` are those of the workload's operands by name, and `OUT`.
    """
    w = plan.workload
    if w.fold == SOFTMAX:
        _Softmax(plan, buffers).rows(start, stop)
    elif w.fold == SCAN and w.over == "m":
        ColumnScan(plan, buffers).chunks(start, stop)
    elif w.fold == SCAN:
        RowScan(plan, buffers).blocks(start, stop)
    elif w.fold in FOLDS and w.over == "m":
        _ColumnFold(plan, buffers).chunks(start, stop)
    elif w.fold in FOLDS:
        _RowFold(plan, buffers).rows(start, stop)
    else:
        _Each(plan, buffers).units(start, stop)


@dataclass(frozen=True)
class _Each(Loops):
    """Element by element: out[i, j] = each(i, j)."""

    def units(self, start: Any, stop: Any) -> None:
        """Chunks, counted through all rows; where a row begins and ends is found once a row."""
        chunks = self.plan.chunks
        if self.plan.extents[0] == 1:
            self._part(index(0), start, stop)
            return
        first = tirx.floordiv(start, chunks)
        with T.serial(0, tirx.floordiv(stop - 1, chunks) + 1 - first) as number:
            i = T.bind(first + number)
            begin = T.bind(T.max(start - i * chunks, index(0)))
            end = T.bind(T.min(stop - i * chunks, index(chunks)))
            self._part(i, begin, end)

    def _part(self, i: Any, begin: Any, end: Any) -> None:
        """Chunks ``begin`` to ``end`` of row ``i``."""
        plan = self.plan
        columns = plan.extents[1]
        whole = columns // plan.chunk
        with T.serial(0, T.max(T.min(end, index(whole)) - begin, index(0))) as number:
            self._chunk(i, (begin + number) * plan.chunk, Row(plan.chunk, plan.lanes))
        if columns % plan.chunk:
            with T.If(end == plan.chunks), T.Then():
                self._chunk(i, index(whole * plan.chunk), Row(columns % plan.chunk, plan.lanes))

    def _chunk(self, i: Any, j: Any, row: Row) -> None:
        values = [T.bind(self.value(row, i, j, u)) for u in range(row.vectors)]
        for u, value in enumerate(values):
            self.store(row, i, j, u, value, self.plan.workload.held)


@dataclass(frozen=True)
class _RowFold(Loops):
    """out[i] = fold over j: ``unroll`` vectors of partial folds, which are folded at the end."""

    def rows(self, start: Any, stop: Any) -> None:
        w, plan = self.plan.workload, self.plan
        one = Row(1, 1)
        with T.serial(0, stop - start) as number:
            i = T.bind(start + number)
            partial = on_stack((plan.unroll, plan.lanes), w.held)
            total = self.folded(partial, i, lambda row, j, u: self.value(row, i, j, u), w.fold)
            result = self.finished(total, one, i, index(0), 0)
            where = i if self.buffers[OUT].shape else index(0)
            narrowed = narrow(result, w.result_dtype, str(w.out_dtype))
            T.buffer_store(self.buffers[OUT], narrowed, [where])

    def folded(
        self, partial: Any, i: Any, value: Callable[[Row, Any, int], Any], fold: str
    ) -> Any:
        """The fold of all values of a row, a number."""
        w, plan = self.plan.workload, self.plan
        combine, lanes = COMBINE[fold], plan.lanes
        neutral = filled(_neutral(fold, w.held), w.held, lanes)
        for u in range(plan.unroll):
            put(partial, u, lanes, neutral)

        def chunk(j: Any, row: Row) -> None:
            for u in range(row.vectors):
                new = value(row, j, u)
                mask = row._mask(u)
                new = new if mask is None else T.Select(mask, new, neutral)
                put(partial, u, lanes, combine(get(partial, u, lanes), new))

        self.along_row(chunk)
        vectors = [get(partial, u, lanes) for u in range(plan.unroll)]
        while len(vectors) > 1:  # pairwise: the chain is short, and so is the error
            vectors = [_pair(combine, vectors[k : k + 2]) for k in range(0, len(vectors), 2)]
        return _across(combine, vectors[0], lanes)


@dataclass(frozen=True)
class _ColumnFold(ColumnLoops):
    """out[j] = fold over i: a chunk of columns stays in registers while rows go by."""

    def columns(self, j: Any, row: Row) -> None:
        w, lanes = self.plan.workload, self.plan.lanes
        combine = COMBINE[w.fold]
        partial = on_stack((row.vectors, lanes), w.held)
        for u in range(row.vectors):
            put(partial, u, lanes, filled(_neutral(w.fold, w.held), w.held, lanes))
        with T.serial(0, index(w.m)) as i:
            for u in range(row.vectors):
                new = self.value(row, i, j, u)
                put(partial, u, lanes, combine(get(partial, u, lanes), new))
        for u in range(row.vectors):
            result = self.finished(get(partial, u, lanes), row, index(0), j, u)
            narrowed = narrow(result, w.result_dtype, str(w.out_dtype))
            row.store(self.buffers[OUT], (j,), u, narrowed)


@dataclass(frozen=True)
class _Softmax(_RowFold):
    """Three runs over a row: its largest value; exponentials and their sum; the shares."""

    def rows(self, start: Any, stop: Any) -> None:
        w, plan = self.plan.workload, self.plan
        lanes = plan.lanes
        kept = T.alloc_buffer((plan.chunks * plan.chunk,), w.held)
        whole = Row(plan.chunk, lanes)
        with T.serial(0, stop - start) as number:
            i = T.bind(start + number)
            partial = on_stack((plan.unroll, lanes), w.held)

            def first(row: Row, j: Any, u: int) -> Any:
                value = T.bind(self.value(row, i, j, u))
                whole.store(kept, (j,), u, value)
                return value

            largest = T.bind(self.folded(partial, i, first, "max"))

            def second(row: Row, j: Any, u: int) -> Any:
                value = T.bind(exp(whole.load(kept, (j,), u) - T.broadcast(largest, lanes)))
                whole.store(kept, (j,), u, value)
                return value

            total = self.folded(partial, i, second, "sum")
            factor = T.bind(T.broadcast(filled(1, w.held, 1) / total, lanes))

            def third(j: Any, row: Row) -> None:
                for u in range(row.vectors):
                    value = whole.load(kept, (j,), u) * factor
                    self.store(row, i, j, u, value, w.held)

            self.along_row(third)


def _pair(combine: Combine, vectors: list[Any]) -> Any:
    return T.bind(combine(*vectors)) if len(vectors) == 2 else vectors[0]


def _across(combine: Combine, vector: Any, lanes: int) -> Any:
    """The fold of a vector's lanes: its halves, their halves, and so on."""
    while lanes > 1:
        half = lanes // 2
        low = tirx.Shuffle([vector], [index(k) for k in range(half)])
        high = tirx.Shuffle([vector], [index(half + k) for k in range(half)])
        vector, lanes = T.bind(combine(low, high)), half
    return vector


def _neutral(fold: str, dtype: str) -> float:
    """What a fold may begin with."""
    if fold == "sum":
        return 0
    low, high = INTEGER_RANGE.get(dtype, (-INFINITY, INFINITY))
    return low if fold == "max" else high
