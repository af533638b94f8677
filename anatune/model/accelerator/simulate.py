"""A command stream executed in time on the described machine: simulated, never measured (rank 4).

Whatever can start, starts; then time goes on to the next event. Transfers flow at a rate that falls
while the engine uses their banks, so the rates are settled anew at each event. The schedule comes
about here from the commands and what they wait for alone, not from the walk that predicted it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from anatune.errors import OptionError, require
from anatune.model.accelerator.checks import Checks
from anatune.model.accelerator.layout import Buffer, dma_rate, engine_interval, layout
from anatune.model.accelerator.machine import Machine, Transfer
from anatune.model.accelerator.numbers import Numbers
from anatune.model.accelerator.operate import Operator
from anatune.model.accelerator.stream import Compute, Event, Move, Stream, Wait, stream
from anatune.plan.accelerator import Simulation, TilePlan

MOST_STEPS = 200_000
"""Blocks of operations that are simulated: about a minute."""

EPSILON = 1e-9
"""Share of a cycle below which a transfer's rest is rounding."""


def simulate(
    here: Machine, plan: TilePlan, *, numbers: bool = True, commands: Stream | None = None
) -> Simulation:
    """What the plan's commands do on the described machine.

    Args:
        numbers: compute C as well, of random small whole numbers, and compare.
        commands: these instead of the plan's own.

    Raises:
        IllegalPlan: buffers do not fit, or a command breaks a rule of `Checks`, or all wait.
        OptionError: more steps than a simulation takes.
    """
    why = f"plan: {plan.steps} steps: at most {MOST_STEPS} are simulated"
    require(plan.steps <= MOST_STEPS, why, OptionError)
    run = _Run(here, plan, commands or stream(plan), Numbers(here) if numbers else None)
    run.execute()
    return run.result()


@dataclass
class _Flow:
    """A transfer under way."""

    move: Move
    cost: Transfer
    data_from: float  # when its data starts to flow
    left: float  # cycles of data at full rate


@dataclass
class _Work:
    """A block of operations under way."""

    command: Compute
    interval: float
    begun: float
    issued: float
    done: float


@dataclass
class _Tally:
    """What happened so far."""

    busy: Counter[str] = field(default_factory=Counter)
    moved: Counter[str] = field(default_factory=Counter)
    peak: Counter[str] = field(default_factory=Counter)
    conflict: float = 0.0
    joules: float = 0.0
    commands: int = 0


