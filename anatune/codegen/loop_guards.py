"""What is known inside a loop, the conditions that it settles, and those it leaves (rank 5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import Call

from anatune.codegen.loop_terms import (
    COMPARISONS,
    Terms,
    called,
    comparison,
    conjunction,
    nodes,
    unwrapped,
)
from anatune.plan.affine import Affine, Bound, decide

BLOCK, THREAD = "blockIdx", "threadIdx"


@dataclass(frozen=True)
class Scope:
    """The loops around a statement, outermost first, and facts, each at least 0, that hold there.

    ``threads`` are the variables that differ between threads of a block: a cut of a loop that they
    share must hold for all of them.
    """

    terms: Terms
    bounds: tuple[Bound, ...] = ()
    facts: tuple[Affine, ...] = ()
    threads: tuple[Bound, ...] = ()

    def inside(self, loop: Any) -> Scope:
        """The scope of the body of ``loop``."""
        terms = self.terms
        name = terms.name(loop.loop_var)
        low, extent = terms.affine(loop.min), terms.affine(loop.extent)
        if loop.step is not None:
            extent = None
        last = None if low is None or extent is None else low + extent - 1
        bound = Bound(name, low, last)
        facts = [] if low is None else [Affine.name(name) - low]
        if low is not None and extent is not None:
            facts.append(terms.multiplied_out(low + extent - Affine.name(name) - 1))
        threads = (*self.threads, bound) if thread_tag(loop).startswith(THREAD) else self.threads
        bounds, known = (*self.bounds, bound), (*self.facts, *facts)
        return replace(self, bounds=bounds, facts=known, threads=threads)

    def knowing(self, *facts: Affine) -> Scope:
        return replace(self, facts=(*self.facts, *facts))

    def truth(self, test: Affine) -> bool | None:
        return decide(test, reversed(self.bounds), self.facts)

    def condition(self, expr: Any) -> bool | None:
        """Whether a comparison holds wherever this scope is; None: it depends, or is no such."""
        tests = comparison(expr, self.terms)
        if tests is None:
            return None
        truths = [self.truth(test) for test in tests]
        unequal = isinstance(expr, tirx.NE)
        if all(truths):
            return not unequal
        return unequal if False in truths else None


def thread_tag(loop: Any) -> str:
    """ "blockIdx.x" and the like of a loop that a GPU's threads run; "" of others."""
    return str(loop.thread_binding.thread_tag) if loop.thread_binding is not None else ""


def folded(node: Any, scope: Scope) -> Any:
    """Expression ``node`` without the conditions that ``scope`` settles."""

    def fold(expr: Any) -> Any:
        known = scope.condition(expr) if isinstance(expr, COMPARISONS) else _logic(expr)
        if known is not None:
            return tirx.const(known, "bool")
        if isinstance(expr, tirx.Select):
            return _branch(expr, expr.condition, expr.true_value, expr.false_value)
        if called(expr, "if_then_else"):
            return _branch(expr, *expr.args)
        if isinstance(expr, (tirx.And, tirx.Or)):
            return _rest(expr)
        return expr

    kinds = (*COMPARISONS, tirx.And, tirx.Or, tirx.Not, tirx.Select, Call)
    return tvm_ffi.structural_map(node, (kinds, fold))


def constant(expr: Any) -> bool | None:
    """The value of a condition that is a constant."""
    expr = unwrapped(expr)
    return bool(expr.value) if isinstance(expr, tirx.IntImm) else None


def _logic(expr: Any) -> bool | None:
    if isinstance(expr, tirx.Not):
        value = constant(expr.a)
        return None if value is None else not value
    if isinstance(expr, (tirx.And, tirx.Or)):
        values, decisive = (constant(expr.a), constant(expr.b)), isinstance(expr, tirx.Or)
        if decisive in values:
            return decisive
        return None if None in values else not decisive
    if called(expr, "likely"):
        return constant(expr.args[0])
    return None


def _rest(expr: Any) -> Any:
    """The part of ``a and b`` (of ``a or b``) that still matters."""
    if constant(expr.a) is not None:
        return expr.b
    return expr.a if constant(expr.b) is not None else expr


def _branch(expr: Any, condition: Any, yes: Any, no: Any) -> Any:
    value = constant(condition)
    return expr if value is None else yes if value else no


