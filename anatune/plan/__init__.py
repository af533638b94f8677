"""Decisions as data: what the model hands to code generation, nothing of TVM inside (rank 3)."""

from anatune.plan.arithmetic import ARITHMETIC, Arithmetic, arithmetics
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

__all__ = [
    "ARITHMETIC",
    "VECTOR_FEATURES",
    "Arithmetic",
    "CacheBlocks",
    "CodeTarget",
    "Estimate",
    "GemmPlan",
    "MicroTile",
    "Order",
    "Storage",
    "ThreadGrid",
    "arithmetics",
]
