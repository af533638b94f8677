"""Inside the worker: what all competitors share, from operands to the timed loop (rank 9)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anatune.errors import VerificationError
from anatune.measure.worker import BLAS_THREADS
from anatune.workload.dtypes import UNIT_ROUNDOFF
from anatune.workload.expression import OUT

if TYPE_CHECKING:
    import numpy as np

    from anatune.workload import Matmul

LONG_CALL_S = 0.1
"""A call that takes this many seconds warms itself up: none is spent before it uncounted."""

APPROXIMATE, APPROXIMATE_ROWS = 2.0**-16, 32
"""How far off a library's gelu may be besides rounding, and the rows looked at: oneDNN and ONNX
Runtime were seen 1e-6 off for arguments near 1. Ours is held to a stricter bound."""

IDLE_STEP_S, IDLE_SHARE, IDLE_PATIENCE_S = 0.01, 0.1, 1.0
"""Idle: a step in which all threads used less than this share of it; and how long it is awaited."""


@dataclass(frozen=True)
class About:
    """Name and version of a library; what is to be said of its result; what preparing it took."""

    library: str
    note: str = ""
    tuning_s: float | None = None


class Competitor:
    """One library call for one workload, with operands of its own, which begin cache lines.

    A subclass says in `prepare` what is called and in `library` who it is. It takes the product as
    it is: `registry` asks it only for what it can compute, in the type of C that it produces.
    """

    note = ""
    tuning_s: float | None = None

    def __init__(
        self, workload: Matmul, threads: int, environment: Mapping[str, str], *how: Any
    ) -> None:
        os.environ.update(dict.fromkeys(BLAS_THREADS, str(threads)))
        os.environ.update(environment)
        from anatune.measure import inputs, verify

        self.workload = workload
        self.threads = threads
        self.inputs = verify.operands(workload)
        self.c = inputs.untouched(workload.output)
        self._call = self.prepare(*how)
        self._long = False

    def prepare(self, *how: Any) -> Callable[[], Any]:
        """Do what is done once for many calls, such as packing B; return the call."""
        raise NotImplementedError

    def library(self) -> str:
        """Name and version."""
        raise NotImplementedError

    def about(self) -> About:
        """What is known after `check`."""
        return About(self.library(), self.note, self.tuning_s)

    def result(self, returned: Any) -> np.ndarray:
        """C of a call that returned ``returned``."""
        return self.c

    def check(self) -> str:
        """Run once and compare with the reference; "" or what is wrong with the result."""
        from anatune.measure import verify

        self._restore()
        start = time.perf_counter()
        c = self.result(self._call())
        self._long = time.perf_counter() - start > LONG_CALL_S
        try:
            verify.check(self.workload, self.inputs, c)
        except VerificationError as error:
            self.note = self._nearly(c)
            return "" if self.note else str(error)
        return ""

    def _nearly(self, c: np.ndarray) -> str:
        """By how much an approximate function is off; "" where there is none, or it is too much."""
        import numpy as np

        from anatune.workload.reference import reference

        w = self.workload
        if "gelu" not in w.epilogue:
            return ""
        rows = np.arange(min(w.m, APPROXIMATE_ROWS))
        want = reference(w, self.inputs, self.inputs.get(OUT), rows)
        error = np.abs(c[..., rows, :].astype(np.float64) - want)
        near = error <= APPROXIMATE + UNIT_ROUNDOFF.get(str(w.out_dtype), 0.0) * np.abs(want)
        return f"its gelu is approximate: off by {error.max():.1e}" if near.all() else ""

    def sample(self, calls: int) -> float:
        """Seconds per call over a batch of ``calls``, after one that is not counted."""
        if not self._long:
            self._run(1)
        start = time.perf_counter()
        self._run(calls)
        batch_s = time.perf_counter() - start
        wait_until_idle()
        return batch_s / calls

    def _run(self, calls: int) -> None:
        call = self._call
        for _ in range(calls):
            call()

    def _restore(self) -> None:
        """What C holds before a call is added to; where it is not, nobody must have written it."""
        if OUT in self.inputs:
            self.c[...] = self.inputs[OUT]


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
