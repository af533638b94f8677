"""From C, LLVM's language, objects and archives to a micro-kernel's code (rank 5)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from anatune.codegen.link import HOST_COMPILERS
from anatune.errors import BuildError, OptionError, last_line, require

LLVM_TEXT = re.compile(r"^\s*define\b", re.MULTILINE)
"""What every text in LLVM's language has that defines a function; C has "#define"."""

FLAGS = ("-O3", "-fPIC", "-fno-stack-protector")
"""How C is compiled: fast, for a shared library, and without calls of what checks the stack."""

X86_FLAGS = {
    "avxvnni": "-mavxvnni", **{f"avx512{x}": f"-mavx512{x}" for x in ("f", "bw", "dq", "vl")},
    "avx": "-mavx", "avx2": "-mavx2", "fma": "-mfma", "f16c": "-mf16c",
    "avx512vnni": "-mavx512vnni", "avx512bf16": "-mavx512bf16",
}  # fmt: skip
"""A C compiler's flag by LLVM's name of a feature; those that old compilers lack are left out."""

SUFFIXES = (".c", ".ll", ".o", ".a")

Source = str | os.PathLike[str]


def code_of(
    source: Source,
    symbol: str,
    features: Sequence[str] = (),
    flags: Sequence[str] = (),
    link: Sequence[Source] = (),
) -> tuple[bytes, str]:
    """The code in ``source`` and its form: ("llvm", ...) as text, all else as one object.

    Args:
        source: a text in C or in LLVM's language, or the path of a .c, .ll, .o or .a file.
        symbol: the function that is wanted; of an archive only what it needs is taken.
        features, flags: what C may use, and further flags of the compiler.
        link: objects and archives that it needs besides.

    Raises:
        OptionError: not one of these.
        BuildError: no compiler or linker, or what it said.
    """
    path = _path(source)
    others = [Path(file) for file in link]
    if path is not None and path.suffix in (".o", ".a"):
        return _linked(symbol, [path, *others]), "object"
    text = str(source) if path is None else path.read_text(encoding="utf-8")
    if path.suffix == ".ll" if path is not None else LLVM_TEXT.search(text):
        return text.encode(), "llvm"
    where = () if path is None else ("-I", str(path.parent))
    with tempfile.TemporaryDirectory(prefix="anatune-") as folder:
        made = _compiled(text, Path(folder), features, (*where, *flags))
        return _linked(symbol, [made, *others]), "object"


def _path(source: Source) -> Path | None:
    """The file that ``source`` names; None where it is a text."""
    if isinstance(source, str) and ("\n" in source or "{" in source):
        return None
    path = Path(source)
    require(
        path.suffix in SUFFIXES,
        f"source = {str(source)!r}: a text, or a file of the kinds {', '.join(SUFFIXES)}; a shared "
        "library cannot be put into a kernel: give its archive (.a)",
        OptionError,
    )
    require(path.is_file(), f"source = {str(source)!r}: no such file", OptionError)
    return path


def _compiled(text: str, folder: Path, features: Sequence[str], flags: Sequence[str]) -> Path:
    compiler = next(filter(None, map(shutil.which, HOST_COMPILERS)), None)
    why = f"source: compiling C needs one of {', '.join(HOST_COMPILERS)}; install it"
    require(compiler, why, BuildError)
    file, made = folder / "kernel.c", folder / "kernel.o"
    file.write_text(text, encoding="utf-8")
    able = [X86_FLAGS[feature] for feature in features if feature in X86_FLAGS]
    _run([str(compiler), *FLAGS, *able, *flags, "-c", str(file), "-o", str(made)])
    return made


def _linked(symbol: str, files: Sequence[Path]) -> bytes:
    """One object of ``files``, with as much of archives as ``symbol`` needs."""
    for file in files:
        require(file.is_file(), f"link = {str(file)!r}: no such file", OptionError)
    linker = shutil.which("ld") or shutil.which("ld.lld")
    require(linker, "source: joining objects needs ld or ld.lld; install binutils", BuildError)
    with tempfile.TemporaryDirectory(prefix="anatune-") as folder:
        made = Path(folder) / "joined.o"
        _run([str(linker), "-r", "-u", symbol, "-o", str(made), *map(str, files)])
        return made.read_bytes()


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "error" in line] or [done.stderr]
        raise BuildError(f"{Path(command[0]).name}: {last_line(said[0]) or 'failed'}")
