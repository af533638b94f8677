"""What the result of a `Map` should hold, and how far off a kernel's may be (rank 2)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from anatune.workload.dtypes import INTEGER_RANGE, UNIT_ROUNDOFF, is_float, numpy_dtype
from anatune.workload.evaluate import FUNCTION_ERROR, SMALLEST_NORMAL, Bounded, evaluate, wrapped
from anatune.workload.expression import Operand
from anatune.workload.maps import FOLDS, SCAN, SOFTMAX, Map
from anatune.workload.reference import stored_as, storing_error

Inputs = Mapping[str, np.ndarray]


def map_range(workload: Map, inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest result that a right kernel may store, element by element.

    Where nothing can be said, as of what overflows, the range is all numbers and the lowest is NaN.
    """
    return _stored(workload, *_result(workload, inputs))


def step_range(
    workload: Map, inputs: Inputs, out: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What `map_range` tells, of each step of a scan from what ``out`` holds of the one before.

    Where results are what is carried; nothing that goes wrong hides behind errors that have grown.
    """
    shape, axis = (workload.m, workload.n), "mn".index(workload.over)
    first = np.full(shape[1 - axis], workload.initial).astype(out.dtype)
    before = np.insert(out.reshape(shape), 0, first, axis).take(np.arange(shape[axis]), axis)
    read = {op.label: _placed(workload, op, inputs[op.name]) for op in workload.element.reads}
    return _stored(workload, *evaluate(workload.element, before, read))


def _stored(workload: Map, value: np.ndarray, error: np.ndarray) -> Bounded:
    """The range of results before they are stored, as they are stored."""
    with np.errstate(all="ignore"):
        error = error + storing_error(workload.result_dtype, str(workload.out_dtype), value, error)
        low, high = (stored_as(str(workload.out_dtype), value + e) for e in (-error, error))
    if is_float(str(workload.out_dtype)):
        low = np.where(np.isfinite(error), low, np.nan).astype(low.dtype)
    elif not np.isfinite(error).all():
        lowest, highest = INTEGER_RANGE[str(workload.out_dtype)]
        low, high = np.where(np.isfinite(error), (low, high), ([[lowest]], [[highest]]))
    shape = workload.output.shape
    return low.reshape(shape), high.reshape(shape)


def map_reference(workload: Map, inputs: Inputs) -> np.ndarray:
    """The results in float64 (int64 where they are integers), before they are stored."""
    return _result(workload, inputs)[0].reshape(workload.output.shape)


def _result(workload: Map, inputs: Inputs) -> Bounded:
    zeros = np.zeros((workload.m, workload.n))
    if workload.fold == SCAN:
        return _finished(workload, inputs, *_scanned(workload, inputs))
    read = {op.label: _placed(workload, op, inputs[op.name]) for op in workload.element.reads}
    value, error = evaluate(workload.element, zeros, read)
    with np.errstate(all="ignore"):
        if workload.fold == SOFTMAX:
            return _softmax(workload, value.astype(np.float64), error)
        if workload.fold not in FOLDS:
            return value, error
        return _finished(workload, inputs, *_folded(workload, value, error))


def _placed(workload: Map, read: Operand, array: np.ndarray) -> np.ndarray:
    """What an operand has for each place of [m, n], where it is read."""
    if not read.axes:
        return np.reshape(array, ())
    down, right = workload.shift(read)
    rows, columns = slice(down, down + workload.m), slice(right, right + workload.n)
    if read.axes == ("m",):
        return array.reshape(-1, 1)[rows]
    return array[columns] if array.ndim == 1 else array[rows, columns]


def _folded(workload: Map, value: np.ndarray, error: np.ndarray) -> Bounded:
    """Sums in any order: n roundings (Higham, Accuracy and Stability of Numerical Algorithms, 2nd
    ed., eq. 4.4); the largest or smallest is off by what its terms are off at most."""
    axis = {"m": 0, "n": 1}[workload.over]
    if workload.fold != "sum":
        fold = np.max if workload.fold == "max" else np.min
        return fold(value, axis=axis), np.max(error, axis=axis)
    total = value.sum(axis=axis)
    if not is_float(workload.held):
        return wrapped(total), np.zeros(total.shape)
    u, terms = UNIT_ROUNDOFF[workload.held], value.shape[axis]
    rounded = terms * (u + UNIT_ROUNDOFF["float64"])
    sizes = (np.abs(value) + error).sum(axis=axis)
    return total, error.sum(axis=axis) + rounded / (1 - rounded) * sizes


def _finished(workload: Map, inputs: Inputs, value: np.ndarray, error: np.ndarray) -> Bounded:
    if not workload.finish:
        return value, error
    read = {op.name: np.reshape(inputs[op.name], -1 if op.axes else ())
            for op in workload.finished.operands}
    if workload.fold == SCAN:
        read = {op.name: _placed(workload, op, inputs[op.name])
                for op in workload.finished.operands}
    return evaluate(workload.finished, value, read, error)


def _softmax(workload: Map, value: np.ndarray, error: np.ndarray) -> Bounded:
    """Relative errors add up: of the exponent, of exp, of the sum of n terms, of the division."""
    u = UNIT_ROUNDOFF[workload.held]
    below = value - value.max(axis=1, keepdims=True)
    powers = np.exp(below)
    share = powers / powers.sum(axis=1, keepdims=True)
    moved = error.max(axis=1, keepdims=True) * 2 + u * np.abs(below)
    relative = 2 * np.expm1(moved) + (2 * FUNCTION_ERROR["exp"] + workload.n + 4) * u
    widest = np.max(np.where(powers > SMALLEST_NORMAL[workload.held], relative, 0), axis=1)
    return share, share * (relative + widest[:, None]) + SMALLEST_NORMAL[workload.held]


def _scanned(workload: Map, inputs: Inputs) -> Bounded:
    """What is carried after each step; how far it may be off is carried along with it."""
    shape, axis = (workload.m, workload.n), "mn".index(workload.over)
    read = {op.label: np.broadcast_to(_placed(workload, op, inputs[op.name]), shape)
            for op in workload.element.reads}
    ahead = {label: np.moveaxis(array, axis, 0) for label, array in read.items()}
    value = np.full(shape[1 - axis], workload.initial).astype(numpy_dtype(workload.held))
    carried: Bounded = value, np.zeros(value.shape)
    steps = []
    for k in range(shape[axis]):
        now = {label: array[k] for label, array in ahead.items()}
        carried = evaluate(workload.element, carried[0], now, carried[1])
        steps.append(carried)
    values, errors = (np.stack(each, axis) for each in zip(*steps))
    return values, errors
