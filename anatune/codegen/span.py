"""Ranges of rows, columns and steps that loops cover (rank 5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from anatune.codegen.vectors import index


@dataclass(frozen=True)
class Span:
    """The half-open range that a loop body covers, and its number among its like."""

    start: Any
    stop: Any
    number: Any = 0

    @classmethod
    def whole(cls, extent: int) -> Span:
        return cls(index(0), index(extent), index(0))

    @property
    def length(self) -> Any:
        return self.stop - self.start

    def blocks(self, step: int) -> Any:
        """How many blocks of ``step`` cover the span."""
        return tirx.floordiv(self.length + (step - 1), step)

    def block(self, number: Any, step: int) -> Span:
        start = T.bind(self.start + number * step)
        return Span(start, T.bind(T.min(start + step, self.stop)), number)

    def whole_tiles(self, tile: int) -> Any:
        """How many whole tiles fit into the span."""
        return tirx.floordiv(self.length, tile)

    def each_tile(self, tile: int, extent: int, body: Callable[[Any, int], None]) -> None:
        """``body(number, size)``: whole tiles in a loop, then the one ``extent`` cuts short."""
        whole = self.whole_tiles(tile)
        with T.serial(0, whole) as number:
            body(number, tile)
        if extent % tile:
            with T.If(self.stop == extent), T.Then():
                body(whole, extent % tile)
