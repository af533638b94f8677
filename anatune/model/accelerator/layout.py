"""Where a plan's buffers lie in their scratchpads, and who meets in a bank (rank 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from anatune.errors import require
from anatune.model.accelerator.machine import Machine
from anatune.plan.accelerator import OPERANDS, Placement, TilePlan

Buffer = tuple[str, int]
"""An operand and the number of one of its buffers, from 0."""

Bank = tuple[str, int]
"""A scratchpad's name and the number of one of its banks."""


NOBODY: Mapping[Buffer, float] = {}


@dataclass(frozen=True)
class Layout:
    """Addresses of all buffers. Two that have a bank in common are taken to meet there always."""

    banks: Mapping[Buffer, frozenset[Bank]]
    taken_bytes: Mapping[str, int]  # by scratchpad, gaps included

    def meet(self, one: Buffer, other: Buffer) -> bool:
        return not self.banks[one].isdisjoint(self.banks[other])


def layout(here: Machine, plan: TilePlan) -> Layout:
    """Buffers one after another, as the plan's placement says.

    Raises:
        IllegalPlan: they need more than there is.
    """
    banks: dict[Buffer, frozenset[Bank]] = {}
    taken = dict.fromkeys((pad.name for pad in here.found.scratchpads), 0)
    for operand, (first, second) in OPERANDS.items():
        pad = here.pads[operand]
        size = buffer_stride(
            here, operand, (plan.block(first), plan.block(second)), plan.placement
        )
        bank = pad.size_bytes // pad.banks
        for number in range(plan.buffers(operand).count):
            begin, end = taken[pad.name], taken[pad.name] + size
            numbers = range(begin // bank, -(-end // bank))
            banks[operand, number] = frozenset((pad.name, i) for i in numbers)
            taken[pad.name] = end
    for pad in here.found.scratchpads:
        need = taken[pad.name]
        require(need <= pad.size_bytes, f"{pad.name}: {need} B are needed of {pad.size_bytes} B")
    return Layout(banks, taken)


def buffer_stride(
    here: Machine, operand: str, sizes: tuple[int, int], placement: Placement
) -> int:
    """Bytes from one buffer of an operand to the next."""
    size, pad = here.buffer_bytes(operand, sizes), here.pads[operand]
    bank = pad.size_bytes // pad.banks
    return -(-size // bank) * bank if placement is Placement.OWN_BANKS else size


def engine_interval(here: Machine, lay: Layout, used: tuple[Buffer, ...]) -> float:
    """Cycles from operation to operation while the engine works on buffers ``used``."""
    waits = here.interval
    for one in used:
        touched = sum(here.touched[x[0]] for x in used if lay.meet(x, one))
        waits = max(waits, touched / here.pads[one[0]].bank_bytes_per_cycle)
    return waits


def dma_rate(
    here: Machine, lay: Layout, moved: Buffer, per_cycle: float, used: tuple[Buffer, ...],
    interval: float, others: Mapping[Buffer, float] = NOBODY,
) -> float:  # fmt: skip
    """Share of its own rate that a transfer keeps while the engine, which goes first, works.

    Args:
        moved: the buffer that is filled or emptied, at ``per_cycle`` bytes in its scratchpad.
        used: what the engine works on, an operation every ``interval`` cycles.
        others: bytes per cycle of transfers that go first.
    """
    met = [x for x in used if lay.meet(moved, x)]
    before = [rate for other, rate in others.items() if lay.meet(moved, other)]
    if not met and not before:
        return 1.0
    taken = sum(here.touched[x] for x, _ in met) / interval + sum(before)
    left = max(0.0, here.pads[moved[0]].bank_bytes_per_cycle - taken)
    return min(1.0, left / per_cycle)
