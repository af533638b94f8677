"""How long values wait for each other: from one step of a fold or scan to the next (rank 4)."""

from __future__ import annotations

from anatune.workload.dtypes import is_float
from anatune.workload.expression import Apply, Expression, Sum
from anatune.workload.nodes import MINUS, OPERATIONS

SIMPLE = frozenset(("add", "sub", "max", "min", "abs", "relu", "clip", MINUS))
"""What takes less than a multiply-add does."""

SIMPLE_SHARE = 0.5
"""Latency of these in that of a multiply-add: 2 of 4 cycles, as sums of a Zen 5 guest showed; 3 of
4 are usual, 4 of 4 the most among current cores."""

INTEGER_CYCLES = 1.0
"""Latency of these of integers."""


def chain_cycles(expression: Expression, fma_latency: float) -> float | None:
    """Cycles from the sum to the value of ``expression``; None where the sum is not in it.

    latency of a multiply-add * multiply-adds one after another; a function counts as the operations
    that it is made of, and a product that goes into a sum is one operation with it, as LLVM has it.
    """
    if isinstance(expression, Sum):
        return 0.0
    waits = [(chain_cycles(part, fma_latency), part) for part in expression.parts]
    found = [(cycles, part) for cycles, part in waits if cycles is not None]
    if not found:
        return None
    before, last = max(found, key=lambda item: item[0])
    assert isinstance(expression, Apply)
    return before + _cycles(expression, last, fma_latency)


def simple_cycles(dtype: str, fma_latency: float) -> float:
    """Latency of a sum, a maximum or a minimum of values of type ``dtype``."""
    return fma_latency * SIMPLE_SHARE if is_float(dtype) else INTEGER_CYCLES


def _cycles(node: Apply, last: Expression, fma_latency: float) -> float:
    """What ``node`` adds where ``last`` is the argument that comes last."""
    if node.function not in SIMPLE:
        return fma_latency * OPERATIONS.get(node.function, 1)
    product = isinstance(last, Apply) and last.function == "mul"
    if product and node.function in ("add", "sub") and is_float(node.dtype):
        return 0.0
    return simple_cycles(node.dtype, fma_latency) * OPERATIONS.get(node.function, 1)
