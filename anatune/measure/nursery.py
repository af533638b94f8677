"""A process of its own for each candidate, at the price of a fork (rank 6).

A nursery is a process that has made what all candidates need (operands, a loaded runtime, the
compiler) and runs nothing itself. Each candidate gets a cell: a fork of it, which sees all of that
without a copy, and takes nobody with it when it crashes, hangs, grows or scribbles over its heap.
Where the system cannot fork, a cell is a new process that makes everything for itself.

The parent and the nursery speak over a socket: a verb and a number, 5 bytes, each answered by such
a message. A cell speaks pickles with the parent directly, as a `Worker` does.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

from anatune.errors import WorkerError, last_line
from anatune.measure.memory import resident_bytes
from anatune.measure.worker import (
    DIED,
    GREEDY,
    HUNG,
    Worker,
    WorkerFailure,
    answer,
    die_with_parent,
    environment,
    exit_text,
    make,
    python,
)

FORKS = hasattr(os, "fork") and hasattr(socket, "send_fds")

FORK, REAP = b"F", b"R"

MESSAGE = struct.Struct("!ci")

WATCH_S = 0.1
"""Time between looks at a cell's memory, seconds: 0.3 GB at the rate at which pages are handed out,
and nothing beside what is timed."""

REAP_S = 1.0
"""Time in which a process whose connection has ended must be dead, seconds; then it is killed. It
closes its descriptors last."""

READY_S = 60.0
"""Time in which a nursery must be ready, seconds: large operands take some to draw."""


class Nursery:
    """Handle of the process; a context manager that leaves no process behind.

    Args:
        factory: "module:callable" that makes the object which every cell serves.
        arguments: what it is called with; pickled.
        threads: size of TVM's thread pool in a cell.
        memory_bytes: memory that a cell may take beside what the nursery has; None: all.
    """

    def __init__(
        self,
        factory: str,
        arguments: tuple[Any, ...],
        threads: int = 1,
        memory_bytes: float | None = None,
    ) -> None:
        self._factory, self._arguments, self._threads = factory, arguments, threads
        self._memory_bytes = memory_bytes
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Nursery:
        if FORKS:
            self._spawn()
        return self

    def __exit__(self, *_: object) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        self._control.close()

    def cell(self) -> Cell | Worker:
        """A new process that serves the object.

        Raises:
            WorkerError: the nursery is dead, or could not make the object.
        """
        if not FORKS:
            return Worker(self._factory, self._arguments, self._threads)
        with self._lock:
            return self._fork()

    def reap(self, pid: int) -> int:
        """How a cell ended, as `subprocess` says it: its exit status, or minus the signal."""
        with self._lock:
            return self._ask(REAP, pid)

    def _spawn(self) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            arguments = (self._factory, self._arguments)
            command = f"from anatune.measure.nursery import keep; keep({theirs.fileno()})"
            try:
                self._process = subprocess.Popen(
                    python(command),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=environment(self._threads),
                    pass_fds=(theirs.fileno(),),
                )
            except OSError as error:
                self._control.close()
                raise WorkerError(f"worker: cannot be started: {error}") from None
        assert self._process.stdin is not None
        try:
            with contextlib.suppress(OSError), self._process.stdin as stream:
                pickle.dump(arguments, stream)
        except BaseException:
            self.__exit__()
            raise

    def _fork(self) -> Cell:
        ours, theirs = socket.socketpair()
        complaints = tempfile.TemporaryFile()
        try:
            with theirs:
                pid = self._ask(FORK, 0, theirs.fileno(), complaints.fileno())
            if pid < 0:
                raise WorkerError(f"worker: cannot be forked: {os.strerror(-pid)}")
        except WorkerError:
            ours.close()
            complaints.close()
            raise
        limit = None
        if self._memory_bytes is not None:
            limit = self._memory_bytes + (resident_bytes(pid) or 0)
        return Cell(self, pid, Connection(ours.detach()), complaints, limit)

    def _ask(self, verb: bytes, number: int, *descriptors: int) -> int:
        try:
            self._control.settimeout(READY_S)
            socket.send_fds(self._control, [MESSAGE.pack(verb, number)], descriptors)
            answer = self._control.recv(MESSAGE.size, socket.MSG_WAITALL)
        except TimeoutError:
            raise self._end(f"worker {HUNG}: not ready in {READY_S:.0f} s") from None
        except OSError:
            answer = b""
        if len(answer) < MESSAGE.size:
            raise self._end()
        return int(MESSAGE.unpack(answer)[1])

    def _end(self, why: str = "") -> WorkerError:
        """The error for a process that does not answer; without ``why`` it has ended by itself."""
        process = self._process
        if process is None:
            return WorkerError(f"worker {DIED}: it was ended before")
        if not why:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(REAP_S)
        process.kill()  # what it still answers would be taken for the answer to the next request
        return WorkerError(why or f"worker {DIED}: {exit_text(process.wait(), '')}")


class Cell:
    """Handle of one forked process; `call` is that of a `Worker`, but a death is final."""

    def __init__(
        self,
        nursery: Nursery,
        pid: int,
        connection: Connection,
        complaints: Any,
        limit_bytes: float | None,
    ) -> None:
        self._nursery, self._pid, self._connection = nursery, pid, connection
        self._complaints, self._limit_bytes = complaints, limit_bytes
        self._alive = True

    def __enter__(self) -> Cell:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def call(self, method: str, *arguments: Any, timeout_s: float) -> Any:
        """Have the process run ``method`` of its object and return the answer.

        Raises:
            WorkerFailure: it died, was silent for ``timeout_s``, or took more memory than it may.
            WorkerError: the method raised; the process lives on.
        """
        if not self._alive:
            raise WorkerFailure(DIED, "it had ended before")
        try:
            self._connection.send((method, arguments))
            self._wait(timeout_s)
            status, value = self._connection.recv()
        except (EOFError, OSError):
            raise self._death() from None
        if status == "error":
            raise WorkerError(value)
        return value

    def stop(self) -> None:
        """For other threads: end the process; whoever waits for its answer is told."""
        if self._alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    def kill(self) -> int:
        """End the process, whatever it is doing; how it ended."""
        if not self._alive:
            return 0
        self._alive = False
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        self._connection.close()
        code = 0
        with contextlib.suppress(WorkerError):  # a dead nursery took its cells with it
            code = self._nursery.reap(self._pid)
        self._complaints.close()
        return code

    def _wait(self, timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        while not self._connection.poll(min(WATCH_S, max(0.0, end - time.monotonic()))):
            taken = resident_bytes(self._pid) if self._limit_bytes is not None else None
            if taken is not None and self._limit_bytes is not None and taken > self._limit_bytes:
                self.kill()
                raise WorkerFailure(GREEDY, f"it took {taken / 2**20:.0f} MiB of memory")
            if time.monotonic() >= end:
                self.kill()
                raise WorkerFailure(HUNG, f"no answer in {timeout_s:.0f} s")

    def _death(self) -> WorkerFailure:
        """What is known of a process that ended by itself."""
        self._alive = False
        self._connection.close()
        try:
            code = self._nursery.reap(self._pid)
        except WorkerError:
            code = -signal.SIGKILL
        self._complaints.seek(0)
        said = last_line(self._complaints.read().decode(errors="replace"))
        self._complaints.close()
        return WorkerFailure(DIED, exit_text(code, said), code)


def keep(descriptor: int) -> None:
    """Main loop of the nursery's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    die_with_parent()
    sys.modules["torch"] = None  # type: ignore[assignment]  # tvm_ffi would import it for a second
    control = socket.socket(fileno=descriptor)
    factory, arguments = pickle.load(sys.stdin.buffer)
    held, error = make(factory, arguments)
    while True:
        message, received, _, _ = socket.recv_fds(control, MESSAGE.size, 2)
        if len(message) < MESSAGE.size:
            return
        verb, number = MESSAGE.unpack(message)
        if verb == REAP:
            control.sendall(MESSAGE.pack(REAP, _reap(number)))
            continue
        try:
            pid = os.fork()
        except OSError as refused:  # too many processes
            pid = -(refused.errno or errno.EAGAIN)
        if not pid:
            control.close()
            _live(received[0], received[1], held, error)
        for given in received:
            os.close(given)
        control.sendall(MESSAGE.pack(FORK, pid))


def _reap(pid: int) -> int:
    end = time.monotonic() + REAP_S
    while time.monotonic() < end:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _live(connection: int, complaints: int, held: Any, error: str | None) -> None:
    """Main loop of a cell; it never returns."""
    die_with_parent()
    offer_to_the_oom_killer()
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)  # TVM's handler ends what is said with addresses
    os.dup2(complaints, 2)
    os.dup2(2, 1)  # whatever a kernel prints
    channel = Connection(connection)
    try:
        while True:
            channel.send_bytes(answer(held, error, *channel.recv()))
    except (EOFError, OSError):
        os._exit(0)
    finally:
        os._exit(1)


def offer_to_the_oom_killer() -> None:
    """Where memory runs out after all, Linux ends this process and not the user's."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
