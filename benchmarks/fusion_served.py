"""Inside the workers of the benchmarks of fusion: kernels that all compute in the same memory.

Where the pages of operands lie costs or saves some percent; the same pages for all ways leave that
out of the comparison of one with another, and a new process moves all of them elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from anatune.measure.group_bench import DependentBench, GroupBench


class _OneMemory:
    """Before a class that gives each kernel a copy of the operands."""

    _given: Sequence[np.ndarray] | None = None

    def _arguments(self, module: Any, packed: Any) -> Sequence[np.ndarray]:
        if self._given is None:
            self._given = super()._arguments(module, packed)  # type: ignore[misc]
        return self._given


class Independent(_OneMemory, GroupBench):
    """Kernels of a `Fused`."""


class Dependent(_OneMemory, DependentBench):
    """Kernels of a `Group`."""
