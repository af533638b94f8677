"""Calling a kernel: operands checked, then handed over without a copy (rank 5).

Only numpy and TVM's FFI are needed: an exported kernel is called without the compiler. Generated
functions are ``main(a, b, ..., c)``, the operands of an epilogue before C, and, where B is packed
ahead of time, ``pack_b(b, packed_b)``; ``main`` then takes the packed form in the place of B.
"""

from __future__ import annotations

import time
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from anatune.codegen.operands import Slot, like, overlapping, packed_b
from anatune.errors import OperandError, require
from anatune.plan import Plan

ENTRY = "main"
"""Name of the generated function that computes C."""

PACK_ENTRY = "pack_b"
"""Name of the generated function that packs B."""

may_share_memory = np.may_share_memory
"""Quick, and wrong of neighbours between each other's rows; `overlapping` then looks closer."""

OVERLAP = "out: overlaps {}; give memory of its own"

B = 1
"""Place of B among the arguments."""


class _Call:
    """What all calls of a kernel have in common."""

    def __init__(
        self, plan: Plan, function: Callable[[str], Any], values: Mapping[str, int] | None = None
    ) -> None:
        self._plan = plan
        self._function = function
        self._main: Any = None
        tensors = {**plan.workload.operands, "out": plan.workload.output}
        if values is not None:
            tensors = {name: tensor.at(values) for name, tensor in tensors.items()}
        self._out = Slot("out", tensors.pop("out"), written=True)
        self._slots = tuple(Slot(name, tensor) for name, tensor in tensors.items())
        self._values = values
        self._reads_out = plan.workload.beta != 0

    def __call__(self, *operands: Any, out: Any = None) -> Any:
        """C for the given operands.

        Args:
            operands: numpy arrays or other DLPack tensors on the CPU, one per input of the workload
                and in its order; a scalar of the epilogue may be a number.
            out: an array to write C into instead of a new one; it must not overlap an input. Needed
                where ``beta`` is not 0, as C is then an input too.

        Returns:
            ``out``, or a new C, the kind of tensor that the first operand is.

        Raises:
            OperandError: a wrong number of operands, or one of the wrong shape, data type, strides
                or device, named with what would be right.
        """
        arrays, c = self._arguments(operands, out)
        if self._main is None:
            self._main = self._function(ENTRY)
        self._main(*arrays)
        return like(operands[0], c) if out is None else out

    def prepare(self, *operands: Any, out: Any = None) -> Callable[[], Any]:
        """A function without arguments that computes C of exactly these arrays and returns it.

        All checks are done here, once, which leaves 0.15 microseconds to a call. Arrays are read
        anew by each call, so change what is in them to compute something else, and all calls write
        the same C. A B that is packed ahead of time, and numbers, stay what they were here.
        Arguments and errors are those of a call.
        """
        arrays, c = self._arguments(operands, out)
        main = self._function(ENTRY)
        import tvm_ffi  # imports all of torch where that is installed

        tensors = tuple(map(tvm_ffi.from_dlpack, arrays))
        result = like(operands[0], c) if out is None else out

        def run() -> Any:
            main(*tensors)
            return result

        return run

    def _arguments(self, operands: tuple[Any, ...], out: Any) -> tuple[list[np.ndarray], Any]:
        """What ``main`` is called with, and C as numpy holds it where it is made here."""
        slots = self._slots
        if len(operands) != len(slots):
            names = ", ".join(slot.name for slot in slots)
            raise OperandError(f"{len(operands)} operands: {len(slots)} are needed: {names}")
        if out is None:
            why = f"out: missing; beta = {self._plan.workload.beta:g} adds to what it holds"
            require(not self._reads_out, why, OperandError)
            arrays = [slot.take(x) for slot, x in zip(slots, operands)]
            out = self._out.new()
            c = self._out.take(out)
        else:
            c = self._out.take(out)
            arrays = []
            for slot, x in zip(slots, operands):
                array = slot.take(x)
                if may_share_memory(array, c) and overlapping(array, c):
                    raise OperandError(OVERLAP.format(slot.name))
                arrays.append(array)
        self._put_b(arrays, c)
        arrays.append(c)
        return arrays, out

    def _put_b(self, arrays: list[np.ndarray], c: np.ndarray) -> None:
        """Make of the checked operands those that ``main`` takes."""
        raise NotImplementedError


