"""Inside the worker: what runs beside our kernel, one library call in its own process (rank 9).

Nothing here imports numpy at the top: a BLAS reads its environment while it is loaded, so the
settings are written first and numpy is imported after them.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from anatune.errors import VerificationError
from anatune.measure.worker import BLAS_THREADS

if TYPE_CHECKING:
    from anatune.workload import Matmul

CORE_TYPE_VARIABLE = "OPENBLAS_CORETYPE"
"""How OpenBLAS is told the processor where it does not know it; read when the library is loaded."""

IDLE_STEP_S, IDLE_SHARE, IDLE_PATIENCE_S = 0.01, 0.1, 1.0
"""Idle: a step in which all threads used less than this share of it; and how long it is awaited."""


class NumpyMatmul:
    """``numpy.matmul`` of one workload, with its own operands and a BLAS told what to be."""

    def __init__(self, workload: Matmul, threads: int, core_type: str | None = None) -> None:
        os.environ.update(dict.fromkeys(BLAS_THREADS, str(threads)))
        if core_type is not None:
            os.environ[CORE_TYPE_VARIABLE] = core_type
        import numpy as np

        from anatune.measure import verify

        self._workload = workload
        self._matmul = np.matmul
        self._inputs = verify.operands(workload)
        self._c = np.full(workload.output, np.nan, workload.dtype)

    def library(self) -> str:
        """Name of the BLAS that numpy was built with, as numpy states it."""
        import numpy as np

        config = np.show_config(mode="dicts")
        return str(config["Build Dependencies"]["blas"]["name"])

    def check(self) -> str:
        """Run once and compare with float64; "" or what is wrong with the result."""
        from anatune.measure import verify

        self._run(1)
        try:
            verify.check(self._workload, self._inputs, self._c)
        except VerificationError as error:
            return str(error)
        return ""

    def sample(self, calls: int) -> float:
        """Seconds per call over a batch of ``calls``, after one that is not counted."""
        self._run(1)
        start = time.perf_counter()
        self._run(calls)
        batch_s = time.perf_counter() - start
        wait_until_idle()
        return batch_s / calls

    def _run(self, calls: int) -> None:
        a, b, c = self._inputs["a"], self._inputs["b"], self._c
        for _ in range(calls):
            self._matmul(a, b, out=c)


def wait_until_idle() -> None:
    """Return when this process's threads have gone to sleep, or after `IDLE_PATIENCE_S`.

    A library's threads spin for a while after their work, OpenBLAS's for tens of milliseconds, and
    would slow down whoever has the next turn: seen to double the time of a kernel on two cores.
    """
    end = time.perf_counter() + IDLE_PATIENCE_S
    while time.perf_counter() < end:
        used_s = time.process_time()
        time.sleep(IDLE_STEP_S)
        if time.process_time() - used_s < IDLE_SHARE * IDLE_STEP_S:
            return
