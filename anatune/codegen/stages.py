"""TVM functions as stages: each writes one buffer, element by element or as a fold (rank 5).

    func -> blocks, or stores in plain loops -> stages -> `stage_inlining` -> `recognise`

A stage says what is computed, not in which order: loops are read for their extents alone, so only
those are taken that each run over a whole axis.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, NoReturn

from tvm import tirx
from tvm.ir.expr import TensorLoad
from tvm.s_tir import SBlockRealize

from anatune.codegen.loop_terms import nodes
from anatune.codegen.places import Axis, refuse, same, shape_of, shown, substituted

COMBINERS = ((tirx.Add, "sum"), (tirx.Max, "max"), (tirx.Min, "min"))


@dataclass(frozen=True, eq=False)
class Stage:
    """buffer[axes] = value; or fold of value over ``folded``, which begins with ``start``.

    ``axes`` are in the order in which the buffer keeps them. Axes of one element are left out of
    both: their variables are 0 in the expressions.
    """

    name: str
    buffer: Any
    axes: tuple[Axis, ...]
    value: Any
    folded: tuple[Axis, ...] = ()
    fold: str = ""  # "sum", "max" or "min"
    start: Any = None
    around: frozenset[int] = frozenset()  # keys of the loops that it stands in

    @property
    def size(self) -> int:
        """Elements that it writes."""
        return prod(axis.extent for axis in self.axes)

    @property
    def loads(self) -> list[Any]:
        """Loads of arrays in its value, outermost first."""
        return nodes(self.value, TensorLoad)

    def refuse(self, why: str) -> NoReturn:
        refuse(self.name, why)


def stages_of(func: Any) -> list[Stage]:
    """What ``func`` computes, in its order.

    Raises:
        WorkloadError: a statement that is none of these, with the block that it stands in.
    """
    reader = _Reader()
    reader.read(func.body, ())
    return reader.stages


@dataclass
class _Reader:
    """Goes through a function; ``loops`` are those around, from the outermost."""

    stages: list[Stage] = field(default_factory=list)

    def read(self, stmt: Any, loops: tuple[Axis, ...]) -> None:
        if isinstance(stmt, tirx.SeqStmt):
            for part in stmt.seq:
                self.read(part, loops)
        elif isinstance(stmt, tirx.For):
            self.read(stmt.body, (*loops, _loop_axis(stmt)))
        elif isinstance(stmt, SBlockRealize):
            self._block(stmt, loops)
        elif isinstance(stmt, tirx.BufferStore):
            self._store(str(stmt.buffer.name), stmt, loops, None, loops)
        elif not isinstance(stmt, (tirx.AllocBuffer, tirx.DeclBuffer)):
            refuse("root", f"{shown(stmt)}: not understood; blocks and plain loops are")

    def _block(self, realize: Any, loops: tuple[Axis, ...]) -> None:
        block = realize.block
        name = str(block.name_hint)
        if len(block.match_buffers):
            refuse(name, f"{shown(block.match_buffers[0])}: parts of buffers are not followed")
        if not len(block.iter_vars):
            self.read(block.body, loops)
            return
        if not (isinstance(realize.predicate, tirx.IntImm) and int(realize.predicate)):
            refuse(name, f"where {shown(realize.predicate)}: hand over the function unscheduled")
        axes = _block_axes(name, block, realize.iter_values, loops)
        if not isinstance(block.body, tirx.BufferStore):
            said = "several statements" if isinstance(block.body, tirx.SeqStmt) else (
                shown(block.body))
            refuse(name, f"{said}: one store to one buffer is understood")
        self._store(name, block.body, axes, block.init, loops)

    def _store(
        self, name: str, store: Any, axes: tuple[Axis, ...], init: Any, loops: tuple[Axis, ...]
    ) -> None:
        spatial = _written_axes(name, store, axes)
        keys = {axis.key for axis in spatial}
        folded = tuple(axis for axis in axes if axis.key not in keys)
        around = frozenset(axis.key for axis in loops)
        stage = Stage(name, store.buffer, spatial, store.value, folded, around=around)
        for load in stage.loads:
            self._check_complete(stage, load)
        if any(load.source.same_as(store.buffer) for load in stage.loads):
            stage = _without_single(_fold(stage, store, None if init is None else init.value))
            earlier = [s for s in self.stages if s.buffer.same_as(store.buffer)]
            if stage.start is None and len(earlier) == 1 and not earlier[0].fold:
                self.stages.remove(earlier[0])
                stage = replace(stage, start=_start_of(earlier[0], stage))
        elif any(axis.extent > 1 for axis in folded):
            stage.refuse(f"writes {store.buffer.name} again and again, without a fold")
        for other in self.stages:
            if other.buffer.same_as(store.buffer):
                stage.refuse(f"{store.buffer.name} was written before, by {other.name!r}")
            if any(load.source.same_as(store.buffer) for load in other.loads):
                stage.refuse(f"{store.buffer.name} was read before, by {other.name!r}: what is "
                             "written in place is not understood")
        self.stages.append(_without_single(stage))

    def _check_complete(self, stage: Stage, load: Any) -> None:
        """Whether all that ``stage`` reads was written; loops that both share do not tell."""
        for other in self.stages:
            if other.buffer.same_as(load.source) and not other.buffer.same_as(stage.buffer):
                if other.around & stage.around:
                    stage.refuse(f"reads {other.buffer.name} within the loops that write it; put "
                                 "them one after the other")


def _loop_axis(loop: Any) -> Axis:
    name = str(loop.loop_var.name)
    if not (isinstance(loop.min, tirx.IntImm) and int(loop.min) == 0):
        refuse("root", f"loop {name}: begins at {shown(loop.min)}; loops from 0 are understood")
    if not isinstance(loop.extent, tirx.IntImm):
        said = f"loop {name}: extent {shown(loop.extent)}"
        refuse("root", f"{said} is no number; specialise the function")
    return Axis(loop.loop_var, int(loop.extent))


def _block_axes(
    name: str, block: Any, values: Any, loops: tuple[Axis, ...]
) -> tuple[Axis, ...]:
    """The block's own axes, each of which must be one loop of that extent."""
    free = {axis.key: axis.extent for axis in loops}
    axes = []
    for iter_var, value in zip(block.iter_vars, values, strict=True):
        low, extent = iter_var.dom.min, iter_var.dom.extent
        if not (isinstance(low, tirx.IntImm) and isinstance(extent, tirx.IntImm)):
            refuse(name, f"axis {iter_var.var.name}: its range is no number")
        whole = int(low) == 0 and (
            free.pop(hash(value), 0) == int(extent)
            if isinstance(value, tirx.Var)
            else int(extent) == 1 and isinstance(value, tirx.IntImm) and int(value) == 0
        )
        if not whole:
            said = f"axis {iter_var.var.name} = {shown(value)}"
            refuse(name, f"{said}: no whole loop of its own; hand over the function unscheduled")
        axes.append(Axis(iter_var.var, int(extent)))
    if any(extent > 1 for extent in free.values()):
        refuse(name, "a loop around it is none of its axes; hand over the function unscheduled")
    return tuple(axes)


