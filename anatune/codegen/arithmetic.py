"""The vector instruction that adds products to sums, as TIR (rank 5)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tvm.tirx.script import builder as T

from anatune.plan import Arithmetic

GROUP_DTYPE = "int32"
"""What a group of A is read as where an instruction takes several steps: always 32 bits of them."""

DOT = {
    "int8 quads": "llvm.x86.avx512.vpdpbusd.{bits}",
    "int16 pairs": "llvm.x86.avx512.vpdpwssd.{bits}",
}
PAIRS = {
    512: "llvm.x86.avx512.pmaddw.d.512",
    256: "llvm.x86.avx2.pmadd.wd",
    128: "llvm.x86.sse2.pmadd.wd",
}

BFLOAT16_PAIRS = """\
declare <{n} x float> @llvm.x86.avx512bf16.dpbf16ps.{bits}(<{n} x float>, <{e} x bfloat>, <{e} x bfloat>)
define <{n} x float> @anatune_bfloat16_pairs(<{n} x float> %sums, <{n} x i32> %a, <{n} x i32> %b) alwaysinline {{
  %x = bitcast <{n} x i32> %a to <{e} x bfloat>
  %y = bitcast <{n} x i32> %b to <{e} x bfloat>
  %r = call <{n} x float> @llvm.x86.avx512bf16.dpbf16ps.{bits}(<{n} x float> %sums, <{e} x bfloat> %x, <{e} x bfloat> %y)
  ret <{n} x float> %r }}
"""  # noqa: E501
"""TIR has no bfloat16 vectors that LLVM's intrinsic would take, so the call is written in its
language; {n} lanes, {e} elements."""


@contextmanager
def imported(arithmetic: Arithmetic, lanes: int) -> Iterator[None]:
    """The scope in which `accumulate` may be used."""
    if arithmetic.name != "bf16 pairs":
        yield
        return
    text = BFLOAT16_PAIRS.format(n=lanes, e=2 * lanes, bits=32 * lanes)
    with T.attr(0, "pragma_import_llvm", text):
        yield


def accumulate(arithmetic: Arithmetic, sums: Any, a: Any, b: Any, lanes: int) -> Any:
    """``sums`` plus the products of ``a`` and ``b``, a vector of ``lanes``.

    Where the instruction takes one step, ``a`` and ``b`` are vectors of its type. Where it takes a
    group, ``a`` is a vector of `GROUP_DTYPE`, and ``b`` one of group times lanes elements.
    """
    bits = 32 * lanes
    vector = f"{arithmetic.accumulator}x{lanes}"
    if arithmetic.group == 1:
        return sums + a * b
    if arithmetic.name == "bf16 pairs":
        groups = T.reinterpret(f"{GROUP_DTYPE}x{lanes}", b)
        return T.call_extern(vector, "anatune_bfloat16_pairs", sums, a, groups)
    elements = T.reinterpret(f"{arithmetic.a}x{arithmetic.group * lanes}", a)
    if arithmetic.name in DOT:
        name = DOT[arithmetic.name].format(bits=bits)
        return T.call_llvm_pure_intrin(vector, name, sums, elements, b)
    return sums + T.call_llvm_pure_intrin(vector, PAIRS[bits], elements, b)
