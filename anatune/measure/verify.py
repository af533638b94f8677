"""The check against the numpy reference that a kernel must pass before it counts (rank 6)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from anatune.errors import VerificationError
from anatune.measure.inputs import operands, sums_are_exact
from anatune.workload import Matmul
from anatune.workload.dtypes import SIGNIFICANT_BITS, UNIT_ROUNDOFF, is_float
from anatune.workload.evaluate import evaluate
from anatune.workload.expression import OUT, SUM, Operand
from anatune.workload.reference import error_bound, reference, store

__all__ = ["check", "operands"]

FULL_CHECK_FLOPS = 4e9
"""Work up to which every element is recomputed: tens of milliseconds of float64 on one core."""

WIDENED_ELEMENTS = 1 << 17
"""Elements widened to 64 bits at once, 1 MiB of them."""

CHECKED_ELEMENTS = 1 << 20
"""Elements of C compared at once, as far as `LEAST_ROWS` allows: what the comparison makes of them
stays near 50 MiB."""

LEAST_ROWS = 64
"""Rows compared at once at least: the reference widens all of B for each lot of them."""

SAMPLED_ROWS = 32
"""Rows recomputed of a larger product, next to the check of all elements by random vectors."""

RANDOM_WEIGHTS = 1 << 20
"""Elements of Freivalds' vector are whole numbers below this; its reciprocal is the probability
that a wrong element goes unseen."""

HALF = ("float16", "bfloat16")

INT32_VALUES = 1 << 32

Inputs = Mapping[str, np.ndarray]


def check(workload: Matmul, inputs: Inputs, c: np.ndarray, seed: int = 1) -> None:
    """Compare ``c`` with the reference of ``inputs``, which are those of `operands`.

    Up to `FULL_CHECK_FLOPS` all elements are recomputed. Beyond, some products of a batch and some
    rows of a product are; and where C holds the sums themselves, all elements of these products are
    checked by Freivalds' test: C x = A (B x) for a random x ("Probabilistic machines can use less
    running time", IFIP 1977); a wrong element goes unseen at odds of 1 to `RANDOM_WEIGHTS`.

    Raises:
        VerificationError: naming the element of the largest difference.
    """
    # Integer sums may lie beyond the largest float16.
    missing = np.isnan(c) if workload.out_dtype == "float16" else ~np.isfinite(c)
    if workload.expression == SUM and missing.any():
        place = tuple(np.argwhere(missing)[0])
        raise VerificationError(f"{_name(place)} = {c[place]}: not written or not finite")
    generator = np.random.default_rng(seed)
    for part in _parts(workload, inputs, c, generator):
        if part.workload.flops <= FULL_CHECK_FLOPS:
            elements = part.workload.batch * part.workload.n
            step = max(LEAST_ROWS, CHECKED_ELEMENTS // elements)
            for start in range(0, part.workload.m, step):
                part.check_rows(np.arange(start, min(start + step, part.workload.m)))
        else:
            part.check_rows(_sampled_rows(part, generator))
            if part.workload.stores_sums:
                _check_by_vector(part, generator)


@dataclasses.dataclass(frozen=True)
class _Part:
    """Some products of a batch; ``numbers`` are theirs, none of a workload without a batch."""

    workload: Matmul
    inputs: Inputs
    c: np.ndarray
    numbers: tuple[int, ...]

    def check_rows(self, rows: np.ndarray) -> None:
        """Every element of these rows must be a result of the reference with its error bound."""
        value, error = _expected(self.workload, self.inputs, rows)
        low, high = (store(self.workload, value + e) for e in (-error, error))
        c = self.c[..., rows, :]
        right = (low <= c) & (c <= high) | ~np.isfinite(error)
        if right.all():
            return
        difference = np.where(right, 0.0, np.abs(c.astype(np.float64) - value))
        difference[np.isnan(difference)] = np.inf
        place = np.unravel_index(int(difference.argmax()), difference.shape)
        raise VerificationError(
            f"{self.name(place[:-2], rows[place[-2]], place[-1])} = {c[place]}: "
            f"the {value.dtype} reference is {value[place]}" + _give_or_take(error[place])
        )

    def name(self, product: tuple[Any, ...], row: Any, column: Any) -> str:
        numbers = [self.numbers[product[0] if product else 0]] if self.numbers else []
        return _name((*numbers, row, column))


def _parts(
    workload: Matmul, inputs: Inputs, c: np.ndarray, generator: np.random.Generator
) -> Iterator[_Part]:
    """The products to check, as many at once as `CHECKED_ELEMENTS` allows."""
    if workload.batch == 1:
        yield _Part(workload, inputs, c, ())
        return
    numbers = np.arange(workload.batch)
    one = workload.flops / workload.batch
    if workload.flops > FULL_CHECK_FLOPS:
        count = max(2, int(FULL_CHECK_FLOPS / one))
        inner = generator.choice(workload.batch, min(count, workload.batch) - 2, replace=False)
        numbers = np.unique([0, *inner, workload.batch - 1])
    largest = max(t.elements for t in (workload.output, *workload.operands.values()))
    at_once = max(1, CHECKED_ELEMENTS * workload.batch // largest)
    for start in range(0, len(numbers), at_once):
        yield _part(workload, inputs, c, numbers[start : start + at_once])


def _part(workload: Matmul, inputs: Inputs, c: np.ndarray, numbers: np.ndarray) -> _Part:
    single = workload.products(1)
    axes = {name: len(tensor.shape) for name, tensor in single.operands.items()} | {OUT: 2}
    chosen = numbers if len(numbers) > 1 else numbers[0]
    mine = {name: x[chosen] if x.ndim > axes[name] else x for name, x in inputs.items()}
    of_these = workload.products(len(numbers))
    return _Part(of_these, mine, c[chosen], tuple(map(int, numbers)))


def _sampled_rows(part: _Part, generator: np.random.Generator) -> np.ndarray:
    """Some rows, both ends, and the first that holds no number: it may not have been written."""
    m = part.workload.m
    sampled = generator.choice(m, size=min(SAMPLED_ROWS, m), replace=False)
    odd = np.flatnonzero(np.isnan(part.c).any(axis=1))[:1]
    return np.unique(np.concatenate([sampled, odd, [0, m - 1]]))


def _expected(workload: Matmul, inputs: Inputs, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What these rows hold before they are stored, and how far off a kernel's may be.

    The reference's own bound allows for rounded sums, which can hide a missing product; exact sums
    leave to err only what is done with them.
    """
    out = inputs.get(OUT)
    if not sums_are_exact(workload):
        value = reference(workload, inputs, out, rows)
        return value, error_bound(workload, inputs, out, rows)
    bare: dict[str, Any] = {"epilogue": "", "alpha": 1.0, "beta": 0.0}
    plain = dataclasses.replace(workload, out_dtype=workload.accumulator, **bare)
    sums = reference(plain, inputs, None, rows)
    read = {op.name: _along_c(op, inputs[op.name], rows) for op in workload.expression.operands}
    value, error = evaluate(workload.expression, sums, read)
    if workload.expression.dtype != "float32" and workload.out_dtype in HALF:
        # On the way to 16 bits there may be a stop at float32.
        error = error + UNIT_ROUNDOFF["float32"] * np.abs(value)
    return value, error


