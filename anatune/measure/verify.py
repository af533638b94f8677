"""Operands and the check against float64 numpy that a kernel must pass before it counts (rank 6).

Operands are random multiples of a power of two, so coarse that every partial sum of C is a number
of the data type: the kernel's result must then equal the reference exactly, whatever the order of
the sum. One product too many or too few, anywhere, shows.
"""

from __future__ import annotations

import math

import numpy as np

from anatune.errors import VerificationError
from anatune.workload import Matmul

SIGNIFICAND_BITS = {"float32": 24, "float64": 53}
"""Bits of the significand, hidden bit included (IEEE 754-2019, table 3.5)."""

PERIOD = 1_048_573
"""Elements after which large operands repeat, a prime: drawing all of them would take longer than
the kernel, and no row or tile of a power of two meets its like."""

MAX_OPERAND_BITS = 7
"""Bits of an operand's magnitude at most: a random byte, the quickest to draw, holds them and a
sign."""

FULL_CHECK_FLOPS = 4e9
"""Work up to which every element is recomputed: tens of milliseconds of float64 on one core."""

WIDENED_ELEMENTS = 1 << 17
"""Elements widened to float64 at once, 1 MiB of them."""

SAMPLED_ROWS = 32
"""Rows recomputed of a larger product, next to the check of all elements by random vectors."""

RANDOM_WEIGHTS = 1 << 20
"""Elements of Freivalds' vector are whole numbers below this; its reciprocal is the probability
that a wrong element goes unseen."""


def operand_bits(workload: Matmul) -> int:
    """Largest b for which sums of k products of b-bit integers fit the significand; at least 1."""
    spare = SIGNIFICAND_BITS[workload.dtype] - math.ceil(math.log2(workload.k + 1))
    return max(1, min(MAX_OPERAND_BITS, spare // 2))


def operands(workload: Matmul, seed: int = 0) -> dict[str, np.ndarray]:
    """Random inputs in [-1, 1] on a grid of 2**-b (see the module), by name."""
    bits = operand_bits(workload)
    generator = np.random.default_rng(seed)

    def draw(shape: tuple[int, int]) -> np.ndarray:
        values = np.empty(math.prod(shape), workload.dtype)
        whole = np.frombuffer(generator.bytes(min(values.size, PERIOD)), np.int8)
        drawn = np.ldexp((whole >> (MAX_OPERAND_BITS - bits)).astype(workload.dtype), -bits)
        for start in range(0, values.size, PERIOD):
            values[start : start + PERIOD] = drawn[: values.size - start]
        return values.reshape(shape)

    return {name: draw(shape) for name, shape in workload.operands.items()}


def check(workload: Matmul, inputs: dict[str, np.ndarray], c: np.ndarray, seed: int = 1) -> None:
    """Compare ``c`` with the float64 product of ``inputs``.

    Up to `FULL_CHECK_FLOPS` all elements are recomputed. Beyond, some rows are, and all elements
    are checked by Freivalds' test: C x = A (B x) for a random x ("Probabilistic machines can use
    less running time", IFIP 1977), in float64; a wrong element goes unseen at odds of 1 to
    `RANDOM_WEIGHTS`.

    Raises:
        VerificationError: naming the element of the largest difference.
    """
    a, b = inputs["a"], inputs["b"]
    if not np.isfinite(c).all():
        i, j = np.argwhere(~np.isfinite(c))[0]
        raise VerificationError(f"c[{i}, {j}] = {c[i, j]}: not written or not finite")
    if workload.flops <= FULL_CHECK_FLOPS:
        _check_rows(workload, a, b, c, np.arange(workload.m))
        return
    generator = np.random.default_rng(seed)
    sampled = generator.choice(workload.m, size=min(SAMPLED_ROWS, workload.m), replace=False)
    ends = np.array([0, workload.m - 1])
    _check_rows(workload, a, b, c, np.unique(np.concatenate([sampled, ends])))
    x = generator.integers(1, RANDOM_WEIGHTS, size=workload.n).astype(np.float64)
    difference = np.abs(_times(c, x) - _times(a, _times(b, x)))
    worst = int(difference.argmax())
    if difference[worst] > _tolerance(workload, float(RANDOM_WEIGHTS) * workload.n):
        why = f"c[{worst}, :] differs from the float64 reference (Freivalds' test)"
        raise VerificationError(why)


def _check_rows(
    workload: Matmul, a: np.ndarray, b: np.ndarray, c: np.ndarray, rows: np.ndarray
) -> None:
    want = workload.reference(a, b, rows)
    difference = np.abs(c[rows] - want)
    row, column = np.unravel_index(int(difference.argmax()), difference.shape)
    if difference[row, column] > _tolerance(workload, 1.0):
        raise VerificationError(
            f"c[{rows[row]}, {column}] = {c[rows[row], column]}: the float64 reference is "
            f"{want[row, column]}"
        )


def _tolerance(workload: Matmul, scale: float) -> float:
    """0 where sums are exact; beyond, the worst case of k roundings of sums of at most k."""
    bits = operand_bits(workload)
    exact = 2 * bits + math.ceil(math.log2(workload.k + 1)) <= SIGNIFICAND_BITS[workload.dtype]
    return 0.0 if exact else scale * workload.k**2 * 2.0 ** -SIGNIFICAND_BITS[workload.dtype]


def _times(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Matrix times vector in float64, widened a few rows at a time, so that these stay in cache."""
    rows = max(1, WIDENED_ELEMENTS // matrix.shape[1])
    parts = [matrix[i : i + rows].astype(np.float64) @ vector for i in range(0, len(matrix), rows)]
    return np.concatenate(parts)
