"""Nouns of an accelerator that is programmed tile by tile: facts, nothing derived (rank 1)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Scratchpad:
    """A memory that the program fills itself; ``holds`` are operands of C = A B, of a, b and c."""

    name: str
    holds: tuple[str, ...]
    size_bytes: int
    banks: int
    bank_bytes_per_cycle: float  # of each bank, reads and writes together
    pj_per_byte: float | None = None


@dataclass(frozen=True, kw_only=True)
class TileOperation:
    """What the engine does at once: C[rows, columns] += A[rows, depth] B[depth, columns]."""

    dtype: str  # of A and B
    rows: int
    columns: int
    depth: int
    interval_cycles: float  # from the start of one operation to that of the next
    pj_per_flop: float | None = None  # two for a multiply-add


@dataclass(frozen=True, kw_only=True)
class DmaEngine:
    """Moves blocks between memory and scratchpads, one after another, in whole bursts."""

    name: str
    moves: str  # in | out | both
    bytes_per_cycle: float
    start_cycles: float  # from a command to its first byte
    burst_bytes: int
    pj_per_byte: float | None = None  # memory included


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """A tile engine, its scratchpads and the DMA engines that feed them; all at one clock."""

    clock_hz: float
    pipeline_cycles: float  # from an operation's start to its sums in the scratchpad
    accumulate_cycles: float = 1.0  # from one operation to the next that adds to the same sums
    operations: tuple[TileOperation, ...] = ()
    scratchpads: tuple[Scratchpad, ...] = ()
    dma: tuple[DmaEngine, ...] = ()

    def holder(self, operand: str) -> Scratchpad:
        """The scratchpad of operand a, b or c; a profile that loads has one of each."""
        return next(pad for pad in self.scratchpads if operand in pad.holds)
