"""What an expression of sums is made of; `expression` reads it from text (rank 2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce

from anatune.errors import WorkloadError, require
from anatune.workload.dtypes import accumulator_of

OUT = "out"
"""Name of what C held before."""

INFIX = {"add": ("+", 1), "sub": ("-", 1), "mul": ("*", 2), "div": ("/", 2)}
"""Functions written between their arguments: sign, and how tightly it binds."""

LONGEST_WHOLE = 1e15
"""Whole numbers from here on are printed as powers of ten."""

MINUS = "neg"
MINUS_BINDS, ATOM_BINDS = 3, 4

CALLS = {
    "max": 2, "min": 2, "abs": 1, "round": 1, "relu": 1, "clip": 3,
    "exp": 1, "tanh": 1, "erf": 1, "erfc": 1, "sqrt": 1, "sigmoid": 1,
    "gelu": 1, "gelu_tanh": 1, "silu": 1,
}  # fmt: skip
"""Functions written as calls, with the number of their arguments."""

FLOAT_ONLY = frozenset(
    ("div", "exp", "tanh", "erf", "erfc", "sqrt", "sigmoid", "gelu", "gelu_tanh", "silu")
)
"""Functions whose value is float32 where all arguments are integers."""

OPERATIONS = {
    "exp": 22, "tanh": 26, "sigmoid": 31, "erf": 59, "erfc": 50,
    "gelu": 53, "gelu_tanh": 35, "silu": 32, "sqrt": 8, "div": 8, "clip": 2,
}  # fmt: skip
"""Vector operations of a function in float32, one where it is not here: counted in the code that is
generated for AVX-512, a division or root as the 8 cycles or so that one takes on current cores."""


class Expression:
    """One of `Sum`, `Constant`, `Operand` and `Apply`; frozen, comparable, printed as it is parsed.

    ``dtype`` is the type in which it is computed: float64, float32 or int32; that of an operand is
    the type in which it is stored.
    """

    dtype: str

    @property
    def computed(self) -> str:
        """``dtype``, or the accumulator's type that an operand's values are widened to."""
        return accumulator_of(self.dtype, self.dtype)

    @property
    def parts(self) -> tuple[Expression, ...]:
        """What it is made of directly."""
        return ()

    @cached_property
    def reads(self) -> tuple[Operand, ...]:
        """Operands at each offset where they are read, in the order in which they are named."""
        return tuple(dict.fromkeys(read for part in self.parts for read in part.reads))

    @cached_property
    def operands(self) -> tuple[Operand, ...]:
        """The arrays and scalars besides C that it reads, without offsets, as first named.

        Raises:
            WorkloadError: one name, two types or shapes.
        """
        found: dict[str, Operand] = {}
        for read in self.reads:
            operand = read.home
            first = found.setdefault(operand.name, operand)
            why = f"epilogue: {first} and {operand}: one name stands for one operand"
            require(first == operand, why, WorkloadError)
        return tuple(found.values())

    @cached_property
    def depth(self) -> int:
        """Levels of functions within functions."""
        return 1 + max((part.depth for part in self.parts), default=0)

    @cached_property
    def size(self) -> int:
        """How many functions, operands and numbers it is made of."""
        return 1 + sum(part.size for part in self.parts)

    @cached_property
    def operations(self) -> int:
        """Vector operations, see `OPERATIONS`."""
        return sum(part.operations for part in self.parts)

    def of(self, inner: Expression) -> Expression:
        """This expression with ``inner``, itself of the same sum, in the place of the sum."""
        return self._replace(lambda mine: inner._replace(lambda _: mine))

    def plus(self, other: Expression) -> Expression:
        return Apply(function="add", arguments=(self, other))

    def times(self, other: Expression) -> Expression:
        return Apply(function="mul", arguments=(self, other))

    def _replace(self, sum_by: Callable[[Sum], Expression]) -> Expression:
        return self


@dataclass(frozen=True)
class Sum(Expression):
    """The sum of products itself, in the accumulator's type, which `parse` fills in."""

    dtype: str = field(default="", compare=False)

    def _replace(self, sum_by: Callable[[Sum], Expression]) -> Expression:
        return sum_by(self)

    def __str__(self) -> str:
        return "c"


