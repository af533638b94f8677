"""Matrix products: what is to be computed, of what, and what becomes of the sums (rank 2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from numbers import Integral, Real
from typing import Any

from anatune.errors import WorkloadError, require
from anatune.workload.dim import Dim, Extent, at, dims_of, most, solve
from anatune.workload.dtypes import ELEMENT_BYTES, accumulator_of, default_output, dtype_name
from anatune.workload.expression import OUT, SUM, Expression, Operand, constant, parse
from anatune.workload.tensor import Tensor

MAX_EXTENT = 2**31 - 1
"""Largest extent: BLAS and numpy's BLAS calls take 32-bit extents as well."""

MAX_STRIDE = 2**57
"""Largest stride: the bytes that a program can address with five-level paging (Intel 64 and IA-32
Architectures Software Developer's Manual, vol. 3, section 4.5)."""

STRIDES = ("stride_a", "stride_b", "stride_c")

LAID = ("lda", "ldb", "ldc", *STRIDES)
"""Fields that say how far rows, and products of a batch, lie apart."""

LARGEST_FACTOR = {"float64": 1.7e308, "float32": 3.4e38, "int32": 2.0**31 - 1}
"""Largest alpha and beta by the type of the sums, which they are numbers of."""


@dataclass(frozen=True, kw_only=True)
class Matmul:
    """out[m, n] = epilogue(alpha * sum over k of A[m, k] B[k, n] + beta * out[m, n]).

    Row-major; ``trans_a``: A is stored as [k, m], ``trans_b``: B as [n, k]. With a ``batch`` of 2
    or more every array has a first axis of that extent, except A or B where it is broadcast.
    ``lda``, ``ldb`` and ``ldc`` are elements from one stored row to the next; ``stride_a``,
    ``stride_b`` and ``stride_c`` from one product's array to the next one's, None of an array that
    has no next. None elsewhere, and of data types, stands for the usual and is replaced by it.

    Any of m, n, k and the batch may be an `Extent`: the workload is then a family, whose members
    `at` gives, and what is said of it in elements or operations is an `Extent` too.
    """

    m: int
    n: int
    k: int
    dtype: str = "float32"  # of A
    dtype_b: str | None = None  # as A's; int8 beside an A of uint8
    out_dtype: str | None = None
    trans_a: bool = False
    trans_b: bool = False
    batch: int = 1
    broadcast_a: bool = False  # one A for the whole batch
    broadcast_b: bool = False
    lda: int | None = None
    ldb: int | None = None
    ldc: int | None = None
    stride_a: int | None = None
    stride_b: int | None = None
    stride_c: int | None = None
    constant_b: bool = False  # B stays the same from call to call: it may be packed ahead of time
    alpha: float = 1.0
    beta: float = 0.0
    epilogue: str = ""  # an expression of the sum `c`, or names joined by "+": see `expression`

    def __post_init__(self) -> None:
        put = object.__setattr__
        for name in ("m", "n", "k", "batch"):
            put(self, name, _extent(name, getattr(self, name)))
        for name in ("trans_a", "trans_b", "broadcast_a", "broadcast_b", "constant_b"):
            value = getattr(self, name)
            require(isinstance(value, bool), f"{name} = {value!r}: True or False", WorkloadError)
        for name in ("alpha", "beta"):
            put(self, name, _factor(name, getattr(self, name)))
        put(self, "dtype", dtype_name("dtype", self.dtype))
        usual_b = "int8" if self.dtype == "uint8" else self.dtype
        put(self, "dtype_b", dtype_name("dtype_b", _or(self.dtype_b, usual_b)))
        usual_out = default_output(self.dtype, self.dtype_b)  # type: ignore[arg-type]
        put(self, "out_dtype", dtype_name("out_dtype", _or(self.out_dtype, usual_out)))
        for operand, (rows, row) in self._stored.items():
            name = f"ld{operand}"
            put(self, name, _leading(name, getattr(self, name), row))
            put(self, f"stride_{operand}", self._stride(operand, getattr(self, name) * rows))
        self._check_places_of_c()
        put(self, "epilogue", str(self._parsed) if self.epilogue else "")
        self._check_dims()
        for name in ("alpha", "beta"):
            largest = LARGEST_FACTOR[self.accumulator]
            why = f"{name} = {getattr(self, name):g}: at most {largest:g} beside sums of its type"
            require(abs(getattr(self, name)) <= largest, why, WorkloadError)
        whole = self.accumulator == "int32" and (self.alpha % 1 or self.beta % 1)
        why = f"alpha = {self.alpha:g}, beta = {self.beta:g}: whole numbers for integer sums"
        require(not whole, why, WorkloadError)

    @property
    def _stored(self) -> dict[str, tuple[int, int]]:
        """Rows of A, B and C of one product as they are stored, and elements of a row."""
        a = (self.k, self.m) if self.trans_a else (self.m, self.k)
        b = (self.n, self.k) if self.trans_b else (self.k, self.n)
        return {"a": a, "b": b, "c": (self.m, self.n)}

    def _stride(self, operand: str, usual: Any) -> Any:
        """The stride of an operand, checked; ``usual``: of whole arrays, one after another."""
        name = f"stride_{operand}"
        value = getattr(self, name)
        one_array = operand != "c" and getattr(self, f"broadcast_{operand}")
        if value is None or value == usual:
            return None if self.batch == 1 or one_array else usual
        why = f"{name} = {value!r}: there is one product; leave it out, or give a batch"
        require(self.batch != 1, why, WorkloadError)
        why = f"{name} = {value!r}: the batch has one {operand.upper()}; leave it out"
        require(not one_array, why, WorkloadError)
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        mend = f"; broadcast_{operand} takes one for all" if value == 0 and operand != "c" else ""
        why = f"{name} = {value!r}: elements from one product's {operand.upper()} to the next " \
            f"one's, a whole number from 1 to {MAX_STRIDE}{mend}"
        require(whole and 1 <= value <= MAX_STRIDE, why, WorkloadError)
        return int(value)

    def _check_places_of_c(self) -> None:
        """Products of C lie one after another, or side by side in the rows of one array."""
        if "stride_c" not in self.apart:
            return
        m, n, batch, ldc = map(most, (self.m, self.n, self.batch, self.ldc))
        after = (m - 1) * ldc + n if m > 1 else n
        beside = (batch - 1) * max(self.stride_c or 0, n) + n
        why = f"stride_c = {self.stride_c}: beside ldc = {self.ldc}, products of C lie neither " \
            f"one after another ({after} or more) nor side by side ({n} or more, ldc {beside} " \
            "or more)"
        require(self.output.nested, why, WorkloadError)

    def _check_dims(self) -> None:
        """Dims of one name are one dim, and the operands' shapes tell what each is."""
        names = [dim.name for dim in self.dims]
        twice = {name for name in names if names.count(name) > 1}
        why = f"{', '.join(twice)}: dims of one name, different ranges; make one Dim, use it twice"
        require(not twice, why, WorkloadError)
        least = {dim.name: dim.low for dim in self.dims}
        seen = {e: at(e, least) for tensor in self.operands.values() for e in tensor.shape}
        lost = set(names) - set(solve(seen))
        why = f"{', '.join(sorted(lost))}: cannot be told from the operands' shapes; give it an " \
            "extent of its own"
        require(not lost, why, WorkloadError)
        shape = self.operands["b"].shape
        fixed_b = not any(map(dims_of, shape))
        shown = "x".join(map(str, shape))
        why = f"constant_b: B is {shown}; a B that stays the same has numbers for extents"
        require(fixed_b or not self.constant_b, why, WorkloadError)

    @cached_property
    def dims(self) -> tuple[Dim, ...]:
        """The dims in its extents, each once; none of a workload whose extents are numbers."""
        extents = (self.m, self.n, self.k, self.batch)
        return tuple(dict.fromkeys(dim for extent in extents for dim in dims_of(extent)))

    def at(self, **values: int) -> Matmul:
        """The member of the family whose dims have these values.

        Raises:
            WorkloadError: a dim without a value, a value without a dim or outside of its range.
        """
        checked = _within(self.dims, values)
        given: dict[str, Any] = dict.fromkeys(LAID) | self.apart
        given |= {name: at(getattr(self, name), checked) for name in ("m", "n", "k", "batch")}
        given |= dict.fromkeys(STRIDES) if given["batch"] == 1 else {}
        return replace(self, **given)

    def products(self, count: int) -> Matmul:
        """So many products of the batch, stored as they are in it."""
        batch: dict[str, Any] = {"batch": count, **(dict.fromkeys(STRIDES) if count == 1 else {})}
        return replace(self, **batch)

    @cached_property
    def accumulator(self) -> str:
        """Data type of the sums: float64, float32 or int32."""
        assert self.dtype_b is not None
        return accumulator_of(self.dtype, self.dtype_b)

    @cached_property
    def _parsed(self) -> Expression:
        assert self.out_dtype is not None
        return parse(self.epilogue or "c", self.accumulator, self.out_dtype)

    @cached_property
    def expression(self) -> Expression:
        """What is stored, of the sum; `SUM` itself where it is stored as it is."""
        assert self.out_dtype is not None
        scaled: Expression = SUM
        if self.alpha != 1:
            scaled = scaled.times(constant(self.alpha, self.accumulator))
        if self.beta:
            out: Expression = Operand(name=OUT, axes=("m", "n"), dtype=self.out_dtype)
            if self.beta != 1:
                out = out.times(constant(self.beta, self.accumulator))
            scaled = scaled.plus(out)
        return self._parsed.of(scaled)

    @property
    def stores_sums(self) -> bool:
        """Whether C takes the sums as they are: no epilogue, no narrower type."""
        return self.expression == SUM and self.out_dtype == self.accumulator

    def along(self, dim: str) -> int:
        """The extent along m, n or k."""
        return {"m": self.m, "n": self.n, "k": self.k}[dim]

    @property
    def element_bytes(self) -> int:
        """Bytes of an element of A as stored."""
        return ELEMENT_BYTES[self.dtype]

    @property
    def flops(self) -> int:
        """Operations: one multiply and one add per (i, j, p), none of the epilogue's."""
        return 2 * self.m * self.n * self.k * self.batch

    @cached_property
    def operands(self) -> dict[str, Tensor]:
        """Inputs by name, in the order of a call: a, b, then those of the epilogue."""
        assert self.dtype_b is not None
        stored = self._stored
        a = self._batched(stored["a"], self.broadcast_a)
        b = self._batched(stored["b"], self.broadcast_b)
        tensors = {
            "a": Tensor.rows(a, self.dtype, self.lda, self.stride_a),
            "b": Tensor.rows(b, self.dtype_b, self.ldb, self.stride_b),
        }
        for operand in self._parsed.operands:
            shape = tuple(self.along(axis) for axis in operand.axes)
            whole = self._batched(shape, len(shape) < 2)
            tensors[operand.name] = Tensor.rows(whole, operand.dtype)
        return tensors

    @cached_property
    def output(self) -> Tensor:
        """C; also an input where ``beta`` is not 0."""
        assert self.out_dtype is not None
        shape = self._batched((self.m, self.n), False)
        return Tensor.rows(shape, self.out_dtype, self.ldc, self.stride_c)

    @cached_property
    def apart(self) -> dict[str, int]:
        """Those of lda, ldb, ldc and the strides that are not the usual, by name."""
        found = {}
        for operand, (rows, row) in self._stored.items():
            ld, stride = f"ld{operand}", f"stride_{operand}"
            for name, usual in ((ld, row), (stride, getattr(self, ld) * rows)):
                value = getattr(self, name)
                if value is not None and value != usual:
                    found[name] = value
        return found

    def stated(self) -> dict[str, Any]:
        """Its fields as plain values, strides where they are not the usual: what was written before
        there were any is found as it was."""
        fields = asdict(self)
        return {name: fields[name] for name in fields if name not in STRIDES or name in self.apart}

    def _batched(self, shape: tuple[int, ...], broadcast: bool) -> tuple[int, ...]:
        return shape if self.batch == 1 or broadcast else (self.batch, *shape)

    @property
    def operand_bytes(self) -> int:
        """Bytes of all inputs and the output together."""
        return self.output.size_bytes + sum(t.size_bytes for t in self.operands.values())

    def __str__(self) -> str:
        batch = f"{self.batch} times " if self.batch != 1 else ""
        types = [self.dtype]
        if self.dtype_b != self.dtype:
            types.append(f"x {self.dtype_b}")
        if self.out_dtype != default_output(self.dtype, str(self.dtype_b)):
            types.append(f"to {self.out_dtype}")
        stored = {"trans_a": "A transposed", "trans_b": "B transposed"}
        stored.update(broadcast_a="one A", broadcast_b="one B", constant_b="constant B")
        more = [text for name, text in stored.items() if getattr(self, name)]
        more += [f"{name} {value}" for name, value in self.apart.items()]
        if self.alpha != 1:
            more.append(f"alpha {self.alpha:g}")
        if self.beta:
            more.append(f"beta {self.beta:g}")
        if self.epilogue:
            more.append(f"out = {self.epilogue}")
        more += [dim.described for dim in self.dims]
        words = [f"matmul {batch}{self.m}x{self.n}x{self.k} {' '.join(types)}", *more]
        return ", ".join(words)


