"""Loops cut where their conditions change: an interior without them, edges of their own (rank 5).

    for i in range(n):                       i_1 = max(0, min(n, 1))
        for j in range(m):                   for i in range(i_1): ...               the edge
            B[i, j] = A[i-1, j] if i >= 1    for i in range(i_1, n):                the interior
                      else 0                     for j in range(m): B[i, j] = A[i-1, j]

A serial loop becomes loops over consecutive ranges, so the order of its iterations stays. Loops
whose iterations run at once (parallel, blockIdx) stay one loop, in which each iteration chooses its
piece: a launch or a barrier for each range would cost more than the choice.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from tvm import tirx
from tvm.ir import Call

from anatune.codegen.loop_guards import (
    BLOCK,
    OpenTest,
    Scope,
    guard_scopes,
    open_tests,
    sequence,
    simplified,
    thread_tag,
    with_body,
)
from anatune.codegen.loop_terms import WIDE, Terms, called, nodes, substituted
from anatune.plan.affine import Affine, Bound, Cut, Quotient, cut, negated, pinned
from anatune.plan.loops import LoopCut

MOST_BODIES = 64
"""Copies of loop bodies that a partition may add: enough for the corners of two dimensions whose
four conditions each have loops inside; beyond it, edges keep conditions, the hottest parts first
in being freed of them."""

NOT_AFFINE = "not affine, or it reads memory"

LEAVES = ("break_loop", "continue_loop")
"""TVM's operators that end a loop, or one of its turns."""

KINDS = tirx.ForKind

INTERIOR = "anatune.interior"
"""Annotation of the loop over the range that has the fewest conditions left."""


@dataclass(frozen=True)
class _Piece:
    """A range of a loop, its body, and what is known there; ``value``: of its only turn."""

    low: Any
    high: Any
    body: Any
    scope: Scope
    value: Any = None

    @property
    def open_tests(self) -> int:
        return sum(1 for _ in open_tests(self.body, self.scope))


