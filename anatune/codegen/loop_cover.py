"""Loops whose turns are independent, cut into tiles of fixed size that become vectors (rank 5).

    for i in range(n): B[i] = A[i]      for t in range(n // 16):
                                            for u in vectorized(16): B[16*t + u] = A[16*t + u]
                                        for t in range(n % 16 // 4): ... and so on down to 1
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from tvm import tirx
from tvm.sym import Analyzer

from anatune.codegen.loop_analysis import (
    accesses_in,
    affine_indices,
    independent,
    noted_loops,
    strides_of,
)
from anatune.codegen.loop_guards import sequence, with_body
from anatune.codegen.loop_function import with_new_body
from anatune.codegen.loop_partition import KINDS
from anatune.codegen.loop_terms import Terms, nodes, substituted
from anatune.plan.loops import Loop, TileChoice, TileFamily


def coverable(func: Any) -> list[Any]:
    """The loops of ``func`` that tiles may cover, in order; none is inside another.

    None at all where two buffers may share memory: which turns are independent is then not known.
    """
    if not dict(func.attrs or {}).get("tirx.noalias") or nodes(func.body, tirx.DeclBuffer):
        return []
    cover = _Cover({}, Terms())
    cover.visit(func.body)
    return cover.found


def covered(func: Any, families: Mapping[int, TileFamily]) -> Any:
    """``func`` with its coverable loops, by their place in that list, cut into tiles."""
    return with_new_body(func, _Cover(families, Terms()).visit(func.body))


@dataclass
class _Cover:
    families: Mapping[int, TileFamily]
    terms: Terms
    found: list[Any] = field(default_factory=list)
    analyzer: Any = field(default_factory=Analyzer)

    def visit(self, stmt: Any) -> Any:
        if isinstance(stmt, tirx.SeqStmt):
            return sequence([self.visit(part) for part in stmt.seq]) or stmt
        if isinstance(stmt, tirx.Bind):
            self.terms.bind(stmt.var, stmt.value)
        if isinstance(stmt, tirx.AttrStmt):
            return tirx.AttrStmt(stmt.node, stmt.attr_key, stmt.value, self.visit(stmt.body))
        if isinstance(stmt, tirx.IfThenElse):
            other = None if stmt.else_case is None else self.visit(stmt.else_case)
            return tirx.IfThenElse(stmt.condition, self.visit(stmt.then_case), other)
        if not isinstance(stmt, tirx.For):
            return stmt
        if not self._fits(stmt):
            return with_body(stmt, self.visit(stmt.body))
        self.found.append(stmt)
        family = self.families.get(len(self.found) - 1)
        return stmt if family is None else self._tiled(stmt, family)

    def _fits(self, loop: Any) -> bool:
        """Serial, without conditions, and neighbours in memory are written one after another."""
        if KINDS(loop.kind) != KINDS.SERIAL or loop.step is not None:
            return False
        branches = nodes(loop.body, tirx.IfThenElse, tirx.Select, tirx.Ramp)
        if branches or not independent(loop, self.terms):
            return False
        name = self.terms.name(loop.loop_var)
        if not all(_steady(inner, name, self.terms) for inner in nodes(loop.body, tirx.For)):
            return False
        for buffer, indices, writes in accesses_in(loop.body) or ():
            last = affine_indices(indices, self.terms)[-1]
            unit = last is not None and last.coefficient(name) == 1
            if writes and not (unit and _compact(buffer)):
                return False
        return True

    def _tiled(self, loop: Any, family: TileFamily) -> Any:
        if isinstance(loop.extent, tirx.IntImm):
            counts = [(size, len(list(same))) for size, same in groupby(family.sizes)]
            return self._fixed(loop, counts)
        parts: list[Any] = []
        at, rest = loop.min, loop.extent
        for place, size in enumerate(family.sizes):
            count = rest if size == 1 else tirx.floordiv(rest, size)
            parts.append(self._tiles(loop, at, self.analyzer.simplify(count), size))
            if place + 1 < len(family.sizes):
                stem = loop.loop_var.name
                step = tirx.Var(f"{stem}_at{size}", str(loop.loop_var.ty.dtype))
                parts.append(tirx.Bind(step, at + tirx.floordiv(rest, size) * size))
                at, rest = step, tirx.floormod(rest, size)
        return tirx.SeqStmt(parts)

    def _fixed(self, loop: Any, counts: list[tuple[int, int]]) -> Any:
        parts, at = [], loop.min
        for size, count in counts:
            many = tirx.IntImm(str(loop.loop_var.ty.dtype), count)
            parts.append(self._tiles(loop, at, many, size))
            at = self.analyzer.simplify(at + size * count)
        return parts[0] if len(parts) == 1 else tirx.SeqStmt(parts)

    def _tiles(self, loop: Any, at: Any, count: Any, size: int) -> Any:
        """``count`` tiles of ``size`` turns from ``at`` on."""
        var = loop.loop_var
        kind = str(var.ty.dtype)
        tile, lane = tirx.Var(f"{var.name}_t", kind), tirx.Var(f"{var.name}_u", kind)
        zero = tirx.IntImm(kind, 0)
        place = at + tile * size + (lane if size > 1 else zero)
        place = self.analyzer.simplify(place)
        body = substituted(loop.body, {hash(var): place})
        if size > 1:
            body = tirx.For(lane, zero, tirx.IntImm(kind, size), KINDS.VECTORIZED, body)
        return tirx.For(tile, zero, count, KINDS.SERIAL, body, None, loop.annotations)


def _steady(loop: Any, name: str, terms: Terms) -> bool:
    """Whether the range of an inner loop is the same at every turn of the loop called ``name``."""
    ends = terms.affine(loop.min), terms.affine(loop.extent)
    plain = KINDS(loop.kind) in (KINDS.SERIAL, KINDS.UNROLLED)
    return plain and all(e is not None and name not in terms.depends(e) for e in ends)


def _compact(buffer: Any) -> bool:
    """Whether neighbours along the last index are neighbours in memory."""
    last = strides_of(buffer)[-1]
    return isinstance(last, int) or (isinstance(last, tirx.IntImm) and int(last.value) == 1)


def choices(func: Any, sizes: Mapping[str, int], default: int) -> list[TileChoice | None]:
    """Each coverable loop as the model needs it to choose tiles; None where it never runs."""
    wanted = [hash(loop) for loop in coverable(func)]
    noted = noted_loops(func, sizes, default)
    return [_choice(noted.get(key)) for key in wanted]


def _choice(noted: tuple[Any, Loop] | None) -> TileChoice | None:
    if noted is None:
        return None
    stmt, loop = noted
    extent = int(stmt.extent.value) if isinstance(stmt.extent, tirx.IntImm) else None
    works = tuple((loops[1:], work) for loops, work in loop.works())
    return TileChoice(loop=loop.name, extent=extent, likely=loop.turns, works=works)
