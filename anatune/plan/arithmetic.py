"""Which vector instruction multiplies and adds, and what it takes (rank 3)."""

from __future__ import annotations

from dataclasses import dataclass

from anatune.plan.nouns import CodeTarget
from anatune.workload import Matmul
from anatune.workload.dtypes import ELEMENT_BYTES, is_float


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """One way to add products to a vector of sums.

    Each lane of the sums takes ``group`` neighbouring steps along k at once: a 32-bit group of A,
    the same for all lanes, times a group of B of its own.
    """

    name: str
    a: str  # data type that the instruction takes of A
    b: str
    accumulator: str
    group: int = 1
    instructions: int = 1  # vector instructions per vector of sums
    isa: str | None = None
    any_feature: tuple[str, ...] = ()  # one of these LLVM features is needed

    def runs_on(self, target: CodeTarget) -> bool:
        if self.isa is not None and self.isa != target.isa:
            return False
        return not self.any_feature or not set(self.any_feature).isdisjoint(target.features)

    def computes(self, workload: Matmul) -> bool:
        """Whether every product and sum of ``workload`` is exact enough in this arithmetic."""
        if workload.accumulator != self.accumulator:
            return False
        return _holds(self.a, workload.dtype, self) and _holds(self.b, str(workload.dtype_b), self)


ARITHMETIC = {
    a.name: a
    for a in (
        Arithmetic(name="fma64", a="float64", b="float64", accumulator="float64"),
        Arithmetic(name="fma32", a="float32", b="float32", accumulator="float32"),
        Arithmetic(
            name="bf16 pairs", a="bfloat16", b="bfloat16", accumulator="float32", group=2,
            isa="x86_64", any_feature=("avx512bf16",),
        ),
        Arithmetic(
            name="int8 quads", a="uint8", b="int8", accumulator="int32", group=4,
            isa="x86_64", any_feature=("avx512vnni", "avxvnni"),
        ),
        Arithmetic(
            name="int16 pairs", a="int16", b="int16", accumulator="int32", group=2,
            isa="x86_64", any_feature=("avx512vnni", "avxvnni"),
        ),
        Arithmetic(
            name="int16 pairs and add", a="int16", b="int16", accumulator="int32", group=2,
            instructions=2, isa="x86_64",
        ),
        Arithmetic(
            name="int32", a="int32", b="int32", accumulator="int32", instructions=2,
        ),
    )
}  # fmt: skip
"""By name. Instructions: vfmadd, vdpbf16ps, vpdpbusd, vpdpwssd, vpmaddwd + vpaddd, vpmulld + vpaddd
(Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2)."""


def arithmetics(workload: Matmul, target: CodeTarget) -> list[Arithmetic]:
    """Those that compute ``workload`` on ``target``, the one that takes most steps at once first.

    A slower one is left out where another of the same operands is there.
    """
    able = [a for a in ARITHMETIC.values() if a.computes(workload) and a.runs_on(target)]
    fewest = {(a.a, a.b): a for a in sorted(able, key=lambda a: -a.instructions)}
    return sorted(fewest.values(), key=lambda a: -a.group / a.instructions)


def _holds(taken: str, stored: str, arithmetic: Arithmetic) -> bool:
    """Whether elements of type ``stored`` can be handed over as type ``taken``.

    int8 becomes uint8 by an offset of 128, which sums of B make good again.
    """
    if taken == stored:
        return True
    if is_float(taken) or is_float(stored):
        return taken in ("float32", "float64") and _fits(stored, taken)
    if taken == "uint8":
        return stored == "int8" and arithmetic.b == "int8"
    return _fits(stored, taken)


def _fits(stored: str, taken: str) -> bool:
    if is_float(taken):
        # Integers beside floats are rounded to them, as numpy's mixed products are.
        return not is_float(stored) or ELEMENT_BYTES[stored] <= ELEMENT_BYTES[taken]
    wider = ELEMENT_BYTES[stored] < ELEMENT_BYTES[taken]
    return wider or stored == taken
