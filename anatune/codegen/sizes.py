"""The extents of a product in its code, numbers or variables, and how tiles cover them (rank 5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from anatune.codegen.span import Span, Tile, ceildiv
from anatune.codegen.vectors import index
from anatune.plan import Cover, GemmPlan

WORD_BITS = 62
"""Bits of a constant that a table is packed into: those of a positive int64, less one to spare."""

ForTile = Callable[[Tile], None]


@dataclass(frozen=True)
class Sizes:
    """Extents along m, n, k and the batch: the workload's, or ``variables`` of a dynamic kernel.

    A dynamic m or n needs a `Cover` in the plan, as no edge is known when the code is written; so
    does a k along which there are tiles. ``largest`` are the values that none exceeds, if any.
    """

    plan: GemmPlan
    variables: Mapping[str, Any] = field(default_factory=dict)
    largest: Mapping[str, int] = field(default_factory=dict)

    def extent(self, dim: str) -> Any:
        """The extent along "m", "n", "k" or "batch"."""
        w = self.plan.workload
        if dim in self.variables:
            return self.variables[dim]
        return index(w.batch if dim == "batch" else w.along(dim))

    def is_fixed(self, dim: str) -> bool:
        return dim not in self.variables

    def share(self, dim: str, number: Any) -> Span:
        """What thread ``number`` along a dimension, or the batch, gets of it."""
        plan, whole = self.plan, Span.whole(self.extent(dim))
        if self.is_fixed(dim):
            return whole.block(number, plan.thread_batch if dim == "batch"
                               else plan.thread_share(dim))
        threads = plan.grid.batch if dim == "batch" else plan.grid.along(dim)
        if threads == 1:
            return whole
        unit = 1 if dim == "batch" else plan.share_unit(dim)
        units = ceildiv(self.extent(dim), unit)
        return whole.block(number, settled(ceildiv(units, threads) * unit))

    def most(self, dim: str) -> int:
        """Elements of a block along ``dim`` at most."""
        block = self.plan.blocks.along(dim)
        return min(block, self.plan.thread_share(dim)) if self.is_fixed(dim) else block

    def is_one_block(self, dim: str) -> bool:
        """Whether a thread's share of an extent that varies is never more than a block."""
        if self.is_fixed(dim) or dim not in self.largest:
            return False
        units = -(-self.largest[dim] // self.plan.share_unit(dim))
        share = -(-units // self.plan.grid.along(dim)) * self.plan.share_unit(dim)
        return share <= self.plan.blocks.along(dim)

    def step(self, dim: str, span: Span) -> Any:
        """Elements from one block of ``span`` to the next; where the extent varies, all blocks are
        about as long, as a short last one would be of costly small tiles."""
        block = self.plan.blocks.along(dim)
        if self.is_fixed(dim):
            return block
        unit = self.plan.unit(dim)
        number = tirx.max(span.blocks(block), index(1))
        blocks_units = ceildiv(ceildiv(span.length, number), unit)
        return settled(tirx.max(blocks_units, index(1)) * unit)  # a thread may have nothing to do

    @property
    def leading_of_c(self) -> Any:
        """Elements from one row of C to the next."""
        w = self.plan.workload
        return w.ldc if self.is_fixed("n") or w.ldc != w.n else self.extent("n")

    @property
    def one_product(self) -> bool:
        """Whether arrays have no axis for a batch."""
        return self.is_fixed("batch") and self.plan.workload.batch == 1

    @property
    def one_turn(self) -> bool:
        """Whether each element of C leaves the registers once."""
        return self.is_fixed("k") and self.plan.turns_of_c == 1

    @property
    def keeps_sums_apart(self) -> bool:
        """Whether sums that are not complete lie beside C, which could not hold them."""
        split = not self.one_turn and not self.plan.c_takes_sums
        return split or self.plan.grid.depth > 1

    @property
    def edge_steps(self) -> tuple[int, ...]:
        """Steps that the incomplete group at the end of k may have."""
        group = self.plan.multiply.group
        if not self.is_fixed("k"):
            return tuple(range(1, group))
        edge = self.plan.workload.k % group
        return (edge,) if edge else ()

    def tiles(self, dim: str) -> int:
        """Tiles of a block along ``dim`` at most: panels that a packed block has."""
        cover = self.plan.cover(dim)
        whole = -(-self.most(dim) // self.plan.tile.along(dim))
        return whole + (cover.slots if cover else 0)

    def each_tile(self, dim: str, span: Span, body: ForTile) -> None:
        """``body(tile)`` for the tiles that cover ``span``: whole ones in a loop, then the rest."""
        cover = self.plan.cover(dim)
        if cover is not None:
            covered = Covered.of(cover, span)
            covered.each_whole(body)
            covered.each_piece(body)
            return
        tile, extent = self.plan.tile.along(dim), self.plan.workload.along(dim)
        whole = span.whole_tiles(tile)
        with T.serial(0, whole) as number:
            body(Tile(number, span.start + number * tile, tile))
        if extent % tile:
            with T.If(span.stop == extent), T.Then():
                body(Tile(whole, span.start + whole * tile, extent % tile))


@dataclass(frozen=True)
class Covered:
    """A span as a `Cover` cuts it: ``whole`` tiles, then ``pieces``, sizes in units, 0 for none."""

    cover: Cover
    span: Span
    whole: Any
    pieces: Sequence[Any]

    @classmethod
    def of(cls, cover: Cover, span: Span) -> Covered:
        """Looked up where this is called; the loops come after."""
        t, unit = cover.tile, cover.unit
        units = settled(tirx.max(ceildiv(span.length, unit), index(0)))
        rest = settled(units - tirx.max(tirx.floordiv(units, t) - 1, index(0)) * t)
        smaller = [cover.smaller(r) for r in range(2 * t)]
        inside = [(r - sum(sizes)) // t for r, sizes in enumerate(smaller)]
        whole = settled(tirx.floordiv(units - rest, t) + _looked_up(inside, rest))
        slots = [[sizes[n] if n < len(sizes) else 0 for sizes in smaller]
                 for n in range(cover.slots)]
        pieces = [settled(_looked_up(sizes, rest)) for sizes in slots]
        if unit == 1:
            return cls(cover, span, whole, pieces)
        # Whole tiles are free of masks: one whose last vector is short becomes a piece.
        short = settled(T.cast(whole * (t * unit) > span.length, "int64"))
        first = settled(T.Select(short > 0, index(t), pieces[0] if pieces else index(0)))
        return cls(cover, span, settled(whole - short), [first, *pieces[1:]])

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes that a piece may have, in units."""
        short = (self.cover.tile,) if self.cover.unit > 1 else ()
        return (*self.cover.sizes, *short)

    def each_whole(self, body: ForTile, first: Any = 0) -> None:
        with T.serial(first, self.whole) as number:
            body(self.whole_tile(number))

    def whole_tile(self, number: Any) -> Tile:
        size = self.cover.tile * self.cover.unit
        return Tile(number, self.span.start + number * size, size)

    def each_piece(self, body: ForTile) -> None:
        """The code for each size is there once, whichever piece has it."""
        if not self.sizes:
            return
        if len(self.pieces) == 1:
            self._piece(index(0), self.pieces[0], index(0), body)
            return
        with T.serial(0, index(len(self.pieces))) as slot:
            size, before = self.pieces[0], index(0)
            for number, piece in enumerate(self.pieces[1:], 1):
                before = T.Select(slot >= number, before + self.pieces[number - 1], before)
                size = T.Select(slot == number, piece, size)
            self._piece(slot, settled(size), settled(before), body)

    def _piece(self, slot: Any, size: Any, before: Any, body: ForTile) -> None:
        cover, span = self.cover, self.span
        start = settled(span.start + (self.whole * cover.tile + before) * cover.unit)

        def emit(units: int) -> None:
            last = None
            if cover.unit > 1:
                left = span.stop - start - (units - 1) * cover.unit
                last = settled(T.min(left, index(cover.unit)))
            body(Tile(self.whole + slot, start, units * cover.unit, last))

        with T.If(size > 0), T.Then():
            by_value(size, self.sizes, emit)


def settled(value: Any) -> Any:
    """``value``, computed here once, which TVM's simplifier does not look through.

    It would write what a bound variable stands for into every address that depends on it, which
    takes it seconds; LLVM turns the memory into a register.
    """
    place = T.alloc_buffer((1,), "int64")  # small enough for the stack
    T.buffer_store(place, value, [0])
    return place[0]


def by_value(value: Any, among: Sequence[int], emit: Callable[[int], None]) -> None:
    """``emit`` for the one of ``among`` (in ascending order) that ``value`` is: a search tree."""
    if len(among) == 1:
        emit(among[0])
        return
    middle = len(among) // 2
    with T.If(value < among[middle]):
        with T.Then():
            by_value(value, among[:middle], emit)
        with T.Else():
            by_value(value, among[middle:], emit)


def _looked_up(values: Sequence[int], place: Any) -> Any:
    """``values[place]``, packed into as few constants as hold them: no memory is read."""
    bits = max(max(values).bit_length(), 1)
    per_word = WORD_BITS // bits
    result = None
    for first in reversed(range(0, len(values), per_word)):
        word = sum(v << (bits * n) for n, v in enumerate(values[first : first + per_word]))
        shift = (place - first) * bits
        # A shift beyond the word is undefined; Select computes both sides.
        safe = tirx.max(tirx.min(shift, index(WORD_BITS)), index(0))
        found = T.bitwise_and(T.shift_right(index(word), safe), index((1 << bits) - 1))
        result = found if result is None else T.Select(place < first + per_word, found, result)
    return result
