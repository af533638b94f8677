"""Operands as numpy arrays over the caller's memory, after all checks (rank 5)."""

from __future__ import annotations

import ctypes
import math
import sys
from numbers import Integral, Real
from typing import Any

import numpy as np

from anatune.errors import OperandError, require
from anatune.plan import DynamicPlan, GemmPlan, Storage
from anatune.plan.read import AnyPlan
from anatune.workload import Tensor
from anatune.workload.dtypes import INTEGER_RANGE, numpy_dtype
from anatune.workload.evaluate import LARGEST

CPU = 1
"""Device type of the processor in DLPack (kDLCPU)."""

LINE_BYTES = 64
"""Alignment of arrays that are made here: a cache line, so that no vector straddles two."""

EXCHANGE = "__dlpack_c_exchange_api__"
"""Attribute of tensors that TVM's FFI imports in a tenth of the time that numpy takes."""

HANDED_OVER = {"bfloat16": "uint16"}
"""Types that generated functions declare as another one of the same size."""

LETTER = {"a": "a", "b": "b", "out": "c"}
"""How options of a workload call an operand: lda, stride_c."""


def handed_dtype(dtype: str) -> np.dtype:
    """The type of the arrays that generated functions take for elements of type ``dtype``."""
    return np.dtype(HANDED_OVER.get(dtype, dtype))


def packed_b(plan: AnyPlan) -> Tensor | None:
    """What ``main`` takes in the place of B; None where it takes B as it is."""
    if isinstance(plan, DynamicPlan):
        plan = plan.first  # all variants take the same
    if not isinstance(plan, GemmPlan) or plan.b is not Storage.PACKED_AHEAD:
        return None
    return Tensor.rows(plan.packed_ahead_shape, plan.multiply.b)


