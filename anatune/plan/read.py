"""Any plan from the JSON that it was written as (rank 3)."""

from __future__ import annotations

import json

from anatune.errors import IllegalPlan
from anatune.plan.dynamic import DynamicPlan
from anatune.plan.fusion import FusionPlan
from anatune.plan.gemm import GemmPlan
from anatune.plan.group import GroupPlan
from anatune.plan.maps import MapPlan
from anatune.plan.schedule import SchedulePlan

Plan = GemmPlan | SchedulePlan | DynamicPlan
"""Whatever a product's kernel can be built from."""

JointPlan = MapPlan | FusionPlan | GroupPlan
"""The same of what is no single product."""

AnyPlan = Plan | JointPlan

_KINDS: dict[str, type[GemmPlan] | type[SchedulePlan] | type[DynamicPlan]] = {
    "gemm": GemmPlan,
    "schedule": SchedulePlan,
    "dynamic": DynamicPlan,
}


_JOINT_KINDS: dict[str, type[MapPlan] | type[FusionPlan] | type[GroupPlan]] = {
    "map": MapPlan,
    "fusion": FusionPlan,
    "group": GroupPlan,
}
"""Plans of what is no single product; a kind that joins them is read wherever plans are."""


def read_any(text: str) -> AnyPlan:
    """`read_plan`, which also reads plans of what is no single product."""
    joint = _JOINT_KINDS.get(_kind(text))
    return read_plan(text) if joint is None else joint.from_json(text)


def read_plan(text: str) -> Plan:
    """The plan that ``to_json`` of one of them wrote.

    Raises:
        IllegalPlan: not JSON, another kind, or a field that is missing, unknown or wrong.
    """
    kind = _kind(text)
    if kind not in _KINDS:
        known = ", ".join(map(repr, _KINDS))
        raise IllegalPlan(f"kind = {kind!r}: this version reads plans of the kinds {known}")
    return _KINDS[kind].from_json(text)


def _kind(text: str) -> str:
    try:
        return str(json.loads(text)["kind"])
    except (ValueError, RecursionError, KeyError, TypeError):
        return "gemm"  # whose reader says what is wrong
