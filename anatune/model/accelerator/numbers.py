"""The numbers in the simulated buffers, and C as the command stream computes it (rank 4)."""

from __future__ import annotations

from typing import Any

from anatune.model.accelerator.layout import Buffer
from anatune.model.accelerator.machine import Machine
from anatune.model.accelerator.stream import Compute, Move

SMALL = 8
"""Largest magnitude of random elements: whole numbers whose sums of products stay exact."""


class Numbers:
    """Operands in memory, blocks in buffers. Sums are float64: exact for small whole numbers."""

    def __init__(self, here: Machine, seed: int = 0) -> None:
        import numpy as np  # not needed to plan

        w, random = here.workload, np.random.default_rng(seed)
        low = 0 if w.dtype.startswith("u") else -SMALL
        self.here = here
        self.memory: dict[str, Any] = {
            "a": random.integers(low, SMALL, (w.m, w.k)).astype(float),
            "b": random.integers(low, SMALL, (w.k, w.n)).astype(float),
            "c": np.full((w.m, w.n), np.nan),
        }
        self.partial = np.full((w.m, w.n), np.nan)
        self.held: dict[Buffer, Any] = {}

    def move(self, move: Move) -> None:
        """The copy that a transfer makes; edges of whole operations are zeros."""
        import numpy as np

        operand, ((row, rows), (column, columns)) = move.buffer[0], move.region
        there = self.partial if move.partial else self.memory[operand]
        place = slice(row, row + rows), slice(column, column + columns)
        if move.out:
            there[place] = self.held[move.buffer][:rows, :columns]
            return
        dims = {"a": "mk", "b": "kn", "c": "mn"}[operand]
        whole = [self.here.units(d, s) * self.here.grain[d] for d, s in zip(dims, move.sizes)]
        self.held[move.buffer] = np.zeros(whole)
        self.held[move.buffer][:rows, :columns] = there[place]

    def compute(self, command: Compute) -> None:
        """C += A B on the buffers that the command names."""
        a, b, c = command.used
        product = self.held[a] @ self.held[b]
        self.held[c] = product if command.first else self.held[c] + product

    def largest_error(self) -> float:
        """Of C against the float64 product; infinite where an element was never stored."""
        import numpy as np

        error = np.abs(self.memory["c"] - self.memory["a"] @ self.memory["b"])
        return float(np.nan_to_num(error, nan=np.inf).max())
