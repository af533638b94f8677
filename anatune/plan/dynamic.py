"""The plan of a workload whose extents vary: variants, and which values each serves (rank 3)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from anatune.errors import require
from anatune.plan.gemm import GemmPlan
from anatune.plan.nouns import CodeTarget
from anatune.plan.plain import build, json_fields, plain
from anatune.workload import Matmul


def as_member(plan: GemmPlan, workload: Matmul) -> GemmPlan:
    """What the code of ``plan``, made for another member of a family, does for this one."""
    busy = min(plan.grid.batch, workload.batch)  # of a smaller batch the other threads get nothing
    return replace(plan, workload=workload, grid=replace(plan.grid, batch=busy))


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Values of a dim from ``low`` to ``high``, both included; None: all from ``low`` on."""

    dim: str
    low: int
    high: int | None = None

    def __contains__(self, value: int) -> bool:
        return self.low <= value and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{self.dim} = {self.low}"
        end = "on" if self.high is None else f"to {self.high}"
        return f"{self.dim} from {self.low} {end}"


@dataclass(frozen=True, kw_only=True)
class Region:
    """Values, one interval per dim, that one variant serves; ``variant`` counts from 1."""

    intervals: tuple[Interval, ...]
    variant: int

    @property
    def ends(self) -> tuple[dict[str, int], ...]:
        """Its smallest values, and its largest as far as there are any; one where these are one."""
        low = {i.dim: i.low for i in self.intervals}
        high = {i.dim: i.low if i.high is None else i.high for i in self.intervals}
        return (low,) if low == high else (low, high)

    def __contains__(self, values: Mapping[str, int]) -> bool:
        return all(values[interval.dim] in interval for interval in self.intervals)

    def __str__(self) -> str:
        return ", ".join(map(str, self.intervals))


@dataclass(frozen=True, kw_only=True)
class DynamicPlan:
    """One artefact for all members of a family of workloads.

    Attributes:
        workload: the family, dims in its extents.
        variants: plans for a member each, with covers for the extents that vary: the code that is
            made of one serves every other member as well.
        regions: parts of the range without a gap or an overlap, each served by one variant.
    """

    workload: Matmul
    variants: tuple[GemmPlan, ...]
    regions: tuple[Region, ...]

    def __post_init__(self) -> None:
        require(self.variants, "variants: at least one")
        require(self.regions, "regions: at least one")
        names = {dim.name for dim in self.workload.dims}
        for region in self.regions:
            why = f"variant = {region.variant}: one of {len(self.variants)}"
            require(1 <= region.variant <= len(self.variants), why)
            given = {interval.dim for interval in region.intervals}
            require(given == names, f"{region}: an interval for each of {', '.join(sorted(names))}")
        alike = len({(v.target, v.packed_ahead_layout) for v in self.variants}) == 1
        require(alike, "variants: of one target, and with one form of a B that is packed ahead")

    @property
    def target(self) -> CodeTarget:
        return self.variants[0].target

    @property
    def threads(self) -> int:
        """Threads of the variant that uses most."""
        return max(variant.threads for variant in self.variants)

    @cached_property
    def first(self) -> GemmPlan:
        return self.variants[0]

    def of(self, region: Region) -> GemmPlan:
        """The variant of a region."""
        return self.variants[region.variant - 1]

    def member(self, **values: int) -> GemmPlan:
        """What the artefact does for the member whose dims have these values, as its plan.

        Raises:
            WorkloadError: values that the family does not have.
            IllegalPlan: values beyond the regions.
        """
        workload = self.workload.at(**values)
        return as_member(self.variant_at(**values), workload)

    def variant_at(self, **values: int) -> GemmPlan:
        """The variant that serves these values of the dims. Raises IllegalPlan beyond the range."""
        found = next((region for region in self.regions if values in region), None)
        require(found is not None, f"{values}: in none of the regions")
        assert found is not None
        return self.of(found)

    def to_json(self) -> str:
        """The plan as one line of JSON that `from_json` reads back."""
        return json.dumps({"kind": "dynamic", **plain(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> DynamicPlan:
        """The plan that `to_json` wrote. Raises IllegalPlan as `GemmPlan.from_json` does."""
        plan: DynamicPlan = build(cls, json_fields(text, "dynamic"), "plan")
        return plan

    def __str__(self) -> str:
        parts = (f"{region}: {self.of(region)}" for region in self.regions)
        return "; ".join(parts)
