"""Whole-number conditions that are linear in loop variables, and where a loop makes them true.

Pure arithmetic (rank 3): what partitions loops reads conditions into these nouns and writes the
cuts back; neither side needs the other's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import gcd


@dataclass(frozen=True)
class Affine:
    """A constant plus whole multiples of named values; ``terms`` by name, without zeros."""

    terms: tuple[tuple[str, int], ...] = ()
    constant: int = 0

    @classmethod
    def of(cls, terms: Mapping[str, int], constant: int = 0) -> Affine:
        return cls(tuple(sorted((n, c) for n, c in terms.items() if c)), constant)

    @classmethod
    def name(cls, name: str) -> Affine:
        return cls(((name, 1),))

    def __add__(self, other: Affine | int) -> Affine:
        if isinstance(other, int):
            return Affine(self.terms, self.constant + other)
        terms = dict(self.terms)
        for name, coefficient in other.terms:
            terms[name] = terms.get(name, 0) + coefficient
        return Affine.of(terms, self.constant + other.constant)

    def __sub__(self, other: Affine | int) -> Affine:
        return self + other * -1

    def __mul__(self, factor: int) -> Affine:
        return Affine.of({n: c * factor for n, c in self.terms}, self.constant * factor)

    def coefficient(self, name: str) -> int:
        return dict(self.terms).get(name, 0)

    def without(self, name: str) -> Affine:
        return Affine(tuple(t for t in self.terms if t[0] != name), self.constant)

    def put(self, name: str, value: Affine) -> Affine:
        """The same with ``value`` in the place of ``name``."""
        return self.without(name) + value * self.coefficient(name)

    @property
    def names(self) -> frozenset[str]:
        return frozenset(n for n, _ in self.terms)

    def value(self, values: Mapping[str, int]) -> int:
        return self.constant + sum(c * values[n] for n, c in self.terms)

    @property
    def tightened(self) -> Affine:
        """The condition self >= 0 over whole numbers, divided by what its coefficients share."""
        shared = gcd(*(c for _, c in self.terms))
        if shared < 2:
            return self
        return Affine(tuple((n, c // shared) for n, c in self.terms), self.constant // shared)

    def __str__(self) -> str:
        parts = [f"{c:+d}*{n}" if abs(c) != 1 else f"{'+-'[c < 0]}{n}" for n, c in self.terms]
        parts += [f"{self.constant:+d}"] if self.constant or not parts else []
        return " ".join(parts).removeprefix("+")


def negated(condition: Affine) -> Affine:
    """What is at least 0 exactly where ``condition`` is below 0."""
    return condition * -1 - 1


@dataclass(frozen=True)
class Bound:
    """A loop variable and the ends of its range, both included; None: an end that is not affine."""

    name: str
    low: Affine | None
    last: Affine | None


@dataclass(frozen=True)
class Quotient:
    """floor(``numerator`` / ``divisor``), the divisor positive."""

    numerator: Affine
    divisor: int = 1

    def value(self, values: Mapping[str, int]) -> int:
        return self.numerator.value(values) // self.divisor


@dataclass(frozen=True)
class Cut:
    """Where a loop over ``name`` makes a condition true, whatever the loops inside it are at.

    A rising condition is false below ``open``, true from ``settled`` on, and in between it depends
    on the loops inside; a falling one is true below ``settled`` and false from ``open`` on.
    ``always`` and ``never``, each at least 0, say that the loop is where it is settled either way.
    """

    rising: bool
    settled: Quotient
    open: Quotient
    always: Affine
    never: Affine

    @property
    def exact(self) -> bool:
        return self.settled == self.open


def least(condition: Affine, bounds: Iterable[Bound]) -> Affine | None:
    """The smallest value of ``condition`` over ``bounds``, innermost first; None: not known."""
    for bound in bounds:
        coefficient = condition.coefficient(bound.name)
        if not coefficient:
            continue
        end = bound.low if coefficient > 0 else bound.last
        if end is None:
            return None
        condition = condition.put(bound.name, end)
    return condition


def cut(condition: Affine, name: str, inner: Iterable[Bound]) -> Cut | None:
    """Where the loop over ``name`` settles ``condition >= 0``; ``inner``: loops inside it.

    With c the coefficient of ``name`` and r the rest: c*i + min r >= 0 for true, c*i + max r < 0
    for false; i >= ceil(-r/c) where c > 0, i <= floor(r/-c) where c < 0.
    """
    bounds = tuple(inner)
    worst = least(condition, bounds)
    best = least(condition * -1, bounds)
    if worst is None or best is None:
        return None
    best = best * -1
    c = worst.coefficient(name)
    if not c or best.coefficient(name) * c <= 0:
        return None
    return Cut(c > 0, _turn(worst, name), _turn(best, name), worst, negated(best))


def _turn(condition: Affine, name: str) -> Quotient:
    """The first value of ``name`` at which ``condition >= 0`` has changed its truth."""
    c = condition.coefficient(name)
    rest = condition.without(name)
    if c > 0:
        return Quotient(rest * -1 + (c - 1), c)
    return Quotient(rest + -c, -c)


def decide(condition: Affine, bounds: Iterable[Bound], facts: Iterable[Affine]) -> bool | None:
    """Whether ``facts`` (each >= 0) settle ``condition >= 0`` within ``bounds``; None: they do not.

    Loops are taken away from the innermost on; at each step one fact may carry the condition.
    """
    loops = tuple(bounds)
    known = {fact.tightened.terms: fact.tightened.constant for fact in _loosest_last(facts)}
    if _follows(condition, loops, known):
        return True
    if _follows(negated(condition), loops, known):
        return False
    return None


def _loosest_last(facts: Iterable[Affine]) -> list[Affine]:
    """Of facts with the same terms, the smallest constant, which says most, comes last."""
    return sorted(facts, key=lambda fact: -fact.tightened.constant)


def _follows(
    condition: Affine, bounds: tuple[Bound, ...], known: Mapping[tuple[tuple[str, int], ...], int]
) -> bool:
    for step in range(len(bounds) + 1):
        tight = condition.tightened
        if not tight.terms:
            return tight.constant >= 0
        if tight.terms in known and tight.constant >= known[tight.terms]:
            return True
        if step == len(bounds):
            return False
        lower = least(condition, bounds[step : step + 1])
        if lower is None:
            return False
        condition = lower
    return False


def pinned(name: str, facts: Iterable[Affine]) -> Affine | None:
    """The one value that ``facts``, each at least 0, leave for ``name``; None: there are more.

    i - L >= 0 and U - i >= 0 with L = U.
    """
    known = [fact.tightened for fact in facts if abs(fact.tightened.coefficient(name)) == 1]
    lows = [fact.without(name) * -1 for fact in known if fact.coefficient(name) == 1]
    lasts = {fact.without(name) for fact in known if fact.coefficient(name) == -1}
    return next((low for low in lows if low in lasts), None)
