"""What is planned besides single products, each kind of workload by its own model (rank 4).

Everything else (the interface, tuning, the store, commands) asks here, so that a kind of workload
that joins `_MODELS` needs nothing more of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from anatune.errors import WorkloadError, require
from anatune.hwprofile.profile import Profile
from anatune.model import candidates
from anatune.model.explain_fusion import explain_fusion
from anatune.model.explain_group import explain_group
from anatune.model.explain_maps import explain_map
from anatune.model.fusion import check_fusion, options, predict_fusion
from anatune.model.group_estimate import check_group_plan, predict_group
from anatune.model.groups import rank_groups
from anatune.model.maps import check_map, predict_map, rank_maps
from anatune.plan import Estimate
from anatune.workload.fused import Fused
from anatune.workload.group import Group
from anatune.workload.maps import Map

Way = tuple[Any, Estimate]
"""A plan, with what is predicted of it."""


@dataclass(frozen=True)
class _Model:
    """
    Attributes:
        rank: ``(profile, workload, threads, objective)``: ways to compute it, best first.
        predict: ``(profile, plan)``: its estimate.
        explain: ``(profile, ways, plan)``: the reasons for a plan among these ways.
        check: ``(profile, plan)``: raises IllegalPlan where the machine cannot hold it.
    """

    rank: Callable[[Profile, Any, int, str], Sequence[Way]]
    predict: Callable[[Profile, Any], Estimate]
    explain: Callable[[Profile, Sequence[Any], Any], str]
    check: Callable[[Profile, Any], None]


_MODELS: dict[type, _Model] = {
    Map: _Model(rank_maps, predict_map, explain_map, check_map),
    Fused: _Model(options, predict_fusion, explain_fusion, check_fusion),
    Group: _Model(rank_groups, predict_group, explain_group, check_group_plan),
}
"""By the class of a workload, which is also that of its plans' ``workload``."""


def is_joint(workload: Any) -> bool:
    """Whether it is planned here, and no product of its own."""
    return type(workload) in _MODELS


def rank(
    profile: Profile, workload: Any, threads: int | None = None, objective: str = "time"
) -> list[Way]:
    """The ways that there are to compute ``workload``, best first."""
    candidates.check_objective(objective)
    count = candidates.thread_count(profile, threads)
    return list(_model(workload).rank(profile, workload, count, objective))


def predict(profile: Profile, plan: Any) -> Estimate:
    """The estimate of ``plan``. Raises IllegalPlan where the machine cannot hold it."""
    model = _model(plan.workload)
    model.check(profile, plan)
    return model.predict(profile, plan)


def explain(profile: Profile, plan: Any, ways: Sequence[Way] = ()) -> str:
    """The reasons for ``plan``, beside ``ways``; without, beside those that the model ranks."""
    estimate = predict(profile, plan)
    w = plan.workload
    found = list(ways) or rank(profile, w)
    if not ways and plan not in dict(found):  # made for fewer threads
        found = rank(profile, w, plan.threads)
    if plan not in dict(found):
        found.append((plan, estimate))
    return _model(w).explain(profile, found, plan)


def _model(workload: Any) -> _Model:
    known = "elementwise, stencil, reduce, scan, softmax, fused, group or chain"
    why = f"workload = {type(workload).__name__}: use {known}"
    require(is_joint(workload), why, WorkloadError)
    return _MODELS[type(workload)]
