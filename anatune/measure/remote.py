"""Candidates are checked and timed on other machines, through TVM's RPC (rank 6).

A runner takes the devices that TVM's tracker has free for a key. Each plan lives on the device that
checked it, so a wave is spread over all of them. A device that is lost on the way is dropped and
its plans are checked again on another; a candidate that takes its server's process along is told
from that by the server answering again.

For a race: times of different devices compare only beside a reference, so have the reference kernel
on each (`RemoteRunner.everywhere`), and sample it on the device of the plan beside it
(``sample(reference, calls, device=runner.device_of(entry))``). A final is run on one device, to
which its plans go with `RemoteRunner.move`.

What is written outside of C's elements is not seen here: that memory is the server's.
"""

from __future__ import annotations

import itertools
import queue
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from anatune.errors import BuildError, VerificationError, WorkerError
from anatune.measure import verify
from anatune.measure.builder import Built
from anatune.measure.entry import Entry
from anatune.measure.outcome import Measurement, Outcome
from anatune.measure.pool import DeviceFailure, Lost, Pool
from anatune.measure.session import Code, Device, Operands
from anatune.measure.tracker import Remote, Tracker
from anatune.plan import Plan
from anatune.workload import Matmul

__all__ = ["DeviceFailure", "InProcess", "Remote", "RemoteRunner"]

DEVICES = 8
"""Devices taken at most unless more are asked for; a tracker is shared."""

PATIENCE_S = 30.0
"""Time that every request may take, its uploads included, seconds."""

HANG_FACTOR = 100.0
"""A kernel that takes this many times its predicted time, on top of that, is taken to hang."""

COMEBACK_S = 20.0
"""Time in which a server must take sessions again: `anatune.measure.serve` starts anew in three
seconds on a desktop, and a small board is several times slower."""

MOST_LOSSES = 2
"""Devices that may be lost while a candidate runs on them; then it is held to be the cause."""

OK = Measurement(Outcome.OK)


class Builds(Protocol):
    """Whoever compiles the candidates; `anatune.measure.builder.Builder` does."""

    def build(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, Built | Measurement]]:
        """Each entry with its file, or with what went wrong, as they get ready."""
        ...


