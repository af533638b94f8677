"""Extents that are known when a kernel is called, not when it is made (rank 2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from numbers import Integral
from typing import Any

from anatune.errors import WorkloadError, require

OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda x, y: x + y,
    "-": lambda x, y: x - y,
    "*": lambda x, y: x * y,
    "//": lambda x, y: x // y,
}
"""What extents are made of."""


Range = tuple[float, float]
"""A lower and an upper bound, both included."""


class Extent:
    """A `Dim`, or an expression of some: ``49 * b``, ``s + 1``, ``(h + 1) // 2``."""

    def __add__(self, other: Any) -> Any:
        return _made("+", self, other)

    def __radd__(self, other: Any) -> Any:
        return _made("+", other, self)

    def __sub__(self, other: Any) -> Any:
        return _made("-", self, other)

    def __rsub__(self, other: Any) -> Any:
        return _made("-", other, self)

    def __mul__(self, other: Any) -> Any:
        return _made("*", self, other)

    def __rmul__(self, other: Any) -> Any:
        return _made("*", other, self)

    def __floordiv__(self, other: Any) -> Any:
        return _made("//", self, other)

    @property
    def dims(self) -> tuple[Dim, ...]:
        """The dims in it, each once."""
        raise NotImplementedError

    def value(self, values: Mapping[str, Any]) -> Any:
        """What it is, given the values of its dims by name: numbers, or expressions of code."""
        raise NotImplementedError

    @property
    def range(self) -> Range:
        """Bounds that it never leaves; the upper one may be infinite."""
        return self.within({dim.name: dim.range for dim in self.dims})

    def within(self, ranges: Mapping[str, Range]) -> Range:
        """Its bounds where those of its dims are these."""
        raise NotImplementedError

    def solved(self, is_: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        """The dims that follow from its being ``is_``, and from ``values`` of others.

        None follow from what cannot be turned round, such as a quotient or a product with 0.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Dim(Extent):
    """An extent by name, any whole number from ``low`` to ``high``.

    Attributes:
        name: a letter, then letters, digits and underscores.
        high: None where there is no limit.
        likely: values that calls are expected to have, a number or several; they weigh more where
            one kernel cannot be the best for all.
    """

    name: str
    low: int = 1
    high: int | None = None
    likely: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        put = object.__setattr__
        named = isinstance(self.name, str) and self.name.isidentifier()
        require(named, f"name = {self.name!r}: a letter, then letters and digits", WorkloadError)
        put(self, "low", _whole(f"{self.name}.low", self.low, 1))
        if self.high is not None:
            put(self, "high", _whole(f"{self.name}.high", self.high, self.low))
        given: Any = self.likely
        several = (given,) if isinstance(given, Integral) else tuple(given or ())
        for value in several:
            _whole(f"{self.name}.likely", value, self.low)
            why = f"{self.name}.likely = {value}: at most {self.high}, the upper end of the range"
            require(self.high is None or value <= self.high, why, WorkloadError)
        put(self, "likely", tuple(int(value) for value in several))

    @property
    def dims(self) -> tuple[Dim, ...]:
        return (self,)

    def value(self, values: Mapping[str, Any]) -> Any:
        return values[self.name]

    @property
    def range(self) -> Range:
        return self.low, inf if self.high is None else self.high

    def within(self, ranges: Mapping[str, Range]) -> Range:
        return ranges[self.name]

    def solved(self, is_: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        return {self.name: is_}

    @property
    def described(self) -> str:
        """Its name and its range."""
        return f"{self.name} from {self.low}" + (f" to {self.high}" if self.high else "")

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Compound(Extent):
    """Two extents or numbers joined by one of `OPERATIONS`."""

    op: str
    left: Any
    right: Any

    @property
    def dims(self) -> tuple[Dim, ...]:
        return tuple(dict.fromkeys((*dims_of(self.left), *dims_of(self.right))))

    def value(self, values: Mapping[str, Any]) -> Any:
        return OPERATIONS[self.op](at(self.left, values), at(self.right, values))

    def within(self, ranges: Mapping[str, Range]) -> Range:
        left, right = (_within(side, ranges) for side in (self.left, self.right))
        if self.op == "-":
            return left[0] - right[1], left[1] - right[0]
        # The others rise or fall with each side wherever the other is, so ends lie at corners.
        corner = {"+": lambda x, y: x + y, "*": _product, "//": _quotient}[self.op]
        corners = [corner(x, y) for x in left for y in right]
        return min(corners), max(corners)

    def solved(self, is_: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        if self.op == "//":
            return {}
        left, right = (_known(side, values) for side in (self.left, self.right))
        if (left is None) == (right is None):
            return {}
        unknown: Extent = self.left if left is None else self.right
        known = right if left is None else left
        if self.op == "*":
            side = self.right if left is None else self.left
            low, high = side.range if isinstance(side, Extent) else (side, side)
            zero = isinstance(known, int) and known == 0  # of operands that are no member's
            tells = (low > 0 or high < 0) and not zero
            return unknown.solved(is_ // known, values) if tells else {}
        if self.op == "+":
            return unknown.solved(is_ - known, values)
        return unknown.solved(is_ + known if left is None else known - is_, values)

    def __str__(self) -> str:
        def side(part: Any, tight: bool) -> str:
            loose = isinstance(part, Compound) and (tight or part.op in "+-")
            return f"({part})" if loose and self.op != "+" else str(part)

        return f"{side(self.left, False)}{self.op}{side(self.right, self.op != '+')}"


def at(extent: Any, values: Mapping[str, Any]) -> Any:
    """An extent or a number, given the dims' values."""
    return extent.value(values) if isinstance(extent, Extent) else extent


def most(extent: Any) -> Any:
    """The largest value of an extent, inf where there is none; a number itself."""
    return extent.range[1] if isinstance(extent, Extent) else extent


def dims_of(extent: Any) -> tuple[Dim, ...]:
    """The dims of an extent; none of a number."""
    return extent.dims if isinstance(extent, Extent) else ()


def solve(given: Mapping[Any, Any]) -> dict[str, Any]:
    """The dims' values from what extents are: by repeated substitution, as far as that leads."""
    values: dict[str, Any] = {}
    for _ in given:
        for extent, is_ in given.items():
            if isinstance(extent, Extent):
                values = {**extent.solved(is_, values), **values}
    return values


def extent_of(fields: Mapping[str, Any]) -> Extent:
    """An extent from the plain fields that ``dataclasses.asdict`` made of it."""
    if "op" not in fields:
        return Dim(fields["name"], fields["low"], fields["high"], tuple(fields["likely"]))
    known = fields["op"] in OPERATIONS
    require(known, f"op = {fields['op']!r}: one of {', '.join(OPERATIONS)}", WorkloadError)
    sides = (fields["left"], fields["right"])
    return Compound(fields["op"], *(extent_of(s) if isinstance(s, Mapping) else s for s in sides))


def _made(op: str, left: Any, right: Any) -> Any:
    """``left op right``, simplified where one of them does nothing."""
    for side in (left, right):
        number = isinstance(side, Integral) and not isinstance(side, bool)
        if not number and not isinstance(side, Extent):
            return NotImplemented
    left, right = (x if isinstance(x, Extent) else int(x) for x in (left, right))
    if op == "*" and 1 in (left, right):
        return right if left == 1 else left
    if (op in "+-" and right == 0) or (op == "//" and right == 1):
        return left
    if op == "+" and left == 0:
        return right
    least = right.range[0] if isinstance(right, Extent) else right
    positive = op != "//" or least > 0
    require(positive, f"{left}//{right}: the divisor must be above 0", WorkloadError)
    return Compound(op, left, right)


def _within(extent: Any, ranges: Mapping[str, Range]) -> Range:
    return extent.within(ranges) if isinstance(extent, Extent) else (extent, extent)


def _product(x: float, y: float) -> float:
    return 0 if 0 in (x, y) else x * y  # whatever is infinite is so only as far as one looks


def _quotient(x: float, y: float) -> float:
    return x if abs(x) == inf else int(x // y)


def _known(extent: Any, values: Mapping[str, Any]) -> Any:
    """Its value where all its dims have one, else None."""
    return at(extent, values) if all(d.name in values for d in dims_of(extent)) else None


def _whole(name: str, value: Any, least: int) -> int:
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    whole = whole and int(value) >= least
    require(whole, f"{name} = {value!r}: a whole number from {least} on", WorkloadError)
    return int(value)
