"""``numpy.matmul``, and through it the BLAS that numpy was built with (rank 9)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from anatune.report.competitors.base import Competitor

CORE_TYPE_VARIABLE = "OPENBLAS_CORETYPE"
"""How OpenBLAS is told the processor where it does not know it; read when the library is loaded."""


class NumpyMatmul(Competitor):
    """Operands as they lie: numpy hands transposed and apart rows to its BLAS without a copy."""

    def prepare(self) -> Callable[[], Any]:
        import numpy as np

        a, b = self.inputs["a"], self.inputs["b"]
        a = a.swapaxes(-1, -2) if self.workload.trans_a else a
        b = b.swapaxes(-1, -2) if self.workload.trans_b else b
        return partial(np.matmul, a, b, out=self.c)

    def library(self) -> str:
        return f"numpy ({blas_name()})"


def blas_name() -> str:
    """The BLAS that numpy was built with, as numpy states it."""
    import numpy as np

    config = np.show_config(mode="dicts")
    return str(config["Build Dependencies"]["blas"]["name"])
