"""Inside the worker: load kernels, check them, time batches of calls (rank 6).

Only numpy and TVM's small runtime are imported here, not the compiler: a worker starts in a tenth of
a second, and a kernel that runs in it needs no tuner.
"""

from __future__ import annotations

import struct
import time
from typing import Any

import numpy as np
import tvm_ffi

from anatune.codegen.library import ENTRY, load_module, load_runtime
from anatune.errors import VerificationError
from anatune.measure import verify
from anatune.workload import Matmul

CPU = 1
"""Device type of the processor in DLPack."""


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
        """Seconds per call over a batch of ``calls``; before a batch of several, one is not counted."""
        module = self._module(path)
        if calls == 1:  # long enough to fill the caches for itself
            main = module[ENTRY]
            start = time.perf_counter()
            main(*self.arguments)
            return time.perf_counter() - start
        evaluate = tvm_ffi.get_global_func("runtime.RPCTimeEvaluator")
        timed = evaluate(module, ENTRY, CPU, 0, calls, 1, 0, 0, 0, 1, 0, "")
        return struct.unpack("d", bytes(timed(*self.arguments)))[0]

    def _module(self, path: str) -> Any:
        """A kernel's module; loaded again in a worker that replaces one which died."""
        if path not in self.modules:
            self.modules[path] = load_module(path)
        return self.modules[path]
