"""Whole-number expressions of TVM evaluated for given sizes (rank 5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tvm import tirx
from tvm.tirx import And, Cast, IntImm, Not, Or, Select, Var

from anatune.codegen.loop_terms import called

_BINARY: dict[Any, Callable[[int, int], int]] = {
    tirx.Add: lambda a, b: a + b,
    tirx.Sub: lambda a, b: a - b,
    tirx.Mul: lambda a, b: a * b,
    tirx.FloorDiv: lambda a, b: a // b,
    tirx.FloorMod: lambda a, b: a % b,
    tirx.Min: min,
    tirx.Max: max,
    tirx.LT: lambda a, b: int(a < b),
    tirx.LE: lambda a, b: int(a <= b),
    tirx.GT: lambda a, b: int(a > b),
    tirx.GE: lambda a, b: int(a >= b),
    tirx.EQ: lambda a, b: int(a == b),
    tirx.NE: lambda a, b: int(a != b),
    And: lambda a, b: int(bool(a and b)),
    Or: lambda a, b: int(bool(a or b)),
}


def number(expr: Any, values: Mapping[int, int]) -> int | None:
    """``expr`` with variables (by their hashes) put in; None where it cannot be known."""
    if isinstance(expr, int):
        return expr
    if isinstance(expr, IntImm):
        return int(expr.value)
    if isinstance(expr, Var):
        return values.get(hash(expr))
    if isinstance(expr, Cast):
        return number(expr.value, values)
    if isinstance(expr, Not):
        inner = number(expr.a, values)
        return None if inner is None else int(not inner)
    if isinstance(expr, Select) or called(expr, "if_then_else"):
        parts = expr.args if called(expr, "if_then_else") else _parts(expr)
        which = number(parts[0], values)
        return None if which is None else number(parts[1 if which else 2], values)
    if called(expr, "likely"):
        return number(expr.args[0], values)
    operation = _BINARY.get(type(expr))
    if operation is None:
        return None
    a, b = number(expr.a, values), number(expr.b, values)
    zero = isinstance(expr, (tirx.FloorDiv, tirx.FloorMod)) and b == 0
    return None if a is None or b is None or zero else operation(a, b)


def _parts(select: Any) -> tuple[Any, Any, Any]:
    return select.condition, select.true_value, select.false_value
