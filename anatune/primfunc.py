"""TVM functions as workloads: what they compute (rank 7)."""

from __future__ import annotations

import sys
from typing import Any

from anatune.errors import WorkloadError, require
from anatune.workload.recognised import Recognised


def is_tvm(workload: Any) -> bool:
    """Whether it is a PrimFunc or an IRModule. TVM is not loaded for it: whoever has one did."""
    tvm = sys.modules.get("tvm")
    tirx = sys.modules.get("tvm.tirx")
    kinds = [getattr(tvm, "IRModule", None), getattr(tirx, "PrimFunc", None)]
    return isinstance(workload, tuple(kind for kind in kinds if kind is not None))


def recognise(func: Any) -> Recognised:
    """What a TVM function computes, as a workload; nothing goes by names.

    Args:
        func: a PrimFunc with numbers for extents, of blocks or of plain loops that are not
            scheduled; or an IRModule with one.

    Raises:
        WorkloadError: what no workload says: the block, the part of its expression, and why.
    """
    why = f"func = {type(func).__name__}: a TVM PrimFunc is needed"
    require(is_tvm(func), why, WorkloadError)
    from anatune.codegen.recognise import recognise as recognise_func

    return recognise_func(_only(func))


def as_workload(workload: Any) -> Any:
    """``workload``, where it is a TVM function what that computes."""
    return recognise(workload).workload if is_tvm(workload) else workload


def _only(func: Any) -> Any:
    """The PrimFunc itself, of a module its only one."""
    from tvm import tirx

    if isinstance(func, tirx.PrimFunc):
        return func
    found = {str(var.name_hint): each for var, each in func.functions_items()}
    funcs = {name: each for name, each in found.items() if isinstance(each, tirx.PrimFunc)}
    names = ", ".join(sorted(funcs)) or "none"
    why = f"workload: a module with {len(funcs)} PrimFuncs ({names}); hand over one of them"
    require(len(funcs) == 1, why, WorkloadError)
    return next(iter(funcs.values()))
