"""Stages put into those that read them, where no array need lie between (rank 5)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir.expr import TensorLoad

from anatune.codegen.loop_terms import nodes
from anatune.codegen.places import Axis, Places, row_major, shape_of, substituted
from anatune.codegen.stage_axes import split
from anatune.codegen.stages import Stage
from anatune.workload.dtypes import ELEMENT_BYTES, is_float

MAX_NODES = 400
"""Nodes of an expression beyond which nothing more is put into it."""


@dataclass(frozen=True)
class Anchor:
    """What is computed as one workload: a stage, and what becomes of each element of a fold."""

    stage: Stage
    tail: Stage | None = None  # of the fold's result, element by element

    @property
    def last(self) -> Stage:
        return self.tail or self.stage

    @property
    def apart(self) -> tuple[Anchor, ...]:
        """The same as workloads of their own."""
        return (Anchor(self.stage), *([] if self.tail is None else [Anchor(self.tail)]))


def anchors_of(stages: Sequence[Stage], outputs: Collection[int]) -> list[Anchor]:
    """``stages`` as few workloads, in their order; ``outputs`` are buffers that must be written."""
    order = {hash(stage.buffer): place for place, stage in enumerate(stages)}
    rules = _Rules(outputs)
    kept = rules.inlined(stages, lambda stage, readers: (
        _is_view(stage) and all(map(_is_view, readers))))
    rules.fixed = {
        id(tail) for tail in _tails(kept, outputs).values()
        if _is_view(tail) and not any(reads_as_it_is(tail, stage.buffer) for stage in kept)
    }
    kept = rules.inlined(kept, lambda stage, readers: _is_view(stage))
    kept = rules.inlined(kept, lambda stage, readers: _once(stage, readers, folds=False))
    tails = _tails(kept, outputs)
    ends = {id(tail) for tail in tails.values()}
    rules.fixed |= ends
    kept = rules.inlined(kept, lambda stage, readers: _once(stage, readers, folds=True))
    anchors = [Anchor(stage, tails.get(hash(stage.buffer))) for stage in kept
               if id(stage) not in ends]
    return sorted(anchors, key=lambda anchor: order[hash(anchor.last.buffer)])


@dataclass
class _Rules:
    """Which stages may go into their readers: no results, none that are ``fixed`` (by id)."""

    outputs: Collection[int]
    fixed: set[int] = field(default_factory=set)

    def inlined(
        self, stages: Sequence[Stage], fits: Callable[[Stage, list[Stage]], bool]
    ) -> list[Stage]:
        """``stages`` without those that are no folds and that ``fits`` says can go into readers."""
        found = list(stages)
        for buffer in [stage.buffer for stage in stages]:
            stage = next(s for s in found if s.buffer.same_as(buffer))
            readers = [s for s in found if reads(s, buffer)]
            free = not (stage.fold or hash(buffer) in self.outputs or id(stage) in self.fixed)
            if not readers or not free or any(id(s) in self.fixed for s in readers):
                continue
            if fits(stage, readers):
                found.remove(stage)
                for reader in readers:
                    found[found.index(reader)] = _with(stage, reader)
        return found


def reads(stage: Stage, buffer: Any) -> bool:
    return any(load.source.same_as(buffer) for load in _all_loads(stage))


def _all_loads(stage: Stage) -> list[Any]:
    return stage.loads + ([] if stage.start is None else nodes(stage.start, TensorLoad))


def _is_view(stage: Stage) -> bool:
    """Whether it is elements of an array as they are, or widened: nothing that would be computed
    again and again."""
    value = stage.value
    while isinstance(value, tirx.Cast):
        if not _widens(str(value.value.ty.dtype), str(value.ty.dtype)):
            return False
        value = value.value
    return isinstance(value, TensorLoad)


def _widens(narrow: str, wide: str) -> bool:
    known = narrow in ELEMENT_BYTES and wide in ELEMENT_BYTES
    return known and is_float(narrow) <= is_float(wide) and (
        ELEMENT_BYTES[narrow] < ELEMENT_BYTES[wide]
    )


def _once(stage: Stage, readers: Sequence[Stage], *, folds: bool) -> bool:
    """Whether one stage reads it, once an element; a fold only if ``folds``, a product never."""
    reader, *others = readers
    if others or reader.fold and (not folds or is_product(reader)):
        return False
    turns = reader.size
    for axis in reader.folded:
        turns *= axis.extent
    count = sum(load.source.same_as(stage.buffer) for load in reader.loads)
    held = len(nodes(reader.value, tirx.Expr)) + count * len(nodes(stage.value, tirx.Expr))
    return stage.size >= turns and held <= MAX_NODES and not _in_start(stage, reader)


def _in_start(stage: Stage, reader: Stage) -> bool:
    start = [] if reader.start is None else nodes(reader.start, TensorLoad)
    return any(load.source.same_as(stage.buffer) for load in start)


def is_product(stage: Stage) -> bool:
    """Whether it sums products of elements of two arrays, each along axes that the other has not
    got: there is work to share, for which the arrays should lie in memory."""
    factors = factors_of(stage)
    if stage.fold != "sum" or factors is None:
        return False
    places = Places((*stage.axes, *stage.folded))
    found = [places.of(load) for load in factors]
    if found[0] is None or found[1] is None:
        return False
    a, b = (set(place[1]) for place in found if place is not None)
    return bool(a - b and b - a)


def factors_of(stage: Stage) -> tuple[Any, Any] | None:
    """The two elements whose product the value is, seen through casts that widen."""
    value = _uncast(stage.value)
    if not isinstance(value, tirx.Mul):
        return None
    a, b = _uncast(value.a), _uncast(value.b)
    return (a, b) if isinstance(a, TensorLoad) and isinstance(b, TensorLoad) else None


def _uncast(value: Any) -> Any:
    while isinstance(value, tirx.Cast) and (
        _widens(str(value.value.ty.dtype), str(value.ty.dtype))
    ):
        value = value.value
    return value


def _tails(stages: Sequence[Stage], outputs: Collection[int]) -> dict[int, Stage]:
    """By the buffer of a fold: the one stage that reads its result, element by element.

    Products may be read in another order of their axes, in which they are written then.
    """
    found: dict[int, Stage] = {}
    taken: set[int] = set()
    for stage in stages:
        readers = [s for s in stages if reads(s, stage.buffer)]
        if not stage.fold or hash(stage.buffer) in outputs or len(readers) != 1:
            continue
        (reader,) = readers
        fits = not reader.fold and id(reader) not in taken and (
            reads_as_it_is(reader, stage.buffer)
            or is_product(stage) and moved_axes(stage, split(reader)) is not None
        )
        if fits:
            found[hash(stage.buffer)] = reader
            taken.add(id(reader))
    return found


def reads_as_it_is(reader: Stage, buffer: Any) -> bool:
    """Whether each element of ``reader`` needs of ``buffer`` the one in the same place."""
    places = Places(reader.axes)
    steps = row_major([axis.extent for axis in reader.axes])
    whole = {axis.key: step for axis, step in zip(reader.axes, steps, strict=True)}
    loads = [load for load in reader.loads if load.source.same_as(buffer)]
    alike = bool(loads) and prod(shape_of(buffer)) == reader.size
    return alike and all(places.of(load) == (0, whole) for load in loads)


def moved_axes(stage: Stage, reader: Stage) -> dict[int, Axis] | None:
    """The axes of ``reader`` by those of ``stage`` (their keys) that they run along.

    None where ``reader`` does not need of each element of ``stage`` exactly one, always the same.
    """
    places = Places(reader.axes)
    found = [places.of(load) for load in reader.loads if load.source.same_as(stage.buffer)]
    if not found or found[0] is None or any(place != found[0] for place in found):
        return None
    first, steps = found[0]
    by_step = {(steps.get(axis.key, 0), axis.extent): axis for axis in reader.axes}
    mine = row_major([axis.extent for axis in stage.axes])
    pairs = [(step, axis.extent) for axis, step in zip(stage.axes, mine, strict=True)]
    if first or len(by_step) != len(reader.axes) or set(by_step) != set(pairs):
        return None
    return {axis.key: by_step[pair] for axis, pair in zip(stage.axes, pairs, strict=True)}


def _with(stage: Stage, reader: Stage) -> Stage:
    """``reader`` with the value of ``stage`` in the place of what it loads."""

    def put(load: Any) -> Any:
        if not load.source.same_as(stage.buffer):
            return load
        return substituted(stage.value, _values(stage, load))

    def mended(expr: Any) -> Any:
        return None if expr is None else tvm_ffi.structural_map(expr, (TensorLoad, put))

    return replace(reader, value=mended(reader.value), start=mended(reader.start))


def _values(stage: Stage, load: Any) -> dict[int, Any]:
    """What the axes of ``stage`` are where ``load`` reads."""
    indices = [
        index for index, extent in zip(load.indices, stage.buffer.shape, strict=True)
        if int(extent) > 1
    ]  # fmt: skip
    return {axis.key: index for axis, index in zip(stage.axes, indices, strict=True)}
