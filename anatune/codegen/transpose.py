"""Squares of vectors with rows and columns exchanged, in registers (rank 5)."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T


def transposed(vectors: list[Any]) -> list[Any]:
    """A square of lanes with rows and columns exchanged: blocks of 1, 2, 4, ... change places.

    Each stage takes the lanes of two rows that stand at a distance; LLVM finds the instructions.
    """
    lanes, distance = len(vectors), 1
    while distance < lanes:
        upper = [x if not x & distance else lanes + (x ^ distance) for x in range(lanes)]
        lower = [x ^ distance if not x & distance else lanes + x for x in range(lanes)]
        for i in range(lanes):
            if not i & distance:
                pair = [vectors[i], vectors[i | distance]]
                vectors[i], vectors[i | distance] = _lanes(pair, upper), _lanes(pair, lower)
        distance *= 2
    return vectors


def _lanes(pair: list[Any], chosen: list[int]) -> Any:
    return T.bind(tirx.Shuffle(pair, [tirx.IntImm("int32", lane) for lane in chosen]))
