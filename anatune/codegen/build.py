"""Plan -> compiled kernel: lower, compile, look inside, write to a shared library (rank 5)."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm

from anatune.codegen.gemm import ENTRY, lower_gemm
from anatune.codegen.target import tvm_target
from anatune.errors import BuildError, OptionError, require
from anatune.plan import GemmPlan

PASS_CONFIG = {
    # Storage rewriting lets register tiles of different heights share one array; LLVM then keeps
    # the accumulators of edge tiles in memory (seen in the assembly: a load and a store per FMA).
    "tirx.disable_storage_rewrite": True,
}

SOURCE_KINDS = ("tir", "llvm", "asm")

PLAN_SYMBOL = "anatune_plan"
"""C symbol of an exported library that holds the plan as JSON."""


@dataclass(frozen=True)
class Kernel:
    """A compiled plan. ``function(a, b, c)`` takes tensors of TVM's FFI and returns nothing."""

    plan: GemmPlan
    ir: tvm.IRModule
    executable: Any

    @property
    def function(self) -> Any:
        return self.executable[ENTRY]

    def source(self, kind: str = "tir") -> str:
        """The kernel as text: "tir", "llvm" (IR after optimisation) or "asm".

        Raises:
            OptionError: another kind.
        """
        known = ", ".join(repr(k) for k in SOURCE_KINDS)
        require(kind in SOURCE_KINDS, f"kind = {kind!r}: one of {known}", OptionError)
        if kind == "tir":
            return self.ir.script()
        return self.executable.mod.inspect_source({"llvm": "ll", "asm": "s"}[kind])

    def export(self, path: str | Path) -> Path:
        """Write a shared library that holds the kernel and its plan; return its path.

        Raises:
            BuildError: no C compiler to link with, or a folder that cannot be written.
        """
        path = Path(path)
        require(
            shutil.which("cc") or shutil.which("gcc") or shutil.which("clang"),
            "export: no C compiler found to link with; install gcc or clang",
            BuildError,
        )
        require(path.suffix == ".so", f"path = {str(path)!r}: the name must end in .so", BuildError)
        note = path.with_suffix(".plan.c")
        try:
            note.write_text(_plan_in_c(self.plan))
            self.executable.export_library(str(path), addons=[str(note)])
        except (OSError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise BuildError(f"path = {str(path)!r}: cannot be written: {reason}") from None
        finally:
            note.unlink(missing_ok=True)
        return path


def build(plan: GemmPlan) -> Kernel:
    """Compile ``plan``.

    Raises:
        BuildError: TVM or LLVM refused, with the last line of what they said.
    """
    target = tvm_target(plan.target)
    try:
        module = tvm.IRModule({ENTRY: lower_gemm(plan)})
        with tvm.transform.PassContext(config=PASS_CONFIG):
            executable = tvm.compile(module, target=target)
    except Exception as error:  # TVM raises many classes, all of them about this plan
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise BuildError(f"{plan}: {reason}") from error
    return Kernel(plan, module, executable)


def _plan_in_c(plan: GemmPlan) -> str:
    text = plan.to_json().replace("\\", "\\\\").replace('"', '\\"')
    return f'const char {PLAN_SYMBOL}[] = "{text}";\n'
