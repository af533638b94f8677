"""The model as functions of what a user has: a workload and the name of a machine (rank 8)."""

from __future__ import annotations

from typing import Any

from anatune.errors import require
from anatune.machine import cpu_only, matmul_only
from anatune.model import candidates
from anatune.model.estimate import predict as predict_plan
from anatune.model.explain import explain as explain_plan
from anatune.model.why_not import why_not as why_not_choice
from anatune.plan import Estimate, GemmPlan
from anatune.workload import Matmul


def plan(
    workload: Matmul, target: Any = "host", *, threads: int | None = None, objective: str = "time"
) -> GemmPlan:
    """The model's pick: milliseconds, nothing is compiled or measured, TVM is not loaded.

    Raises:
        WorkloadError, OptionError, ProfileError: an argument that cannot be used, named.
    """
    return candidates.best(cpu_only(target), matmul_only(workload), threads, objective)[0][0]


def rank(
    workload: Matmul, target: Any = "host", *, threads: int | None = None, objective: str = "time"
) -> list[tuple[GemmPlan, Estimate]]:
    """All legal plans with their estimates, best first. Raises what `plan` raises."""
    return candidates.rank(cpu_only(target), matmul_only(workload), threads, objective)


def predict(plan: GemmPlan, workload: Matmul, target: Any = "host") -> Estimate:
    """The estimate of one plan.

    Raises:
        IllegalPlan: the plan is another workload's, or the machine cannot hold it.
    """
    profile, plan = cpu_only(target), _gemm_plan(plan)
    matmul_only(workload)
    require(plan.workload == workload, f"plan: is of {plan.workload}, the workload is {workload}")
    candidates.check_plan(profile, plan)
    return predict_plan(profile, plan)


def explain(plan: GemmPlan, target: Any = "host") -> str:
    """The model's equations with the plan's numbers in them, the binding term first."""
    profile, plan = cpu_only(target), _gemm_plan(plan)
    candidates.check_plan(profile, plan)
    return explain_plan(profile, plan)


def why_not(
    choice: str, workload: Matmul, target: Any = "host", *, threads: int | None = None
) -> str:
    """One line: why ``choice`` is not the plan's.

    Args:
        choice: a register tile such as "8x48"; an order such as "C3B2A0"; an arithmetic such as
            "int16 pairs"; or how an operand is stored, such as "b=in_place".
    """
    return why_not_choice(cpu_only(target), matmul_only(workload), choice, threads)


def _gemm_plan(plan: Any) -> GemmPlan:
    why = f"plan = {type(plan).__name__}: what anatune.plan(workload, target) returns is needed"
    require(isinstance(plan, GemmPlan), why)
    assert isinstance(plan, GemmPlan)
    return plan