class CheckedCall(_Call):
    """``c = call(a, b)``: numpy arrays or other DLPack tensors in, the same kind out.

    A constant B is packed at every such call; `bind` packs it once.

    Args:
        plan: what the kernel computes, and what it wants to have packed.
        function: gives the compiled function of a name; asked at the first call, as a kernel for
            another machine has none here.
        values: of the dims, where the workload is a family of which this is to be one member.
    """

    def __init__(
        self, plan: Plan, function: Callable[[str], Any], values: Mapping[str, int] | None = None
    ) -> None:
        super().__init__(plan, function, values)
        packed = packed_b(plan)
        self._packed = None if packed is None else Slot("packed_b", packed, written=True)
        self._pack: Any = None

    def with_packed(self, packed: np.ndarray, packing_s: float) -> BoundCall:
        """The kernel with its constant B in the form that another member's `bind` made."""
        return BoundCall(self, packed, packing_s)

    def bind(self, *, b: Any) -> BoundCall:
        """The kernel with its constant B given, and packed where the plan says so.

        Raises:
            OperandError: B of the wrong shape or data type, or a workload whose B is not constant.
        """
        why = "bind: b is not constant; make the workload with constant_b=True"
        require(self._plan.workload.constant_b, why, OperandError)
        given = self._slots[B].take(b)
        if self._packed is None:
            return BoundCall(self, given, 0.0)
        packed = self._room_for_b()
        pack = self._function(PACK_ENTRY)
        start = time.perf_counter()
        pack(given, packed)
        return BoundCall(self, packed, time.perf_counter() - start)

    def load_bound(self, path: str | Path) -> BoundCall:
        """The kernel with the packed B that `BoundCall.save` wrote.

        Raises:
            OperandError: not such a file, damaged, or packed for another plan.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                plan, checksum, packed = str(file["plan"]), int(file["crc32"]), file["b"]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
            told = f": {error}" if isinstance(error, OSError) else ""
            why = f"path = {str(path)!r}: no B that save wrote{told}"
            raise OperandError(why.splitlines()[0]) from None
        sound = _checksum(packed) == checksum
        require(sound, f"path = {str(path)!r}: damaged: its checksum is wrong", OperandError)
        kept = self._room_for_b()
        alike = packed.shape == kept.shape and packed.dtype == kept.dtype
        same = alike and plan == self._plan.to_json()
        require(same, f"path = {str(path)!r}: packed for another plan; bind b anew", OperandError)
        kept[...] = packed
        return BoundCall(self, kept, 0.0)

    def _put_b(self, arrays: list[np.ndarray], c: np.ndarray) -> None:
        if self._packed is None:
            return
        if self._pack is None:
            self._pack = self._function(PACK_ENTRY)
        packed = self._room_for_b()
        self._pack(arrays[B], packed)
        arrays[B] = packed

    def _room_for_b(self) -> np.ndarray:
        """Memory for B as ``main`` takes it."""
        slot = self._slots[B] if self._packed is None else self._packed
        return slot.take(slot.new())


class BoundCall(_Call):
    """``c = call(a)``: a kernel whose constant B is at hand as the kernel wants it.

    Called like the kernel that it was made from, without B.

    Attributes:
        packed_bytes: memory that B takes in this form.
        packing_s: seconds that packing it took; 0 where it was not packed, or read from a file.
    """

    def __init__(self, kernel: CheckedCall, b: np.ndarray, packing_s: float) -> None:
        super().__init__(kernel._plan, kernel._function, kernel._values)
        self._b = b
        self._slots = self._slots[:B] + self._slots[B + 1 :]
        self.packed_bytes = b.nbytes
        self.packing_s = packing_s

    def save(self, path: str | Path) -> Path:
        """Write B in this form, with its plan and a checksum; `CheckedCall.load_bound` reads it."""
        path = Path(path)
        plan = self._plan.to_json()
        try:
            with open(path, "wb") as file:
                np.savez(file, b=self._b, plan=np.array(plan), crc32=np.array(_checksum(self._b)))
        except OSError as error:
            raise OperandError(f"path = {str(path)!r}: cannot be written: {error}") from None
        return path

    def _put_b(self, arrays: list[np.ndarray], c: np.ndarray) -> None:
        require(not overlapping(self._b, c), OVERLAP.format("b"), OperandError)
        arrays.insert(B, self._b)


def _checksum(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).data)
