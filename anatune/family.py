"""One kernel for a family of workloads, planned by the model, verified, with reasons (rank 7.8)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from anatune.codegen.family_call import FamilyCall
from anatune.codegen.library import Code
from anatune.compiled import Compiled
from anatune.errors import OptionError, VerificationError, WorkerError, require
from anatune.hwprofile import Profile
from anatune.measure.builder import Builder
from anatune.measure.entry import Entry
from anatune.measure.nursery import Nursery
from anatune.measure.outcome import Measurement
from anatune.measure.pinning import processors
from anatune.model.constant_b import PackedAhead, packed_ahead
from anatune.model.dynamic import MOST_BYTES, plan_family, predict_member
from anatune.model.explain_dynamic import explain_family
from anatune.plan import DynamicPlan, Estimate
from anatune.records import Kernels
from anatune.units import CAPACITY
from anatune.workload import Matmul

CHECKER = "anatune.measure.family_bench:FamilyBench"
"""What the process serves that checks members."""

CHECK_S = 60.0
"""Patience with the check of one member, seconds."""

CHECKED_FLOPS = 2e10
"""Largest member that is run to be checked: a second or two with its reference."""

Tell = Callable[[str], None]


class FamilyResult(Compiled, FamilyCall):
    """A kernel for all members of a family: call it like a function, ask it why.

    Attributes:
        workload, profile: what was planned, and for which machine.
        plan: the decision, a frozen `DynamicPlan`: variants, and the regions that they serve.
        checked: the members that were run and compared with the reference.
    """

    plan: DynamicPlan

    measured = None
    """Nothing is timed: the model alone decides."""

    def __init__(
        self,
        profile: Profile,
        plan: DynamicPlan,
        code: Code | None,
        checked: tuple[dict[str, int], ...],
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self.profile, self.plan, self.checked = profile, plan, checked
        self._code, self._most_bytes = code, most_bytes
        super().__init__(plan, lambda name: self._loaded[name])

    def __reduce__(self) -> tuple[Any, ...]:
        state = (self.profile, self.plan, self._code, self.checked, self._most_bytes)
        return FamilyResult, state

    @property
    def workload(self) -> Matmul:
        return self.plan.workload

    def predicted(self, **values: int) -> Estimate:
        """The estimate of the member whose dims have these values.

        Raises:
            WorkloadError: values that the family does not have.
        """
        return predict_member(self.profile, self.plan, **values)

    @property
    def packed_ahead(self) -> PackedAhead | None:
        """What a constant B costs and saves the largest member, modelled; None where it varies.

        Of a dim without an upper end, the smallest value counts.
        """
        if not self.workload.constant_b:
            return None
        ends = {dim.name: dim.high or dim.low for dim in self.workload.dims}
        return packed_ahead(self.profile, self.plan.member(**ends))

    @property
    def code_bytes(self) -> int:
        """Size of the compiled kernel, bytes; 0 where it is for another machine."""
        return 0 if self._code is None else len(self._code.content)

    def explain(self) -> str:
        """The regions and cuts with their predictions, then each variant's reasons."""
        told = [", ".join(f"{dim} = {v}" for dim, v in values.items()) for values in self.checked]
        lines = [explain_family(self.profile, self.plan), "verified (measured: nothing)"]
        lines += [f"  {line}" for line in told] or ["  nothing: compiled for another machine"]
        if self._code is not None:
            most = CAPACITY.show(self._most_bytes)
            over = f", above the {most} asked for" if self.code_bytes > self._most_bytes else ""
            lines.append(f"code: {CAPACITY.show(self.code_bytes)}{over}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "workload": str(self.workload),
            "profile": self.profile.name,
            "code_bytes": self.code_bytes,
            "regions": [
                {"region": str(r), "variant": r.variant, "plan": str(self.plan.of(r))}
                for r in self.plan.regions
            ],
            "checked": list(self.checked),
        }

    def __repr__(self) -> str:
        count = len(self.plan.variants)
        return f"<anatune kernel: {self.workload}; {count} variant(s); {self.plan}>"


def tune_family(
    family: Matmul,
    profile: Profile,
    threads: int | None,
    objective: str,
    budget: Any,
    code_bytes: int | None,
    here: bool,
    progress: Tell = lambda text: None,
) -> FamilyResult:
    """`tune` for a workload with dims: planned by the model, built, and verified on some members.

    Raises:
        OptionError: a budget: nothing is measured.
        BuildError, VerificationError, WorkerError: it cannot be built, or computes something else.
    """
    why = f"budget = {budget!r}: a workload with dims is planned by the model alone: leave it out"
    require(budget in (None, 0), why, OptionError)
    limit: Any = MOST_BYTES if code_bytes is None else code_bytes
    number = isinstance(limit, (int, float)) and not isinstance(limit, bool)
    why = f"code_bytes = {code_bytes!r}: a number of bytes above 0"
    require(number and limit > 0, why, OptionError)
    progress("planning")
    with Builder(processors(), Kernels()) as builder:
        builder.warm_up()
        plan = plan_family(profile, family, threads, objective, limit)
        progress(f"building {len(plan.variants)} variants")
        entry = Entry(plan)
        ((_, built),) = builder.build([entry])
        if isinstance(built, Measurement):
            raise built.outcome.error(f"{family}: {built.note}")
        if not here:
            return FamilyResult(profile, plan, None, (), limit)
        checked = tuple(_members(plan))
        _check(plan, built.path, checked, progress)
        builder.keep(plan)
        return FamilyResult(profile, plan, Code.of(built.path), checked, limit)


def _members(plan: DynamicPlan) -> Iterator[dict[str, int]]:
    """Each variant's smallest and largest value, and one between that divides by nothing."""
    seen: list[dict[str, int]] = []
    for number in range(1, len(plan.variants) + 1):
        regions = [region for region in plan.regions if region.variant == number]
        first, last = regions[0], regions[-1]
        low = {i.dim: i.low for i in first.intervals}
        high = {i.dim: i.high or 2 * i.low + 1 for i in last.intervals}
        odd = {i.dim: min(i.low + 2 * ((high[i.dim] - i.low) // 4) + 1, high[i.dim])
               for i in last.intervals}
        for values in (low, odd, high):
            small = plan.workload.at(**values).flops <= CHECKED_FLOPS
            if values not in seen and (small or not seen):
                seen.append(values)
                yield values


def _check(
    plan: DynamicPlan, path: str, members: tuple[dict[str, int], ...], progress: Tell
) -> None:
    """Run each of ``members`` in a process of its own. Raises VerificationError, WorkerError."""
    with Nursery(CHECKER, (plan.to_json(),), plan.threads) as nursery:
        cell = nursery.cell()
        try:
            for number, values in enumerate(members, 1):
                progress(f"checking member {number} of {len(members)}")
                wrong = cell.call("check", path, values, timeout_s=CHECK_S)
                require(not wrong, f"{plan.workload}: {wrong}", VerificationError)
        except WorkerError as error:
            raise WorkerError(f"{plan.workload}: while it was checked: {error}") from None
        finally:
            cell.kill()
