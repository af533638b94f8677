"""Inside the worker: kernels of several workloads together, checked and timed (rank 6)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from anatune.codegen.call import ENTRY
from anatune.codegen.operands import Slot
from anatune.errors import VerificationError
from anatune.measure import verify
from anatune.measure.bench import MOVED_BYTES, Timer, copied
from anatune.measure.flush import Flush
from anatune.measure.group_reference import check_group
from anatune.measure.inputs import UNTOUCHED, operands, untouched
from anatune.measure.map_check import check_map
from anatune.measure.runner import Loadable
from anatune.workload import Matmul, Tensor
from anatune.workload.dtypes import INTEGER_RANGE, is_float, numpy_dtype
from anatune.workload.fused import Fused, Workload
from anatune.workload.group import Group
from anatune.workload.maps import SCAN, Map

LARGEST_DRAWN = 4.0
"""Floats are drawn between this and its negative: functions such as exp differ there, and their
results are far from overflowing."""

LARGEST_SCANNED = 1.0
"""The same for scans, which may multiply what they carry again and again."""

LARGEST_DRAWN_INTEGER = 100


class GroupBench(Timer):
    """Kernels of workloads that are computed together, with the operands that they share."""

    def __init__(self, workload: Fused | Map, flush: Flush | None = None) -> None:
        super().__init__(flush)
        self.workload = Fused((workload,)) if isinstance(workload, Map) else workload
        members = self.workload.members
        self.inputs = [drawn(member, seed) for seed, member in enumerate(members)]
        self.outputs = [_room(member) for member in members]

    def check(self, kernel: Loadable) -> str:
        """Run a kernel once and compare; "" or what is wrong with its result."""
        module, arguments = self._ready(kernel)
        for array in self.outputs:
            array.base.fill(UNTOUCHED)  # type: ignore[union-attr]
        module[ENTRY](*arguments)
        members = self.workload.members
        for number, member in enumerate(members):
            try:
                check_member(member, self.inputs[number], self.outputs[number])
            except VerificationError as error:
                return f"workload {number}: {error}" if len(members) > 1 else str(error)
        return ""

    def _arguments(self, module: Any, packed: Tensor | None) -> Sequence[np.ndarray]:
        self._move()
        w = self.workload
        given = [Slot(name, t).take(self.inputs[k][name]) for k, name, t in w.inputs()]
        return [*given, *(Slot("out", m.output).take(c) for m, c in zip(w.members, self.outputs))]

    def _move(self) -> None:
        """As `Bench` does, and for its reasons."""
        if sum(x.nbytes for mine in self.inputs for x in mine.values()) <= MOVED_BYTES:
            self.inputs = [
                {name: copied(member.operands[name], x) for name, x in mine.items()}
                for member, mine in zip(self.workload.members, self.inputs)
            ]


class DependentBench(Timer):
    """Kernels of one `Group`, with its inputs."""

    def __init__(self, workload: Group, flush: Flush | None = None) -> None:
        super().__init__(flush)
        self.workload = workload
        self.inputs = drawn_inputs(workload)
        self.outputs = {name: Slot(name, t).new() for name, t in workload.results.items()}

    def check(self, kernel: Loadable) -> str:
        """Run a kernel once and compare; "" or what is wrong with its result."""
        module, arguments = self._ready(kernel)
        for array in self.outputs.values():
            array.base.fill(UNTOUCHED)  # type: ignore[union-attr]
        module[ENTRY](*arguments)
        try:
            check_group(self.workload, self.inputs, self.outputs)
        except VerificationError as error:
            return str(error)
        return ""

    def _arguments(self, module: Any, packed: Tensor | None) -> Sequence[np.ndarray]:
        tensors = self.workload.inputs
        if sum(array.nbytes for array in self.inputs.values()) <= MOVED_BYTES:
            self.inputs = {name: copied(tensors[name], x) for name, x in self.inputs.items()}
        arrays = {**self.inputs, **self.outputs}
        tensors = {**tensors, **self.workload.results}
        return [Slot(name, tensor).take(arrays[name]) for name, tensor in tensors.items()]


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
