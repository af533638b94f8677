"""The model as functions of what a user has: a workload and the name of a machine (rank 8)."""

from __future__ import annotations

from typing import Any

from anatune.errors import OptionError, WorkloadError, require
from anatune.machine import HOST, accelerator_only, cpu_only, fixed_only, matmul_only, resolve
from anatune.model import candidates, joint
from anatune.model.accelerator import entry as accelerators
from anatune.model.accelerator.estimate import predict as predict_tiles
from anatune.model.accelerator.explain import explain as explain_tiles
from anatune.model.accelerator.ranges import TileFamily
from anatune.model.dynamic import plan_family, predict_member
from anatune.model.estimate import predict as predict_plan
from anatune.model.explain import explain as explain_plan
from anatune.model.explain_dynamic import explain_family
from anatune.model.why_not import why_not as why_not_choice
from anatune.plan import DynamicPlan, Estimate, GemmPlan
from anatune.plan.accelerator import Simulation, TilePlan
from anatune.plan.read import JointPlan
from anatune.primfunc import as_workload, is_tvm, recognise
from anatune.workload import Matmul

AnyPlan = GemmPlan | DynamicPlan | TilePlan | TileFamily | JointPlan


def plan(
    workload: Any, target: Any = "host", *, threads: int | None = None, objective: str = "time"
) -> AnyPlan:
    """The model's pick: milliseconds, nothing is compiled or measured, TVM is not loaded.

    For a product a `GemmPlan`, with dims a `DynamicPlan`, in about a second; for `elementwise`,
    `stencil`, `reduce`, `scan` and `softmax` a `MapPlan`, for `fused` a `FusionPlan`; of a product
    for a described accelerator a `TilePlan`, with dims a `TileFamily`.

    Raises:
        WorkloadError, OptionError, ProfileError: an argument that cannot be used, named.
    """
    workload = as_workload(workload)
    if joint.is_joint(workload):
        best: JointPlan = joint.rank(cpu_only(target), workload, threads, objective)[0][0]
        return best
    profile, product = resolve(target), matmul_only(workload)
    if profile.accelerator is not None:
        return accelerators.plan_tiles(profile, product, threads, objective)
    profile = cpu_only(profile)
    if product.dims:
        return plan_family(profile, product, threads, objective)
    return candidates.best(profile, product, threads, objective)[0][0]


def rank(
    workload: Any, target: Any = "host", *, threads: int | None = None, objective: str = "time"
) -> list[tuple[Any, Estimate]]:
    """All legal plans with their estimates, best first. Raises what `plan` raises.

    Of workloads that are fused: the best plan of each decision.
    """
    workload = as_workload(workload)
    if joint.is_joint(workload):
        return joint.rank(cpu_only(target), workload, threads, objective)
    return candidates.rank(cpu_only(target), fixed_only(workload), threads, objective)


def predict(
    plan: AnyPlan,
    workload: Any,
    target: Any = "host",
    **values: int,
) -> Estimate:
    """The estimate of one plan.

    Args:
        values: of the dims, where the workload has some.

    Raises:
        IllegalPlan: the plan is another workload's, or the machine cannot hold it.
    """
    profile, workload = resolve(target), as_workload(workload)
    if joint.is_joint(workload):
        _check_same(_known(plan), workload)
        named = ", ".join(f"{name} = {value}" for name, value in values.items())
        require(not values, f"{named}: {workload} has no dims", WorkloadError)
        return joint.predict(cpu_only(profile), plan)
    if not isinstance(plan, DynamicPlan | TilePlan | TileFamily):
        plan = _gemm_plan(plan)
    _check_same(plan, matmul_only(workload))
    if profile.accelerator is not None:
        return predict_tiles(profile, accelerators.tile_plan(plan, profile, values))
    profile = cpu_only(profile)
    if isinstance(plan, DynamicPlan):
        return predict_member(profile, plan, **values)
    plan = _gemm_plan(plan)
    workload.at(**values)  # which has none: values are refused
    candidates.check_plan(profile, plan)
    return predict_plan(profile, plan)


def explain(plan: AnyPlan, target: Any = "host") -> str:
    """The model's equations with the plan's numbers in them, the binding term first.

    Of a TVM function: what it computes, and this of the model's pick.
    """
    if is_tvm(plan):
        function = recognise(plan)
        return f"{function}\n{explain(_pick(function.workload, target), target)}"
    why = "target: name the accelerator that the plan is for"
    tiles = isinstance(plan, TilePlan | TileFamily)
    require(not tiles or target != HOST, why, OptionError)
    profile = resolve(target)
    if joint.is_joint(getattr(plan, "workload", None)):
        return joint.explain(cpu_only(profile), _known(plan))
    if profile.accelerator is not None:
        if isinstance(plan, TileFamily):
            return str(plan)
        return explain_tiles(profile, accelerators.tile_plan(plan, profile))
    profile = cpu_only(profile)
    if isinstance(plan, DynamicPlan):
        return explain_family(profile, plan)
    plan = _gemm_plan(plan)
    candidates.check_plan(profile, plan)
    return explain_plan(profile, plan)


def simulate(
    plan: TilePlan | TileFamily, target: Any, *, numbers: bool = True, **values: int
) -> Simulation:
    """A plan's commands executed on a described accelerator: simulated, nothing is measured.

    Args:
        numbers: compute C of random small whole numbers as well, and compare it with float64.
        values: of the dims, where the plan is for a workload that has some.

    Raises:
        IllegalPlan: the machine cannot hold the plan.
        OptionError: not an accelerator, or more steps than a simulation takes.
    """
    return accelerators.simulate_plan(accelerator_only(target), plan, numbers, values)


def why_not(
    choice: str, workload: Matmul, target: Any = "host", *, threads: int | None = None
) -> str:
    """One line: why ``choice`` is not the plan's.

    Args:
        choice: a register tile such as "8x48"; an order such as "C3B2A0"; an arithmetic such as
            "int16 pairs"; or how an operand is stored, such as "b=in_place".
    """
    return why_not_choice(cpu_only(target), fixed_only(as_workload(workload)), choice, threads)


def _pick(workload: Any, target: Any) -> Any:
    return plan(workload, target)


def _check_same(plan: Any, workload: Any) -> None:
    require(plan.workload == workload, f"plan: is of {plan.workload}, the workload is {workload}")


def _known(plan: Any) -> Any:
    """``plan`` if it is any at all: a result or a workload also has what looks like one."""
    why = f"plan = {type(plan).__name__}: what anatune.plan(workload, target) returns is needed"
    require(hasattr(plan, "to_json"), why)
    return plan


def _gemm_plan(plan: Any) -> GemmPlan:
    why = f"plan = {type(plan).__name__}: what anatune.plan(workload, target) returns is needed"
    require(isinstance(plan, GemmPlan), why)
    assert isinstance(plan, GemmPlan)
    return plan
