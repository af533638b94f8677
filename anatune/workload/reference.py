"""What C should hold, and how far off a kernel's rounding may leave it (rank 2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from anatune.workload.dtypes import (
    INTEGER_RANGE,
    SIGNIFICANT_BITS,
    UNIT_ROUNDOFF,
    is_float,
    numpy_dtype,
)
from anatune.workload.evaluate import LARGEST, Bounded, evaluate, wrapped
from anatune.workload.expression import OUT
from anatune.workload.matmul import Matmul

WIDENED_ELEMENTS = 1 << 20
"""Elements of B that a reference widens at once: 8 MiB of float64, whatever the size of B."""

EXACT_IN_FLOAT64 = 2**53
"""Whole numbers up to here are float64s."""

INT32_BITS = 31
"""Significant bits of an int32."""

PAIR_ROUNDINGS = 2
"""Roundings that a bfloat16 dot-product instruction makes where a multiply-add makes one: of the
sum of two products, and of that added (Intel Architecture Instruction Set Extensions Programming
Reference, VDPBF16PS)."""

SMALLEST_NORMAL = 2.0**-126
"""The same instruction reads and writes smaller float32s and bfloat16s as 0."""

SPACING_AT_ZERO = {
    "float64": 2.0**-1074, "float32": 2.0**-149, "float16": 2.0**-24, "bfloat16": 2.0**-133,
}  # fmt: skip
"""Smallest positive number of a format (IEEE 754-2019, table 3.5)."""

Inputs = Mapping[str, np.ndarray]


def reference(
    workload: Matmul, inputs: Inputs, out: np.ndarray | None = None, rows: Any = slice(None)
) -> np.ndarray:
    """What the chosen ``rows`` of C should hold before it is converted to ``out_dtype``.

    ``inputs`` are arrays by the names of ``workload.operands``; ``out`` is what C held before,
    needed where ``beta`` is not 0. float64; int64, wrapped around as int32, where sums and
    expression are integers.
    """
    return _values(workload, inputs, out, rows, bounded=False)[0]


def error_bound(
    workload: Matmul, inputs: Inputs, out: np.ndarray | None = None, rows: Any = slice(None)
) -> np.ndarray:
    """The largest difference between a right kernel's C and `reference`, element by element.

    It holds for all data and every order of the sums. Where C is a narrower integer it includes
    the way to the nearest value of that type; it is inf where C may be infinite.
    """
    value, error = _values(workload, inputs, out, rows, bounded=True)
    bound = error + storing_error(workload.expression.dtype, str(workload.out_dtype), value, error)
    return np.where(np.isnan(bound), np.inf, bound)


def store(workload: Matmul, values: np.ndarray) -> np.ndarray:
    """Values of `reference` converted to ``out_dtype`` as a kernel does."""
    return stored_as(str(workload.out_dtype), values)


def stored_as(out_dtype: str, values: np.ndarray) -> np.ndarray:
    """Values converted to ``out_dtype`` as a kernel does."""
    if not is_float(out_dtype):
        whole = values if values.dtype.kind == "i" else np.nan_to_num(np.rint(values), nan=0.0)
        values = np.clip(whole, *INTEGER_RANGE[out_dtype])
    with np.errstate(over="ignore"):
        return values.astype(numpy_dtype(out_dtype))


def _values(
    workload: Matmul, inputs: Inputs, out: np.ndarray | None, rows: Any, bounded: bool
) -> Bounded:
    a, b = _matrices(workload, inputs, rows)
    sums = _sums(workload, a, b)
    if workload.batch > 1:  # one A beside one B make one product, but C has them all
        sums = np.broadcast_to(sums, (workload.batch, *sums.shape[-2:]))
    error = _sums_error(workload, a, b) if bounded else np.zeros(())
    named = workload.expression.operands
    operands = {op.name: _placed(inputs, out, op.name, op.axes, rows) for op in named}
    return evaluate(workload.expression, sums, operands, error)


def _matrices(workload: Matmul, inputs: Inputs, rows: Any) -> tuple[np.ndarray, np.ndarray]:
    """The chosen rows of A as [..., m, k], and B as [..., k, n]."""
    a, b = inputs["a"], inputs["b"]
    a = np.swapaxes(a, -1, -2) if workload.trans_a else a
    b = np.swapaxes(b, -1, -2) if workload.trans_b else b
    return a[..., rows, :], b


def _placed(
    inputs: Inputs, out: np.ndarray | None, name: str, axes: tuple[str, ...], rows: Any
) -> np.ndarray:
    """An operand of the epilogue as it lies along [..., m, n]."""
    whole = out if name == OUT else inputs[name]
    assert whole is not None, "beta: what C held before is needed"
    if "m" in axes:
        whole = whole[..., rows, :] if "n" in axes else whole[rows][:, None]
    return whole if axes else np.reshape(whole, ())


def _sums(workload: Matmul, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if is_float(workload.accumulator):
        return _product(workload, a, b, np.float64)
    widest = [max(map(abs, INTEGER_RANGE[str(d)])) for d in (workload.dtype, workload.dtype_b)]
    fits = workload.k * widest[0] * widest[1] < EXACT_IN_FLOAT64
    return wrapped(_product(workload, a, b, np.float64 if fits else np.int64))


def _product(
    workload: Matmul, a: np.ndarray, b: np.ndarray, dtype: Any, of: Callable[..., Any] = np.asarray
) -> np.ndarray:
    """``of(A) of(B)`` in ``dtype``; B is widened a few columns at a time."""
    left = of(a.astype(dtype))
    step = max(1, WIDENED_ELEMENTS // (b.size // workload.n))
    parts = [left @ of(b[..., j : j + step].astype(dtype)) for j in range(0, workload.n, step)]
    return np.concatenate(parts, axis=-1)


def _sums_error(workload: Matmul, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """gamma |A||B|, gamma = r u / (1 - r u), for any order of r roundings (Higham, Accuracy and
    Stability of Numerical Algorithms, 2nd ed., eq. 3.13); 0 for integers.

    r is k, and 1 for integers that are rounded as they become floats. The float64 sums that a
    kernel's are compared with are rounded too.
    """
    if not is_float(workload.accumulator):
        return np.zeros(())
    u, k = UNIT_ROUNDOFF[workload.accumulator], workload.k
    pairs = workload.dtype == workload.dtype_b == "bfloat16"
    rounded = (k + 1) * ((PAIR_ROUNDINGS if pairs else 1) * u + UNIT_ROUNDOFF["float64"])
    gamma = rounded / (1 - rounded) if rounded < 1 else np.inf
    bound: np.ndarray = gamma * _product(workload, a, b, np.float64, np.abs)
    bound += k * SPACING_AT_ZERO[workload.accumulator]
    if pairs:
        bound += _flushed(a, b)
    return bound


def _flushed(a: np.ndarray, b: np.ndarray) -> Any:
    """What sums of products may lack where numbers, products and sums below `SMALLEST_NORMAL`
    count as 0."""
    a_sum = np.abs(a.astype(np.float64)).sum(axis=-1)[..., :, None]
    b_sum = np.abs(b.astype(np.float64)).sum(axis=-2)[..., None, :]
    return SMALLEST_NORMAL * (a_sum + b_sum + 2 * a.shape[-1])


def storing_error(held: str, to: str, value: np.ndarray, error: np.ndarray) -> np.ndarray:
    """What the conversion from type ``held`` to ``to`` adds to values off by ``error``."""
    if not is_float(to):
        beyond: np.ndarray = np.abs(value - np.clip(value, *INTEGER_RANGE[to]))
        return beyond + (0.5 if is_float(held) else 0.0)
    bits = SIGNIFICANT_BITS.get(held, INT32_BITS)
    reach = np.abs(value) + error
    added = np.zeros_like(reach)
    if SIGNIFICANT_BITS[to] < bits:
        # Twice u: float64 becomes 16 bits by way of float32.
        added = 2 * UNIT_ROUNDOFF[to] * reach + SPACING_AT_ZERO[to]
    return np.where(reach > LARGEST[to], np.inf, added)
