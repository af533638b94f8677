"""What one operation and one transfer cost on a described accelerator (rank 4).

Figures are those of the profile. Energies that it does not state are those of `model.energy`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from anatune.errors import WorkloadError, require
from anatune.hwprofile.accelerator import Accelerator, DmaEngine, Scratchpad, TileOperation
from anatune.hwprofile.profile import Profile
from anatune.model.energy import ADD_PJ, BYTE_PJ, MULTIPLY_PJ
from anatune.plan.accelerator import OPERANDS
from anatune.workload import Matmul
from anatune.workload.dtypes import ELEMENT_BYTES
from anatune.workload.expression import SUM

TOUCHES = {"a": 1, "b": 1, "c": 2}
"""How often an operation passes over a tile in the scratchpad: sums are read and written."""


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """One command of a DMA engine: a block on its way."""

    start_cycles: float
    data_cycles: float
    link_bytes: int  # in whole bursts
    pad_bytes: int  # at the scratchpad's end

    @property
    def cycles(self) -> float:
        return self.start_cycles + self.data_cycles


@dataclass(frozen=True)
class Machine:
    """An accelerator as one workload sees it."""

    profile: Profile
    workload: Matmul

    def __post_init__(self) -> None:
        w, found = self.workload, self.profile.accelerator
        assert found is not None
        known = ", ".join(o.dtype for o in found.operations)
        able = w.dtype == w.dtype_b and any(o.dtype == w.dtype for o in found.operations)
        given = w.dtype if w.dtype == w.dtype_b else f"{w.dtype} x {w.dtype_b}"
        why = f"dtype = {given}: {self.profile.name} multiplies {known}"
        require(able, why, WorkloadError)
        plain = w.expression == SUM and w.batch == 1
        why = f"{w}: on an accelerator one product is planned, without alpha, beta and epilogue"
        require(plain, why, WorkloadError)

    @cached_property
    def found(self) -> Accelerator:
        assert self.profile.accelerator is not None
        return self.profile.accelerator

    @cached_property
    def operation(self) -> TileOperation:
        return next(o for o in self.found.operations if o.dtype == self.workload.dtype)

    @cached_property
    def grain(self) -> dict[str, int]:
        """Elements along m, n and k of one operation."""
        return {"m": self.operation.rows, "n": self.operation.columns, "k": self.operation.depth}

    @cached_property
    def pads(self) -> dict[str, Scratchpad]:
        return {x: self.found.holder(x) for x in OPERANDS}

    @cached_property
    def dma(self) -> dict[str, DmaEngine]:
        return {engine.name: engine for engine in self.found.dma}

    @cached_property
    def pad_element_bytes(self) -> dict[str, int]:
        """Bytes of an element in the scratchpad; sums are kept wide there."""
        element = self.workload.element_bytes
        return {"a": element, "b": element, "c": ELEMENT_BYTES[self.workload.accumulator]}

    def units(self, dim: str, size: int) -> int:
        """Operations that it takes to cover ``size`` elements along a dimension."""
        return -(-size // self.grain[dim])

    def operations(self, m: int, n: int, k: int) -> int:
        """Operations of one block; those at its edges are done whole."""
        return self.units("m", m) * self.units("n", n) * self.units("k", k)

    def buffer_bytes(self, operand: str, sizes: tuple[int, int]) -> int:
        """What a block takes in its scratchpad: whole operations, edges filled with zeros."""
        whole = [
            self.units(d, size) * self.grain[d] for d, size in zip(OPERANDS[operand], sizes)
        ]
        return whole[0] * whole[1] * self.pad_element_bytes[operand]

    @cached_property
    def touched(self) -> dict[str, int]:
        """Bytes that one operation reads and writes of each operand."""
        tile = {x: self.grain[d[0]] * self.grain[d[1]] for x, d in OPERANDS.items()}
        return {x: TOUCHES[x] * tile[x] * self.pad_element_bytes[x] for x in OPERANDS}

    @cached_property
    def interval(self) -> float:
        """Cycles from operation to operation while no two operands meet in a bank."""
        fed = [self.touched[x] / self.pads[x].bank_bytes_per_cycle for x in OPERANDS]
        return max(self.operation.interval_cycles, *fed)

    @cached_property
    def pipeline(self) -> float:
        """Cycles from an operation's start to its sums; banks may make the start itself longer."""
        return max(self.found.pipeline_cycles, self.interval)

    def slices(self, m: int, n: int, k: int, interval: float) -> tuple[int, float, float]:
        """Of one block: slices along k, cycles from one to the next, and those of the last.

        A slice is all operations of one step along k. The next one adds to the same sums, so it
        starts no sooner than these are ready.
        """
        last = self.units("m", m) * self.units("n", n) * interval
        return self.units("k", k), max(last, self.found.accumulate_cycles), last

    def transfer(
        self, operand: str, sizes: tuple[int, int], engine: DmaEngine, partial: bool = False
    ) -> Transfer:
        """A block of an operand moved by ``engine``; ``partial``: sums on their way, kept wide.

        Each stored row of the block takes whole bursts; rows that follow one another in memory
        without a gap count as one.
        """
        w, pad = self.workload, self.pads[operand]
        tensor = {"a": w.operands["a"], "b": w.operands["b"], "c": w.output}[operand]
        swapped = {"a": w.trans_a, "b": w.trans_b, "c": False}[operand]
        rows, columns = reversed(sizes) if swapped else sizes
        element = self.pad_element_bytes["c"] if partial else ELEMENT_BYTES[tensor.dtype]
        if columns == tensor.shape[-1] and tensor.compact:
            rows, columns = 1, rows * columns
        link = rows * -(-columns * element // engine.burst_bytes) * engine.burst_bytes
        stored = sizes[0] * sizes[1] * self.pad_element_bytes[operand]
        cycles = max(link / engine.bytes_per_cycle, stored / pad.bank_bytes_per_cycle)
        return Transfer(
            start_cycles=engine.start_cycles, data_cycles=cycles, link_bytes=link, pad_bytes=stored
        )

    @cached_property
    def flop_pj(self) -> float:
        """Energy of half a multiply-add."""
        stated = self.operation.pj_per_flop
        w = self.workload
        return (ADD_PJ[w.accumulator] + MULTIPLY_PJ[w.dtype]) / 2 if stated is None else stated

    def pad_pj(self, pad: Scratchpad) -> float:
        """Energy per byte of a scratchpad."""
        return BYTE_PJ["L2"] if pad.pj_per_byte is None else pad.pj_per_byte

    def dma_pj(self, engine: DmaEngine) -> float:
        """Energy per byte that a DMA engine moves, memory included."""
        return BYTE_PJ["memory"] if engine.pj_per_byte is None else engine.pj_per_byte

    def operation_pj(self) -> float:
        """Energy of one operation, its accesses to scratchpads included."""
        flops = 2 * math.prod(self.grain.values())
        accesses = sum(self.touched[x] * self.pad_pj(self.pads[x]) for x in OPERANDS)
        return flops * self.flop_pj + accesses

    def transfer_pj(self, operand: str, engine: DmaEngine, moved: Transfer) -> float:
        """Energy of one transfer, both ends."""
        pad = self.pads[operand]
        return moved.link_bytes * self.dma_pj(engine) + moved.pad_bytes * self.pad_pj(pad)
