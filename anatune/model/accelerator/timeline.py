"""Cycles of a plan: a walk through its loops, block by block, that skips what repeats (rank 4).

Every resource takes its work in order, so times follow from maxima and sums alone. What is left
out: two DMA engines that move data through one bank at once do not slow each other down here.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import inf, lcm

from anatune.model.accelerator.layout import Buffer, Layout, dma_rate, engine_interval, layout
from anatune.model.accelerator.machine import Machine, Transfer
from anatune.model.accelerator.repeats import Turns
from anatune.plan.accelerator import OPERANDS, Placement, TilePlan

REMEMBERED = 3
"""Blocks of operations that a transfer may run beside: no operand has more than three buffers."""


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """When things happen, cycles from the first command on."""

    cycles: float
    prologue_cycles: float  # until the engine starts
    engine_cycles: float  # in which the engine issues operations
    wait_cycles: float  # in which it waits between its start and its end
    epilogue_cycles: float  # from the last operation's issue on
    conflict_cycles: float  # by which banks that the engine uses make transfers longer


@dataclass
class _Held:
    """The block of an operand at hand."""

    index: tuple[int, ...] = ()
    number: int = -1  # of its buffer
    ready: float = 0.0
    free: list[float] = field(default_factory=list)  # when each buffer may be filled


@dataclass
class _Store:
    """A finished block of c that waits for its place in the queue."""

    due: int  # goes after the loads of this step
    ready: float
    number: int
    sizes: tuple[int, int]
    partial: bool


@dataclass
class _Busy:
    """A stretch in which the engine works on some buffers."""

    begin: float
    end: float
    used: tuple[Buffer, ...]
    interval: float


def timeline(here: Machine, plan: TilePlan) -> Timeline:
    """Predicted times of a plan whose buffers fit. Raises IllegalPlan where they do not."""
    walk = _Walk(here, plan, layout(here, plan))
    walk.loops(0, {})
    return walk.finish()


def cycles_within(here: Machine, plan: TilePlan, engine_cycles: float, limit: float) -> float:
    """Cycles of a plan; infinite as soon as they must exceed ``limit``.

    Args:
        engine_cycles: that the plan's operations take at the least, waits apart.
    """
    walk = _Walk(here, plan, layout(here, plan))
    walk.engine_least, walk.limit = engine_cycles, limit
    try:
        walk.loops(0, {})
    except _TooSlow:
        return inf
    return walk.finish().cycles


class _TooSlow(Exception):
    """A walk that is not worth going on with."""


class _Walk:
    def __init__(self, here: Machine, plan: TilePlan, lay: Layout) -> None:
        self.here, self.plan, self.lay = here, plan, lay
        self.queues = dict.fromkeys(here.dma, 0.0)
        self.held = {x: _Held(free=[0.0] * plan.buffers(x).count) for x in OPERANDS}
        self.stores: deque[_Store] = deque()
        self.open: deque[_Store] = deque()  # begun, and slowed by what the engine does later
        self.busy: deque[_Busy] = deque()
        self.step = 0
        self.begun: float | None = None
        self.issued = 0.0  # when the engine may issue the next operation
        self.sums_ready = 0.0  # when the next operation may add to the sums at hand
        self.done = 0.0  # when all sums of the last block are in the scratchpad
        self.stored = 0.0
        self.engine_cycles = self.conflict_cycles = 0.0
        self.engine_least, self.limit = 0.0, inf
        self.transfers: dict[object, Transfer] = {}
        self.intervals: dict[tuple[Buffer, ...], float] = {}
        self.stores_after = plan.stores_after
        # Where no two buffers meet, which one is at hand makes no difference.
        self.alike = plan.placement is Placement.OWN_BANKS
        self.rotation = 1 if self.alike else lcm(*(plan.buffers(x).count for x in OPERANDS))

    def loops(self, level: int, at: dict[str, tuple[int, int]]) -> None:
        """All turns of the loop at ``level``; ``at``: index and size along the dimensions so far.

        The last turn of a loop is walked in any case: what it finishes is stored for good.
        """
        if level == len(self.plan.order.value):
            return self._step(at)
        dim, index = self.plan.order.value[level], 0
        last = self.plan.trips(dim) - 1
        for run in self.plan.cover(dim):
            end, turns = index + run.count, Turns()
            while index < end:
                self.loops(level + 1, {**at, dim: (index, run.size)})
                index += 1
                left = (min(end, last) - index) // self.rotation
                if left > 0 and index % self.rotation == 0:
                    turns.add(self._times(), self._shape(), self.step)
                    if turns.repeats:
                        self._skip(left, turns.moves, turns.steps)
                        index += left * self.rotation
                        turns = Turns()

    def finish(self) -> Timeline:
        self._retire_sums()
        self._flush(self.stores[-1].due + 1)
        self._end_stores()
        assert self.begun is not None
        end = max(self.stored, self.done)
        return Timeline(
            cycles=end,
            prologue_cycles=self.begun,
            engine_cycles=self.engine_cycles,
            wait_cycles=self.issued - self.begun - self.engine_cycles,
            epilogue_cycles=end - self.issued,
            conflict_cycles=self.conflict_cycles,
        )

    def _step(self, at: dict[str, tuple[int, int]]) -> None:
        moved = {x: tuple(at[d][0] for d in dims) for x, dims in OPERANDS.items()}
        new_sums = moved["c"] != self.held["c"].index
        if new_sums and self.step:
            self._retire_sums()
        self._flush(self.step)
        for operand in "ab":
            if moved[operand] != self.held[operand].index:
                self._load(operand, moved[operand], at)
        if new_sums:
            self._turn("c", moved["c"])
            if at["k"][0]:
                self._load_partial(at)
        self._flush(self.step + 1)
        self._compute(at, new_sums)
        self.step += 1

    def _turn(self, operand: str, index: tuple[int, ...]) -> None:
        held = self.held[operand]
        held.index, held.number = index, (held.number + 1) % len(held.free)

    def _load(self, operand: str, index: tuple[int, ...], at: dict[str, tuple[int, int]]) -> None:
        held = self.held[operand]
        if held.number >= 0:
            held.free[held.number] = self.issued
        self._turn(operand, index)
        name = self.plan.buffers(operand).dma
        if name == self.plan.c.dma:
            self._end_stores()
        begin = max(self.queues[name], held.free[held.number])
        held.ready = self._move(operand, held.number, _sizes(operand, at), name, begin)

    def _load_partial(self, at: dict[str, tuple[int, int]]) -> None:
        held, name = self.held["c"], self.plan.a.dma
        self._end_stores()
        begin = max(self.queues[name], held.free[held.number], self.stored)
        held.ready = self._move("c", held.number, _sizes("c", at), name, begin, partial=True)

    def _move(
        self, operand: str, number: int, sizes: tuple[int, int], name: str, begin: float,
        partial: bool = False,
    ) -> float:  # fmt: skip
        """The end of a transfer that begins at ``begin``; its queue is taken until then."""
        start, end, moved = self._course(operand, number, sizes, name, begin, partial)
        self.conflict_cycles += end - start - moved.data_cycles
        self.queues[name] = end
        return end

    def _course(
        self, operand: str, number: int, sizes: tuple[int, int], name: str, begin: float,
        partial: bool,
    ) -> tuple[float, float, Transfer]:  # fmt: skip
        """When the data of a transfer flows from and to, as far as the engine's work is known."""
        key = operand, sizes, partial, name
        if key not in self.transfers:
            engine = self.here.dma[name]
            self.transfers[key] = self.here.transfer(operand, sizes, engine, partial)
        moved = self.transfers[key]
        start = begin + moved.start_cycles
        return start, self._stretched((operand, number), start, moved), moved

    def _stretched(self, buffer: Buffer, begin: float, moved: Transfer) -> float:
        """When data that starts to flow at ``begin`` has arrived, the engine going first."""
        left, now = moved.data_cycles, begin
        for busy in self.busy:
            if busy.end <= now or not moved.data_cycles:
                continue
            if busy.begin > now:
                left -= busy.begin - now
                if left <= 0:
                    return busy.begin + left
                now = busy.begin
            per_cycle = moved.pad_bytes / moved.data_cycles
            rate = dma_rate(self.here, self.lay, buffer, per_cycle, busy.used, busy.interval)
            if left <= rate * (busy.end - now):
                return now + left / rate
            left -= rate * (busy.end - now)
            now = busy.end
        return now + left

    def _compute(self, at: dict[str, tuple[int, int]], new_sums: bool) -> None:
        used = tuple((x, held.number) for x, held in self.held.items())
        if used not in self.intervals:
            self.intervals[used] = engine_interval(self.here, self.lay, used)
        interval, sums = self.intervals[used], self.held["c"]
        while new_sums and any(store.number == sums.number for store in self.open):
            self._end_store()
        ready = [self.issued, *(held.ready for held in self.held.values())]
        ready.append(sums.free[sums.number] if new_sums else self.sums_ready)
        slices, apart, last = self.here.slices(at["m"][1], at["n"][1], at["k"][1], interval)
        begin = max(ready)
        final_slice = begin + (slices - 1) * apart
        self.begun = begin if self.begun is None else self.begun
        self.issued = final_slice + last
        self.sums_ready = final_slice + self.here.found.accumulate_cycles
        self.done = self.issued - interval + max(interval, self.here.pipeline)
        self.engine_cycles += self.issued - begin
        if self.issued + max(0.0, self.engine_least - self.engine_cycles) > self.limit:
            raise _TooSlow
        self.busy.append(_Busy(begin, self.issued, used, interval))
        self.at = at
        self._end_stores(self.issued)
        while len(self.busy) > REMEMBERED and not self.open:
            self.busy.popleft()

    def _retire_sums(self) -> None:
        """The block of c at hand is finished: its store may be queued."""
        due = self.step - 1 + self.stores_after
        partial = self.at["k"][0] < self.plan.trips("k") - 1
        number, sizes = self.held["c"].number, _sizes("c", self.at)
        self.stores.append(_Store(due, self.done, number, sizes, partial))

    def _flush(self, before: int) -> None:
        """Queue the stores that go after the loads of steps up to ``before``."""
        while self.stores and self.stores[0].due < before:
            self.open.append(self.stores.popleft())
            if self.alike:
                self._end_stores()

    def _end_stores(self, known: float = inf) -> None:
        """End the stores that are over by ``known``, until when the engine's work is known."""
        name = self.plan.c.dma
        while self.open:
            store = self.open[0]
            begin = max(self.queues[name], store.ready)
            _, end, _ = self._course("c", store.number, store.sizes, name, begin, store.partial)
            if end > known:
                return
            self._end_store()

    def _end_store(self) -> None:
        store, name = self.open.popleft(), self.plan.c.dma
        begin = max(self.queues[name], store.ready)
        end = self._move("c", store.number, store.sizes, name, begin, store.partial)
        self.held["c"].free[store.number] = self.stored = end

    def _shape(self) -> tuple[object, ...]:
        """All of the state but times."""
        stores = [(s.due - self.step, s.sizes, s.partial) for s in (*self.open, *self.stores)]
        if self.alike:
            return tuple(stores)
        numbers = [held.number for held in self.held.values()]
        used = [busy.used for busy in self.busy]
        return (len(self.open), *stores, *numbers, *used, *(s.number for s in self.stores))

    def _times(self) -> list[float]:
        """All times that later steps depend on, in the order in which `_set_times` takes them."""
        found = [self.issued, self.sums_ready, self.done, self.stored, *self.queues.values()]
        for held in self.held.values():
            found += [held.ready, *held.free[held.number :], *held.free[: held.number]]
        for store in (*self.open, *self.stores):
            found.append(store.ready)
        for busy in self.busy:
            found += [busy.begin, busy.end]
        return [*found, self.engine_cycles, self.conflict_cycles]

    def _set_times(self, times: list[float]) -> None:
        rest = iter(times)
        self.issued, self.sums_ready, self.done, self.stored = (next(rest) for _ in range(4))
        for name in self.queues:
            self.queues[name] = next(rest)
        for held in self.held.values():
            held.ready = next(rest)
            for number in range(held.number, held.number + len(held.free)):
                held.free[number % len(held.free)] = next(rest)
        for store in (*self.open, *self.stores):
            store.ready = next(rest)
        for busy in self.busy:
            busy.begin, busy.end = next(rest), next(rest)
        self.engine_cycles, self.conflict_cycles = rest

    def _skip(self, turns: int, moves: list[float], steps: int) -> None:
        """As many turns more, of ``steps`` steps, in which each time moves by its part of
        ``moves``."""
        self._set_times([t + turns * move for t, move in zip(self._times(), moves)])
        self.step += turns * steps
        for store in (*self.open, *self.stores):
            store.due += turns * steps


def _sizes(operand: str, at: dict[str, tuple[int, int]]) -> tuple[int, int]:
    first, second = OPERANDS[operand]
    return at[first][1], at[second][1]
