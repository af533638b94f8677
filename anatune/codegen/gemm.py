"""Plan -> TIR of a GEMM: threads, blocks, packing and tiles around the micro-kernel (rank 5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from anatune.codegen.span import Span
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
    w = plan.workload
    inputs = dict(w.operands)
    if plan.b is not Storage.PACKED_AHEAD:
        return {ENTRY: _function(plan, ENTRY, {**inputs, "c": w.output}, _compute)}
    packed = {"packed_b": Tensor.rows(plan.packed_ahead_shape, plan.multiply.b)}
    pack = {"b": inputs.pop("b"), **packed}
    main = {"a": inputs.pop("a"), **packed, **inputs, "c": w.output}
    return {
        ENTRY: _function(plan, ENTRY, main, _compute),
        PACK_ENTRY: _function(plan, PACK_ENTRY, pack, _pack_ahead),
    }


def _function(
    plan: GemmPlan,
    name: str,
    tensors: Mapping[str, Tensor],
    body: Callable[[GemmPlan, Buffers], None],
) -> tirx.PrimFunc:
    """A PrimFunc on buffers like ``tensors`` that runs ``body``."""
    with IRBuilder() as builder:
        with T.prim_func():
            T.func_name(name)
            T.func_attr({"tirx.noalias": True, "global_symbol": name})
            buffers = {key: T.arg(key, _buffer(tensor)) for key, tensor in tensors.items()}
            with imported(plan.multiply, plan.tile.lanes):
                body(plan, buffers)
    return builder.get()


def _buffer(tensor: Tensor) -> Any:
    """Callers' buffers are trusted to be aligned to one element, which numpy's always are."""
    apart = {} if tensor.compact else {"strides": [index(s) for s in tensor.strides]}
    shape = [index(extent) for extent in tensor.shape or (1,)]
    return T.buffer(shape, stored(tensor.dtype), align=tensor.element_bytes, **apart)


def _compute(plan: GemmPlan, buffers: Buffers) -> None:
    """All of C."""
    w, sums = plan.workload, None
    if plan.grid.depth > 1:
        sums = T.alloc_buffer((w.batch, plan.grid.depth, w.m, w.n), w.accumulator)
    _on_all_threads(plan, lambda place: _Thread(plan, buffers, place, sums).run())
    if sums is not None:
        with T.serial(0, index(w.batch)) as item:
            Results(plan, buffers, item, sums).add_up()


def _pack_ahead(plan: GemmPlan, buffers: Buffers) -> None:
    """All of B: each thread packs its columns and steps, those of the grid's first row do."""

    def pack(place: _Place) -> None:
        with T.If(place.first_of_rows), T.Then():
            _Thread(plan, buffers, place, None).pack_ahead()

    _on_all_threads(plan, pack)


@dataclass(frozen=True)
class _Place:
    """What is one thread's: products of the batch, and spans of C and of k by dimension."""

    items: Span
    spans: Mapping[str, Span]
    first_of_rows: Any


def _on_all_threads(plan: GemmPlan, body: Callable[[_Place], None]) -> None:
    grid = plan.grid
    if grid.threads == 1:
        body(_place(plan, index(0), index(0), index(0), index(0)))
        return
    with T.parallel(0, index(grid.threads)) as thread:
        column, thread = tirx.floormod(thread, grid.columns), tirx.floordiv(thread, grid.columns)
        row, thread = tirx.floormod(thread, grid.rows), tirx.floordiv(thread, grid.rows)
        part, batch = tirx.floormod(thread, grid.depth), tirx.floordiv(thread, grid.depth)
        body(_place(plan, row, column, part, batch))


def _place(plan: GemmPlan, row: Any, column: Any, part: Any, batch: Any) -> _Place:
    w = plan.workload
    return _Place(
        items=Span.whole(w.batch).block(batch, plan.thread_batch),
        spans={
            "m": Span.whole(w.m).block(row, plan.thread_rows),
            "n": Span.whole(w.n).block(column, plan.thread_columns),
            "k": Span.whole(w.k).block(part, plan.thread_depth),
        },
        first_of_rows=row == 0,
    )


