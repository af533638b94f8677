"""Bytes that loops move between cache levels, from the strides of their accesses (rank 4)."""

from __future__ import annotations

from collections import defaultdict

from anatune.hwprofile.profile import CacheLevel
from anatune.model.machine import Machine
from anatune.model.residency import keeps
from anatune.plan.loops import Access, Loop, LoopNest, Work

LEVELS = ("L2", "L3", "memory")

READ_AND_WRITTEN = 2
"""Passes of a line that is written: it is read first, and written back."""


def moved(nest: LoopNest, here: Machine) -> dict[str, float]:
    """Bytes out of each level beyond L1 in one call, by the level's name.

    Nothing comes out of a level beyond one that keeps all that the call touches: it was in use just
    before, as everywhere in the model.
    """
    works = list(nest.works())
    everything = footprint_of_all(works, here.l1.line_bytes)
    inner: tuple[CacheLevel | None, ...] = (here.l1, here.l2, here.l3)
    totals = {}
    fits = False
    for name, level in zip(LEVELS, inner, strict=True):
        fits = fits or (level is not None and keeps(level, everything))
        totals[name] = 0.0 if fits else sum(_into(level, *each, here) for each in works)
    return totals


def _into(level: CacheLevel | None, loops: tuple[Loop, ...], work: Work, here: Machine) -> float:
    """Bytes that one statement's accesses bring into ``level``.

    The largest inner part of the nest whose data the level keeps is passed through by the loop
    around it: each of that loop's turns then brings what the turn before had not (the layer
    condition), and the loops around that one begin anew.
    """
    if level is None:
        return 0.0
    groups = grouped(work)
    line = level.line_bytes
    kept = len(loops)
    while kept > 0 and keeps(level, sum(footprint(g, loops[kept - 1 :], line) for g in groups)):
        kept -= 1
    outside = loops[: max(kept - 1, 0)]
    inside = loops[max(kept - 1, 0) :]
    again = 1.0
    for loop in outside:
        again *= loop.turns
    return again * sum(
        footprint(g, inside, line) * (READ_AND_WRITTEN if g.writes else 1) for g in groups
    )


def grouped(work: Work) -> list[Access]:
    """One access for all that walk the same way through the same buffer, a few elements apart."""
    found: dict[tuple[object, ...], Access] = {}
    for access in work.accesses:
        key = (access.buffer, access.strides)
        if key not in found or access.writes:
            found[key] = access
    return list(found.values())


def footprint(access: Access, loops: tuple[Loop, ...], line_bytes: int) -> float:
    """Bytes, in whole lines where elements lie apart, that an access touches in ``loops``.

    Loops of the same stride walk over each other's elements: their turns add up, less one each.
    """
    turns: dict[int, float] = defaultdict(float)
    for loop in loops:
        stride = access.stride(loop.name)
        if stride is None:
            return line_bytes * _turns(loops)
        if stride:
            turns[abs(stride)] += loop.turns - 1
    if not turns:
        return float(access.element_bytes)
    nearest = min(turns)
    width = float(min(line_bytes, nearest * access.element_bytes))
    total = width
    for more in turns.values():
        total *= more + 1
    return total


def footprint_of_all(works: list[tuple[tuple[Loop, ...], Work]], line_bytes: int) -> float:
    """Bytes that all statements touch; of a buffer, the most that one of them does."""
    by_buffer: dict[str, float] = defaultdict(float)
    for loops, work in works:
        for access in grouped(work):
            size = footprint(access, loops, line_bytes)
            by_buffer[access.buffer] = max(by_buffer[access.buffer], size)
    return sum(by_buffer.values())


def _turns(loops: tuple[Loop, ...]) -> float:
    total = 1.0
    for loop in loops:
        total *= loop.turns
    return total
