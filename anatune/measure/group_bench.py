"""Inside the worker: kernels of several workloads together, checked and timed (rank 6)."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterator
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
from anatune.measure.pinning import pin_threads
from anatune.workload import Matmul
from anatune.workload.dtypes import INTEGER_RANGE, is_float, numpy_dtype
from anatune.workload.fused import Fused, Workload
from anatune.workload.maps import FOLDS, Map
from anatune.workload.maps_reference import map_range

SAMPLES = 5
"""Batches of a round; their median is the sample."""

LARGEST_DRAWN = 4.0
"""Floats are drawn between this and its negative: functions such as exp differ there, and their
results are far from overflowing."""

CHECKED_ELEMENTS = 1 << 19
"""Elements of a result that are compared: more take the reference longer than a second."""

WINDOWS = 3
"""Lots of rows that lie side by side which are compared where rows need their neighbours."""

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
    inputs = {}
    for name, tensor in workload.operands.items():
        array = Slot(name, tensor).new()
        count = math.prod(tensor.shape)
        values: np.ndarray
        if is_float(tensor.dtype):
            values = generator.uniform(-LARGEST_DRAWN, LARGEST_DRAWN, count)
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
    if out.dtype.kind == "f" and np.isnan(out).any():
        place = tuple(int(i) for i in np.argwhere(np.isnan(out))[0])
        raise VerificationError(f"out{list(place)} = nan: not written, or not a number")
    whole = workload.elements <= CHECKED_ELEMENTS
    for part in ((workload, inputs, out),) if whole else _sampled(workload, inputs, out):
        _check_map(*part)


def _check_map(workload: Map, inputs: dict[str, np.ndarray], out: np.ndarray) -> None:
    low, high = map_range(workload, inputs)
    with np.errstate(all="ignore"):
        right = (low <= out) & (out <= high) | np.not_equal(low, low)
    if not right.all():
        place = tuple(int(i) for i in np.argwhere(~right)[0])
        raise VerificationError(
            f"out{list(place)} = {out[place]}: the reference has {low[place]} to {high[place]}"
        )


def _sampled(
    workload: Map, inputs: dict[str, np.ndarray], out: np.ndarray
) -> Iterator[tuple[Map, dict[str, np.ndarray], np.ndarray]]:
    """Some rows, the first and the last among them; columns where a result needs all rows.

    Where rows need their neighbours, those at both ends and some between, which lie side by side.
    """
    along = "m" if workload.over == "n" and workload.m > 1 else "n"
    extent = workload.m if along == "m" else workload.n
    if workload.fold and workload.over == along:  # one row that is folded: there is no part of it
        yield workload, inputs, out
        return
    count = max(2, CHECKED_ELEMENTS * extent // workload.elements)
    generator = np.random.default_rng(0)
    beyond = {name: hi - lo for name in inputs
              for lo, hi in [workload.halo(name)["mn".index(along)]]}
    lots = [np.unique([0, *generator.integers(0, extent, count - 2), extent - 1])]
    if any(beyond.values()):
        each = -(-count // WINDOWS)
        lots = [np.arange(first, first + each)
                for first in (0, *generator.integers(0, extent - each + 1, WINDOWS - 2),
                              extent - each)]
    axes = tuple(d for d in "mn" if workload.fold not in FOLDS or d != workload.over)
    operands = (*workload.element.operands, *workload.finished.operands)
    for chosen in lots:
        parts = {op.name: _part(inputs[op.name], op.axes, along, _reached(chosen, beyond[op.name]))
                 for op in operands}
        smaller = dataclasses.replace(workload, **{along: len(chosen)})  # type: ignore[arg-type]
        yield smaller, parts, _part(out, axes, along, chosen)


def _reached(chosen: np.ndarray, beyond: int) -> np.ndarray:
    """The chosen places, and so many behind them, which are needed where they lie side by side."""
    return np.arange(chosen[0], chosen[-1] + 1 + beyond) if beyond else chosen


def _part(array: np.ndarray, axes: tuple[str, ...], along: str, chosen: np.ndarray) -> np.ndarray:
    """The chosen places of an array that lies along ``axes``, of which it may lack the first."""
    if along not in axes or not array.shape:
        return array
    return np.take(array, chosen, axis=axes.index(along) - len(axes))


def _room(workload: Matmul | Map) -> np.ndarray:
    """Memory for the result."""
    if isinstance(workload, Matmul):
        return untouched(workload.output)
    return Slot("out", workload.output).new()
