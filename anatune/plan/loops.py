"""Loops as data: what they do, how they are cut, and what is predicted of them (rank 3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from anatune.units import TIME


class PartitionStrategy(str, Enum):
    """What is done to the loops of a function."""

    NONE = "none"  # as written
    PEEL = "peel"  # cut where conditions change
    COVER = "cover"  # peeled, and loops whose turns are independent cut into tiles of fixed size


@dataclass(frozen=True, kw_only=True)
class LoopCut:
    """A loop that was cut: the condition that holds, and where; texts of the loop's own names."""

    loop: str
    condition: str
    at: str

    def __str__(self) -> str:
        return f"{self.loop}: {self.condition} {self.at}"


@dataclass(frozen=True, kw_only=True)
class LeftGuard:
    """A condition that stays in the code, and why."""

    condition: str
    reason: str

    def __str__(self) -> str:
        return f"{self.condition}: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class Access:
    """Elements of a buffer that a statement reads or writes.

    ``strides``: elements from one turn of a loop to the next, of loops that matter; None where the
    place is not an affine function of the loops.
    """

    buffer: str
    element_bytes: int
    writes: bool
    strides: tuple[tuple[str, int], ...] | None
    offset: int = 0  # elements from where the strides alone lead

    def stride(self, loop: str) -> int | None:
        return None if self.strides is None else dict(self.strides).get(loop, 0)


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one turn of the innermost loop does: per element, operations on ``dtype``.

    A product that is added to something is one multiply-add. ``carried``: each turn needs the sum
    of the turn before.
    """

    dtype: str
    multiply_adds: int = 0
    additions: int = 0
    multiplications: int = 0
    guards: int = 0
    accesses: tuple[Access, ...] = ()
    carried: bool = False

    @property
    def operations(self) -> int:
        return self.multiply_adds + self.additions + self.multiplications


@dataclass(frozen=True, kw_only=True)
class Loop:
    """A loop as it runs for the sizes that were asked for; ``turns`` are its mean, never below 0.

    ``kind``: serial, parallel, vectorized, unrolled, block or thread. ``independent``: its turns
    write places of their own and read nothing that another one writes. ``fixed``: its extent is a
    constant of the code.
    """

    name: str
    turns: float
    kind: str = "serial"
    independent: bool = False
    fixed: bool = False
    body: tuple[Loop | Work, ...] = ()

    def works(self, around: tuple[Loop, ...] = ()) -> Iterator[tuple[tuple[Loop, ...], Work]]:
        """All work inside, with the loops around it, outermost first."""
        here = (*around, self)
        for part in self.body:
            if isinstance(part, Work):
                yield here, part
            else:
                yield from part.works(here)


@dataclass(frozen=True, kw_only=True)
class LoopNest:
    """The loops of one function, in order, for sizes such as (("n", 1000),)."""

    sizes: tuple[tuple[str, int], ...]
    body: tuple[Loop | Work, ...]

    def works(self) -> Iterator[tuple[tuple[Loop, ...], Work]]:
        yield from Loop(name="", turns=1.0, body=self.body).works()


@dataclass(frozen=True, kw_only=True)
class LoopEstimate:
    """What the model predicts of a function's loops; energy is modelled, never measured."""

    seconds: float
    cycles: float
    joules: float
    terms: tuple[tuple[str, float], ...]  # cycles by name, largest first; they overlap
    bytes_moved: tuple[tuple[str, float], ...]  # by the level that they come out of
    conditions: float  # conditions that are computed in one call

    @property
    def bound(self) -> str:
        return self.terms[0][0]

    def __str__(self) -> str:
        return f"{TIME.show(self.seconds)}, {self.conditions:.4g} conditions, bound by {self.bound}"


@dataclass(frozen=True, kw_only=True)
class TileChoice:
    """A loop whose turns are independent: its extent (None: known only when called), its work."""

    loop: str
    extent: int | None
    likely: float
    works: tuple[tuple[tuple[Loop, ...], Work], ...]


@dataclass(frozen=True, kw_only=True)
class TileFamily:
    """Tile sizes that a loop is covered with, largest first.

    Of a constant extent: all tiles, whose sizes sum to it. Else each size once: as many of the
    largest as fit, then of the next; the last one is 1.
    """

    sizes: tuple[int, ...]
