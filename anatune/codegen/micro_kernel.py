"""The register tile: a block of C kept in vector registers over one run of k (rank 5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm.tirx.script import builder as T

from anatune.codegen.vectors import Row


@dataclass(frozen=True)
class TileOperands:
    """What a register tile reads and writes, as expressions of its own subscripts.

    ``a(i, p)`` is a scalar, ``b(p, u)`` and ``c(i, u)`` are vectors (u counts vectors of a row);
    ``store_c(i, u, value)`` writes one back. Where given, ``prefetch_c(i, u)`` asks for it before
    the loop, and ``keep_b(p, u, value)`` puts each vector of B aside as it is read: packing on
    first use.
    """

    a: Callable[[int, Any], Any]
    b: Callable[[Any, int], Any]
    c: Callable[[int, int], Any]
    store_c: Callable[[int, int, Any], None]
    prefetch_c: Callable[[int, int], None] | None = None
    keep_b: Callable[[Any, int, Any], None] | None = None


def emit_micro_kernel(height: int, row: Row, k_length: Any, first: Any, tile: TileOperands) -> None:
    """C[0:height, row] (+)= A[0:height, 0:k_length] B[0:k_length, row].

    Before::

        for i, j, p in grid(height, row.columns, k_length): C[i, j] += A[i, p] * B[p, j]

    After: ``height * row.vectors`` accumulators, all unrolled, around one loop::

        prefetch(C[i, u])           # if asked for
        acc[i, u] = 0
        for p in range(k_length):
            b[u] = B[p, u]
            acc[i, u] += broadcast(A[i, p]) * b[u]
        C[i, u] = acc[i, u] if first else C[i, u] + acc[i, u]

    ``first`` is a Python bool where it is known, else a condition: true overwrites C. C is read
    after the loop, so that a prefetch before it has the loop's time to come.
    """
    accumulators = T.alloc_buffer((height, row.vectors, row.lanes), row.dtype, scope="local")
    lanes = T.ramp(0, 1, row.lanes)

    def each(do: Callable[[int, int], None]) -> None:
        for i in range(height):
            for u in range(row.vectors):
                do(i, u)

    def put(i: int, u: int, value: Any) -> None:
        T.buffer_store(accumulators, value, [i, u, lanes])

    if tile.prefetch_c is not None:
        each(tile.prefetch_c)
    each(lambda i, u: put(i, u, row.zero()))
    with T.serial(0, k_length) as p:
        b = [T.bind(tile.b(p, u)) for u in range(row.vectors)]
        if tile.keep_b is not None:
            for u, value in enumerate(b):
                tile.keep_b(p, u, value)
        for i in range(height):
            a = T.bind(T.broadcast(tile.a(i, p), row.lanes))
            for u in range(row.vectors):
                put(i, u, accumulators[i, u, lanes] + a * b[u])
    _choose(
        first,
        lambda: each(lambda i, u: tile.store_c(i, u, accumulators[i, u, lanes])),
        lambda: each(lambda i, u: tile.store_c(i, u, tile.c(i, u) + accumulators[i, u, lanes])),
    )


def _choose(condition: Any, then: Callable[[], None], otherwise: Callable[[], None]) -> None:
    if isinstance(condition, bool):
        (then if condition else otherwise)()
        return
    with T.If(condition):
        with T.Then():
            then()
        with T.Else():
            otherwise()
