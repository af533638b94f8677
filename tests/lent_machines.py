"""A tracker and servers of TVM's RPC on the loopback address, in process groups of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from anatune.errors import WorkerError
from anatune.measure.tracker import Remote, Tracker

HERE = "127.0.0.1"
ROOT = Path(__file__).resolve().parents[1]
START_S = 60.0
"""Far longer than any of them takes to start."""

THREADS = 2


class Group:
    """One program with all processes that it starts; a context manager that leaves none behind."""

    def __init__(self, log: Path, *command: str) -> None:
        # Ahead of PyTorch, which TVM would import for two seconds where it is installed.
        instead = log.with_name("torch.py")
        instead.write_text("raise ImportError")
        folders = [str(log.parent), str(ROOT), os.environ.get("PYTHONPATH")]
        path = {"PYTHONPATH": os.pathsep.join(filter(None, folders))}
        pool = {"TVM_NUM_THREADS": str(THREADS), "TVM_BIND_THREADS": "0"}
        with open(log, "ab") as told:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command], start_new_session=True, stdin=subprocess.DEVNULL,
                stdout=told, stderr=told, env={**os.environ, **path, **pool},
            )  # fmt: skip

    @property
    def members(self) -> list[int]:
        """Processes of the group that still run."""
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if self._has(pid)]

    def kill(self) -> None:
        """As a machine that goes down: all at once, without a word."""
        if self.members:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        wait_until(lambda: not self.members)

    def _has(self, pid: int) -> bool:
        try:
            state, _, group = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:3]
        except OSError:
            return False
        return int(group) == self._process.pid and state != "Z"


class Network:
    """A tracker, and servers by address."""

    def __init__(self, log: Path) -> None:
        self.port, self.log = free_port(), log
        self.servers: dict[str, tuple[str, Group]] = {}
        tracker = ("tvm.exec.rpc_tracker", f"--host={HERE}", f"--port={self.port}")
        self._tracker = Group(log, *tracker, f"--port-end={self.port + 1}")

    def lend(self, key: str, *, plain: bool = False) -> None:
        """Start a server: ours, or TVM's own."""
        port, to = free_port(), f"{HERE}:{self.port}"
        command = ("anatune.measure.serve", f"{to}/{key}", f"--host={HERE}", f"--port={port}")
        if plain:
            ends = (f"--port={port}", f"--port-end={port + 1}")
            tracker = (f"--tracker={to}", f"--key={key}")
            command = ("tvm.exec.rpc_server", f"--host={HERE}", *ends, *tracker)
        self.servers[f"{HERE}:{port}"] = key, Group(self.log, *command)

    def remote(self, key: str) -> Remote:
        return Remote.parse(f"{HERE}:{self.port}/{key}")

    def has(self, key: str, count: int, *, plain: bool = False) -> Remote:
        """Have as many devices of a key free: those that were killed are replaced."""
        while len(self._alive(key)) < count:
            self.lend(key, plain=plain)
        wait_until(lambda: self._free(key) == count)
        return self.remote(key)

    def _alive(self, key: str) -> list[Group]:
        return [group for name, group in self.servers.values() if name == key and group.members]

    def _free(self, key: str) -> int:
        try:
            return Tracker(self.remote(key)).free()
        except WorkerError:  # the tracker is about to start
            return 0

    def end(self) -> None:
        for group in self._groups:
            group.kill()

    def kill(self, address: str) -> None:
        self.servers[address][1].kill()

    @property
    def members(self) -> list[int]:
        """All processes that run."""
        return [pid for group in self._groups for pid in group.members]

    @property
    def _groups(self) -> list[Group]:
        return [*(group for _, group in self.servers.values()), self._tracker]


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + START_S
    while not condition():
        assert time.monotonic() < end, "it never came to pass"
        time.sleep(0.05)


def free_port() -> int:
    """A port that nobody listens at, and that is not handed to clients soon after."""
    with socket.socket() as found:
        found.bind((HERE, 0))
        return int(found.getsockname()[1])
