"""Candidates are checked and timed on other machines, through TVM's RPC (rank 6).

A runner takes the devices that TVM's tracker has free for a key. A wave is built, run once and
verified on all of them at once, which is what takes long. Timed is on one of them, the same for
all plans, as times of two machines do not compare; samples come one after the other in any case. A
device that is lost on the way is dropped: its plans are checked on another, and where it was the
one that times, the next one does. A candidate that takes its server's process along is told from
that by the server answering again.

What is written outside of C's elements is not seen here: that memory is the server's.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from anatune.errors import BuildError, VerificationError, WorkerError
from anatune.measure import verify
from anatune.measure.builder import Built
from anatune.measure.calibrate import calls_of_batch
from anatune.measure.entry import Entry
from anatune.measure.outcome import Measurement, Outcome
from anatune.measure.pool import DeviceFailure, Lost, Pool
from anatune.measure.runner import HANG_FACTOR, outcome_of
from anatune.measure.session import Code, Device, Operands
from anatune.measure.tracker import Remote, Tracker
from anatune.measure.worker import DIED
from anatune.plan import Plan
from anatune.workload import Matmul

__all__ = ["DeviceFailure", "Remote", "RemoteRunner"]

DEVICES = 8
"""Devices taken at most unless more are asked for; a tracker is shared."""

PATIENCE_S = 30.0
"""Time that every request may take besides what its kernel is predicted to, seconds; uploads are
in it."""

COMEBACK_S = 20.0
"""Time in which a server must take sessions again: `anatune.measure.serve` starts anew in three
seconds on a desktop, and a small board is several times slower."""

MOST_LOSSES = 2
"""Devices that may be lost while a candidate runs on them; then it is held to be the cause."""

OK = Measurement(Outcome.OK)

T = TypeVar("T")


class Builds(Protocol):
    """Whoever compiles the candidates; `anatune.measure.builder.Builder` does."""

    def build(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, Built | Measurement]]:
        """Each entry with its file, or with what went wrong, as they get ready."""
        ...

    def keep(self, plan: Plan) -> None:
        """The kernel of ``plan`` was found right."""
        ...


class RemoteRunner:
    """A `Runner` on the devices of a tracker; a context manager that hands them back.

    Args:
        workload: what all candidates compute.
        remote: the tracker and the key of the devices.
        threads: that a candidate may use; a server with fewer is refused.
        builds: compiles them; entered and left by whoever made it.
        most_devices: devices taken at most.
        flush_bytes: memory written before each timed call, so that it finds cold caches; 0: none.
        patience_s: time that every request may take, seconds.
        comeback_s: time in which a device must answer again, seconds.
    """

    def __init__(
        self,
        workload: Matmul,
        remote: Remote,
        threads: int,
        builds: Builds,
        *,
        most_devices: int = DEVICES,
        flush_bytes: int = 0,
        patience_s: float = PATIENCE_S,
        comeback_s: float = COMEBACK_S,
    ) -> None:
        self._operands = Operands(workload)
        self._pool = Pool(
            Tracker(remote), self._operands, threads,
            most=most_devices, patience_s=patience_s, comeback_s=comeback_s,
        )  # fmt: skip
        self._builder, self._flush_bytes = builds, flush_bytes
        self._lock = threading.Lock()
        self._codes: dict[Plan, Code] = {}
        self._pace: Plan | None = None
        self._checks: Counter[str] = Counter()  # under way, by address
        self._losses: Counter[Plan] = Counter()

    def __enter__(self) -> RemoteRunner:
        """Raises WorkerError without a tracker, without a device, or with too few threads."""
        self._pool.__enter__()
        return self

    def __exit__(self, *reason: object) -> None:
        self._pool.__exit__(*reason)

    @property
    def devices(self) -> tuple[str, ...]:
        """Addresses of the devices that are at work; on the first of them plans are timed."""
        return tuple(device.address for device in self._pool.devices)

    def prepare(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, Measurement]]:
        """Each entry built, run once on some device and verified here, as they get ready.

        Raises:
            WorkerError: all devices are lost.
        """
        done: queue.SimpleQueue[tuple[Entry, Measurement | Exception]] = queue.SimpleQueue()
        running = 0
        for entry, built in self._builder.build(entries):
            if isinstance(built, Measurement):
                yield entry, built
                continue
            self._codes[entry.plan] = Code.of(entry.plan, built.path)
            work = entry, built.build_s, done
            threading.Thread(target=self._put_settled, args=work, daemon=True).start()
            running += 1
            while not done.empty():
                yield _told(done.get())
                running -= 1
        for _ in range(running):
            yield _told(done.get())

    def calibrate(self, entry: Entry, batch_s: float) -> int:
        """Calls that make a batch of about ``batch_s``. Raises what `sample` raises."""
        cold = bool(self._flush_bytes)
        return calls_of_batch(lambda calls: self.sample(entry, calls), batch_s, cold)

    def sample(self, entry: Entry, calls: int) -> float:
        """Seconds per call over a batch of ``calls``.

        Raises:
            DeviceFailure: the candidate failed.
            WorkerError: all devices are lost, or the candidate fails on the one that is left.
        """
        code, flush_bytes = self._codes[entry.plan], self._flush_bytes
        needed_s = HANG_FACTOR * calls * entry.predicted_s
        return self._timed(entry, lambda device: device.time(code, calls, flush_bytes), needed_s)

    def pace(self, entry: Entry, calls: int) -> float:
        """`sample`; all kernels share the process of the server."""
        self._pace = entry.plan
        return self.sample(entry, calls)

    def renew(self, entry: Entry) -> None:
        """Have the entry run on copies of the operands. Raises what `sample` raises."""
        code = self._codes[entry.plan]
        self._timed(entry, lambda device: device.renew(code), 0.0)

    def let_go(self, entry: Entry) -> None:
        """Free the memory that the entry's code takes on the devices; the reference stays."""
        if entry.plan == self._pace:
            return
        code = self._codes.pop(entry.plan, None)
        for device in self._pool.devices:
            device.verified.discard(entry.plan)
            if code is not None:
                device.let_go(code)

    def _timed(self, entry: Entry, work: Callable[[Device], T], needed_s: float) -> T:
        """What ``work`` returns on the device that times, where ``entry`` was found right."""
        while True:
            device = self._pool.some()[0]
            try:
                measurement = self._check(device, entry)
                if measurement.outcome is not Outcome.OK:
                    raise WorkerError(f"{measurement.outcome.value}: {measurement.note}")
                return self._pool.on(device, lambda: work(device), needed_s)
            except Lost as lost:
                self._count(entry, lost)

    def _put_settled(
        self,
        entry: Entry,
        build_s: float,
        done: queue.SimpleQueue[tuple[Entry, Measurement | Exception]],
    ) -> None:
        try:
            told: Measurement | Exception = replace(self._settle(entry), build_s=build_s)
        except DeviceFailure as error:
            told = Measurement(outcome_of(error), note=str(error), build_s=build_s)
        except Exception as error:  # raised where it is waited for
            told = error
        done.put((entry, told))

    def _settle(self, entry: Entry) -> Measurement:
        """Check ``entry`` on the least busy device, or on the next where that is lost."""
        while True:
            device = self._least_busy()
            try:
                return self._check(device, entry)
            except Lost as lost:
                self._count(entry, lost)
            finally:
                with self._lock:
                    self._checks[device.address] -= 1

    def _least_busy(self) -> Device:
        def business(device: Device) -> tuple[int, int]:
            return self._checks[device.address], len(device.verified)

        with self._lock:
            device = min(self._pool.some(), key=business)
            self._checks[device.address] += 1
            return device

    def _count(self, entry: Entry, lost: Lost) -> None:
        """Hold ``entry`` to be the cause where devices keep getting lost with it."""
        self._losses[entry.plan] += lost.running
        if self._losses[entry.plan] >= MOST_LOSSES:
            raise DeviceFailure(DIED, f"{MOST_LOSSES} devices were lost while it ran") from None

    def _check(self, device: Device, entry: Entry) -> Measurement:
        """Run ``entry`` once there, and verify what comes back; a second time nothing is done."""
        if entry.plan in device.verified:
            return OK
        code = self._codes[entry.plan]
        try:
            c = self._pool.on(device, lambda: device.run(code), HANG_FACTOR * entry.predicted_s)
            verify.check(self._operands.workload, self._operands.inputs, c)
        except (DeviceFailure, BuildError, VerificationError) as error:
            return Measurement(_outcome(error), note=str(error))
        device.verified.add(entry.plan)
        self._builder.keep(entry.plan)
        return OK


def _told(answer: tuple[Entry, Measurement | Exception]) -> tuple[Entry, Measurement]:
    entry, told = answer
    if isinstance(told, Exception):
        raise told
    return entry, told


def _outcome(error: Exception) -> Outcome:
    if isinstance(error, WorkerError):
        return outcome_of(error)
    wrong = isinstance(error, VerificationError)
    return Outcome.WRONG_RESULT if wrong else Outcome.COMPILE_ERROR
