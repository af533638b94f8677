"""Tuned TVM functions, called with their own arrays (rank 7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from anatune.codegen.operands import Slot, like, overlapping
from anatune.errors import OperandError, require
from anatune.workload.dtypes import numpy_dtype
from anatune.workload.recognised import Recognised, View


class PrimFuncResult:
    """A tuned kernel in the place of a TVM function: ``c = r(a, b)``.

    It takes the arrays that the function reads, in the order of its parameters, and returns those
    that it writes, a tuple where there are several. All else is the result's of its workload:
    ``r.plan``, ``r.explain()``, ``r.export(path)``; the code takes the arrays as that workload
    sees them.

    Attributes:
        function: a `Recognised`: what the function computes, and of which of its arrays.
        result: of tuning that workload.
    """

    def __init__(self, function: Recognised, result: Any) -> None:
        self.function, self.result = function, result
        self._inputs = {name: Slot(name, tensor) for name, tensor in function.inputs}
        self._outputs = {
            name: Slot(name, tensor, written=True) for name, tensor in function.outputs
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return PrimFuncResult, (self.function, self.result)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.result, name)

    def __call__(self, *inputs: Any, out: Any = None) -> Any:
        """What the function writes, given what it reads.

        Args:
            inputs: numpy arrays or other DLPack tensors on the CPU, compact, of the shapes of the
                function's parameters; a number for a parameter that is one.
            out: arrays to write into, in the order of the parameters (for one: the array itself).

        Raises:
            OperandError: a wrong number of arrays, or one that does not fit, named.
        """
        operands, made, given = self._arguments(inputs, out)
        self.result(*operands, out=given)
        return self._returned(inputs, made, out)

    def prepare(self, *inputs: Any, out: Any = None) -> Callable[[], Any]:
        """A function without arguments that computes the results of exactly these arrays."""
        operands, made, given = self._arguments(inputs, out)
        run = self.result.prepare(*operands, out=given)
        results = self._returned(inputs, made, out)

        def call() -> Any:
            run()
            return results

        return call

    def _returned(self, inputs: tuple[Any, ...], made: dict[str, Any], out: Any) -> Any:
        if out is not None:
            return out
        results = tuple(like(inputs[0] if inputs else None, array) for array in made.values())
        return results[0] if len(results) == 1 else results

    def _arguments(
        self, inputs: tuple[Any, ...], out: Any
    ) -> tuple[list[np.ndarray], dict[str, Any], Any]:
        """Operands as the workload sees them, the function's results, and these as it sees them."""
        names = ", ".join(self._inputs)
        why = f"{len(inputs)} inputs: {len(self._inputs)} are needed: {names}"
        require(len(inputs) == len(self._inputs), why, OperandError)
        arrays = {
            slot.name: slot.take(x) for slot, x in zip(self._inputs.values(), inputs, strict=True)
        }
        made = self._made(out)
        taken = {name: slot.take(made[name]) for name, slot in self._outputs.items()}
        if out is not None:
            _check_apart(arrays, taken)
        operands = [_seen(arrays[view.array], view) for view in self.function.operands]
        results = tuple(_seen(taken[view.array], view) for view in self.function.results)
        return operands, made, results if len(results) > 1 else results[0]

    def _made(self, out: Any) -> dict[str, Any]:
        """The arrays to write into by name."""
        if out is None:
            return {name: slot.new() for name, slot in self._outputs.items()}
        given = (out,) if len(self._outputs) == 1 else out
        fits = isinstance(given, (tuple, list)) and len(given) == len(self._outputs)
        require(fits, f"out: a tuple of {len(self._outputs)} arrays is needed", OperandError)
        return dict(zip(self._outputs, given, strict=True))


def _check_apart(inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> None:
    seen = dict(inputs)
    for name, array in outputs.items():
        for other, theirs in seen.items():
            why = f"{name}: shares memory with {other}; give it memory of its own"
            require(not overlapping(array, theirs), why, OperandError)
        seen[name] = array


def _seen(array: np.ndarray, view: View) -> np.ndarray:
    """What ``view`` sees of a compact array: the same memory."""
    tensor = view.tensor
    flat = array.reshape(-1).view(numpy_dtype(tensor.dtype))[view.offset :]
    if tensor.compact:
        return flat[: tensor.elements].reshape(tensor.shape)
    strides = [step * flat.itemsize for step in tensor.strides]
    return np.lib.stride_tricks.as_strided(flat, tensor.shape, strides)
