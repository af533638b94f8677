"""A kernel that TVM's own search found: a trace of schedule instructions, as data (rank 3)."""

from __future__ import annotations

import json
from dataclasses import dataclass

from anatune.errors import require
from anatune.plan.nouns import CodeTarget
from anatune.plan.plain import build, json_fields, plain
from anatune.workload import Matmul


@dataclass(frozen=True, kw_only=True)
class SchedulePlan:
    """What `tvm.s_tir.Trace` needs to schedule the plain loops of a product again.

    Attributes:
        trace: ``Trace.as_json()`` as one line of JSON; replayed on the loops that
            `codegen.scheduled` writes down for ``workload``.
        threads: threads that its parallel loops may use.
    """

    workload: Matmul
    target: CodeTarget
    threads: int
    trace: str

    def __post_init__(self) -> None:
        why = f"threads = {self.threads!r}: a whole number from 1 on"
        require(isinstance(self.threads, int) and self.threads >= 1, why)

    def to_json(self) -> str:
        """The plan as one line of JSON that `from_json` reads back."""
        return json.dumps({"kind": "schedule", **plain(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> SchedulePlan:
        """The plan that `to_json` wrote. Raises IllegalPlan as `GemmPlan.from_json` does."""
        plan: SchedulePlan = build(cls, json_fields(text, "schedule"), "plan")
        return plan

    @property
    def tiles(self) -> tuple[tuple[int, ...], ...]:
        """Factors that loops were cut by, outermost first: the trace's decisions of more than one
        number. Empty where the trace cannot be read."""
        try:
            _, decisions = json.loads(self.trace)
            cuts = [made for _, made in decisions if isinstance(made, list) and len(made) > 1]
        except (ValueError, TypeError):
            return ()
        return tuple(tuple(cut) for cut in cuts)

    def __str__(self) -> str:
        cuts = ", ".join("x".join(map(str, cut)) for cut in self.tiles)
        threads = f"{self.threads} threads" if self.threads > 1 else "1 thread"
        return f"TVM schedule, loops cut {cuts or 'nowhere'}, {threads}"
