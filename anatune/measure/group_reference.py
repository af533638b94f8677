"""What the results of a group should hold, and how far off a kernel's may be (rank 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from anatune.errors import VerificationError
from anatune.workload.dtypes import is_float, numpy_dtype
from anatune.workload.group import Group, Step
from anatune.workload.maps_reference import map_range
from anatune.workload.matmul import Matmul
from anatune.workload.reference import error_bound, reference, stored_as

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
    flat: dict[str, np.ndarray] = {}
    for step in workload.steps:
        operands = {
            name: _seen(step, name, flat[source]) if source in made
            else _given(step, name, inputs[source])
            for name, source in step.sources
        }
        middle, half = _range(step, operands)
        if generator is not None and is_float(str(step.workload.out_dtype)):
            middle = middle + np.nan_to_num(half) * generator.uniform(-1, 1, middle.shape)
        made[step.name] = (middle, half)
        flat[step.name] = _in_order(middle, step.workload.output.strides)
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


def _given(step: Step, operand: str, array: np.ndarray) -> np.ndarray:
    """An input as this step sees it; as it is where that is how it lies, gaps included."""
    tensor = step.workload.operands[operand]
    strides = tuple(s * array.itemsize for s in tensor.strides)
    alike = array.shape == tensor.shape and array.strides == strides
    return array if alike else _seen(step, operand, _flat(array))


def _seen(step: Step, operand: str, flat: np.ndarray) -> np.ndarray:
    """What lies in memory, element after element, as this step sees it."""
    tensor = step.workload.operands[operand]
    if not is_float(tensor.dtype):
        flat = flat.astype(numpy_dtype(tensor.dtype))
    strides = [s * flat.itemsize for s in tensor.strides]
    return np.lib.stride_tricks.as_strided(flat, tensor.shape, strides)


def _flat(array: np.ndarray) -> np.ndarray:
    """Elements in the order in which they lie in memory, without what lies between them."""
    return _in_order(array, array.strides)


def _in_order(array: np.ndarray, strides: Sequence[int]) -> np.ndarray:
    """Elements in the order in which memory with these strides has them."""
    order = sorted(range(array.ndim), key=lambda axis: -strides[axis])
    return np.ascontiguousarray(array.transpose(order)).reshape(-1)
