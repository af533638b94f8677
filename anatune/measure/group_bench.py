"""Inside the worker: kernels of several workloads together, checked and timed (rank 6)."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm_ffi

from anatune.codegen.library import load_module, load_runtime
from anatune.codegen.operands import Slot
from anatune.errors import VerificationError
from anatune.measure import verify
from anatune.measure.bench import time_batches
from anatune.measure.calibrate import calls_of_batch
from anatune.measure.group_reference import check_group
from anatune.measure.inputs import UNTOUCHED, operands, untouched
from anatune.measure.pinning import pin_threads
from anatune.workload import Matmul
from anatune.workload.dtypes import INTEGER_RANGE, is_float, numpy_dtype
from anatune.workload.fused import Fused, Workload
from anatune.workload.group import Group
from anatune.workload.maps import FOLDS, Map
from anatune.workload.maps_reference import map_range

SAMPLES = 5
"""Batches of a round; their median is the sample."""

LARGEST_DRAWN = 4.0
"""Floats are drawn between this and its negative: functions such as exp differ there, and their
results are far from overflowing."""

CHECKED_ELEMENTS = 1 << 19
"""Elements of a result that are compared: more take the reference longer than a second."""

LARGEST_DRAWN_INTEGER = 100


class _Bench:
    """Compiled kernels by their paths, run on one set of arrays."""

    def __init__(self, slots: Sequence[Slot], arrays: Sequence[np.ndarray]) -> None:
        load_runtime()
        self._arguments = [
            tvm_ffi.from_dlpack(slot.take(array)) for slot, array in zip(slots, arrays)
        ]
        self._modules: dict[str, Any] = {}

    def run(self, path: str) -> None:
        """Compute once."""
        self._module(path)["main"](*self._arguments)

    def calls(self, path: str, batch_s: float) -> int:
        """Calls that make a batch of about ``batch_s``."""
        return calls_of_batch(lambda calls: self.sample(path, calls), batch_s, False)

    def sample(self, path: str, calls: int) -> float:
        """Seconds per call: the median of `SAMPLES` batches of ``calls``."""
        self.run(path)  # which starts the pool's threads
        pin_threads()
        module = self._module(path)
        return statistics.median(
            time_batches(module, self._arguments, calls=calls, batches=SAMPLES)
        )

    def _module(self, path: str) -> Any:
        if path not in self._modules:
            self._modules[path] = load_module(path)
        return self._modules[path]


class GroupBench(_Bench):
    """Kernels of one `Fused`, with the operands that they share."""

    def __init__(self, workload: Fused) -> None:
        self.workload = workload
        self.inputs = [drawn(member, seed) for seed, member in enumerate(workload.members)]
        if workload.same_a:
            for mine in self.inputs[1:]:
                mine["a"] = self.inputs[0]["a"]
        self.outputs = [_room(member) for member in workload.members]
        given = list(workload.inputs())
        slots = [Slot(name, tensor) for _, name, tensor in given]
        slots += [Slot("out", member.output) for member in workload.members]
        super().__init__(slots, [*(self.inputs[k][name] for k, name, _ in given), *self.outputs])

    def check(self, path: str) -> str:
        """Run a kernel once and compare; "" or what is wrong with its result."""
        for array in self.outputs:
            array.base.fill(UNTOUCHED)  # type: ignore[union-attr]
        self.run(path)
        for number, member in enumerate(self.workload.members):
            try:
                check_member(member, self.inputs[number], self.outputs[number])
            except VerificationError as error:
                return f"workload {number}: {error}"
        return ""


class DependentBench(_Bench):
    """Kernels of one `Group`, with its inputs."""

    def __init__(self, workload: Group) -> None:
        self.workload = workload
        self.inputs = drawn_inputs(workload)
        self.outputs = {name: Slot(name, t).new() for name, t in workload.results.items()}
        tensors = {**workload.inputs, **workload.results}
        slots = [Slot(name, tensor) for name, tensor in tensors.items()]
        super().__init__(slots, [*self.inputs.values(), *self.outputs.values()])

    def check(self, path: str) -> str:
        """Run a kernel once and compare; "" or what is wrong with its result."""
        for array in self.outputs.values():
            array.base.fill(UNTOUCHED)  # type: ignore[union-attr]
        self.run(path)
        try:
            check_group(self.workload, self.inputs, self.outputs)
        except VerificationError as error:
            return str(error)
        return ""


def drawn_inputs(workload: Group) -> dict[str, np.ndarray]:
    """Random inputs by name: as the step draws them that reads them first.

    Floats that are multiplied as B are made smaller, so that sums are about as large as rows of A:
    results would grow from step to step, and functions of them be flat.
    """
    inputs: dict[str, np.ndarray] = {}
    for seed, step in enumerate(workload.steps):
        if not any(source in workload.inputs for source in step.reads):
            continue
        mine = drawn(step.workload, seed)
        for operand, source in step.sources:
            if source not in workload.inputs or source in inputs:
                continue
            array, w = mine[operand], step.workload
            if isinstance(w, Matmul) and operand == "b" and is_float(array.dtype.name):
                array *= np.array(w.k**-0.5, array.dtype)
            inputs[source] = array
    return {name: inputs[name] for name in workload.inputs}


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
    if workload.elements > CHECKED_ELEMENTS:
        workload, inputs, out = _sampled(workload, inputs, out)
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
) -> tuple[Map, dict[str, np.ndarray], np.ndarray]:
    """Some rows, the first and the last among them; columns where a result needs all rows."""
    along = "m" if workload.over == "n" and workload.m > 1 else "n"
    extent = workload.m if along == "m" else workload.n
    if workload.fold and workload.over == along:  # one row that is folded: there is no part of it
        return workload, inputs, out
    count = max(2, CHECKED_ELEMENTS * extent // workload.elements)
    generator = np.random.default_rng(0)
    chosen = np.unique([0, *generator.integers(0, extent, count - 2), extent - 1])
    operands = (*workload.element.operands, *workload.finished.operands)
    parts = {op.name: _part(inputs[op.name], op.axes, along, chosen) for op in operands}
    axes = tuple(d for d in "mn" if workload.fold not in FOLDS or d != workload.over)
    smaller = dataclasses.replace(workload, **{along: len(chosen)})  # type: ignore[arg-type]
    return smaller, parts, _part(out, axes, along, chosen)


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
