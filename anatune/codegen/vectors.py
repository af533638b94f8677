"""Vector loads and stores of a row whose last vector may be partial (rank 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

FOR_WRITING, KEEP, DATA = 1, 3, 1
"""Arguments of llvm.prefetch (LLVM language reference): intent, locality (3: all levels), cache."""

INDEX = "int64"  # operands may hold 2**31 elements and more


ON_STACK = {"disable_lower_builtin": True}
"""Annotation of a small array that is to live in registers. Without it TVM asks its runtime for the
memory each time that the array's scope is entered, some 100 cycles a register tile: only arrays of
scope "global" and below 1 KiB are left alone."""


def index(value: int) -> Any:
    """An integer constant of the type that every loop and subscript has."""
    return tirx.IntImm(INDEX, value)


@dataclass(frozen=True)
class Row:
    """``columns`` neighbouring elements of one row, cut into vectors of ``lanes``.

    Only the last vector can be partial; it is then read and written under a constant mask, so
    nothing outside the row is touched and the loop that uses it holds no branch. ``last`` are the
    elements of that vector where only the running code knows how many; ``columns`` then counts
    whole vectors.
    """

    columns: int
    lanes: int
    last: Any = None

    @property
    def vectors(self) -> int:
        return -(-self.columns // self.lanes)

    def inside(self, column: int) -> Any:
        """``column``, or the last one that there is: to read something where nothing is."""
        first = (self.vectors - 1) * self.lanes
        if self.last is None or column <= first:
            return column
        return first + T.min(index(column - first), self.last - 1)

    def load(self, buffer: Any, where: tuple[Any, ...], vector: int) -> Any:
        """Vector number ``vector`` of the row starting at ``where``; absent lanes read as 0."""
        where = self._lanes_at(where, vector)
        mask = self._mask(vector)
        if mask is None:
            return buffer[where]
        return T.masked_load(f"{buffer.dtype}x{self.lanes}", buffer, *where, mask)

    def store(self, buffer: Any, where: tuple[Any, ...], vector: int, value: Any) -> None:
        """Write vector number ``vector`` of the row starting at ``where``; absent lanes stay."""
        where = self._lanes_at(where, vector)
        mask = self._mask(vector)
        if mask is None:
            T.buffer_store(buffer, value, list(where))
        elif self.last is None and self._present(vector) == 1:
            # LLVM 22 writes four bytes where one lane of int32, cut down to fewer, is stored.
            *outer, lanes = where
            T.buffer_store(buffer, tirx.Shuffle([value], [index(0)]), [*outer, lanes.base])
        else:
            T.evaluate(T.masked_store(buffer, value, *where, mask))

    def prefetch(self, buffer: Any, where: tuple[Any, ...], vector: int) -> None:
        """Ask for the line where vector number ``vector`` of a row begins, to be written soon."""
        *outer, column = where
        first = (*outer, column + vector * self.lanes)
        address = T.address_of(buffer[first])
        T.evaluate(T.call_llvm_intrin("void", "llvm.prefetch", address, FOR_WRITING, KEEP, DATA))

    def _lanes_at(self, where: tuple[Any, ...], vector: int) -> tuple[Any, ...]:
        *outer, column = where
        first = column + vector * self.lanes
        return (*outer, T.ramp(first, 1, self.lanes) if self.lanes > 1 else first)

    def _present(self, vector: int) -> int:
        return min(self.lanes, self.columns - vector * self.lanes)

    def _mask(self, vector: int) -> Any | None:
        present: Any = self._present(vector)
        if self.last is not None and vector == self.vectors - 1:
            present = T.cast(self.last, "int32")
        elif present == self.lanes:
            return None
        return T.get_active_lane_mask(f"boolx{self.lanes}", 0, present)
