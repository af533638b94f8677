"""A plan as commands for an accelerator: loads, blocks of operations, stores (rank 4).

Each DMA engine and the tile engine takes its commands in order. What must be waited for beyond that
is written into each command.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from anatune.model.accelerator.layout import Buffer
from anatune.plan.accelerator import OPERANDS, TilePlan


class Event(Enum):
    """What of a command can be waited for."""

    END = "end"  # the transfer is over; all sums are in the scratchpad
    ISSUED = "issued"  # the engine has read its operands


Wait = tuple[int, Event]
"""A command's number and what of it must have happened."""

Region = tuple[tuple[int, int], tuple[int, int]]
"""Of an operand: begin and size along its first and its second dimension."""


@dataclass(frozen=True)
class Move:
    """A block between memory and a buffer."""

    number: int
    dma: str
    buffer: Buffer
    region: Region
    out: bool
    partial: bool  # sums that are not final
    waits: tuple[Wait, ...]

    @property
    def sizes(self) -> tuple[int, int]:
        return self.region[0][1], self.region[1][1]


@dataclass(frozen=True)
class Compute:
    """A block of operations on three buffers."""

    number: int
    used: tuple[Buffer, ...]  # of a, b and c
    regions: tuple[Region, ...]
    first: bool  # sums start from zero
    waits: tuple[Wait, ...]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Elements along m, n and k."""
        (m, k), n = (part[1] for part in self.regions[0]), self.regions[1][1][1]
        return m, n, k


@dataclass
class Stream:
    """Commands of each DMA engine, and of the tile engine."""

    moves: dict[str, list[Move]] = field(default_factory=dict)
    computes: list[Compute] = field(default_factory=list)


def stream(plan: TilePlan) -> Stream:
    """All commands of a plan, one step of its loops after another."""
    writer = _Writer(plan)
    for step, at in enumerate(_turns(plan)):
        writer.step(step, at)
    writer.finish()
    return writer.written


@dataclass(frozen=True)
class _Turn:
    """Where the loops are along one dimension."""

    index: int
    begin: int
    size: int


def _turns(plan: TilePlan) -> Iterator[dict[str, _Turn]]:
    along: dict[str, list[_Turn]] = {}
    for dim in "mnk":
        sizes = [run.size for run in plan.cover(dim) for _ in range(run.count)]
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        along[dim] = [_Turn(i, *both) for i, both in enumerate(zip(starts, sizes))]
    one, two, three = plan.order.value
    for x in along[one]:
        for y in along[two]:
            for z in along[three]:
                yield {one: x, two: y, three: z}


@dataclass
class _Slot:
    """An operand's buffers: which is at hand, and what must be waited for to use each anew."""

    free: list[tuple[Wait, ...]]
    index: tuple[int, ...] = ()
    number: int = -1
    filled: tuple[Wait, ...] = ()

    def turn(self, index: tuple[int, ...]) -> None:
        self.index, self.number = index, (self.number + 1) % len(self.free)


class _Writer:
    def __init__(self, plan: TilePlan) -> None:
        self.plan = plan
        self.written = Stream({plan.buffers(x).dma: [] for x in OPERANDS})
        self.slots = {x: _Slot([()] * plan.buffers(x).count) for x in OPERANDS}
        self.count = 0
        self.last: Compute | None = None
        self.at: dict[str, _Turn] = {}
        self.stores: deque[tuple[int, Move]] = deque()  # with the step after whose loads they go
        self.last_store: tuple[Wait, ...] = ()

    def step(self, step: int, at: dict[str, _Turn]) -> None:
        index = {x: tuple(at[d].index for d in dims) for x, dims in OPERANDS.items()}
        sums = self.slots["c"]
        first = index["c"] != sums.index
        if first and self.last:
            self._retire_sums(step)
        self._queue_stores(step)
        for operand in "ab":
            if index[operand] != self.slots[operand].index:
                self._load(operand, index[operand], at)
        if first:
            sums.turn(index["c"])
            sums.filled = sums.free[sums.number]
            if at["k"].index:
                self._load_partial(at)
        self._queue_stores(step + 1)
        self._compute(at, first and not at["k"].index)

    def finish(self) -> None:
        self._retire_sums(self.plan.steps)
        self._queue_stores(self.stores[-1][0] + 1)

    def _load(self, operand: str, index: tuple[int, ...], at: dict[str, _Turn]) -> None:
        slot = self.slots[operand]
        if self.last:
            slot.free[slot.number] = ((self.last.number, Event.ISSUED),)
        slot.turn(index)
        move = self._move(operand, at, slot.free[slot.number], self.plan.buffers(operand).dma)
        slot.filled = ((move.number, Event.END),)
        self.written.moves[move.dma].append(move)

    def _load_partial(self, at: dict[str, _Turn]) -> None:
        """What an earlier store has put into memory, so no sooner than that has ended."""
        slot = self.slots["c"]
        waits = (*slot.free[slot.number], *self.last_store)
        move = self._move("c", at, waits, self.plan.a.dma, partial=True)
        slot.filled = ((move.number, Event.END),)
        self.written.moves[move.dma].append(move)

    def _compute(self, at: dict[str, _Turn], first: bool) -> None:
        used = tuple((x, slot.number) for x, slot in self.slots.items())
        regions = tuple(_region(x, at) for x in OPERANDS)
        waits = tuple(wait for slot in self.slots.values() for wait in slot.filled)
        self.last = Compute(self._number(), used, regions, first, waits)
        self.written.computes.append(self.last)
        self.at = at

    def _retire_sums(self, step: int) -> None:
        """The block of c at hand is finished: its store is due some steps later."""
        assert self.last is not None
        partial = self.at["k"].index < self.plan.trips("k") - 1
        waits = ((self.last.number, Event.END),)
        move = self._move("c", self.at, waits, self.plan.c.dma, out=True, partial=partial)
        self.slots["c"].free[self.slots["c"].number] = ((move.number, Event.END),)
        self.stores.append((step - 1 + self.plan.stores_after, move))

    def _queue_stores(self, before: int) -> None:
        while self.stores and self.stores[0][0] < before:
            _, move = self.stores.popleft()
            self.written.moves[move.dma].append(move)
            self.last_store = ((move.number, Event.END),)

    def _move(
        self, operand: str, at: dict[str, _Turn], waits: tuple[Wait, ...], dma: str,
        out: bool = False, partial: bool = False,
    ) -> Move:  # fmt: skip
        buffer = operand, self.slots[operand].number
        return Move(self._number(), dma, buffer, _region(operand, at), out, partial, waits)

    def _number(self) -> int:
        self.count += 1
        return self.count - 1


def _region(operand: str, at: dict[str, _Turn]) -> Region:
    first, second = (at[d] for d in OPERANDS[operand])
    return (first.begin, first.size), (second.begin, second.size)
