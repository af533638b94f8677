"""Micro-panels: an operand's elements in the order in which the micro-kernel takes them (rank 5).

A panel is [group along k][column, step of the group], zero where the operand ends inside a group;
``columns`` are those of B or the rows of A.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from anatune.codegen.arithmetic import GROUP_DTYPE, accumulate
from anatune.codegen.convert import lanes_of, stored, widen
from anatune.codegen.transpose import transposed
from anatune.codegen.vectors import ON_STACK, Row, index
from anatune.plan import GemmPlan

Where = Callable[[Any, Any], tuple[Any, ...]]


@dataclass(frozen=True)
class Source:
    """An operand as its owner stored it: ``where(column, step)`` are the subscripts of an element.

    ``rows_along_k``: neighbours along k lie side by side, else neighbours across.
    """

    buffer: Any
    where: Where
    rows_along_k: bool
    held: str  # data type as the workload names it
    taken: str  # data type in the panel
    offset: int = 0  # added to each element
    group: int = 1

    @property
    def as_it_is(self) -> bool:
        """Whether elements are copied without a change."""
        return self.held == self.taken

    def convert(self, value: Any) -> Any:
        if self.offset:
            return _sign_turned(value)
        return value if self.as_it_is else widen(value, self.held, self.taken)

    def group_at(self, column: Any, step: Any) -> Any:
        """The group of elements that begins at ``step``, which lie side by side, converted."""
        *outer, last = self.where(column, step)
        where = (*outer, T.ramp(last, 1, self.group) if self.group > 1 else last)
        return self.convert(self.buffer[where])

    def vectors_at(self, row: Row, column: Any, step: Any, vector: int, steps: int) -> Any:
        """Vector number ``vector`` of the columns from ``column``, its ``steps`` interleaved."""
        rows = [self.convert(row.load(self.buffer, self.where(column, step + e), vector))
                for e in range(steps)]
        return rows[0] if self.group == 1 else _interleaved(rows, self.group, self.taken, row.lanes)


@dataclass(frozen=True)
class Panel:
    """A micro-panel: rows of ``width`` groups in ``buffer[*at]``, after ``first_row`` others."""

    buffer: Any
    at: tuple[Any, ...]
    width: int
    first_row: Any = 0

    def after(self, groups: Any) -> Panel:
        """The rest of the panel, behind so many groups."""
        return replace(self, first_row=self.first_row + groups)

    def element(self, group: Any, element: int) -> tuple[Any, ...]:
        """Subscripts of an element of the row that holds group number ``group``."""
        return (*self.at, group + self.first_row, index(element))

    def sums_at(self) -> tuple[Any, ...]:
        """Subscripts of the row before the first, which mends an offset of A."""
        return (*self.at, index(0), index(0))


def _sign_turned(value: Any) -> Any:
    """int8 as uint8 with 128 added: the sign bit turned over."""
    lanes = lanes_of(value)
    sign = tirx.const(128, "uint8")
    if lanes == 1:
        return T.bitwise_xor(T.reinterpret("uint8", value), sign)
    return T.bitwise_xor(T.reinterpret(f"uint8x{lanes}", value), T.broadcast(sign, lanes))


def _interleaved(rows: list[Any], group: int, dtype: str, lanes: int) -> Any:
    """[lane, step] of one row per step: each lane's elements side by side in 32 bits."""
    bits = 32 // group
    unsigned = f"uint{bits}x{lanes}"
    word = f"uint32x{lanes}"
    whole = None
    for step, row in enumerate(rows):
        part = T.cast(T.reinterpret(unsigned, row), word)
        if step:
            part = T.shift_left(part, T.broadcast(tirx.const(bits * step, "uint32"), lanes))
        whole = part if whole is None else T.bitwise_or(whole, part)
    return T.reinterpret(f"{stored(dtype)}x{lanes * group}", whole)


def pack_panel(
    source: Source, panel: Panel, row: Row, column: Any, start: Any, steps: Any,
    edges: Sequence[int],
) -> None:  # fmt: skip
    """Fill ``panel`` with ``steps`` steps of ``row``'s columns, the first at (column, start).

    ``edges``: steps that the incomplete group at the end of k may have.
    """
    g = source.group
    whole = tirx.floordiv(steps, g) if g > 1 else steps
    if source.rows_along_k:
        _pack_along_k(source, panel, row, column, start, whole)
    else:
        with T.serial(0, whole) as q:
            _emit_group_across(source, panel, q, row, column, start + q * g, g)
    emit = _emit_group_along_k if source.rows_along_k else _emit_group_across
    for edge in edges:
        with T.If(steps - whole * g == edge), T.Then():
            emit(source, panel, whole, row, column, start + whole * g, edge)


