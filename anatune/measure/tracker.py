"""Where other machines are found: TVM's tracker, and the devices that it hands out (rank 6)."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from anatune.errors import OptionError, WorkerError, require

ANSWER_S = 5.0
"""Time in which a tracker must answer, and a machine a knock at its port, seconds."""

ASK_AGAIN_S = 0.5
"""Time after which a tracker that has no free device is asked anew, seconds."""

MOST_PORT = 65535


@dataclass(frozen=True)
class Remote:
    """A tracker, and the key under which the wanted devices are known to it."""

    host: str
    port: int
    key: str

    @classmethod
    def parse(cls, text: str) -> Remote:
        """Read "HOST:PORT/KEY"; an IPv6 address stands in brackets.

        Raises:
            OptionError: anything else.
        """
        found = re.fullmatch(r"(\[[^\]/]+\]|[^:/\s\[\]]+):([0-9]{1,5})/([\w.-]+)", str(text))
        why = f'remote = {text!r}: "HOST:PORT/KEY" is needed, such as "10.0.0.7:9190/laptop"'
        require(found, why, OptionError)
        assert found is not None
        host, port, key = found[1].strip("[]"), int(found[2]), found[3]
        why = f"remote = {text!r}: ports go from 1 to {MOST_PORT}"
        require(1 <= port <= MOST_PORT, why, OptionError)
        return cls(host, port, key)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}/{self.key}"


@dataclass(frozen=True)
class Taken:
    """A device that is ours until ``session`` is closed, or ``ends`` on the monotonic clock."""

    address: str  # "host:port" of its server
    session: Any
    ends: float

    def close(self) -> None:
        """Hand the device back."""
        with contextlib.suppress(Exception):  # what is broken needs no closing
            self.session.get_function("CloseRPCConnection")()


class Tracker:
    """Asks TVM's tracker in its own words, `tvm.rpc.base`.

    `tvm.rpc.TrackerSession` is not used: it waits a minute for a tracker that is not there, waits
    forever for a device, and does not tell which one it got.
    """

    def __init__(self, remote: Remote) -> None:
        self.remote = remote
        self._one_at_a_time = threading.Lock()

    def free(self) -> int:
        """Devices of the key that nobody uses now. Raises WorkerError without a tracker."""
        from tvm.rpc.base import TrackerCode, recvjson, sendjson

        with self._connected(ANSWER_S) as tracker:
            sendjson(tracker, [TrackerCode.SUMMARY])
            _, said = recvjson(tracker)
        return int(said["queue_info"].get(self.remote.key, {}).get("free", 0))

    def take(self, session_s: float, wait_s: float, address: str = "") -> Taken | None:
        """A device for ``session_s``, then its server ends the session; None after ``wait_s``.

        With an ``address``, that very device: others are held until it comes, then handed back.
        """
        others: list[Taken] = []
        with self._one_at_a_time:
            end = time.monotonic() + wait_s
            try:
                while (left := end - time.monotonic()) > 0:
                    taken = self._ask(session_s, min(left, ASK_AGAIN_S))
                    if taken is not None and address in ("", taken.address):
                        return taken
                    if taken is not None:
                        others.append(taken)
                return None
            finally:
                for other in others:
                    other.close()

    def _ask(self, session_s: float, wait_s: float) -> Taken | None:
        from tvm import rpc
        from tvm.rpc.base import TrackerCode, recvjson, sendjson

        priority, user = 1, ""
        with self._connected(wait_s) as tracker:
            sendjson(tracker, [TrackerCode.REQUEST, self.remote.key, user, priority])
            try:
                _, (host, port, match) = recvjson(tracker)
            except TimeoutError:  # no device is free; the tracker forgets those who hang up
                return None
        ends = time.monotonic() + session_s
        try:
            session = rpc.connect(host, port, match, session_timeout=session_s)
        except Exception:  # its server has ended; the tracker has not noticed
            time.sleep(wait_s)
            return None
        return Taken(f"{host}:{port}", session, ends)

    @contextlib.contextmanager
    def _connected(self, timeout_s: float) -> Iterator[socket.socket]:
        import struct

        from tvm.rpc.base import RPC_TRACKER_MAGIC, recvall

        remote = self.remote
        try:
            with socket.create_connection((remote.host, remote.port), ANSWER_S) as tracker:
                tracker.sendall(struct.pack("<i", RPC_TRACKER_MAGIC))
                (magic,) = struct.unpack("<i", recvall(tracker, 4))
                require(magic == RPC_TRACKER_MAGIC, f"{remote}: not TVM's tracker", WorkerError)
                tracker.settimeout(timeout_s)
                yield tracker
        except OSError as error:
            raise WorkerError(
                f"remote = {remote}: no tracker answers ({error.strerror or error}); start one "
                f"there: python -m tvm.exec.rpc_tracker --port={remote.port} "
                f"--port-end={remote.port + 1}"
            ) from None


def answers(address: str) -> bool:
    """Whether something listens at ``address``, "host:port"."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), ANSWER_S).close()
    except OSError:
        return False
    return True
