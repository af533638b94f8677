"""Inside the worker: load kernels, check them, time batches of calls (rank 6).

Only numpy and TVM's small runtime are imported here, not the compiler: a worker starts in a tenth
of a second, and a kernel that runs in it needs no tuner.

Times are of one of two kinds. Warm: calls one after another, whose operands lie wherever the call
before left them. Cold: before each call every thread reads more than the caches hold, outside of
what is timed.
"""

from __future__ import annotations

import statistics
import struct
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import tvm_ffi

from anatune.codegen.call import ENTRY, PACK_ENTRY
from anatune.codegen.library import load_module, load_runtime
from anatune.codegen.operands import CPU, Slot
from anatune.errors import VerificationError
from anatune.measure import verify
from anatune.measure.calibrate import SLICES, calls_of_batch
from anatune.measure.flush import Flush
from anatune.measure.inputs import forget, operands, strayed, untouched
from anatune.measure.pinning import pin_threads
from anatune.measure.runner import Loadable
from anatune.workload import Matmul, Tensor
from anatune.workload.expression import OUT


def time_batches(
    module: Any, arguments: Sequence[Any], *, calls: int, batches: int
) -> tuple[float, ...]:
    """Seconds per call of each batch, by TVM's timer; one call before them is not counted.

    The timer loops outside Python, whose own call would take as long as a small kernel.
    """
    evaluator = tvm_ffi.get_global_func("runtime.RPCTimeEvaluator")
    device_number, least_ms, cooling_ms, flush_bytes, prepare = 0, 0, 0, 0, ""
    zero_batches, batches_to_cooling = 0, 1
    timed = evaluator(
        module, ENTRY, CPU, device_number, calls, batches, least_ms, zero_batches, cooling_ms,
        batches_to_cooling, flush_bytes, prepare,
    )  # fmt: skip
    return struct.unpack(f"{batches}d", bytes(timed(*arguments)))


MOVED_BYTES = 16 << 20
"""Operands that are moved at most: larger ones fill all sets of the caches anyway."""


class Timer:
    """Times kernels whose arguments a subclass has at hand.

    Args:
        flush: given where times are to be cold.
    """

    def __init__(self, flush: Flush | None = None) -> None:
        load_runtime()
        self.ready: dict[Loadable, tuple[Any, list[Any]]] = {}
        self.parted = False  # whether each thread has a processor of its own
        self.flush = flush
        self.flush_arrays = () if flush is None else flush.arrays()
        self.empty_caches: Callable[[], Any] | None = None

    def calibrate(self, kernel: Loadable, batch_s: float) -> int:
        """Calls that make a batch of about ``batch_s``."""
        cold = self.flush is not None
        return calls_of_batch(lambda calls: self.sample(kernel, calls), batch_s, cold)

    def sample(self, kernel: Loadable, calls: int) -> float:
        """Seconds per call: the median of up to `SLICES` parts of a batch of ``calls``."""
        module, arguments = self._ready(kernel)
        if self.flush is not None:
            return self._cold(module[ENTRY], arguments, calls)
        return statistics.median(self._parts(kernel, calls, min(SLICES, calls)))

    def mean(self, kernel: Loadable, calls: int) -> float:
        """Seconds per call, on average over a batch of ``calls``."""
        return self._parts(kernel, calls, 1)[0]

    def _parts(self, kernel: Loadable, calls: int, slices: int) -> tuple[float, ...]:
        """Seconds per call of each part of a batch; before several calls, one is not counted."""
        module, arguments = self._ready(kernel)
        main = module[ENTRY]
        if calls == 1:  # long enough to fill the caches, and for its threads to part, by itself
            seconds = _timed(main, arguments)
            pin_threads()
            return (seconds,)
        if not self.parted:
            main(*arguments)  # which starts the pool's threads
            pin_threads()
            self.parted = True
        return time_batches(module, arguments, calls=calls // slices, batches=slices)

    def _cold(self, main: Any, arguments: Sequence[Any], calls: int) -> float:
        assert self.flush is not None
        if self.empty_caches is None:
            read = load_module(self.flush.path)[ENTRY]
            arrays = [tvm_ffi.from_dlpack(array) for array in self.flush_arrays]
            self.empty_caches = partial(read, *arrays)
            self.empty_caches()  # which starts the pool's threads
            pin_threads()
        times = []
        for _ in range(calls):
            self.empty_caches()
            times.append(_timed(main, arguments))
        return statistics.median(times)

    def _ready(self, kernel: Loadable) -> tuple[Any, list[Any]]:
        """Module and arguments; made again in a worker that replaces one which died."""
        if kernel not in self.ready:
            path, packed = kernel
            module = load_module(path)
            arguments = [tvm_ffi.from_dlpack(x) for x in self._arguments(module, packed)]
            self.ready[kernel] = module, arguments
        return self.ready[kernel]

    def _arguments(self, module: Any, packed: Tensor | None) -> Sequence[np.ndarray]:
        """What the module's kernel is called with."""
        raise NotImplementedError


class Bench(Timer):
    """Kernels of one product, with the operands that they share."""

    def __init__(self, workload: Matmul, flush: Flush | None = None) -> None:
        super().__init__(flush)
        self.workload = workload
        self.inputs = operands(workload)
        self.c = untouched(workload.output)

    def check(self, kernel: Loadable) -> str:
        """Run a kernel once and compare; "" or what is wrong with its result."""
        module, arguments = self._ready(kernel)
        forget(self.c)
        if OUT in self.inputs:
            self.c[...] = self.inputs[OUT]
        module[ENTRY](*arguments)
        if strayed(self.c):
            return "c: written outside of its elements"
        try:
            verify.check(self.workload, self.inputs, self.c)
        except VerificationError as error:
            return str(error)
        return ""

    def _arguments(self, module: Any, packed: Tensor | None) -> Sequence[np.ndarray]:
        self._move()
        tensors = self.workload.operands
        given = {name: Slot(name, t).take(self.inputs[name]) for name, t in tensors.items()}
        if packed is not None:
            given["b"] = _packed(module, given["b"], packed)
        return [*given.values(), Slot(OUT, self.workload.output).take(self.c)]

    def _move(self) -> None:
        """Have operands in memory of this process's own, whose pages lie elsewhere.

        A kernel takes a few percent more or less from one process to the next, as pages fall into
        other sets of the caches; shared pages would favour the same plan in all of them.
        """
        if sum(array.nbytes for array in self.inputs.values()) <= MOVED_BYTES:
            tensors = {**self.workload.operands, OUT: self.workload.output}
            self.inputs = {name: copied(tensors[name], x) for name, x in self.inputs.items()}


def copied(tensor: Tensor, array: np.ndarray) -> np.ndarray:
    """``array`` in memory of its own."""
    copy = untouched(tensor)
    copy[...] = array
    return copy


def _timed(main: Any, arguments: Sequence[Any]) -> float:
    start = time.perf_counter()
    main(*arguments)
    return time.perf_counter() - start


def _packed(module: Any, b: np.ndarray, packed: Tensor) -> np.ndarray:
    slot = Slot("packed_b", packed)
    array = slot.take(slot.new())
    module[PACK_ENTRY](b, array)
    return array