def _pack_along_k(
    source: Source, panel: Panel, row: Row, column: Any, start: Any, groups: Any
) -> None:
    """Squares of as many groups as a vector has lanes, transposed in registers, then the rest."""
    lanes, g = row.lanes, source.group
    squares = tirx.floordiv(groups, lanes)
    with T.serial(0, squares) as square:
        q = square * lanes
        for u in range(row.vectors):
            _emit_square(source, panel, q, row, u, column, start + q * g)
    with T.serial(squares * lanes, groups) as q:
        _emit_group_along_k(source, panel, q, row, column, start + q * g, g)


def _emit_square(
    source: Source, panel: Panel, q: Any, row: Row, u: int, column: Any, step: Any
) -> None:
    """Vector ``u`` of the columns, as many groups from number ``q`` on as it has lanes."""
    lanes, g = row.lanes, source.group
    wide = Row(panel.width * g, lanes * g)
    element = stored(source.taken)
    words = GROUP_DTYPE if g > 1 else element
    present = min(lanes, row.columns - u * lanes)
    columns = []
    for x in range(lanes):
        if x >= present:
            columns.append(T.broadcast(tirx.const(0, words), lanes))
            continue
        *outer, last = source.where(column + row.inside(u * lanes + x), step)
        where = (*outer, T.ramp(last, 1, lanes * g))
        value = source.convert(source.buffer[where])
        columns.append(T.bind(T.reinterpret(f"{words}x{lanes}", value) if g > 1 else value))
    for p, value in enumerate(transposed(columns)):
        taken = T.reinterpret(f"{element}x{lanes * g}", value) if g > 1 else value
        wide.store(panel.buffer, panel.element(q + p, 0), u, taken)


def _emit_group_across(
    source: Source, panel: Panel, q: Any, row: Row, column: Any, step: Any, steps: int
) -> None:
    wide = Row(panel.width * source.group, row.lanes * source.group)
    for u in range(row.vectors):
        value = source.vectors_at(row, column, step, u, steps)
        wide.store(panel.buffer, panel.element(q, 0), u, value)


def _emit_group_along_k(
    source: Source, panel: Panel, q: Any, row: Row, column: Any, step: Any, steps: int
) -> None:
    g = source.group
    for x in range(row.columns):
        if steps == g:
            *outer, last = panel.element(q, x * g)
            where = T.ramp(last, 1, g) if g > 1 else last
            group = source.group_at(column + row.inside(x), step)
            T.buffer_store(panel.buffer, group, [*outer, where])
            continue
        for e in range(g):
            place = source.where(column + row.inside(x), step + e)
            inside = source.convert(source.buffer[place])
            value = inside if e < steps else tirx.const(0, stored(source.taken))
            T.buffer_store(panel.buffer, value, list(panel.element(q, x * g + e)))


def group_of(source: Source, column: Any, step: Any, steps: int) -> Any:
    """``steps`` neighbours along k in `GROUP_DTYPE`, zero beyond them."""
    if steps == source.group:
        return T.reinterpret(GROUP_DTYPE, source.group_at(column, step))
    bits = 32 // source.group
    whole = None
    for e in range(steps):
        value = source.convert(source.buffer[source.where(column, step + e)])
        part = T.cast(T.reinterpret(f"uint{bits}", value), "uint32")
        part = T.shift_left(part, tirx.const(bits * e, "uint32")) if e else part
        whole = part if whole is None else T.bitwise_or(whole, part)
    return T.reinterpret(GROUP_DTYPE, whole)


def mend_offsets(plan: GemmPlan, panel: Panel, steps: Any) -> None:
    """Fill the panel's row of first sums: what A's offset adds to each column, taken off.

    sum (A + 128) B = sum A B + 128 sum B, so sums start at -128 sum B.
    """
    g, lanes = plan.multiply.group, plan.tile.lanes
    vectors = plan.tile.vectors
    shape = (vectors, lanes)
    sums = T.alloc_buffer(
        shape, plan.multiply.accumulator, scope="local", annotations=ON_STACK
    )
    every = T.ramp(0, 1, lanes)
    zero = T.broadcast(tirx.const(0, plan.multiply.accumulator), lanes)
    offsets = T.reinterpret("int32x" + str(lanes), T.broadcast(tirx.const(128, "uint8"), lanes * g))
    wide = Row(panel.width * g, lanes * g)
    for u in range(vectors):
        T.buffer_store(sums, zero, [u, every])
    with T.serial(0, tirx.floordiv(steps + (g - 1), g)) as q:
        for u in range(vectors):
            b = wide.load(panel.buffer, panel.element(q, 0), u)
            total = accumulate(plan.multiply, sums[u, every], offsets, b, lanes)
            T.buffer_store(sums, total, [u, every])
    for u in range(vectors):
        negated = T.reinterpret(f"{stored(plan.multiply.b)}x{lanes * g}", zero - sums[u, every])
        wide.store(panel.buffer, panel.sums_at(), u, negated)
