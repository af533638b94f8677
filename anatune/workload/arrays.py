"""How users name element-wise workloads: functions that make a `Map` (rank 2)."""

from __future__ import annotations

from typing import Any

from anatune.errors import WorkloadError, require
from anatune.workload.dtypes import INTEGER_RANGE, dtype_name
from anatune.workload.expression import parse, parse_step
from anatune.workload.maps import FOLDS, SCAN, SOFTMAX, Map, extent_of

SCANS = {"sum": "c + x", "prod": "c * x", "max": "max(c, x)", "min": "min(c, x)"}
"""Steps of scans that have a name."""

INFINITY = float("inf")


def elementwise(
    expression: str, shape: Any, *, dtype: str = "float32", out_dtype: str | None = None
) -> Map:
    """The workload out[...] = expression, element by element.

    Args:
        expression: of arrays, for example ``"relu(x + bias[n])"``: a bare name has an element for
            each of the result's, ``bias[n]`` runs along columns, ``row[m]`` along rows, and
            ``scale[0]`` is a single number.
        shape: extent, or extents (m, n).
        dtype: data type of the arrays that state no other, as ``x.int8`` does.
        out_dtype: that of the result; by default ``dtype``, or what the expression is computed in.

    Raises:
        WorkloadError: an argument that cannot be computed, named.
    """
    m, n, rank = _extents(shape)
    return Map(m=m, n=n, rank=rank, each=expression, dtype=dtype, out_dtype=out_dtype)


def stencil(
    expression: str, shape: Any, *, dtype: str = "float32", out_dtype: str | None = None
) -> Map:
    """The workload out[...] = expression of neighbours, for example ``"x[n-1] + x + x[n+1]"``.

    Args:
        expression: as `elementwise` takes it. Subscripts m and n may have a whole number added, up
            to 64 either way: ``x[m-1, n]`` is the element above, ``x[n+1]`` of arrays of one axis
            the next one.
        shape: extent of the result, or extents (m, n). Arrays are larger by what is read around
            the result: one that is read from x[m-1, n] to x[m+1, n] has m + 2 rows, and its first
            row is what x[m-1, n] means for the result's first. `Map.halo` tells of each array. One
            that is read at a single offset has the result's shape.
        dtype, out_dtype: as `elementwise` takes them.

    Raises:
        WorkloadError: an argument that cannot be computed, named.
    """
    return elementwise(expression, shape, dtype=dtype, out_dtype=out_dtype)


def reduce(
    function: str, shape: Any, expression: str = "x", *, axis: int = -1, finish: str = "",
    dtype: str = "float32", out_dtype: str | None = None,
) -> Map:  # fmt: skip
    """The workload out = finish(function of the expression's values along an axis).

    Args:
        function: "sum", "max", "min" or "mean".
        shape: extent, or extents (m, n).
        expression: of arrays, as `elementwise` takes it.
        axis: the axis that goes: the last one (-1), or the first of two (0).
        finish: an expression of the folded value ``c``, for example ``"sqrt(c)"``.
        dtype, out_dtype: as `elementwise` takes them.

    Raises:
        WorkloadError: an argument that cannot be computed, named.
    """
    m, n, rank = _extents(shape)
    over = _along(axis, rank)
    if function == "mean":
        count = m if over == "m" else n
        mean = parse(f"c / {count}", "float32", "float32")
        function, finish = "sum", str(parse(finish or "c", "float32", "float32").of(mean))
    require(function in FOLDS, f"function = {function!r}: 'sum', 'max', 'min' or 'mean'",
            WorkloadError)
    return Map(
        m=m, n=n, rank=rank, each=expression, fold=function, over=over, finish=finish,
        dtype=dtype, out_dtype=out_dtype,
    )  # fmt: skip


def scan(
    step: str, shape: Any, *, axis: int = 0, initial: float | None = None, finish: str = "",
    dtype: str = "float32", out_dtype: str | None = None,
) -> Map:  # fmt: skip
    """The workload out[i] = finish(c[i]), c[i] = step of c[i - 1] and of the arrays at i.

    Args:
        step: an expression of ``c``, which is what the step before has left, and of arrays as
            `stencil` takes them, for example ``"c * a + x"``; or one of "sum", "prod", "max" and
            "min" of an array ``x``. The step is computed, and ``c`` carried, in float64, float32 or
            int32, whichever holds all that is in it.
        shape: extent, or extents (m, n), of the result.
        axis: the axis along which steps follow each other: down the rows (0), or along each (-1).
        initial: ``c`` before the first step: 0 unless given; what changes nothing for a step with
            a name.
        finish: an expression of ``c``, with single numbers, ``bias[n]``, ``row[m]`` and arrays
            ``gate[m, n]``, for example ``"c * gate[m, n]"``.
        dtype, out_dtype: as `elementwise` takes them.

    Raises:
        WorkloadError: an argument that cannot be computed, named.
    """
    m, n, rank = _extents(shape)
    over = _along(axis, rank)
    text = SCANS.get(step, step) if isinstance(step, str) else step
    if initial is None:
        initial = _neutral(step, parse_step(text, dtype_name("dtype", dtype), rank).computed)
    return Map(
        m=m, n=n, rank=rank, each=text, fold=SCAN, over=over, finish=finish, initial=initial,
        dtype=dtype, out_dtype=out_dtype,
    )  # fmt: skip


def _neutral(step: str, carried: str) -> float:
    """What a scan begins with, of values of type ``carried``."""
    low, high = INTEGER_RANGE.get(carried, (-INFINITY, INFINITY))
    return {"prod": 1.0, "max": low, "min": high}.get(step, 0.0)


def softmax(
    rows: int, columns: int, expression: str = "x", *, dtype: str = "float32",
    out_dtype: str | None = None,
) -> Map:  # fmt: skip
    """The workload out[i, :] = exp(v[i, :]) / sum of it, v the values of the expression.

    The largest value of a row is taken off first, so that no exponential overflows.

    Raises:
        WorkloadError: an argument that cannot be computed, named.
    """
    return Map(m=rows, n=columns, each=expression, fold=SOFTMAX, dtype=dtype, out_dtype=out_dtype)


def _along(axis: Any, rank: int) -> str:
    """The name of an axis given by its number."""
    why = f"axis = {axis!r}: from {-rank} to {rank - 1}"
    require(axis in range(-rank, rank), why, WorkloadError)
    return "m" if axis in (0, -2) and rank == 2 else "n"


def _extents(shape: Any) -> tuple[int, int, int]:
    """m, n, and how many axes arrays have."""
    given = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    require(len(given) in (1, 2), f"shape = {shape!r}: one or two extents", WorkloadError)
    extents = [extent_of("shape", extent) for extent in given]
    return (1, extents[0], 1) if len(extents) == 1 else (extents[0], extents[1], 2)
