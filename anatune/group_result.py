"""What tuning several workloads together leaves behind: a kernel, a decision, reasons (rank 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from anatune.codegen.group_call import GroupCall
from anatune.codegen.library import Code
from anatune.compiled import Compiled
from anatune.hwprofile import Profile
from anatune.measure.outcome import Measurement
from anatune.model.explain_fusion import explain_fusion
from anatune.plan.fusion import FusionEstimate, FusionPlan
from anatune.units import TIME
from anatune.workload.fused import Fused, Workload


@dataclass(frozen=True)
class GroupCandidate:
    """One way to compute the workloads: what was predicted, and what came out."""

    plan: FusionPlan
    predicted: FusionEstimate
    measurement: Measurement
    measured_s: float | None = None  # fastest of some rounds; None where it was not timed


class GroupResult(Compiled, GroupCall):
    """A tuned kernel for several workloads: call it like a function, ask it why.

    Attributes:
        workload, profile: what was tuned, and for which machine.
        plan: a frozen `FusionPlan` with ``to_json``; ``decision`` says what it came to.
        predicted: the model's `FusionEstimate`.
        candidates: the ways that were considered, the model's pick first.
    """

    def __init__(
        self, profile: Profile, code: Code | None, candidates: Sequence[GroupCandidate],
        chosen: int, single: bool,
    ) -> None:  # fmt: skip
        self.profile, self._code, self._single_workload = profile, code, single
        self.candidates = tuple(candidates)
        self._chosen = self.candidates[chosen]
        super().__init__(self.plan.workload, single, lambda name: self._loaded[name])

    def __reduce__(self) -> tuple[Any, ...]:
        place = self.candidates.index(self._chosen)
        return GroupResult, (
            self.profile, self._code, self.candidates, place, self._single_workload,
        )  # fmt: skip

    @property
    def workload(self) -> Fused | Workload:
        """What was tuned, as it was given."""
        fused = self.plan.workload
        return fused.members[0] if self._single_workload else fused

    @property
    def plan(self) -> FusionPlan:
        return self._chosen.plan

    @property
    def decision(self) -> str:
        """"fused", "side_by_side" or "one_by_one"."""
        return self.plan.decision.value

    @property
    def predicted(self) -> FusionEstimate:
        return self._chosen.predicted

    @property
    def measured_s(self) -> float | None:
        """Seconds of a call; None where nothing was measured."""
        return self._chosen.measured_s

    def explain(self) -> str:
        """The predicted times of all ways, what binds each workload, and who computes what."""
        ways = [(c.plan, c.predicted) for c in self.candidates]
        lines = [explain_fusion(self.profile, ways, self.plan), "measured"]
        for c in self.candidates:
            seconds = c.measured_s
            said = TIME.show(seconds) if seconds else c.measurement.note or "nothing"
            lines.append(f"  {c.plan.decision.value}: {said}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<anatune result: {self.workload}; {self.decision}; predicted {self.predicted}>"
