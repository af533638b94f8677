"""What becomes of a sum before it is stored: expressions of the sum, read from text (rank 2).

The text is Python's expression syntax, or names joined by ``+`` that are applied one after another;
it is taken apart and never run.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NoReturn

from anatune.errors import WorkloadError
from anatune.workload.dtypes import ELEMENT_BYTES, INTEGER_RANGE, accumulator_of
from anatune.workload.nodes import (
    CALLS,
    MINUS,
    OUT,
    SUM,
    Apply,
    Constant,
    Expression,
    Operand,
    Sum,
    common_dtype,
    constant,
)

__all__ = [
    "OUT", "SUM", "Apply", "Constant", "Expression", "Operand", "Sum", "constant", "parse",
    "parse_arrays", "parse_step",
]  # fmt: skip

JOINED = {
    "bias": "c + bias[n]",
    "scale": "c * scale",
    "scale_n": "c * scale_n[n]",
    "residual": "c + residual[m, n]",
    "clip": "clip(c, low, high)",
    "requantise": "c * scale.float32[n] + zero_point.float32",
    **{name: f"{name}(c)" for name in ("relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh")},
}
"""What each name of the joined form stands for; ``c`` is then the result of the one before."""

JOINED_INTEGER = {"scale": "c * scale.float32", "scale_n": "c * scale_n.float32[n]"}
"""What some stand for beside integer sums: a factor in the sums' own type would be of no use."""

RESERVED = frozenset({"a", "b", "c", OUT, "m", "n", "k", "nan", "inf", *CALLS})

SUM_NAME = "c"

AXES = (("n",), ("m",), ("m", "n"))

SIGNS = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div"}

MAX_TEXT = 10_000
"""Characters; Python's parser refuses no text for its length, it ends the process."""

MAX_OFFSET = 64
"""Rows or columns that an operand may be read away from its place, either way."""

MAX_NAME = 32
"""Characters of an operand's name."""

MAX_SIZE, MAX_DEPTH = 200, 50
"""Functions, operands and numbers in all, and levels of them within each other."""

SHOWN = 60
"""Characters of a text that a refusal repeats."""

UNTYPED = ""
"""Type of a number until it meets something."""

OPERATIONS = "an expression has + - * /, unary -, calls, numbers, operands and c"


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """What names and subscripts mean where a text is read.

    ``bare`` are the axes of an operand without subscripts, ``scalar`` is the subscript of one that
    is a single number; ``of_sum``: there is a sum ``c``, and it must be used. ``offsets``: places
    may be moved, as in [m-1, n+2]; ``rank`` 1: arrays have one axis, along which [n] runs.
    """

    field: str
    bare: tuple[str, ...]
    scalar: bool
    of_sum: bool
    reserved: frozenset[str]
    subscripts: str
    example: str
    without: str = ""  # why a text without c is refused
    offsets: bool = False
    rank: int = 2


EPILOGUE = Dialect(
    field="epilogue", bare=(), scalar=False, of_sum=True, reserved=RESERVED,
    subscripts="subscripts are [n], [m] and [m, n]",
    example="of c such as 'max(c + bias[n], 0)'",
    without="the sum c is not in it; names that may be joined by +: " + ", ".join(sorted(JOINED)),
)  # fmt: skip
ARRAYS = Dialect(
    field="expression", bare=("m", "n"), scalar=True, of_sum=False,
    reserved=frozenset({OUT, "m", "n", "nan", "inf", *CALLS}),
    subscripts="subscripts are [n], [m], [m, n], and [0] for a single number; with whole numbers "
    "added to m and n, as in [m-1, n+2]",
    example="of arrays such as 'x + bias[n]'", offsets=True,
)  # fmt: skip
STEP = replace(
    ARRAYS, field="step", of_sum=True, reserved=ARRAYS.reserved | {SUM_NAME},
    example="of c and arrays such as 'c * a + x'",
    without="c, what the step before has left, is not in it",
)  # fmt: skip

