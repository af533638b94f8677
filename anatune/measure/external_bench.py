"""Inside the worker: build a trial of a foreign micro-kernel, check it, time it (rank 6)."""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path

import numpy as np

from anatune.codegen.external import TILES_IN_TURN, write_trial
from anatune.codegen.library import load_module, load_runtime
from anatune.measure.bench import time_batches
from anatune.measure.calibrate import calls_of_batch
from anatune.measure.pinning import pin_threads
from anatune.plan import CodeTarget, ExternalKernel
from anatune.workload.dtypes import SIGNIFICANT_BITS, is_float

PAGE = mmap.PAGESIZE

NO_ACCESS = 0
"""PROT_NONE, mprotect(2)."""

AROUND = 4096
"""Elements of C's memory before the tile and after it that a kernel must leave alone."""

BATCH_S = 0.002
"""Length of a timed batch, seconds: thousands of calls."""

BATCHES = 7
"""Batches of which the fastest counts."""


class Trial:
    """One micro-kernel in a process that it may end."""

    def __init__(self, kernel: ExternalKernel, target: CodeTarget, folder: str) -> None:
        load_runtime()
        self.kernel, self.target = kernel, target
        self._stem = Path(folder) / "trial"

    def build(self) -> str:
        """Compile and link; the library's path."""
        return write_trial(self.kernel, self.target, self._stem)

    def check(self, path: str, k: int, ldc: int, accumulate: bool) -> str:
        """Call it once; "" or what it did wrong."""
        kernel = self.kernel
        a, b = self._panel(kernel.mr, k, 0), self._panel(kernel.nr, k, 1)
        span = (kernel.mr - 1) * ldc + kernel.nr
        memory = np.full(span + 2 * AROUND + 1, 3, a.dtype)  # 3: no sum of a fresh tile by chance
        c = _tile(memory, kernel, ldc)
        before = _numbers(c.shape, kernel.dtype, k, 2) if accumulate else _unread(c)
        c[...] = before
        kept, inputs = memory.copy(), (a.copy(), b.copy())
        main = load_module(path)["main"]
        main(1, k, a.ctypes.data, b.ctypes.data, c.ctypes.data, ldc, int(accumulate), 0)
        wide = "float64" if is_float(kernel.dtype) else "int64"
        right = a.astype(wide).T @ b.astype(wide)
        if accumulate:
            right += before.astype(wide)
        if not all(np.array_equal(x, y) for x, y in zip((a, b), inputs)):
            return "writes to its operands"
        wrong = np.argwhere(c != right.astype(a.dtype))
        if len(wrong):
            i, j = wrong[0]
            return f"c[{i}, {j}] = {c[i, j]}, {right[i, j]:g} is right"
        _tile(kept, kernel, ldc)[...] = c
        touched = np.flatnonzero(memory != kept)
        return f"writes outside its tile, {_where(touched[0], kernel, ldc)}" if len(touched) else ""

    def seconds(self, path: str, steps: int) -> float:
        """Of one call: the fastest of some batches, panels and tiles in the nearest cache."""
        kernel = self.kernel
        a, b = self._panel(kernel.mr, steps, 0), self._panel(kernel.nr, steps, 1)
        tile = kernel.mr * kernel.nr
        c = np.zeros(TILES_IN_TURN * tile, a.dtype)
        pin_threads()
        module = load_module(path)
        places = [x.ctypes.data for x in (a, b, c)]
        rest = (steps, *places, kernel.nr, 1, tile * a.itemsize)

        def sample(calls: int) -> float:
            return time_batches(module, (calls, *rest), calls=1, batches=1)[0] / calls

        calls = calls_of_batch(sample, BATCH_S, cold=False)
        return min(sample(calls) for _ in range(BATCHES))

    def _panel(self, width: int, steps: int, seed: int) -> np.ndarray:
        """A panel whose last row that may be read ends right before a page that nobody may read."""
        dtype = np.dtype(self.kernel.dtype)
        rows = steps + self.kernel.slack_steps
        size = rows * width * dtype.itemsize
        room = -(-size // PAGE) * PAGE
        pages = mmap.mmap(-1, room + PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(pages))
        ctypes.CDLL(None).mprotect(ctypes.c_void_p(start + room), PAGE, NO_ACCESS)
        panel = np.frombuffer(pages, dtype, rows * width, room - size).reshape(rows, width)
        panel[...] = np.nan if is_float(self.kernel.dtype) else -1
        panel[:steps] = _numbers((steps, width), self.kernel.dtype, steps, seed)
        return panel[:steps]


def _tile(memory: np.ndarray, kernel: ExternalKernel, ldc: int) -> np.ndarray:
    """The tile in C's memory, at an address that only its elements' size divides."""
    strides = (ldc * memory.itemsize, memory.itemsize)
    shape = (kernel.mr, kernel.nr)
    return np.lib.stride_tricks.as_strided(memory[AROUND + 1 :], shape, strides)


def _numbers(shape: tuple[int, ...], dtype: str, k: int, seed: int) -> np.ndarray:
    """Whole numbers of as many bits as leave every sum of ``k`` products exact."""
    generator = np.random.default_rng(seed)
    if not is_float(dtype):
        return generator.integers(-(1 << 31), 1 << 31, shape).astype(dtype)
    bits = (SIGNIFICANT_BITS[dtype] - (k + 1).bit_length() - 1) // 2
    return generator.integers(-(1 << bits), (1 << bits) + 1, shape).astype(dtype)


def _unread(c: np.ndarray) -> np.ndarray:
    """What spoils every sum of a kernel that reads what it is to overwrite."""
    return np.full_like(c, np.nan if is_float(str(c.dtype)) else -1)


def _where(place: int, kernel: ExternalKernel, ldc: int) -> str:
    """A place in C's memory in words."""
    offset = int(place) - AROUND - 1
    if offset < 0:
        return f"{-offset} elements before it"
    row, column = divmod(offset, ldc)
    return f"in row {row}, column {column}"
