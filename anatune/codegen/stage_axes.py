"""Axes cut where an array is read across their parts, such as heads within columns (rank 5)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tvm import tirx

from anatune.codegen.loop_terms import nodes
from anatune.codegen.places import Axis, Places, substituted
from anatune.codegen.stages import Stage

MOST_CUTS = 8
"""Axes of an array hardly have more parts: it ends what would not."""


def split(stage: Stage) -> Stage:
    """``stage`` with axes of whose parts c // 8 and c % 8 its arrays depend as two axes each."""
    for _ in range(MOST_CUTS):
        cut = _cut_of(stage)
        if cut is None:
            break
        stage = _cut(stage, *cut)
    return stage


def _cut_of(stage: Stage) -> tuple[Axis, int] | None:
    """An axis and the size of its inner part, if a place is not affine for the lack of them."""
    axes = (*stage.axes, *stage.folded)
    by_key = {axis.key: axis for axis in axes}
    places = Places(axes)
    for load in stage.loads:
        if places.of(load) is not None:
            continue
        for part in nodes(places.simplified(load), tirx.FloorDiv, tirx.FloorMod):
            axis = by_key.get(hash(_uncast(part.a)))
            size = int(part.b) if isinstance(part.b, tirx.IntImm) else 0
            if axis is not None and 1 < size < axis.extent and axis.extent % size == 0:
                return axis, size
    return None


def _uncast(expr: Any) -> Any:
    return _uncast(expr.value) if isinstance(expr, tirx.Cast) else expr


def _cut(stage: Stage, axis: Axis, size: int) -> Stage:
    """``axis`` as two, of which the inner one has ``size`` elements."""
    dtype = str(axis.var.ty.dtype)
    outer = Axis(tirx.Var(f"{axis.var.name}_outer", dtype), axis.extent // size)
    inner = Axis(tirx.Var(f"{axis.var.name}_inner", dtype), size)
    whole = outer.var * tirx.IntImm(dtype, size) + inner.var

    def put(expr: Any) -> Any:
        return None if expr is None else substituted(expr, {axis.key: whole})

    def parts(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
        return tuple(p for a in axes for p in ((outer, inner) if a.key == axis.key else (a,)))

    return replace(
        stage, axes=parts(stage.axes), folded=parts(stage.folded), value=put(stage.value),
        start=put(stage.start),
    )  # fmt: skip