FLOAT64_MAX = (2 - 2**-52) * 2.0**1023
FLOAT32_MAX = (2 - 2**-23) * 2.0**127
"""Largest finite numbers (IEEE 754-2019, table 3.5)."""


def parse(text: Any, accumulator: str, output: str) -> Expression:
    """The expression of the sum that ``text`` says, its types filled in.

    ``c`` is the sum, of type ``accumulator``. ``bias[n]`` is an operand along columns, ``row[m]``
    one along rows, ``residual[m, n]`` one with an element for each of C's, a bare name a scalar.
    ``scale.float32[n]`` states the type of what is stored; otherwise it is ``output`` for [m, n]
    and ``accumulator`` for all else. A whole number beside integers is one, a fraction is float32.
    Text in which every part between ``+`` is a name of `JOINED` is that chain.

    Raises:
        WorkloadError: the part that is not understood, and what is possible there.
    """
    if not isinstance(text, str) or len(text) > MAX_TEXT:
        _refuse(text, f"a text of up to {MAX_TEXT} characters")
    names = [part.strip() for part in text.split("+")]
    reader = _Reader(text, accumulator, output)
    parsed = reader.joined(names) if JOINED.keys() >= set(names) else reader.read(text)
    _ = parsed.operands  # refuses one name with two meanings
    return parsed


def parse_arrays(text: Any, dtype: str, rank: int = 2) -> Expression:
    """The expression of arrays alone that ``text`` says, for example ``relu(x + bias[n])``.

    A bare name is an array with an element for each of the result's; ``bias[n]`` runs along
    columns, ``row[m]`` along rows, and ``scale[0]`` is a single number; ``x[m-1, n+2]`` is a
    neighbour. With ``rank`` 1, ``x[n]`` is ``x``. All are stored as ``dtype`` unless they state
    another, as ``x.int8`` does.

    Raises:
        WorkloadError: the part that is not understood, and what is possible there.
    """
    return _of_arrays(text, accumulator_of(dtype, dtype), dtype, replace(ARRAYS, rank=rank))


def parse_step(text: Any, dtype: str, rank: int = 2) -> Expression:
    """The step of a recurrence that ``text`` says, for example ``c * a + x``.

    ``c`` is what the step before has left; all else is as `parse_arrays` takes it. ``c`` has the
    type in which the step is computed.

    Raises:
        WorkloadError: the part that is not understood, and what is possible there.
    """
    carried, dialect = accumulator_of(dtype, dtype), replace(STEP, rank=rank)
    step = _of_arrays(text, carried, dtype, dialect)
    while step.computed != carried:  # only ever to a wider type, of three
        carried = step.computed
        step = _of_arrays(text, carried, dtype, dialect)
    return step


def _of_arrays(text: Any, accumulator: str, dtype: str, dialect: Dialect) -> Expression:
    if not isinstance(text, str) or len(text) > MAX_TEXT:
        why = f"a text of up to {MAX_TEXT} characters"
        raise WorkloadError(f"{dialect.field} = {_short(repr(text))}: {why}")
    parsed = _Reader(text, accumulator, dtype, dialect).read(text)
    if not parsed.operands:
        raise WorkloadError(f"{dialect.field} = {_short(text)!r}: names no array")
    return parsed