class Slot:
    """One argument of a kernel: checks what the caller gives and makes of it what is handed over.

    That is an array over the same memory, of the type that the generated function declares, and of
    shape (1,) for a scalar.
    """

    def __init__(self, name: str, tensor: Tensor, *, written: bool = False) -> None:
        self.name, self.tensor, self.written = name, tensor, written
        self.dtype = numpy_dtype(tensor.dtype)
        self.shape = tensor.shape
        self.strides = tuple(self.dtype.itemsize * step for step in tensor.strides)
        self._handed = handed_dtype(tensor.dtype)
        # Handed over as they come: most arrays, so they are the ones that are recognised quickly.
        self._plain = self._handed is self.dtype and self.shape != ()

    def take(self, x: Any) -> np.ndarray:
        """What is handed over for ``x``; no copy but that of a scalar.

        Raises:
            OperandError: a wrong shape, data type, strides or device, named with what is right.
        """
        if type(x) is not np.ndarray:
            x = self._array(x)
        if (
            x.dtype is self.dtype
            and x.shape == self.shape
            and x.strides == self.strides
            and x.flags.behaved  # aligned and writable
        ):
            return x if self._plain else self._as_declared(x)
        return self._as_declared(self._checked(x))

    def new(self) -> np.ndarray:
        """Memory for this argument."""
        return aligned(self.shape, self.dtype, self.strides)

    def _as_declared(self, array: np.ndarray) -> np.ndarray:
        array = array.view(self._handed)
        return array if self.shape else array.reshape(1)

    def _array(self, x: Any) -> np.ndarray:
        """``x``, which is not a plain numpy array, as one."""
        if self.shape == () and isinstance(x, (Real, self.dtype.type)):
            return self._scalar(x)
        why = f"{self.name}: a masked array; its mask would be ignored: pass x.filled(...)"
        require(not isinstance(x, np.ma.MaskedArray), why, OperandError)
        return np.asarray(x) if isinstance(x, np.ndarray) else _numpy_view(self.name, x)

    def _checked(self, array: np.ndarray) -> np.ndarray:
        """``array`` where it will do, after a closer look than that of `take`."""
        name = self.name
        if array.shape != self.shape:
            raise OperandError(f"{name}: shape {array.shape}, {self.shape} is needed")
        if array.dtype != self.dtype:
            raise OperandError(f"{name}: data type {array.dtype}, {self.tensor.dtype} is needed")
        pairs = zip(self.shape, array.strides, self.strides)
        if any(given != wanted for extent, given, wanted in pairs if extent > 1):
            raise OperandError(self._wrong_strides(array))
        if not array.flags.aligned:
            raise OperandError(f"{name}: begins within an element; aligned memory is needed")
        why = f"{name}: read-only; an array that can be written is needed"
        require(array.flags.writeable or not self.written, why, OperandError)
        return _same_memory(array, self.strides)

    def _scalar(self, x: Any) -> np.ndarray:
        """A number as an array, where its type holds it."""
        bounds = INTEGER_RANGE.get(self.tensor.dtype)
        if bounds is not None:
            low, high = bounds
            fits = isinstance(x, Integral) and low <= int(x) <= high
            why = f"{self.name} = {x}: a whole number from {low} to {high} is needed"
            require(fits, why, OperandError)
            return np.array(int(x), self.dtype)
        value = float(x)
        lost = LARGEST[self.tensor.dtype] < abs(value) < math.inf
        require(not lost, f"{self.name} = {x}: too large for {self.tensor.dtype}", OperandError)
        return np.array(value, self.dtype)

    def _wrong_strides(self, array: np.ndarray) -> str:
        name, tensor = self.name, self.tensor
        said = f"{name}: strides {array.strides}"
        if not tensor.compact:
            options = _options(name, self.shape, tensor.strides)
            given = ", ".join(f"{option} = {value}" for option, value in options.items())
            needed = f"{said} in bytes, {self.strides} are needed as {given}"
            return f"{needed}: pass {self._view_that_fits()}"
        needed = f"{said}; compact row-major memory is needed"
        if self.written:
            return f"{needed}: make {name} with numpy.empty"
        return f"{needed}: pass numpy.ascontiguousarray(...){self._other_workload(array)}"

    def _view_that_fits(self) -> str:
        """How to come by an array with the strides of this argument, which has gaps."""
        steps, columns = self.tensor.strides, self.shape[-1]
        if f"stride_{LETTER[self.name]}" not in _options(self.name, self.shape, steps):
            return f"rows of {steps[-2]} elements, sliced [..., :{columns}]"
        products, rows, _ = self.shape
        if steps == (columns, products * columns, 1):
            return f"x.reshape({rows}, {products}, {columns}).transpose(1, 0, 2)"
        return f"numpy.lib.stride_tricks.as_strided(x, {self.shape}, {self.strides})"

    def _other_workload(self, array: np.ndarray) -> str:
        """The options of a workload that takes ``array`` as it lies, if there are any."""
        size = self.dtype.itemsize
        whole = all(step > 0 and step % size == 0 for step in array.strides)
        if self.name not in LETTER or array.ndim < 2 or not whole:
            return ""
        transposed = array.strides[-2] == size
        stored = array.swapaxes(-1, -2) if transposed else array
        steps = tuple(step // size for step in stored.strides)
        if steps[-1] != 1 or steps[-2] < stored.shape[-1]:
            return ""
        apart = _options(self.name, stored.shape, steps)
        options = [f"trans_{self.name}"] * transposed + [f"{o}={v}" for o, v in apart.items()]
        return f" or make the workload with {', '.join(options)}"


def _options(name: str, shape: tuple[int, ...], strides: tuple[int, ...]) -> dict[str, int]:
    """The options of a workload whose operand has this shape and, in elements, these strides."""
    leading, found = strides[-2], {}
    if leading != shape[-1]:
        found[f"ld{LETTER[name]}"] = leading
    if len(shape) == 3 and strides[0] != shape[-2] * leading:
        found[f"stride_{LETTER[name]}"] = strides[0]
    return found


def overlapping(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether two arrays share an element; rows that lie between each other's do not count."""
    return np.may_share_memory(x, y) and np.shares_memory(x, y)


def aligned(
    shape: tuple[int, ...], dtype: np.dtype, strides: tuple[int, ...] | None = None
) -> np.ndarray:
    """Zeros whose first element begins a cache line; ``strides`` in bytes, compact unless given.

    The array's ``base`` is all of its memory, with what lies between and around its rows.
    """
    if strides is None:
        size = math.prod(shape) * dtype.itemsize
    else:
        last = sum((extent - 1) * step for extent, step in zip(shape, strides))
        size = last + dtype.itemsize
    room: Any = np.zeros(size + LINE_BYTES, np.uint8)
    start = -ctypes.addressof(ctypes.c_char.from_buffer(room)) % LINE_BYTES
    return np.ndarray(shape, dtype, room, start, strides)


def shape_of(name: str, x: Any) -> tuple[int, ...]:
    """The shape of an operand, of a number (). Raises OperandError for what is no array."""
    if isinstance(x, Real):
        return ()
    shape = getattr(x, "shape", None)
    return tuple(_numpy_view(name, x).shape if shape is None else shape)


def like(example: Any, c: np.ndarray) -> Any:
    """``c`` as the kind of tensor that ``example`` is: its library's own ``from_dlpack``."""
    if isinstance(example, np.ndarray):
        return c
    library = sys.modules.get(type(example).__module__.partition(".")[0])
    convert = getattr(library, "from_dlpack", None)
    if convert is None:
        return c
    if c.dtype.name not in HANDED_OVER:
        return convert(c)
    own = getattr(library, c.dtype.name, None)  # numpy cannot export this type; its bits it can
    return c if own is None else convert(c.view(handed_dtype(c.dtype.name))).view(own)


def _numpy_view(name: str, x: Any) -> np.ndarray:
    why = f"{name}: {type(x).__name__} is no array; pass numpy or another DLPack tensor"
    require(hasattr(x, "__dlpack_device__"), why, OperandError)
    try:
        if hasattr(type(x), EXCHANGE):
            return _view_by_ffi(name, x)
        _require_cpu(name, int(x.__dlpack_device__()[0]))
        try:
            return np.from_dlpack(x)
        except (BufferError, RuntimeError):  # such as a data type that numpy lacks
            return _view_by_ffi(name, x)
    except (BufferError, TypeError, RuntimeError, ValueError) as error:
        if isinstance(error, OperandError):
            raise
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise OperandError(f"{name}: {first_line}") from None


def _view_by_ffi(name: str, x: Any) -> np.ndarray:
    import tvm_ffi  # which imports all of torch where it is installed; numpy's arrays need neither

    why = f"{name}: requires a gradient, which no kernel passes on: pass {name}.detach()"
    require(not getattr(x, "requires_grad", False), why, OperandError)
    flipped = any(getattr(x, bit, bool)() for bit in ("is_neg", "is_conj"))
    why = f"{name}: a view that is negated or conjugated on reading: pass {name}.resolve_neg()"
    require(not flipped, why, OperandError)
    tensor = tvm_ffi.from_dlpack(x)
    _require_cpu(name, tensor.device.dlpack_device_type())
    try:
        return np.from_dlpack(tensor)
    except (BufferError, RuntimeError):
        if str(tensor.dtype) != "bfloat16":
            raise
    dtype = numpy_dtype("bfloat16")
    strides = tuple(step * dtype.itemsize for step in tensor.strides)
    return _view_of(tensor, tensor.data_ptr(), tuple(tensor.shape), dtype, strides)


def _require_cpu(name: str, kind: int) -> None:
    if kind != CPU:
        raise OperandError(f"{name}: on DLPack device {kind}; the CPU's memory is needed")


def _same_memory(array: np.ndarray, strides: tuple[int, ...]) -> np.ndarray:
    """``array`` as something that DLPack exports: numpy keeps what is read-only to itself. The
    strides of axes of one element, which may be anything, become those that are declared."""
    if array.flags.writeable and array.strides == strides:
        return array
    return _view_of(array, array.ctypes.data, array.shape, array.dtype, strides)


def _view_of(
    owner: Any, address: int, shape: tuple[int, ...], dtype: np.dtype, strides: tuple[int, ...]
) -> np.ndarray:
    """An array over memory that ``owner`` keeps alive."""
    span = sum((extent - 1) * step for extent, step in zip(shape, strides)) + dtype.itemsize
    memory: Any = (ctypes.c_char * span).from_address(address)
    memory.owner = owner
    return np.ndarray(shape, dtype, memory, 0, strides)
