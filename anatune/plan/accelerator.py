"""The plan of a matrix product on an accelerator with scratchpads (rank 3)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from math import prod
from typing import Any

from anatune.errors import require
from anatune.plan.nouns import DIMS
from anatune.plan.plain import build, json_fields, plain
from anatune.workload import Matmul

OPERANDS = {name.lower(): dims for name, dims in DIMS.items()}
"""Dimensions of a, b and c, the names that profiles and buffers use."""


class BlockOrder(str, Enum):
    """Dimensions that the loops over blocks run along, outermost first."""

    MNK = "mnk"
    NMK = "nmk"
    MKN = "mkn"
    KMN = "kmn"
    NKM = "nkm"
    KNM = "knm"


class Placement(str, Enum):
    """How buffers lie in a scratchpad: those of a, then b, then c, one after another."""

    OWN_BANKS = "own_banks"  # each starts at the start of a bank: no two share one
    PACKED = "packed"  # without gaps: who meets in a bank waits


@dataclass(frozen=True, kw_only=True)
class Run:
    """``count`` neighbouring blocks of ``size`` elements along one dimension."""

    size: int
    count: int


@dataclass(frozen=True, kw_only=True)
class Buffers:
    """Where blocks of one operand are kept: ``count`` 1 is single, 2 double buffering."""

    count: int
    dma: str  # the DMA engine that loads a or b, or stores c


@dataclass(frozen=True, kw_only=True)
class TilePlan:
    """Everything that the command stream of an accelerator depends on.

    ``m``, ``n`` and ``k`` are covers: sizes of the blocks along a dimension, the largest first. A
    block of a and b is loaded when the loops come to it and is not the one at hand; sums of c stay
    in the scratchpad while the loops stay at it. Where they come back to it, partial sums are
    stored and loaded again, by the engine that loads a.
    """

    workload: Matmul
    order: BlockOrder
    m: tuple[Run, ...]
    n: tuple[Run, ...]
    k: tuple[Run, ...]
    a: Buffers
    b: Buffers
    c: Buffers
    placement: Placement = Placement.OWN_BANKS

    def __post_init__(self) -> None:
        for dim in "mnk":
            sizes = [run.size for run in self.cover(dim)]
            total = sum(run.size * run.count for run in self.cover(dim))
            extent = self.workload.along(dim)
            require(total == extent, f"{dim}: blocks sum to {total}, the extent is {extent}")
            falling = sizes == sorted(set(sizes), reverse=True)
            require(falling, f"{dim}: sizes {sizes}: each once, the largest first")

    def cover(self, dim: str) -> tuple[Run, ...]:
        """The blocks along m, n or k."""
        return {"m": self.m, "n": self.n, "k": self.k}[dim]

    def block(self, dim: str) -> int:
        """The largest block along m, n or k: what buffers are made for."""
        return self.cover(dim)[0].size

    def trips(self, dim: str) -> int:
        """Blocks along m, n or k."""
        return sum(run.count for run in self.cover(dim))

    def buffers(self, operand: str) -> Buffers:
        """The buffers of a, b or c."""
        return {"a": self.a, "b": self.b, "c": self.c}[operand]

    @property
    def steps(self) -> int:
        """Blocks of operations: one for each turn of the innermost loop."""
        return prod(self.trips(dim) for dim in "mnk")

    def visits(self, operand: str) -> int:
        """How many times the loops come to each block of an operand."""
        inner = [d for d in self.order.value if d in OPERANDS[operand] and self.trips(d) > 1]
        deepest = max((self.order.value.index(d) for d in inner), default=-1)
        outside = self.order.value[: deepest + 1]
        return prod(self.trips(d) for d in outside if d not in OPERANDS[operand])

    @property
    def spills(self) -> bool:
        """Whether partial sums leave the scratchpad and come back."""
        return self.visits("c") > 1

    @property
    def stores_after(self) -> int:
        """Steps whose loads are queued before the store of a block that was finished before them.

        A store waits for the engine, and what is queued behind it waits too: so it comes after all
        loads that can run while the engine works, as far as the buffers of c allow.
        """
        ahead = min(self.a.count, self.b.count)
        if self.spills:  # a load of partial sums must not wait for a store behind it
            return min(ahead, self.c.count - 1)
        return min(ahead - (self.c.count == 1), self.c.count)

    def to_json(self) -> str:
        """The plan as one line of JSON that `from_json` reads back."""
        return json.dumps({"kind": "tiles", **plain(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> TilePlan:
        """The plan that `to_json` wrote. Raises IllegalPlan as `GemmPlan.from_json` does."""
        plan: TilePlan = build(cls, json_fields(text, "tiles"), "plan")
        return plan

    @property
    def configuration(self) -> str:
        """All that a member of a family may share with others: everything but covers."""
        blocks = "x".join(str(self.block(dim)) for dim in "mnk")
        counts = ", ".join(f"{x} {_BUFFERED[self.buffers(x).count - 1]}" for x in OPERANDS)
        return f"blocks {blocks} in order {self.order.value}, buffers {counts}"

    def __str__(self) -> str:
        edges = [f"{dim} {cover_text(self.cover(dim))}" for dim in "mnk" if self.trips(dim) > 1]
        covered = "".join(f", {edge}" for edge in edges)
        return f"{self.configuration}{covered}"


_BUFFERED = ("single", "double", "triple")


def cover_text(cover: tuple[Run, ...]) -> str:
    """A cover as people write it: 3x128 + 36."""
    return " + ".join(f"{r.count}x{r.size}" if r.count > 1 else str(r.size) for r in cover)


def runs(sizes: tuple[int, ...]) -> tuple[Run, ...]:
    """Sizes, the largest first, with equal neighbours counted."""
    counts = dict.fromkeys(sizes, 0)
    for size in sizes:
        counts[size] += 1
    return tuple(Run(size=size, count=count) for size, count in counts.items())


def with_covers(plan: TilePlan, covers: Mapping[str, tuple[Run, ...]]) -> TilePlan:
    """The plan with other covers of some dimensions."""
    changed: dict[str, Any] = dict(covers)
    return replace(plan, **changed)


def with_buffers(plan: TilePlan, counts: Sequence[int], placement: Placement) -> TilePlan:
    """The plan with so many buffers of a, b and c."""
    a, b, c = (replace(plan.buffers(x), count=n) for x, n in zip(OPERANDS, counts))
    return replace(plan, placement=placement, a=a, b=b, c=c)


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """What came of a plan's command stream on the described machine: simulated, not measured."""

    cycles: float
    seconds: float
    joules: float
    busy: tuple[tuple[str, float], ...]  # share of the cycles, by resource
    bytes_moved: tuple[tuple[str, float], ...]  # by DMA engine
    peak_bytes: tuple[tuple[str, int], ...]  # largest occupancy, by scratchpad
    conflict_cycles: float  # that DMA engines waited for banks
    commands: int
    largest_error: float | None  # of C against the float64 reference; None: not computed

    @property
    def correct(self) -> bool | None:
        """Whether C is exact, as it must be of small whole numbers; None where not computed."""
        return None if self.largest_error is None else self.largest_error == 0
