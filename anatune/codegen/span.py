"""Ranges of rows, columns and steps that loops cover (rank 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from anatune.codegen.vectors import index


def ceildiv(value: Any, divisor: Any) -> Any:
    """The quotient, rounded up: of numbers, or of expressions of code."""
    return (value + (divisor - 1)) // divisor


@dataclass(frozen=True)
class Span:
    """The half-open range that a loop body covers, and its number among its like."""

    start: Any
    stop: Any
    number: Any = 0

    @classmethod
    def whole(cls, extent: Any) -> Span:
        return cls(index(0), index(extent) if isinstance(extent, int) else extent, index(0))

    @property
    def length(self) -> Any:
        return self.stop - self.start

    def blocks(self, step: Any) -> Any:
        """How many blocks of ``step`` cover the span."""
        return ceildiv(self.length, step)

    def block(self, number: Any, step: Any) -> Span:
        start = T.bind(self.start + number * step)
        return Span(start, T.bind(T.min(start + step, self.stop)), number)

    def whole_tiles(self, tile: int) -> Any:
        """How many whole tiles fit into the span."""
        return tirx.floordiv(self.length, tile)


@dataclass(frozen=True)
class Tile:
    """One tile along a dimension: its number in the span, where it begins, its elements.

    ``last`` are the elements of its last vector where only the running code knows how many.
    """

    number: Any
    start: Any
    size: int
    last: Any = None
