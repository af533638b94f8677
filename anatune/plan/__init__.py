"""Decisions as data: what the model hands to code generation, nothing of TVM inside (rank 3)."""

from anatune.plan.arithmetic import ARITHMETIC, Arithmetic, arithmetics
from anatune.plan.cover import Cover
from anatune.plan.dynamic import DynamicPlan, Interval, Region
from anatune.plan.external import ExternalKernel, KernelCost, ThroughputModel
from anatune.plan.gemm import Estimate, GemmPlan
from anatune.plan.nouns import (
    VECTOR_FEATURES,
    CacheBlocks,
    CodeTarget,
    MicroTile,
    Order,
    Storage,
    ThreadGrid,
)
from anatune.plan.read import Plan, read_plan
from anatune.plan.schedule import SchedulePlan

__all__ = [
    "ARITHMETIC",
    "VECTOR_FEATURES",
    "Arithmetic",
    "CacheBlocks",
    "CodeTarget",
    "Cover",
    "DynamicPlan",
    "Estimate",
    "ExternalKernel",
    "GemmPlan",
    "Interval",
    "KernelCost",
    "MicroTile",
    "Order",
    "Plan",
    "Region",
    "SchedulePlan",
    "Storage",
    "ThreadGrid",
    "ThroughputModel",
    "arithmetics",
    "read_plan",
]
