"""Between a plan's target and TVM's, and what LLVM says of the host (rank 5)."""

from __future__ import annotations

import functools

import tvm
from tvm.target import Target
from tvm.target import codegen as llvm

from anatune.errors import ProfileError, require
from anatune.plan import CodeTarget

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
    options = {"kind": "llvm", "mcpu": target.mcpu, "mtriple": triple}
    if target.features:
        options["mattr"] = list(target.features)
    return tvm.target.Target(options)


def runs_here(target: CodeTarget) -> bool:
    """Whether this machine has every feature that code for ``target`` may use."""
    if triple_of(target).split("-")[0] != host_triple().split("-")[0]:
        return False
    host = Target.from_device("cpu")
    wanted = set(llvm.llvm_get_cpu_features(tvm_target(target)))
    tuning_only = set(llvm.llvm_get_cpu_features(host)) ^ wanted
    return not {name for name in tuning_only & wanted if name in _ISA_FEATURES}


_ISA_FEATURES = frozenset(
    "avx avx2 fma f16c avx512f avx512bw avx512dq avx512vl avx512vnni avx512bf16 avx512fp16 "
    "amx-tile amx-int8 amx-bf16 neon fullfp16 dotprod bf16 i8mm sve sve2 v zvl128b zvl256b".split()
)
"""LLVM features that add vector instructions; others only tune, or never stand in a kernel."""
