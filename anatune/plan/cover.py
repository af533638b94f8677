"""How tiles of several sizes cover an extent that one size does not divide (rank 3)."""

from __future__ import annotations

from dataclasses import dataclass

from anatune.errors import require


@dataclass(frozen=True, kw_only=True)
class Cover:
    """Whole tiles of ``tile`` units along ``dim``, then smaller ones where the extent ends.

    With e units, all but the last one or two tiles' worth are covered by whole tiles; ``pieces[r]``
    are the sizes, in units, that cover the rest of r units, 0 <= r < 2 tile, whole tiles first.
    A cover says so for every extent, so code that follows it serves them all.

    Attributes:
        dim: "m", "n" or "k"; along k there are tiles where A or B stays in registers.
        unit: elements that are never parted: 1, or the lanes of a vector; the last unit along an
            extent may hold fewer.
        tile: units of a whole tile.
    """

    dim: str
    unit: int
    tile: int
    pieces: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        entries = 2 * self.tile
        why = f"pieces = {len(self.pieces)} entries: one for each rest below {entries}"
        require(len(self.pieces) == entries, why)
        for rest, sizes in enumerate(self.pieces):
            fits = sum(sizes) == rest and all(0 < s <= self.tile for s in sizes)
            why = f"pieces[{rest}] = {sizes}: sizes of at most {self.tile} that add up to {rest}"
            require(fits and list(sizes) == sorted(sizes, reverse=True), why)

    @property
    def slots(self) -> int:
        """The most pieces, besides whole tiles, that any rest has."""
        return max(len(self.smaller(rest)) for rest in range(2 * self.tile))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Every size below a whole tile that is used, in units."""
        used = {s for sizes in self.pieces for s in sizes if s < self.tile}
        return tuple(sorted(used))

    def smaller(self, rest: int) -> tuple[int, ...]:
        """The pieces of ``pieces[rest]`` that are no whole tiles."""
        return tuple(s for s in self.pieces[rest] if s < self.tile)

    def rest(self, units: int) -> int:
        """What is left of so many units for ``pieces``."""
        return units - max(0, units // self.tile - 1) * self.tile

    def counts(self, extent: int) -> list[tuple[int, int]]:
        """How many tiles of how many elements cover ``extent``; the last may be cut short."""
        units = -(-extent // self.unit)
        rest = self.rest(units)
        smaller = self.smaller(rest)
        whole = (units - sum(smaller)) // self.tile
        sizes = [(whole, self.tile)] * (whole > 0) + [(1, size) for size in smaller]
        found = [(count, size * self.unit) for count, size in sizes]
        short = units * self.unit - extent
        if short:
            count, size = found.pop()
            found += [(count - 1, size)] * (count > 1) + [(1, size - short)]
        return found
