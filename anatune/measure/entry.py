"""A candidate on its way into the race (rank 6)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from anatune.plan import Estimate


@dataclass(frozen=True)
class Entry:
    """A plan that is to be measured, and what the model says of it; two of one plan are equal.

    Attributes:
        predicted: None where the model has no terms for the plan.
        engine: who proposed it: "model", "evolve" or "metaschedule".
    """

    plan: Any  # what `plan.read.read_any` reads
    predicted: Estimate | None = field(default=None, compare=False)
    engine: str = field(default="model", compare=False)

    @property
    def predicted_s(self) -> float:
        """Seconds that bound how long it is waited for; 0 where nothing is predicted."""
        return 0.0 if self.predicted is None else self.predicted.seconds
