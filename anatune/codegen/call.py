"""Calling a kernel: operands checked, then handed over without a copy (rank 5).

Only numpy and TVM's FFI are needed: an exported kernel is called without the compiler.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tvm_ffi

from anatune.codegen.operands import aligned, like, refuse_overlap, view
from anatune.errors import OperandError, require
from anatune.plan import GemmPlan, Storage

ENTRY = "main"
"""Name of the generated function: ``main(a, b, c)``."""

PACK_ENTRY = "pack_b"
"""Name of the function ``pack_b(b, packed_b)`` of kernels whose B is packed ahead of time; their
``main`` takes the packed form in the place of B."""


class CheckedCall:
    """``c = call(a, b)``: numpy arrays or other DLPack tensors in, the same kind out.

    Args:
        plan: what the kernel computes, and what it wants to have packed.
        function: gives the compiled function of a name; asked at the first call, as a kernel for
            another machine has none here.
    """

    def __init__(self, plan: GemmPlan, function: Callable[[str], Any]) -> None:
        self._plan = plan
        self._function = function
        self._entries: dict[str, Any] = {}
        self._dtype = np.dtype(plan.workload.dtype)

    def __call__(self, *operands: Any, out: Any = None) -> Any:
        """C for the given operands.

        A constant B is packed at every such call; `bind` packs it once.

        Args:
            operands: one array per input of the workload, in its order; compact and row-major.
            out: an array to write C into instead of a new one; it must not overlap an input.

        Raises:
            OperandError: a wrong number of operands, or one of the wrong shape, data type, strides
                or device, named with what would be right.
        """
        shapes = self._plan.workload.operands
        if len(operands) != len(shapes):
            names = ", ".join(shapes)
            raise OperandError(f"{len(operands)} operands: {len(shapes)} are needed: {names}")
        checked = zip(shapes.items(), operands)
        arrays = {name: view(name, shape, self._dtype, x) for (name, shape), x in checked}
        return self._run(arrays["a"], self._prepared(arrays["b"]), operands[0], out, arrays)

    def bind(self, *, b: Any) -> BoundCall:
        """The kernel with its constant B given, and packed where the plan says so.

        Raises:
            OperandError: B of the wrong shape or data type, or a workload whose B is not constant.
        """
        why = "bind: b is not constant; make the workload with constant_b=True"
        require(self._plan.workload.constant_b, why, OperandError)
        given = view("b", self._plan.workload.operands["b"], self._dtype, b)
        return BoundCall(self, self._prepared(given))

    def load_bound(self, path: str | Path) -> BoundCall:
        """The kernel with the packed B that `BoundCall.save` wrote.

        Raises:
            OperandError: not such a file, damaged, or packed for another plan.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                plan, checksum, packed = str(file["plan"]), int(file["crc32"]), file["b"]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
            why = f"path = {str(path)!r}: no saved B: {error}"
            raise OperandError(why.splitlines()[0]) from None
        sound = _checksum(packed) == checksum
        require(sound, f"path = {str(path)!r}: damaged: its checksum is wrong", OperandError)
        same = plan == self._plan.to_json()
        require(same, f"path = {str(path)!r}: packed for another plan; bind b anew", OperandError)
        kept = aligned(packed.shape, self._dtype)
        kept[...] = packed
        return BoundCall(self, kept)

    def _prepared(self, b: np.ndarray) -> np.ndarray:
        """B as ``main`` takes it."""
        if self._plan.b is not Storage.PACKED_AHEAD:
            return b
        packed = aligned(self._plan.packed_ahead_shape, self._dtype)
        self._entry(PACK_ENTRY)(tvm_ffi.from_dlpack(b), tvm_ffi.from_dlpack(packed))
        return packed

    def _run(
        self, a: np.ndarray, b: np.ndarray, example: Any, out: Any, inputs: dict[str, np.ndarray]
    ) -> Any:
        """Call ``main``; without ``out``, C becomes the kind of tensor that ``example`` is."""
        shape = self._plan.workload.output
        if out is None:
            c = aligned(shape, self._dtype)
        else:
            c = view("out", shape, self._dtype, out, writable=True)
            refuse_overlap(inputs, c)
        self._entry(ENTRY)(*(tvm_ffi.from_dlpack(x) for x in (a, b, c)))
        return like(example, c) if out is None else out

    def _entry(self, name: str) -> Any:
        if name not in self._entries:
            self._entries[name] = self._function(name)
        return self._entries[name]


class BoundCall:
    """``c = call(a)``: a kernel whose constant B is at hand as the kernel wants it."""

    def __init__(self, kernel: CheckedCall, b: np.ndarray) -> None:
        self._kernel = kernel
        self._b = b

    @property
    def packed_bytes(self) -> int:
        """Memory that B takes in this form."""
        return self._b.nbytes

    def __call__(self, a: Any, *, out: Any = None) -> Any:
        """C for A; ``out`` and errors as for `CheckedCall`."""
        kernel = self._kernel
        array = view("a", kernel._plan.workload.operands["a"], kernel._dtype, a)
        return kernel._run(array, self._b, a, out, {"a": array, "b": self._b})

    def save(self, path: str | Path) -> Path:
        """Write B in this form, with its plan and a checksum; `CheckedCall.load_bound` reads it."""
        path = Path(path)
        plan = self._kernel._plan.to_json()
        try:
            with open(path, "wb") as file:
                np.savez(file, b=self._b, plan=np.array(plan), crc32=np.array(_checksum(self._b)))
        except OSError as error:
            raise OperandError(f"path = {str(path)!r}: cannot be written: {error}") from None
        return path


def _checksum(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).data)
