"""Emptying the caches before a call: every thread reads more than they hold (rank 6)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anatune.codegen.operands import aligned
from anatune.hwprofile import Profile

OUTGROWS = 2
"""Times the last level of cache that is read: replacement is not strictly by age."""

DTYPE = "float32"

CHAINS = 8
"""Vectors that are added up at once: enough for reads to come at the memory's rate."""


@dataclass(frozen=True)
class Flush:
    """A "read" probe as it was built: its file and the lengths of what it reads and writes."""

    path: str
    data_elements: int
    out_elements: int

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Made once, before any kernel runs; only read afterwards, so that forks share them."""
        lengths = self.data_elements, self.out_elements
        data, out = (aligned((length,), np.dtype(DTYPE)) for length in lengths)
        data.fill(1)  # or the system would have one page of zeros stand for all
        return data, out


def flushed_bytes(profile: Profile) -> int:
    """Bytes that all threads together read to empty every level of every core's caches."""
    caches = profile.core.caches
    largest = max((level.size_bytes for level in caches), default=0)
    private = sum(level.size_bytes for level in caches[:-1]) * profile.usable_threads
    return int(OUTGROWS * max(largest, private))
