"""Sibling loops of a PrimFunc made into one: side by side on threads, or turn by turn (rank 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import SBlockRealize

from anatune.codegen.access import accesses, carried, conflicts, substituted
from anatune.errors import OptionError, WorkloadError, require

Range = tuple[Any, Any, Any]
Bounds = Sequence[Sequence[tuple[int, int]]]
"""Of each loop, the first turn and the one after the last of each part."""

PARALLEL, SERIAL = "parallel", "serial"


@dataclass(frozen=True)
class Siblings:
    """Loops that stand beside each other in one sequence of statements, and what is around them."""

    loops: tuple[Any, ...]
    sequence: Any
    around: tuple[Any, ...]  # loops, outermost first

    @property
    def names(self) -> str:
        return ", ".join(loop.loop_var.name for loop in self.loops)

    @property
    def ranges(self) -> tuple[Range, ...]:
        return tuple((loop.loop_var, loop.min, loop.extent) for loop in self.around)

    def extents(self) -> list[int] | None:
        """Turns of each loop; None where they are not all known."""
        known = [loop.extent for loop in self.loops]
        return [int(e) for e in known] if all(isinstance(e, tirx.IntImm) for e in known) else None


def find_siblings(func: tirx.PrimFunc, names: Sequence[str]) -> Siblings:
    """The loops of these names, a name given twice standing for the second of that name too.

    Raises:
        OptionError: no such loop, or loops that do not stand beside each other.
    """
    found: list[tuple[Any, Any, tuple[Any, ...]]] = []

    def visit(node: Any, sequence: Any, around: tuple[Any, ...]) -> None:
        if isinstance(node, tirx.SeqStmt):
            for part in node.seq:
                visit(part, node, around)
        elif isinstance(node, tirx.For):
            found.append((node, sequence, around))
            visit(node.body, None, (*around, node))
        elif isinstance(node, SBlockRealize):
            visit(node.block.body, None, around)
        else:
            for name in ("body", "then_case", "else_case"):
                part = getattr(node, name, None)
                if isinstance(part, tirx.Stmt):
                    visit(part, None, around)

    visit(func.body, None, ())
    chosen: list[tuple[Any, Any, tuple[Any, ...]]] = []
    for name in names:
        usable = [f for f in found if f[0].loop_var.name == name and f not in chosen]
        known = ", ".join(dict.fromkeys(f[0].loop_var.name for f in found)) or "none"
        require(usable, f"loops: {name!r}: no such loop (again); there are {known}", OptionError)
        beside = [f for f in usable if chosen and f[1] is not None and f[1].same_as(chosen[0][1])]
        chosen.append((beside or usable)[0])
    require(len(chosen) > 1, f"loops = {list(names)!r}: at least two are needed", OptionError)
    first = chosen[0]
    together = all(f[1] is not None and f[1].same_as(first[1]) for f in chosen)
    why = f"loops: {', '.join(names)} do not stand beside each other"
    require(together, why, OptionError)
    return Siblings(tuple(f[0] for f in chosen), first[1], first[2])


def check_independent(siblings: Siblings, kind: str) -> None:
    """Raise WorkloadError, with buffer and loops, where fusing would change what is computed."""
    ranges = siblings.ranges
    found = [accesses(loop, ranges) for loop in siblings.loops]
    for k, loop in enumerate(siblings.loops):
        for j in range(k):
            _check_pair(siblings.loops[j], found[j], loop, found[k])
        for between in _passed(siblings, k):
            _check_passed(loop, found[k], accesses(between, ranges))
    if kind == SERIAL:
        return
    inside = [loop for loop in siblings.around if loop.kind == tirx.ForKind.PARALLEL]
    why = f"loops: {siblings.names} are inside of a parallel loop; use kind = {SERIAL!r}"
    require(not inside, why, OptionError)
    for loop, mine in zip(siblings.loops, found):
        write = None if loop.kind == tirx.ForKind.PARALLEL else carried(loop, mine)
        if write is not None:
            raise WorkloadError(
                f"loop {loop.loop_var.name}: its turns depend on each other through "
                f"{write.buffer.name}; it cannot be parallel"
            )


def _check_pair(first: Any, of_first: Any, second: Any, of_second: Any) -> None:
    for a, b in conflicts(of_first, of_second):
        verbs = ["writes" if access.writes else "reads" for access in (a, b)]
        raise WorkloadError(
            f"loops {first.loop_var.name} and {second.loop_var.name} depend on each other through "
            f"{a.buffer.name}: the one {verbs[0]} it, the other {verbs[1]} it"
        )


def _passed(siblings: Siblings, number: int) -> list[Any]:
    """Statements between the first loop and loop ``number``, which moves up past them."""
    members = list(siblings.sequence.seq)
    places = [_place(members, loop) for loop in siblings.loops]
    lowest = min(places)
    return [s for p, s in enumerate(members) if lowest < p < places[number] and p not in places]


def _check_passed(loop: Any, mine: Any, between: Any) -> None:
    for _, b in conflicts(mine, between):
        raise WorkloadError(
            f"loop {loop.loop_var.name} depends on what stands before it through {b.buffer.name}"
        )


def _place(members: list[Any], loop: Any) -> int:
    return next(place for place, member in enumerate(members) if member.same_as(loop))


def fuse_parallel(siblings: Siblings, bounds: Bounds | None, parts: int) -> Any:
    """One parallel loop over ``parts``; each runs its turns of every loop, without a branch inside.

    Without ``bounds`` each loop is cut evenly.
    """
    kind = siblings.loops[0].loop_var.ty.dtype
    part = tirx.Var("part", kind)
    bodies = []
    for number, loop in enumerate(siblings.loops):
        if bounds is None:
            share = tirx.floordiv(loop.extent + (parts - 1), parts)
            start = tirx.min(part * share, loop.extent)
            stop = tirx.min(start + share, loop.extent)
        else:
            start = _looked_up(part, [first for first, _ in bounds[number]])
            stop = _looked_up(part, [last for _, last in bounds[number]])
        bodies.append(_turns(loop, start, stop))
    body = tirx.SeqStmt(bodies)
    zero, count = tirx.const(0, kind), tirx.const(parts, kind)
    return tirx.For(part, zero, count, tirx.ForKind.PARALLEL, body)


def fuse_serial(siblings: Siblings, extents: Sequence[int]) -> Any:
    """One loop whose turn is a turn of each, for as many as the shortest has, then the others'.

    No turn is dead and none asks which loop it belongs to.
    """
    done, parts = 0, []
    for stop in sorted(set(extents)):
        alive = [loop for loop, extent in zip(siblings.loops, extents) if extent >= stop]
        turn = tirx.Var("turn", alive[0].loop_var.ty.dtype)
        bodies = [_turn_of(loop, turn + done) for loop in alive]
        first, count = (tirx.const(x, turn.ty.dtype) for x in (0, stop - done))
        body = tirx.SeqStmt(bodies) if len(bodies) > 1 else bodies[0]
        parts.append(tirx.For(turn, first, count, tirx.ForKind.SERIAL, body))
        done = stop
    return tirx.SeqStmt(parts) if len(parts) > 1 else parts[0]


def _turns(loop: Any, start: Any, stop: Any) -> Any:
    """Turns ``start`` to ``stop`` of ``loop``."""
    turn = tirx.Var(loop.loop_var.name, loop.loop_var.ty.dtype)
    zero = tirx.const(0, loop.loop_var.ty.dtype)
    return tirx.For(turn, zero, stop - start, tirx.ForKind.SERIAL, _turn_of(loop, start + turn))


def _turn_of(loop: Any, number: Any) -> Any:
    dtype = loop.loop_var.ty.dtype
    number = number if number.ty.dtype == dtype else tirx.Cast(dtype, number)
    return substituted(loop.body, [(loop.loop_var, loop.min + number)])


def _looked_up(part: Any, values: Sequence[int]) -> Any:
    """``values[part]``, as a chain of selections."""
    chosen = tirx.const(values[-1], part.ty.dtype)
    for number in range(len(values) - 2, -1, -1):
        if values[number] != values[number + 1]:
            value = tirx.const(values[number], part.ty.dtype)
            chosen = tirx.Select(part <= number, value, chosen)
    return chosen


def replaced(func: tirx.PrimFunc, siblings: Siblings, fused: Any) -> tirx.PrimFunc:
    """``func`` with ``fused`` in the place of the first of the loops, the others gone."""
    members = list(siblings.sequence.seq)
    places = [_place(members, loop) for loop in siblings.loops]
    kept = [fused if p == min(places) else s for p, s in enumerate(members)
            if p == min(places) or p not in places]
    new = tirx.SeqStmt(kept) if len(kept) > 1 else kept[0]

    def swap(node: Any) -> Any:
        return new if node.same_as(siblings.sequence) else node

    body = tvm_ffi.structural_map(func.body, (tirx.SeqStmt, swap))
    new_func = tirx.PrimFunc(func.params, body, func.ret_type, attrs=func.attrs)
    # A body that stands in two places must not define its variables twice.
    return tirx.transform.ConvertSSA()(tvm.IRModule({"main": new_func}))["main"]
