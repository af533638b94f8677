"""The register tile: a block of C, A or B kept in vector registers (rank 5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm.tirx.script import builder as T

from anatune.codegen.vectors import ON_STACK, Row

Multiply = Callable[[Any, Any, Any], Any]
"""``multiply(sums, a, b)``: vectors of sums plus products."""


@dataclass(frozen=True)
class TileOperands:
    """What a register tile reads and writes, as expressions of its own subscripts.

    ``a(i, q)`` is a group of A for all lanes, ``b(q, u)`` and ``start(u)``, the first value of the
    sums, are vectors (u counts vectors of a row); ``finish(i, u, sums)`` disposes of the sums.
    Where given, ``prefetch_c(i, u)`` asks for C before the loop, and ``keep_b(q, u, value)`` puts
    each vector of B aside as it is read: packing on first use.
    """

    multiply: Multiply
    a: Callable[[int, Any], Any]
    b: Callable[[Any, int], Any]
    start: Callable[[int], Any]
    finish: Callable[[Callable[[int, int], Any]], None]
    prefetch_c: Callable[[int, int], None] | None = None
    keep_b: Callable[[Any, int, Any], None] | None = None


def emit_with_c_in_registers(
    height: int, row: Row, groups: Any, accumulator: str, tile: TileOperands, tail: Tail | None
) -> None:
    """C[0:height, row] += A[0:height, k] B[k, row], k in ``groups`` groups of steps.

    Before::

        for i, j, p in grid(height, row.columns, k_length): C[i, j] += A[i, p] * B[p, j]

    After: ``height * row.vectors`` accumulators, all unrolled, around one loop::

        prefetch(C[i, u])           # if asked for
        acc[i, u] = start[u]
        for q in range(groups):
            b[u] = B[q, u]
            acc[i, u] = multiply(acc[i, u], broadcast(A[i, q]), b[u])
        finish(acc)

    Earlier sums are added by ``finish``, after the loop, so that a prefetch has the loop's time to
    come. ``tail`` is an incomplete group after the others, read from A with care.
    """
    shape = (height, row.vectors, row.lanes)
    accumulators = T.alloc_buffer(shape, accumulator, scope="local", annotations=ON_STACK)
    lanes = T.ramp(0, 1, row.lanes)

    def get(i: int, u: int) -> Any:
        return accumulators[i, u, lanes]

    def put(i: int, u: int, value: Any) -> None:
        T.buffer_store(accumulators, value, [i, u, lanes])

    def step(q: Any, a_at: Callable[[int], Any]) -> None:
        b = [T.bind(tile.b(q, u)) for u in range(row.vectors)]
        if tile.keep_b is not None:
            for u, value in enumerate(b):
                tile.keep_b(q, u, value)
        for i in range(height):
            a = T.bind(a_at(i))
            for u in range(row.vectors):
                put(i, u, tile.multiply(get(i, u), a, b[u]))

    each = [(i, u) for i in range(height) for u in range(row.vectors)]
    if tile.prefetch_c is not None:
        for i, u in each:
            tile.prefetch_c(i, u)
    for i, u in each:
        put(i, u, tile.start(u))
    with T.serial(0, groups) as q:
        step(q, lambda i: tile.a(i, q))
    if tail is not None:
        with T.If(tail.present), T.Then():
            step(groups, tail.a)
    tile.finish(get)


@dataclass(frozen=True)
class Tail:
    """An incomplete last group: whether this block of k ends in it, and its elements of A."""

    present: Any
    a: Callable[[int], Any]


@dataclass(frozen=True)
class StreamOperands:
    """What a tile reads and writes that keeps A or B in registers, by subscripts of its own.

    ``a(i, p)`` is an element of A for all lanes, ``b(p, u)`` a vector; ``c(i, u)`` the sums so far,
    ``store_c(i, u, sums)`` puts them back.
    """

    multiply: Multiply
    a: Callable[[Any, int], Any]
    b: Callable[[int, Any], Any]
    c: Callable[[Any, Any], Any]
    store_c: Callable[[Any, Any, Any], None]


def emit_with_a_in_registers(
    height: int, steps: int, passes: Callable[[Callable[[Any, Row], None]], None],
    tile: Callable[[Any, Row], StreamOperands], a: Callable[[int, int], Any],
) -> None:
    """C[0:height, :] += A[0:height, 0:steps] B[0:steps, :], B and C streaming past.

    After::

        r[i, p] = broadcast(A[i, p])            # height * steps registers
        for piece of the row:
            for p in range(steps): C[i, u] += r[i, p] * B[p, u]     # all i and u of the piece

    ``passes(body)`` runs ``body(number, row)`` for each piece of the row.
    """  # fmt: skip
    kept = [[T.bind(a(i, p)) for p in range(steps)] for i in range(height)]

    def piece(number: Any, row: Row) -> None:
        operands = tile(number, row)
        each = [(i, u) for i in range(height) for u in range(row.vectors)]
        sums = {(i, u): operands.c(i, u) for i, u in each}
        for p in range(steps):
            b = [T.bind(operands.b(p, u)) for u in range(row.vectors)]
            for i, u in each:
                sums[i, u] = T.bind(operands.multiply(sums[i, u], kept[i][p], b[u]))
        for i, u in each:
            operands.store_c(i, u, sums[i, u])

    passes(piece)


def emit_with_b_in_registers(
    row: Row, steps: int, passes: Callable[[Callable[[Any, int], None]], None],
    tile: Callable[[Any], StreamOperands], b: Callable[[int, int], Any],
) -> None:
    """C[:, row] += A[:, 0:steps] B[0:steps, row], A and C streaming past.

    After::

        r[p, u] = B[p, u]                       # steps * row.vectors registers
        for piece of the rows:
            for p in range(steps): C[i, u] += broadcast(A[i, p]) * r[p, u]     # all i and u

    ``passes(body)`` runs ``body(number, height)`` for each piece of the rows.
    """  # fmt: skip
    kept = [[T.bind(b(p, u)) for u in range(row.vectors)] for p in range(steps)]

    def piece(number: Any, height: int) -> None:
        operands = tile(number)
        each = [(i, u) for i in range(height) for u in range(row.vectors)]
        sums = {(i, u): operands.c(i, u) for i, u in each}
        for p in range(steps):
            a = [T.bind(operands.a(i, p)) for i in range(height)]
            for i, u in each:
                sums[i, u] = T.bind(operands.multiply(sums[i, u], a[i], kept[p][u]))
        for i, u in each:
            operands.store_c(i, u, sums[i, u])

    passes(piece)
