"""Along which axes of a workload's result an array is read (rank 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from anatune.codegen.places import Axis, Places, row_major

Steps = dict[int, int]
"""Elements per step of axes, by their keys; those that do not matter are left out."""

ARRAY = ("m", "n")


@dataclass(frozen=True)
class Frame:
    """The axes of a stage as those of a workload: ``batch``, then ``m``, then ``n``.

    ``aligned``: whether m and n are made of whole axes; otherwise only arrays of all are seen.
    """

    batch: tuple[Axis, ...]
    m: tuple[Axis, ...]
    n: tuple[Axis, ...]
    aligned: bool = True
    places: Places = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "places", Places((*self.batch, *self.m, *self.n)))

    def along(self, load: Any) -> tuple[int, tuple[str, ...]] | None:
        """The first element of an array that ``load`` reads, and the axes it lies along."""
        place = self.places.of(load)
        if place is None:
            return None
        first, steps = place
        if covers(steps, (*self.batch, *self.m, *self.n)):
            return first, ARRAY if steps or not self.batch + self.m + self.n else ()
        if not steps:
            return first, ()
        if self.aligned and covers(steps, self.n):
            return first, ("n",)
        if self.aligned and covers(steps, self.m):
            return first, ("m",)
        return None


def covers(steps: Steps, axes: Sequence[Axis]) -> bool:
    """Whether an array is read element by element along ``axes``, and along no others."""
    whole = row_major([axis.extent for axis in axes])
    return steps == {axis.key: step for axis, step in zip(axes, whole, strict=True)}


def frame_of(axes: Sequence[Axis], batch: int, m: int, n: int) -> Frame:
    """``axes``, in their order, as those of [batch, m, n]."""
    cuts = [cut for cut in range(len(axes) + 1) if extent_of(axes[cut:]) == n]
    tops = [cut for cut in range(len(axes) + 1) if extent_of(axes[:cut]) == batch]
    for cut in cuts:
        for top in tops:
            if top <= cut and extent_of(axes[top:cut]) == m:
                return Frame(tuple(axes[:top]), tuple(axes[top:cut]), tuple(axes[cut:]))
    return Frame((), (), tuple(axes), aligned=False)


def extent_of(axes: Sequence[Axis]) -> int:
    return prod(axis.extent for axis in axes)


@dataclass(frozen=True)
class Stored:
    """How the matrices of a batch lie: elements from row to row, and from matrix to matrix.

    ``stride`` is None where there is but one matrix, for all products where ``one``.
    """

    leading: int
    stride: int | None
    one: bool


def stored_rows(
    steps: Steps, batch: Sequence[Axis], outer: Sequence[Axis], inner: Sequence[Axis]
) -> Stored | None:
    """How matrices lie of which ``outer`` are the axes of rows and ``inner`` those within a row."""
    if not set(steps) <= {axis.key for axis in (*batch, *outer, *inner)}:
        return None
    leading = extent_of(inner)
    if outer:
        leading = max(leading, steps.get(outer[-1].key, 0))
    wanted = _climbing(inner, 1) | _climbing(outer, leading)
    keys = {axis.key for axis in batch}
    if {key: step for key, step in steps.items() if key not in keys} != wanted:
        return None
    if not keys & set(steps):
        return Stored(leading, None, bool(batch))
    stride = steps.get(batch[-1].key, 0)
    if stride == 0 or steps != wanted | _climbing(batch, stride):
        return None
    return Stored(leading, stride, False)


def _climbing(axes: Sequence[Axis], first: int) -> Steps:
    """Steps of axes that lie one around the other, the last one innermost."""
    whole = row_major([axis.extent for axis in axes])
    return {axis.key: first * step for axis, step in zip(axes, whole, strict=True)}
