"""Calling a kernel that serves a family: which member it is, is seen from the operands (rank 5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from anatune.codegen.call import BoundCall, CheckedCall
from anatune.codegen.operands import shape_of
from anatune.errors import OperandError, WorkloadError, require
from anatune.plan import DynamicPlan
from anatune.workload import Matmul, Tensor
from anatune.workload.dim import at, solve

MOST_MEMBERS = 4096
"""Members whose checks are kept ready; beyond, all are made anew as they come."""

Call = TypeVar("Call", CheckedCall, BoundCall)


class _Members(Generic[Call]):
    """One call for each shape of operands that was seen."""

    _make: Callable[[dict[str, int]], Call]

    def __init__(
        self, tensors: Mapping[str, Tensor], family: Matmul, make: Callable[[dict[str, int]], Call]
    ) -> None:
        self._tensors, self._family, self._make = tensors, family, make
        self._ready: dict[tuple[Any, ...], Call] = {}

    def of(self, operands: tuple[Any, ...]) -> Call:
        """The call for these operands. Raises OperandError where they are no member's."""
        try:
            return self._ready[tuple([x.shape for x in operands])]
        except (KeyError, AttributeError, TypeError):
            pass  # a shape not seen before, or something without one, such as a number
        names = ", ".join(self._tensors)
        why = f"{len(operands)} operands: {len(self._tensors)} are needed: {names}"
        require(len(operands) == len(self._tensors), why, OperandError)
        shapes = tuple(map(shape_of, self._tensors, operands))
        if shapes not in self._ready:
            made = self._make(self._values(shapes))
            if len(self._ready) >= MOST_MEMBERS:
                self._ready.clear()
            self._ready[shapes] = made
        return self._ready[shapes]

    def _values(self, shapes: tuple[tuple[int, ...], ...]) -> dict[str, int]:
        """The dims that the shapes tell, in their ranges."""
        seen: dict[Any, int] = {}
        for (name, tensor), shape in zip(self._tensors.items(), shapes):
            why = f"{name}: shape {shape}, {_shown(tensor)} is needed"
            require(len(shape) == len(tensor.shape), why, OperandError)
            for extent, given in zip(tensor.shape, shape):
                seen.setdefault(extent, given)
        least = {dim.name: dim.low for dim in self._family.dims}
        values = {**least, **solve(seen)}  # shapes that are no member's may tell too few
        for (name, tensor), shape in zip(self._tensors.items(), shapes):
            needed = tuple(at(extent, values) for extent in tensor.shape)
            told = ", ".join(f"{dim} = {value}" for dim, value in values.items())
            why = f"{name}: shape {shape}, {_shown(tensor)} is needed, {needed} with {told}"
            require(shape == needed, why, OperandError)
        try:
            self._family.at(**values)
        except WorkloadError as error:
            raise OperandError(str(error)) from None
        return values


def _shown(tensor: Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))}{',' * (len(tensor.shape) == 1)})"


class FamilyCall:
    """``c = call(a, b)`` for operands of any member of a family; the member is seen from them.

    Args:
        plan, function: as of `CheckedCall`.
    """

    def __init__(self, plan: DynamicPlan, function: Callable[[str], Any]) -> None:
        self._plan, self._function = plan, function
        family = plan.workload
        self._members = _Members(
            family.operands, family, lambda values: CheckedCall(plan, function, values)
        )

    def __call__(self, *operands: Any, out: Any = None) -> Any:
        """C for the given operands: arguments, result and errors are those of `CheckedCall`.

        Raises:
            OperandError: also where no member of the family has operands of these shapes, or one of
                the dims is beyond its range.
        """
        return self._members.of(operands)(*operands, out=out)

    def prepare(self, *operands: Any, out: Any = None) -> Callable[[], Any]:
        """A function without arguments that computes C of exactly these arrays; as `CheckedCall`'s.
        """
        return self._members.of(operands).prepare(*operands, out=out)

    def bind(self, *, b: Any) -> BoundFamily:
        """The kernel with its constant B given, packed once for all members.

        Raises:
            OperandError: B of the wrong shape or data type, or a workload whose B is not constant.
        """
        return BoundFamily(self, self._any_member().bind(b=b))

    def load_bound(self, path: str | Path) -> BoundFamily:
        """The kernel with the packed B that `BoundFamily.save` wrote. Raises OperandError."""
        return BoundFamily(self, self._any_member().load_bound(path))

    def _any_member(self) -> CheckedCall:
        """B, where it is constant, is the same for all of them."""
        values = {dim.name: dim.low for dim in self._plan.workload.dims}
        return CheckedCall(self._plan, self._function, values)


class BoundFamily:
    """``c = call(a)``: a kernel for a family whose constant B is at hand.

    Attributes:
        packed_bytes: memory that B takes in this form.
        packing_s: seconds that packing it took; 0 where it was not packed, or read from a file.
    """

    def __init__(self, kernel: FamilyCall, bound: BoundCall) -> None:
        plan, function = kernel._plan, kernel._function
        packed: np.ndarray = bound._b
        self._bound = bound
        self.packed_bytes, self.packing_s = bound.packed_bytes, bound.packing_s
        tensors = {name: t for name, t in plan.workload.operands.items() if name != "b"}
        self._members = _Members(
            tensors,
            plan.workload,
            lambda values: CheckedCall(plan, function, values).with_packed(packed, 0.0),
        )

    def __call__(self, *operands: Any, out: Any = None) -> Any:
        """C for the given operands without B; otherwise as `FamilyCall`."""
        return self._members.of(operands)(*operands, out=out)

    def prepare(self, *operands: Any, out: Any = None) -> Callable[[], Any]:
        """A function without arguments that computes C of exactly these arrays."""
        return self._members.of(operands).prepare(*operands, out=out)

    def save(self, path: str | Path) -> Path:
        """Write B in this form; `FamilyCall.load_bound` reads it."""
        return self._bound.save(path)
