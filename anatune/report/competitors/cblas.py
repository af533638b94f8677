"""MKL and BLIS through the C interface to BLAS, called with ctypes (rank 9).

The enumerators are those of cblas.h and mkl_cblas.h; extents are 32 bits wide.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import sys
from collections.abc import Callable
from ctypes import c_double, c_float, c_int, c_int8, c_size_t, c_void_p
from functools import partial
from pathlib import Path
from typing import Any

from anatune.errors import WorkloadError, require
from anatune.report.competitors.base import Competitor
from anatune.workload import Tensor

ROW_MAJOR, PLAIN, TRANSPOSED, PACKED, B_MATRIX, ONE_OFFSET = map(
    c_int, (101, 111, 112, 151, 162, 173)
)

NO_OFFSET = c_int8(0)
"""What is subtracted from elements of A and of B in MKL's integer products."""

ARCHITECTURE_VARIABLE = "BLIS_ARCH_TYPE"
GENERIC = "generic"

SCALAR = {"float32": c_float, "float64": c_double}

REAL = {"float32": "cblas_sgemm", "float64": "cblas_dgemm"}
"""Type of A, B and C -> function; those of BLAS itself."""

WIDENING = {"bfloat16": "cblas_gemm_bf16bf16f32", "float16": "cblas_gemm_f16f16f32"}
"""Type of A and B -> MKL's function that leaves the sums in float32."""

INTEGER = "cblas_gemm_s8u8s32"
"""MKL's product of uint8 and int8; in row-major order it is A that is unsigned."""


class Cblas(Competitor):
    """What the libraries share: arguments and the call of ``cblas_?gemm``."""

    dll: ctypes.CDLL

    def function(self, name: str) -> Any:
        found = getattr(self.dll, name, None)
        require(found is not None, f"{name}: not in this version of the library", WorkloadError)
        assert found is not None
        found.restype = None
        return found

    def gemm(self, function: Any, scalar: Any) -> Callable[[], Any]:
        """A product of the form that BLAS has; the arguments are converted once, not per call."""
        w = self.workload
        numbers = (scalar(w.alpha), *self.a, *self.b, scalar(w.beta), *self.out)
        return partial(function, ROW_MAJOR, *self.layout, *self.extents, *numbers)

    @property
    def layout(self) -> tuple[c_int, c_int]:
        w = self.workload
        return (TRANSPOSED if w.trans_a else PLAIN, TRANSPOSED if w.trans_b else PLAIN)

    @property
    def extents(self) -> tuple[c_int, c_int, c_int]:
        w = self.workload
        return c_int(w.m), c_int(w.n), c_int(w.k)

    @property
    def a(self) -> tuple[c_void_p, c_int]:
        return c_void_p(self.inputs["a"].ctypes.data), c_int(self.workload.lda or 0)

    @property
    def b(self) -> tuple[c_void_p, c_int]:
        return c_void_p(self.inputs["b"].ctypes.data), c_int(self.workload.ldb or 0)

    @property
    def out(self) -> tuple[c_void_p, c_int]:
        return c_void_p(self.c.ctypes.data), c_int(self.workload.ldc or 0)


class Blis(Cblas):
    """``architecture``: the configuration that it is told to take; "": the one that it finds.

    It is told after it is loaded: it reads its environment in its first call.
    """

    def prepare(self, architecture: str = "") -> Callable[[], Any]:
        self.dll = ctypes.CDLL(blis_file())
        if architecture:
            os.environ[ARCHITECTURE_VARIABLE] = self._told(architecture)
        dtype = self.workload.dtype
        return self.gemm(self.function(REAL[dtype]), SCALAR[dtype])

    def library(self) -> str:
        return f"BLIS {self._version}"

    @property
    def _version(self) -> str:
        return self._text("bli_info_get_version_str")

    def _told(self, architecture: str) -> str:
        """Versions before 1.0 take a number for a name, the place in a list that ends "generic"."""
        if int(self._version.partition(".")[0]) >= 1:
            return architecture
        names: list[str] = []
        while GENERIC not in names:
            names.append(self._text("bli_arch_string", c_int(len(names))))
        known = ", ".join(names)
        require(architecture in names, f"{architecture!r}: BLIS has {known}", WorkloadError)
        return str(names.index(architecture))

    def _text(self, function: str, *arguments: Any) -> str:
        asked = getattr(self.dll, function)
        asked.restype = ctypes.c_char_p
        return str(asked(*arguments).decode())