def _along_c(operand: Operand, whole: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """An operand as it lies along these rows of C, [..., m, n]."""
    if "m" not in operand.axes:
        return whole
    return whole[..., rows, :] if "n" in operand.axes else whole[rows][:, None]


def _check_by_vector(part: _Part, generator: np.random.Generator) -> None:
    """Freivalds' test of all of C."""
    workload, c = part.workload, part.c
    a = part.inputs["a"].T if workload.trans_a else part.inputs["a"]
    b = part.inputs["b"].T if workload.trans_b else part.inputs["b"]
    x = generator.integers(1, RANDOM_WEIGHTS, size=workload.n)
    if is_float(workload.accumulator):
        x = x.astype(np.float64)
        difference = np.abs(_times(c, x) - _times(a, _times(b, x)))
        bound = 0.0 if sums_are_exact(workload) else _rounding(workload)
    else:  # 64-bit sums wrap around, which leaves them as they are modulo 2**32
        x |= 1  # so that one wrong element cannot become a multiple of 2**32
        difference = np.abs(_times(c, x) - _times(a, _times(b, x))) % INT32_VALUES
        bound = 0
    worst = int(difference.argmax())
    if difference[worst] > bound:
        name = part.name((), worst, ":")
        raise VerificationError(f"{name} differs from the reference (Freivalds' test)")


def _rounding(workload: Matmul) -> float:
    """The worst case of k roundings of sums of at most k, times what the test weighs them with."""
    scale = float(RANDOM_WEIGHTS) * workload.n
    return scale * workload.k**2 * 2.0 ** -SIGNIFICANT_BITS[workload.accumulator]


def _times(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Matrix times vector in the vector's type, widened a little at a time to stay in cache."""
    transposed = matrix.strides[0] < matrix.strides[1]
    stored = matrix.T if transposed else matrix
    rows = max(1, WIDENED_ELEMENTS // stored.shape[1])
    pieces = (slice(i, i + rows) for i in range(0, len(stored), rows))
    if not transposed:
        return np.concatenate([stored[piece].astype(vector.dtype) @ vector for piece in pieces])
    total = np.zeros(stored.shape[1], vector.dtype)
    for piece in pieces:
        total += vector[piece] @ stored[piece].astype(vector.dtype)
    return total


def _name(place: tuple[Any, ...]) -> str:
    return f"c[{', '.join(map(str, place))}]"


def _give_or_take(error: float) -> str:
    return f", give or take {error:.3g}" if error else ""