def matmul(m: int | Extent, n: int | Extent, k: int | Extent, **options: Any) -> Matmul:
    """The workload out[m, n] = epilogue(alpha * A[m, k] B[k, n] + beta * out[m, n]).

    Args:
        m, n, k: extents, whole numbers from 1 to 2**31 - 1, or a `Dim` or an expression of some.
        dtype: data type of A, by name or as anything that ``numpy.dtype`` takes; float32 by
            default. Sums of products are kept in float64, float32 or int32.
        dtype_b: data type of B where it is another one; int8 beside an A of uint8 by default.
        out_dtype: data type of C: by default that of A and B where these are the same kind of
            float, else that of the sums. Integer results are exact modulo 2**32; narrower integers
            are rounded half to even and saturated.
        trans_a, trans_b: A is stored as [k, m], B as [n, k].
        batch: so many products at once; arrays then have a first axis of that extent. With a `Dim`
            they have it also where that is 1.
        broadcast_a, broadcast_b: one A, one B for the whole batch.
        lda, ldb, ldc: elements from one stored row to the next, where rows lie apart.
        stride_a, stride_b, stride_c: elements from one product's A, B or C to the next one's, where
            they do not follow each other: side by side in the rows of one array, say.
        constant_b: B is a weight; the result's ``bind(b=...)`` packs it once, ahead of time.
        alpha, beta: factors of the product and of what C held before; ``beta=1`` accumulates.
        epilogue: what is stored, as an expression of the sum ``c``, for example
            ``"max(c + bias[n], 0)"``, or as names joined by ``+``, for example ``"bias+gelu"``.

    Raises:
        WorkloadError: an argument that cannot be computed, named.
    """
    known = set(Matmul.__dataclass_fields__) - {"m", "n", "k"}
    unknown = ", ".join(sorted(set(options) - known))
    require(not unknown, f"{unknown}: no such option; there are {', '.join(sorted(known))}",
            WorkloadError)
    extents: dict[str, Any] = {"m": m, "n": n, "k": k}
    return Matmul(**extents, **options)


