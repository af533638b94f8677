"""What became of one candidate: an outcome by name and the raw samples (rank 6)."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from enum import Enum

from anatune.errors import AnatuneError, BuildError, VerificationError, WorkerError
from anatune.units import TIME

UNSTABLE_SPREAD = 0.10
"""Spread over median above which a timing is called unstable: pyperf's threshold for a warning."""


class Outcome(str, Enum):
    """How the build and the runs of a candidate ended."""

    OK = "ok"
    COMPILE_ERROR = "compile error"
    WRONG_RESULT = "wrong result"
    RUN_ERROR = "run error"
    CRASHED = "crashed"
    TIMEOUT = "timeout"
    SKIPPED = "not measured"

    @property
    def error(self) -> type[AnatuneError]:
        """The class of the error that this outcome is where no other candidate is left."""
        classes = {Outcome.COMPILE_ERROR: BuildError, Outcome.WRONG_RESULT: VerificationError}
        return classes.get(self, WorkerError)


@dataclass(frozen=True)
class Timing:
    """Seconds per call, one sample per batch of calls, in the order in which they were taken."""

    samples_s: tuple[float, ...]

    @property
    def median_s(self) -> float:
        return statistics.median(self.samples_s)

    @property
    def best_s(self) -> float:
        return min(self.samples_s)

    @property
    def spread_s(self) -> float:
        """Median absolute deviation from the median: not moved by a few disturbed samples."""
        middle = self.median_s
        return statistics.median(abs(s - middle) for s in self.samples_s)

    @property
    def unstable(self) -> bool:
        return self.spread_s > UNSTABLE_SPREAD * self.median_s

    def __str__(self) -> str:
        count, spread = len(self.samples_s), self.spread_s / self.median_s if self.median_s else 0.0
        return f"{TIME.show(self.median_s)}, median of {count}, spread {spread:.1%}"


@dataclass(frozen=True)
class Measurement:
    """Outcome of one candidate; ``timing`` is there for `Outcome.OK`, ``note`` for all others."""

    outcome: Outcome
    timing: Timing | None = None
    note: str = ""