SUM = Sum()


@dataclass(frozen=True, kw_only=True)
class Constant(Expression):
    value: float
    dtype: str

    def __str__(self) -> str:
        whole = self.value % 1 == 0 and abs(self.value) < LONGEST_WHOLE
        return str(int(self.value) if whole else self.value)


@dataclass(frozen=True, kw_only=True)
class Operand(Expression):
    """An array along ``axes`` of C: ("n",), ("m",), ("m", "n"), or () for a scalar.

    ``offsets``, one for each axis, are added to the place that is read; none where all are 0.
    """

    name: str
    axes: tuple[str, ...]
    dtype: str
    usual: bool = field(default=False, compare=False)  # the dtype goes without saying
    scalar: str = field(default="", compare=False)  # how a single number is subscripted
    offsets: tuple[int, ...] = ()

    @cached_property
    def reads(self) -> tuple[Operand, ...]:
        return (self,)

    @property
    def home(self) -> Operand:
        """The operand itself, wherever it is read."""
        return replace(self, offsets=()) if self.offsets else self

    @property
    def label(self) -> str:
        """The name, with subscripts where it is read at an offset: one for each of `reads`."""
        return f"{self.name}{self._subscripts()}" if self.offsets else self.name

    def offset(self, axis: str) -> int:
        """What is added along ``axis``, which it may lack."""
        return self.offsets[self.axes.index(axis)] if self.offsets and axis in self.axes else 0

    def _subscripts(self) -> str:
        places = (f"{d}{self.offset(d):+}" if self.offset(d) else d for d in self.axes)
        return f"[{', '.join(places)}]" if self.axes else self.scalar

    def __str__(self) -> str:
        stated = "" if self.usual else f".{self.dtype}"
        return f"{self.name}{stated}{self._subscripts()}"


@dataclass(frozen=True, kw_only=True)
class Apply(Expression):
    """A function of `INFIX` or `CALLS`, or `MINUS`, and what it is applied to."""

    function: str
    arguments: tuple[Expression, ...]

    @property
    def parts(self) -> tuple[Expression, ...]:
        return self.arguments

    @cached_property
    def dtype(self) -> str:  # type: ignore[override]
        return common_dtype(self.function, [argument.dtype for argument in self.arguments])

    @cached_property
    def operations(self) -> int:
        return OPERATIONS.get(self.function, 1) + super().operations

    def _replace(self, sum_by: Callable[[Sum], Expression]) -> Expression:
        arguments = tuple(argument._replace(sum_by) for argument in self.arguments)
        return Apply(function=self.function, arguments=arguments)

    def __str__(self) -> str:
        if self.function == MINUS:
            return f"-{_bound(self.arguments[0], MINUS_BINDS)}"
        if self.function in INFIX:
            sign, binds = INFIX[self.function]
            left, right = self.arguments
            return f"{_bound(left, binds)} {sign} {_bound(right, binds + 1)}"
        return f"{self.function}({', '.join(map(str, self.arguments))})"


def _bound(expression: Expression, tightly: int) -> str:
    """Its text, in brackets unless it holds together at least that tightly."""
    binds = ATOM_BINDS
    if isinstance(expression, Apply):
        binds = INFIX.get(expression.function, ("", binds))[1]
        binds = MINUS_BINDS if expression.function == MINUS else binds
    return str(expression) if binds >= tightly else f"({expression})"


def common_dtype(function: str, dtypes: list[str]) -> str:
    """The type in which ``function`` of arguments of these types is computed."""
    return reduce(accumulator_of, dtypes, "float32" if function in FLOAT_ONLY else "int32")


def constant(value: float, dtype: str) -> Constant:
    return Constant(value=value, dtype=dtype)
