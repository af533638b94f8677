"""What the statements of a PrimFunc read and write, and whether two of them touch (rank 5)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import Call, Op, Range
from tvm.ir.expr import TensorLoad
from tvm.s_tir import SBlockRealize
from tvm.sym import Analyzer

Box = tuple[tuple[float, float], ...]
"""Lowest and highest subscript along each axis."""

CHANGES_STATE = 3
"""Effect of a call from which on it may write: kUpdateState of TVM's CallEffectKind."""

ADDRESSES = ("tirx.address_of", "tirx.tvm_access_ptr")
"""Calls that hand out where a buffer lies: whoever has it may read and write all of it."""

EVERYWHERE = (-math.inf, math.inf)


@dataclass(frozen=True)
class Access:
    """One read or write; ``where`` in terms of loop variables, () where it may be anywhere."""

    buffer: Any
    writes: bool
    where: tuple[Any, ...]
    ranges: tuple[tuple[Any, Any, Any], ...]  # (variable, first, extent) of the loops around it

    def box(self, free: Any = None, value: int = 0) -> Box:
        """Where it reaches over all turns of its loops; loop ``free`` stands at ``value``."""
        analyzer = Analyzer()
        for variable, first, extent in self.ranges:
            if free is not None and variable.same_as(free):
                analyzer.bind(variable, tirx.const(value, variable.ty.dtype))
            else:
                _bind(analyzer, variable, first, extent)
        return tuple(_reach(analyzer, index) for index in self.where)


@dataclass
class _Reader:
    """Walks statements and keeps what they access outside of what they allocate themselves."""

    found: list[Access] = field(default_factory=list)
    ranges: list[tuple[Any, Any, Any]] = field(default_factory=list)
    stands_for: list[tuple[Any, Any]] = field(default_factory=list)  # a block's variables
    own: list[Any] = field(default_factory=list)

    def statement(self, node: Any) -> None:
        if isinstance(node, tirx.For):
            self.expression(node.min)
            self.expression(node.extent)
            self.ranges.append((node.loop_var, node.min, node.extent))
            self.statement(node.body)
            self.ranges.pop()
        elif isinstance(node, tirx.SeqStmt):
            for part in node.seq:
                self.statement(part)
        elif isinstance(node, tirx.BufferStore):
            self.access(node.buffer, True, tuple(node.indices))
            for part in (node.value, *node.indices):
                self.expression(part)
        elif isinstance(node, SBlockRealize):
            self.block(node)
        elif isinstance(node, tirx.AllocBuffer):
            self.own.append(node.buffer)
        else:
            self.other(node)

    def block(self, node: Any) -> None:
        block = node.block
        self.expression(node.predicate)
        for variable, value in zip(block.iter_vars, node.iter_values):
            self.expression(value)
            self.stands_for.append((variable.var, self.plain(value)))
        self.own += list(block.alloc_buffers)
        if block.init is not None:
            self.statement(block.init)
        self.statement(block.body)

    def other(self, node: Any) -> None:
        """Statements that only hold others, and those that compute a value."""
        for name in ("condition", "value", "body", "then_case", "else_case"):
            part = getattr(node, name, None)
            if isinstance(part, tirx.Stmt):
                self.statement(part)
            elif part is not None and not isinstance(part, (str, int)):
                self.expression(part)

    def expression(self, node: Any) -> None:
        opaque: list[Any] = []

        def call(found: Any) -> None:
            if _may_write(found):
                opaque.append(found)

        def load(found: Any) -> None:
            self.access(found.source, False, tuple(found.indices))

        tvm_ffi.structural_walk(node, [(Call, call), (TensorLoad, load)])
        for found in opaque:
            self.anywhere(found)

    def anywhere(self, call: Any) -> None:
        """All buffers that a call is told of are read and written, wherever."""

        def told(variable: Any) -> None:
            if tirx.is_buffer_var(variable):
                self.access(variable, True, ())

        tvm_ffi.structural_walk(call, (tirx.Var, told))

    def access(self, buffer: Any, writes: bool, where: tuple[Any, ...]) -> None:
        if not any(buffer.same_as(mine) for mine in self.own):
            plain = tuple(self.plain(index) for index in where)
            self.found.append(Access(buffer, writes, plain, tuple(self.ranges)))

    def plain(self, expression: Any) -> Any:
        """``expression`` without the variables of blocks."""
        return substituted(expression, self.stands_for) if self.stands_for else expression


