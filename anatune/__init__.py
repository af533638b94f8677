"""anatune: kernels from a hardware profile and an analytical model, verified, with reasons.

In the order in which a workload passes through::

    hwprofile -> workload -> plan <- model          decide: pure Python, milliseconds
                              |
                           codegen -> measure -> records, search -> result    do: TVM lives here
                                                                      |
                                                              report, cli     what people look at

Names below are loaded when first used: ``import anatune`` alone loads neither TVM nor numpy.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anatune.api import explain, plan, predict, rank, simulate, why_not
    from anatune.codegen.library import load
    from anatune.codegen.tensorize import kernel_object, tensorize
    from anatune.errors import AnatuneError
    from anatune.external import register_microkernel
    from anatune.hwprofile import Profile, profiles
    from anatune.loops import fuse_loops
    from anatune.machine import detect, load_profile
    from anatune.many import tune_many
    from anatune.partition import partition
    from anatune.plan import Estimate, ExternalKernel, GemmPlan, ThroughputModel
    from anatune.plan.registered import forget_microkernel, microkernels
    from anatune.primfunc import recognise
    from anatune.records import Store
    from anatune.result import Result
    from anatune.tune import tune
    from anatune.workload import Dim, Matmul, matmul
    from anatune.workload.arrays import elementwise, reduce, scan, softmax, stencil
    from anatune.workload.group import chain, fused, group

__version__ = "0.1.0"

_HOME = {
    "AnatuneError": "anatune.errors",
    "Dim": "anatune.workload",
    "Estimate": "anatune.plan",
    "ExternalKernel": "anatune.plan",
    "GemmPlan": "anatune.plan",
    "Matmul": "anatune.workload",
    "Profile": "anatune.hwprofile",
    "Result": "anatune.result",
    "Store": "anatune.records",
    "ThroughputModel": "anatune.plan",
    "chain": "anatune.workload.group",
    "detect": "anatune.machine",
    "elementwise": "anatune.workload.arrays",
    "explain": "anatune.api",
    "forget_microkernel": "anatune.plan.registered",
    "fuse_loops": "anatune.loops",
    "fused": "anatune.workload.group",
    "group": "anatune.workload.group",
    "kernel_object": "anatune.codegen.tensorize",
    "load": "anatune.codegen.library",
    "load_profile": "anatune.machine",
    "matmul": "anatune.workload",
    "microkernels": "anatune.plan.registered",
    "partition": "anatune.partition",
    "plan": "anatune.api",
    "predict": "anatune.api",
    "profiles": "anatune.hwprofile",
    "rank": "anatune.api",
    "recognise": "anatune.primfunc",
    "reduce": "anatune.workload.arrays",
    "register_microkernel": "anatune.external",
    "scan": "anatune.workload.arrays",
    "simulate": "anatune.api",
    "softmax": "anatune.workload.arrays",
    "stencil": "anatune.workload.arrays",
    "tensorize": "anatune.codegen.tensorize",
    "tune": "anatune.tune",
    "tune_many": "anatune.many",
    "why_not": "anatune.api",
}
"""Public name -> module that it lives in."""

__all__ = sorted(_HOME)


class _Facade(ModuleType):
    """Keeps a submodule from taking the place of the function of the same name (plan, tune)."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):  # what an import statement sets
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Facade


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'anatune' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