@dataclass(frozen=True)
class _Reader:
    text: str
    accumulator: str
    output: str
    dialect: Dialect = EPILOGUE

    def joined(self, names: list[str]) -> Expression:
        meaning = JOINED | (JOINED_INTEGER if self.accumulator == "int32" else {})
        result: Expression = Sum(self.accumulator)
        for name in names:
            result = self.checked(self.read(meaning[name]).of(result))
        return result

    def read(self, text: str) -> Expression:
        try:
            tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            why = error.msg if isinstance(error, SyntaxError) else type(error).__name__
            self.refuse(f"{why}; an expression {self.dialect.example}")
        read = self.checked(self.typed(self.node(tree), self.accumulator))
        if self.dialect.of_sum and not _has_sum(read):
            self.refuse(self.dialect.without)
        return read

    def checked(self, expression: Expression) -> Expression:
        if expression.size > MAX_SIZE:
            self.refuse(f"{expression.size} operations, operands and numbers; up to {MAX_SIZE}")
        if expression.depth > MAX_DEPTH:
            self.refuse(f"{expression.depth} operations within each other; up to {MAX_DEPTH}")
        return expression

    def node(self, tree: ast.expr, depth: int = 1) -> Expression:
        if depth > 2 * MAX_DEPTH:  # twice: a minus sign before a number is no operation
            self.refuse(f"more than {MAX_DEPTH} operations within each other")
        if isinstance(tree, ast.Constant):
            return self.number(tree.value)
        if isinstance(tree, ast.BinOp) and type(tree.op) in SIGNS:
            both = (tree.left, tree.right)
            return self.apply(SIGNS[type(tree.op)], [self.node(t, depth + 1) for t in both])
        if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
            return self.minus(self.node(tree.operand, depth + 1))
        if isinstance(tree, ast.Call):
            return self.call(tree, depth)
        if self.dialect.of_sum and isinstance(tree, ast.Name) and tree.id == SUM_NAME:
            return Sum(self.accumulator)
        return self.operand(tree)

    def call(self, tree: ast.Call, depth: int) -> Expression:
        name = tree.func.id if isinstance(tree.func, ast.Name) else ast.unparse(tree.func)
        if name not in CALLS:
            self.refuse(f"{name}: no such function; there are {', '.join(sorted(CALLS))}")
        if tree.keywords or len(tree.args) != CALLS[name]:
            self.refuse(f"{name} takes {CALLS[name]} argument(s), by position")
        return self.apply(name, [self.node(t, depth + 1) for t in tree.args])

    def apply(self, function: str, arguments: list[Expression]) -> Expression:
        """Numbers among ``arguments`` take the type of the rest."""
        met = [a.dtype for a in arguments if a.dtype != UNTYPED] or [self.accumulator]
        common = common_dtype(function, met)
        return Apply(function=function, arguments=tuple(self.typed(a, common) for a in arguments))

    def minus(self, argument: Expression) -> Expression:
        if isinstance(argument, Constant) and argument.dtype == UNTYPED:
            return self.number(-argument.value)
        return self.apply(MINUS, [argument])

    def number(self, value: Any) -> Constant:
        if type(value) not in (int, float):
            self.refuse(f"{value!r}: numbers are whole or decimal")
        if not abs(value) <= FLOAT64_MAX:
            self.refuse("a number beyond the range of float64")
        return constant(float(value) + 0.0, UNTYPED)  # one zero: -0.0 would print as 0

    def typed(self, expression: Expression, dtype: str) -> Expression:
        if not isinstance(expression, Constant) or expression.dtype != UNTYPED:
            return expression
        value = expression.value
        low, high = INTEGER_RANGE["int32"]
        if dtype == "int32" and (value % 1 or not low <= value <= high):
            dtype = "float32"
        if dtype == "float32" and abs(value) > FLOAT32_MAX:
            self.refuse(f"{value:g}: beyond the range of float32")
        return constant(value, dtype)

    def operand(self, tree: ast.expr) -> Operand:
        stem: ast.expr = tree
        axes = self.dialect.bare
        offsets: tuple[int, ...] = ()
        if isinstance(tree, ast.Subscript):
            stem = tree.value
            axes, offsets = self.subscripts(tree)
        of_arrays = len(axes) == 2 or bool(self.dialect.bare)
        usual = self.output if of_arrays else self.accumulator
        dtype = usual
        if isinstance(stem, ast.Attribute):
            dtype, stem = stem.attr, stem.value
            if dtype not in ELEMENT_BYTES:
                self.refuse(f"{ast.unparse(tree)}: data types are {', '.join(ELEMENT_BYTES)}")
        if not isinstance(stem, ast.Name):
            self.refuse(f"{_short(ast.unparse(tree))}: not understood; {OPERATIONS}")
        name = stem.id
        reserved = self.dialect.reserved
        if name in reserved or not name.isascii() or len(name) > MAX_NAME:
            taken = f"up to {MAX_NAME} ASCII letters, not {', '.join(sorted(reserved))}"
            self.refuse(f"{_short(name)} cannot name an operand: {taken}")
        return Operand(
            name=name, axes=axes, dtype=dtype, usual=dtype == usual, offsets=offsets,
            scalar="[0]" if self.dialect.scalar else "",
        )  # fmt: skip

    def subscripts(self, tree: ast.Subscript) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """The axes along which an operand lies, and its offsets along them if it has any."""
        text = _short(ast.unparse(tree))
        parts = tree.slice.elts if isinstance(tree.slice, ast.Tuple) else [tree.slice]
        if self.dialect.scalar and [ast.unparse(part) for part in parts] == ["0"]:
            return (), ()
        places = [self.place(part) for part in parts]
        axes, offsets = tuple(axis for axis, _ in places), tuple(by for _, by in places)
        if axes not in AXES:
            self.refuse(f"{text}: {self.dialect.subscripts}")
        if any(abs(by) > MAX_OFFSET for by in offsets):
            self.refuse(f"{text}: offsets go from -{MAX_OFFSET} to {MAX_OFFSET}")
        if self.dialect.rank == 1:
            if any(by for axis, by in places if axis == "m"):
                self.refuse(f"{text}: these arrays have one axis, n")
            if "n" in axes:
                axes, offsets = AXES[-1], (0, offsets[-1])
        return axes, offsets if any(offsets) else ()

    def place(self, tree: ast.expr) -> tuple[str, int]:
        """A subscript's axis, "" if it is not understood, and what is added to it."""
        if isinstance(tree, ast.Name):
            return tree.id, 0
        if not (self.dialect.offsets and isinstance(tree, ast.BinOp)):
            return "", 0
        axis, sign, by = tree.left, type(tree.op), tree.right
        whole = isinstance(by, ast.Constant) and type(by.value) is int
        if not (isinstance(axis, ast.Name) and sign in (ast.Add, ast.Sub) and whole):
            return "", 0
        assert isinstance(by, ast.Constant) and isinstance(by.value, int)
        return axis.id, by.value if sign is ast.Add else -by.value

    def refuse(self, why: str) -> NoReturn:
        raise WorkloadError(f"{self.dialect.field} = {_short(self.text)!r}: {why}")


def _has_sum(expression: Expression) -> bool:
    return isinstance(expression, Sum) or any(map(_has_sum, expression.parts))


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def _refuse(text: Any, why: str) -> NoReturn:
    raise WorkloadError(f"epilogue = {_short(repr(text))}: {why}")


MEANINGS = {
    "relu": "max(0, c)",
    "silu": "c * sigmoid(c)",
    "gelu": "0.5 * c * erfc(-0.7071067811865476 * c)",
    "gelu_tanh": "c * sigmoid(1.5957691216057308 * (c + 0.044715 * c * c * c))",
}
"""Functions of one argument, called ``c`` here, that others make up: max(0, x); x / (1 + exp(-x));
x Phi(x), Phi the normal distribution's; and its approximation 0.5 x (1 + tanh(sqrt(2 / pi) (x +
0.044715 x^3))) (Hendrycks and Gimpel 2016, "Gaussian error linear units"), in which
1 + tanh(y) = 2 sigmoid(2 y)."""


@lru_cache(maxsize=None)
def meaning(function: str, dtype: str) -> Expression:
    """One of `MEANINGS` as an expression of a sum of type ``dtype``."""
    return parse(MEANINGS[function], dtype, dtype)
