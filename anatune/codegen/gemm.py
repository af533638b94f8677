"""Plan -> TIR of a GEMM: the five loops around the micro-kernel (rank 5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from anatune.codegen.call import ENTRY, PACK_ENTRY
from anatune.codegen.micro_kernel import TileOperands, emit_micro_kernel
from anatune.codegen.vectors import Row, index
from anatune.plan import GemmPlan, Storage


def lower_gemm(plan: GemmPlan) -> dict[str, tirx.PrimFunc]:
    """The functions of ``plan`` by name.

    ``main(a, b, c)`` computes C = A B. A plan that packs B ahead has ``pack_b(b, packed_b)`` too,
    whose result ``main`` then takes in the place of B.
    """
    w = plan.workload
    shapes: dict[str, tuple[int, ...]] = {**w.operands, "c": w.output}
    if plan.b is not Storage.PACKED_AHEAD:
        return {ENTRY: _function(plan, ENTRY, shapes, _Nest.emit_thread)}
    packed = {"packed_b": plan.packed_ahead_shape}
    main = {"a": shapes["a"], **packed, "c": shapes["c"]}
    pack = {"b": shapes["b"], **packed}
    return {
        ENTRY: _function(plan, ENTRY, main, _Nest.emit_thread),
        PACK_ENTRY: _function(plan, PACK_ENTRY, pack, _Nest.pack_ahead),
    }


def _function(
    plan: GemmPlan,
    name: str,
    shapes: Mapping[str, tuple[int, ...]],
    body: Callable[[_Nest, Any, Any], None],
) -> tirx.PrimFunc:
    """A PrimFunc on buffers of ``shapes`` that runs ``body`` once for each thread of the grid."""
    w = plan.workload
    with IRBuilder() as builder:
        with T.prim_func():
            T.func_name(name)
            T.func_attr({"tirx.noalias": True, "global_symbol": name})
            # Callers' buffers are trusted to be aligned to one element, which numpy's always are.
            buffers = {
                key: T.arg(key, T.buffer([index(e) for e in shape], w.dtype, align=w.element_bytes))
                for key, shape in shapes.items()
            }
            nest = _Nest(plan, **buffers)
            if plan.grid.threads == 1:
                body(nest, index(0), index(0))
            else:
                with T.parallel(0, index(plan.grid.threads)) as thread:
                    columns = plan.grid.columns
                    body(nest, tirx.floordiv(thread, columns), tirx.floormod(thread, columns))
    return builder.get()


@dataclass(frozen=True)
class _Span:
    """The half-open range of rows, columns or k that a loop body covers, and where it lies."""

    start: Any
    stop: Any

    @property
    def length(self) -> Any:
        return self.stop - self.start

    def blocks(self, step: int) -> Any:
        """How many blocks of ``step`` cover the span."""
        return tirx.floordiv(self.length + (step - 1), step)

    def block(self, number: Any, step: int) -> _Span:
        start = T.bind(self.start + number * step)
        return _Span(start, T.bind(T.min(start + step, self.stop)))

    def whole(self, tile: int) -> Any:
        """How many whole tiles fit into the span."""
        return tirx.floordiv(self.length, tile)


@dataclass
class _Nest:
    """The loop nest of one thread; one method a loop, outermost first."""

    plan: GemmPlan
    a: Any = None
    b: Any = None
    c: Any = None
    packed_a: Any = None
    packed_b: Any = None

    def emit_thread(self, grid_row: Any, grid_column: Any) -> None:
        """Rectangle of C of one thread; its packing buffers belong to it alone."""
        plan, w = self.plan, self.plan.workload
        rows = _Span(index(0), index(w.m)).block(grid_row, plan.thread_rows)
        columns = _Span(index(0), index(w.n)).block(grid_column, plan.thread_columns)
        self._allocate()
        with T.serial(0, columns.blocks(plan.blocks.nc)) as jc:
            column_block = columns.block(jc, plan.blocks.nc)
            with T.serial(0, index(plan.k_blocks)) as pc:
                k_block = _Span(index(0), index(w.k)).block(pc, plan.blocks.kc)
                self._emit_panel(rows, column_block, k_block)

    def _allocate(self) -> None:
        plan, tile, blocks = self.plan, self.plan.tile, self.plan.blocks
        dtype = plan.workload.dtype
        if plan.packs_b:
            panels = -(-min(blocks.nc, plan.thread_columns) // tile.nr)
            self.packed_b = T.alloc_buffer((panels, blocks.kc, tile.nr), dtype)
        if plan.a is not Storage.IN_PLACE:
            panels = -(-min(blocks.mc, plan.thread_rows) // tile.mr)
            self.packed_a = T.alloc_buffer((panels, blocks.kc, tile.mr), dtype)

    def _emit_panel(self, rows: _Span, columns: _Span, k: _Span) -> None:
        """A kc x nc panel of B against all rows of the thread."""
        if self.plan.b is Storage.PACKED:
            self._pack_b(columns, k)
        mc = self.plan.blocks.mc
        with T.serial(0, rows.blocks(mc)) as ic:
            row_block = rows.block(ic, mc)
            if self.plan.a is Storage.PACKED:
                self._pack_a(row_block, k)

            def column_of_tiles(jr: Any, row: Row) -> None:
                self._emit_column_of_tiles(row_block, ic, columns, jr, row, k)

            self._for_each_column_tile(columns, column_of_tiles)

    def _for_each_column_tile(self, columns: _Span, body: Any) -> None:
        """Whole tiles in a loop, then the narrow one where the matrix ends inside a tile."""
        tile, w = self.plan.tile, self.plan.workload
        whole = columns.whole(tile.nr)
        with T.serial(0, whole) as jr:
            body(jr, Row(tile.nr, tile.lanes, w.dtype))
        if self.plan.edge_columns:
            with T.If(columns.stop == w.n), T.Then():
                body(whole, Row(self.plan.edge_columns, tile.lanes, w.dtype))

    def _emit_column_of_tiles(
        self, rows: _Span, ic: Any, columns: _Span, jr: Any, row: Row, k: _Span
    ) -> None:
        """All tiles of one row block that share a micro-panel of B."""
        mr = self.plan.tile.mr
        whole = rows.whole(mr)
        column = columns.start + jr * self.plan.tile.nr

        def tile(ir: Any, height: int, first_use: bool) -> None:
            self._emit_tile(rows.start + ir * mr, ir, height, column, jr, row, k, first_use)

        def tiles(start: Any, first_use: bool) -> None:
            with T.serial(start, whole) as ir:
                tile(ir, mr, first_use)

        def edge(condition: Any, first_use: bool) -> None:
            if self.plan.edge_rows:
                with T.If(tirx.all(rows.stop == self.plan.workload.m, condition)), T.Then():
                    tile(whole, self.plan.edge_rows, first_use)

        always = tirx.const(True)
        if self.plan.b is not Storage.PACKED_ON_FIRST_USE:
            tiles(index(0), False)
            edge(always, False)
            return
        fresh = T.bind(ic == 0)
        with T.If(tirx.all(fresh, whole > 0)), T.Then():
            tile(index(0), mr, True)
        tiles(T.Select(fresh, index(1), index(0)), False)
        if self.plan.last_thread_has_only_an_edge:
            alone = tirx.all(fresh, whole == 0)
            edge(alone, True)
            edge(tirx.Not(alone), False)
        else:
            edge(always, False)

    def _emit_tile(
        self, i: Any, ir: Any, height: int, j: Any, jr: Any, row: Row, k: _Span, first_use: bool
    ) -> None:
        plan, lanes = self.plan, self.plan.tile.lanes
        if plan.a is Storage.PACKED:
            read_a = lambda x, p: self.packed_a[ir, p, x]  # noqa: E731
        else:
            read_a = lambda x, p: self.a[i + x, k.start + p]  # noqa: E731
        whole_row = Row(plan.tile.nr, lanes, row.dtype)
        panel = self._packed_panel(j, jr, k)
        if plan.b is Storage.IN_PLACE or first_use:
            read_b = lambda p, u: row.load(self.b, (k.start + p, j), u)  # noqa: E731
        else:
            read_b = lambda p, u: whole_row.load(self.packed_b, (*panel, p, 0), u)  # noqa: E731
        keep_b = lambda p, u, v: whole_row.store(self.packed_b, (*panel, p, 0), u, v)  # noqa: E731
        prefetch_c = lambda x, u: row.prefetch(self.c, (i + x, j), u)  # noqa: E731
        operands = TileOperands(
            a=read_a,
            b=read_b,
            c=lambda x, u: row.load(self.c, (i + x, j), u),
            store_c=lambda x, u, value: row.store(self.c, (i + x, j), u, value),
            prefetch_c=prefetch_c if plan.prefetch_c else None,
            keep_b=keep_b if first_use else None,
        )
        first = True if plan.k_blocks == 1 else k.start == 0
        emit_micro_kernel(height, row, k.length, first, operands)

    def _packed_panel(self, j: Any, jr: Any, k: _Span) -> tuple[Any, ...]:
        """Subscripts of the packed micro-panel at column ``j``, number ``jr`` of its block."""
        if self.plan.b is not Storage.PACKED_AHEAD:
            return (jr,)
        return (tirx.floordiv(k.start, self.plan.blocks.kc), tirx.floordiv(j, self.plan.tile.nr))

    def pack_ahead(self, grid_row: Any, grid_column: Any) -> None:
        """All of B, by the threads of the grid's first row, each its columns."""
        plan, w = self.plan, self.plan.workload
        columns = _Span(index(0), index(w.n)).block(grid_column, plan.thread_columns)
        with T.If(grid_row == 0), T.Then():
            with T.serial(0, index(plan.k_blocks)) as pc:
                self._pack_b(columns, _Span(index(0), index(w.k)).block(pc, plan.blocks.kc))

    def _pack_b(self, columns: _Span, k: _Span) -> None:
        """B[k, columns] -> packed_b[panel][p][nr]; absent columns of the last panel become 0."""
        tile, dtype = self.plan.tile, self.plan.workload.dtype
        whole_row = Row(tile.nr, tile.lanes, dtype)

        def pack(jr: Any, row: Row) -> None:
            column = columns.start + jr * tile.nr
            panel = self._packed_panel(column, jr, k)
            with T.serial(0, k.length) as p:
                for u in range(row.vectors):
                    value = row.load(self.b, (k.start + p, column), u)
                    whole_row.store(self.packed_b, (*panel, p, 0), u, value)

        self._for_each_column_tile(columns, pack)

    def _pack_a(self, rows: _Span, k: _Span) -> None:
        """A[rows, k] -> packed_a[tile][p][mr]; the edge tile fills only its own height."""
        mr, w = self.plan.tile.mr, self.plan.workload

        def pack(ir: Any, height: int) -> None:
            with T.serial(0, k.length) as p:
                for x in range(height):
                    value = self.a[rows.start + ir * mr + x, k.start + p]
                    T.buffer_store(self.packed_a, value, [ir, p, x])

        whole = rows.whole(mr)
        with T.serial(0, whole) as ir:
            pack(ir, mr)
        if self.plan.edge_rows:
            with T.If(rows.stop == w.m), T.Then():
                pack(whole, self.plan.edge_rows)
