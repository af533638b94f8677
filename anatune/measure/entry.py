"""A candidate on its way into the race (rank 6)."""

from __future__ import annotations

from dataclasses import dataclass

from anatune.plan import Estimate, Plan


@dataclass(frozen=True)
class Entry:
    """A plan that is to be measured, and what the model says of it.

    Attributes:
        predicted: None where the model has no terms for the plan.
        engine: who proposed it: "model", "evolve" or "metaschedule".
    """

    plan: Plan
    predicted: Estimate | None = None
    engine: str = "model"

    @property
    def predicted_s(self) -> float:
        """Seconds that bound how long it is waited for; 0 where nothing is predicted."""
        return 0.0 if self.predicted is None else self.predicted.seconds
