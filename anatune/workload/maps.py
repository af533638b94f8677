"""Expressions of arrays, element by element, folded along an axis, and softmax (rank 2)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from typing import Any, ClassVar

from anatune.errors import WorkloadError, require
from anatune.workload.dtypes import accumulator_of, default_output, dtype_name
from anatune.workload.expression import SUM, Expression, parse, parse_arrays
from anatune.workload.matmul import MAX_EXTENT
from anatune.workload.tensor import Tensor

FOLDS = ("sum", "max", "min")
SOFTMAX = "softmax"


@dataclass(frozen=True, kw_only=True)
class Map:
    """out = each(i, j) over [m, n]; or finish(fold of it along n or m); or its softmax along n.

    Row-major and compact. ``rank`` 1: arrays have one axis of n elements, and m is 1. ``each`` is
    an expression of arrays (`expression.parse_arrays`), ``finish`` one of the folded value ``c``.
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

    one_result: ClassVar[bool] = True
    """A call gives back the result by itself, not a tuple."""

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
        return parse_arrays(self.each, self.dtype)

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
        return {op.name: Tensor.rows(self._shape(op.axes), op.dtype) for op in named}

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
