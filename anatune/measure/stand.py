"""Kernels that stand ready to be timed by whoever compares them (rank 6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from anatune.measure.builder import Builder, KernelCache
from anatune.measure.entry import Entry
from anatune.measure.outcome import Measurement, Outcome
from anatune.measure.runner import HANG_FACTOR, START_S, LocalRunner
from anatune.plan import Plan

Batch = Callable[[int], float]
"""Seconds per call, on average, over so many calls."""


class Stand:
    """Kernels of one workload, each in a process of its own; a context manager.

    Args:
        plans: those that may be asked for.
        longest_s: what the slowest of them may take; bounds how long it is waited for.
        cache: where kernels are looked for before they are built, and kept; None: nowhere.
    """

    def __init__(
        self, plans: Sequence[Plan], longest_s: float = 0.0, cache: KernelCache | None = None
    ) -> None:
        threads = max(plan.threads for plan in plans)
        patience_s = START_S + HANG_FACTOR * longest_s
        self._builder = Builder(jobs=threads, cache=cache)
        self._runner = LocalRunner(plans[0].workload, threads, self._builder, start_s=patience_s)

    def __enter__(self) -> Stand:
        self._builder.__enter__()
        self._runner.__enter__()
        return self

    def __exit__(self, *reason: object) -> None:
        self._runner.__exit__(*reason)
        self._builder.__exit__(*reason)

    def ready(self, plans: Sequence[Plan]) -> dict[Plan, Batch | Measurement]:
        """Each plan built and verified, to be timed; or what went wrong with it."""
        found: dict[Plan, Batch | Measurement] = {}
        for entry, made in self._runner.prepare([Entry(plan) for plan in dict.fromkeys(plans)]):
            found[entry.plan] = self._batch(entry) if made.outcome is Outcome.OK else made
        return found

    def _batch(self, entry: Entry) -> Batch:
        return lambda calls: self._runner.mean(entry, calls)