@dataclass
class Partitioner:
    """Cuts the loops of one function; ``cuts`` tells what was done, in the order of the code."""

    terms: Terms
    cuts: list[LoopCut] = field(default_factory=list)
    bodies: int = 0
    stuck: dict[str, str] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)

    def visit(self, stmt: Any, scope: Scope) -> Any:
        if isinstance(stmt, tirx.SeqStmt):
            return sequence([self.visit(part, scope) for part in stmt.seq])
        if isinstance(stmt, tirx.Bind):
            scope.terms.bind(stmt.var, stmt.value)
        if isinstance(stmt, tirx.IfThenElse):
            yes, no = guard_scopes(stmt.condition, scope)
            other = None if stmt.else_case is None else self.visit(stmt.else_case, no)
            return tirx.IfThenElse(stmt.condition, self.visit(stmt.then_case, yes), other)
        if isinstance(stmt, tirx.AttrStmt):
            body = self.visit(stmt.body, scope)
            return tirx.AttrStmt(stmt.node, stmt.attr_key, stmt.value, body)
        if isinstance(stmt, tirx.While):
            return tirx.While(stmt.condition, self.visit(stmt.body, scope))
        return self._loop(stmt, scope) if isinstance(stmt, tirx.For) else stmt

    def _loop(self, loop: Any, scope: Scope) -> Any:
        inside = scope.inside(loop)
        constant = self._invariant(loop, inside)
        if constant is not None:
            return self._unswitched(loop, scope, constant)
        why = _whole(loop)
        if why:
            for test in open_tests(loop.body, inside):
                self.stuck.setdefault(str(test.condition), why)
            return with_body(loop, self.visit(loop.body, inside))
        high = self.terms.analyzer.simplify(loop.min + loop.extent)
        binds: list[Any] = []
        ends = loop.min, high
        pieces = self._pieces(loop, loop.body, inside, ends, binds)
        if not pieces:
            return None
        uncut = len(pieces) == 1 and pieces[0].low is ends[0] and pieces[0].high is ends[1]
        pieces = pieces if uncut else [self._single(loop, piece) for piece in pieces]
        order = sorted(pieces, key=lambda piece: (piece.value is not None, piece.open_tests))
        hot = order[0]
        bodies = {id(piece): self.visit(piece.body, piece.scope) for piece in order}
        if uncut:
            return with_body(loop, bodies[id(hot)])
        if _at_once(loop):
            self.made.update(str(loop.loop_var < piece.high) for piece in pieces)
            self.made.update(str(loop.loop_var >= piece.low) for piece in pieces)
            return with_body(loop, sequence([*binds, _choice(loop, pieces, bodies, high)]))
        loops = [self._range(loop, piece, bodies[id(piece)], piece is hot) for piece in pieces]
        return sequence([*binds, *loops])

    def _single(self, loop: Any, piece: _Piece) -> _Piece:
        """``piece`` with the loop variable put in, where no more than one value is left for it."""
        value = pinned(self.terms.name(loop.loop_var), piece.scope.facts)
        if value is None:
            return piece
        expr = self.terms.expr(value, str(loop.loop_var.ty.dtype))
        body = simplified(substituted(piece.body, {hash(loop.loop_var): expr}), piece.scope)
        return piece if body is None else replace(piece, body=body, value=expr)

    def _invariant(self, loop: Any, inside: Scope) -> Affine | None:
        """A condition in the body that no iteration of ``loop`` changes."""
        own = defined_in(loop, self.terms)
        apart = {bound.name for bound in inside.threads}
        for found in open_tests(loop.body, inside):
            if found.test is not None and not self.terms.depends(found.test) & (own | apart):
                if self._room():
                    return found.test
        return None

    def _unswitched(self, loop: Any, scope: Scope, test: Affine) -> Any:
        """``loop`` once for each outcome of a condition that it does not change."""
        self.bodies += 1
        condition = self.terms.expr(test, WIDE) >= tirx.IntImm(WIDE, 0)
        self.made.add(str(condition))
        name = self.terms.name(loop.loop_var)
        self.cuts.append(LoopCut(loop=name, condition=f"{test} >= 0", at="before the loop"))
        bound = thread_tag(loop) != ""  # what GPU threads run has no outside

        def case(known: Affine) -> Any | None:
            there = scope.knowing(known)
            there = there.inside(loop) if bound else there
            part = simplified(loop.body if bound else loop, there)
            return None if part is None else self.visit(part, there)

        both = _either(condition, case(test), case(negated(test)))
        return with_body(loop, both) if bound and both is not None else both

    def _room(self) -> bool:
        return self.bodies < MOST_BODIES

    def _pieces(
        self, loop: Any, body: Any, scope: Scope, ends: tuple[Any, Any], binds: list[Any]
    ) -> list[_Piece]:
        """The ranges of ``loop`` between ``ends``, and into ``binds`` what names their ends."""
        body = simplified(body, scope)
        if body is None:
            return []
        found = self._next_cut(loop, body, scope)
        if found is None:
            return [_Piece(*ends, body, scope)]
        at, settled_empty, open_empty = found
        self.bodies += 1
        first, second = (at.open, at.settled) if at.rising else (at.settled, at.open)
        low, high = ends
        one = self._point(loop, first, low, high, binds)
        two = one if at.exact else self._point(loop, second, one, high, binds)
        name = self.terms.name(loop.loop_var)
        self.cuts.append(LoopCut(loop=name, condition=f"{at.always} >= 0", at=_text(at)))
        never = ((low, one) if at.rising else (two, high)), at.never
        always = ((two, high) if at.rising else (low, one)), at.always
        before, after = (never, always) if at.rising else (always, never)
        skip = {id(never): open_empty, id(always): settled_empty}
        pieces: list[_Piece] = []
        for side in (before, None, after):
            if side is None:
                if not at.exact:
                    between = scope.knowing(negated(at.always), negated(at.never))
                    rest = simplified(body, between)
                    if rest is not None:
                        pieces.append(_Piece(one, two, rest, between))
            elif not skip[id(side)]:
                span, fact = side
                pieces += self._pieces(loop, body, scope.knowing(fact), span, binds)
        return pieces

    def _next_cut(self, loop: Any, body: Any, scope: Scope) -> tuple[Cut, bool, bool] | None:
        """The first condition that a cut of ``loop`` settles somewhere; whether an end is empty."""
        for found in open_tests(body, scope):
            at = self._cut(loop, found, scope)
            if at is None or not self._room():
                continue
            nowhere = scope.truth(at.always) is False, scope.truth(at.never) is False
            if not all(nowhere):
                self.stuck.pop(str(found.condition), None)
                return at, *nowhere
        return None

    def _cut(self, loop: Any, found: OpenTest, scope: Scope) -> Cut | None:
        name = self.terms.name(loop.loop_var)
        if found.test is None:
            self.stuck[str(found.condition)] = NOT_AFFINE
            return None
        inner: list[Bound] = [*reversed(found.scope.bounds[len(scope.bounds) :])]
        inner += [bound for bound in scope.threads if bound not in inner]
        at = cut(found.test, name, inner)
        if at is None:
            return None
        outside = self.terms.depends(at.always) | self.terms.depends(at.never)
        if defined_in(loop, self.terms) - {name} & outside or self._again(at, name):
            return None
        return at

    def _again(self, at: Cut, name: str) -> bool:
        """Whether the loop variable stands in an opaque term beside its own."""
        rest = at.always.without(name), at.never.without(name)
        return any(name in self.terms.depends(part) for part in rest)

    def _point(self, loop: Any, at: Quotient, low: Any, high: Any, binds: list[Any]) -> Any:
        """max(low, min(high, at)), named unless it is a constant."""
        dtype = str(loop.loop_var.ty.dtype)
        value = self.terms.expr(self.terms.quotient(at), WIDE)
        wide = [end if str(end.ty.dtype) == WIDE else tirx.Cast(WIDE, end) for end in (low, high)]
        value = self.terms.analyzer.simplify(tirx.max(wide[0], tirx.min(wide[1], value)))
        value = value if dtype == WIDE else self.terms.analyzer.simplify(tirx.Cast(dtype, value))
        if isinstance(value, (tirx.IntImm, tirx.Var)):
            return value
        var = tirx.Var(f"{loop.loop_var.name}_{len(binds) + 1}", dtype)
        binds.append(tirx.Bind(var, value))
        return var

    def _range(self, loop: Any, piece: _Piece, body: Any | None, hot: bool) -> Any | None:
        extent = self.terms.analyzer.simplify(piece.high - piece.low)
        empty = isinstance(extent, tirx.IntImm) and int(extent.value) <= 0
        if body is None or empty:
            return None
        if piece.value is not None:
            runs = piece.low < piece.high
            self.made.add(str(runs))
            return body if isinstance(extent, tirx.IntImm) else tirx.IfThenElse(runs, body, None)
        kind = KINDS(loop.kind)
        if kind in (KINDS.VECTORIZED, KINDS.UNROLLED) and not isinstance(extent, tirx.IntImm):
            kind = KINDS.SERIAL
        notes = {**dict(loop.annotations), **({INTERIOR: 1} if hot else {})}
        return tirx.For(loop.loop_var, piece.low, extent, kind, body, None, notes)


