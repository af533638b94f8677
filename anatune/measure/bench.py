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

from anatune.codegen.call import CPU
from anatune.codegen.library import ENTRY, load_module, load_runtime
from anatune.errors import VerificationError
from anatune.measure import verify
from anatune.workload import Matmul


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


class Bench:
    """Kernels of one workload, with the operands that they share."""

    def __init__(self, workload: Matmul) -> None:
        load_runtime()
        self.workload = workload
        self.inputs = verify.operands(workload)
        self.c = np.empty(workload.output, workload.dtype)
        self.arguments = [tvm_ffi.from_dlpack(x) for x in (*self.inputs.values(), self.c)]
        self.modules: dict[str, Any] = {}

    def check(self, path: str) -> str:
        """Run a kernel once and compare; "" or what is wrong with its result."""
        self.c.fill(np.nan)
        self._module(path)[ENTRY](*self.arguments)
        try:
            verify.check(self.workload, self.inputs, self.c)
        except VerificationError as error:
            return str(error)
        return ""

    def calibrate(self, path: str, batch_s: float) -> int:
        """Calls that make a batch of about ``batch_s``, found by doubling: what timeit does."""
        calls = 1
        while True:
            seconds = calls * self.sample(path, calls)
            if seconds >= batch_s / 2:
                return max(1, round(calls * batch_s / seconds))
            calls *= 2

    def sample(self, path: str, calls: int) -> float:
        """Seconds per call over a batch of ``calls``; before several, one is not counted."""
        module = self._module(path)
        if calls == 1:  # long enough to fill the caches for itself
            main = module[ENTRY]
            start = time.perf_counter()
            main(*self.arguments)
            return time.perf_counter() - start
        return time_batches(module, self.arguments, calls=calls, batches=1)[0]

    def _module(self, path: str) -> Any:
        """A kernel's module; loaded again in a worker that replaces one which died."""
        if path not in self.modules:
            self.modules[path] = load_module(path)
        return self.modules[path]
