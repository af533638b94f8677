"""Operands as numpy arrays over the caller's memory, after all checks (rank 5)."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from anatune.errors import OperandError, last_line, require

CPU = 1
"""Device type of the processor in DLPack (kDLCPU)."""

LINE_BYTES = 64
"""Alignment of arrays that are made here: a cache line, so that no vector straddles two."""


def view(
    name: str, shape: tuple[int, ...], dtype: np.dtype, x: Any, *, writable: bool = False
) -> np.ndarray:
    """``x`` as a compact numpy array of that shape and data type, without a copy where possible.

    Raises:
        OperandError: a wrong shape, data type, strides or device, named with what would be right.
    """
    why = f"{name}: a masked array; its mask would be ignored: pass x.filled(...)"
    require(not isinstance(x, np.ma.MaskedArray), why, OperandError)
    array = x if isinstance(x, np.ndarray) else _numpy_view(name, x)
    if array.shape != shape:
        raise OperandError(f"{name}: shape {array.shape}, {shape} is needed")
    if array.dtype != dtype:
        raise OperandError(f"{name}: data type {array.dtype}, {dtype} is needed")
    flags = array.flags
    if not flags.c_contiguous:
        mend = f"make {name} with numpy.empty" if writable else "pass numpy.ascontiguousarray(...)"
        why = f"{name}: strides {array.strides}; compact row-major memory is needed: {mend}"
        raise OperandError(why)
    if not flags.aligned:
        raise OperandError(f"{name}: begins within an element; aligned memory is needed")
    if not flags.writeable:
        why = f"{name}: read-only; an array that can be written is needed"
        require(not writable, why, OperandError)
        return array.copy()  # DLPack cannot say that a tensor is read-only
    return array


def refuse_overlap(inputs: dict[str, np.ndarray], out: np.ndarray) -> None:
    """Raise OperandError where ``out`` shares memory with an input that is still to be read."""
    for name, array in inputs.items():
        why = f"out: overlaps {name}; give memory of its own"
        require(not np.may_share_memory(array, out), why, OperandError)


def aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Zeros whose first element begins a cache line."""
    size = int(np.prod(shape)) * dtype.itemsize
    room = np.zeros(size + LINE_BYTES, np.uint8)
    start = -room.ctypes.data % LINE_BYTES
    return room[start : start + size].view(dtype).reshape(shape)


def like(example: Any, c: np.ndarray) -> Any:
    """``c`` as the kind of tensor that ``example`` is: its library's own ``from_dlpack``."""
    if isinstance(example, np.ndarray):
        return c
    library = sys.modules.get(type(example).__module__.partition(".")[0])
    convert = getattr(library, "from_dlpack", None)
    return c if convert is None else convert(c)


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
