"""Blocks that sum products of elements as matrix products, with what becomes of sums (rank 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from anatune.codegen.arrays import Arrays
from anatune.codegen.frames import Frame, Steps, extent_of, frame_of, stored_rows
from anatune.codegen.parts import Part, dtype_of, epilogue_text, made_part, reader_of, started
from anatune.codegen.places import Axis, Places, row_major, shown
from anatune.codegen.stage_axes import split
from anatune.codegen.stage_inlining import (
    Anchor,
    factors_of,
    is_product,
    moved_axes,
    reads_as_it_is,
)
from anatune.codegen.stages import Stage
from anatune.workload.dtypes import accumulator_of, is_float
from anatune.workload.expression import Sum
from anatune.workload.matmul import Matmul

Axes = tuple[Axis, ...]
Arranged = Callable[[Axes, Steps, Steps], Iterator[tuple[Axes, Axes, Axes]]]


@dataclass(frozen=True)
class _Layout:
    """The axes of a product, the loads of A and B, and how all three matrices are stored."""

    batch: Axes
    m: Axes
    n: Axes
    a: Any
    b: Any
    options: dict[str, Any]  # of `Matmul`

    @property
    def frame(self) -> Frame:
        return Frame(self.batch, self.m, self.n)


def product_part(anchor: Anchor, arrays: Arrays) -> Part | None:
    """A matrix product; None where it is none.

    Raises:
        WorkloadError: matrices, types or an epilogue that no `Matmul` has.
    """
    stage = split(anchor.stage)
    if not is_product(stage):
        return None
    tail = None if anchor.tail is None else split(anchor.tail)
    moved = None
    if tail is not None and not reads_as_it_is(tail, stage.buffer):
        moved = moved_axes(stage, tail)
    layout = _layout(stage, _steps_of_c(stage, tail, moved))
    held = _type_of_sums(stage, layout)
    stored = started(stage, layout.frame, arrays, held)
    if tail is not None:
        frame = _frame_of_tail(tail, layout, moved)
        stored = reader_of(tail, frame, arrays, stage.buffer, held).node(tail.value).of(stored)
    out_dtype = dtype_of(anchor.last.buffer)
    workload = Matmul(
        batch=extent_of(layout.batch), m=extent_of(layout.m), n=extent_of(layout.n),
        k=extent_of(stage.folded), dtype=dtype_of(layout.a.source),
        dtype_b=dtype_of(layout.b.source), out_dtype=out_dtype,
        epilogue="" if isinstance(stored, Sum) else epilogue_text(stored, held, out_dtype),
        **layout.options,
    )  # fmt: skip
    if workload.expression != stored:
        anchor.last.refuse(f"{shown(anchor.last.value)}: cannot be written down")
    part = made_part(anchor, workload, arrays)
    places = Places((*stage.axes, *stage.folded))
    for name, load in (("a", layout.a), ("b", layout.b)):
        place = places.of(load)
        assert place is not None
        elements = workload.operands[name].elements
        part.sources[name] = arrays.seen(stage, load.source, place[0], elements)
    return part


def _steps_of_c(stage: Stage, tail: Stage | None, moved: dict[int, Axis] | None) -> Steps:
    """Elements of C per step of each of the product's axes."""
    axes = stage.axes if moved is None or tail is None else tail.axes
    whole = row_major([axis.extent for axis in axes])
    steps = {axis.key: step for axis, step in zip(axes, whole, strict=True)}
    return steps if moved is None else {key: steps[axis.key] for key, axis in moved.items()}


def _layout(stage: Stage, steps_c: Steps) -> _Layout:
    """Raises WorkloadError where A, B and C do not lie as matrices do."""
    factors = factors_of(stage)
    assert factors is not None
    axes = tuple(sorted(stage.axes, key=lambda axis: -steps_c[axis.key]))
    for arranged in (_by_factor, _by_order):
        for a, b in (factors, factors[::-1]):
            found = _fitting(stage, axes, arranged, a, b, steps_c)
            if found is not None:
                return found
    stage.refuse(f"{shown(stage.value)}: no product of matrices that lie row by row or column by "
                 "column, in a batch at equal distances")


def _fitting(
    stage: Stage, axes: Axes, arranged: Arranged, a: Any, b: Any, steps_c: Steps
) -> _Layout | None:
    places = Places((*stage.axes, *stage.folded))
    steps_a, steps_b = (places.of(load)[1] for load in (a, b))  # type: ignore[index]
    k = tuple(sorted(stage.folded, key=lambda axis: -steps_a.get(axis.key, 0)))
    for batch, m, n in arranged(axes, steps_a, steps_b):
        stored_c = stored_rows(steps_c, batch, m, n)
        options_a = _options("a", steps_a, batch, m, k)
        options_b = _options("b", steps_b, batch, k, n)
        if stored_c is None or options_a is None or options_b is None:
            continue
        options = options_a | options_b | {"ldc": stored_c.leading, "stride_c": stored_c.stride}
        if not (options["broadcast_a"] and options["broadcast_b"]):
            return _Layout(batch, m, n, a, b, options)
    return None


def _by_factor(axes: Axes, steps_a: Steps, steps_b: Steps) -> Iterator[tuple[Axes, Axes, Axes]]:
    """(batch, m, n): axes of both factors, of A alone, of B alone."""
    yield (
        tuple(axis for axis in axes if axis.key in steps_a and axis.key in steps_b),
        tuple(axis for axis in axes if axis.key not in steps_b),
        tuple(axis for axis in axes if axis.key not in steps_a),
    )


def _by_order(axes: Axes, steps_a: Steps, steps_b: Steps) -> Iterator[tuple[Axes, Axes, Axes]]:
    """(batch, m, n) by their order in C: a batch may have one A or one B."""
    for top in range(1, len(axes)):
        for cut in range(top + 1, len(axes)):
            yield axes[:top], axes[top:cut], axes[cut:]


def _options(
    name: str, steps: Steps, batch: Axes, rows: Axes, columns: Axes
) -> dict[str, Any] | None:
    """How an operand is stored, as options of `Matmul`; None where it is no matrix."""
    for transposed in (False, True):
        outer, inner = (columns, rows) if transposed else (rows, columns)
        found = stored_rows(steps, batch, outer, inner)
        if found is not None:
            return {
                f"trans_{name}": transposed, f"broadcast_{name}": found.one,
                f"ld{name}": found.leading, f"stride_{name}": found.stride,
            }  # fmt: skip
    return None


def _type_of_sums(stage: Stage, layout: _Layout) -> str:
    """The type that sums are kept in, which must do for that of the block's buffer."""
    dtype, dtype_b = dtype_of(layout.a.source), dtype_of(layout.b.source)
    held, sums = accumulator_of(dtype, dtype_b), dtype_of(stage.buffer)
    if accumulator_of(sums, sums) != held or not (is_float(sums) or sums == "int32"):
        stage.refuse(f"{shown(stage.value)}: sums in {sums}; those of {dtype} and {dtype_b} are "
                     f"kept in {held}")
    return held


def _frame_of_tail(tail: Stage, layout: _Layout, moved: dict[int, Axis] | None) -> Frame:
    """The axes of what becomes of the sums as those of the product."""
    if moved is None:
        sizes = (extent_of(axes) for axes in (layout.batch, layout.m, layout.n))
        return frame_of(tail.axes, *sizes)
    batch, m, n = (
        tuple(moved[axis.key] for axis in axes) for axes in (layout.batch, layout.m, layout.n)
    )
    return Frame(batch, m, n)
