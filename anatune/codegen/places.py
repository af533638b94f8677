"""Axes of TVM's blocks, and where in memory an element lies along them (rank 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, NoReturn

import tvm_ffi
from tvm import tirx
from tvm.ir import Range

from anatune.codegen.loop_terms import Terms
from anatune.errors import WorkloadError

SHOWN = 60
"""Characters of an expression that a refusal repeats."""


@dataclass(frozen=True)
class Axis:
    """A variable that runs from 0 to ``extent`` - 1."""

    var: Any
    extent: int

    @property
    def key(self) -> int:
        return hash(self.var)


@dataclass
class Places:
    """Where loads lie in their buffers, as numbers of elements that are affine in axes."""

    axes: Sequence[Axis]
    terms: Terms = field(default_factory=Terms)

    def __post_init__(self) -> None:
        for axis in self.axes:
            self.terms.analyzer.bind(axis.var, Range(0, axis.extent))

    def of(self, load: Any) -> tuple[int, dict[int, int]] | None:
        """The first element, and elements per step of each axis (by its key); None: not affine."""
        affine = self.terms.affine(self.simplified(load))
        steps = {axis.key: self.terms.name(axis.var) for axis in self.axes}
        if affine is None or not affine.names <= set(steps.values()):
            return None
        found = {key: affine.coefficient(name) for key, name in steps.items()}
        return affine.constant, {key: step for key, step in found.items() if step}

    def simplified(self, load: Any) -> Any:
        """The number of the element that ``load`` reads, as an expression."""
        place: Any = tirx.IntImm("int64", 0)
        for index, step in zip(load.indices, row_major(shape_of(load.source)), strict=True):
            place = place + index * step
        return self.terms.analyzer.simplify(place)


def shape_of(buffer: Any) -> tuple[int, ...]:
    """Raises WorkloadError for extents that are not numbers."""
    shape = tuple(buffer.shape)
    for extent in shape:
        if not isinstance(extent, tirx.IntImm):
            refuse(str(buffer.name), f"extent {extent} is no number; specialise the function")
    return tuple(int(extent) for extent in shape)


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Elements from one to the next along each axis, of compact memory."""
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def shown(expr: Any) -> str:
    """An expression in one line."""
    text = " ".join(str(expr).split())
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def substituted(expr: Any, values: Mapping[int, Any]) -> Any:
    """``expr`` with variables replaced, by their keys."""
    return tvm_ffi.structural_map(expr, (tirx.Var, lambda var: values.get(hash(var), var)))


def same(a: Any, b: Any) -> bool:
    return bool(tvm_ffi.structural_equal(a, b))


def refuse(block: str, why: str) -> NoReturn:
    raise WorkloadError(f"block {block!r}: {why}")
