"""Runs kernels on operands that touch a page nobody may read or write; a process of its own.

Each line of standard input names a shared library, its plan, whether the arrays end right before
the forbidden page or begin right after it, and the values of a family's dims, none of other plans.
A kernel that steps over is killed by the system.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import sys

import numpy as np
from products import assert_close, is_exact, run, tensors, whole_numbers

from anatune.codegen.library import load_module
from anatune.plan import DynamicPlan, Storage, read_plan
from anatune.workload import Tensor
from anatune.workload.dtypes import numpy_dtype

PAGE = mmap.PAGESIZE
NO_ACCESS = 0  # PROT_NONE
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
KEPT = []  # a mapping ends with the last array that sees it


def guarded(tensor: Tensor, at_end: bool) -> np.ndarray:
    """An array like ``tensor`` that ends right before, or begins right after, a forbidden page."""
    dtype = numpy_dtype(tensor.dtype)
    size = dtype.itemsize * tensor.span
    room = -(-size // PAGE) * PAGE
    pages = mmap.mmap(-1, room + 2 * PAGE)
    KEPT.append(pages)
    start = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    for page in (start, start + PAGE + room):
        if LIBC.mprotect(page, PAGE, NO_ACCESS):
            raise OSError(ctypes.get_errno(), "mprotect")
    memory = np.frombuffer(pages, dtype, tensor.span, PAGE + (room - size if at_end else 0))
    strides = [step * dtype.itemsize for step in tensor.strides or (1,)]
    return np.lib.stride_tricks.as_strided(memory, tensor.shape or (1,), strides)


def check(path: str, text: str, at_end: bool, dims: dict[str, int] | None = None) -> None:
    p = read_plan(text)
    laid = tensors(p.workload)
    if isinstance(p, DynamicPlan):
        laid = {name: tensor.at(dims) for name, tensor in laid.items()}
        p = p.member(**dims)
    values = whole_numbers(p.workload)
    arrays = {name: guarded(tensor, at_end) for name, tensor in laid.items()}
    for name, array in arrays.items():
        array[...] = np.reshape(values[name], array.shape)
    packed = None
    if p.b is Storage.PACKED_AHEAD:
        packed = guarded(Tensor.rows(p.packed_ahead_shape, p.multiply.b), at_end)
    module = load_module(path)
    run(p, lambda name: module[name], arrays, packed)
    got = arrays["out"].reshape(p.workload.output.shape)
    assert_close(p, values, got, is_exact(p.workload))


for line in sys.stdin:
    case = json.loads(line)
    print(json.dumps(case), flush=True)  # before the run: the last line is the one that was killed
    check(*case)
