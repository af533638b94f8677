"""What tuning leaves behind of all that is no single product: code, a decision, reasons (rank 7).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anatune.codegen.group_call import GroupCall
from anatune.codegen.library import Code
from anatune.compiled import Compiled
from anatune.hwprofile import Profile
from anatune.model import joint
from anatune.result import Candidate, Raced
from anatune.units import TIME


class GroupResult(Compiled, Raced, GroupCall):
    """A tuned kernel for a workload that is no single product: call it like a function, ask it why.

    It can be pickled, its code included.

    Attributes:
        workload, profile: what was tuned, and for which machine.
        plan: a frozen value with ``to_json``: a `MapPlan`; of `fused` a `FusionPlan`; where
            workloads read each other's results a `GroupPlan`.
        predicted: the model's `Estimate` of that plan.
        measured: its `Timing`, or None where nothing was measured (``budget=0``, other machines).
        candidates: the ways that were considered, the model's pick first.
    """

    def __init__(
        self, profile: Profile, code: Code | None, candidates: Sequence[Candidate], chosen: int
    ) -> None:
        self._keep(profile, code, candidates, chosen)
        super().__init__(self.workload, lambda name: self._loaded[name])

    @property
    def workload(self) -> Any:
        return self.plan.workload

    @property
    def decision(self) -> str:
        """What became of workloads that were fused: "fused", "side_by_side" or "one_by_one"."""
        decision = getattr(self.plan, "decision", None)
        return "" if decision is None else str(decision.value)

    def explain(self) -> str:
        """The predicted times of all ways and what binds them, then predicted beside measured."""
        ways = [(c.plan, c.predicted) for c in self.candidates if c.predicted is not None]
        lines = [joint.explain(self.profile, self.plan, ways), "measured"]
        for c in self.candidates:
            seconds = c.seconds
            said = TIME.show(seconds) if seconds else c.measurement.note or "nothing"
            lines.append(f"  {c.rank}. {c.plan.decided}: {said}")
        return "\n".join(lines)
