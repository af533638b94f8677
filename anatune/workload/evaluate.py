"""Expressions of sums in float64, with a bound on what their own types make of them (rank 2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from anatune.workload.dtypes import UNIT_ROUNDOFF, is_float
from anatune.workload.expression import (
    MEANINGS,
    Apply,
    Constant,
    Expression,
    Operand,
    Sum,
    meaning,
)
from anatune.workload.nodes import MINUS

Bounded = tuple[np.ndarray, np.ndarray]
"""Values and, element by element, how far off a kernel's may be; inf where nothing can be said."""

SMALLEST_NORMAL = {"float32": 2.0**-126, "float64": 2.0**-1022}
"""Below it results may be flushed to 0 (IEEE 754-2019, table 3.2: 2**emin)."""

LARGEST = {
    "float64": (2 - 2.0**-52) * 2.0**1023, "float32": (2 - 2.0**-23) * 2.0**127,
    "float16": 65504.0, "bfloat16": (2 - 2.0**-7) * 2.0**127,
}  # fmt: skip
"""Largest number of a format (IEEE 754-2019, table 3.5)."""

FUNCTION_ERROR = {"exp": 2.0, "tanh": 4.0, "sigmoid": 3.0, "erf": 4.0, "erfc": 8.0}
"""Relative error of functions as `anatune.codegen.transcendental` computes them, in units of the
type's u, and that of erfc(x) times 1 + max(x, 0)^2; the tests of that module hold it to these."""

ERFC_ENDS = 28.0
"""erfc is 0 from here on, in float64 as well."""

FLOAT64_ERROR = 2 * UNIT_ROUNDOFF["float64"]
"""Relative error of what is computed here: an ulp, as mathematical libraries have it."""

EXACT = frozenset((MINUS, "abs", "max", "min", "clip", "round"))
"""Functions whose value is one of the type, so that nothing is rounded."""

INTEGER_BITS = 32

_erf = np.vectorize(math.erf, otypes=[np.float64])
_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, MINUS: np.negative,
    "max": np.maximum, "min": np.minimum, "abs": np.abs, "round": np.rint,
    "clip": lambda x, low, high: np.minimum(np.maximum(x, low), high),
    "exp": np.exp, "tanh": np.tanh, "sqrt": np.sqrt,
    "sigmoid": _sigmoid, "erf": _erf, "erfc": _erfc,
}  # fmt: skip

MONOTONE = frozenset(("exp", "tanh", "sqrt", "sigmoid", "round"))
BELL_SHAPED = frozenset(("erf", "erfc"))
"""Their slope, 2 / sqrt(pi) exp(-x^2) but for the sign, is steepest where x is nearest to 0."""


def evaluate(
    expression: Expression,
    sums: np.ndarray,
    operands: Mapping[str, np.ndarray],
    error: np.ndarray | float = 0.0,
) -> Bounded:
    """``expression`` in float64, in int64 where its type is int32; and a bound.

    ``sums`` are of shape [..., m, n], ``operands``, by `Operand.label`, can be broadcast to that.
    The bound is on the
    difference to the same expression computed in its own types, every operation rounded once, of
    sums that are off by up to ``error``: a running error analysis (Higham, Accuracy and Stability
    of Numerical Algorithms, 2nd ed., section 3.3), which also holds where operations are fused.
    Integers wrap around as int32 does.
    """
    with np.errstate(all="ignore"):
        known = _Known(np.asarray(sums), np.asarray(error, np.float64), operands)
        value, bound = known.evaluate(expression)
        unsure = is_float(expression.dtype) & ~(np.isfinite(value) & np.isfinite(bound))
    shape = np.shape(sums)
    bound = np.where(unsure, np.inf, bound)
    return np.broadcast_to(value, shape), np.broadcast_to(bound, shape)


