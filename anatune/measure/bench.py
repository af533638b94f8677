"""Inside the worker: load kernels, check them, time batches of calls (rank 6).

Only numpy and TVM's small runtime are imported here, not the compiler: a worker starts in a tenth
of a second, and a kernel that runs in it needs no tuner.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm_ffi

from anatune.codegen.call import ENTRY, PACK_ENTRY
from anatune.codegen.library import load_module, load_runtime
from anatune.codegen.operands import CPU, Slot
from anatune.errors import VerificationError
from anatune.measure import verify
from anatune.measure.inputs import forget, operands, strayed, untouched
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


Loadable = tuple[str, Tensor | None]
"""File of a kernel, and its B packed ahead of time, None where it takes B as it is."""


class Bench:
    """Kernels of one workload, with the operands that they share."""

    def __init__(self, workload: Matmul) -> None:
        load_runtime()
        self.workload = workload
        self.inputs = operands(workload)
        self.c = untouched(workload.output)
        self.ready: dict[Loadable, tuple[Any, list[Any]]] = {}

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

    def calibrate(self, kernel: Loadable, batch_s: float) -> int:
        """Calls that make a batch of about ``batch_s``, found by doubling: what timeit does."""
        calls = 1
        while True:
            seconds = calls * self.sample(kernel, calls)
            if seconds >= batch_s / 2:
                return max(1, round(calls * batch_s / seconds))
            calls *= 2

    def sample(self, kernel: Loadable, calls: int) -> float:
        """Seconds per call over a batch of ``calls``; before several, one is not counted."""
        module, arguments = self._ready(kernel)
        if calls == 1:  # long enough to fill the caches for itself
            main = module[ENTRY]
            start = time.perf_counter()
            main(*arguments)
            return time.perf_counter() - start
        return time_batches(module, arguments, calls=calls, batches=1)[0]

    def _ready(self, kernel: Loadable) -> tuple[Any, list[Any]]:
        """Module and arguments; made again in a worker that replaces one which died."""
        if kernel not in self.ready:
            path, packed = kernel
            module = load_module(path)
            tensors = self.workload.operands
            given = {name: Slot(name, t).take(self.inputs[name]) for name, t in tensors.items()}
            if packed is not None:
                given["b"] = _packed(module, given["b"], packed)
            c = Slot(OUT, self.workload.output).take(self.c)
            arguments = [tvm_ffi.from_dlpack(x) for x in (*given.values(), c)]
            self.ready[kernel] = module, arguments
        return self.ready[kernel]


def _packed(module: Any, b: np.ndarray, packed: Tensor) -> np.ndarray:
    slot = Slot("packed_b", packed)
    array = slot.take(slot.new())
    module[PACK_ENTRY](b, array)
    return array
