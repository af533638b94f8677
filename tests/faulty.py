"""A compiler that breaks the kernels it is told to break: what a builder's process serves in tests.

`Faults` writes down which plan goes wrong in which way; the process reads it. All of them are real:
machine code that a candidate's process loads and runs.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anatune.errors import BuildError
from anatune.measure.builder import Compiler
from anatune.plan import Plan, read_plan

VARIABLE = "ANATUNE_TEST_FAULTS"
ALL = "all plans"

SYMBOL = "__tvm_ffi_main"
"""What a compiled ``main`` is called in a library, as ``nm -D`` shows it."""

ILLEGAL = "ud2" if platform.machine() in ("x86_64", "AMD64") else ".inst 0"

CODE = {
    "crash": "*(volatile int *)16 = 1;",
    "hang": "for (;;) pause();",
    "illegal instruction": f'__asm__ volatile ("{ILLEGAL}");',
    "exit": 'fputs("no more\\n", stderr); exit(5);',
    "heap": "char *p = malloc(100000); memset(p, 0xa5, 100032); free(p);",
    "memory": "for (;;) { memset(malloc(4 << 20), 1, 4 << 20); usleep(1000); }",
    "nothing": "",
}
"""Body of ``main`` by the name of what goes wrong."""

LATE = "late "
"""Begins the name of a fault of `CODE` that comes after some calls that were right."""

RIGHT_CALLS = 4
"""Calls before a late fault: more than what a check takes, fewer than a timing."""

SOURCE = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int right(void *, void *, int, void *);
static int calls;
int {symbol}(void *self, void *arguments, int count, void *result) {{
  if (calls++ < {right}) return right(self, arguments, count, result);
  {body}
  return 0;
}}
"""


class Faults:
    """Which plans go wrong, told to processes that are started from now on."""

    def __init__(self, folder: Path, monkeypatch: Any) -> None:
        from anatune.measure import builder

        self._file = folder / "faults.json"
        monkeypatch.setenv(VARIABLE, str(self._file))
        monkeypatch.setattr(builder, "COMPILER", "faulty:FaultyCompiler")
        self.are({})

    def are(self, faults: Mapping[Plan | str, str]) -> None:
        """Kinds by plan, or by `ALL`; other plans are compiled as they should be."""
        named = {p if isinstance(p, str) else p.to_json(): kind for p, kind in faults.items()}
        self._file.write_text(json.dumps(named))


class FaultyCompiler(Compiler):
    """Compiles what the file says, wrong as it says."""

    def compile(self, plan: str, stem: str) -> str:
        faults = json.loads(Path(os.environ[VARIABLE]).read_text())
        kind = faults.get(read_plan(plan).to_json(), faults.get(ALL, ""))
        if kind.startswith("compiler"):
            _fail(kind)
        if kind == "forgetful":
            return self._forgetful(plan, stem)
        path = super().compile(plan, stem)
        return _spoil(Path(path), kind) if kind else path

    def _forgetful(self, plan: str, stem: str) -> str:
        """Leave out the last step along k: numbers that look like any others."""
        from anatune.codegen import gemm
        from anatune.codegen.span import Span

        tiles = gemm._Thread._tiles

        def without_last(thread, item, spans):
            k = spans["k"]
            return tiles(thread, item, {**spans, "k": Span(k.start, k.stop - 1, k.number)})

        gemm._Thread._tiles = without_last
        try:
            return super().compile(plan, stem)
        finally:
            gemm._Thread._tiles = tiles


def _fail(kind: str) -> None:
    if kind == "compiler crash":
        ctypes.string_at(0)
    if kind == "compiler hang":
        time.sleep(600)
    held = []
    while kind == "compiler memory":
        held.append(bytearray(b"x" * (8 << 20)))
        time.sleep(0.001)
    raise BuildError("as arranged")


def _spoil(library: Path, kind: str) -> str:
    """Another library beside ``library``, whose ``main`` goes wrong."""
    right, code = library.with_suffix(".right.o"), library.with_suffix(".c")
    spoiled = library.with_suffix(".spoiled.so")
    late = kind.startswith(LATE)
    body = CODE[kind.removeprefix(LATE)]
    code.write_text(SOURCE.format(symbol=SYMBOL, right=RIGHT_CALLS if late else 0, body=body))
    renamed = ["objcopy", f"--redefine-sym={SYMBOL}=right", library.with_suffix(".o"), right]
    linked = ["cc", "-O0", "-w", "-shared", "-fPIC", "-o", spoiled, code, right]
    for command in (renamed, linked):
        subprocess.run(command, check=True)
    return str(spoiled)


def able() -> bool:
    """Whether this machine has the tools that make a library."""
    return all(map(shutil.which, ("cc", "objcopy", "ld")))
