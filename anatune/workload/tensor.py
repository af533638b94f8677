"""An array that a workload reads or writes: shape, data type, and where its elements lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

from anatune.workload.dim import at, most
from anatune.workload.dtypes import ELEMENT_BYTES


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """``strides`` are in elements, one per axis; the last is always 1. No axes: a scalar."""

    shape: tuple[int, ...]
    dtype: str
    strides: tuple[int, ...]

    @classmethod
    def rows(
        cls, shape: tuple[int, ...], dtype: str, leading: int | None = None,
        outer: int | None = None,
    ) -> Tensor:  # fmt: skip
        """Row-major, ``leading`` elements from row to row (those of a row unless given), ``outer``
        along the first axis (all of what one step holds unless given)."""
        strides: tuple[int, ...] = ()
        step = 1
        for axis, extent in enumerate(reversed(shape)):
            strides = (step, *strides)
            step = leading if axis == 0 and leading is not None else step * extent
        if outer is not None:
            strides = (outer, *strides[1:])
        return cls(shape=shape, dtype=dtype, strides=strides)

    def at(self, values: Mapping[str, int]) -> Tensor:
        """The array of that member of a family whose dims have these values."""
        shape, strides = (tuple(at(e, values) for e in x) for x in (self.shape, self.strides))
        return replace(self, shape=shape, strides=strides)

    @property
    def element_bytes(self) -> int:
        return ELEMENT_BYTES[self.dtype]

    @property
    def leading(self) -> int:
        """Elements from one row to the next."""
        return self.strides[-2]

    @property
    def compact(self) -> bool:
        return self == Tensor.rows(self.shape, self.dtype)

    @property
    def nested(self) -> bool:
        """Whether each stride, smallest first, steps over all that smaller ones reach: no two
        elements share a place then. Of a family: whether it is so of the largest member."""
        reach: float = 1
        for step, extent in sorted(zip(map(most, self.strides), map(most, self.shape))):
            if extent > 1:
                if step < reach:
                    return False
                reach += (extent - 1) * step
        return True

    @property
    def elements(self) -> int:
        return prod(self.shape)

    @property
    def span(self) -> int:
        """Elements from the first to the last one, both included."""
        return 1 + sum((extent - 1) * step for extent, step in zip(self.shape, self.strides))

    @property
    def size_bytes(self) -> int:
        return self.elements * self.element_bytes
