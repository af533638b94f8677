"""What a plan moves and how long each resource is busy: sums over blocks, no schedule (rank 4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product

from anatune.model.accelerator.layout import engine_interval, layout
from anatune.model.accelerator.machine import Machine, Transfer
from anatune.plan.accelerator import OPERANDS, Placement, TilePlan


@dataclass
class Totals:
    """Sums over a whole plan, by the name of the DMA engine where there are several."""

    engine_cycles: float = 0.0  # operations issued, waits for sums of the same block included
    operations: int = 0
    busy: Counter[str] = field(default_factory=Counter)
    starts: Counter[str] = field(default_factory=Counter)  # cycles of start latency, within busy
    link_bytes: Counter[str] = field(default_factory=Counter)
    ways: Counter[tuple[str, str]] = field(default_factory=Counter)  # busy, by way and engine
    held_up: Counter[tuple[str, str]] = field(default_factory=Counter)  # by operand and engine
    transfer_pj: float = 0.0

    def add(
        self, way: str, operand: str, name: str, moved: Transfer, count: int, energy_pj: float
    ) -> None:
        self.busy[name] += count * moved.cycles  # type: ignore[assignment]
        self.starts[name] += count * moved.start_cycles  # type: ignore[assignment]
        self.ways[way, name] += count * moved.cycles  # type: ignore[assignment]
        self.held_up[operand, name] += count * moved.cycles  # type: ignore[assignment]
        self.link_bytes[name] += count * moved.link_bytes
        self.transfer_pj += count * energy_pj


def totals(here: Machine, plan: TilePlan) -> Totals:
    """All that the plan does, block size by block size."""
    found = Totals()
    for operand in "ab":
        name = plan.buffers(operand).dma
        for sizes, count in _blocks(plan, operand):
            _count(here, found, "in", operand, sizes, name, count * plan.visits(operand))
    for sizes, count in _blocks(plan, "c"):
        back = count * (plan.visits("c") - 1)
        _count(here, found, "out", "c", sizes, plan.c.dma, count)
        _count(here, found, "out", "c", sizes, plan.c.dma, back, partial=True)
        _count(here, found, "in", "c", sizes, plan.a.dma, back, partial=True)
    for m in plan.m:
        for n in plan.n:
            for k in plan.k:
                count = m.count * n.count * k.count
                slices, apart, last = here.slices(m.size, n.size, k.size, here.interval)
                found.engine_cycles += count * ((slices - 1) * apart + last)
                found.operations += count * here.operations(m.size, n.size, k.size)
    return found


def joules(here: Machine, found: Totals) -> float:
    """Energy of operations and transfers; nothing that flows while all rest."""
    return (found.operations * here.operation_pj() + found.transfer_pj) * 1e-12


def least_cycles(here: Machine, plan: TilePlan, found: Totals) -> float:
    """A bound that no schedule of the plan, with any number of buffers, falls below.

    The engine cannot start before its first blocks are there, nor the last store before the
    engine has ended; and every DMA engine does one thing at a time.
    """
    first = [
        here.transfer(x, _sizes(plan, x, 0), here.dma[plan.buffers(x).dma]).cycles for x in "ab"
    ]
    fill = sum(first) if plan.a.dma == plan.b.dma else max(first)
    last_store = here.transfer("c", _sizes(plan, "c", -1), here.dma[plan.c.dma]).cycles
    drain = here.pipeline - here.interval
    return max(fill + found.engine_cycles + drain + last_store, *found.busy.values())


def least_buffered(here: Machine, plan: TilePlan, found: Totals) -> float:
    """The same of the plan's own buffers: the engine rests while a single one is moved, and
    operands that meet in a bank slow it down."""
    rests: Counter[str] = Counter()
    for (operand, name), cycles in found.held_up.items():
        if plan.buffers(operand).count == 1:
            rests[name] += cycles
    least = found.operations * _least_interval(here, plan)
    return max(least, found.engine_cycles) + max(rests.values(), default=0.0)


def _least_interval(here: Machine, plan: TilePlan) -> float:
    """Cycles from operation to operation, of the buffers that get along best."""
    if plan.placement is Placement.OWN_BANKS:
        return here.interval
    numbered = [[(x, i) for i in range(plan.buffers(x).count)] for x in OPERANDS]
    lay = layout(here, plan)
    return min(engine_interval(here, lay, used) for used in product(*numbered))


def _sizes(plan: TilePlan, operand: str, index: int) -> tuple[int, int]:
    """The first or the last block of an operand."""
    first, second = OPERANDS[operand]
    return plan.cover(first)[index].size, plan.cover(second)[index].size


def _blocks(plan: TilePlan, operand: str) -> Iterator[tuple[tuple[int, int], int]]:
    first, second = OPERANDS[operand]
    for one in plan.cover(first):
        for other in plan.cover(second):
            yield (one.size, other.size), one.count * other.count


def _count(
    here: Machine, found: Totals, way: str, operand: str, sizes: tuple[int, int], name: str,
    count: int, partial: bool = False,
) -> None:  # fmt: skip
    if count:
        engine = here.dma[name]
        moved = here.transfer(operand, sizes, engine, partial)
        found.add(way, operand, name, moved, count, here.transfer_pj(operand, engine, moved))
