"""Runs kernels on operands that touch a page nobody may read or write; a process of its own.

Each line of standard input names a shared library, its extents and whether the operands end right
before the forbidden page or begin right after it. A kernel that steps over is killed by the system.
"""

from __future__ import annotations

import ctypes
import json
import math
import mmap
import sys

import numpy as np
import tvm_ffi

from anatune.codegen.call import ENTRY, PACK_ENTRY
from anatune.codegen.library import load_module

PAGE = mmap.PAGESIZE
NO_ACCESS = 0  # PROT_NONE
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
KEPT = []  # a mapping ends with the last array that sees it


def guarded(shape: tuple[int, ...], at_end: bool) -> np.ndarray:
    """An array of float32 that ends right before, or begins right after, a forbidden page."""
    size = 4 * math.prod(shape)
    room = -(-size // PAGE) * PAGE
    pages = mmap.mmap(-1, room + 2 * PAGE)
    KEPT.append(pages)
    start = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    for page in (start, start + PAGE + room):
        if LIBC.mprotect(page, PAGE, NO_ACCESS):
            raise OSError(ctypes.get_errno(), "mprotect")
    offset = PAGE + (room - size if at_end else 0)
    return np.frombuffer(pages, np.float32, math.prod(shape), offset).reshape(shape)


def run(path: str, m: int, n: int, k: int, packed: list[int] | None, at_end: bool) -> bool:
    generator = np.random.default_rng(m + n + k)
    a, b, c = (guarded(shape, at_end) for shape in ((m, k), (k, n), (m, n)))
    for x in (a, b):
        x[:] = generator.integers(-8, 9, size=x.shape)
    c.fill(np.nan)
    module, taken = load_module(path), b
    if packed is not None:
        taken = guarded(tuple(packed), at_end)
        module[PACK_ENTRY](tvm_ffi.from_dlpack(b), tvm_ffi.from_dlpack(taken))
    module[ENTRY](*(tvm_ffi.from_dlpack(x) for x in (a, taken, c)))
    return bool((c == a.astype(float) @ b.astype(float)).all())


for line in sys.stdin:
    case = json.loads(line)
    print(json.dumps(case), flush=True)  # before the run: the last line is the one that was killed
    assert run(*case), f"wrong result: {case}"
