"""Random texts of epilogues, and what numpy makes of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from anatune.workload.expression import Operand
from anatune.workload.nodes import CALLS

OPERANDS = (
    "x[n]", "y[m]", "z[m, n]", "s", "h.float32[n]", "w.float16[m, n]", "i.int32", "q.int8[m]",
)  # fmt: skip
NUMBERS = ("0", "1", "2", "7", "0.5", "1.25", "3e-3", "100")


def texts() -> Any:
    """Expressions with the sum in them."""
    leaves = st.sampled_from(("c", "c", *OPERANDS, *NUMBERS))

    def larger(inner: Any) -> Any:
        def call(name: str) -> Any:
            return st.lists(inner, min_size=CALLS[name], max_size=CALLS[name]).map(
                lambda parts: f"{name}({', '.join(parts)})"
            )

        bare = st.tuples(inner, st.sampled_from("+-*"), inner).map("{0[0]} {0[1]} {0[2]}".format)
        infix = st.tuples(inner, st.sampled_from("+-*/"), inner).map(
            "({0[0]}) {0[1]} ({0[2]})".format
        )
        calls = st.sampled_from(sorted(CALLS)).flatmap(call)
        return st.one_of(infix, bare, inner.map("-({})".format), calls)

    return st.recursive(leaves, larger, max_leaves=8).map(lambda text: f"c + ({text})")


FUNCTIONS = {
    "max": np.maximum, "min": np.minimum, "abs": np.abs, "round": np.rint, "exp": np.exp,
    "tanh": np.tanh, "sqrt": np.sqrt,
    "erf": np.vectorize(math.erf, otypes=[float]),
    "erfc": np.vectorize(math.erfc, otypes=[float]),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
    "clip": lambda x, low, high: np.minimum(np.maximum(x, low), high),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: x * FUNCTIONS["erfc"](-x / math.sqrt(2)) / 2,
    "gelu_tanh": lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
}  # fmt: skip


def shape_of(operand: Operand, m: int, n: int) -> tuple[int, ...]:
    """The shape in which it can be broadcast to [m, n]."""
    return (m if "m" in operand.axes else 1, n if "n" in operand.axes else 1)
