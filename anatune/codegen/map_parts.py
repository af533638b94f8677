"""Blocks that go element by element, and folds, as `Map` (rank 5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from anatune.codegen.arrays import Arrays
from anatune.codegen.frames import ARRAY, Frame, extent_of
from anatune.codegen.parts import (
    Part,
    array_text,
    dtype_of,
    epilogue_text,
    made_part,
    reader_of,
    started,
)
from anatune.codegen.places import Axis, Places, shown
from anatune.codegen.stage_axes import split
from anatune.codegen.stage_inlining import Anchor
from anatune.codegen.stages import Stage
from anatune.workload.dtypes import accumulator_of, is_float
from anatune.workload.expression import Expression, Sum, parse
from anatune.workload.maps import Map
from anatune.workload.nodes import Apply, Constant
from anatune.workload.whole import exact_as, range_of


def map_part(anchor: Anchor, arrays: Arrays) -> Part:
    """Raises WorkloadError for what no `Map` says."""
    stage = split(anchor.stage)
    frame, over, rank = _fitting(stage)
    reader = reader_of(stage, frame, arrays, None, "float32")
    element = reader.node(stage.value)
    dtype = next((op.dtype for op in element.operands if op.axes == ARRAY),
                 next((op.dtype for op in element.operands), "float32"))
    out_dtype = dtype_of(stage.buffer)
    held = element.computed
    finish = ""
    if stage.fold:
        _check_fold(stage, element, out_dtype)
        along = {"n": "m", "m": "n"}[over] if rank == 2 else ""
        finished = _finished(anchor, frame, arrays, held, along)
        out_dtype = dtype_of(anchor.last.buffer)
        finish = "" if isinstance(finished, Sum) else epilogue_text(finished, held, held)
        if finish and parse(finish, held, held) != finished:
            stage.refuse(f"{finish}: cannot be written down")
    workload = Map(
        m=extent_of(frame.m), n=extent_of(frame.n), rank=rank, each=array_text(element, dtype),
        fold=stage.fold, over=over, finish=finish, dtype=dtype, out_dtype=out_dtype,
    )  # fmt: skip
    if workload.element != element:
        stage.refuse(f"{shown(stage.value)}: cannot be written down")
    return made_part(anchor, workload, arrays, element)


def _fitting(stage: Stage) -> tuple[Frame, str, int]:
    """The frame, folded axis and rank of arrays in which all loads are seen."""
    least: list[Any] = []
    for frame, over, rank in _frames(stage):
        lost = [load for load in stage.loads if _unseen(frame, load, rank)]
        if not lost:
            return frame, over, rank
        least = lost if not least or len(lost) < len(least) else least
    axes = ", ".join(f"{axis.var.name} of {axis.extent}" for axis in (*stage.axes, *stage.folded))
    stage.refuse(f"{shown(least[0])}: lies neither along all axes ({axes}) in their order, nor "
                 "along the first or last ones, nor is it a single number")


def _unseen(frame: Frame, load: Any, rank: int) -> bool:
    along = frame.along(load)
    return along is None or (rank == 1 and along[1] not in (ARRAY, ()))


def _frames(stage: Stage) -> Iterator[tuple[Frame, str, int]]:
    axes, folded = stage.axes, _by_steps(stage)
    if stage.fold and axes:
        yield Frame((), axes, folded), "n", 2
        yield Frame((), folded, axes), "m", 2
    elif stage.fold or len(axes) < 2:
        yield Frame((), (), (*axes, *folded)), "n", 1
    else:  # rows are the last axis, as in what reads or writes the array besides
        for cut in range(len(axes) - 1, 0, -1):
            yield Frame((), axes[:cut], axes[cut:]), "n", 2


def _by_steps(stage: Stage) -> tuple[Axis, ...]:
    """The folded axes in the order in which the array with the most of them has them."""
    places = Places((*stage.axes, *stage.folded))
    found = [place[1] for place in map(places.of, stage.loads) if place is not None]
    keys = {axis.key for axis in stage.folded}
    steps = max(found, key=lambda steps: len(keys & set(steps)), default={})
    return tuple(sorted(stage.folded, key=lambda axis: -steps.get(axis.key, 0)))


def _check_fold(stage: Stage, element: Expression, dtype: str) -> None:
    """Whether the fold in the type of its buffer is that in the type that elements have."""
    wanted, held = accumulator_of(dtype, dtype), element.computed
    least, most = range_of(element)
    count = extent_of(stage.folded) if stage.fold == "sum" else 1
    whole = Apply(function="mul", arguments=(element, Constant(value=count, dtype="int32")))
    exact = is_float(wanted) and not is_float(held) and exact_as(whole, wanted)
    if wanted != held and not exact:
        stage.refuse(f"{shown(stage.value)}: a {stage.fold} in {wanted} of values in {held}")
    if stage.fold == "sum" and not is_float(dtype) and dtype != "int32":
        stage.refuse(f"{shown(stage.value)}: sums in {dtype} wrap around; sum in int32")


def _finished(
    anchor: Anchor, frame: Frame, arrays: Arrays, held: str, along: str
) -> Expression:
    """What is stored, of the folded value."""
    stage, tail = anchor.stage, anchor.tail
    total = started(stage, Frame((), (), stage.axes), arrays, held, along)
    if tail is None:
        return total
    reader = reader_of(tail, Frame((), (), tail.axes), arrays, stage.buffer, held, along)
    return reader.node(tail.value).of(total)
