"""Decisions as data: what the model hands to code generation, nothing of TVM inside (rank 3)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MicroTile:
    """Register tile: ``mr`` rows by ``nr`` columns of C; vectors of ``lanes`` lie along the columns."""

    mr: int
    nr: int
    lanes: int

    @property
    def vectors(self) -> int:
        """n_v: vectors that cover one row of the tile."""
        return -(-self.nr // self.lanes)

    @property
    def accumulators(self) -> int:
        return self.mr * self.vectors


@dataclass(frozen=True, kw_only=True)
class CacheBlocks:
    """Cache blocks: ``mc`` rows and ``nc`` columns of C, ``kc`` steps along k, in elements."""

    mc: int
    nc: int
    kc: int
