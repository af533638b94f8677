"""What the results of a group should hold, and how far off a kernel's may be (rank 6)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from anatune.errors import VerificationError
from anatune.workload.dtypes import is_float, numpy_dtype
from anatune.workload.group import Group, Step
from anatune.workload.maps_reference import map_range
from anatune.workload.matmul import Matmul
from anatune.workload.reference import error_bound, reference, stored_as
from anatune.workload.tensor import Tensor

DRAWS = 2
"""Times that results on the way are disturbed, to see what becomes of it."""

ALLOWED = 8.0
"""Times the largest effect that was seen among `DRAWS` that a kernel may be off."""

Arrays = Mapping[str, np.ndarray]


def check_group(workload: Group, inputs: Arrays, results: Arrays) -> None:
    """Compare results with those of the steps one after the other, in float64.

    A kernel may be off by what the last step's own rounding allows, and by `ALLOWED` times what
    comes of it when each result on the way lies anywhere in the range that its own check allows.

    Raises:
        VerificationError: the worst element, with what was expected.
    """
    right = _computed(workload, inputs, None)
    spread = {name: np.zeros(1) for name in workload.outputs}
    for seed in range(DRAWS):
        other = _computed(workload, inputs, np.random.default_rng(seed))
        for name in workload.outputs:
            off = np.abs(other[name][0] - right[name][0])
            spread[name] = np.maximum(spread[name], np.nanmax(off, initial=0.0))
    for name in workload.outputs:
        value, error = right[name]
        _compare(name, results[name], value, error + ALLOWED * spread[name])


def _compare(name: str, result: np.ndarray, value: np.ndarray, allowed: np.ndarray) -> None:
    off = np.abs(result.astype(np.float64) - value)
    known = np.isfinite(value) & np.isfinite(allowed)
    wrong = known & ~(off <= allowed)
    if not wrong.any():
        return
    place = np.unravel_index(np.argmax(np.where(wrong, np.nan_to_num(off, nan=np.inf), -1.0)),
                             wrong.shape)
    where = [int(i) for i in place]
    raise VerificationError(
        f"{name}{where} = {result[place]}: the reference has {value[place]:.9g}, give or take "
        f"{np.broadcast_to(allowed, wrong.shape)[place]:.3g}"
    )


def _computed(
    workload: Group, inputs: Arrays, generator: np.random.Generator | None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Every result with half the width of its range; disturbed within it by ``generator``."""
    made: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    memory = {name: _laid_out(inputs[name], tensor) for name, tensor in workload.inputs.items()}
    for step in workload.steps:
        tensors = step.workload.operands
        operands = {name: _seen(memory[source], tensors[name]) for name, source in step.sources}
        middle, half = _range(step, operands)
        if generator is not None and is_float(str(step.workload.out_dtype)):
            middle = middle + np.nan_to_num(half) * generator.uniform(-1, 1, middle.shape)
        made[step.name] = (middle, half)
        memory[step.name] = _laid_out(middle, step.workload.output)
    return made


def _range(step: Step, operands: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """The middle of what a right kernel may store, and half of the width."""
    w = step.workload
    if isinstance(w, Matmul):
        value = reference(w, operands)
        error = error_bound(w, operands)
        low, high = (stored_as(str(w.out_dtype), value + e) for e in (-error, error))
    else:
        low, high = map_range(w, operands)
    low, high = low.astype(np.float64), high.astype(np.float64)
    return (low + high) / 2, (high - low) / 2


def _seen(memory: np.ndarray, tensor: Tensor) -> np.ndarray:
    """What lies in ``memory`` as a step sees it."""
    if not is_float(tensor.dtype):
        memory = memory.astype(numpy_dtype(tensor.dtype))
    return _view(memory, tensor)


def _laid_out(array: np.ndarray, tensor: Tensor) -> np.ndarray:
    """The memory of ``tensor`` that holds what ``array`` does."""
    memory = np.zeros(tensor.span, array.dtype)
    _view(memory, tensor)[...] = array.reshape(tensor.shape)
    return memory


def _view(memory: np.ndarray, tensor: Tensor) -> np.ndarray:
    strides = [stride * memory.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(memory, tensor.shape, strides)
