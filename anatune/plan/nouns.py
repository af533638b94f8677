"""The parts that plans are made of (rank 3)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from anatune.hwprofile.profile import Target


@dataclass(frozen=True, kw_only=True)
class MicroTile:
    """Register tile: ``mr`` rows by ``nr`` columns of C, vectors of ``lanes`` along the columns.

    ``kr`` steps along k are taken at once where A or B stays in registers; 1 where C does.
    """

    mr: int
    nr: int
    lanes: int
    kr: int = 1

    def along(self, dim: str) -> int:
        return {"m": self.mr, "n": self.nr, "k": self.kr}[dim]

    def unit(self, dim: str, group: int) -> int:
        """What blocks and shares along ``dim`` are multiples of, ``group`` steps at once."""
        return max(self.kr, group) if dim == "k" else self.along(dim)

    @property
    def vectors(self) -> int:
        """n_v: vectors that cover one row of the tile."""
        return -(-self.nr // self.lanes)

    @property
    def accumulators(self) -> int:
        return self.mr * self.vectors

    def __str__(self) -> str:
        return f"{self.mr}x{self.nr}" if self.kr == 1 else f"{self.mr}x{self.nr}x{self.kr}"


@dataclass(frozen=True, kw_only=True)
class CacheBlocks:
    """Cache blocks: ``mc`` rows and ``nc`` columns of C, ``kc`` steps along k, in elements."""

    mc: int
    nc: int
    kc: int

    def along(self, dim: str) -> int:
        return {"m": self.mc, "n": self.nc, "k": self.kc}[dim]


@dataclass(frozen=True, kw_only=True)
class ThreadGrid:
    """Threads laid over the work: ``rows`` x ``columns`` of them over C, each with its rectangle.

    ``depth`` of them share the sums of each rectangle and add up what they have at the end;
    ``batch`` of them share the products of a batch.
    """

    rows: int = 1
    columns: int = 1
    depth: int = 1
    batch: int = 1

    @property
    def threads(self) -> int:
        return self.rows * self.columns * self.depth * self.batch

    def along(self, dim: str) -> int:
        return {"m": self.rows, "n": self.columns, "k": self.depth}[dim]

    def share(self, extent: int, dim: str, unit: int) -> int:
        """What each thread gets of ``extent``: whole units, so only the last one has an edge."""
        units = -(-extent // unit)
        return -(-units // self.along(dim)) * unit


class Storage(str, Enum):
    """How an operand reaches the micro-kernel."""

    IN_PLACE = "in_place"  # read where the caller put it
    PACKED = "packed"  # copied block by block, before the block is used
    PACKED_ON_FIRST_USE = "packed_on_first_use"  # copied by the first row of tiles that reads it
    PACKED_AHEAD = "packed_ahead"  # all of it copied once, by a function of its own; B only


DIMS = {"A": ("m", "k"), "B": ("k", "n"), "C": ("m", "n")}
"""Dimensions of each operand."""


class Order(str, Enum):
    """Which operand lives where: B3A2C0 keeps B in L3, A in L2 and C in registers.

    The family of "Automatic Generators for a Family of Matrix Multiplication Routines with Apache
    TVM", ACM TOMS 50(1):6, 2024. With X3Y2Z0 the loops are, outermost first: blocks along the
    dimension that X has and Y lacks, along the one that both have, along the one that X lacks; then
    tiles along the first and the last of these. The micro-kernel runs along what X and Y share.
    """

    B3A2C0 = "B3A2C0"
    A3B2C0 = "A3B2C0"
    C3B2A0 = "C3B2A0"
    B3C2A0 = "B3C2A0"
    C3A2B0 = "C3A2B0"
    A3C2B0 = "A3C2B0"

    def __init__(self, _: str) -> None:
        x, y = self.value[0], self.value[2]
        self.in_l3, self.in_l2, self.in_registers = x, y, self.value[4]
        self.along = next(d for d in DIMS[x] if d in DIMS[y])  # what the micro-kernel runs along
        first = next(d for d in DIMS[x] if d != self.along)
        last = next(d for d in DIMS[y] if d != self.along)
        self.inner = (first, last)  # of the loops over tiles, outermost first
        self.outer = (first, self.along, last)  # of the loops over blocks


VECTOR_FEATURES = frozenset(
    "avx avx2 fma f16c avx512f avx512bw avx512dq avx512vl avx512vnni avx512bf16 avx512fp16 avxvnni "
    "amx-tile amx-int8 amx-bf16 neon fullfp16 dotprod bf16 i8mm sve sve2 v zvl128b zvl256b".split()
)
"""LLVM features that decide which vector instructions a kernel may hold; others only tune."""


@dataclass(frozen=True, kw_only=True)
class CodeTarget:
    """What LLVM is told: instruction set, processor and triple (None: the host's).

    ``features``, where given, are all of `VECTOR_FEATURES` that the machine has; none: those that
    LLVM knows the processor to have.
    """

    isa: str
    mcpu: str
    triple: str | None = None
    features: tuple[str, ...] = ()

    @classmethod
    def of(cls, machine: Target) -> CodeTarget:
        """What a profile says of its instruction set, less features that no kernel depends on."""
        vector = tuple(sorted(VECTOR_FEATURES.intersection(machine.features)))
        return cls(isa=machine.isa, mcpu=machine.mcpu, triple=machine.triple, features=vector)