@dataclass
class _Thread:
    """The loop nest of one thread, outermost first; its packing buffers belong to it alone."""

    plan: GemmPlan
    buffers: Buffers
    place: _Place
    sums: Any  # of all threads, where they share the sums of C
    packed: dict[str, Any] = field(default_factory=dict)  # by operand, "A" and "B"

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
            panels = -(-min(blocks.nc, plan.thread_columns) // tile.nr)
            shape = (panels, plan.panel_rows, tile.nr * g)
            self.packed["B"] = T.alloc_buffer(shape, stored(plan.multiply.b))
        elif plan.b is Storage.PACKED_AHEAD:
            self.packed["B"] = self.buffers["packed_b"]
        if plan.a is Storage.PACKED:
            panels = -(-min(blocks.mc, plan.thread_rows) // tile.mr)
            shape = (panels, groups + plan.slack_steps, tile.mr * g)
            self.packed["A"] = T.alloc_buffer(shape, stored(plan.multiply.a))
        if plan.keeps_sums_apart and plan.grid.depth == 1:
            rows = plan.thread_extent("m")
            columns = -(-plan.thread_extent("n") // tile.lanes) * tile.lanes
            self.sums = T.alloc_buffer((rows, columns), plan.workload.accumulator)

    def _blocks(self, item: Any, spans: Mapping[str, Span], level: int) -> None:
        """The loops over cache blocks; an operand is packed as soon as its block is known."""
        order = self.plan.order
        if level == len(order.outer):
            self._tiles(item, spans).run()
            return
        dim = order.outer[level]
        step = self.plan.blocks.along(dim)
        with T.serial(0, spans[dim].blocks(step)) as number:
            inside = {**spans, dim: spans[dim].block(number, step)}
            for operand, dims in DIMS.items():
                if max(order.outer.index(d) for d in dims) == level:
                    self._pack(operand, item, inside)
            self._blocks(item, inside, level + 1)

    def _tiles(self, item: Any, spans: Mapping[str, Span]) -> Tiles:
        return Tiles(
            plan=self.plan,
            sources={name: self._source(name, item) for name in "AB"},
            packed=self.packed,
            panel_of_b=lambda number, j: self._panel_of_b(item, spans, number, j),
            results=self._results(item),
            spans=spans,
            thread=self.place.spans,
        )

    def _results(self, item: Any) -> Results:
        m, n = self.place.spans["m"], self.place.spans["n"]
        part = self.place.spans["k"].number

        def at(i: Any, j: Any) -> tuple[Any, ...]:
            return (item, part, i, j) if self.plan.grid.depth > 1 else (i - m.start, j - n.start)

        return Results(self.plan, self.buffers, item, self.sums, at)

    def _source(self, operand: str, item: Any) -> Source:
        """A or B of one product as its owner stored it."""
        w, multiply = self.plan.workload, self.plan.multiply
        first = operand == "A"
        one = w.batch == 1 or (w.broadcast_a if first else w.broadcast_b)
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

        def pack(ir: Any, height: int) -> None:
            panel = Panel(self.packed["A"], (ir,), mr)
            i = spans["m"].start + ir * mr
            self._fill(source, panel, Row(height, lanes), i, k)

        spans["m"].each_tile(mr, self.plan.workload.m, pack)

    def _pack_b(self, item: Any, spans: Mapping[str, Span]) -> None:
        """Strip by strip of k, all panels of a strip in turn; then the sums that mend offsets."""
        nr, lanes, k = self.plan.tile.nr, self.plan.tile.lanes, spans["k"]
        source = self._source("B", item)
        strip = self.plan.blocks.kc if source.rows_along_k else STRIP_ROWS

        def pack(jr: Any, width: int, part: Span) -> None:
            j = spans["n"].start + jr * nr
            done = tirx.floordiv(part.start - k.start, self.plan.multiply.group)
            panel = self._panel_of_b(item, spans, jr, j).after(done)
            self._fill(source, panel, Row(width, lanes), j, part)

        def mend(jr: Any, _: int) -> None:
            panel = self._panel_of_b(item, spans, jr, spans["n"].start + jr * nr)
            mend_offsets(self.plan, panel, k.length)

        with T.serial(0, k.blocks(strip)) as number:
            part = k.block(number, strip)
            spans["n"].each_tile(nr, self.plan.workload.n, lambda jr, w: pack(jr, w, part))
        if self.plan.offset_a:
            spans["n"].each_tile(nr, self.plan.workload.n, mend)

    def _fill(self, source: Source, panel: Panel, row: Row, column: Any, k: Span) -> None:
        edge = self.plan.workload.k % self.plan.multiply.group
        pack_panel(source, panel, row, column, k.start, k.length, edge)

    def _panel_of_b(self, item: Any, spans: Mapping[str, Span], number: Any, j: Any) -> Panel:
        """The packed micro-panel at column ``j``, number ``number`` of its block."""
        plan, w = self.plan, self.plan.workload
        at: tuple[Any, ...] = (number,)
        if plan.b is Storage.PACKED_AHEAD:
            product = index(0) if w.batch == 1 or w.broadcast_b else item
            slices = self.place.spans["k"].number * plan.k_blocks if plan.grid.depth > 1 else 0
            at = (product, slices + spans["k"].number, tirx.floordiv(j, plan.tile.nr))
        return Panel(self.packed["B"], at, plan.tile.nr, int(bool(plan.offset_a)))

    def pack_ahead(self) -> None:
        """All of B that is this thread's."""
        self.packed["B"] = self.buffers["packed_b"]
        w, spans = self.plan.workload, self.place.spans
        once = w.batch == 1 or w.broadcast_b
        items = Span.whole(1) if once else self.place.items
        with T.serial(0, items.length) as number:
            item = items.start + number
            with T.serial(0, spans["k"].blocks(self.plan.blocks.kc)) as pc:
                self._pack_b(item, {**spans, "k": spans["k"].block(pc, self.plan.blocks.kc)})
