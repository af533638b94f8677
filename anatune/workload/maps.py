"""Expressions of arrays and neighbours, element by element, folded, and softmax (rank 2)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from typing import Any

from anatune.errors import WorkloadError, require
from anatune.workload.dtypes import accumulator_of, default_output, dtype_name
from anatune.workload.expression import SUM, Expression, Operand, parse, parse_arrays
from anatune.workload.matmul import MAX_EXTENT
from anatune.workload.tensor import Tensor

FOLDS = ("sum", "max", "min")
SOFTMAX = "softmax"

Halo = tuple[tuple[int, int], tuple[int, int]]
"""Least and largest offset at which an array is read, along m and along n."""


@dataclass(frozen=True, kw_only=True)
class Map:
    """out = each(i, j) over [m, n]; or finish(fold of it along n or m); or its softmax along n.

    Row-major and compact. ``rank`` 1: arrays have one axis of n elements, and m is 1. ``each`` is
    an expression of arrays (`expression.parse_arrays`), ``finish`` one of the folded value ``c``.

    An array that ``each`` reads at offsets has elements for all that is read and no others: its
    first one is what the least offsets, those of `halo`, make of place [0, 0] of the result.
    """

    m: int
    n: int
    each: str
    fold: str = ""  # "", one of `FOLDS`, or `SOFTMAX`
    over: str = "n"  # the axis that is folded
    finish: str = ""  # of the folded value, "c" unless given
    dtype: str = "float32"
    out_dtype: str | None = None
    rank: int = 2

    def __post_init__(self) -> None:
        put = object.__setattr__
        for name in ("m", "n"):
            put(self, name, _extent(name, getattr(self, name)))
        put(self, "dtype", dtype_name("dtype", self.dtype))
        why = f"fold = {self.fold!r}: one of {', '.join(map(repr, (*FOLDS, SOFTMAX)))}"
        require(self.fold in ("", *FOLDS, SOFTMAX), why, WorkloadError)
        require(self.over in ("m", "n"), f"over = {self.over!r}: 'm' or 'n'", WorkloadError)
        require(self.rank in (1, 2), f"rank = {self.rank!r}: 1 or 2", WorkloadError)
        why = f"rank = 1, m = {self.m}: arrays of one axis have m = 1"
        require(self.rank == 2 or self.m == 1, why, WorkloadError)
        why = f"over = 'm', fold = {self.fold!r}: only a sum, max or min runs along m"
        require(self.over == "n" or (self.fold in FOLDS and self.rank == 2), why, WorkloadError)
        _ = self.element, self.finished  # refuse what cannot be read
        why = f"finish = {self.finish!r}: only of a sum, max or min"
        require(self.fold in FOLDS or not self.finish, why, WorkloadError)
        usual = default_output(self.dtype, self.dtype)
        held = self.element.computed
        usual = held if accumulator_of(usual, usual) != held else usual
        put(self, "out_dtype", dtype_name("out_dtype", self.out_dtype or usual))

    @cached_property
    def element(self) -> Expression:
        """What is computed of each element."""
        return parse_arrays(self.each, self.dtype, self.rank)

    @cached_property
    def finished(self) -> Expression:
        """What is stored, of the folded value; `SUM` where it is stored as it is."""
        if not self.finish:
            return SUM
        read = parse(self.finish, self.held, self.held)
        along = {"n": "m", "m": "n"}[self.over]
        for operand in read.operands:
            why = f"finish: {operand}: a single number, or an array [{along}] as the result is"
            require(operand.axes in ((), (along,)), why, WorkloadError)
            twice = operand.name in {op.name for op in self.element.operands}
            why = f"finish: {operand.name}: names an array of the elements' expression already"
            require(not twice, why, WorkloadError)
        return read

    @property
    def held(self) -> str:
        """Data type in which elements are computed and folded: float64, float32 or int32.

        Softmax of integers is computed in float32, as exp of them is.
        """
        held = self.element.computed
        return "float32" if self.fold == SOFTMAX and held == "int32" else held

    @property
    def result_dtype(self) -> str:
        """Data type of results before they become ``out_dtype``."""
        return self.held if self.finished == SUM else self.finished.computed

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
    def elements(self) -> int:
        return self.m * self.n

    @property
    def flops(self) -> int:
        """Operations by the expressions' own count, see `nodes.OPERATIONS`."""
        folding = {"": 0, SOFTMAX: 1 + 22 + 2}.get(self.fold, 1)
        return self.elements * max(1, self.element.operations + folding)

    @property
    def operand_bytes(self) -> int:
        """Bytes of all inputs and the output together."""
        return self.output.size_bytes + sum(t.size_bytes for t in self.operands.values())

    def __str__(self) -> str:
        shape = f"[{self.n}]" if self.rank == 1 else f"[{self.m}, {self.n}]"
        what = f"{self.fold}({self.each})" if self.fold else self.each
        along = f" along {self.over}" if self.fold else ""
        finish = f", out = {self.finish}" if self.finish else ""
        to = "" if self.out_dtype == self.dtype else f" to {self.out_dtype}"
        return f"{what} over {shape}{along} {self.dtype}{to}{finish}"


