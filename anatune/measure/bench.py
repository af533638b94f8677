"""Inside the worker: load kernels, check them, time batches of calls (rank 6).

Only numpy and TVM's small runtime are imported here, not the compiler: a worker starts in a tenth of
a second, and a kernel that runs in it needs no tuner.
"""

from __future__ import annotations

import struct
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
        """Load a kernel, run it once, compare; "" or what is wrong with its result."""
        module = load_module(path)
        self.c.fill(np.nan)
        module[ENTRY](*self.arguments)
        try:
            verify.check(self.workload, self.inputs, self.c)
        except VerificationError as error:
            return str(error)
        self.modules[path] = module
        return ""

    def sample(self, path: str, calls: int) -> float:
        """Seconds per call over a batch of ``calls``; the batch's first call is not counted."""
        evaluate = tvm_ffi.get_global_func("runtime.RPCTimeEvaluator")
        timed = evaluate(self.modules[path], ENTRY, CPU, 0, calls, 1, 0, 0, 0, 1, 0, "")
        return struct.unpack("d", bytes(timed(*self.arguments)))[0]
