"""Inside the worker: kernels of several workloads together, checked and timed (rank 6)."""

from __future__ import annotations

import math
import statistics
from typing import Any

import numpy as np
import tvm_ffi

from anatune.codegen.library import load_module, load_runtime
from anatune.codegen.operands import Slot
from anatune.errors import VerificationError
from anatune.measure import verify
from anatune.measure.bench import time_batches
from anatune.measure.calibrate import calls_of_batch
from anatune.measure.inputs import UNTOUCHED, operands, untouched
from anatune.measure.map_check import check_map
from anatune.measure.pinning import pin_threads
from anatune.workload import Matmul
from anatune.workload.dtypes import INTEGER_RANGE, is_float, numpy_dtype
from anatune.workload.fused import Fused, Workload
from anatune.workload.maps import SCAN, Map

SAMPLES = 5
"""Batches of a round; their median is the sample."""

LARGEST_DRAWN = 4.0
"""Floats are drawn between this and its negative: functions such as exp differ there, and their
results are far from overflowing."""

LARGEST_SCANNED = 1.0
"""The same for scans, which may multiply what they carry again and again."""

LARGEST_DRAWN_INTEGER = 100


class GroupBench:
    """Kernels of one `Fused`, with the operands that they share."""

    def __init__(self, workload: Fused) -> None:
        load_runtime()
        self.workload = workload
        self.inputs = [drawn(member, seed) for seed, member in enumerate(workload.members)]
        if workload.same_a:
            for mine in self.inputs[1:]:
                mine["a"] = self.inputs[0]["a"]
        self.outputs = [_room(member) for member in workload.members]
        self._modules: dict[str, Any] = {}

    def check(self, path: str) -> str:
        """Run a kernel once and compare; "" or what is wrong with its result."""
        module, arguments = self._ready(path)
        for array in self.outputs:
            array.base.fill(UNTOUCHED)  # type: ignore[union-attr]
        module["main"](*arguments)
        for number, member in enumerate(self.workload.members):
            try:
                check_member(member, self.inputs[number], self.outputs[number])
            except VerificationError as error:
                return f"workload {number}: {error}"
        return ""

    def calls(self, path: str, batch_s: float) -> int:
        """Calls that make a batch of about ``batch_s``."""
        return calls_of_batch(lambda calls: self.sample(path, calls), batch_s, False)

    def sample(self, path: str, calls: int) -> float:
        """Seconds per call: the median of `SAMPLES` batches of ``calls``."""
        module, arguments = self._ready(path)
        module["main"](*arguments)  # which starts the pool's threads
        pin_threads()
        batches = time_batches(module, arguments, calls=calls, batches=SAMPLES)
        return statistics.median(batches)

    def _ready(self, path: str) -> tuple[Any, list[Any]]:
        if path not in self._modules:
            self._modules[path] = load_module(path)
        w = self.workload
        arrays = [Slot(name, t).take(self.inputs[k][name]) for k, name, t in w.inputs()]
        arrays += [Slot("out", m.output).take(c) for m, c in zip(w.members, self.outputs)]
        return self._modules[path], [tvm_ffi.from_dlpack(array) for array in arrays]


def drawn(workload: Workload, seed: int) -> dict[str, np.ndarray]:
    """Random operands of a workload by name."""
    if isinstance(workload, Matmul):
        return operands(workload, seed)
    generator = np.random.default_rng(seed)
    largest = LARGEST_SCANNED if workload.fold == SCAN else LARGEST_DRAWN
    inputs = {}
    for name, tensor in workload.operands.items():
        array = Slot(name, tensor).new()
        count = math.prod(tensor.shape)
        values: np.ndarray
        if is_float(tensor.dtype):
            values = generator.uniform(-largest, largest, count)
        else:
            low = max(-LARGEST_DRAWN_INTEGER, INTEGER_RANGE[tensor.dtype][0])
            values = generator.integers(low, LARGEST_DRAWN_INTEGER, count)
        array[...] = values.astype(numpy_dtype(tensor.dtype)).reshape(tensor.shape)
        inputs[name] = array
    return inputs


def check_member(workload: Workload, inputs: dict[str, np.ndarray], out: np.ndarray) -> None:
    """Compare with the float64 reference. Raises VerificationError with the worst element."""
    if isinstance(workload, Matmul):
        verify.check(workload, inputs, out)
        return
    check_map(workload, inputs, out)


def _room(workload: Matmul | Map) -> np.ndarray:
    """Memory for the result."""
    if isinstance(workload, Matmul):
        return untouched(workload.output)
    return Slot("out", workload.output).new()