class InProcess:
    """Compiles in this process, one after the other, for machines of any instruction set."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._numbers = folder, itertools.count()

    def build(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, Built | Measurement]]:
        from anatune.codegen.build import build
        from anatune.codegen.link import write_sendable
        from anatune.codegen.target import triple_of

        for entry in entries:
            stem = self._folder / f"kernel{next(self._numbers)}"
            try:
                kernel = build(entry.plan)
                path = write_sendable(kernel.executable, stem, triple_of(entry.plan.target))
            except BuildError as error:
                yield entry, Measurement(Outcome.COMPILE_ERROR, note=str(error))
            else:
                yield entry, Built(path)


class RemoteRunner:
    """A `Runner` on the devices of a tracker; a context manager that hands them back.

    Args:
        workload: what all candidates compute.
        remote: the tracker and the key of the devices.
        threads: that a candidate may use; a server with fewer is refused.
        builds: who compiles; in this process by default.
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
        *,
        builds: Builds | None = None,
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
        self._builds, self._flush_bytes = builds, flush_bytes
        self._lock = threading.Lock()
        self._homes: dict[Plan, Device] = {}
        self._codes: dict[Plan, Code] = {}
        self._losses: Counter[Plan] = Counter()

    def __enter__(self) -> RemoteRunner:
        """Raises WorkerError without a tracker, without a device, or with too few threads."""
        self._pool.__enter__()
        self._folder = tempfile.TemporaryDirectory(prefix="anatune-")
        if self._builds is None:
            self._builds = InProcess(Path(self._folder.name))
        return self

    def __exit__(self, *reason: object) -> None:
        self._pool.__exit__(*reason)
        self._folder.cleanup()

    @property
    def devices(self) -> tuple[str, ...]:
        """Addresses of the devices that are at work."""
        return tuple(device.address for device in self._pool.devices)

    def device_of(self, entry: Entry) -> str:
        """Address of the device on which ``entry``, which is prepared, is timed."""
        return self._homes[entry.plan].address

    def prepare(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, Measurement]]:
        """Each entry built, run once on some device and verified here, as they get ready.

        Raises:
            WorkerError: all devices are lost.
        """
        assert self._builds is not None
        done: queue.SimpleQueue[tuple[Entry, Measurement | Exception]] = queue.SimpleQueue()
        running = 0
        for entry, built in self._builds.build(entries):
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

    def everywhere(self, entry: Entry) -> Measurement:
        """Check ``entry``, which is prepared, on every device; the first that is not OK, or OK."""
        for device in self._pool.some():
            try:
                measurement = self._check(device, entry)
            except Lost:
                continue
            if measurement.outcome is not Outcome.OK:
                return measurement
        return OK

    def move(self, entry: Entry, device: str) -> Measurement:
        """Check ``entry`` on the device of that address, and time it there from now on.

        Raises:
            WorkerError: that device is lost.
        """
        to = self._pool.at(device)
        try:
            measurement = self._check(to, entry)
        except Lost:
            raise WorkerError(f"device {device}: lost") from None
        if measurement.outcome is Outcome.OK:
            self._homes[entry.plan] = to
        return measurement

    def calibrate(self, entry: Entry, batch_s: float, device: str = "") -> int:
        """Calls that make a batch of about ``batch_s``. Raises what `sample` raises."""
        calls = 1
        while True:
            seconds = calls * self.sample(entry, calls, device)
            if seconds >= batch_s / 2:
                return max(1, round(calls * batch_s / seconds))
            calls *= 2

    def sample(self, entry: Entry, calls: int, device: str = "") -> float:
        """Seconds per call over a batch of ``calls``, on the entry's device unless one is named.

        Where its device is lost, the entry is checked and timed on another; see `device_of`.

        Raises:
            DeviceFailure: the candidate failed.
            WorkerError: the named device is lost, or all are.
        """
        code, flush_bytes = self._codes[entry.plan], self._flush_bytes
        needed_s = HANG_FACTOR * calls * entry.predicted_s
        while True:
            at = self._pool.at(device) if device else self._home(entry)
            try:
                return self._pool.on(at, lambda: at.time(code, calls, flush_bytes), needed_s)
            except Lost:
                if device:
                    raise WorkerError(f"device {device}: lost") from None

    def let_go(self, entry: Entry) -> None:
        """Free the memory that the entry's code takes on its devices."""
        code = self._codes.pop(entry.plan, None)
        self._homes.pop(entry.plan, None)
        for device in self._pool.devices:
            if code is not None:
                device.let_go(code)
            device.verified.discard(entry.plan)

    def _put_settled(
        self,
        entry: Entry,
        build_s: float,
        done: queue.SimpleQueue[tuple[Entry, Measurement | Exception]],
    ) -> None:
        try:
            done.put((entry, replace(self._settle(entry), build_s=build_s)))
        except Exception as error:  # raised where it is waited for
            done.put((entry, error))

    def _settle(self, entry: Entry) -> Measurement:
        """Check ``entry`` on the device with the fewest plans, or the next where that is lost."""
        while self._losses[entry.plan] < MOST_LOSSES:
            device = self._least_busy(entry)
            try:
                measurement = self._check(device, entry)
            except Lost as lost:
                self._losses[entry.plan] += lost.running
                continue
            if measurement.outcome is not Outcome.OK:
                self._homes.pop(entry.plan)
            return measurement
        self._homes.pop(entry.plan)
        return Measurement(Outcome.RUN_ERROR, note=f"{MOST_LOSSES} devices were lost while it ran")

    def _least_busy(self, entry: Entry) -> Device:
        with self._lock:
            plans = Counter(device.address for device in self._homes.values())
            device = min(self._pool.some(), key=lambda device: plans[device.address])
            self._homes[entry.plan] = device
            return device

    def _home(self, entry: Entry) -> Device:
        """The device of ``entry``; another one where that is lost."""
        device = self._homes.get(entry.plan)
        if device is None or device.lost:
            measurement = self._settle(entry)
            if measurement.outcome is not Outcome.OK:
                raise DeviceFailure(measurement.outcome, measurement.note)
        return self._homes[entry.plan]

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
        return OK


def _told(answer: tuple[Entry, Measurement | Exception]) -> tuple[Entry, Measurement]:
    entry, told = answer
    if isinstance(told, Exception):
        raise told
    return entry, told


def _outcome(error: Exception) -> Outcome:
    if isinstance(error, DeviceFailure):
        return error.outcome
    wrong = isinstance(error, VerificationError)
    return Outcome.WRONG_RESULT if wrong else Outcome.COMPILE_ERROR
