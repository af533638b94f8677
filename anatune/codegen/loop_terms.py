"""TVM's whole-number expressions as affine terms, and back (rank 5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import Call
from tvm.sym import Analyzer

from anatune.plan.affine import Affine, Quotient, negated

COMPARISONS = (tirx.LT, tirx.LE, tirx.GT, tirx.GE, tirx.EQ, tirx.NE)

WIDE = "int64"
"""What cuts and opaque terms are computed in: no cut of a loop over int32 leaves it."""

SCALAR_PURE = (tirx.Mul, tirx.FloorDiv, tirx.FloorMod, tirx.Min, tirx.Max)
"""What may stand in an affine expression as a term of its own: nothing here reads memory, and a
division that is computed earlier than it was cannot fault, as its divisor has to be a constant."""


def called(expr: Any, name: str) -> bool:
    """Whether ``expr`` calls TVM's operator ``name``, such as "likely"."""
    return isinstance(expr, Call) and str(getattr(expr.op, "name", "")).endswith(f".{name}")


def whole(expr: Any) -> bool:
    """Whether ``expr`` is a scalar whole number."""
    dtype = str(expr.ty.dtype) if hasattr(expr.ty, "dtype") else ""
    return dtype.startswith(("int", "uint")) and "x" not in dtype


@dataclass
class Terms:
    """Names for the variables of one function, and for what is not affine in them.

    Casts between whole numbers are seen through: extents do not leave the narrower type, or the
    function would be wrong already.
    """

    _expressions: dict[str, Any] = field(default_factory=dict)
    _depends: dict[str, frozenset[str]] = field(default_factory=dict)
    _names: dict[int, str] = field(default_factory=dict)
    _bound: dict[int, Affine] = field(default_factory=dict)
    _quotients: dict[str, Quotient] = field(default_factory=dict)
    analyzer: Any = field(default_factory=Analyzer)

    def name(self, var: Any) -> str:
        """The name of a variable; each variable has its own, though TVM lets two share one."""
        if hash(var) not in self._names:
            name = str(var.name)
            while name in self._expressions:
                name += "'"
            self._names[hash(var)] = name
            self._expressions[name] = var
            self._depends[name] = frozenset({name})
        return self._names[hash(var)]

    def bind(self, var: Any, value: Any) -> None:
        """Read ``var`` as its value from here on, where that is affine."""
        affine = self.affine(value) if whole(var) else None
        if affine is not None:
            self._bound[hash(var)] = affine

    def depends(self, affine: Affine) -> frozenset[str]:
        """The variables in ``affine``, those within its opaque terms included."""
        return frozenset().union(*(self._depends[n] for n in affine.names))

    def affine(self, expr: Any) -> Affine | None:
        """``expr`` over named terms; None where it reads memory or calls something."""
        if not whole(expr):
            return None
        if isinstance(expr, tirx.IntImm):
            return Affine((), int(expr.value))
        if isinstance(expr, tirx.Var):
            bound = self._bound.get(hash(expr))
            return Affine.name(self.name(expr)) if bound is None else bound
        if isinstance(expr, tirx.Cast):
            return self.affine(expr.value)
        if isinstance(expr, (tirx.Add, tirx.Sub)):
            a, b = self.affine(expr.a), self.affine(expr.b)
            if a is None or b is None:
                return None
            return a + b if isinstance(expr, tirx.Add) else a - b
        if isinstance(expr, SCALAR_PURE):
            return self._product(expr)
        return None

    def _product(self, expr: Any) -> Affine | None:
        """A multiple of an affine expression, else a term of its own."""
        a, b = self.affine(expr.a), self.affine(expr.b)
        if a is None or b is None:
            return None
        if isinstance(expr, tirx.Mul) and not (a.terms and b.terms):
            return a * b.constant if not b.terms else b * a.constant
        if isinstance(expr, (tirx.FloorDiv, tirx.FloorMod)) and (b.terms or b.constant <= 0):
            return None
        if isinstance(expr, tirx.FloorDiv):
            return self.quotient(Quotient(a, b.constant))
        return self._opaque(type(expr), a, b)

    def quotient(self, value: Quotient) -> Affine:
        """``value`` as one term, or folded where it divides."""
        top, d = value.numerator, value.divisor
        if all(c % d == 0 for _, c in top.terms):
            return Affine(tuple((n, c // d) for n, c in top.terms), top.constant // d)
        text = f"({top})//{d}"
        if text not in self._expressions:
            self._expressions[text] = tirx.floordiv(self.expr(top, WIDE), tirx.IntImm(WIDE, d))
            self._depends[text] = self.depends(top)
            self._quotients[text] = value
        return Affine.name(text)

    def multiplied_out(self, test: Affine) -> Affine:
        """``test`` >= 0 without its division, where it has one: facts on both sides then meet.

        floor(t/d) + r >= 0 is t + d*r >= 0, and r - floor(t/d) >= 0 is d*r + d-1 - t >= 0.
        """
        found = [(n, c) for n, c in test.terms if n in self._quotients]
        if len(found) != 1 or abs(found[0][1]) != 1:
            return test
        name, sign = found[0]
        top, d = self._quotients[name].numerator, self._quotients[name].divisor
        rest = test.without(name) * d
        return rest + top if sign > 0 else rest - top + (d - 1)

    def _opaque(self, operation: Any, a: Affine, b: Affine) -> Affine:
        text = f"{operation.__name__}({a}, {b})"
        if text not in self._expressions:
            self._expressions[text] = operation(self.expr(a, WIDE), self.expr(b, WIDE))
            self._depends[text] = self.depends(a) | self.depends(b)
        return Affine.name(text)

    def expr(self, affine: Affine, dtype: str) -> Any:
        """``affine`` as an expression of ``dtype``."""
        total: Any = tirx.IntImm(dtype, affine.constant)
        for name, coefficient in affine.terms:
            term = self._expressions[name]
            term = term if str(term.ty.dtype) == dtype else tirx.Cast(dtype, term)
            total = total + term * tirx.IntImm(dtype, coefficient)
        return self.analyzer.simplify(total)


def conjunction(condition: Any, terms: Terms, wanted: bool = True) -> list[Affine]:
    """Affine facts, each at least 0, that hold where ``condition`` is ``wanted``; [] of others."""
    condition = unwrapped(condition)
    if isinstance(condition, tirx.Not):
        return conjunction(condition.a, terms, not wanted)
    if isinstance(condition, tirx.And if wanted else tirx.Or):
        parts = (condition.a, condition.b)
        return [fact for part in parts for fact in conjunction(part, terms, wanted)]
    tests = comparison(condition, terms) or ()
    if isinstance(condition, tirx.NE):
        return [] if wanted else list(tests)
    if wanted:
        return list(tests)
    return [negated(tests[0])] if len(tests) == 1 else []


def unwrapped(condition: Any) -> Any:
    """``condition`` without the hint that it is likely."""
    while called(condition, "likely"):
        condition = condition.args[0]
    return condition


def comparison(expr: Any, terms: Terms) -> tuple[Affine, ...] | None:
    """A comparison as affine values that are all at least 0 where it holds (of !=: where not)."""
    if not isinstance(expr, COMPARISONS) or not (whole(expr.a) and whole(expr.b)):
        return None
    a, b = terms.affine(expr.a), terms.affine(expr.b)
    if a is None or b is None:
        return None
    if isinstance(expr, (tirx.LT, tirx.LE)):
        tests: tuple[Affine, ...] = (b - a - (1 if isinstance(expr, tirx.LT) else 0),)
    elif isinstance(expr, (tirx.GT, tirx.GE)):
        tests = (a - b - (1 if isinstance(expr, tirx.GT) else 0),)
    else:
        tests = (a - b, b - a)
    return tuple(terms.multiplied_out(test) for test in tests)


def nodes(root: Any, *kinds: Any) -> list[Any]:
    """All nodes of ``kinds`` inside ``root``, outermost first."""
    found: list[Any] = []
    tvm_ffi.structural_walk(root, (kinds, found.append), order="pre")
    return found


def substituted(node: Any, values: Mapping[int, Any]) -> Any:
    """``node`` with variables replaced, by their hashes."""

    def put(var: Any) -> Any:
        return values.get(hash(var), var)

    return tvm_ffi.structural_map(node, (tirx.Var, put))