def elementwise(
    expression: str, shape: Any, *, dtype: str = "float32", out_dtype: str | None = None
) -> Map:
    """The workload out[...] = expression, element by element.

    Args:
        expression: of arrays, for example ``"relu(x + bias[n])"``: a bare name has an element for
            each of the result's, ``bias[n]`` runs along columns, ``row[m]`` along rows, and
            ``scale[0]`` is a single number.
        shape: extent, or extents (m, n).
        dtype: data type of the arrays that state no other, as ``x.int8`` does.
        out_dtype: that of the result; by default ``dtype``, or what the expression is computed in.

    Raises:
        WorkloadError: an argument that cannot be computed, named.
    """
    m, n, rank = _extents(shape)
    return Map(m=m, n=n, rank=rank, each=expression, dtype=dtype, out_dtype=out_dtype)


def stencil(
    expression: str, shape: Any, *, dtype: str = "float32", out_dtype: str | None = None
) -> Map:
    """The workload out[...] = expression of neighbours, for example ``"x[n-1] + x + x[n+1]"``.

    Args:
        expression: as `elementwise` takes it. Subscripts m and n may have a whole number added, up
            to 64 either way: ``x[m-1, n]`` is the element above, ``x[n+1]`` of arrays of one axis
            the next one.
        shape: extent of the result, or extents (m, n). Arrays are larger by what is read around
            the result: one that is read from x[m-1, n] to x[m+1, n] has m + 2 rows, and its first
            row is what x[m-1, n] means for the result's first. `Map.halo` tells of each array. One
            that is read at a single offset has the result's shape.
        dtype, out_dtype: as `elementwise` takes them.

    Raises:
        WorkloadError: an argument that cannot be computed, named.
    """
    return elementwise(expression, shape, dtype=dtype, out_dtype=out_dtype)


def reduce(
    function: str, shape: Any, expression: str = "x", *, axis: int = -1, finish: str = "",
    dtype: str = "float32", out_dtype: str | None = None,
) -> Map:  # fmt: skip
    """The workload out = finish(function of the expression's values along an axis).

    Args:
        function: "sum", "max", "min" or "mean".
        shape: extent, or extents (m, n).
        expression: of arrays, as `elementwise` takes it.
        axis: the axis that goes: the last one (-1), or the first of two (0).
        finish: an expression of the folded value ``c``, for example ``"sqrt(c)"``.
        dtype, out_dtype: as `elementwise` takes them.

    Raises:
        WorkloadError: an argument that cannot be computed, named.
    """
    m, n, rank = _extents(shape)
    require(axis in range(-rank, rank), f"axis = {axis!r}: from {-rank} to {rank - 1}",
            WorkloadError)
    over = "m" if axis in (0, -2) and rank == 2 else "n"
    if function == "mean":
        count = m if over == "m" else n
        mean = parse(f"c / {count}", "float32", "float32")
        function, finish = "sum", str(parse(finish or "c", "float32", "float32").of(mean))
    require(function in FOLDS, f"function = {function!r}: 'sum', 'max', 'min' or 'mean'",
            WorkloadError)
    return Map(
        m=m, n=n, rank=rank, each=expression, fold=function, over=over, finish=finish,
        dtype=dtype, out_dtype=out_dtype,
    )  # fmt: skip


def softmax(
    rows: int, columns: int, expression: str = "x", *, dtype: str = "float32",
    out_dtype: str | None = None,
) -> Map:  # fmt: skip
    """The workload out[i, :] = exp(v[i, :]) / sum of it, v the values of the expression.

    The largest value of a row is taken off first, so that no exponential overflows.

    Raises:
        WorkloadError: an argument that cannot be computed, named.
    """
    return Map(m=rows, n=columns, each=expression, fold=SOFTMAX, dtype=dtype, out_dtype=out_dtype)


def _widened(between: tuple[int, int], by: int) -> tuple[int, int]:
    return min(between[0], by), max(between[1], by)


def _extents(shape: Any) -> tuple[int, int, int]:
    """m, n, and how many axes arrays have."""
    given = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    require(len(given) in (1, 2), f"shape = {shape!r}: one or two extents", WorkloadError)
    extents = [_extent("shape", extent) for extent in given]
    return (1, extents[0], 1) if len(extents) == 1 else (extents[0], extents[1], 2)


def _extent(name: str, value: Any) -> int:
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    why = f"{name} = {value!r}: an extent is a whole number from 1 to {MAX_EXTENT}"
    require(whole and 1 <= value <= MAX_EXTENT, why, WorkloadError)
    return int(value)
