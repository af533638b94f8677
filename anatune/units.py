"""Quantities as text: read once where data enters, printed once where people look (rank 0).

A quantity is a plain number inside anatune, in the base unit that ends its name (``_bytes``,
``_hz``, ``_s``). Text always carries its unit. Capacities are binary, rates decimal, and neither is
guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from difflib import get_close_matches

from anatune.errors import UnitError

MAX_TEXT = 64  # characters of a quantity; longer text is not one
EXACT_DIGITS = 8  # characters up to which a number in a larger unit still reads better
SHOWN_DIGITS = 3  # significant digits that people can use

# At most 20 digits a side and a two-digit exponent: every number of interest, no giants.
_QUANTITY = re.compile(r"([+-]?)(\d{1,20}(?:\.\d{1,20})?(?:[eE][+-]?\d{1,2})?) ?(\S.*)?", re.ASCII)


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantity:
    """One kind of quantity; ``units`` maps each accepted unit to its size in the first one."""

    name: str
    units: Mapping[str, Decimal]
    example: str
    whole: bool = False  # only whole numbers of the base unit exist
    hints: Mapping[str, str] = field(default_factory=dict)  # refused unit -> why

    @property
    def base(self) -> str:
        return next(iter(self.units))

    def parse(self, text: object) -> int | float:
        """The number in the base unit: ``CAPACITY.parse("48 KiB")`` is 49152."""
        if not isinstance(text, str):
            raise UnitError(self._refused(text, "has no unit"))
        match = _QUANTITY.fullmatch(text.strip()) if len(text) <= MAX_TEXT else None
        if match is None:
            raise UnitError(self._refused(text, "is not a number with a unit"))
        sign, number, unit = match.groups()
        if sign == "-":
            raise UnitError(self._refused(text, "is negative"))
        if unit not in self.units:
            raise UnitError(self._wrong_unit(text, unit))
        return self._in_base(Decimal(number), self.units[unit], text)

    def _refused(self, text: object, why: str) -> str:
        return f"{self.name} {clip(text)} {why}: write for example '{self.example}'"

    def _in_base(self, number: Decimal, scale: Decimal, text: str) -> int | float:
        with localcontext() as context:
            context.prec = 200  # enough for 40 digits with any exponent: the product is exact
            value = number * scale
            if not self.whole:
                return float(value)
            if value != value.to_integral_value():
                raise UnitError(f"{self.name} {clip(text)} is not a whole number of {self.base}")
            return int(value)

    def _wrong_unit(self, text: str, unit: str | None) -> str:
        if unit is None:
            return self._refused(text, "has no unit")
        known = ", ".join(self.units)
        if unit in self.hints:
            return f"{self.name} {clip(text)}: {self.hints[unit]}"
        by_lower = {u.lower(): u for u in self.units}
        near = get_close_matches(unit.lower(), by_lower, n=1)
        mend = f"did you mean {by_lower[near[0]]}? " if near else ""
        return (
            f"{self.name} {clip(text)}: unit {clip(unit)} is not known: {mend}accepted are {known}"
        )

    def text(self, value: int | float) -> str:
        """Exact text for files: the largest unit that keeps it short; it parses back equal."""
        value = int(value) if self.whole else float(value)
        with localcontext() as context:
            context.prec = 17  # of a double; a longer quotient is too long to read anyway
            for unit in self._largest_first():
                number = _plain(Decimal(repr(value)) / self.units[unit])
                short = value >= self.units[unit] and len(number) <= EXACT_DIGITS
                if short and self.parse(f"{number} {unit}") == value:
                    return f"{number} {unit}"
        return f"{value!r} {self.base}"

    def show(self, value: int | float) -> str:
        """Rounded text for people: three significant digits in the unit that fits."""
        units = self._largest_first()
        rounded = float(f"{value:.{SHOWN_DIGITS}g}")  # so that 999.9 us becomes 1 ms
        fits = next((unit for unit in units if abs(rounded) >= float(self.units[unit])), units[-1])
        unit = fits if value else self.base
        return f"{_rounded(float(value) / float(self.units[unit]))} {unit}"

    def _largest_first(self) -> list[str]:
        return sorted(self.units, key=self.units.__getitem__, reverse=True)


def _rounded(number: float) -> str:
    """Three significant digits, but no digit before the point is lost: 1023, 48, 27.5, 0.123."""
    if abs(number) >= 10**SHOWN_DIGITS:
        return f"{number:.0f}"
    return _plain(Decimal(f"{number:.{SHOWN_DIGITS}g}"))


def _plain(number: Decimal) -> str:
    """Without an exponent and without zeros at the end of a fraction."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def clip(value: object) -> str:
    """A value as it stands in a message: quoted, and never longer than a line can bear."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**30:
        return "(a number with more than 30 digits)"  # also spares int's limit on digits
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:36]}...'"


def _decimal(name: str, base: str, prefixes: str, example: str, **more: object) -> Quantity:
    """A quantity with metric prefixes, given as letters of ``pnumkMGTP`` and ``1`` for none."""
    powers = {"1": 0, "p": -12, "n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15}
    units = {f"{'' if p == '1' else p}{base}": Decimal(10) ** powers[p] for p in prefixes}
    return Quantity(name=name, units=units, example=example, **more)  # type: ignore[arg-type]


_AMBIGUOUS = {
    unit: f"{unit} is read as 1000 and as 1024: write {unit[0].upper()}iB (powers of 1024)"
    for unit in ("kB", "KB", "MB", "GB", "TB", "K", "M", "G")
}
_BINARY_RATE = {
    f"{binary}B/s": f"rates are decimal: write {prefix}B/s (1 GB/s is 10^9 bytes per second)"
    for binary, prefix in (("Ki", "k"), ("Mi", "M"), ("Gi", "G"), ("Ti", "T"))
}

CAPACITY = Quantity(
    name="capacity",
    units={u: Decimal(1024) ** i for i, u in enumerate(("B", "KiB", "MiB", "GiB", "TiB"))},
    example="48 KiB",
    whole=True,
    hints=_AMBIGUOUS,
)
BANDWIDTH = _decimal("bandwidth", "B/s", "1kMGT", "50 GB/s", hints=_BINARY_RATE)
CLOCK = _decimal("clock", "Hz", "1kMG", "2.4 GHz")
TIME = _decimal("time", "s", "1munp", "3 us")
FLOP_RATE = _decimal("rate", "FLOP/s", "1MGTP", "272 GFLOP/s")
ENERGY = _decimal("energy", "J", "1munpk", "12 mJ")
POWER = _decimal("power", "W", "1munk", "122 W")
ENERGY_PER_BYTE = Quantity(
    name="energy", units={"pJ/B": Decimal(1), "nJ/B": Decimal(1000)}, example="162 pJ/B"
)
ENERGY_PER_FLOP = Quantity(
    name="energy", units={"pJ/FLOP": Decimal(1), "nJ/FLOP": Decimal(1000)}, example="1.3 pJ/FLOP"
)
BYTES_PER_CYCLE = Quantity(name="bandwidth", units={"B/cycle": Decimal(1)}, example="64 B/cycle")
FLOP_PER_CYCLE = Quantity(
    name="rate", units={"FLOP/cycle": Decimal(1)}, example="256 FLOP/cycle", whole=True
)
CYCLES = Quantity(
    name="latency", units={"cycles": Decimal(1), "cycle": Decimal(1)}, example="4 cycles"
)
BITS = Quantity(
    name="width", units={"bit": Decimal(1), "bits": Decimal(1)}, example="512 bit", whole=True
)

QUANTITIES = (
    CAPACITY, BANDWIDTH, CLOCK, TIME, FLOP_RATE, ENERGY, POWER, ENERGY_PER_BYTE, ENERGY_PER_FLOP,
    BYTES_PER_CYCLE, FLOP_PER_CYCLE, CYCLES, BITS,
)  # fmt: skip
