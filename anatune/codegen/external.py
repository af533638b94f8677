"""External micro-kernels: their code kept by its hash, called, compiled in or linked (rank 5)."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from anatune.codegen.call import ENTRY
from anatune.codegen.link import link_shared, write_loadable
from anatune.codegen.target import tvm_target
from anatune.codegen.vectors import INDEX, index
from anatune.errors import BuildError, CacheError, require
from anatune.hwprofile.kept import CACHE_ENVIRONMENT, cache_folder
from anatune.plan import CodeTarget, DynamicPlan, ExternalKernel
from anatune.plan.fusion import FusionPlan
from anatune.plan.group import GroupPlan
from anatune.plan.read import AnyPlan

SUFFIX = {"object": ".o", "llvm": ".ll"}
"""Ends of names of kept code, by its form."""

DECLARED = "declare void @{symbol}(i64, ptr, ptr, ptr, i64, i32)"

CALLED = """\
define void @anatune_{symbol}(i32 %k, ptr %a, ptr %b, ptr %c, i32 %ldc, i32 %more) alwaysinline {{
  %steps = sext i32 %k to i64
  %row = sext i32 %ldc to i64
  call void @{symbol}(i64 %steps, ptr %a, ptr %b, ptr %c, i64 %row, i32 %more)
  ret void }}
"""
"""What TIR calls: TVM hands integers over in 32 bits wherever it finds that their values fit, and
leaves the upper half of a register to chance."""

TILES_IN_TURN = 4
"""Tiles of C that a trial's calls go through in turn: none waits for what the last one stored."""


def keep_code(code: bytes, form: str) -> str:
    """Keep a kernel's code where `code_file` finds it; its hash.

    Raises:
        CacheError: the cache folder cannot be written.
    """
    name = hashlib.sha256(code).hexdigest()
    file = _folder() / f"{name}{SUFFIX[form]}"
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, half = tempfile.mkstemp(dir=file.parent)
        with os.fdopen(handle, "wb") as out:
            out.write(code)
        os.replace(half, file)
    except OSError as error:
        why = f"cache folder {file.parent}: {error.strerror}; set {CACHE_ENVIRONMENT} to a folder"
        raise CacheError(f"{why} that can be written") from None
    return name


def code_file(kernel: ExternalKernel) -> Path:
    """Where the code of ``kernel`` lies. Raises BuildError where it is gone or another."""
    file = _folder() / f"{kernel.code_sha256}{SUFFIX[kernel.form]}"
    try:
        whole = hashlib.sha256(file.read_bytes()).hexdigest() == kernel.code_sha256
    except OSError:
        whole = False
    why = f"micro-kernel {kernel}: its code is not on this machine; register it here"
    require(whole, why, BuildError)
    return file


def _folder() -> Path:
    return cache_folder() / "micro_kernels"


def linked_with(plan: AnyPlan) -> tuple[Path, ...]:
    """Objects that the code of ``plan`` must be linked with, each once."""
    parts: tuple[Any, ...] = (plan,)
    if isinstance(plan, DynamicPlan):
        parts = plan.variants
    elif isinstance(plan, FusionPlan | GroupPlan):
        parts = plan.plans
    kernels = filter(None, (getattr(part, "micro_kernel", None) for part in parts))
    return tuple(dict.fromkeys(file for kernel in kernels for file in objects_of(kernel)))


def objects_of(kernel: ExternalKernel) -> tuple[Path, ...]:
    """Objects that code which calls ``kernel`` must be linked with."""
    return (code_file(kernel),) if kernel.form == "object" else ()


@contextlib.contextmanager
def imported_code(kernel: ExternalKernel) -> Iterator[None]:
    """The scope in which `call` may be used, once in a module."""
    inside = kernel.form == "llvm"
    code = code_file(kernel).read_text(encoding="utf-8") if inside else _of(kernel, DECLARED)
    text = code + "\n" + _of(kernel, CALLED)
    with T.attr(0, "pragma_import_llvm", text):
        yield


def _of(kernel: ExternalKernel, text: str) -> str:
    return text.format(symbol=kernel.symbol)


def address(buffer: Any, *where: Any) -> Any:
    """Where an element of ``buffer`` lies, for a call that may reach all of the buffer from there.

    By `access_ptr`: TVM cuts arrays down to the elements that it sees used, and `address_of` would
    show it but one.
    """
    offset, size = index(0), index(1)
    for place in reversed(range(len(where))):
        stride = buffer.strides[place] if buffer.strides else size
        offset = offset + tirx.Cast(INDEX, tirx.convert(where[place])) * stride
        size = size * buffer.shape[place]
    return buffer.access_ptr("rw", offset=offset)


def call(
    kernel: ExternalKernel, steps: Any, a: Any, b: Any, c: Any, row: Any, accumulate: Any
) -> None:
    """Emit a call: ``steps`` along k, panels and tile by address, ``row`` elements between rows."""
    k, ldc, more = (tirx.Cast("int32", tirx.convert(x)) for x in (steps, row, accumulate))
    T.evaluate(T.call_extern("void", f"anatune_{kernel.symbol}", k, a, b, c, ldc, more))


def write_trial(kernel: ExternalKernel, target: CodeTarget, stem: Path) -> str:
    """Write a library whose ``main`` calls ``kernel``; its path.

    ``main(repeats, k, a, b, c, ldc, accumulate, apart)`` takes addresses as integers, and calls it
    so often, the tile of C in turn one of `TILES_IN_TURN` that lie ``apart`` bytes apart.

    Raises:
        BuildError: LLVM or the linker refused.
    """
    with IRBuilder() as builder:
        with T.prim_func():
            T.func_name(ENTRY)
            T.func_attr({"global_symbol": ENTRY})
            names = ("repeats", "k", "a", "b", "c", "ldc", "accumulate", "apart")
            repeats, k, a, b, c, ldc, accumulate, apart = (T.arg(x, T.int64()) for x in names)
            with imported_code(kernel), T.serial(0, repeats) as number:
                here = c + tirx.floormod(number, index(TILES_IN_TURN)) * apart
                x, y, tile = (T.reinterpret("handle", place) for place in (a, b, here))
                call(kernel, k, x, y, tile, ldc, accumulate)
    try:
        executable = tvm.compile(tvm.IRModule({ENTRY: builder.get()}), target=tvm_target(target))
    except Exception as error:  # TVM raises many classes, all of them about this kernel
        raise BuildError(str(error).strip().splitlines()[-1]) from error
    return write_loadable(executable, stem, objects_of(kernel))


def share_code(kernel: ExternalKernel) -> Path:
    """A shared library of the object of ``kernel``, kept beside it, for code compiled in memory.

    Raises:
        BuildError: the code is gone, or there is no linker.
    """
    code = code_file(kernel)
    library = code.with_suffix(".so")
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=code.parent) as folder:
            made = Path(folder) / library.name
            link_shared([code], made)
            os.replace(made, library)
    return library
