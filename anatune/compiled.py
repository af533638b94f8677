"""What every result does with its code: load it, look inside, write a library (rank 6.5)."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anatune.codegen.library import Code
from anatune.errors import OperandError, require

if TYPE_CHECKING:
    from anatune.codegen.build import Kernel


class Compiled:
    """The code of ``plan``; a class beside it says how that is called."""

    plan: Any
    _code: Code | None  # None: for another machine

    @cached_property
    def _loaded(self) -> Any:
        """The module whose functions are called."""
        mcpu = self.plan.target.mcpu
        why = f"target = {mcpu!r}: this machine cannot run its code; export the kernel"
        require(self._code is not None, why, OperandError)
        assert self._code is not None
        return self._code.load()

    @cached_property
    def _kernel(self) -> Kernel:
        """The plan compiled in this process, for those who want to look inside."""
        from anatune.codegen.build import build

        return build(self.plan)

    @property
    def module(self) -> Any:
        """The TVM IRModule, for use in a TVM pipeline."""
        return self._kernel.ir

    def source(self, kind: str = "tir") -> str:
        """The kernel as text: "tir", "llvm" or "asm". Raises OptionError for another kind."""
        return self._kernel.source(kind)

    def export(self, path: str | Path) -> Path:
        """Write a shared library that TVM's runtime, and `anatune.load`, can load; return its path.

        Raises:
            BuildError: no C compiler to link with, or a path that does not end in .so or cannot be
                written.
        """
        return self._kernel.export(path)