@dataclass(frozen=True)
class _Known:
    sums: np.ndarray
    error: np.ndarray
    operands: Mapping[str, np.ndarray]

    def evaluate(self, node: Expression) -> Bounded:
        if isinstance(node, Sum):
            return _widened(self.sums, node.dtype), self.error
        if isinstance(node, Operand):
            return _widened(np.asarray(self.operands[node.label]), node.dtype), np.float64(0)
        if isinstance(node, Constant):
            return _widened(np.asarray(node.value).astype(node.dtype), node.dtype), np.float64(0)
        assert isinstance(node, Apply)
        if node.function in MEANINGS:
            (argument,) = node.arguments
            value, error = self.evaluate(argument)
            inner = _Known(value, error, {})
            return inner.evaluate(meaning(node.function, argument.computed))
        if not is_float(node.dtype):
            values = [self.evaluate(part)[0] for part in node.arguments]
            return wrapped(FUNCTIONS[node.function](*values)), np.float64(0)
        bounded = [self.converted(part, node.dtype) for part in node.arguments]
        return _rounded(node, bounded[0][0], *_propagated(node.function, bounded))

    def converted(self, node: Expression, dtype: str) -> Bounded:
        """The value of ``node`` as float64, and what is lost when a kernel makes it ``dtype``."""
        value, error = self.evaluate(node)
        if value.dtype == np.int64 and dtype == "float32":
            error = error + UNIT_ROUNDOFF[dtype] * np.abs(value)
        return value.astype(np.float64), error


def wrapped(values: np.ndarray) -> np.ndarray:
    """int64 modulo 2**32, in the range of int32."""
    half = 1 << (INTEGER_BITS - 1)
    shifted: np.ndarray = (values.astype(np.int64) + half) % (2 * half)
    return shifted - half


def _widened(values: np.ndarray, dtype: str) -> np.ndarray:
    return values.astype(np.float64 if is_float(dtype) else np.int64)


def _propagated(function: str, bounded: list[Bounded]) -> Bounded:
    """The function of the values, and how far errors of its arguments can move it."""
    values, errors = zip(*bounded)
    compute = FUNCTIONS[function]
    value = compute(*values)
    if function in MONOTONE:
        return value, _between_ends(compute, values[0], errors[0], value)
    if function in BELL_SHAPED:
        nearest = np.maximum(np.abs(values[0]) - errors[0], 0)
        return value, errors[0] * 2 / math.sqrt(math.pi) * np.exp(-(nearest**2))
    if function == "mul":
        (x, y), (dx, dy) = values, errors
        return value, np.abs(x) * dy + np.abs(y) * dx + dx * dy
    if function == "div":
        (x, y), (dx, dy) = values, errors
        nearest = np.abs(y) - dy
        return value, np.where(nearest > 0, (dx + np.abs(value) * dy) / nearest, np.inf)
    combine = np.maximum if function in ("max", "min", "clip") else np.add
    moved = errors[0]
    for error in errors[1:]:
        moved = combine(moved, error)
    return value, moved


def _between_ends(
    compute: Callable[[Any], Any], x: np.ndarray, dx: np.ndarray, value: np.ndarray
) -> np.ndarray:
    """How far a monotone function moves between the ends of an interval."""
    # Rounded outwards: in float64 an error of half an ulp would vanish in the addition.
    above = compute(np.where(dx > 0, np.nextafter(x + dx, np.inf), x))
    below = compute(np.where(dx > 0, np.nextafter(x - dx, -np.inf), x))
    moved: np.ndarray = np.maximum(np.abs(above - value), np.abs(value - below))
    return moved


def _rounded(node: Apply, x: np.ndarray, value: np.ndarray, error: np.ndarray) -> Bounded:
    """Adds the rounding of the operation itself, whose first argument is ``x``."""
    if node.function in EXACT:
        return value, error
    units: Any = FUNCTION_ERROR.get(node.function, 1.0)
    if node.function == "erfc":
        units = units * (1 + np.clip(x, 0, ERFC_ENDS) ** 2)
    relative = units * UNIT_ROUNDOFF[node.dtype] + FLOAT64_ERROR
    reach = np.abs(value) + error
    error = error + relative * reach + SMALLEST_NORMAL[node.dtype]
    return value, np.where(reach > LARGEST[node.dtype], np.inf, error)
