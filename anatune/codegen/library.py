"""An exported kernel read back: no compiler, no tuner, only TVM's runtime (rank 5)."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import shutil
import struct
import tempfile
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anatune.codegen.call import CheckedCall
from anatune.codegen.family_call import FamilyCall
from anatune.codegen.group_call import GroupCall
from anatune.errors import BuildError, require
from anatune.plan import DynamicPlan, Plan
from anatune.plan.read import JointPlan, read_any
from anatune.workload import Matmul

PLAN_SYMBOL = "anatune_plan"
"""C symbol of an exported library that holds the plan as JSON."""


PROBE_ALIGN_BYTES = 64
"""Alignment of a probe's buffers: that of the widest vectors and of most cache lines."""


@functools.cache
def load_runtime() -> None:
    """Make TVM's runtime library (thread pool, evaluator) known to the dynamic linker, once."""
    import tvm_ffi  # noqa: F401  # whose library the runtime needs

    package = importlib.util.find_spec("tvm")
    assert package is not None and package.submodule_search_locations
    folder = Path(package.submodule_search_locations[0]) / "lib"
    for library in folder.glob("*tvm_runtime.*"):
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)


def load_module(path: str) -> Any:
    """The module in a shared library, or in LLVM IR where the machine has no linker."""
    if path.endswith(".ll"):
        import tvm  # the compiler is needed to turn IR into code

        return tvm.runtime.load_module(path)
    load_runtime()
    import tvm_ffi  # imports all of torch where that is installed

    return tvm_ffi.load_module(path)


@dataclass(frozen=True)
class Code:
    """A compiled kernel as it lay in a file; it outlives that file, and can be pickled."""

    suffix: str
    content: bytes = field(repr=False)

    @classmethod
    def of(cls, file: str | Path) -> Code:
        """What is in a file that `link.write_loadable` wrote."""
        return cls(Path(file).suffix, Path(file).read_bytes())

    def load(self) -> Any:
        """The module; a file of its own is there for as long as the loader needs it."""
        with tempfile.TemporaryDirectory(prefix="anatune-", ignore_cleanup_errors=True) as folder:
            own = Path(folder) / f"{uuid.uuid4().hex}{self.suffix}"
            own.write_bytes(self.content)
            return load_module(str(own))


class LoadedKernel(CheckedCall):
    """A kernel from a file that `Result.export` wrote; called like the result itself."""

    def __init__(self, plan: Plan, module: Any) -> None:
        super().__init__(plan, lambda name: module[name])
        self.plan = plan
        self.module = module

    @property
    def workload(self) -> Matmul:
        return self.plan.workload

    def __repr__(self) -> str:
        return f"<anatune kernel: {self.workload}; {self.plan}>"


class LoadedFamily(FamilyCall):
    """The same for a kernel that serves all members of a family."""

    def __init__(self, plan: DynamicPlan, module: Any) -> None:
        super().__init__(plan, lambda name: module[name])
        self.plan = plan
        self.module = module

    @property
    def workload(self) -> Matmul:
        return self.plan.workload

    def __repr__(self) -> str:
        return f"<anatune kernel: {self.workload}; {self.plan}>"


class LoadedGroup(GroupCall):
    """The same for a kernel of workloads that are computed together, or of no product."""

    def __init__(self, plan: JointPlan, module: Any) -> None:
        super().__init__(plan.workload, lambda name: module[name])
        self.plan = plan
        self.module = module

    @property
    def workload(self) -> Any:
        return self.plan.workload

    def __repr__(self) -> str:
        return f"<anatune kernel: {self.workload}; {self.plan}>"


def load(path: str | Path) -> LoadedKernel | LoadedFamily | LoadedGroup:
    """The kernel in the shared library at ``path``.

    Raises:
        BuildError: no such file, no shared library of this machine, or none that anatune exported.
    """
    file = Path(path)
    require(file.is_file(), f"path = {str(path)!r}: no such file", BuildError)
    require(_is_whole(file), f"path = {str(path)!r}: not a whole shared library", BuildError)
    load_runtime()
    with tempfile.TemporaryDirectory(prefix="anatune-", ignore_cleanup_errors=True) as folder:
        # A copy under a name of its own: the loader would hand out what it has open by this name.
        own = Path(folder) / f"{uuid.uuid4().hex}.so"
        shutil.copyfile(file, own)
        try:
            first = ctypes.c_char.in_dll(ctypes.CDLL(str(own)), PLAN_SYMBOL)
        except OSError as error:
            why = f"path = {str(path)!r}: not a library of this machine: {error}"
            raise BuildError(why) from None
        except ValueError:
            why = f"path = {str(path)!r}: not exported by anatune: no plan inside"
            raise BuildError(why) from None
        plan = read_any(ctypes.string_at(ctypes.addressof(first)).decode())
        module = load_module(str(own))
        if isinstance(plan, DynamicPlan):
            return LoadedFamily(plan, module)
        if isinstance(plan, JointPlan):
            return LoadedGroup(plan, module)
        return LoadedKernel(plan, module)


def _is_whole(file: Path) -> bool:
    """Whether an ELF file ends where its header says; the loader maps a cut one and dies of it.

    Files of other formats are left to their loader. Offsets: ELF-64 header, System V ABI, ch. 4.
    """
    with open(file, "rb") as stream:
        header = stream.read(64)
    if header[:4] != b"\x7fELF" or header[4:5] != b"\x02":
        return True
    if len(header) < 64:
        return False
    order = "<" if header[5] == 1 else ">"
    (sections_at,) = struct.unpack_from(f"{order}Q", header, 40)
    entry_bytes, entries = struct.unpack_from(f"{order}HH", header, 58)
    return file.stat().st_size >= sections_at + entry_bytes * entries