def simplified(stmt: Any, scope: Scope) -> Any | None:
    """``stmt`` without the conditions that ``scope`` settles; None where nothing is left to do."""
    if isinstance(stmt, tirx.SeqStmt):
        return sequence([simplified(part, scope) for part in stmt.seq])
    if isinstance(stmt, tirx.Bind):
        scope.terms.bind(stmt.var, stmt.value)
        return tirx.Bind(stmt.var, folded(stmt.value, scope))
    if isinstance(stmt, tirx.IfThenElse):
        return _simplified_if(stmt, scope)
    if isinstance(stmt, tirx.For):
        body = simplified(stmt.body, scope.inside(stmt))
        return None if body is None else with_body(stmt, body)
    if isinstance(stmt, tirx.AttrStmt):
        body = simplified(stmt.body, scope)
        return None if body is None else tirx.AttrStmt(stmt.node, stmt.attr_key, stmt.value, body)
    if isinstance(stmt, tirx.While):
        body = simplified(stmt.body, scope)
        return stmt if body is None else tirx.While(folded(stmt.condition, scope), body)
    if isinstance(stmt, tirx.Evaluate) and isinstance(stmt.value, tirx.IntImm):
        return None
    return folded(stmt, scope)


def _simplified_if(stmt: Any, scope: Scope) -> Any | None:
    condition = folded(stmt.condition, scope)
    value = constant(condition)
    yes, no = guard_scopes(condition, scope)
    then = simplified(stmt.then_case, yes) if value is not False else None
    other = None
    if stmt.else_case is not None and value is not True:
        other = simplified(stmt.else_case, no)
    if value is not None:
        return then if value else other
    if then is None and other is None:
        return None
    if then is None:
        return tirx.IfThenElse(tirx.Not(condition), other, None)
    return tirx.IfThenElse(condition, then, other)


def guard_scopes(condition: Any, scope: Scope) -> tuple[Scope, Scope]:
    """What is known where ``condition`` holds, and where it does not."""
    yes, no = (conjunction(condition, scope.terms, wanted) for wanted in (True, False))
    return scope.knowing(*yes), scope.knowing(*no)


def sequence(parts: list[Any | None]) -> Any | None:
    """The statements that are left of ``parts``, as one; None where they only name things."""
    left = [part for part in parts if part is not None]
    names = (tirx.Bind, tirx.AllocBuffer, tirx.DeclBuffer)
    if all(isinstance(part, names) for part in left):
        return None
    return left[0] if len(left) == 1 else tirx.SeqStmt(left)


def with_body(loop: Any, body: Any) -> Any:
    return tirx.For(
        loop.loop_var, loop.min, loop.extent, loop.kind, body, loop.thread_binding,
        loop.annotations, loop.step,
    )  # fmt: skip


@dataclass(frozen=True)
class OpenTest:
    """A condition that a scope leaves open: the test, at least 0 where it holds, and its loops.

    ``test`` is None where the condition is not affine.
    """

    test: Affine | None
    condition: Any
    scope: Scope


def open_tests(stmt: Any, scope: Scope) -> Iterator[OpenTest]:
    """The comparisons that decide whether parts of a simplified ``stmt`` run, in order."""
    if isinstance(stmt, tirx.SeqStmt):
        for part in stmt.seq:
            yield from open_tests(part, scope)
    elif isinstance(stmt, tirx.Bind):
        scope.terms.bind(stmt.var, stmt.value)
        yield from _of_values(stmt, scope)
    elif isinstance(stmt, tirx.IfThenElse):
        yield from _of_condition(stmt.condition, scope)
        yield from _of_values(stmt.condition, scope)
        yes, no = guard_scopes(stmt.condition, scope)
        yield from open_tests(stmt.then_case, yes)
        if stmt.else_case is not None:
            yield from open_tests(stmt.else_case, no)
    elif isinstance(stmt, tirx.For):
        yield from open_tests(stmt.body, scope.inside(stmt))
    elif isinstance(stmt, (tirx.AttrStmt, tirx.While)):
        yield from open_tests(stmt.body, scope)
    else:
        yield from _of_values(stmt, scope)


def _of_values(node: Any, scope: Scope) -> Iterator[OpenTest]:
    """Conditions inside the values that a statement computes."""
    for expr in nodes(node, tirx.Select, Call):
        if isinstance(expr, tirx.Select):
            yield from _of_condition(expr.condition, scope)
        elif called(expr, "if_then_else"):
            yield from _of_condition(expr.args[0], scope)


def _of_condition(condition: Any, scope: Scope) -> Iterator[OpenTest]:
    condition = unwrapped(condition)
    if isinstance(condition, (tirx.And, tirx.Or)):
        yield from _of_condition(condition.a, scope)
        yield from _of_condition(condition.b, scope)
        return
    if isinstance(condition, tirx.Not):
        yield from _of_condition(condition.a, scope)
        return
    tests = comparison(condition, scope.terms)
    if tests is None:
        yield OpenTest(None, condition, scope)
        return
    for test in tests:
        if scope.truth(test) is None:
            yield OpenTest(test, condition, scope)
