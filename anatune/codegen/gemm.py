"""Plan -> TIR of a GEMM: threads, blocks, packing and tiles around the micro-kernel (rank 5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from anatune.codegen.arithmetic import imported
from anatune.codegen.call import ENTRY, PACK_ENTRY
from anatune.codegen.convert import stored
from anatune.codegen.packing import Panel, Source, mend_offsets, pack_panel
from anatune.codegen.results import Results
from anatune.codegen.sizes import Sizes
from anatune.codegen.span import Span, Tile, ceildiv
from anatune.codegen.tiles import Tiles
from anatune.codegen.vectors import Row, index
from anatune.plan import GemmPlan, Storage
from anatune.plan.nouns import DIMS
from anatune.workload import Tensor

Buffers = Mapping[str, Any]

STRIP_ROWS = 32
"""Rows of B that are packed for all panels before the next: lines that two panels share are still
in L1 when the second one comes, and prefetchers see rows go by. A multiple of every group."""


def lower_gemm(plan: GemmPlan) -> dict[str, tirx.PrimFunc]:
    """The functions of ``plan`` by name.

    ``main(a, b, ..., c)`` computes C; between B and C come the operands of the epilogue. A plan
    that packs B ahead has ``pack_b(b, packed_b)`` too, whose result ``main`` then takes in the
    place of B.
    """
    w, sizes = plan.workload, Sizes(plan)
    inputs = dict(w.operands)
    packs = {}
    if plan.b is Storage.PACKED_AHEAD:
        packed = {"packed_b": Tensor.rows(plan.packed_ahead_shape, plan.multiply.b)}
        pack = {"b": inputs.pop("b"), **packed}
        emit = lambda buffers: emit_pack_ahead(sizes, buffers)  # noqa: E731
        packs[PACK_ENTRY] = function(PACK_ENTRY, pack, [plan], buffer_of, emit)
        inputs = {"a": inputs.pop("a"), **packed, **inputs}
    main = {**inputs, "c": w.output}
    compute = lambda buffers: emit_product(sizes, buffers)  # noqa: E731
    return {ENTRY: function(ENTRY, main, [plan], buffer_of, compute), **packs}


def function(
    name: str,
    tensors: Mapping[str, Tensor],
    plans: Sequence[GemmPlan],
    buffer: Callable[[Tensor], Any],
    body: Callable[[Buffers], None],
) -> tirx.PrimFunc:
    """A PrimFunc on a ``buffer`` for each of ``tensors`` that runs ``body``, made of ``plans``."""
    with IRBuilder() as builder:
        with T.prim_func():
            T.func_name(name)
            T.func_attr({"tirx.noalias": True, "global_symbol": name})
            buffers = {key: T.arg(key, buffer(tensor)) for key, tensor in tensors.items()}
            with ExitStack() as scopes:
                for multiply, lanes in {(p.multiply, p.tile.lanes): None for p in plans}:
                    scopes.enter_context(imported(multiply, lanes))
                body(buffers)
    return builder.get()


def buffer_of(tensor: Tensor) -> Any:
    """Callers' buffers are trusted to be aligned to one element, which numpy's always are."""
    apart = {} if tensor.compact else {"strides": [index(s) for s in tensor.strides]}
    shape = [index(extent) for extent in tensor.shape or (1,)]
    return T.buffer(shape, stored(tensor.dtype), align=tensor.element_bytes, **apart)


def emit_product(sizes: Sizes, buffers: Buffers) -> None:
    """The loops of a plan over ``buffers``, by name of the operand."""
    plan, sums = sizes.plan, None
    if plan.grid.depth > 1:
        batch, m, n = (sizes.extent(dim) for dim in ("batch", "m", "n"))
        sums = T.alloc_buffer((batch, plan.grid.depth, m, n), plan.workload.accumulator)
    _on_all_threads(sizes, lambda place: _Thread(sizes, buffers, place, sums).run())
    if sums is not None:
        with T.serial(0, sizes.extent("batch")) as item:
            Results(sizes, buffers, item, sums).add_up()


def emit_pack_ahead(sizes: Sizes, buffers: Buffers) -> None:
    """All of B: each thread packs its columns and steps, those of the grid's first row do."""

    def pack(place: _Place) -> None:
        with T.If(place.first_of_rows), T.Then():
            _Thread(sizes, buffers, place, None).pack_ahead()

    _on_all_threads(sizes, pack)


@dataclass(frozen=True)
class _Place:
    """What is one thread's: products of the batch, and spans of C and of k by dimension."""

    items: Span
    spans: Mapping[str, Span]
    first_of_rows: Any


