"""A foreign micro-kernel before it counts: verified and timed where it may crash (rank 6)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

from anatune.errors import VerificationError, WorkerError
from anatune.measure.alone import alone
from anatune.measure.worker import HUNG, Worker, WorkerFailure
from anatune.plan import CodeTarget, ExternalKernel, KernelCost
from anatune.workload.dtypes import ELEMENT_BYTES

STEPS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33, 64, 129)
"""Numbers of steps that a kernel is checked for: around every usual factor of unrolling."""

WIDER = (0, 1, 24)
"""Elements by which rows of C are longer than the tile in checks."""

BUILD_S, CALL_S = 60.0, 10.0
"""Patience with the compiler, and with a call: thousands of times what they take."""

L1_SHARE = 0.5
"""Share of L1 that both panels take at most while a kernel is timed: it then reads from there."""


@contextmanager
def on_trial(kernel: ExternalKernel, target: CodeTarget) -> Iterator[OnTrial]:
    """``kernel`` built in a process of its own.

    Raises:
        VerificationError: it cannot be built.
        WorkerError: no process can be started.
    """
    with tempfile.TemporaryDirectory(prefix="anatune-") as folder:
        factory = "anatune.measure.external_bench:Trial"
        with Worker(factory, (kernel, target, folder), threads=1) as worker:
            try:
                path = worker.call("build", timeout_s=BUILD_S)
            except WorkerError as error:
                raise _refused(kernel, f"cannot be built: {error}") from None
            yield OnTrial(kernel, worker, path)


class OnTrial:
    """A built kernel that can be checked and timed."""

    def __init__(self, kernel: ExternalKernel, worker: Worker, path: str) -> None:
        self._kernel, self._worker, self._path = kernel, worker, path

    def verify(self) -> None:
        """Compare with float64 on whole numbers whose sums are exact.

        Raises:
            VerificationError: naming the call and what it did: a wrong value, something written
                outside of the tile, a signal.
        """
        for k, wider, accumulate in product(STEPS, WIDER, (False, True)):
            ldc = self._kernel.nr + wider
            case = f"k = {k}, ldc = {ldc}, accumulate = {int(accumulate)}"
            try:
                wrong = self._worker.call(
                    "check", self._path, k, ldc, accumulate, timeout_s=CALL_S
                )
            except WorkerError as error:
                wrong = _ended(error)
            if wrong:
                raise _refused(self._kernel, f"{case}: {wrong}")

    def measure(self, hz: float, l1_bytes: int) -> KernelCost:
        """Its cost at a clock of ``hz``, for as many steps as L1 keeps the panels of."""
        row_bytes = (self._kernel.mr + self._kernel.nr) * ELEMENT_BYTES[self._kernel.dtype]
        most = max(4, int(L1_SHARE * l1_bytes) // row_bytes)
        steps = tuple(1 << x for x in range(most.bit_length()) if 1 << x <= most)
        with alone():
            seconds = [
                self._worker.call("seconds", self._path, k, timeout_s=CALL_S) for k in steps
            ]
        cycles = tuple(float(f"{s * hz:.4g}") for s in seconds)
        return KernelCost(steps=steps, cycles=cycles, origin="measurements at registration")


def _refused(kernel: ExternalKernel, why: str) -> VerificationError:
    return VerificationError(f"micro-kernel {kernel.name!r}: {why}")


def _ended(error: WorkerError) -> str:
    """What ended a call, in words."""
    if not isinstance(error, WorkerFailure):
        return str(error)
    if error.how == HUNG:
        return f"no answer in {CALL_S:.0f} s"
    if error.signal == "SIGSEGV":
        return (
            "died of SIGSEGV: does it reach beyond its panels (state reads_ahead_steps) or its "
            "tile, or take panels to begin elsewhere?"
        )
    return f"died: {error}"
