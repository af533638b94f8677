"""Vector loads that span two lines (rank 4)."""

from __future__ import annotations

from math import gcd

from anatune.plan.maps import MapPlan
from anatune.workload.dtypes import ELEMENT_BYTES
from anatune.workload.expression import Operand

SPANNING = 3.5
"""Loads that take as long as one that spans two lines: 1.75 cycles where 2 loads a cycle are
possible, of x[n-1] + x + x[n+1] in L1 of a Zen 5 guest. Stores showed no difference."""


def loads_of(plan: MapPlan, read: Operand, line_bytes: int) -> float:
    """Loads of a vector of ``read``, on average: 1 where it lies within a line.

    Arrays begin at a line; vectors of a row lie as its first one does.
    """
    vector = plan.lanes * ELEMENT_BYTES[read.dtype]
    spanning = (1 - _aligned_rows(plan, read, vector)) * min(1.0, vector / line_bytes)
    return 1 + spanning * (SPANNING - 1)


def _aligned_rows(plan: MapPlan, read: Operand, vector_bytes: int) -> float:
    """Share of rows that begin at a whole number of vectors: row i does at offset + i * stride,
    which gets to each multiple of gcd(stride, vector) from the offset on in turn."""
    w = plan.workload
    tensor = w.operands[read.name]
    down, right = w.shift(read)
    if len(tensor.shape) == 1 or plan.flat:
        offset = (down * w.n + right) * tensor.element_bytes
        return float(offset % vector_bytes == 0)
    step = gcd(tensor.leading * tensor.element_bytes, vector_bytes)
    return step / vector_bytes if right * tensor.element_bytes % step == 0 else 0.0
