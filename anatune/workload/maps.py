"""Expressions of arrays and neighbours: each element, folds, scans and softmax (rank 2)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from numbers import Integral, Real
from typing import Any, ClassVar

from anatune.errors import WorkloadError, require
from anatune.workload.dtypes import (
    INTEGER_RANGE,
    accumulator_of,
    default_output,
    dtype_name,
    is_float,
)
from anatune.workload.expression import (
    SUM,
    Expression,
    Operand,
    constant,
    parse,
    parse_arrays,
    parse_step,
)
from anatune.workload.matmul import MAX_EXTENT
from anatune.workload.tensor import Tensor

FOLDS = ("sum", "max", "min")
SOFTMAX = "softmax"
SCAN = "scan"

Halo = tuple[tuple[int, int], tuple[int, int]]
"""Least and largest offset at which an array is read, along m and along n."""


@dataclass(frozen=True, kw_only=True)
class Map:
    """out = each(i, j) over [m, n]; or finish(fold of it along n or m); or its softmax along n; or
    a scan: out = finish(c), c = each(the c before, i, j) along n or m, from ``initial`` on.

    Row-major and compact. ``rank`` 1: arrays have one axis of n elements, and m is 1. ``each`` is
    an expression of arrays (`expression.parse_arrays`, and `parse_step` of a scan), ``finish`` one
    of the folded or carried value ``c``.

    An array that ``each`` reads at offsets has elements for all that is read and no others: its
    first one is what the least offsets, those of `halo`, make of place [0, 0] of the result.
    """

    m: int
    n: int
    each: str
    fold: str = ""  # "", one of `FOLDS`, `SOFTMAX` or `SCAN`
    over: str = "n"  # the axis that is folded or scanned
    finish: str = ""  # of the folded or carried value, "c" unless given
    dtype: str = "float32"
    out_dtype: str | None = None
    rank: int = 2
    initial: float = 0.0  # what a scan carries into its first step

    one_result: ClassVar[bool] = True
    """A call gives back the result by itself, not a tuple."""

    def __post_init__(self) -> None:
        put = object.__setattr__
        for name in ("m", "n"):
            put(self, name, extent_of(name, getattr(self, name)))
        put(self, "dtype", dtype_name("dtype", self.dtype))
        known = (*FOLDS, SOFTMAX, SCAN)
        why = f"fold = {self.fold!r}: one of {', '.join(map(repr, known))}"
        require(self.fold in ("", *known), why, WorkloadError)
        require(self.over in ("m", "n"), f"over = {self.over!r}: 'm' or 'n'", WorkloadError)
        require(self.rank in (1, 2), f"rank = {self.rank!r}: 1 or 2", WorkloadError)
        why = f"rank = 1, m = {self.m}: arrays of one axis have m = 1"
        require(self.rank == 2 or self.m == 1, why, WorkloadError)
        runs = self.fold in (*FOLDS, SCAN)
        why = f"over = 'm', fold = {self.fold!r}: only a sum, max, min or scan runs along m"
        require(self.over == "n" or (runs and self.rank == 2), why, WorkloadError)
        _ = self.element, self.finished  # refuse what cannot be read
        why = f"finish = {self.finish!r}: only of a sum, max, min or scan"
        require(runs or not self.finish, why, WorkloadError)
        self._check_initial()
        usual = default_output(self.dtype, self.dtype)
        held = self.element.computed
        usual = held if accumulator_of(usual, usual) != held else usual
        put(self, "out_dtype", dtype_name("out_dtype", self.out_dtype or usual))

    def _check_initial(self) -> None:
        """A number of the type that is carried, or an infinity where that has one."""
        value, held = self.initial, self.held
        require(_is_number(value), f"initial = {value!r}: a number", WorkloadError)
        require(self.fold == SCAN or not value, f"initial = {value}: only of a scan", WorkloadError)
        if not is_float(held):
            low, high = INTEGER_RANGE[held]
            fits = low <= value <= high and value == int(value)
            why = f"initial = {value}: {held} is carried: a whole number from {low} to {high}"
            require(fits, why, WorkloadError)
        object.__setattr__(self, "initial", float(value))

    @cached_property
    def element(self) -> Expression:
        """What is computed of each element; a scan's step."""
        read = parse_step if self.fold == SCAN else parse_arrays
        return read(self.each, self.dtype, self.rank)

    @cached_property
    def finished(self) -> Expression:
        """What is stored, of the folded or carried value; `SUM` where it is stored as it is."""
        if not self.finish:
            return SUM
        read = parse(self.finish, self.held, self.dtype)
        along = {"n": "m", "m": "n"}[self.over]
        for operand in read.operands:
            why = f"finish: {operand}: a single number, or an array [{along}] as the result is"
            require(self.fold == SCAN or operand.axes in ((), (along,)), why, WorkloadError)
            twice = operand.name in {op.name for op in self.element.operands}
            why = f"finish: {operand.name}: names an array of the elements' expression already"
            require(not twice, why, WorkloadError)
        return read

    @property
    def held(self) -> str:
        """Data type in which elements are computed, folded and carried: float64, float32 or int32.

        Softmax of integers is computed in float32, as exp of them is.
        """
        held = self.element.computed
        return "float32" if self.fold == SOFTMAX and held == "int32" else held

    @property
    def result_dtype(self) -> str:
        """Data type of results before they become ``out_dtype``."""
        return self.held if self.finished == SUM else self.finished.computed

    @property
    def keeps_carried(self) -> bool:
        """Whether the results of a scan are what it carries."""
        return self.fold == SCAN and self.finished == SUM and self.out_dtype == self.held

    @cached_property
    def operands(self) -> dict[str, Tensor]:
        """Inputs by name, in the order in which they are first named."""
        named = (*self.element.operands, *self.finished.operands)
        return {op.name: Tensor.rows(self._read(op), op.dtype) for op in named}

    @cached_property
    def halos(self) -> dict[str, Halo]:
        """`halo` of each operand."""
        found: dict[str, Halo] = {}
        for read in (*self.element.reads, *self.finished.reads):
            at = (read.offset("m"), read.offset("n"))
            along_m, along_n = found.get(read.name, ((at[0],) * 2, (at[1],) * 2))
            found[read.name] = (_widened(along_m, at[0]), _widened(along_n, at[1]))
        return found

    def halo(self, name: str) -> Halo:
        """((lo_m, hi_m), (lo_n, hi_n)): the offsets between which an operand is read.

        Rows [i, j) of the result need rows [i, j + hi_m - lo_m) of the array, and so do columns;
        along an axis that it lacks it has (0, 0).

        Raises:
            WorkloadError: there is no such operand.
        """
        why = f"halo: {name!r}: the operands are {', '.join(self.halos)}"
        require(name in self.halos, why, WorkloadError)
        return self.halos[name]

    def shift(self, read: Operand) -> tuple[int, int]:
        """Rows and columns from the result's place to the array's that ``read`` takes there."""
        (lo_m, _), (lo_n, _) = self.halos[read.name]
        return read.offset("m") - lo_m, read.offset("n") - lo_n

    def _read(self, operand: Operand) -> tuple[int, ...]:
        """The shape of an operand: the result's along its axes, and its halo."""
        beyond = {d: hi - lo for d, (lo, hi) in zip("mn", self.halos[operand.name])}
        axes = [d for d in operand.axes if self.rank == 2 or d == "n"]
        return tuple(extent + beyond[d] for d, extent in zip(axes, self._shape(operand.axes)))

    @cached_property
    def output(self) -> Tensor:
        axes = tuple(d for d in "mn" if self.fold not in FOLDS or d != self.over)
        return Tensor.rows(self._shape(axes), str(self.out_dtype))

    def _shape(self, axes: tuple[str, ...]) -> tuple[int, ...]:
        extents = {"m": self.m, "n": self.n}
        return tuple(extents[d] for d in axes if self.rank == 2 or d == "n")

    @property
    def arguments(self) -> dict[str, Tensor]:
        """What a call takes, in order, by the names that errors say."""
        return self.operands

    @property
    def results(self) -> dict[str, Tensor]:
        """What a call gives back, likewise."""
        return {"out": self.output}

    @property
    def elements(self) -> int:
        return self.m * self.n

    @property
    def flops(self) -> int:
        """Operations by the expressions' own count, see `nodes.OPERATIONS`."""
        folding = {"": 0, SOFTMAX: 1 + 22 + 2}.get(self.fold, 1)
        finish = self.finished.operations if self.fold == SCAN else 0
        return self.elements * max(1, self.element.operations + folding + finish)

    @property
    def operand_bytes(self) -> int:
        """Bytes of all inputs and the output together."""
        return self.output.size_bytes + sum(t.size_bytes for t in self.operands.values())

    def __str__(self) -> str:
        shape = f"[{self.n}]" if self.rank == 1 else f"[{self.m}, {self.n}]"
        begun = f" from {constant(self.initial, self.held)}" if self.fold == SCAN else ""
        what = f"{self.fold}({self.each}{begun})" if self.fold else self.each
        along = f" along {self.over}" if self.fold else ""
        finish = f", out = {self.finish}" if self.finish else ""
        to = "" if self.out_dtype == self.dtype else f" to {self.out_dtype}"
        return f"{what} over {shape}{along} {self.dtype}{to}{finish}"


def _widened(between: tuple[int, int], by: int) -> tuple[int, int]:
    return min(between[0], by), max(between[1], by)


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real) and bool(value == value)


def extent_of(name: str, value: Any) -> int:
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    why = f"{name} = {value!r}: an extent is a whole number from 1 to {MAX_EXTENT}"
    require(whole and 1 <= value <= MAX_EXTENT, why, WorkloadError)
    return int(value)
