"""Any plan from the JSON that it was written as (rank 3)."""

from __future__ import annotations

import json

from anatune.errors import IllegalPlan
from anatune.plan.dynamic import DynamicPlan
from anatune.plan.fusion import FusionPlan
from anatune.plan.gemm import GemmPlan
from anatune.plan.schedule import SchedulePlan

Plan = GemmPlan | SchedulePlan | DynamicPlan
"""Whatever a kernel can be built from."""

_KINDS: dict[str, type[GemmPlan] | type[SchedulePlan] | type[DynamicPlan]] = {
    "gemm": GemmPlan,
    "schedule": SchedulePlan,
    "dynamic": DynamicPlan,
}


def read_any(text: str) -> Plan | FusionPlan:
    """`read_plan`, which also reads plans of several workloads together."""
    try:
        fusion = json.loads(text)["kind"] == "fusion"
    except (ValueError, RecursionError, KeyError, TypeError):
        fusion = False  # the other reader says what is wrong
    return FusionPlan.from_json(text) if fusion else read_plan(text)


def read_plan(text: str) -> Plan:
    """The plan that ``to_json`` of one of them wrote.

    Raises:
        IllegalPlan: not JSON, another kind, or a field that is missing, unknown or wrong.
    """
    try:
        kind = json.loads(text)["kind"]
    except (ValueError, RecursionError, KeyError, TypeError):
        kind = "gemm"  # whose reader says what is wrong
    if kind not in _KINDS:
        known = ", ".join(map(repr, _KINDS))
        raise IllegalPlan(f"kind = {kind!r}: this version reads plans of the kinds {known}")
    return _KINDS[kind].from_json(text)
