"""Calling a kernel of several workloads: operands in their order, results as a tuple (rank 5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from anatune.codegen.call import ENTRY, OVERLAP
from anatune.codegen.operands import Slot, like, overlapping
from anatune.errors import OperandError, require
from anatune.workload import Tensor


class Called(Protocol):
    """What calling a kernel asks of the workload that it computes."""

    @property
    def arguments(self) -> Mapping[str, Tensor]:
        """What a call takes, in order, by the names that errors say."""
        ...

    @property
    def results(self) -> Mapping[str, Tensor]:
        """What a call gives back, likewise."""
        ...

    @property
    def one_result(self) -> bool:
        """Whether a result comes back by itself; else results are a tuple."""
        ...


class GroupCall:
    """``c1, c2 = call(a1, b1, a2, b2)``: numpy arrays or other DLPack tensors in, such out.

    Args:
        workload: what the kernel computes.
        function: gives the compiled function of a name; asked at the first call.
    """

    def __init__(self, workload: Called, function: Callable[[str], Any]) -> None:
        self._single, self._function = workload.one_result, function
        self._main: Any = None
        self._slots = [Slot(name, tensor) for name, tensor in workload.arguments.items()]
        self._outs = [
            Slot(name, tensor, written=True) for name, tensor in workload.results.items()
        ]

    def __call__(self, /, *operands: Any, out: Any = None, **named: Any) -> Any:
        """The results for the given operands, those of each workload in order.

        Args:
            operands: numpy arrays or other DLPack tensors on the CPU; a scalar may be a number.
            named: those that are not given by position, by their names.
            out: arrays to write into, one for each result (for a single one: the array itself);
                they must overlap neither each other nor an input.

        Raises:
            OperandError: a wrong number of operands, or one of the wrong shape, data type, strides
                or device, named with what would be right.
        """
        arrays, results = self._arguments(operands, named, out)
        if self._main is None:
            self._main = self._function(ENTRY)
        self._main(*arrays)
        return results

    def prepare(self, /, *operands: Any, out: Any = None, **named: Any) -> Callable[[], Any]:
        """A function without arguments that computes the results of exactly these arrays."""
        arrays, results = self._arguments(operands, named, out)
        main = self._function(ENTRY)
        import tvm_ffi  # imports all of torch where that is installed

        tensors = tuple(map(tvm_ffi.from_dlpack, arrays))

        def run() -> Any:
            main(*tensors)
            return results

        return run

    def _arguments(
        self, operands: Sequence[Any], named: Mapping[str, Any], out: Any
    ) -> tuple[list[np.ndarray], Any]:
        operands = self._in_order(operands, named) if named else operands
        if len(operands) != len(self._slots):
            names = ", ".join(slot.name for slot in self._slots)
            raise OperandError(f"{len(operands)} operands: {len(self._slots)} are needed: {names}")
        inputs = [slot.take(x) for slot, x in zip(self._slots, operands)]
        made = [slot.new() for slot in self._outs] if out is None else self._given(out)
        outputs = [slot.take(x) for slot, x in zip(self._outs, made)]
        if out is not None:
            self._check_apart(inputs, outputs)
            return [*inputs, *outputs], out
        results = tuple(like(operands[0], c) for c in made)
        return [*inputs, *outputs], results[0] if self._single else results

    def _in_order(self, operands: Sequence[Any], named: Mapping[str, Any]) -> list[Any]:
        """All operands by position."""
        rest = [slot.name for slot in self._slots[len(operands) :]]
        for name in named:
            why = f"{name}: no operand, or given twice; by name there may be {', '.join(rest)}"
            require(name in rest, why, OperandError)
        missing = ", ".join(name for name in rest if name not in named)
        require(not missing, f"{missing}: missing", OperandError)
        return [*operands, *(named[name] for name in rest)]

    def _given(self, out: Any) -> Sequence[Any]:
        if self._single:
            return (out,)
        fits = isinstance(out, (tuple, list)) and len(out) == len(self._outs)
        require(fits, f"out: a tuple of {len(self._outs)} arrays is needed", OperandError)
        return list(out)

    def _check_apart(self, inputs: list[np.ndarray], outputs: list[np.ndarray]) -> None:
        for number, (slot, c) in enumerate(zip(self._outs, outputs)):
            others = [*zip(self._slots, inputs), *zip(self._outs[:number], outputs)]
            for other, array in others:
                if overlapping(array, c):
                    raise OperandError(f"{slot.name}: " + OVERLAP.format(other.name)[5:])
