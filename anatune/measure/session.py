"""One device of a tracker: operands uploaded once, kernels loaded, run and timed there (rank 6)."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from anatune.codegen.call import ENTRY, PACK_ENTRY
from anatune.codegen.operands import Slot, handed_dtype, packed_b
from anatune.errors import BuildError, WorkerError, WorkloadError, last_line, require
from anatune.measure.calibrate import SLICES
from anatune.measure.inputs import operands, untouched
from anatune.measure.tracker import Taken
from anatune.plan import Plan
from anatune.workload import Matmul, Tensor
from anatune.workload.dtypes import numpy_dtype
from anatune.workload.expression import OUT

GRACE_S = 5.0
"""Time in which a server tells that it ended a session; one that is silent for longer is lost."""

PING_S = 2.0
"""Time in which a session that is whole answers, seconds."""

SPREAD = 1
"""Mode of TVM's thread pool: threads on the large cores (``kBig`` in tvm/runtime/threading.h)."""

T = TypeVar("T")


@dataclass(frozen=True)
class Code:
    """Code of a plan in a file: a shared library, or an object that the device's server links."""

    path: Path
    packed: Tensor | None  # B as ``main`` takes it, where it is packed ahead of time
    threads: int

    @classmethod
    def of(cls, plan: Plan, path: str) -> Code:
        return cls(Path(path), packed_b(plan), plan.threads)


class Silent(Exception):
    """No answer in time; not a TimeoutError, as what TVM raises for a session that ended is one."""


class Operands:
    """What all devices compute with: as numpy knows it, and as generated functions take it."""

    def __init__(self, workload: Matmul) -> None:
        for name, tensor in {**workload.operands, OUT: workload.output}.items():
            why = f"{name}: gaps between its rows, which TVM's RPC cannot send; make it compact"
            require(tensor.compact, why, WorkloadError)
        self.workload = workload
        self.inputs = operands(workload)
        tensors = workload.operands
        self.handed = {name: Slot(name, t).take(self.inputs[name]) for name, t in tensors.items()}
        c = self.inputs.get(OUT)
        self.c = Slot(OUT, workload.output).take(untouched(workload.output) if c is None else c)

    def as_result(self, c: np.ndarray) -> np.ndarray:
        """What came back as numpy's type of C."""
        return c.view(numpy_dtype(self.workload.output.dtype))


class Device:
    """A server of the tracker, and what was sent to it; calls need `lock`."""

    def __init__(self, operands: Operands, taken: Taken, threads: int) -> None:
        self.address = taken.address
        self.lock = threading.Lock()
        self.lost = False
        self.verified: set[Plan] = set()
        self._operands = operands
        self._needed_threads = threads
        self.begin(taken)

    def begin(self, taken: Taken) -> None:
        """Go on in a new session.

        Raises:
            WorkerError: the server has fewer threads than are needed.
        """
        self._taken = taken
        self._tensors: dict[str, Any] = {}
        self._ready: dict[Path, tuple[Any, list[Any]]] = {}
        self._threads = int(within(GRACE_S, self._remote("runtime.NumThreads")))
        wanted = self._needed_threads
        why = f"{self.address}: its server runs {self._threads} of {wanted} threads; start it with"
        require(wanted <= self._threads, f"{why} TVM_NUM_THREADS={wanted}", WorkerError)

    def end(self) -> None:
        """Close the session; the server takes the next one."""
        self._tensors, self._ready = {}, {}
        with contextlib.suppress(Silent):  # a busy device's server ends it in time
            within(PING_S, self._taken.close)

    @property
    def left_s(self) -> float:
        """Seconds until the server ends the session."""
        return self._taken.ends - time.monotonic()

    def alive(self) -> bool:
        """Whether the session still answers."""
        try:
            return bool(within(PING_S, self._remote("runtime.NumThreads")))
        except Exception:
            return False

    def run(self, code: Code) -> np.ndarray:
        """C of one call, which began with C as `Operands` has it."""
        module, arguments = self._loaded(code)
        c = arguments[-1]
        c.copyfrom(self._operands.c)
        module[ENTRY](*arguments)
        return self._operands.as_result(c.numpy())

    def time(self, code: Code, calls: int, flush_bytes: int) -> float:
        """Seconds per call, median of the parts of a batch; before each, ``flush_bytes`` of memory
        are written."""
        module, arguments = self._loaded(code)
        repeat = calls if flush_bytes else min(SLICES, calls)  # flushed between the repeats
        timer = module.time_evaluator(
            ENTRY, self._taken.session.cpu(), calls // repeat, repeat, cache_flush_bytes=flush_bytes
        )
        return float(timer(*arguments).median)

    def renew(self, code: Code) -> None:
        """Go on with copies of the operands, which lie elsewhere."""
        module, arguments = self._loaded(code)
        copies = [self._new(tuple(x.shape), x.dtype).copyfrom(x) for x in arguments]
        self._ready[code.path] = module, copies

    def let_go(self, code: Code) -> None:
        """Free what was loaded of ``code``."""

        def forget() -> None:
            self._ready.pop(code.path, None)

        with self.lock, contextlib.suppress(Silent):  # a silent device frees it in time
            within(PING_S, forget)

    def _loaded(self, code: Code) -> tuple[Any, list[Any]]:
        if code.path not in self._ready:
            self._ready[code.path] = self._load(code)
        if code.threads != self._threads:
            self._remote("runtime.config_threadpool")(SPREAD, code.threads)
            self._threads = code.threads
        return self._ready[code.path]

    def _load(self, code: Code) -> tuple[Any, list[Any]]:
        session, name = self._taken.session, code.path.name
        session.upload(str(code.path))
        try:
            module = session.load_module(name)
        except Exception as error:
            if not self.alive():
                raise
            mend = f"; {_WITHOUT_LINKER}" if code.path.suffix == ".o" else ""
            raise BuildError(f"{self.address}: {last_line(error)}{mend}") from None
        if not self._tensors:
            self._tensors = {n: self._sent(x) for n, x in self._operands.handed.items()}
            self._tensors[OUT] = self._sent(self._operands.c)
        given = dict(self._tensors)
        if code.packed is not None:
            given["b"] = self._new(code.packed.shape, handed_dtype(code.packed.dtype))
            module[PACK_ENTRY](self._tensors["b"], given["b"])
        return module, list(given.values())

    def _sent(self, array: np.ndarray) -> Any:
        return self._new(array.shape, array.dtype).copyfrom(array)

    def _new(self, shape: tuple[int, ...], dtype: Any) -> Any:
        import tvm

        return tvm.runtime.empty(shape, str(dtype), self._taken.session.cpu())

    def _remote(self, name: str) -> Any:
        return self._taken.session.get_function(name)


_WITHOUT_LINKER = "install g++ there, or ld.lld here"


def within(seconds: float, work: Callable[[], T]) -> T:
    """What ``work`` returns or raises; it is left to itself where it takes longer.

    TVM's RPC waits without end for a machine that lost its power.

    Raises:
        Silent: no answer within ``seconds``.
    """
    came: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def do() -> None:
        try:
            came.put((work(), None))
        except BaseException as error:
            came.put((None, error))

    threading.Thread(target=do, daemon=True).start()
    try:
        value, error = came.get(timeout=max(0.0, seconds))
    except queue.Empty:
        raise Silent(f"no answer in {seconds:.0f} s") from None
    if error is not None:
        raise error
    return value  # type: ignore[return-value]
