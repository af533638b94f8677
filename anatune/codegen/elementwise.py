"""Epilogues: an expression of sums as TIR, on whole vectors (rank 5)."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tvm.tirx.script import builder as T

from anatune.codegen.convert import cast, filled, rounded
from anatune.codegen.transcendental import erf, erfc, exp, sigmoid, tanh
from anatune.workload.expression import MEANINGS, Apply, Constant, Expression, Operand, Sum, meaning
from anatune.workload.nodes import MINUS

LIMITING = ("max", "min")
"""They give their second argument where the first is beyond it or cannot be compared, so a number
goes first: a NaN beside it is then kept."""


WRAPPING = frozenset(("add", "sub", "mul", MINUS))
"""Functions whose values may leave the range of their arguments."""


def emit(
    expression: Expression, sums: Any, operand: Callable[[Operand], Any], lanes: int
) -> Any:
    """The vector of ``expression.dtype`` that becomes of ``sums``.

    ``operand(op)`` is a vector of an operand's elements beside these sums, as type ``op.computed``.
    Integers wrap around where they leave int32.
    """
    return _Emitter(T.bind(sums), operand, lanes).value(expression)


@dataclass(frozen=True)
class _Emitter:
    """Every value is bound to a variable: a tree would hold its repeated parts many times over.

    ``known``: the values of parts so far; one that comes again is not computed again.
    """

    sums: Any
    operand: Callable[[Operand], Any]
    lanes: int
    known: dict[Expression, Any] = field(default_factory=dict)

    def value(self, node: Expression) -> Any:
        if node not in self.known:
            self.known[node] = self.computed(node)
        return self.known[node]

    def computed(self, node: Expression) -> Any:
        if isinstance(node, Sum):
            return self.sums
        if isinstance(node, Operand):
            return T.bind(self.operand(node))
        if isinstance(node, Constant):
            return filled(node.value, node.dtype, self.lanes)
        assert isinstance(node, Apply)
        if node.function in MEANINGS:
            argument = node.arguments[0]
            said = meaning(node.function, argument.computed)
            return emit(said, self.value(argument), self.operand, self.lanes)
        parts = sorted(node.arguments, key=_last) if node.function in LIMITING else node.arguments
        arguments = [self.argument(part, node.dtype) for part in parts]
        function = _FUNCTIONS[node.function]
        wraps = node.dtype == "int32" and node.function in WRAPPING
        return T.bind(wrapped(function, *arguments) if wraps else function(*arguments))

    def argument(self, node: Expression, dtype: str) -> Any:
        """The value of ``node`` as the type that a function of it is computed in."""
        if isinstance(node, Constant):
            return filled(node.value, dtype, self.lanes)
        value = self.value(node)
        return value if node.computed == dtype else cast(value, dtype)


def wrapped(function: Callable[..., Any], *arguments: Any) -> Any:
    """A function of int32 that wraps around: the low halves of int64, which is all that LLVM then
    computes. Of int32 itself TVM and LLVM take it that nothing overflows, and leave out comparisons
    that would tell."""
    wide = [cast(argument, "int64") for argument in arguments]
    return cast(function(*wide), "int32")


def _last(part: Expression) -> bool:
    return not isinstance(part, Constant)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    MINUS: operator.neg,
    "max": lambda x, y: T.max(x, y),
    "min": lambda x, y: T.min(x, y),
    "clip": lambda x, low, high: T.min(high, T.max(low, x)),
    "abs": lambda x: T.abs(x) if x.ty.dtype.is_float else T.max(x, wrapped(operator.neg, x)),
    "sqrt": lambda x: T.sqrt(x),
    "round": rounded,
    "exp": exp,
    "tanh": tanh,
    "erf": erf,
    "erfc": erfc,
    "sigmoid": sigmoid,
}
