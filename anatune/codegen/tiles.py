"""The loops over register tiles inside a cache block, and what each tile reads (rank 5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from anatune.codegen.arithmetic import GROUP_DTYPE, accumulate
from anatune.codegen.external import address, call, imported_code
from anatune.codegen.micro_kernel import (
    StreamOperands,
    Tail,
    TileOperands,
    emit_with_a_in_registers,
    emit_with_b_in_registers,
    emit_with_c_in_registers,
)
from anatune.codegen.packing import Panel, Source, group_of
from anatune.codegen.results import Results
from anatune.codegen.sizes import Covered, Sizes
from anatune.codegen.span import Span, Tile
from anatune.codegen.vectors import ON_STACK, Row, index
from anatune.plan import ExternalKernel, GemmPlan, Storage


@dataclass(frozen=True)
class Tiles:
    """One cache block: ``spans`` of rows, columns and steps, out of the thread's own ``thread``."""

    sizes: Sizes
    sources: Mapping[str, Source]
    packed: Mapping[str, Any]
    panel_of_b: Callable[[Tile], Panel]
    pack_panel_of_b: Callable[[Tile], None]
    results: Results
    spans: Mapping[str, Span]
    thread: Mapping[str, Span]

    @property
    def plan(self) -> GemmPlan:
        return self.sizes.plan

    def run(self) -> None:
        {"C": self._c_stays, "A": self._a_stays, "B": self._b_stays}[self.plan.order.in_registers]()

    def _each(self, dim: str, body: Callable[[Tile], None]) -> None:
        """``body`` for the tiles along one dimension."""
        self.sizes.each_tile(dim, self.spans[dim], body)

    def _row(self, columns: Tile) -> Row:
        return Row(columns.size, self.plan.tile.lanes, columns.last)

    def _multiply(self, sums: Any, a: Any, b: Any) -> Any:
        return accumulate(self.plan.multiply, sums, a, b, self.plan.tile.lanes)

    # C in registers: the micro-kernel runs along k.

    def _c_stays(self) -> None:
        if self.plan.order.inner[0] == "m":
            self._each("m", lambda rows: self._each("n", lambda cols: self._c_tile(rows, cols)))
        elif self.plan.b is not Storage.PACKED_ON_FIRST_USE:
            self._each("n", lambda cols: self._each("m", lambda rows: self._c_tile(rows, cols)))
        elif self.plan.cover("m") is not None:
            self._each("n", self._covered_column_that_packs)
        else:
            self._each("n", self._column_that_packs)

    def _covered_column_that_packs(self, columns: Tile) -> None:
        """All tiles that share a micro-panel of B: the first whole one packs it as it reads it.

        Where there is no whole one, too few rows are there to be worth code of their own.
        """
        cover, rows = self.plan.cover("m"), self.spans["m"]
        assert cover is not None
        covered = Covered.of(cover, rows)
        fresh = T.bind(rows.number == 0)
        with T.If(fresh), T.Then():
            with T.If(covered.whole > 0):
                with T.Then():
                    self._c_tile(covered.whole_tile(index(0)), columns, True)
                with T.Else():
                    self.pack_panel_of_b(columns)
        first = T.Select(fresh, index(1), index(0))
        covered.each_whole(lambda tile: self._c_tile(tile, columns), first)
        covered.each_piece(lambda tile: self._c_tile(tile, columns))

    def _column_that_packs(self, columns: Tile) -> None:
        """All tiles that share a micro-panel of B, which the first of them all packs."""
        mr, rows = self.plan.tile.mr, self.spans["m"]
        whole = rows.whole_tiles(mr)
        fresh = T.bind(rows.number == 0)

        def tile(number: Any, height: int) -> Tile:
            return Tile(number, rows.start + number * mr, height)

        def edge(condition: Any, first_use: bool) -> None:
            if self.plan.edge_rows:
                with T.If(tirx.all(rows.stop == self.plan.workload.m, condition)), T.Then():
                    self._c_tile(tile(whole, self.plan.edge_rows), columns, first_use)

        with T.If(tirx.all(fresh, whole > 0)), T.Then():
            self._c_tile(tile(index(0), mr), columns, True)
        with T.serial(T.Select(fresh, index(1), index(0)), whole) as ir:
            self._c_tile(tile(ir, mr), columns)
        if self.plan.last_thread_has_only_an_edge:
            alone = tirx.all(fresh, whole == 0)
            edge(alone, True)
            edge(tirx.Not(alone), False)
        else:
            edge(tirx.const(True), False)

    def _c_tile(self, rows: Tile, columns: Tile, first_use: bool = False) -> None:
        plan, row = self.plan, self._row(columns)
        i, height, k = rows.start, rows.size, self.spans["k"]
        j, g, whole_row = columns.start, plan.multiply.group, Row(plan.tile.nr, plan.tile.lanes)
        panel = self._panel(columns)
        whole = (height, columns.size) == (plan.tile.mr, plan.tile.nr) and columns.last is None
        if plan.micro_kernel is not None and whole:
            self._external_tile(plan.micro_kernel, rows, columns, panel)
            return

        def start(u: int) -> Any:
            if plan.offset_a and panel is not None:
                *outer, _ = panel.sums_at()
                where = (*outer, T.ramp(index(u * row.lanes * g), 1, row.lanes * g))
                bits = panel.buffer[where]
                return T.reinterpret(f"int32x{row.lanes}", bits)
            return T.broadcast(tirx.const(0, plan.workload.accumulator), row.lanes)

        def keep(q: Any, u: int, value: Any) -> None:
            assert panel is not None
            wide = Row(whole_row.columns * g, whole_row.lanes * g)
            wide.store(panel.buffer, panel.element(q, 0), u, value)

        def finish(sums: Callable[[int, int], Any]) -> None:
            self._put_away(i, height, j, row, sums)

        operands = TileOperands(
            multiply=self._multiply,
            a=lambda x, q: self._group_of_a(rows, x, q),
            b=lambda q, u: self._b_vector(panel, row, j, q, u, fresh=first_use),
            start=start,
            finish=finish,
            prefetch_c=(lambda x, u: self.results.prefetch(row, i + x, j, u))
            if plan.prefetch_c else None,
            keep_b=keep if first_use else None,
        )
        groups = tirx.floordiv(k.length, g) if g > 1 else k.length
        tail = self._tail(i, groups)
        if tail is None and g > 1:
            groups = tirx.floordiv(k.length + (g - 1), g)
        emit_with_c_in_registers(height, row, groups, plan.workload.accumulator, operands, tail)

    def _external_tile(
        self, kernel: ExternalKernel, rows: Tile, columns: Tile, panel: Panel | None
    ) -> None:
        """A whole tile by an external micro-kernel, in C itself or beside it."""
        assert panel is not None
        k, tile = self.spans["k"], self.plan.tile
        i, j = rows.start, columns.start
        a = address(self.packed["A"], rows.number, index(0), index(0))
        b = address(panel.buffer, *panel.element(index(0), 0))
        with imported_code(kernel):
            if self.plan.sums_go_to_c:
                c = address(self.results.buffers["c"], *self.results.c_at(i, j))
                more = k.start > self.thread["k"].start
                call(kernel, k.length, a, b, c, self.sizes.leading_of_c, more)
                return
            dtype = self.plan.workload.accumulator
            beside = T.alloc_buffer((tile.mr, tile.nr), dtype, scope="local", annotations=ON_STACK)
            c = address(beside, index(0), index(0))
            call(kernel, k.length, a, b, c, tile.nr, index(0))
        row = self._row(columns)
        self._put_away(i, tile.mr, j, row, lambda x, u: row.load(beside, (x, index(0)), u))

    def _tail(self, i: Any, groups: Any) -> Tail | None:
        """The incomplete group at the end of k of an A that is read in place."""
        g, k = self.plan.multiply.group, self.spans["k"]
        if not self.sizes.edge_steps or g == 1 or self.plan.a is Storage.PACKED:
            return None
        (steps,) = self.sizes.edge_steps  # a k that varies has A packed where g > 1
        source = self.sources["A"]

        def a(x: int) -> Any:
            return self._spread(group_of(source, i + x, k.start + groups * g, steps))

        return Tail(groups * g < k.length, a)

    def _put_away(
        self, i: Any, height: int, j: Any, row: Row, sums: Callable[[int, int], Any]
    ) -> None:
        k = self.spans["k"]

        def emit(first: bool, last: bool) -> None:
            if last and self.results.is_long:
                self._put_away_row_by_row(i, height, j, row, sums, first)
                return
            for x in range(height):
                for u in range(row.vectors):
                    self.results.store(row, i + x, j, u, sums(x, u), first, last)

        first = k.start == self.thread["k"].start
        self.results.by_turn(first, k.stop == self.sizes.extent("k"), emit)

    def _put_away_row_by_row(
        self, i: Any, height: int, j: Any, row: Row, sums: Callable[[int, int], Any], first: bool
    ) -> None:
        """The same in a loop, by way of memory: a long epilogue is there once, not mr times."""
        lanes, dtype = T.ramp(0, 1, row.lanes), self.plan.workload.accumulator
        shape = (height, row.vectors, row.lanes)
        kept = T.alloc_buffer(shape, dtype, scope="local", annotations=ON_STACK)
        for x in range(height):
            for u in range(row.vectors):
                T.buffer_store(kept, sums(x, u), [x, u, lanes])
        with T.serial(0, index(height)) as x:
            for u in range(row.vectors):
                self.results.store(row, i + x, j, u, kept[x, u, lanes], first, True)

    # A or B in registers: the micro-kernel runs along n or m, C passes by.

    def _a_stays(self) -> None:
        """Tiles of mr x kr elements of A, each broadcast; micro-kernel along n."""
        first, _ = self.plan.order.inner
        if first == "m":
            self._each("m", lambda rows: self._each("k", lambda steps: self._a_tile(rows, steps)))
        else:
            self._each("k", lambda steps: self._each("m", lambda rows: self._a_tile(rows, steps)))

    def _a_tile(self, rows: Tile, steps: Tile) -> None:
        p = steps.start - self.spans["k"].start

        def emit(first: bool, last: bool) -> None:
            def tile(columns: Tile, row: Row) -> StreamOperands:
                return self._stream(rows, columns, p, first, last)

            def along_n(body: Callable[[Tile, Row], None]) -> None:
                self._each("n", lambda columns: body(columns, self._row(columns)))

            a = lambda x, t: self._group_of_a(rows, x, p + t)  # noqa: E731
            emit_with_a_in_registers(rows.size, steps.size, along_n, tile, a)

        self._by_steps(p, steps.size, emit)

    def _b_stays(self) -> None:
        """Tiles of kr x nr elements of B, in vectors; micro-kernel along m."""
        first, _ = self.plan.order.inner
        if first == "n":
            self._each("n", lambda cols: self._each("k", lambda steps: self._b_tile(cols, steps)))
        else:
            self._each("k", lambda steps: self._each("n", lambda cols: self._b_tile(cols, steps)))

    def _b_tile(self, columns: Tile, steps: Tile) -> None:
        row, p = self._row(columns), steps.start - self.spans["k"].start
        panel = self._panel(columns)

        def emit(first: bool, last: bool) -> None:
            def tile(rows: Tile) -> StreamOperands:
                return self._stream(rows, columns, p, first, last)

            def along_m(body: Callable[[Tile, int], None]) -> None:
                self._each("m", lambda rows: body(rows, rows.size))

            b = lambda t, u: self._b_vector(panel, row, columns.start, p + t, u)  # noqa: E731
            emit_with_b_in_registers(row, steps.size, along_m, tile, b)

        self._by_steps(p, steps.size, emit)

    def _by_steps(self, p: Any, steps: int, emit: Callable[[bool, bool], None]) -> None:
        """``emit`` for the first, the last or a middle tile along k."""
        k = self.spans["k"]
        first = tirx.all(k.start == self.thread["k"].start, p == 0)
        self.results.by_turn(first, k.start + p + steps == self.sizes.extent("k"), emit)

    def _stream(
        self, rows: Tile, columns: Tile, p: Any, first: bool, last: bool
    ) -> StreamOperands:
        row, i, j = self._row(columns), rows.start, columns.start
        panel = self._panel(columns)
        zero = tirx.const(0, self.plan.workload.accumulator)

        def c(x: int, u: int) -> Any:
            if first:
                return T.broadcast(zero, row.lanes)
            return self.results.so_far(row, i + x, j, u)

        return StreamOperands(
            multiply=self._multiply,
            a=lambda x, t: self._group_of_a(rows, x, p + t),
            b=lambda t, u: self._b_vector(panel, row, j, p + t, u),
            c=c,
            store_c=lambda x, u, s: self.results.replace(row, i + x, j, u, s, last),
        )

    # What tiles read.

    def _panel(self, columns: Tile) -> Panel | None:
        return None if self.plan.b is Storage.IN_PLACE else self.panel_of_b(columns)

    def _group_of_a(self, rows: Tile, x: int, q: Any) -> Any:
        """Group number ``q`` of row ``x`` of the tile, for all lanes."""
        g, k = self.plan.multiply.group, self.spans["k"]
        if self.plan.a is Storage.PACKED:
            where = (rows.number, q, T.ramp(index(x * g), 1, g) if g > 1 else index(x))
            return self._spread(self.packed["A"][where])
        return self._spread(self.sources["A"].group_at(rows.start + x, k.start + q * g))

    def _spread(self, group: Any) -> Any:
        if self.plan.multiply.group > 1:
            group = T.reinterpret(GROUP_DTYPE, group)
        return T.broadcast(group, self.plan.tile.lanes)

    def _b_vector(
        self, panel: Panel | None, row: Row, j: Any, q: Any, u: int, fresh: bool = False
    ) -> Any:
        """Vector number ``u`` of group ``q`` of B, from its panel once that is packed."""
        g, k = self.plan.multiply.group, self.spans["k"]
        if panel is None or fresh:
            return self.sources["B"].vectors_at(row, j, k.start + q * g, u, g)
        whole = Row(panel.width * g, row.lanes * g)
        return whole.load(panel.buffer, panel.element(q, 0), u)
