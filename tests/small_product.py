"""One small product with an exact result: what the tests of tuning and of calling compute."""

from __future__ import annotations

import numpy as np

M, N, K = 37, 50, 29
SHAPES = {"a": (M, K), "b": (K, N), "out": (M, N)}


def operands() -> dict[str, np.ndarray]:
    """Whole numbers, so that every order of the sum gives the same."""
    generator = np.random.default_rng(7)
    return {n: generator.integers(-9, 10, SHAPES[n]).astype(np.float32) for n in ("a", "b")}


def wanted() -> np.ndarray:
    a, b = operands().values()
    return (a.astype(float) @ b.astype(float)).astype(np.float32)
