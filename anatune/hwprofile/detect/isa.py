"""Vector width and registers from CPU features: LLVM's own vector-width query is often wrong."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from anatune.hwprofile.profile import Source

FEATURES = Source(
    name="features",
    kind="detected",
    where="CPU features that LLVM and the operating system both list",
)
BASELINE = Source(
    name="baseline",
    kind="document",
    where="what the instruction set guarantees on every machine; no vector feature was listed",
)

_ISA_NAMES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
_SCALAR_BITS = 32  # RISC-V without V: a "vector" is one float32, so that lanes come out right
_RVV_MIN_BITS = 128  # the V extension implies Zvl128b
_MAX_BITS = 65536  # the V extension's own limit
# Architectural registers by width: AVX-512 doubled the sixteen of SSE and AVX.
_X86_WIDTHS = (
    (("avx512f",), 512, 32),
    (("avx2", "avx"), 256, 16),
    (("sse2",), 128, 16),
)


# Where Linux and LLVM spell a vector feature of Arm differently.
_ARM_FLAGS = {"neon": "asimd", "dotprod": "asimddp", "fullfp16": "asimdhp"}
_ARM_CHECKED = frozenset({*_ARM_FLAGS, "bf16", "i8mm", "sve", "sve2"})
_X86_CHECKED = re.compile(r"avx.*|amx.*|fma|f16c")


@dataclass(frozen=True)
class Vectors:
    """Width and count of the vector registers, and where the width comes from."""

    bits: int
    registers: int
    source: Source


def isa_of(machine: str) -> str:
    """LLVM's spelling of the instruction set; one unknown to us stays as it is."""
    name = machine.strip().lower()
    return _ISA_NAMES.get(name, name)


def listed(features: Collection[str]) -> frozenset[str]:
    """Feature names without LLVM's plus; those switched off with a minus are left out."""
    return frozenset(f.strip().lower().lstrip("+") for f in features if not f.startswith("-"))


def vectors(
    isa: str, llvm: Collection[str], flags: Collection[str], sve_bits: int | None
) -> Vectors:
    """The narrower of what LLVM and the system list: LLVM knows the CPU by name, and a hypervisor
    or kernel may have switched off what the name promises."""
    answers = [_by_features(isa, f, sve_bits) for f in (listed(llvm), listed(flags)) if f]
    known = [a for a in answers if a is not None]
    if isa == "riscv64" and known and len(known) == len(answers):
        return max(known, key=lambda v: v.bits)  # the kernel says V or not, but seldom how wide
    if isa != "riscv64" and known:
        return min(known, key=lambda v: v.bits)
    if isa in ("x86_64", "aarch64"):
        return Vectors(128, 16 if isa == "x86_64" else 32, BASELINE)
    return Vectors(_SCALAR_BITS, 32, BASELINE)


def usable_features(isa: str, llvm: Collection[str], flags: Collection[str]) -> tuple[str, ...]:
    """LLVM's features without the vector ones that the kernel does not list: LLVM knows them by the
    processor's name, and using one that a hypervisor hides ends the process."""
    present = {_plain(flag) for flag in flags}
    return tuple(f for f in sorted(listed(llvm)) if not flags or not _hidden(isa, f, present))


def _hidden(isa: str, feature: str, present: Collection[str]) -> bool:
    if isa == "x86_64":
        return bool(_X86_CHECKED.fullmatch(feature)) and _plain(feature) not in present
    if isa == "aarch64":
        return feature in _ARM_CHECKED and _ARM_FLAGS.get(feature, feature) not in present
    vector = feature == "v" or feature.startswith("zv")
    return isa == "riscv64" and vector and _riscv(frozenset(present)) is None


def _plain(name: str) -> str:
    """avx512_vnni, avx512vnni, amx-int8: the kernel and LLVM put their marks differently."""
    return name if name.startswith("rv") else re.sub(r"[-._]", "", name.lower())


def _by_features(isa: str, features: frozenset[str], sve_bits: int | None) -> Vectors | None:
    if isa == "x86_64":
        for names, bits, registers in _X86_WIDTHS:
            if features.intersection(names):
                return Vectors(bits, registers, FEATURES)
    if isa == "aarch64" and features & {"sve", "sve2"} and sve_bits:
        return Vectors(sve_bits, 32, FEATURES)
    if isa == "aarch64" and features & {"neon", "asimd", "sve", "sve2"}:
        return Vectors(128, 32, FEATURES)
    if isa == "riscv64":
        return _riscv(features)
    return None


def _riscv(features: frozenset[str]) -> Vectors | None:
    """LLVM lists v and zvl256b apart; the kernel writes one string such as rv64imafdcv_zvl256b."""
    words = [word for feature in features for word in feature.split("_")]
    widths = [int(m[1]) for w in words if (m := re.fullmatch(r"zvl([0-9]{2,5})b", w, re.A))]
    has_v = any(w == "v" or re.fullmatch(r"rv64[a-z]*v", w) for w in words)
    if not has_v:
        return None
    bits = max([_RVV_MIN_BITS, *(w for w in widths if w <= _MAX_BITS and w & (w - 1) == 0)])
    return Vectors(bits, 32, FEATURES)
