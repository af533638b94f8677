"""A micro-kernel that somebody else wrote, as data: what it computes, where, at what cost (rank 3).

Its code is not here: it lies by its hash in the folder of `codegen.external`, so that plans stay
small, two plans with equal kernels are equal, and a kernel that was changed is another one.

The convention, of which ``symbol`` is the name in C::

    void f(int64_t k, const T *a, const T *b, T *c, int64_t ldc, int32_t accumulate);

``a`` is a packed micro-panel [k][mr] and ``b`` one [k][nr]; ``c`` has mr rows of nr elements, from
one row to the next ``ldc`` of them. It becomes a b, or with ``accumulate`` c + a b, for every k
from 1 on. Nothing outside of the tile is touched. A panel begins at a multiple of the largest power
of two that divides its rows' bytes, up to 64 (so must a B packed ahead, where somebody calls the
bare module); c at any element. What else a kernel wants (strides, scalars, a context) is an
adapter's to give, a few lines of C.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from anatune.errors import require
from anatune.plan.nouns import CodeTarget

if TYPE_CHECKING:
    from anatune.plan.gemm import GemmPlan

ARITHMETIC_OF = {"float32": "fma32", "float64": "fma64", "int32": "int32"}
"""Arithmetic by the data type of a kernel's panels, which is that of its sums too."""

FORMS = ("object", "llvm")
"""Machine code that is linked to the kernel, or LLVM's language, which is compiled into it."""

HASH_SHOWN = 12
"""Digits of the code's hash that people see."""


@dataclass(frozen=True, kw_only=True)
class KernelCost:
    """Cycles that one call takes on a whole tile, operands in L1, by the number of steps along k.

    Straight lines between the points and beyond them. ``origin`` says where they are from.
    """

    steps: tuple[int, ...]
    cycles: tuple[float, ...]
    origin: str

    def __post_init__(self) -> None:
        count = len(self.steps)
        why = f"cost: {count} numbers of steps, {len(self.cycles)} of cycles: as many of each"
        require(count and count == len(self.cycles), why)
        ascending = all(x < y for x, y in zip((0, *self.steps), self.steps))
        require(ascending, f"cost.steps = {self.steps}: ascending whole numbers from 1 on")
        positive = all(0 < cycles < float("inf") for cycles in self.cycles)
        require(positive, f"cost.cycles = {self.cycles}: numbers above 0")

    def of(self, steps: int) -> float:
        """Cycles of a call with so many steps along k."""
        points = list(zip(self.steps, self.cycles))
        if len(points) == 1:
            return self.cycles[0] * steps / self.steps[0]
        last = len(points) - 1
        right = next((x for x in range(1, last) if points[x][0] >= steps), last)
        (k0, c0), (k1, c1) = points[right - 1], points[right]
        return max(0.0, c0 + (c1 - c0) * (steps - k0) / (k1 - k0))


@dataclass(frozen=True, kw_only=True)
class ThroughputModel:
    """A cost that is a straight line: so many cycles to set out, and so many for each step."""

    cycles_per_step: float
    start_cycles: float = 0.0

    @property
    def cost(self) -> KernelCost:
        first = self.start_cycles + self.cycles_per_step
        stated = (first, first + self.cycles_per_step)
        return KernelCost(steps=(1, 2), cycles=stated, origin="a throughput model")


@dataclass(frozen=True, kw_only=True)
class ExternalKernel:
    """A registered micro-kernel; see the module for what its function takes.

    Attributes:
        dtype: of panels and sums.
        features: LLVM features that a machine must have, of `VECTOR_FEATURES`.
        form: one of `FORMS`.
        code_sha256: of its code.
        reads_ahead_steps: rows beyond a panel's end that it reads and does not use; None: none.
    """

    name: str
    symbol: str
    mr: int
    nr: int
    dtype: str
    isa: str
    features: tuple[str, ...]
    form: str
    code_sha256: str
    cost: KernelCost
    reads_ahead_steps: int | None = None

    def __post_init__(self) -> None:
        types = ", ".join(map(repr, ARITHMETIC_OF))
        require(self.dtype in ARITHMETIC_OF, f"dtype = {self.dtype!r}: one of {types}")
        require(self.mr >= 1, f"mr = {self.mr}: a whole number from 1 on")
        require(self.nr >= 2 and self.nr % 2 == 0, f"nr = {self.nr}: an even number from 2 on")
        forms = ", ".join(map(repr, FORMS))
        require(self.form in FORMS, f"form = {self.form!r}: one of {forms}")

    @property
    def arithmetic(self) -> str:
        """Name of the arithmetic whose place it takes."""
        return ARITHMETIC_OF[self.dtype]

    @property
    def slack_steps(self) -> int:
        """Rows that must follow each panel."""
        return self.reads_ahead_steps or 0

    def why_not_on(self, target: CodeTarget) -> str:
        """Why machines of ``target`` cannot run it, or ""."""
        if self.isa != target.isa:
            return f"is for {self.isa}, the target is {target.isa}"
        lacking = sorted(set(self.features) - set(target.features))
        return f"needs {', '.join(lacking)}, which the target lacks" if lacking else ""

    def check(self, plan: GemmPlan) -> None:
        """Raise IllegalPlan unless ``plan`` may call it."""
        who = f"micro_kernel = {self.name!r}"
        why_not = self.why_not_on(plan.target)
        require(not why_not, f"{who}: {why_not}")
        tile, mine = plan.tile, f"{self.mr}x{self.nr}"
        same = (tile.mr, tile.nr) == (self.mr, self.nr)
        require(same, f"{who}: computes tiles of {mine}, the plan's are {tile}")
        computes = plan.arithmetic == self.arithmetic
        require(computes, f"{who}: computes {self.arithmetic}, the plan {plan.arithmetic}")
        keeps_c = plan.order.in_registers == "C"
        require(keeps_c, f"{who}: keeps C in registers, {plan.order.value} does not")
        require(not plan.prefetch_c, f"{who}: prefetch_c is for generated tiles; set it to False")

    def __str__(self) -> str:
        return f"{self.name} ({self.mr}x{self.nr} {self.dtype}, {self.code_sha256[:HASH_SHOWN]})"
