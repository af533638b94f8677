"""Calling a kernel: operands checked, then handed over without a copy (rank 5).

Only numpy and TVM's FFI are needed: an exported kernel is called without the compiler.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import tvm_ffi

from anatune.errors import OperandError, last_line, require
from anatune.workload import Matmul

CPU = 1
"""Device type of the processor in DLPack (kDLCPU)."""


class CheckedCall:
    """``c = call(a, b)``: numpy arrays or other DLPack tensors in, the same kind out."""

    def __init__(self, workload: Matmul, function: Callable[[], Any]) -> None:
        self._get_function = function  # asked at the first call: a foreign kernel has none here
        self._function: Any = None
        self._dtype = np.dtype(workload.dtype)
        self._inputs = tuple(workload.operands.items())
        self._output = workload.output

    def __call__(self, *operands: Any, out: Any = None) -> Any:
        """C for the given operands.

        Args:
            operands: one array per input of the workload, in its order; compact and row-major.
            out: an array to write C into instead of a new one; it must not overlap an input.

        Raises:
            OperandError: a wrong number of operands, or one of the wrong shape, data type, strides
                or device, named with what would be right.
        """
        if len(operands) != len(self._inputs):
            names = ", ".join(name for name, _ in self._inputs)
            raise OperandError(f"{len(operands)} operands: {len(self._inputs)} are needed: {names}")
        if self._function is None:
            self._function = self._get_function()
        arrays = [self._view(n, s, x) for (n, s), x in zip(self._inputs, operands)]
        if out is None:
            c = np.empty(self._output, self._dtype)
        else:
            c = self._view("out", self._output, out, writable=True)
            for (name, _), array in zip(self._inputs, arrays):
                require(
                    not np.may_share_memory(array, c),
                    f"out: overlaps {name}; give memory of its own",
                    OperandError,
                )
        self._function(*(tvm_ffi.from_dlpack(x) for x in (*arrays, c)))
        if out is not None:
            return out
        return c if isinstance(operands[0], np.ndarray) else _like(operands[0], c)

    def _view(
        self, name: str, shape: tuple[int, ...], x: Any, writable: bool = False
    ) -> np.ndarray:
        """``x`` as a numpy array over the same memory, after all checks."""
        array = x if isinstance(x, np.ndarray) else _numpy_view(name, x)
        if array.shape != shape:
            raise OperandError(f"{name}: shape {array.shape}, {shape} is needed")
        if array.dtype != self._dtype:
            raise OperandError(f"{name}: data type {array.dtype}, {self._dtype} is needed")
        flags = array.flags
        if not flags.c_contiguous or not flags.aligned:
            raise OperandError(
                f"{name}: strides {array.strides}; compact row-major memory is needed: "
                "pass numpy.ascontiguousarray(...)"
            )
        if not flags.writeable:
            why = f"{name}: read-only; an array that can be written is needed"
            require(not writable, why, OperandError)
            return array.copy()  # DLPack cannot say that a tensor is read-only
        return array


def _numpy_view(name: str, x: Any) -> np.ndarray:
    why = f"{name}: {type(x).__name__} is no array; pass numpy or another DLPack tensor"
    require(hasattr(x, "__dlpack_device__"), why, OperandError)
    kind = int(x.__dlpack_device__()[0])
    why = f"{name}: on DLPack device {kind}; the CPU's memory is needed"
    require(kind == CPU, why, OperandError)
    try:
        return np.from_dlpack(x)
    except (BufferError, TypeError, RuntimeError, ValueError) as error:
        raise OperandError(f"{name}: {last_line(error)}") from None


def _like(example: Any, c: np.ndarray) -> Any:
    """``c`` as the kind of tensor that ``example`` is: its library's own ``from_dlpack``."""
    library = sys.modules.get(type(example).__module__.partition(".")[0])
    convert = getattr(library, "from_dlpack", None)
    return c if convert is None else convert(c)