def _within(dims: Sequence[Dim], values: Mapping[str, Any]) -> dict[str, int]:
    """``values`` by name, each in its dim's range."""
    names = [dim.name for dim in dims]
    unknown = ", ".join(sorted(set(values) - set(names)))
    why = f"{unknown}: no such dim; there are {', '.join(names) or 'none'}"
    require(not unknown, why, WorkloadError)
    for dim in dims:
        why = f"{dim.name}: missing; {dim.described}"
        require(dim.name in values, why, WorkloadError)
        value = values[dim.name]
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        low, high = dim.range
        why = f"{dim.name} = {value!r}: a whole number, {dim.described}"
        require(whole and low <= value <= high, why, WorkloadError)
    return {name: int(values[name]) for name in names}


def _or(value: Any, usual: str) -> Any:
    return usual if value is None else value


def _extent(name: str, value: Any) -> Any:
    if isinstance(value, Extent):
        low, high = value.range
        fits = 1 <= low and (high <= MAX_EXTENT or high == math.inf)
        ends = f"{low:g} to {high:g}"
        why = f"{name} = {value}: from {ends}; an extent is from 1 to {MAX_EXTENT}"
        require(fits, why, WorkloadError)
        return value
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    require(
        whole and 1 <= value <= MAX_EXTENT,
        f"{name} = {value!r}: an extent is a whole number from 1 to {MAX_EXTENT}",
        WorkloadError,
    )
    return int(value)


def _leading(name: str, value: Any, row: Any) -> Any:
    if value is None or value == row:
        return row
    length = _extent(name, value)
    varies = isinstance(row, Extent) or isinstance(value, Extent)
    kind = "a number, " if varies else ""
    why = f"{name} = {value}: {kind}at least {row}, the elements of a row"
    require(isinstance(length, int) and length >= most(row), why, WorkloadError)
    return length


def _factor(name: str, value: Any) -> float:
    number = isinstance(value, Real) and not isinstance(value, bool)
    why = f"{name} = {value!r}: a finite number"
    require(number, why, WorkloadError)
    try:
        factor = float(value)
    except OverflowError:
        factor = math.inf
    require(math.isfinite(factor), why, WorkloadError)
    return factor