def _on_all_threads(sizes: Sizes, body: Callable[[_Place], None]) -> None:
    grid = sizes.plan.grid
    if grid.threads == 1:
        body(_place(sizes, index(0), index(0), index(0), index(0)))
        return
    with T.parallel(0, index(grid.threads)) as thread:
        column, thread = tirx.floormod(thread, grid.columns), tirx.floordiv(thread, grid.columns)
        row, thread = tirx.floormod(thread, grid.rows), tirx.floordiv(thread, grid.rows)
        part, batch = tirx.floormod(thread, grid.depth), tirx.floordiv(thread, grid.depth)
        body(_place(sizes, row, column, part, batch))


def _place(sizes: Sizes, row: Any, column: Any, part: Any, batch: Any) -> _Place:
    numbers = {"m": row, "n": column, "k": part}
    return _Place(
        items=sizes.share("batch", batch),
        spans={dim: sizes.share(dim, number) for dim, number in numbers.items()},
        first_of_rows=row == 0,
    )


@dataclass
class _Thread:
    """The loop nest of one thread, outermost first; its packing buffers belong to it alone."""

    sizes: Sizes
    buffers: Buffers
    place: _Place
    sums: Any  # of all threads, where they share the sums of C
    packed: dict[str, Any] = field(default_factory=dict)  # by operand, "A" and "B"

    @property
    def plan(self) -> GemmPlan:
        return self.sizes.plan

    def run(self) -> None:
        self._allocate()
        with T.serial(0, self.place.items.length) as number:
            item = T.bind(self.place.items.start + number)
            self._blocks(item, self.place.spans, 0)

    def _allocate(self) -> None:
        plan, blocks = self.plan, self.plan.blocks
        g, tile = plan.multiply.group, plan.tile
        groups = -(-blocks.kc // g)
        if plan.packs_b:
            shape = (self.sizes.tiles("n"), plan.panel_rows, tile.nr * g)
            self.packed["B"] = T.alloc_buffer(shape, stored(plan.multiply.b))
        elif plan.b is Storage.PACKED_AHEAD:
            self.packed["B"] = self.buffers["packed_b"]
        if plan.a is Storage.PACKED:
            shape = (self.sizes.tiles("m"), groups + plan.slack_steps, tile.mr * g)
            self.packed["A"] = T.alloc_buffer(shape, stored(plan.multiply.a))
        if self.sizes.keeps_sums_apart and plan.grid.depth == 1:
            rows, columns = self.place.spans["m"].length, self.place.spans["n"].length
            rows = plan.thread_extent("m") if self.sizes.is_fixed("m") else rows
            columns = plan.thread_extent("n") if self.sizes.is_fixed("n") else columns
            columns = ceildiv(columns, tile.lanes) * tile.lanes
            self.sums = T.alloc_buffer((rows, columns), plan.workload.accumulator)

    def _blocks(self, item: Any, spans: Mapping[str, Span], level: int) -> None:
        """The loops over cache blocks; an operand is packed as soon as its block is known."""
        order = self.plan.order
        if level == len(order.outer):
            self._tiles(item, spans).run()
            if self.plan.finishes_blocks:
                self._finish_block(item, spans)
            return
        dim = order.outer[level]

        def inside(block: Span) -> None:
            within = {**spans, dim: block}
            for operand, dims in DIMS.items():
                if max(order.outer.index(d) for d in dims) == level:
                    self._pack(operand, item, within)
            self._blocks(item, within, level + 1)

        if self.sizes.is_one_block(dim):
            inside(Span(spans[dim].start, spans[dim].stop, index(0)))
            return
        step = self.sizes.step(dim, spans[dim])
        with T.serial(0, spans[dim].blocks(step)) as number:
            inside(spans[dim].block(number, step))

    def _finish_block(self, item: Any, spans: Mapping[str, Span]) -> None:
        complete = spans["k"].stop == self.sizes.extent("k")
        with T.If(complete), T.Then():  # one that always holds is gone when TVM has simplified
            self._results(item).finish_block(spans["m"], spans["n"])

    def _tiles(self, item: Any, spans: Mapping[str, Span]) -> Tiles:
        return Tiles(
            sizes=self.sizes,
            sources={name: self._source(name, item) for name in "AB"},
            packed=self.packed,
            panel_of_b=lambda columns: self._panel_of_b(item, spans, columns),
            pack_panel_of_b=lambda columns: self._pack_columns(item, spans, columns, spans["k"]),
            results=self._results(item),
            spans=spans,
            thread=self.place.spans,
        )

    def _results(self, item: Any) -> Results:
        m, n = self.place.spans["m"], self.place.spans["n"]
        part = self.place.spans["k"].number

        def at(i: Any, j: Any) -> tuple[Any, ...]:
            return (item, part, i, j) if self.plan.grid.depth > 1 else (i - m.start, j - n.start)

        return Results(self.sizes, self.buffers, item, self.sums, at)

    def _source(self, operand: str, item: Any) -> Source:
        """A or B of one product as its owner stored it."""
        w, multiply = self.plan.workload, self.plan.multiply
        first = operand == "A"
        one = self.sizes.one_product or (w.broadcast_a if first else w.broadcast_b)
        product = () if one else (item,)
        along_k = w.trans_b if not first else not w.trans_a

        def where(column: Any, step: Any) -> tuple[Any, ...]:
            return (*product, column, step) if along_k else (*product, step, column)

        return Source(
            buffer=self.buffers.get(operand.lower()),
            where=where,
            rows_along_k=along_k,
            held=w.dtype if first else str(w.dtype_b),
            taken=multiply.a if first else multiply.b,
            offset=self.plan.offset_a if first else 0,
            group=multiply.group,
        )

    def _pack(self, operand: str, item: Any, spans: Mapping[str, Span]) -> None:
        if operand == "A" and self.plan.a is Storage.PACKED:
            self._pack_a(item, spans)
        if operand == "B" and self.plan.b is Storage.PACKED:
            self._pack_b(item, spans)

    def _pack_a(self, item: Any, spans: Mapping[str, Span]) -> None:
        mr, lanes = self.plan.tile.mr, self.plan.tile.lanes
        source, k = self._source("A", item), spans["k"]

        def pack(rows: Tile) -> None:
            panel = Panel(self.packed["A"], (rows.number,), mr)
            self._fill(source, panel, Row(rows.size, lanes), rows.start, k)

        self.sizes.each_tile("m", spans["m"], pack)

    def _pack_b(self, item: Any, spans: Mapping[str, Span]) -> None:
        """Strip by strip of k, all panels of a strip in turn; then the sums that mend offsets."""
        k = spans["k"]
        strip = self.plan.blocks.kc if self._source("B", item).rows_along_k else STRIP_ROWS
        with T.serial(0, k.blocks(strip)) as number:
            part = k.block(number, strip)
            self.sizes.each_tile(
                "n", spans["n"], lambda columns: self._pack_columns(item, spans, columns, part)
            )
        if self.plan.offset_a:
            self.sizes.each_tile(
                "n", spans["n"],
                lambda columns: mend_offsets(
                    self.plan, self._panel_of_b(item, spans, columns), k.length
                ),
            )  # fmt: skip

    def _pack_columns(
        self, item: Any, spans: Mapping[str, Span], columns: Tile, part: Span
    ) -> None:
        """The steps ``part`` of one micro-panel of B."""
        source = self._source("B", item)
        done = tirx.floordiv(part.start - spans["k"].start, self.plan.multiply.group)
        panel = self._panel_of_b(item, spans, columns).after(done)
        row = Row(columns.size, self.plan.tile.lanes, columns.last)
        self._fill(source, panel, row, columns.start, part)

    def _fill(self, source: Source, panel: Panel, row: Row, column: Any, k: Span) -> None:
        pack_panel(source, panel, row, column, k.start, k.length, self.sizes.edge_steps)

    def _panel_of_b(self, item: Any, spans: Mapping[str, Span], columns: Tile) -> Panel:
        """The packed micro-panel of these columns."""
        plan, w = self.plan, self.plan.workload
        at: tuple[Any, ...] = (columns.number,)
        if plan.b is Storage.PACKED_AHEAD:
            product = index(0) if self.sizes.one_product or w.broadcast_b else item
            slices = self.place.spans["k"].number * plan.k_blocks if plan.grid.depth > 1 else 0
            at = (product, slices + spans["k"].number, tirx.floordiv(columns.start, plan.tile.nr))
        return Panel(self.packed["B"], at, plan.tile.nr, int(bool(plan.offset_a)))

    def pack_ahead(self) -> None:
        """All of B that is this thread's."""
        self.packed["B"] = self.buffers["packed_b"]
        w, spans = self.plan.workload, self.place.spans
        once = self.sizes.one_product or w.broadcast_b
        items = Span.whole(1) if once else self.place.items
        with T.serial(0, items.length) as number:
            item = items.start + number
            with T.serial(0, spans["k"].blocks(self.plan.blocks.kc)) as pc:
                self._pack_b(item, {**spans, "k": spans["k"].block(pc, self.plan.blocks.kc)})
