"""What became of one candidate: an outcome by name and the raw samples (rank 6)."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from enum import Enum

from anatune.errors import AnatuneError, BuildError, IllegalPlan, VerificationError, WorkerError
from anatune.units import TIME

UNSTABLE_SPREAD = 0.10
"""Spread over median above which a timing is called unstable: pyperf's threshold for a warning."""

CALM = 0.06
"""Share by which the reference kernel may be slower than on the quiet machine around a sample that
counts as undisturbed: below what a neighbour on a shared cache takes, above a timer's noise."""

FASTER = 0.03
"""Share by which it may be faster: beyond that, the clock was another. Less than `CALM`, as what is
taken for the quiet machine is among the fastest samples as it is."""

FEW = 3
"""Undisturbed samples from which a median is taken."""


class Outcome(str, Enum):
    """How the build and the runs of a candidate ended."""

    OK = "ok"
    ILLEGAL = "illegal"  # the plan, or an instruction in its code
    COMPILE_ERROR = "compile error"
    RUN_ERROR = "run error"  # a signal such as SIGSEGV, an exit, an error that the kernel returned
    WRONG_RESULT = "wrong result"
    TIMEOUT = "timeout"
    KILLED = "killed"  # by us for the memory it took, or from outside
    UNSTABLE = "unstable"  # measured, with a spread that no repetition mended
    SKIPPED = "not measured"

    @property
    def error(self) -> type[AnatuneError]:
        """The class of the error that this outcome is where no other candidate is left."""
        return _ERRORS.get(self, WorkerError)


_ERRORS: dict[Outcome, type[AnatuneError]] = {
    Outcome.COMPILE_ERROR: BuildError,
    Outcome.ILLEGAL: IllegalPlan,
    Outcome.WRONG_RESULT: VerificationError,
}

MEASURED = (Outcome.OK, Outcome.UNSTABLE)
"""Outcomes that come with a timing once the candidate was timed."""


@dataclass(frozen=True)
class Timing:
    """Seconds per call, one sample per batch of calls, in the order in which they were taken.

    Attributes:
        samples_s: all that were taken once the kernel was warm; none is left out.
        references_s: what the reference kernel took around each sample; empty where none ran.
        quiet_s: what it took while the machine was quiet; 0 where none ran.
        warm_up_s: samples before those, until they fell no more.
    """

    samples_s: tuple[float, ...]
    references_s: tuple[float, ...] = ()
    quiet_s: float = 0.0
    warm_up_s: tuple[float, ...] = ()

    @property
    def calm_s(self) -> tuple[float, ...]:
        """Samples that nothing disturbed; all of them where no reference ran."""
        if not self.references_s:
            return self.samples_s
        low, high = self.quiet_s * (1 - FASTER), self.quiet_s * (1 + CALM)
        pairs = zip(self.samples_s, self.references_s)
        return tuple(sample for sample, reference in pairs if low <= reference <= high)

    @property
    def corrected_s(self) -> tuple[float, ...]:
        """Samples scaled to a quiet machine by what the reference kernel lost around each."""
        if not self.references_s:
            return self.samples_s
        return tuple(s * self.quiet_s / r for s, r in zip(self.samples_s, self.references_s))

    @property
    def disturbed(self) -> bool:
        """Whether so few samples are undisturbed that their median says little."""
        return len(self.calm_s) < min(FEW, len(self.samples_s))

    @property
    def judged_s(self) -> tuple[float, ...]:
        """Samples that the median is taken of: where none is undisturbed, all, corrected."""
        return self.calm_s or self.corrected_s

    @property
    def median_s(self) -> float:
        return statistics.median(self.judged_s)

    @property
    def best_s(self) -> float:
        return min(self.samples_s)

    @property
    def spread_s(self) -> float:
        """Median absolute deviation from the median: not moved by a few disturbed samples."""
        middle = self.median_s
        return statistics.median(abs(s - middle) for s in self.judged_s)

    @property
    def unstable(self) -> bool:
        return self.spread_s > UNSTABLE_SPREAD * self.median_s

    def __str__(self) -> str:
        count, spread = len(self.samples_s), self.spread_s / self.median_s if self.median_s else 0.0
        return f"{TIME.show(self.median_s)}, median of {count}, spread {spread:.1%}"


@dataclass(frozen=True)
class Measurement:
    """Outcome of one candidate; ``timing`` is there once it was timed, ``note`` for failures."""

    outcome: Outcome
    timing: Timing | None = None
    note: str = ""
    build_s: float = 0.0  # that compiling it took; 0 where it was at hand