def accesses(statement: Any, around: tuple[tuple[Any, Any, Any], ...] = ()) -> list[Access]:
    """What ``statement`` reads and writes; ``around`` are the loops that it stands in."""
    reader = _Reader(ranges=list(around))
    reader.statement(statement)
    return reader.found


def substituted(node: Any, pairs: list[tuple[Any, Any]]) -> Any:
    """``node`` with the second of each pair in the place of the first, a variable."""

    def swap(variable: Any) -> Any:
        return next((value for name, value in pairs if variable.same_as(name)), variable)

    return tvm_ffi.structural_map(node, (tirx.Var, swap))


def conflicts(first: list[Access], second: list[Access]) -> Iterator[tuple[Access, Access]]:
    """Pairs that may touch one element, one of them writing."""
    for a in first:
        for b in second:
            if (a.writes or b.writes) and a.buffer.same_as(b.buffer) and overlap(a.box(), b.box()):
                yield a, b


def carried(loop: Any, found: list[Access]) -> Access | None:
    """A write of ``loop``'s body that another turn of it may meet; None where there is none.

    Turns are taken to be apart where along some axis every turn lies beyond the one before.
    """
    for write in (access for access in found if access.writes):
        same = [a for a in found if a.buffer.same_as(write.buffer)]
        axes = range(max((len(a.where) for a in same), default=0))
        if not any(all(_moves_on(loop.loop_var, a, same, axis) for a in same) for axis in axes):
            return write
    return None


def _moves_on(variable: Any, access: Access, same: list[Access], axis: int) -> bool:
    """Whether along ``axis`` the next turn begins where all of this turn's accesses have ended."""
    if len(access.where) <= axis:
        return False
    low = min(a.box(variable, 0)[axis][0] for a in same if len(a.where) > axis)
    high = max(a.box(variable, 0)[axis][1] for a in same if len(a.where) > axis)
    here, there = access.box(variable, 0)[axis], access.box(variable, 1)[axis]
    step = there[0] - here[0]
    even = there[1] - here[1] == step and access.box(variable, 7)[axis][0] - here[0] == 7 * step
    return even and math.isfinite(step) and abs(step) > high - low


def overlap(a: Box, b: Box) -> bool:
    """Whether two boxes may have an element in common; those of unknown reach may."""
    return len(a) != len(b) or all(x[0] <= y[1] and y[0] <= x[1] for x, y in zip(a, b))


def _bind(analyzer: Any, variable: Any, first: Any, extent: Any) -> None:
    analyzer.bind(variable, Range.from_min_extent(first, extent))


def _reach(analyzer: Any, index: Any) -> tuple[float, float]:
    if isinstance(index, tirx.Ramp):
        last = index.base + index.stride * (index.lanes - 1)
        ends = [_reach(analyzer, index.base), _reach(analyzer, last)]
        return min(low for low, _ in ends), max(high for _, high in ends)
    bound = analyzer.const_int_bound(index)
    low, high = int(bound.min_value), int(bound.max_value)
    unknown = 2**62  # beyond any subscript: TVM's own infinities
    return (low if low > -unknown else -math.inf, high if high < unknown else math.inf)


def _may_write(call: Any) -> bool:
    if not isinstance(call.op, Op):
        return True
    effect = call.op.get_attr("TCallEffectKind")
    return call.op.name in ADDRESSES or effect is None or int(effect) >= CHANGES_STATE