class _Run:
    def __init__(
        self, here: Machine, plan: TilePlan, commands: Stream, numbers: Numbers | None
    ) -> None:
        self.here, self.lay, self.numbers = here, layout(here, plan), numbers
        self.moves = {name: list(reversed(queue)) for name, queue in commands.moves.items()}
        self.computes = list(reversed(commands.computes))
        self.flows: dict[str, _Flow] = {}
        self.work: _Work | None = None
        self.last: Compute | None = None
        self.draining: list[_Work] = []  # issued, sums still on their way
        self.happened: set[Wait] = set()
        self.checks, self.operator, self.tally = Checks(here), Operator(here), _Tally()
        self.ready: tuple[float, ...] = ()  # when tiles of the sums at hand may be added to
        self.now = self.issued = 0.0

    def execute(self) -> None:
        while self._start() or self.flows or self.work or self.draining:
            self._advance()
        left = sum(map(len, self.moves.values())) + len(self.computes)
        require(not left, f"stream: {left} commands wait for each other")
        self.checks.finish()

    def result(self) -> Simulation:
        cycles, tally = self.now, self.tally
        return Simulation(
            cycles=cycles,
            seconds=cycles / self.here.found.clock_hz,
            joules=tally.joules,
            busy=tuple((name, busy / cycles) for name, busy in tally.busy.items()),
            bytes_moved=tuple(tally.moved.items()),
            peak_bytes=tuple(tally.peak.items()),
            conflict_cycles=tally.conflict,
            commands=tally.commands,
            largest_error=None if self.numbers is None else self.numbers.largest_error(),
        )

    def _start(self) -> bool:
        """Start all that can start; whether anything did."""
        started = False
        for name, queue in self.moves.items():
            if name not in self.flows and queue and self._may(queue[-1].waits):
                self._start_move(queue.pop())
                started = True
        if self.work is None and self.computes and self._may(self.computes[-1].waits):
            self._start_compute(self.computes.pop())
            started = True
        return started

    def _may(self, waits: tuple[Wait, ...]) -> bool:
        return self.happened.issuperset(waits)

    def _start_move(self, move: Move) -> None:
        self.checks.move_begins(move)
        engine = self.here.dma[move.dma]
        cost = self.here.transfer(move.buffer[0], move.sizes, engine, move.partial)
        begin = self.now + cost.start_cycles
        self.flows[move.dma] = _Flow(move, cost, begin, cost.data_cycles)
        self.tally.moved[move.dma] += cost.link_bytes
        self.tally.joules += 1e-12 * self.here.transfer_pj(move.buffer[0], engine, cost)
        self._note_start()

    def _start_compute(self, command: Compute) -> None:
        self.checks.compute_begins(command)
        interval = engine_interval(self.here, self.lay, command.used)
        continued = self._continues(command)
        ready = tuple(max(0.0, t - self.now) for t in self.ready) if continued else ()
        wait = min(ready[:1], default=0.0)  # its first tile's sums
        done = self.operator.run(command.sizes, interval, tuple(t - wait for t in ready))
        begin = self.now + wait
        self.ready = tuple(begin + t for t in done.ready)
        self.work = _Work(command, interval, begin, begin + done.issued, begin + done.done)
        if self.numbers:
            self.numbers.compute(command)
        operations = self.here.operations(*command.sizes)
        self.tally.joules += 1e-12 * operations * self.here.operation_pj()
        self._note_start()

    def _continues(self, command: Compute) -> bool:
        """Whether it adds to the sums that the engine has just worked on."""
        last, self.last = self.last, command
        if last is None or command.first:
            return False
        return (last.used[2], last.regions[2]) == (command.used[2], command.regions[2])

    def _note_start(self) -> None:
        self.tally.commands += 1
        for name, taken in self.checks.occupied_bytes().items():
            self.tally.peak[name] = max(self.tally.peak[name], taken)

    def _rates(self) -> dict[str, float]:
        """Share of its own rate at which each transfer's data flows, the engine going first.

        Of transfers that meet in a bank, that of the DMA engine that is named first goes first.
        """
        rates: dict[str, float] = {}
        others: dict[Buffer, float] = {}
        at_work = self.work is not None and self.work.begun <= self.now
        used = self.work.command.used if self.work and at_work else ()
        interval = self.work.interval if self.work else 1.0
        for name in self.moves:
            flow = self.flows.get(name)
            if flow is None or flow.data_from > self.now or not flow.cost.data_cycles:
                rates[name] = 1.0
                continue
            buffer, full = flow.move.buffer, flow.cost.pad_bytes / flow.cost.data_cycles
            rates[name] = dma_rate(self.here, self.lay, buffer, full, used, interval, others)
            others[buffer] = full * rates[name]
        return rates

    def _advance(self) -> None:
        """On to the next event, and everything that happens then."""
        rates = self._rates()
        times = [work.done for work in self.draining]
        if self.work:
            times += [t for t in (self.work.begun, self.work.issued) if t > self.now]
        for name, flow in self.flows.items():
            if flow.data_from > self.now:
                times.append(flow.data_from)
            elif rates[name] > 0:
                times.append(self.now + flow.left / rates[name])
        step = min(times) - self.now
        for name, flow in self.flows.items():
            self.tally.busy[name] += step  # type: ignore[assignment]
            if flow.data_from <= self.now:
                flow.left -= step * rates[name]
                self.tally.conflict += step * (1 - rates[name])
        if self.work and self.work.begun <= self.now:
            self.tally.busy["engine"] += step  # type: ignore[assignment]
        self.now += step
        self._happen()

    def _happen(self) -> None:
        for name, flow in list(self.flows.items()):
            if flow.data_from <= self.now and flow.left <= EPSILON:
                del self.flows[name]
                self.checks.move_ends(flow.move)
                if self.numbers:
                    self.numbers.move(flow.move)
                self.happened.add((flow.move.number, Event.END))
        work = self.work
        if work and work.issued <= self.now:
            self.work = None
            self.draining.append(work)
            self.checks.compute_issued(work.command)
            self.happened.add((work.command.number, Event.ISSUED))
        for work in [w for w in self.draining if w.done <= self.now]:
            self.draining.remove(work)
            self.checks.compute_ends(work.command, self._at_work_on(work))
            self.happened.add((work.command.number, Event.END))

    def _at_work_on(self, done: _Work) -> bool:
        later = [*self.draining, *([self.work] if self.work else [])]
        return any(work.command.used[2] == done.command.used[2] for work in later)
