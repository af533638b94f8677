"""Results of element-wise workloads, folds, scans and softmax compared with float64 (rank 6)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from anatune.errors import VerificationError
from anatune.workload.maps import FOLDS, SCAN, Map
from anatune.workload.maps_reference import map_range, step_range

CHECKED_ELEMENTS = 1 << 19
"""Elements of a result that are compared: more take the reference longer than a second."""

CHECKED_STEPS = 1 << 13
"""Steps of a scan that the reference follows, one after the other, in about half a second."""

WINDOWS = 3
"""Lots of rows that lie side by side which are compared where rows need their neighbours."""

Inputs = dict[str, np.ndarray]
Part = tuple[Map, Inputs, np.ndarray]


def check_map(workload: Map, inputs: Inputs, out: np.ndarray) -> None:
    """Compare ``out``, or a part of it. Raises VerificationError with a wrong element."""
    if workload.fold != SCAN and out.dtype.kind == "f" and np.isnan(out).any():
        place = tuple(int(i) for i in np.argwhere(np.isnan(out))[0])
        raise VerificationError(f"out{list(place)} = nan: not written, or not a number")
    for part in _parts(workload, inputs, out):
        if workload.fold == SCAN:
            if workload.keeps_carried:
                _compare(part[2], *step_range(*part))
            part = _beginning(*part)
        _compare(part[2], *map_range(*part[:2]))


def _compare(out: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    """Nothing is known of an element whose lowest value is NaN."""
    with np.errstate(all="ignore"):
        right = (low <= out) & (out <= high) | np.not_equal(low, low)
    if not right.all():
        place = tuple(int(i) for i in np.argwhere(~right)[0])
        raise VerificationError(
            f"out{list(place)} = {out[place]}: the reference has {low[place]} to {high[place]}"
        )


def _parts(workload: Map, inputs: Inputs, out: np.ndarray) -> Iterator[Part]:
    """Some rows, the first and the last among them; columns where a result needs all rows.

    Where rows need their neighbours, those at both ends and some between, which lie side by side.
    All of it where it is small, or one row that is folded or scanned.
    """
    along = "m" if workload.over == "n" and workload.m > 1 else "n"
    extent = workload.m if along == "m" else workload.n
    if workload.elements <= CHECKED_ELEMENTS or (workload.fold and workload.over == along):
        yield workload, inputs, out
        return
    count = max(2, CHECKED_ELEMENTS * extent // workload.elements)
    generator = np.random.default_rng(0)
    if not any(_beyond(workload, name, along) for name in inputs):
        chosen = np.unique([0, *generator.integers(0, extent, count - 2), extent - 1])
        yield _part(workload, inputs, out, along, chosen)
        return
    each = -(-count // WINDOWS)
    for first in (0, *generator.integers(0, extent - each + 1, WINDOWS - 2), extent - each):
        yield _part(workload, inputs, out, along, np.arange(first, first + each))


def _beginning(workload: Map, inputs: Inputs, out: np.ndarray) -> Part:
    """The first steps of a scan, which do not depend on the others."""
    steps = min(CHECKED_STEPS, workload.m if workload.over == "m" else workload.n)
    return _part(workload, inputs, out, workload.over, np.arange(steps))


def _part(
    workload: Map, inputs: Inputs, out: np.ndarray, along: str, chosen: np.ndarray
) -> Part:
    """The chosen rows or columns; they lie side by side where neighbours are needed."""
    operands = (*workload.element.operands, *workload.finished.operands)
    parts = {}
    for op in operands:
        beyond = _beyond(workload, op.name, along)
        reached = np.arange(chosen[0], chosen[-1] + 1 + beyond) if beyond else chosen
        parts[op.name] = _taken(inputs[op.name], op.axes, along, reached)
    axes = tuple(d for d in "mn" if workload.fold not in FOLDS or d != workload.over)
    smaller = dataclasses.replace(workload, **{along: len(chosen)})  # type: ignore[arg-type]
    return smaller, parts, _taken(out, axes, along, chosen)


def _beyond(workload: Map, name: str, along: str) -> int:
    """Rows or columns that an operand has more than the result."""
    low, high = workload.halo(name)["mn".index(along)]
    return high - low


def _taken(array: np.ndarray, axes: tuple[str, ...], along: str, chosen: np.ndarray) -> np.ndarray:
    """The chosen places of an array that lies along ``axes``, of which it may lack the first."""
    if along not in axes or not array.shape:
        return array
    return np.take(array, chosen, axis=axes.index(along) - len(axes))
