"""A process that may die: runs what it is told over a pipe, one answer per request (rank 6).

Requests and answers are pickles on standard input and output: ``(method, arguments)`` in,
``("ok", value)`` or ``("error", text)`` out. The worker ends when its input ends.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from anatune.errors import WorkerError, last_line

DIED, HUNG, GREEDY = "died", "hung", "killed"

BLAS_THREADS = (
    "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
    "OMP_NUM_THREADS",
)  # fmt: skip
"""Variables that size the pools of the libraries that numpy is built with, by their manuals. One
thread unless more are asked for: theirs spin for tens of milliseconds after the float64 reference,
on the cores that the next kernel is timed on."""


WITHOUT_TORCH = "TVM_FFI_DISABLE_TORCH_C_DLPACK"
"""Keeps tvm_ffi from looking for its extension to PyTorch, or building it. That it imports PyTorch
cannot be helped here: a worker may serve PyTorch."""


class WorkerFailure(WorkerError):
    """The worker ended, or was ended, while it served a request.

    Attributes:
        how: `DIED`, `HUNG` or `GREEDY`.
        code: its exit status, or minus the signal that it died of, where it died.
    """

    def __init__(self, how: str, why: str, code: int = 0) -> None:
        super().__init__(f"worker {how}: {why}")
        self.how, self.code = how, code

    @property
    def signal(self) -> str:
        """Name of the signal that it died of; "" where it was none."""
        return signal_name(self.code)

    @property
    def killed(self) -> bool:
        """Whether it was ended for the memory it took, or from outside."""
        return self.how == GREEDY or self.signal == "SIGKILL"


class Worker:
    """Handle of one worker process; a context manager that leaves no process behind.

    Args:
        factory: "module:callable" that the worker calls to make the object it serves.
        arguments: what it is called with; pickled.
        threads: size of TVM's thread pool in the worker.
    """

    def __init__(self, factory: str, arguments: tuple[Any, ...], threads: int) -> None:
        self._start = (factory, arguments)
        self._threads = threads
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Worker:
        self._spawn()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def call(self, method: str, *arguments: Any, timeout_s: float) -> Any:
        """Have the worker run ``method`` of its object and return the answer.

        Raises:
            WorkerFailure: it died or was silent for ``timeout_s``; the next call starts anew.
            WorkerError: the method raised; the worker lives on.
        """
        if self._process is None:
            self._spawn()
        self._send((method, arguments))
        return self._receive(timeout_s)

    def stop(self) -> None:
        """For other threads: end the process; whoever waits for its answer is told."""
        process = self._process
        if process is not None:
            process.kill()

    def kill(self) -> None:
        """End the process, whatever it is doing."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            with contextlib.suppress(OSError):  # a half-written request is of no use to anybody
                stream.close()
        self._complaints.close()

    def _spawn(self) -> None:
        self._complaints = tempfile.TemporaryFile()
        try:
            self._process = subprocess.Popen(
                python("from anatune.measure.worker import serve; serve()"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
                env=environment(self._threads),
            )
        except OSError as error:
            self._complaints.close()
            raise WorkerError(f"worker: cannot be started: {error}") from None
        self._answers: queue.Queue[Any] = queue.Queue()
        ends = (self._process.stdout, self._answers)
        threading.Thread(target=_read_all, args=ends, daemon=True).start()
        self._send(self._start)

    def _send(self, message: Any) -> None:
        assert self._process is not None and self._process.stdin is not None
        try:
            pickle.dump(message, self._process.stdin)
            self._process.stdin.flush()
        except OSError:
            raise self._death() from None

    def _receive(self, timeout_s: float) -> Any:
        try:
            answer = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            raise self._failure(HUNG, f"no answer in {timeout_s:.0f} s") from None
        if answer is None:
            raise self._death()
        status, value = answer
        if status == "error":
            raise WorkerError(value)
        return value

    def _failure(self, how: str, why: str, code: int = 0) -> WorkerFailure:
        self.kill()
        return WorkerFailure(how, why, code)

    def _death(self) -> WorkerFailure:
        if self._process is None:  # another thread has ended it
            return WorkerFailure(DIED, "killed while it served")
        code = self._process.wait()
        self._complaints.seek(0)
        said = last_line(self._complaints.read().decode(errors="replace"))
        return self._failure(DIED, exit_text(code, said), code)


def _read_all(stream: Any, answers: queue.Queue[Any]) -> None:
    try:
        while True:
            answers.put(pickle.load(stream))
    except Exception:  # the end of the stream, however it came: the process is gone
        answers.put(None)


def serve() -> None:
    """Main loop of the worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a kernel prints must not mix with the answers
    die_with_parent()
    served, error = make(*pickle.load(sys.stdin.buffer))
    while True:
        try:
            method, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        answers.write(answer(served, error, method, arguments))
        answers.flush()


def python(command: str) -> list[str]:
    """The command line of a Python process that runs ``command`` and finds this anatune.

    Without the entry '' in its path: modules in the current folder are not the worker's.
    """
    root = str(Path(__file__).resolve().parents[2])
    start = f"import sys; sys.path[:] = [{root!r}] + [p for p in sys.path if p]; "
    return [sys.executable, "-c", start + command]


def environment(threads: int) -> dict[str, str]:
    """The environment of a worker with ``threads`` in TVM's pool and one in each library's."""
    pools = {"TVM_NUM_THREADS": str(threads), "TVM_BIND_THREADS": "1", WITHOUT_TORCH: "1"}
    return {**os.environ, **pools, **dict.fromkeys(BLAS_THREADS, "1")}


def make(factory: str, arguments: tuple[Any, ...]) -> tuple[Any, str | None]:
    """The object that ``factory`` makes, or None and why there is none."""
    try:
        module, name = factory.split(":")
        return getattr(__import__(module, fromlist=[name]), name)(*arguments), None
    except Exception as problem:  # told with the first answer
        return None, _one_line(problem)


def answer(
    served: Any, error: str | None, method: str, arguments: tuple[Any, ...]
) -> bytes:
    """The pickle that a request is answered with; whatever goes wrong on the way is the answer."""
    try:
        if error is None:
            return pickle.dumps(("ok", getattr(served, method)(*arguments)))
    except Exception as problem:
        error = _one_line(problem)
    return pickle.dumps(("error", error))


def exit_text(code: int, said: str) -> str:
    """How a process ended, in words: the signal by name, and the last thing that it said."""
    how = signal_name(code) or f"exit status {code}"
    return how + (f", {said}" if said else "")


def signal_name(code: int) -> str:
    """The signal in an exit status as `subprocess` has it; "" where there is none."""
    if code >= 0:
        return ""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {last_line(error) or 'no message'}"


def die_with_parent() -> None:
    """On Linux, be killed when the parent ends, also in the middle of a hanging kernel."""
    if sys.platform == "linux":
        import ctypes

        set_parent_death_signal = 1  # PR_SET_PDEATHSIG, prctl(2)
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
