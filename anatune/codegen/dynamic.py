"""Plan -> TIR of a family of products: variants behind a dispatcher, in one function (rank 5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from anatune.codegen.call import ENTRY, PACK_ENTRY
from anatune.codegen.convert import stored
from anatune.codegen.gemm import emit_pack_ahead, emit_product, function
from anatune.codegen.sizes import Sizes, by_value, settled
from anatune.codegen.vectors import index
from anatune.plan import DynamicPlan, Interval, Region, Storage
from anatune.workload import Dim, Extent, Matmul, Tensor
from anatune.workload.dim import at, dims_of, solve

FIELDS = ("m", "n", "k", "batch")
"""Extents of a product."""


@dataclass(frozen=True)
class _Names:
    """A variable for each extent that varies, taken from the shapes of the arrays at each call."""

    variables: Mapping[Extent, Any]

    @classmethod
    def of(cls, workload: Matmul) -> _Names:
        extents = [getattr(workload, name) for name in FIELDS]
        varying = dict.fromkeys(e for e in extents if dims_of(e))
        return cls({e: tirx.Var(f"extent{n}", "int64") for n, e in enumerate(varying)})

    def extent(self, extent: Any) -> Any:
        return self.variables[extent] if extent in self.variables else index(extent)

    def values(self) -> dict[str, Any]:
        """The dims by name."""
        return solve(self.variables)

    def buffer(self, tensor: Tensor) -> Any:
        shape = [self.extent(extent) for extent in tensor.shape or (1,)]
        values = self.values()
        apart: dict[str, Any] = {}
        if not tensor.compact:
            strides = (at(step, values) for step in tensor.strides)
            apart = {"strides": [index(s) if isinstance(s, int) else s for s in strides]}
        return T.buffer(shape, stored(tensor.dtype), align=tensor.element_bytes, **apart)


def lower_dynamic(plan: DynamicPlan) -> dict[str, tirx.PrimFunc]:
    """The functions of ``plan`` by name, called as those of `gemm.lower_gemm` are.

    ``main`` takes arrays of any extents that are members of the family. It refuses values beyond a
    dim's range by itself: blocks are no longer than those within need.
    """
    w, first = plan.workload, plan.first
    names = _Names.of(w)
    inputs = dict(w.operands)
    functions = {}
    if first.b is Storage.PACKED_AHEAD:
        packed = {"packed_b": Tensor.rows(first.packed_ahead_shape, first.multiply.b)}
        pack = {"b": inputs.pop("b"), **packed}
        functions[PACK_ENTRY] = function(
            PACK_ENTRY, pack, [first], names.buffer, lambda b: emit_pack_ahead(Sizes(first), b)
        )
        inputs = {"a": inputs.pop("a"), **packed, **inputs}

    def body(buffers: Mapping[str, Any]) -> None:
        values = {name: T.bind(value) for name, value in names.values().items()}
        varying = {f: names.extent(getattr(w, f)) for f in FIELDS if dims_of(getattr(w, f))}

        def emit(variant: int) -> None:
            largest = _largest(plan, variant)
            emit_product(Sizes(plan.variants[variant - 1], varying, largest), buffers)

        for dim in (dim for dim in w.dims if dim.high is not None):
            with T.Assert(values[dim.name] <= dim.high, _beyond(dim)):
                pass

        numbers = sorted({region.variant for region in plan.regions})
        by_value(settled(_variant_at(list(plan.regions), values)), numbers, emit)

    tensors = {**inputs, "c": w.output}
    functions[ENTRY] = function(ENTRY, tensors, list(plan.variants), names.buffer, body)
    return functions


def _largest(plan: DynamicPlan, variant: int) -> dict[str, int]:
    """The largest extents that a variant serves; those without an end are left out."""
    regions = [region for region in plan.regions if region.variant == variant]
    found = {}
    for name in FIELDS:
        most = max(_most(getattr(plan.workload, name), region) for region in regions)
        if most < inf:
            found[name] = int(most)
    return found


def _most(extent: Any, region: Region) -> float:
    """What an extent is at most in a region."""
    if not isinstance(extent, Extent):
        return float(extent)
    ends = {i.dim: (float(i.low), inf if i.high is None else i.high) for i in region.intervals}
    return extent.within(ends)[1]


def _beyond(dim: Dim) -> str:
    return f"{dim.name}: beyond {dim.high}, the upper end of its range"


def _variant_at(regions: list[Region], values: Mapping[str, Any]) -> Any:
    """The number of the variant: cuts that part the regions, until one is left on each side."""
    if len({region.variant for region in regions}) == 1:
        return index(regions[0].variant)
    dim, last = _cut(regions)
    below = [r for r in regions if _interval(r, dim).low <= last]
    above = [r for r in regions if r not in below]
    sides = (_variant_at(side, values) for side in (below, above))
    return T.Select(values[dim] <= last, *sides)


def _cut(regions: list[Region]) -> tuple[str, int]:
    """A dim and its last value below a cut that runs through no region, as near to the middle of
    them as there is one. Regions that a tree of cuts made have one."""
    middle = len(regions) / 2
    found: list[tuple[float, str, int]] = []
    for interval in (i for r in regions for i in r.intervals):
        sides = [_interval(r, interval.dim) for r in regions]
        if interval.high is None:
            continue
        below = [s for s in sides if s.high is not None and s.high <= interval.high]
        above = [s for s in sides if s.low > interval.high]
        if below and above and len(below) + len(above) == len(sides):
            found.append((abs(len(below) - middle), interval.dim, interval.high))
    _, dim, last = min(found)
    return dim, last


def _interval(region: Region, dim: str) -> Interval:
    return next(interval for interval in region.intervals if interval.dim == dim)
