"""Loops with conditions, as users write them, for `loop_partition.py`: TVM functions and sizes."""

# flake8: noqa: F841
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvm import s_tir, te, tirx
from tvm.script import tirx as T

TILE_ROWS, TILE_COLUMNS = 8, 16
"""Tiles of the product: neither divides its extents."""


@dataclass(frozen=True)
class Kernel:
    """A function, values of its sizes, shapes of its buffers, and the same padded, if it can be."""

    name: str
    func: Any
    sizes: Mapping[str, int]
    shapes: tuple[tuple[int, ...], ...]
    padded: Any = None


@T.prim_func
def tiled_scale(a: T.handle, b: T.handle):
    T.func_attr({"tirx.noalias": True, "global_symbol": "main"})
    n = T.int64()
    A = T.match_buffer(a, (n,), "float32", align=4)
    B = T.match_buffer(b, (n,), "float32", align=4)
    for i in range((n + 15) // 16):
        for j in range(16):
            if T.likely(i * 16 + j < n):
                B[i * 16 + j] = A[i * 16 + j] * T.float32(3) + T.float32(1)


@T.prim_func
def halo(a: T.handle, b: T.handle):
    T.func_attr({"tirx.noalias": True, "global_symbol": "main"})
    n = T.int64()
    A = T.match_buffer(a, (n,), "float32", align=4)
    B = T.match_buffer(b, (n,), "float32", align=4)
    for i in range(n):
        B[i] = (
            T.if_then_else(i > 1, A[i - 2], T.float32(0)) * T.float32(0.1)
            + T.if_then_else(i > 0, A[i - 1], T.float32(0)) * T.float32(0.2)
            + A[i] * T.float32(0.4)
            + T.if_then_else(i + 1 < n, A[i + 1], T.float32(0)) * T.float32(0.2)
            + T.if_then_else(i + 2 < n, A[i + 2], T.float32(0)) * T.float32(0.1)
        )


@T.prim_func
def stencil(a: T.handle, b: T.handle):
    T.func_attr({"tirx.noalias": True, "global_symbol": "main"})
    n = T.int64()
    m = T.int64()
    A = T.match_buffer(a, (n, m), "float32", align=4)
    B = T.match_buffer(b, (n, m), "float32", align=4)
    for i, j in T.grid(n, m):
        B[i, j] = T.float32(0)
        for di, dj in T.grid(3, 3):
            B[i, j] = B[i, j] + T.if_then_else(
                1 <= i + di and i + di <= n and 1 <= j + dj and j + dj <= m,
                A[i + di - 1, j + dj - 1],
                T.float32(0),
            )


@T.prim_func
def triangle(a: T.handle, b: T.handle):
    T.func_attr({"tirx.noalias": True, "global_symbol": "main"})
    n = T.int64()
    A = T.match_buffer(a, (n, n), "float32", align=4)
    B = T.match_buffer(b, (n, n), "float32", align=4)
    for i, j in T.grid(n, n):
        B[i, j] = T.if_then_else(j <= i, A[i, j] * T.float32(0.125), T.float32(-1000))


def product(padded: bool) -> Any:
    """C = A B of symbolic rows, in tiles that divide nothing, or padded to what they divide."""
    m, n, k = tirx.Var("m", "int64"), tirx.IntImm("int64", 50), tirx.IntImm("int64", 64)
    a = te.placeholder((m, k), "float32", "A")
    b = te.placeholder((k, n), "float32", "B")
    along = te.reduce_axis((tirx.IntImm("int64", 0), k), "k")
    c = te.compute((m, n), lambda i, j: te.sum(a[i, along] * b[along, j], axis=along), name="C")
    s = s_tir.Schedule(te.create_prim_func([a, b, c]))
    block = s.get_sblock("C")
    if padded:
        s.pad_einsum(block, [TILE_ROWS, TILE_COLUMNS, 1])
    i, j, kk = s.get_loops(block)
    i0, i1 = s.split(i, [None, TILE_ROWS])
    j0, j1 = s.split(j, [None, TILE_COLUMNS])
    s.reorder(i0, j0, kk, i1, j1)
    s.unroll(i1)
    s.vectorize(j1)
    s.decompose_reduction(block, kk)
    return s.mod["main"]


def kernels() -> list[Kernel]:
    return [
        Kernel("tile of 16", tiled_scale, {"n": 20003}, ((20003,), (20003,))),
        Kernel("halo of 2", halo, {"n": 20003}, ((20003,), (20003,))),
        Kernel("3x3 stencil", stencil, {"n": 131, "m": 133}, ((131, 133), (131, 133))),
        Kernel("triangle", triangle, {"n": 131}, ((131, 131), (131, 131))),
        Kernel("product, 50 rows", product(False), {"m": 50},
               ((50, 64), (64, 50), (50, 50)), product(True)),
    ]  # fmt: skip
