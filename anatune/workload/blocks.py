"""A block of rows of a workload as a workload of its own, and where it lies (rank 2)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from anatune.workload.fused import Workload
from anatune.workload.maps import SCAN, Map
from anatune.workload.matmul import Matmul

RESULT = ""
"""Stands for the result among the names of operands."""


@dataclass(frozen=True)
class Place:
    """Elements from the beginning of an array to a block: ``items * item + rows * row``.

    Items are products of a batch; rows are counted within an item.
    """

    item: int
    row: int


def rows_of(workload: Workload) -> int:
    """Rows of the result, those of all products of a batch together."""
    return workload.m * (workload.batch if isinstance(workload, Matmul) else 1)


def items_of(workload: Workload) -> int:
    """Products that have operands of their own; rows of different ones cannot share a block."""
    return workload.batch if isinstance(workload, Matmul) else 1


def has_own_b(workload: Workload) -> bool:
    """Whether each product of a batch has a B of its own."""
    return isinstance(workload, Matmul) and workload.batch > 1 and not workload.broadcast_b


def has_blocks(workload: Workload) -> bool:
    """Whether rows of the result can be computed a block at a time."""
    return isinstance(workload, Matmul) or workload.over == "n" and workload.rank == 2


def goes_in_place(workload: Workload) -> bool:
    """Whether a result may be written over an operand of its shape: a scan reads rows again."""
    return isinstance(workload, Map) and workload.fold != SCAN


def passes_rows(workload: Workload, operand: str) -> bool:
    """Whether a block of rows of the result needs of ``operand`` that block of rows alone."""
    tensor = workload.operands[operand]
    if isinstance(workload, Map):
        return has_blocks(workload) and "m" in axes_of(workload, operand)
    if operand == "a":
        return not workload.trans_a and not workload.broadcast_a and tensor.compact
    return axes_of(workload, operand) == ("m", "n")


def halos(workload: Workload, operand: str) -> int:
    """Rows of ``operand`` that a block of the result reads beyond its own: a stencil's."""
    if not isinstance(workload, Map):
        return 0
    (low, high), _ = workload.halo(operand)
    return high - low


def axes_of(workload: Workload, operand: str) -> tuple[str, ...]:
    """The axes of the result that an operand of an expression lies along."""
    parts = (
        (*workload.element.operands, *workload.finished.operands) if isinstance(workload, Map)
        else workload.expression.operands
    )
    return next((op.axes for op in parts if op.name == operand), ())


def block_of(workload: Workload, rows: int, near: Collection[str]) -> Workload:
    """``rows`` rows of one product of ``workload``, as a workload.

    Args:
        near: operands, and `RESULT`, that lie in compact memory of the block's own.
    """
    if isinstance(workload, Map):
        return replace(workload, m=rows)
    w = workload
    return replace(
        w.products(1), m=rows, broadcast_a=False, broadcast_b=False,
        lda=None if "a" in near else _kept(w.lda, w.m if w.trans_a else w.k, w.trans_a),
        ldc=None if RESULT in near else w.ldc,
    )  # fmt: skip


def _kept(leading: int | None, row: int, across: bool) -> int | None:
    """A transposed A keeps its rows of all of m, of which a block reads a part."""
    return leading if across or leading != row else None


def place_of(workload: Workload, operand: str, rows_of_item: int) -> Place:
    """Where a block of an operand (or of the `RESULT`) lies that has memory for all rows.

    ``rows_of_item``: rows of an item of whatever computes the blocks.
    """
    w = workload
    if isinstance(w, Map):
        tensor = w.operands[operand] if operand else w.output
        along = "m" in (axes_of(w, operand) if operand else ("m",))
        row = tensor.strides[0] if along else 0
        return Place(row * rows_of_item, row)
    tensor = w.operands[operand] if operand else w.output
    if operand in ("a", RESULT):
        row = tensor.strides[-1] if operand and w.trans_a else tensor.strides[-2]
    else:
        axes = axes_of(w, operand)
        row = {("m", "n"): w.n, ("m",): 1}.get(axes, 0)
    if len(tensor.shape) == 3:
        return Place(tensor.strides[0], row)
    shared = operand == "b" or w.batch > 1  # an operand that all products have in common
    return Place(0 if shared else row * rows_of_item, row)
