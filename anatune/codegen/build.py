"""Plan -> compiled kernel: lower, compile, look inside, write to a shared library (rank 5)."""

from __future__ import annotations

import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tvm
from tvm import tirx

from anatune.codegen.dynamic import lower_dynamic
from anatune.codegen.fusion import lower_fusion, lower_map
from anatune.codegen.gemm import lower_gemm
from anatune.codegen.groups import lower_group
from anatune.codegen.call import ENTRY
from anatune.codegen.external import linked_with
from anatune.codegen.library import PLAN_SYMBOL, Code
from anatune.codegen.link import export_library, write_loadable
from anatune.codegen.scheduled import scheduled
from anatune.codegen.target import tvm_target
from anatune.errors import BuildError, OptionError, last_line, require
from anatune.plan import DynamicPlan, GemmPlan, SchedulePlan
from anatune.plan.fusion import FusionPlan
from anatune.plan.group import GroupPlan
from anatune.plan.maps import MapPlan
from anatune.plan.read import AnyPlan

PASS_CONFIG = {
    # Storage rewriting lets register tiles of different heights share one array; LLVM then keeps
    # the accumulators of edge tiles in memory (seen in the assembly: a load and a store per FMA).
    "tirx.disable_storage_rewrite": True,
}
"""For our own loops; those of TVM's search are compiled as it does."""

IDLE_PASSES = ["s_tir.CompactBufferAllocation"]
"""Passes that have nothing to do in our own loops, whose buffers are as large as they must be: this
one would take a third of the time of a compilation."""

SOURCE_KINDS = ("tir", "llvm", "asm")


@dataclass(frozen=True)
class Kernel:
    """A compiled plan; its functions take tensors of TVM's FFI and return nothing."""

    plan: AnyPlan
    ir: tvm.IRModule
    executable: Any
    objects: tuple[Path, ...] = ()  # that its code is linked with: an external micro-kernel's

    def function(self, name: str = ENTRY) -> Any:
        """A compiled function; made callable on first use, which needs the machine it is for."""
        return (self._linked if self.objects else self.executable)[name]

    @cached_property
    def _linked(self) -> Any:
        with tempfile.TemporaryDirectory(prefix="anatune-") as folder:
            file = write_loadable(self.executable, Path(folder) / "kernel", self.objects)
            return Code.of(file).load()

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
            BuildError: no C compiler to link with, or a path that does not end in .so or cannot be
                written.
        """
        path = Path(path)
        isa, note = self.plan.target.isa, self.plan.to_json()
        export_library(self.executable, path, isa, PLAN_SYMBOL, note, self.objects)
        return path


def build(plan: AnyPlan) -> Kernel:
    """Compile ``plan``.

    Raises:
        BuildError: TVM or LLVM refused, with the last line of what they said.
    """
    target, objects = tvm_target(plan.target), linked_with(plan)
    try:
        module, config, idle = _lowered(plan)
        with interrupts_wait(), tvm.transform.PassContext(config=config, disabled_pass=idle):
            executable = tvm.compile(module, target=target)
    except Exception as error:  # TVM raises many classes, all of them about this plan
        raise BuildError(f"{plan}: {last_line(error) or type(error).__name__}") from error
    return Kernel(plan, module, executable, objects)


def _lowered(plan: AnyPlan) -> tuple[tvm.IRModule, dict[str, Any], list[str]]:
    """The functions of ``plan``, how TVM's passes are set for them, and which are left out."""
    if isinstance(plan, SchedulePlan):
        return scheduled(plan).mod, {}, []
    return tvm.IRModule(_functions(plan)), PASS_CONFIG, IDLE_PASSES


def _functions(plan: AnyPlan) -> dict[str, tirx.PrimFunc]:
    return _LOWERED_BY[type(plan)](plan)


_LOWERED_BY: dict[type, Callable[[Any], dict[str, tirx.PrimFunc]]] = {
    GemmPlan: lower_gemm,
    DynamicPlan: lower_dynamic,
    MapPlan: lower_map,
    FusionPlan: lower_fusion,
    GroupPlan: lower_group,
}


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Hold the user's Ctrl-C back for the tenths of a second that TVM is at work.

    TVM would turn it into an error without a message, and the run would go on. Handlers other than
    Python's own, and threads other than the first, are left alone.
    """
    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if came:
            raise KeyboardInterrupt
