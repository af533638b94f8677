"""The external micro-kernels that this process knows; the model has them compete (rank 3)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from anatune.errors import OptionError, require
from anatune.plan.arithmetic import arithmetics
from anatune.plan.external import ExternalKernel
from anatune.plan.nouns import CodeTarget
from anatune.workload import Matmul

_KERNELS: dict[str, ExternalKernel] = {}


def remember(kernel: ExternalKernel) -> None:
    """Have ``kernel`` compete from now on, in the place of one of the same name."""
    _KERNELS[kernel.name] = kernel


def forget_microkernel(name: str) -> None:
    """Have the kernel of that name not compete any more. Raises OptionError where there is none."""
    known = ", ".join(map(repr, _KERNELS)) or "none"
    require(name in _KERNELS, f"name = {name!r}: registered are {known}", OptionError)
    del _KERNELS[name]


def microkernels() -> tuple[ExternalKernel, ...]:
    """All registered kernels, in the order in which their names came."""
    return tuple(_KERNELS.values())


def kernels_for(workload: Matmul, target: CodeTarget) -> list[ExternalKernel]:
    """Those that could compute whole tiles of ``workload`` on ``target``."""
    able = {a.name for a in arithmetics(workload, target)}
    return [
        kernel
        for kernel in microkernels()
        if kernel.arithmetic in able
        and not kernel.why_not_on(target)
        and kernel.mr <= workload.m
        and kernel.nr <= workload.n
    ]


def with_kernels(facts_hash: str, target: CodeTarget) -> str:
    """``facts_hash``, of a profile, mixed with the kernels that may compete on it.

    What was decided with others in the field is no answer.
    """
    able = [asdict(kernel) for kernel in microkernels() if not kernel.why_not_on(target)]
    if not able:
        return facts_hash
    stated = json.dumps(sorted(able, key=lambda kernel: kernel["name"]), sort_keys=True)
    mixed = hashlib.sha256(f"{facts_hash}\n{stated}".encode()).hexdigest()
    return mixed[: len(facts_hash)]
