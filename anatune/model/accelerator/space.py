"""The legal plans of a product on an accelerator, in families of like block sizes (rank 4).

Block sizes are whole operations. Of all sizes that give the same number of blocks, the smallest
stands for all: it moves the same, and fits wherever another does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from anatune.hwprofile.accelerator import DmaEngine
from anatune.model.accelerator.layout import buffer_stride
from anatune.model.accelerator.machine import Machine
from anatune.plan.accelerator import (
    OPERANDS,
    BlockOrder,
    Buffers,
    Placement,
    Run,
    TilePlan,
    with_buffers,
)

MOST_BUFFERS = {Placement.OWN_BANKS: (3, 3, 2), Placement.PACKED: (2, 2, 2)}
"""Buffers of a, b and c that are tried. Work of one resource overlaps with that of another by two;
a third evens out blocks of unequal length, where it has banks of its own."""

SINGLE = (1, 1, 1)


@dataclass(frozen=True)
class Family:
    """All plans with blocks of ``m`` and ``n`` operations along these dimensions."""

    m: int
    n: int


def families(here: Machine) -> Iterator[Family]:
    """All that hold one step along k in single buffers."""
    w = here.workload
    pad = here.pads["c"]
    most = pad.size_bytes // here.buffer_bytes("c", (1, 1))
    for m in sizes(here.units("m", w.m), most):
        for n in sizes(here.units("n", w.n), most // m):
            yield Family(m, n)


def sizes(units: int, most: int) -> Iterator[int]:
    """Block sizes up to ``most`` of ``units``, one for each number of blocks."""
    before = 0
    for size in range(1, min(units, most) + 1):
        blocks = -(-units // size)
        if blocks != before:
            yield size
        before = blocks


def members(here: Machine, family: Family) -> Iterator[TilePlan]:
    """The plans of a family with single buffers: block sizes along k, orders, DMA engines."""
    w = here.workload
    most = max(here.pads[x].size_bytes // here.buffer_bytes(x, (1, 1)) for x in "ab")
    for k in sizes(here.units("k", w.k), most):
        blocks = {"m": family.m, "n": family.n, "k": k}
        covers = {d: cover(w.along(d), blocks[d] * here.grain[d]) for d in blocks}
        block = {dim: runs[0].size for dim, runs in covers.items()}
        if not _fits(here, _strides(here, block, Placement.PACKED), SINGLE):
            return
        for order in _orders(covers):
            for engines in _engines(here):
                a, b, c = (Buffers(count=1, dma=name) for name in engines)
                yield TilePlan(workload=w, order=order, a=a, b=b, c=c, **_typed(covers))


def _typed(covers: dict[str, tuple[Run, ...]]) -> dict[str, Any]:
    """``covers`` as keywords beside others."""
    return dict(covers)


def cover(extent: int, block: int) -> tuple[Run, ...]:
    """Full blocks and what is left."""
    block = min(block, extent)
    full, rest = divmod(extent, block)
    return (Run(size=block, count=full), *([Run(size=rest, count=1)] if rest else []))


def _orders(covers: dict[str, tuple[Run, ...]]) -> Iterator[BlockOrder]:
    """One order for each sequence of those loops that turn more than once."""
    seen = set()
    for order in BlockOrder:
        turning = tuple(d for d in order.value if sum(run.count for run in covers[d]) > 1)
        if turning not in seen:
            seen.add(turning)
            yield order


def _engines(here: Machine) -> list[tuple[str, str, str]]:
    """DMA engines for a, b and c; of engines that are alike, the first ones."""
    found = here.found.dma
    into = [e.name for e in found if e.moves != "out"]
    out = [e.name for e in found if e.moves != "in"]
    kinds = {e.name: _kind(e) for e in found}
    chosen: dict[object, tuple[str, str, str]] = {}
    for trio in product(into, into, out):
        shape = tuple((kinds[name], trio.index(name)) for name in trio)
        chosen.setdefault(shape, trio)
    return list(chosen.values())


def _kind(engine: DmaEngine) -> DmaEngine:
    return replace(engine, name="")


def buffered(here: Machine, single: TilePlan) -> Iterator[TilePlan]:
    """The plan with as many buffers as fit: each variant that could not have one more."""
    block = {dim: single.block(dim) for dim in "mnk"}
    loads = {x: _blocks(single, x) * single.visits(x) for x in OPERANDS}
    kept: list[tuple[int, ...]] = []
    for placement, most in MOST_BUFFERS.items():  # packed only where that gives more of them
        ranges = [range(min(limit, loads[x]), 0, -1) for x, limit in zip(OPERANDS, most)]
        strides = _strides(here, block, placement)
        if not _fits(here, strides, SINGLE):
            continue
        for counts in product(*ranges):
            if any(all(c <= more for c, more in zip(counts, have)) for have in kept):
                continue
            if _fits(here, strides, counts):
                kept.append(counts)
                yield with_buffers(single, counts, placement)


def _blocks(plan: TilePlan, operand: str) -> int:
    first, second = OPERANDS[operand]
    return plan.trips(first) * plan.trips(second)


Strides = tuple[tuple[str, int], ...]
"""Scratchpad, and bytes from one buffer to the next, of a, b and c."""


def _strides(here: Machine, block: dict[str, int], placement: Placement) -> Strides:
    return tuple(
        (here.pads[x].name, buffer_stride(here, x, (block[one], block[other]), placement))
        for x, (one, other) in OPERANDS.items()
    )


def _fits(here: Machine, strides: Strides, counts: tuple[int, ...]) -> bool:
    return all(
        sum(size * count for (name, size), count in zip(strides, counts) if name == pad.name)
        <= pad.size_bytes
        for pad in here.found.scratchpads
    )
