"""The devices that a run took from a tracker: requests that outlive what they break (rank 6)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from anatune.errors import AnatuneError, WorkerError, last_line, require
from anatune.measure.session import GRACE_S, Device, Operands, Silent, within
from anatune.measure.tracker import Tracker, answers
from anatune.measure.worker import DIED, HUNG, WorkerFailure

SESSION_PATIENCES = 2.0
"""Length of a session in requests of the longest kind. The server ends it then, which is what ends
a kernel that hangs; a session with less than one of them left is replaced beforehand."""

SESSION_OVER = "RPCSessionTimeoutError"
"""Name of the error that TVM raises when the server ended a session for its length."""

SERVE = "python -m anatune.measure.serve"

T = TypeVar("T")


class Lost(Exception):
    """A device is gone; ``running``: while it served this very request."""

    def __init__(self, running: bool) -> None:
        super().__init__()
        self.running = running


class DeviceFailure(WorkerFailure):
    """A candidate that failed on a device, which is well or known to have stopped for it."""

    def __init__(self, how: str, why: str) -> None:
        super().__init__(how, why)
        self.args = (why,)


class Pool:
    """Devices of one key; a context manager that hands them back.

    Args:
        tracker: where they come from.
        operands: what is computed with on all of them.
        threads: that each must be able to run.
        most: devices taken at most.
        patience_s: time that a request may take, seconds.
        comeback_s: time in which a device must take a session again, seconds.
    """

    def __init__(
        self,
        tracker: Tracker,
        operands: Operands,
        threads: int,
        *,
        most: int,
        patience_s: float,
        comeback_s: float,
    ) -> None:
        self._tracker, self._operands, self._threads = tracker, operands, threads
        self._most, self._patience_s, self._comeback_s = most, patience_s, comeback_s
        self._lock = threading.Lock()
        self._devices: dict[str, Device] = {}

    def __enter__(self) -> Pool:
        try:
            wanted = max(1, min(self._most, self._tracker.free()))
            while len(self._devices) < wanted:
                taken = self._tracker.take(SESSION_PATIENCES * self._patience_s, self._comeback_s)
                if taken is None:
                    break
                self._devices[taken.address] = Device(self._operands, taken, self._threads)
            self._require_any("free")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for device in self.devices:
            device.lost = True  # or a check that is still under way would take it again
            device.end()
        self._devices.clear()

    @property
    def devices(self) -> tuple[Device, ...]:
        """Those that are at work."""
        with self._lock:
            return tuple(self._devices.values())

    def some(self) -> tuple[Device, ...]:
        """Those that are at work. Raises WorkerError where none is left."""
        self._require_any("left")
        return self.devices

    def on(self, device: Device, work: Callable[[], T], needed_s: float = 0.0) -> T:
        """What ``work`` returns, which uses ``device`` for up to ``needed_s`` beside the patience.

        Raises:
            DeviceFailure: the work failed, and the device is well or known to have ended with it.
            Lost: the device is gone, by no fault that could be proved.
            BuildError: code that the device cannot load.
        """
        needed_s += self._patience_s
        with device.lock:
            if device.lost:
                raise Lost(running=False)
            if device.left_s < needed_s:
                device.end()
                if not self._begin_anew(device, needed_s):
                    self._drop(device)
                    raise Lost(running=False)
            try:
                return within(device.left_s + GRACE_S, work)
            except Silent:  # not even the server, which should have ended the session
                self._drop(device)
                raise Lost(running=True) from None
            except AnatuneError:
                raise
            except Exception as error:  # TVM raises many classes, and the remote end any
                if device.lost:  # handed back meanwhile
                    raise Lost(running=False) from None
                why, over = last_line(error), type(error).__name__ == SESSION_OVER
            raise self._failure(device, why, over, needed_s)

    def _failure(self, device: Device, why: str, over: bool, needed_s: float) -> Exception:
        """What to raise for a request that failed; the device is back, or dropped."""
        if not over and device.alive():
            return DeviceFailure(DIED, why)
        device.end()
        back = self._begin_anew(device, needed_s)
        if not back:
            self._drop(device)
        if over:
            return DeviceFailure(HUNG, f"{device.address}: no end in {needed_s:.0f} s")
        why = f"{device.address}: its process ended: {why}"
        if back:
            return DeviceFailure(DIED, why)
        if answers(device.address):
            mend = f"TVM's server stopped with it and is not used any more; start it with {SERVE}"
            return DeviceFailure(DIED, f"{why}; {mend}")
        return Lost(running=True)

    def _begin_anew(self, device: Device, needed_s: float) -> bool:
        """Whether the device took a new session."""
        session_s = SESSION_PATIENCES * needed_s
        taken = self._tracker.take(session_s, self._comeback_s, device.address)
        if taken is None:
            return False
        if device.lost:  # handed back meanwhile
            taken.close()
            return False
        try:
            device.begin(taken)
        except Exception:  # gone again
            device.end()
            return False
        return True

    def _drop(self, device: Device) -> None:
        device.lost = True
        with self._lock:
            self._devices.pop(device.address, None)

    def _require_any(self, state: str) -> None:
        remote = self._tracker.remote
        why = (
            f"remote = {remote}: no device of key {remote.key!r} is {state}; start one on each "
            f"machine: {SERVE} {remote}"
        )
        require(self.devices, why, WorkerError)
