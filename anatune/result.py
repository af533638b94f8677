"""What a tuning run leaves behind: a kernel to call, its plan, all candidates, reasons (rank 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from anatune.codegen.call import BoundCall, CheckedCall
from anatune.codegen.library import Code
from anatune.compiled import Compiled
from anatune.hwprofile import Profile
from anatune.measure.outcome import MEASURED, Measurement, Outcome, Timing
from anatune.model.constant_b import PackedAhead, packed_ahead
from anatune.model.explain import explain
from anatune.plan import Estimate, GemmPlan
from anatune.units import FLOP_RATE, TIME
from anatune.workload import Matmul

FOREIGN = "TVM's own search found this plan; the model has no terms for it"


@dataclass(frozen=True)
class Candidate:
    """One plan of the race: when it was proposed, what was predicted, what came out."""

    rank: int  # in the order of proposal; 1 is the model's pick
    plan: Any  # what `plan.read.read_any` reads
    predicted: Estimate | None  # None where the model has no terms for the plan
    measurement: Measurement

    @property
    def seconds(self) -> float | None:
        """Median of the measured samples, if there are any."""
        timing = self.measurement.timing
        return None if timing is None else timing.median_s

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for tables and JSON; times in seconds."""
        timing = self.measurement.timing
        return {
            "rank": self.rank,
            "plan": str(self.plan),
            "predicted_s": _seconds(self.predicted),
            "predicted_bound": None if self.predicted is None else self.predicted.bound,
            "measured_s": self.seconds,
            "spread_s": None if timing is None else timing.spread_s,
            "outcome": self.measurement.outcome.value,
            "note": self.measurement.note,
        }


class Raced:
    """What results have in common whose candidates were measured, or might have been."""

    workload: Any

    def _keep(
        self, profile: Profile, code: Code | None, candidates: Sequence[Candidate], chosen: int
    ) -> None:
        self.profile = profile
        self._code = code
        self.candidates = tuple(candidates)
        self._chosen = self.candidates[chosen]

    def __reduce__(self) -> tuple[Any, ...]:
        place = self.candidates.index(self._chosen)
        return type(self), (self.profile, self._code, self.candidates, place)

    @property
    def plan(self) -> Any:
        return self._chosen.plan

    @property
    def predicted(self) -> Estimate | None:
        return self._chosen.predicted

    @property
    def measured(self) -> Timing | None:
        return self._chosen.measurement.timing

    @property
    def measured_s(self) -> float | None:
        """Seconds of a call, the median; None where nothing was measured."""
        return self._chosen.seconds

    @property
    def failed(self) -> tuple[Candidate, ...]:
        """Candidates that led to no kernel that works; their notes say why."""
        fine = (*MEASURED, Outcome.SKIPPED)
        return tuple(c for c in self.candidates if c.measurement.outcome not in fine)

    @property
    def advice(self) -> str:
        """What to do about a timing that is not to be relied on; "" where it is."""
        return "" if self.measured is None else self._chosen.measurement.note

    def to_dataframe(self) -> Any:
        """The candidates as a pandas DataFrame, one row each; pandas must be installed."""
        import pandas

        return pandas.DataFrame([c.as_dict() for c in self.candidates])

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; times in seconds."""
        return {
            "workload": str(self.workload),
            "profile": self.profile.name,
            "plan": str(self.plan),
            "predicted_s": _seconds(self.predicted),
            "measured_s": self.measured_s,
            "flops": self.workload.flops,
            "candidates": [c.as_dict() for c in self.candidates],
        }

    def __repr__(self) -> str:
        measured = self.measured_s
        how = f"measured {TIME.show(measured)}" if measured else _foretold(self.predicted)
        return f"<anatune result: {self.workload}; {self.plan}; {how}>"


class Result(Compiled, Raced, CheckedCall):
    """A tuned kernel: call it like a function, ask it why.

    It can be pickled, its code included.

    Attributes:
        workload, profile: what was tuned, and for which machine.
        plan: the decision, a frozen value with ``to_json``.
        predicted: the model's `Estimate` of that plan; None where TVM's own search found it.
        measured: its `Timing`, or None where nothing was measured (``budget=0``, other machines).
        candidates: every plan that was proposed, in that order; the model's own for a shortlist.
    """

    def __init__(
        self,
        profile: Profile,
        code: Code | None,
        candidates: Sequence[Candidate],
        chosen: int,
    ) -> None:
        self._keep(profile, code, candidates, chosen)
        self._packing_s: float | None = None
        super().__init__(self.plan, lambda name: self._loaded[name])

    def bind(self, *, b: Any) -> BoundCall:
        """`CheckedCall.bind`; the seconds that packing took are kept for `packed_ahead`."""
        bound = super().bind(b=b)
        self._packing_s = bound.packing_s
        return bound

    @property
    def workload(self) -> Matmul:
        return self._chosen.plan.workload  # type: ignore[no-any-return]

    @property
    def packed_ahead(self) -> PackedAhead | None:
        """What a constant B costs and saves; None where B is not constant.

        Seconds are modelled, but for those of packing once `bind` did it.
        """
        if not self.workload.constant_b or not isinstance(self.plan, GemmPlan):
            return None
        found = packed_ahead(self.profile, self.plan)
        return found if self._packing_s is None else found.measured(self._packing_s)

    def explain(self) -> str:
        """Each equation of the model with its numbers, then predicted beside measured."""
        plan = self.plan
        reasons = explain(self.profile, plan) if isinstance(plan, GemmPlan) else FOREIGN
        lines = [reasons, "measured"]
        lines.append(f"  {self._measured_beside_predicted()}")
        if self._chosen.rank > 1:
            lines.append(f"  number {self._chosen.rank} of those proposed won the race")
        if self._packing_s is not None:
            lines.append(f"  constant B: {self.packed_ahead}")
        if self.advice:
            lines.append(f"  unstable: {self.advice}")
        lines += [f"  {c.rank}. {c.plan}: {_outcome(c)}" for c in self.candidates]
        return "\n".join(lines)

    def _measured_beside_predicted(self) -> str:
        timing, predicted = self.measured, self.predicted
        if timing is None:
            return "nothing: the plan is the model's alone"
        text = (
            f"{TIME.show(timing.median_s)} (median of {len(timing.samples_s)}, "
            f"spread {timing.spread_s / timing.median_s:.1%}), "
            f"{FLOP_RATE.show(self.workload.flops / timing.median_s)}"
        )
        if predicted is None:
            return text
        error = predicted.seconds / timing.median_s - 1
        return f"{text}; predicted {TIME.show(predicted.seconds)}, {error:+.1%}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; times in seconds."""
        return {**super().as_dict(), "constant_b": self._constant_b()}

    def _constant_b(self) -> dict[str, Any] | None:
        found = self.packed_ahead
        if found is None:
            return None
        return {**asdict(found), "pays_after_calls": found.pays_after_calls}


def _seconds(estimate: Estimate | None) -> float | None:
    return None if estimate is None else estimate.seconds


def _foretold(estimate: Estimate | None) -> str:
    return "not predicted" if estimate is None else f"predicted {TIME.show(estimate.seconds)}"


def _outcome(candidate: Candidate) -> str:
    measurement = candidate.measurement
    if measurement.timing is None:
        return f"{measurement.outcome.value}{': ' if measurement.note else ''}{measurement.note}"
    return (
        f"{_foretold(candidate.predicted)}, "
        f"measured {TIME.show(measurement.timing.median_s)}"
        + (" (unstable)" if measurement.outcome is Outcome.UNSTABLE else "")
    )
