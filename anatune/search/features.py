"""What a search learns from: the model's terms of each plan, and where the plan lies (rank 7.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2, sqrt

import numpy as np
from numpy.typing import NDArray

from anatune.model.candidates import Ranked
from anatune.model.explain import ADDED
from anatune.plan import ARITHMETIC, GemmPlan, Order, Storage

Array = NDArray[np.float64]

PORTS = ("multiply-add units", "load ports", "store ports")
DATA = ("L2 bandwidth", "L3 bandwidth", "memory bandwidth", "row starts", "TLB misses")
TERMS = (*PORTS, *DATA, *ADDED)
"""Terms of `model.estimate.predict`: those that overlap, those of them that are one wait for data,
and those that overlap with nothing."""

RESIDENT = ("C", "A", "B")
"""Operands that a tile keeps in registers."""

TILE_OCTAVES = 0.5
"""Octaves along a tile's side over which what is learnt of one fades: 8 rows tell much of 10 rows,
little of 16."""

BLOCK_OCTAVES = 1.0
"""The same along blocks and thread grids: a cache holds a block or does not, within a factor of
two."""

APART = sqrt(0.5)
"""Coordinate of a named choice on an axis of its own: two that differ are at distance 1."""


@dataclass(frozen=True)
class Table:
    """Plans as rows of numbers.

    Attributes:
        seconds: predicted.
        terms: cycles, a column for each of `TERMS`.
        resident: 1 in the column of the operand in registers, by `RESIDENT`, else 0.
        tiles: coordinates of the register tile and what it holds; near ones run alike.
        ways: coordinates of order, storages and the like.
        blocks: coordinates of cache blocks and of the thread grid.
    """

    seconds: Array
    terms: Array
    resident: Array
    tiles: Array
    ways: Array
    blocks: Array

    @classmethod
    def of(cls, ranked: Sequence[Ranked]) -> Table:
        plans = [plan for plan, _ in ranked]
        return cls(
            seconds=np.array([estimate.seconds for _, estimate in ranked]),
            terms=_rows([_terms(dict(estimate.terms)) for _, estimate in ranked], len(TERMS)),
            resident=_rows([_one_of(RESIDENT, p.order.in_registers) for p in plans], len(RESIDENT)),
            tiles=_rows([_tile(p) for p in plans], _TILE_AXES),
            ways=_rows([_way(p) for p in plans], _WAY_AXES),
            blocks=_rows([_blocks(p) for p in plans], _BLOCK_AXES),
        )

    def __len__(self) -> int:
        return len(self.seconds)

    def take(self, rows: NDArray[np.intp] | slice) -> Table:
        return Table(*(column[rows] for column in self._columns()))

    def joined(self, other: Table) -> Table:
        """The rows of both."""
        pairs = zip(self._columns(), other._columns())
        return Table(*(np.concatenate(pair) for pair in pairs))

    def _columns(self) -> tuple[Array, ...]:
        return self.seconds, self.terms, self.resident, self.tiles, self.ways, self.blocks


def squares_apart(one: Array, two: Array) -> Array:
    """Squares of the distances between rows of coordinates."""
    squares = np.square(one).sum(axis=1)[:, None] + np.square(two).sum(axis=1)
    apart: Array = np.maximum(squares - 2 * one @ two.T, 0.0)
    return apart


def _rows(rows: list[list[float]], width: int) -> Array:
    return np.array(rows, dtype=np.float64).reshape(len(rows), width)


def _terms(cycles: dict[str, float]) -> list[float]:
    return [cycles.get(name, 0.0) for name in TERMS]


def _one_of(choices: Sequence[object], chosen: object, value: float = 1.0) -> list[float]:
    return [value if choice == chosen else 0.0 for choice in choices]


_TILE_AXES = 3 + len(RESIDENT) + len(ARITHMETIC)
_WAY_AXES = len(Order) + 2 * len(Storage) + len(ARITHMETIC) + 1
_BLOCK_AXES = 7


def _tile(plan: GemmPlan) -> list[float]:
    sides = (plan.tile.mr, plan.tile.vectors, plan.tile.kr)
    return [
        *(log2(side) / TILE_OCTAVES for side in sides),
        *_one_of(RESIDENT, plan.order.in_registers, APART),
        *_one_of(tuple(ARITHMETIC), plan.arithmetic, APART),
    ]


def _way(plan: GemmPlan) -> list[float]:
    return [
        *_one_of(tuple(Order), plan.order, APART),
        *_one_of(tuple(Storage), plan.a, APART),
        *_one_of(tuple(Storage), plan.b, APART),
        *_one_of(tuple(ARITHMETIC), plan.arithmetic, APART),
        float(plan.prefetch_c),
    ]


def _blocks(plan: GemmPlan) -> list[float]:
    grid = plan.grid
    extents = (*(min(plan.blocks.along(d), plan.thread_extent(d)) for d in "mnk"),)
    sides = (*extents, grid.rows, grid.columns, grid.depth, grid.batch)
    return [log2(side) / BLOCK_OCTAVES for side in sides]
