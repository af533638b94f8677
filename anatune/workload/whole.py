"""What is known of an expression's values without any operand: range, wholeness (rank 2)."""

from __future__ import annotations

import math
from collections.abc import Callable

from anatune.workload.dtypes import INTEGER_RANGE, SIGNIFICANT_BITS, is_float
from anatune.workload.evaluate import FUNCTIONS
from anatune.workload.nodes import MINUS, Apply, Constant, Expression, Operand

Range = tuple[float, float]

ANY: Range = (-math.inf, math.inf)

KEEPS_WHOLE = frozenset(("add", "sub", "mul", "max", "min", "clip", "abs", MINUS))
"""Functions of whole numbers whose values are whole."""

_CORNERS: dict[str, Callable[..., float]] = {
    "add": lambda x, y: x + y, "sub": lambda x, y: x - y, "mul": lambda x, y: x * y,
    "max": max, "min": min, MINUS: lambda x: -x,
    "clip": lambda x, low, high: min(max(x, low), high),
}  # fmt: skip
"""Functions that are monotone in each argument: their extremes are at the ends of ranges."""


def range_of(node: Expression) -> Range:
    """The least and the largest value that ``node`` can have; integers that overflow wrap."""
    found = _unwrapped(node)
    low, high = ANY if is_float(node.computed) else INTEGER_RANGE["int32"]
    return found if low <= found[0] and found[1] <= high else (low, high)


def is_whole(node: Expression) -> bool:
    """Whether its value is always a whole number."""
    if not is_float(node.computed):
        return True
    if isinstance(node, Constant):
        return node.value % 1 == 0
    if not isinstance(node, Apply):
        return False
    return node.function == "round" or (
        node.function in KEEPS_WHOLE and all(map(is_whole, node.arguments))
    )


def exact_as(node: Expression, dtype: str) -> bool:
    """Whether integers of this range are the same computed in ``dtype``, one of the floats."""
    most = 2.0 ** SIGNIFICANT_BITS[dtype]
    low, high = range_of(node)
    inside = all(exact_as(part, dtype) for part in node.parts)
    return not is_float(node.computed) and -most <= low and high <= most and inside


def value_at_zero(node: Expression, x: Expression) -> float | None:
    """The value where ``x`` is 0, if no other operand has a say."""
    if node == x:
        return 0.0
    if isinstance(node, Constant):
        return node.value
    if not isinstance(node, Apply) or node.function not in FUNCTIONS:
        return None
    values = [value_at_zero(part, x) for part in node.arguments]
    if node.function == "mul" and 0 in values:
        return 0.0
    if None in values:
        return None
    return float(FUNCTIONS[node.function](*values))


def _unwrapped(node: Expression) -> Range:
    if isinstance(node, Constant):
        return node.value, node.value
    if isinstance(node, Operand):
        return INTEGER_RANGE.get(node.dtype, ANY)
    if not isinstance(node, Apply) or node.function not in _CORNERS:
        return ANY
    ranges = [range_of(part) for part in node.arguments]
    corners: list[tuple[float, ...]] = [()]
    for ends in ranges:
        corners = [(*corner, end) for corner in corners for end in ends]
    found = [_CORNERS[node.function](*corner) for corner in corners]
    return ANY if any(map(math.isnan, found)) else (min(found), max(found))