class Mkl(Cblas):
    """Also products of narrower types, batches, and B packed ahead."""

    def prepare(self, packed: bool = False) -> Callable[[], Any]:
        self.dll = ctypes.CDLL(str(mkl_file()))
        w = self.workload
        if w.dtype == "uint8":
            return self._integer(packed)
        name = REAL.get(w.dtype) or WIDENING[w.dtype]
        scalar = SCALAR[w.accumulator]
        if packed:
            return self._packed_ahead(name, scalar)
        if "stride_c" in w.apart:  # which the strided function refuses side by side
            return self._by_pointers(self.function(f"{name}_batch"), scalar)
        if w.batch > 1:
            return self._batched(self.function(f"{name}_batch_strided"), scalar)
        return self.gemm(self.function(name), scalar)

    def library(self) -> str:
        text = ctypes.create_string_buffer(200)
        self.dll.MKL_Get_Version_String(text, c_int(len(text)))
        version = text.value.decode().partition("Version ")[2].split()
        return f"MKL {version[0].removesuffix('-Product') if version else ''}".strip()

    def _batched(self, function: Any, scalar: Any) -> Callable[[], Any]:
        w = self.workload
        step_a, step_b, step_c = (
            c_int(x.strides[0] // x.itemsize if x.ndim == 3 else 0)
            for x in (self.inputs["a"], self.inputs["b"], self.c)
        )
        factors = scalar(w.alpha), scalar(w.beta)
        return partial(
            function, ROW_MAJOR, *self.layout, *self.extents, factors[0], *self.a, step_a,
            *self.b, step_b, factors[1], *self.out, step_c, c_int(w.batch),
        )  # fmt: skip

    def _by_pointers(self, function: Any, scalar: Any) -> Callable[[], Any]:
        """A batch whose matrices may lie anywhere: one group of products of the same kind."""
        w = self.workload
        pointers = c_void_p * w.batch
        by, groups, count = ctypes.byref, c_int(1), c_int(w.batch)

        def matrices(name: str) -> tuple[Any, Any]:
            x = self.c if name == "c" else self.inputs[name]
            step = x.strides[0] if x.ndim == 3 else 0
            every = pointers(*(x.ctypes.data + number * step for number in range(w.batch)))
            return every, by(c_int(getattr(w, f"ld{name}")))

        kind = [by(x) for x in (*self.layout, *self.extents)]
        alpha, beta = by(scalar(w.alpha)), by(scalar(w.beta))
        a, b, c = map(matrices, "abc")
        return partial(
            function, ROW_MAJOR, *kind, alpha, *a, *b, beta, *c, groups, by(count)
        )  # fmt: skip

    def _packed_ahead(self, name: str, scalar: Any) -> Callable[[], Any]:
        """``alpha`` goes into the packed B where sums have the type of A, else into the product."""
        w = self.workload
        alpha = (scalar(w.alpha),)
        early, late = (alpha, ()) if name in REAL.values() else ((), alpha)
        b = self._pack(name, *early)
        compute = self.function(f"{name}_compute")
        end = (*self.a, *b, scalar(w.beta), *self.out)
        return partial(compute, ROW_MAJOR, self.layout[0], PACKED, *self.extents, *late, *end)

    def _pack(self, name: str, *alpha: Any) -> tuple[c_void_p, c_int]:
        from anatune.measure.inputs import untouched

        size = getattr(self.dll, f"{name}_pack_get_size")
        size.restype = c_size_t
        elements = int(size(B_MATRIX, *self.extents))
        self._packed_b = untouched(Tensor.rows((elements,), "int8"))
        room = c_void_p(self._packed_b.ctypes.data)
        pack = self.function(f"{name}_pack")
        pack(ROW_MAJOR, B_MATRIX, self.layout[1], *self.extents, *alpha, *self.b, room)
        return room, self.b[1]

    def _integer(self, packed: bool) -> Callable[[], Any]:
        w = self.workload
        b = self._pack(INTEGER) if packed else self.b
        function = self.function(f"{INTEGER}_compute" if packed else INTEGER)
        layout = (self.layout[0], PACKED if packed else self.layout[1])
        self._zero = c_int(0)
        ends = (c_float(w.beta), *self.out, ctypes.byref(self._zero))
        factors = (c_float(w.alpha), *self.a, NO_OFFSET, *b, NO_OFFSET)
        return partial(function, ROW_MAJOR, *layout, ONE_OFFSET, *self.extents, *factors, *ends)


def mkl_file() -> Path | None:
    """The library of the pip package ``mkl``, which lies beside the interpreter; None without."""
    names = ("libmkl_rt.so.*", "libmkl_rt.*.dylib")
    found = [file for name in names for file in sorted((Path(sys.prefix) / "lib").glob(name))]
    return found[-1] if found else None


def blis_file() -> str | None:
    """The system's BLIS; None without."""
    return ctypes.util.find_library("blis")
