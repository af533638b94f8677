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

HIGHER = 0.75
"""Share of disturbed whole numbers that are the highest: all are so in some draw but for few."""

Arrays = Mapping[str, np.ndarray]

Range = tuple[np.ndarray, np.ndarray]
"""Lowest and highest values."""


def check_group(workload: Group, inputs: Arrays, results: Arrays) -> None:
    """Compare results with those of the steps one after the other, in float64.

    A kernel may be off by what the last step's own rounding allows, and by `ALLOWED` times what
    comes of it when each result on the way lies anywhere in the range that its own check allows.
    Nothing is said of rows in which it depends on that whether something can be said at all.

    Raises:
        VerificationError: the worst element, with what was expected.
    """
    right = _computed(workload, inputs, None)
    spread = {name: np.zeros(()) for name in workload.outputs}
    for seed in range(DRAWS):
        other = _computed(workload, inputs, np.random.default_rng(seed))
        for name in workload.outputs:
            moved = _moved(_middle(right[name]), _middle(other[name]))
            spread[name] = np.maximum(spread[name], moved)
    for name in workload.outputs:
        low, high = right[name]
        allowed = (high - low) / 2 + ALLOWED * spread[name]
        _compare(name, results[name], _middle(right[name]), allowed)


def _moved(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How far results differ at most; inf in rows in which others of them are known."""
    known = np.isfinite(one)
    changed = known != np.isfinite(other)
    rows = changed.any(axis=-1, keepdims=True) if changed.ndim else changed
    off = np.abs(np.where(known & ~changed, other - one, 0.0))
    moved: np.ndarray = np.where(rows, np.inf, off.max())
    return moved


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
) -> dict[str, Range]:
    """The range of every result; those on the way are disturbed within it by ``generator``."""
    found: dict[str, Range] = {}
    memory = {name: _laid_out(inputs[name], tensor) for name, tensor in workload.inputs.items()}
    for step in workload.steps:
        tensors, output = step.workload.operands, step.workload.output
        operands = {name: _view(memory[source], tensors[name]) for name, source in step.sources}
        found[step.name] = _range(step, operands)
        chosen = _one_of(found[step.name], output.dtype, generator)
        memory[step.name] = _laid_out(chosen, output)
    return found


def _range(step: Step, operands: Arrays) -> Range:
    """The lowest and the highest that a right kernel may store, as float64."""
    w = step.workload
    if isinstance(w, Matmul):
        value = reference(w, operands)
        error = error_bound(w, operands)
        low, high = (stored_as(str(w.out_dtype), value + e) for e in (-error, error))
    else:
        low, high = map_range(w, operands)
    return low.astype(np.float64), high.astype(np.float64)


def _one_of(between: Range, dtype: str, generator: np.random.Generator | None) -> np.ndarray:
    """What a kernel may store: floats in the middle or, disturbed, anywhere; of whole numbers the
    lowest or, disturbed, now and then the highest."""
    low, high = between
    if not is_float(dtype):
        chosen = low if generator is None else np.where(
            generator.random(low.shape) < HIGHER, high, low)
        return chosen.astype(numpy_dtype(dtype))
    middle = _middle(between)
    if generator is None:
        return middle
    half = np.nan_to_num(high - low) / 2
    disturbed: np.ndarray = middle + half * generator.uniform(-1, 1, middle.shape)
    return disturbed


def _middle(between: Range) -> np.ndarray:
    middle: np.ndarray = (between[0] + between[1]) / 2
    return middle


def _laid_out(array: np.ndarray, tensor: Tensor) -> np.ndarray:
    """The memory of ``tensor`` that holds what ``array`` does."""
    memory = np.zeros(tensor.span, array.dtype)
    _view(memory, tensor)[...] = array.reshape(tensor.shape)
    return memory


def _view(memory: np.ndarray, tensor: Tensor) -> np.ndarray:
    strides = [stride * memory.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(memory, tensor.shape, strides)
