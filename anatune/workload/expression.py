"""What becomes of a sum before it is stored: an expression, kept as data (rank 2)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

OUT = "out"
"""Name of what C held before."""


class Expression:
    """One of `Sum`, `Constant`, `Operand` and `Apply`; frozen, comparable, printed as it is parsed."""

    @cached_property
    def operands(self) -> tuple[Operand, ...]:
        """The arrays and scalars besides C that it reads, in the order in which they are named."""
        raise NotImplementedError

    def of(self, inner: Expression) -> Expression:
        """This expression with ``inner`` in the place of the sum."""
        raise NotImplementedError

    def plus(self, other: Expression) -> Expression:
        return Apply(function="add", arguments=(self, other))

    def times(self, other: Expression) -> Expression:
        return Apply(function="mul", arguments=(self, other))


@dataclass(frozen=True)
class Sum(Expression):
    """The sum of products itself, in the accumulator's type."""


SUM = Sum()


@dataclass(frozen=True, kw_only=True)
class Constant(Expression):
    value: float
    dtype: str


@dataclass(frozen=True, kw_only=True)
class Operand(Expression):
    """An array along ``axes`` of C: ("n",), ("m",), ("m", "n"), or () for a scalar."""

    name: str
    axes: tuple[str, ...]
    dtype: str


@dataclass(frozen=True, kw_only=True)
class Apply(Expression):
    function: str
    arguments: tuple[Expression, ...]


def constant(value: float, dtype: str) -> Constant:
    return Constant(value=value, dtype=dtype)


def parse(text: Any, accumulator: str, output: str) -> Expression:
    raise NotImplementedError