def _written_axes(name: str, store: Any, axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    """The axes that the written element depends on, in the buffer's order; all must be written."""
    by_key = {axis.key: axis for axis in axes}
    found = []
    for index, extent in zip(store.indices, shape_of(store.buffer), strict=True):
        axis = by_key.pop(hash(index), None) if isinstance(index, tirx.Var) else None
        constant = isinstance(index, tirx.IntImm) and int(index) == 0 and extent == 1
        if not constant and (axis is None or axis.extent != extent):
            written = f"{store.buffer.name}[{', '.join(map(str, store.indices))}]"
            refuse(name, f"writes {shown(written)}: whole axes in some order are understood")
        if axis is not None:
            found.append(axis)
    return tuple(found)


def _fold(stage: Stage, store: Any, start: Any) -> Stage:
    """A stage that combines what its buffer holds with a new value."""
    for kind, fold in COMBINERS:
        if isinstance(store.value, kind):
            parts = _flattened(store.value, kind)
            mine = [part for part in parts if _is_held(part, store)]
            rest = [part for part in parts if not _is_held(part, store)]
            if len(mine) == 1 and rest:
                value = rest[0]
                for part in rest[1:]:
                    value = kind(value, part)
                read = [load.source for load in nodes(value, TensorLoad)]
                if not any(source.same_as(store.buffer) for source in read):
                    return replace(stage, value=value, fold=fold, start=start)
    stage.refuse(f"{shown(store.value)}: folds are +, max and min of what was there and a new "
                 "value")


def _flattened(expr: Any, kind: Any) -> list[Any]:
    if isinstance(expr, kind):
        return [*_flattened(expr.a, kind), *_flattened(expr.b, kind)]
    return [expr]


def _is_held(expr: Any, store: Any) -> bool:
    """Whether ``expr`` is the element that is written, as it was before."""
    return (
        isinstance(expr, TensorLoad)
        and expr.source.same_as(store.buffer)
        and all(same(a, b) for a, b in zip(expr.indices, store.indices, strict=True))
    )


def _start_of(earlier: Stage, fold: Stage) -> Any:
    """What an earlier stage put into the buffer, of the fold's axes."""
    moved = {mine.key: theirs.var for mine, theirs in zip(earlier.axes, fold.axes, strict=True)}
    return substituted(earlier.value, moved)


def _without_single(stage: Stage) -> Stage:
    """Axes of one element are 0."""
    zero = {
        axis.key: tirx.IntImm(str(axis.var.ty.dtype), 0)
        for axis in (*stage.axes, *stage.folded)
        if axis.extent == 1
    }
    if not zero:
        return stage
    return replace(
        stage,
        axes=tuple(axis for axis in stage.axes if axis.key not in zero),
        folded=tuple(axis for axis in stage.folded if axis.key not in zero),
        value=substituted(stage.value, zero),
        start=None if stage.start is None else substituted(stage.start, zero),
    )
