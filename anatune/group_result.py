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
from anatune.model.explain_group import explain_group
from anatune.plan.fusion import FusionEstimate, FusionPlan
from anatune.plan.group import GroupEstimate, GroupPlan
from anatune.units import TIME
from anatune.workload.fused import Fused, Workload
from anatune.workload.group import Group


@dataclass(frozen=True)
class GroupCandidate:
    """One way to compute the workloads: what was predicted, and what came out."""

    plan: FusionPlan | GroupPlan
    predicted: FusionEstimate | GroupEstimate
    measurement: Measurement
    measured_s: float | None = None  # fastest of some rounds; None where it was not timed


class GroupResult(Compiled, GroupCall):
    """A tuned kernel for several workloads: call it like a function, ask it why.

    Attributes:
        workload, profile: what was tuned, and for which machine.
        plan: a frozen `FusionPlan`, or a `GroupPlan` where workloads read each other's results,
            with ``to_json``; ``decision`` says what it came to.
        predicted: the model's `FusionEstimate` or `GroupEstimate`.
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
    def workload(self) -> Fused | Group | Workload:
        """What was tuned, as it was given."""
        whole = self.plan.workload
        single = self._single_workload and isinstance(whole, Fused)
        return whole.members[0] if single else whole  # type: ignore[union-attr]

    @property
    def plan(self) -> FusionPlan | GroupPlan:
        return self._chosen.plan

    @property
    def decision(self) -> str:
        """"fused", "side_by_side" or "one_by_one"."""
        return self.plan.decision.value

    @property
    def predicted(self) -> FusionEstimate | GroupEstimate:
        return self._chosen.predicted

    @property
    def measured_s(self) -> float | None:
        """Seconds of a call; None where nothing was measured."""
        return self._chosen.measured_s

    def explain(self) -> str:
        """The predicted times of all ways, what binds each workload, and who computes what."""
        ways = [(c.plan, c.predicted) for c in self.candidates]
        explained: Any = explain_group if isinstance(self.plan, GroupPlan) else explain_fusion
        lines = [explained(self.profile, ways, self.plan), "measured"]
        for c in self.candidates:
            seconds = c.measured_s
            said = TIME.show(seconds) if seconds else c.measurement.note or "nothing"
            lines.append(f"  {c.plan.decided}: {said}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<anatune result: {self.workload}; {self.decision}; predicted {self.predicted}>"
