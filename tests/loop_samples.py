"""Loops with conditions in them, as a TVM user writes them, and what numpy says they compute."""

# flake8: noqa: F841
from __future__ import annotations

import numpy as np
from tvm.script import tirx as T


@T.prim_func
def shifted(a: T.handle, b: T.handle):
    """A tile that does not divide, a halo, and a Select."""
    T.func_attr({"tirx.noalias": True, "global_symbol": "main"})
    n = T.int64()
    A = T.match_buffer(a, (n,), "float32", align=4)
    B = T.match_buffer(b, (n,), "float32", align=4)
    for i in range((n + 15) // 16):
        for j in range(16):
            if T.likely(i * 16 + j < n):
                B[i * 16 + j] = T.if_then_else(
                    0 < i * 16 + j, A[i * 16 + j - 1], T.float32(0)
                ) + T.Select(i > 0, T.float32(1), T.float32(2))


def shifted_by_numpy(a):
    b = np.concatenate([np.zeros(1, "float32"), a[:-1]]) + np.float32(1)
    b[:16] += np.float32(1)
    return b


@T.prim_func
def stencil(a: T.handle, b: T.handle):
    """3x3 sums with zero padding: each condition has loops inside."""
    T.func_attr({"tirx.noalias": True, "global_symbol": "main"})
    n = T.int64()
    m = T.int64()
    A = T.match_buffer(a, (n, m), "float32", align=4)
    B = T.match_buffer(b, (n, m), "float32", align=4)
    for i, j in T.grid(n, m):
        B[i, j] = T.float32(0)
        for di, dj in T.grid(3, 3):
            if i + di >= 1 and i + di - 1 < n and j + dj >= 1 and j + dj <= m:
                B[i, j] = B[i, j] + A[i + di - 1, j + dj - 1]


@T.prim_func
def unrolled_stencil(a: T.handle, b: T.handle):
    """The sum of a row's neighbours above, beside and below, zero outside."""
    T.func_attr({"tirx.noalias": True, "global_symbol": "main"})
    n = T.int64()
    m = T.int64()
    A = T.match_buffer(a, (n, m), "float32", align=4)
    B = T.match_buffer(b, (n, m), "float32", align=4)
    for i, j in T.grid(n, m):
        B[i, j] = (
            T.if_then_else(i > 0, A[i - 1, j], T.float32(0))
            + T.if_then_else(j > 0, A[i, j - 1], T.float32(0))
            + A[i, j]
            + T.if_then_else(j + 1 < m, A[i, j + 1], T.float32(0))
            + T.if_then_else(i + 1 < n, A[i + 1, j], T.float32(0))
        )


@T.prim_func
def saved_rows(a: T.handle, b: T.handle):
    """A recurrence, whose order counts, with a start of its own and an end that is left alone."""
    T.func_attr({"tirx.noalias": True, "global_symbol": "main"})
    n = T.int64()
    A = T.match_buffer(a, (n,), "float32", align=4)
    B = T.match_buffer(b, (n,), "float32", align=4)
    for i in range(n):
        if i == 0:
            B[i] = A[i]
        else:
            if i != 7:
                B[i] = B[i - 1] * T.float32(0.5) + A[i]
            else:
                B[i] = T.float32(3)


@T.prim_func
def chosen(a: T.handle, b: T.handle):
    """Conditions that are no linear function of a loop, or none of a loop at all."""
    T.func_attr({"tirx.noalias": True, "global_symbol": "main"})
    n = T.int64()
    A = T.match_buffer(a, (n,), "float32", align=4)
    B = T.match_buffer(b, (n,), "float32", align=4)
    for i in range(n):
        B[i] = T.float32(0)
        for j in range(4):
            if n > 9:
                if i * i < 40:
                    B[i] = B[i] + A[i]
            else:
                if A[i] > T.float32(0.5):
                    B[i] = B[i] + A[i] * T.float32(2)


@T.prim_func
def parallel_rows(a: T.handle, b: T.handle):
    T.func_attr({"tirx.noalias": True, "global_symbol": "main"})
    n = T.int64()
    m = T.int64()
    A = T.match_buffer(a, (n, m), "float32", align=4)
    B = T.match_buffer(b, (n, m), "float32", align=4)
    for i in T.parallel((n + 7) // 8):
        for ii in range(8):
            for j in range(m):
                if i * 8 + ii < n:
                    B[i * 8 + ii, j] = A[i * 8 + ii, j] * T.float32(2)


@T.prim_func
def blocks(a: T.handle, b: T.handle):
    T.func_attr({"tirx.noalias": True, "global_symbol": "main"})
    n = T.int64()
    A = T.match_buffer(a, (n,), "float32", align=4)
    B = T.match_buffer(b, (n,), "float32", align=4)
    for i in T.thread_binding((n + 255) // 256, thread="blockIdx.x"):
        for j in T.thread_binding(256, thread="threadIdx.x"):
            if T.likely(i * 256 + j < n):
                B[i * 256 + j] = A[i * 256 + j] + T.float32(1)


@T.prim_func
def fixed(a: T.handle, b: T.handle):
    """All extents known: 100 rows of 37 in tiles of 8, and a triangle."""
    T.func_attr({"tirx.noalias": True, "global_symbol": "main"})
    A = T.match_buffer(a, (100, 37), "float32", align=4)
    B = T.match_buffer(b, (100, 37), "float32", align=4)
    for i in range(100):
        for j in range(5):
            for jj in range(8):
                if j * 8 + jj < 37:
                    if j * 8 + jj <= i:
                        B[i, j * 8 + jj] = A[i, j * 8 + jj]
                    else:
                        B[i, j * 8 + jj] = T.float32(0)


@T.prim_func
def with_sums(a: T.handle, b: T.handle):
    """An array of its own in each row, a while loop, and buffers that may be one."""
    T.func_attr({"global_symbol": "main"})
    n = T.int64()
    m = T.int64()
    A = T.match_buffer(a, (n, m), "float32", align=4)
    B = T.match_buffer(b, (n, m), "float32", align=4)
    for i in range(n):
        total = T.alloc_buffer((1,), "float32", scope="local")
        total[0] = T.float32(0)
        for j in range(m):
            if i > 1 and j < m - 1:
                total[0] = total[0] + A[i, j]
        left = T.alloc_buffer((1,), "int64", scope="local")
        left[0] = m - T.int64(1)
        while left[0] >= T.int64(0):
            if i < n - 1:
                B[i, left[0]] = total[0]
            else:
                B[i, left[0]] = A[i, left[0]]
            left[0] = left[0] - T.int64(1)


@T.prim_func
def left_early(a: T.handle, b: T.handle):
    T.func_attr({"global_symbol": "main", "tirx.noalias": True})
    n = T.int64()
    A = T.match_buffer(a, (n,), "float32", align=4)
    B = T.match_buffer(b, (n,), "float32", align=4)
    for i in range(n):
        if i > 5:
            break
        B[i] = A[i]