def _text(at: Cut) -> str:
    where = f"({at.settled.numerator}) // {at.settled.divisor}"
    where = where if at.settled.divisor > 1 else str(at.settled.numerator)
    return f"from {where} on" if at.rising else f"below {where}"


def _either(condition: Any, yes: Any | None, no: Any | None) -> Any | None:
    if yes is None and no is None:
        return None
    if yes is None:
        return tirx.IfThenElse(tirx.Not(condition), no, None)
    return tirx.IfThenElse(condition, yes, no)


def _at_once(loop: Any) -> bool:
    """Whether iterations run at once and each has work enough to choose its piece."""
    if thread_tag(loop).startswith(BLOCK):
        return True
    return KINDS(loop.kind) == KINDS.PARALLEL and bool(nodes(loop.body, tirx.For))


def _choice(loop: Any, pieces: list[_Piece], bodies: dict[int, Any], end: Any) -> Any | None:
    """The piece that an iteration belongs to; where pieces leave a gap there is nothing to do."""
    var, rest = loop.loop_var, None
    starts = [loop.min, *(piece.high for piece in pieces)]
    for piece, start in reversed(list(zip(pieces, starts[:-1], strict=True))):
        body = bodies[id(piece)]
        if not piece.low.same_as(start):
            body = _either(var >= piece.low, body, None)
        rest = body if piece.high.same_as(end) else _either(var < piece.high, body, rest)
    return rest


def _whole(loop: Any) -> str:
    """Why ``loop`` cannot be cut; "" where it can."""
    tag = thread_tag(loop)
    if tag and not tag.startswith(BLOCK):
        return f"differs between the threads of a block ({tag})"
    if loop.step is not None:
        return "the loop has a step"
    early = nodes(loop.body, tirx.Break, tirx.Continue) or any(
        called(call, name) for call in nodes(loop.body, Call) for name in LEAVES
    )
    return "a turn or the loop may be left early" if early else ""


def defined_in(loop: Any, terms: Terms) -> set[str]:
    """Names of the variables that ``loop`` and its body give values to."""
    loops = [loop, *nodes(loop.body, tirx.For)]
    names = {terms.name(each.loop_var) for each in loops}
    return names | {terms.name(each.var) for each in nodes(loop.body, tirx.Bind)}
