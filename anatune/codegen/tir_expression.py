"""TVM's expressions of one element as the project's own, or a refusal of one part (rank 5).

What is computed stays what it is, but for three freedoms: sums and functions of 16-bit floats are
computed in float32, so that roundings on the way to these types are left out; integers that float32
holds exactly may be added and multiplied as integers; and a choice such as x > 0 ? x : f(x) with
f(0) = 0 becomes max(x, 0) + f(min(x, 0)).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from tvm import tirx
from tvm.ir import Call, Op
from tvm.ir.expr import TensorLoad

from anatune.codegen.places import shown
from anatune.codegen.stages import Stage
from anatune.workload.dtypes import (
    ELEMENT_BYTES,
    INTEGER_RANGE,
    accumulator_of,
    is_float,
)
from anatune.workload.expression import FLOAT32_MAX
from anatune.workload.nodes import (
    MINUS,
    Apply,
    Constant,
    Expression,
    common_dtype,
    constant,
)
from anatune.workload.whole import exact_as, is_whole, range_of, value_at_zero

INFIX = {tirx.Add: "add", tirx.Sub: "sub", tirx.Mul: "mul", tirx.Div: "div",
         tirx.Max: "max", tirx.Min: "min"}  # fmt: skip

CALLS = {"exp": "exp", "tanh": "tanh", "erf": "erf", "sqrt": "sqrt", "sigmoid": "sigmoid",
         "fabs": "abs", "abs": "abs", "round": "round", "nearbyint": "round"}  # fmt: skip
"""TVM's operators by name; its round is half to even, as LLVM's roundeven is."""

GREATER, LESS = (tirx.GT, tirx.GE), (tirx.LT, tirx.LE)

MOST_FACTORS = 8
"""Largest whole exponent that becomes products."""

WRAPS = frozenset(("add", "sub", "mul", MINUS))


@dataclass(frozen=True)
class ElementReader:
    """Reads the expression of one element.

    Args:
        stage: whose expression it is, for refusals.
        operand: what a load or a scalar parameter stands for.
        accumulator: type of numbers that nothing else gives a type.
    """

    stage: Stage
    operand: Callable[[Any], Expression]
    accumulator: str

    def node(self, expr: Any) -> Expression:
        """``expr`` as an expression of the project.

        Raises:
            WorkloadError: the part that cannot be one.
        """
        if isinstance(expr, (TensorLoad, tirx.Var)):
            return self.operand(expr)
        if isinstance(expr, (tirx.IntImm, tirx.FloatImm)):
            return self.number(expr)
        if isinstance(expr, tirx.Cast):
            return self.cast(expr)
        if type(expr) in INFIX:
            function = INFIX[type(expr)]
            if function == "div" and not is_float(_dtype(expr)):
                self.refuse(expr, "a division of integers")
            return self.applied(expr, function, self.node(expr.a), self.node(expr.b))
        if isinstance(expr, tirx.Select):
            return self.choice(expr, expr.condition, expr.true_value, expr.false_value)
        if isinstance(expr, Call):
            return self.call(expr)
        self.refuse(expr, "no such operation in expressions")

    def call(self, expr: Any) -> Expression:
        name = str(expr.op.name).rpartition(".")[2] if isinstance(expr.op, Op) else ""
        if name == "likely":
            return self.node(expr.args[0])
        if name == "if_then_else":
            return self.choice(expr, *expr.args)
        if name == "pow":
            return self.power(expr)
        if name == "rsqrt":
            root = self.applied(expr, "sqrt", self.node(expr.args[0]))
            return self.applied(expr, "div", constant(1.0, self.accumulator), root)
        if name not in CALLS:
            known = ", ".join(sorted({*CALLS, "rsqrt", "pow"}))
            self.refuse(expr, f"{name or 'this call'} is not known; {known} are")
        return self.applied(expr, CALLS[name], *map(self.node, expr.args))

    def power(self, expr: Any) -> Expression:
        """Whole powers as products; roots, and one over either."""
        base, exponent = map(self.node, expr.args)
        power = exponent.value if isinstance(exponent, Constant) else 0.0
        size = abs(power)
        if not (size == 0.5 or size % 1 == 0 and 1 <= size <= MOST_FACTORS):
            self.refuse(expr, f"pow by a half or a whole number up to {MOST_FACTORS}")
        result = base
        if size == 0.5:
            result = self.applied(expr, "sqrt", base)
        for _ in range(int(size) - 1):
            result = self.applied(expr, "mul", result, base)
        one = constant(1.0, self.accumulator)
        return result if power > 0 else self.applied(expr, "div", one, result)

    def number(self, expr: Any) -> Constant:
        dtype = _dtype(expr)
        if dtype not in ELEMENT_BYTES:
            self.refuse(expr, f"a number of type {dtype}")
        value = float(expr.value)
        if not np.isfinite(value):
            self.refuse(expr, "a number that is not finite")
        if accumulator_of(dtype, dtype) == "float32":
            short = float(str(np.float32(value)))
            value = short if abs(short) <= FLOAT32_MAX else value
        return constant(value + 0.0, accumulator_of(dtype, dtype))

    def cast(self, expr: Any) -> Expression:
        """Values stay what they are: types meet where they are used, and where they are stored."""
        before, after = _dtype(expr.value), _dtype(expr)
        if before not in ELEMENT_BYTES or after not in ELEMENT_BYTES:
            self.refuse(expr, f"{before} to {after}")
        node = self.node(expr.value)
        if is_float(after):
            return node
        low, high = INTEGER_RANGE[after]
        if is_float(before) and not is_whole(node):
            self.refuse(expr, "cuts fractions off; round() first")
        least, most = range_of(node)
        if not is_float(before) and not (low <= least and most <= high):
            self.refuse(expr, f"wraps around beyond {low} and {high}; clip first")
        return node

    def applied(self, expr: Any, function: str, *arguments: Expression) -> Expression:
        """A function whose value is what ``expr`` is in its own type."""
        wanted = accumulator_of(_dtype(expr), _dtype(expr))
        node = applied(function, arguments, self.accumulator)
        if node.computed != wanted and not (
            is_float(wanted) and exact_as(node, wanted)
        ):
            self.refuse(expr, f"{wanted} of operands whose expression is computed in "
                        f"{node.computed}")
        dtype = _dtype(expr)
        if function in WRAPS and dtype in INTEGER_RANGE and dtype != "int32":
            low, high = INTEGER_RANGE[dtype]
            least, most = range_of(node)
            if not (low <= least and most <= high):
                self.refuse(expr, f"wraps around beyond {dtype}; cast to int32 first")
        return node

    def choice(self, expr: Any, condition: Any, yes: Any, no: Any) -> Expression:
        """A choice between two values by their own order, as max, min, abs, or both of a bend."""
        while isinstance(condition, Call) and str(condition.op.name).endswith(".likely"):
            condition = condition.args[0]
        if not isinstance(condition, (*GREATER, *LESS)):
            self.refuse(expr, "a choice by anything but < and >")
        larger, smaller = condition.a, condition.b
        if isinstance(condition, LESS):
            larger, smaller = smaller, larger
        high, low, first, second = map(self.node, (larger, smaller, yes, no))
        if (first, second) == (high, low):
            return self.applied(expr, "max", high, low)
        if (first, second) == (low, high):
            return self.applied(expr, "min", low, high)
        if _is_zero(low) and first == high:
            return self.bend(expr, high, second, "max")
        if _is_zero(high) and first == low:
            return self.bend(expr, low, second, "min")
        if _is_zero(low) and second == high:
            return self.bend(expr, high, first, "min")
        if _is_zero(high) and second == low:
            return self.bend(expr, low, first, "max")
        self.refuse(expr, "a choice that is no max, min, abs, nor x beside f(x) with f(0) = 0")

    def bend(self, expr: Any, x: Expression, other: Expression, side: str) -> Expression:
        """x on one side of 0 (above it where ``side`` is max), ``other`` on the other side."""
        zero = constant(0.0, self.accumulator)
        negated = (Apply(function=MINUS, arguments=(x,)), self._product(x, -1.0),
                   applied("sub", (zero, x), self.accumulator))
        if side == "max" and other in negated:
            return self.applied(expr, "abs", x)
        if value_at_zero(other, x) != 0:
            self.refuse(expr, "a choice with a step at 0")
        kept = self.applied(expr, side, x, zero)
        rest = self.applied(expr, "min" if side == "max" else "max", x, zero)
        return self.applied(expr, "add", kept, replaced(other, x, rest))

    def _product(self, x: Expression, factor: float) -> Expression:
        return applied("mul", (x, constant(factor, self.accumulator)), self.accumulator)

    def refuse(self, expr: Any, why: str) -> NoReturn:
        self.stage.refuse(f"{shown(expr)}: {why}")


def applied(function: str, arguments: tuple[Expression, ...], accumulator: str) -> Apply:
    """A function of ``arguments``, among which numbers take the type of the rest as in texts."""
    met = [a.dtype for a in arguments if not isinstance(a, Constant)] or [accumulator]
    common = common_dtype(function, met)
    typed = tuple(_typed(a, common) if isinstance(a, Constant) else a for a in arguments)
    return Apply(function=function, arguments=typed)


def replaced(node: Expression, old: Expression, new: Expression) -> Expression:
    """``node`` with ``new`` wherever ``old`` was."""
    if node == old:
        return new
    if not isinstance(node, Apply):
        return node
    arguments = tuple(replaced(part, old, new) for part in node.arguments)
    return Apply(function=node.function, arguments=arguments)


def _typed(number: Constant, dtype: str) -> Constant:
    low, high = INTEGER_RANGE["int32"]
    if dtype == "int32" and (number.value % 1 or not low <= number.value <= high):
        dtype = "float32"
    return constant(number.value, dtype)


def _is_zero(node: Expression) -> bool:
    return isinstance(node, Constant) and node.value == 0


def _dtype(expr: Any) -> str:
    return str(expr.ty.dtype)
