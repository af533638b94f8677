"""Between a plan's target and TVM's, and what LLVM says of the host (rank 5)."""

from __future__ import annotations

import functools
from typing import Any

from tvm.target import Target
from tvm.target import codegen as llvm

from anatune.errors import ProfileError, require
from anatune.plan import VECTOR_FEATURES, CodeTarget

TRIPLES = {
    "x86_64": "x86_64-unknown-linux-gnu",
    "aarch64": "aarch64-unknown-linux-gnu",
    "riscv64": "riscv64-unknown-linux-gnu",
}
"""LLVM triple by instruction set, for targets that name none and are not the host's."""


def host_triple() -> str:
    """The LLVM triple of the machine that this runs on."""
    return str(llvm.llvm_get_system_triple())


def triple_of(target: CodeTarget) -> str:
    """The triple to generate code for: the target's own, else the host's where that fits."""
    if target.triple:
        return target.triple
    host = host_triple()
    if host.split("-")[0] == target.isa:
        return host
    require(
        target.isa in TRIPLES,
        f"target.isa = {target.isa!r}: code is generated for {', '.join(TRIPLES)}",
        ProfileError,
    )
    return TRIPLES[target.isa]


@functools.lru_cache(maxsize=64)
def tvm_target(target: CodeTarget) -> Target:
    """The TVM target of a plan.

    Raises:
        ProfileError: LLVM does not know the processor; TVM alone would fall back in silence.
    """
    triple = triple_of(target)
    require(
        llvm.llvm_is_valid_cpu(target.mcpu, triple),
        f"target.mcpu = {target.mcpu!r}: LLVM {llvm.llvm_version_major()} knows no such processor",
        ProfileError,
    )
    options: dict[str, Any] = {"kind": "llvm", "mcpu": target.mcpu, "mtriple": triple}
    implied = VECTOR_FEATURES.intersection(llvm.llvm_get_cpu_features(Target(options)))
    if target.features:  # a hypervisor may hide what the processor has
        present = set(target.features)
        switched = [f"+{f}" for f in sorted(present - implied)]
        switched += [f"-{f}" for f in sorted(implied - present)]
        if switched:
            options["mattr"] = switched
    return Target(options)


def runs_here(target: CodeTarget) -> bool:
    """Whether this machine has every vector feature that code for ``target`` may use."""
    if triple_of(target).split("-")[0] != host_triple().split("-")[0]:
        return False
    wanted, present = tvm_target(target), Target.from_device("cpu")
    missing = set(llvm.llvm_get_cpu_features(wanted)) - set(llvm.llvm_get_cpu_features(present))
    return not VECTOR_FEATURES.intersection(missing)
