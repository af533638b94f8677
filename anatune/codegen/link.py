"""From a compiled module to a file that can be loaded (rank 5)."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anatune.errors import BuildError, last_line, require


HOST_COMPILERS = ("cc", "gcc", "clang")

OWN_SYMBOLS = "-Bsymbolic"
"""Has a library call its own functions, also where the process knows others of the same name."""

NO_LINKER = "linking a micro-kernel's object needs ld or ld.lld; install it"


def _host_isa() -> str:
    """This machine's instruction set by the name that profiles use."""
    machine = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)


def is_ours(isa: str) -> bool:
    """Whether code for ``isa`` is for machines such as this one."""
    return isa == _host_isa()


def write_loadable(executable: Any, stem: Path, objects: Sequence[Path] = ()) -> str:
    """Write a compiled module as what a worker can load quickest; return the file's path.

    A shared library where the machine has a linker (milliseconds), else LLVM IR. ``objects`` are
    what the module calls, and become part of the library.

    Raises:
        BuildError: the linker refused, or there is none for ``objects``.
    """
    linker = shutil.which("ld") or shutil.which("ld.lld")
    if linker is None:
        require(not objects, NO_LINKER, BuildError)
        executable.mod.write_to_file(f"{stem}.ll", "ll")
        return f"{stem}.ll"
    executable.mod.write_to_file(f"{stem}.o", "o")
    _share(linker, stem, objects)
    return f"{stem}.so"


def _share(linker: str, stem: Path, objects: Sequence[Path]) -> None:
    """Link the object of ``stem`` and ``objects``, whose own symbols win over all others."""
    others = [OWN_SYMBOLS, *map(str, objects)] if objects else []
    _run([linker, "-shared", "-o", f"{stem}.so", f"{stem}.o", *others])


def link_shared(objects: Sequence[Path], made: Path) -> None:
    """Write the shared library ``made`` of ``objects``. Raises BuildError where that fails."""
    linker = shutil.which("ld") or shutil.which("ld.lld")
    require(linker, NO_LINKER, BuildError)
    _run([str(linker), "-shared", "-o", str(made), *map(str, objects)])


def write_sendable(
    executable: Any, stem: Path, triple: str, objects: Sequence[Path] = ()
) -> str:
    """Write a compiled module as what TVM's server on a machine of ``triple`` loads; its path.

    A shared library where a linker for that machine is here, else an object: the server then has
    its own compiler link it.

    Raises:
        BuildError: the linker refused.
    """
    isa = triple.split("-")[0]
    names = ("ld", "ld.lld") if isa == _host_isa() else (f"{isa}-linux-gnu-ld", "ld.lld")
    linker = next(filter(None, map(shutil.which, names)), None) if "linux" in triple else None
    executable.mod.write_to_file(f"{stem}.o", "o")
    if linker is None:
        require(not objects, NO_LINKER, BuildError)
        return f"{stem}.o"
    _share(linker, stem, objects)
    return f"{stem}.so"


def export_library(
    executable: Any, path: Path, isa: str, symbol: str, text: str, objects: Sequence[Path] = ()
) -> None:
    """Write a shared library: the module's code for ``isa``, ``text`` as the C string ``symbol``.

    Raises:
        BuildError: no C compiler for it, or a path that does not end in .so or cannot be written.
    """
    names = HOST_COMPILERS if isa == _host_isa() else (f"{isa}-linux-gnu-gcc",)
    compiler = next(filter(None, map(shutil.which, names)), None)
    why = f"export: linking code for {isa} needs one of {', '.join(names)}; install it"
    require(compiler, why, BuildError)
    require(path.suffix == ".so", f"path = {str(path)!r}: the name must end in .so", BuildError)
    require(path.parent.is_dir(), f"path = {str(path)!r}: no such folder", BuildError)
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    with tempfile.TemporaryDirectory(prefix="anatune-") as folder:
        code, note = Path(folder) / "kernel.o", Path(folder) / "note.c"
        executable.mod.write_to_file(str(code), "o")
        note.write_text(f'const char {symbol}[] = "{escaped}";\n')
        linked = Path(folder) / "kernel.so"
        others = [f"-Wl,{OWN_SYMBOLS}", *map(str, objects)] if objects else []
        _run([str(compiler), "-shared", "-fPIC", "-o", str(linked), str(code), str(note), *others])
        _put(linked, path)


def _put(made: Path, path: Path) -> None:
    """Copy ``made`` to ``path`` as a new file: one that a process has open there stays whole."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        shutil.copyfile(made, beside)
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        why = f"path = {str(path)!r}: cannot be written: {error.strerror}"
        raise BuildError(why) from None


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = last_line(done.stderr) or "failed without a word"
        raise BuildError(f"{Path(command[0]).name}: {reason}")
