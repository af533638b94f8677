"""Epilogues as text: what is read, how it is printed, what is refused, which types come out."""

from __future__ import annotations

import ast

import numpy as np
import pytest
from epilogues import FUNCTIONS, texts
from hypothesis import given
from hypothesis import strategies as st

from anatune.errors import WorkloadError
from anatune.workload import Matmul, matmul
from anatune.workload.evaluate import evaluate
from anatune.workload.expression import (
    JOINED,
    SUM,
    Apply,
    Operand,
    Sum,
    constant,
    meaning,
    parse,
)
from anatune.workload.nodes import CALLS

ACCUMULATORS = ("float32", "float64", "int32")


def floats(text: str):
    return parse(text, "float32", "bfloat16")


def integers(text: str):
    return parse(text, "int32", "int8")


@given(texts(), st.sampled_from(ACCUMULATORS), st.sampled_from(("float32", "float16", "int8")))
def test_what_is_printed_is_read_as_the_same(text, accumulator, output):
    first = parse(text, accumulator, output)
    again = parse(str(first), accumulator, output)
    assert again == first and str(again) == str(first)
    assert again.dtype == first.dtype and again.operands == first.operands


@pytest.mark.parametrize("name", JOINED)
@pytest.mark.parametrize("accumulator", ACCUMULATORS)
def test_joined_names_are_printed_as_expressions(name, accumulator):
    first = parse(name, accumulator, "float32")
    assert parse(str(first), accumulator, "float32") == first


class Symbols(ast.NodeTransformer):
    """Python's own reading of a text: operands by name, whatever type and subscript they have."""

    def visit_Subscript(self, node):
        return self.visit(node.value)

    def visit_Attribute(self, node):
        return self.visit(node.value)


VALUES = {
    "c": -1.25, "x": 0.75, "y": -0.5, "z": 2.5, "s": 0.25, "h": 1.5, "w": -0.125, "i": 3, "q": -2,
}  # fmt: skip


@given(texts())
def test_the_value_is_what_python_reads(text):
    tree = ast.fix_missing_locations(Symbols().visit(ast.parse(text, mode="eval")))
    scope = FUNCTIONS | {name: np.float64(value) for name, value in VALUES.items()}
    with np.errstate(all="ignore"):
        want = eval(compile(tree, "test", "eval"), scope)  # the text is the test's own
    expression = parse(text, "float64", "float64")
    arrays = {name: np.array([[value]]) for name, value in VALUES.items()}
    got, error = evaluate(expression, arrays["c"], arrays)
    assert got.shape == error.shape == (1, 1)
    close = np.isclose(got, want, rtol=1e-9, atol=1e-9, equal_nan=True)
    assert close or np.isinf(error) or error > 1e-9 * abs(want)  # a step of round, a pole


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("bias", "c + bias[n]"),
        ("bias+gelu", "gelu(c + bias[n])"),
        (" bias + relu ", "relu(c + bias[n])"),
        ("scale+bias+residual+relu", "relu(c * scale + bias[n] + residual[m, n])"),
        ("clip", "clip(c, low, high)"),
        ("scale_n+silu", "silu(c * scale_n[n])"),
        ("requantise", "c * scale.float32[n] + zero_point.float32"),
        ("c+bias[n]", "c + bias[n]"),
        ("(c - 1) - (2 - c)", "c - 1 - (2 - c)"),
        ("c/(2*c)/c", "c / (2 * c) / c"),
        ("-(-c) - -1", "--c - -1"),
        ("-(c*2)", "-(c * 2)"),
        ("(-c)*2", "-c * 2"),
        ("c * 1.50", "c * 1.5"),
        ("c + 2.0 + 1e300*0", "c + 2 + 1e+300 * 0"),
        ("c * scale.float64[n] + row.float16[m]", "c * scale[n] + row.float16[m]"),
    ],
)
def test_canonical_text(text, same):
    assert str(parse(text, "float64", "float64")) == same


def test_joined_names_are_applied_one_after_another():
    assert floats("scale+bias") == floats("c * scale + bias[n]")
    assert floats("bias+bias") == floats("c + bias[n] + bias[n]")
    assert floats("relu") == floats("relu(c)") != floats("c")


def test_types_that_go_without_saying():
    bias, residual = floats("bias+residual").operands
    assert (bias.dtype, bias.axes) == ("float32", ("n",))
    assert (residual.dtype, residual.axes) == ("bfloat16", ("m", "n"))
    assert [op.dtype for op in integers("bias+residual").operands] == ["int32", "int8"]
    assert [op.dtype for op in integers("scale+scale_n").operands] == ["float32", "float32"]
    scale, zero_point = integers("requantise").operands
    assert (scale.dtype, scale.axes, zero_point.dtype, zero_point.axes) == (
        "float32", ("n",), "float32", (),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "dtype"),
    [
        ("c", "int32"),
        ("c + bias[n]", "int32"),
        ("max(c, 0) * 3 - 1", "int32"),
        ("c + z[m, n]", "int32"),
        ("c * 0.5", "float32"),
        ("c + 3000000000", "float32"),
        ("c / 2", "float32"),
        ("exp(c)", "float32"),
        ("relu(c)", "int32"),
        ("gelu(c)", "float32"),
        ("round(c * 0.5)", "float32"),
        ("c * s.float16", "float32"),
        ("c * s.float64", "float64"),
        ("clip(c, low, high.float32)", "float32"),
    ],
)
def test_types_of_integer_sums(text, dtype):
    assert integers(text).dtype == dtype


def test_numbers_take_the_type_of_what_they_meet():
    assert integers("c * 2").arguments[1] == constant(2.0, "int32")
    assert integers("c * 0.5").arguments[1] == constant(0.5, "float32")
    assert integers("c / 2").arguments[1] == constant(2.0, "float32")
    assert floats("c * 2").arguments[1] == constant(2.0, "float32")
    assert integers("c + (1 + 2)").dtype == "int32"


def test_operands_come_once_in_the_order_of_the_text():
    names = [op.name for op in floats("y[m] * c + x[n] * (y[m] - s)").operands]
    assert names == ["y", "x", "s"]


def test_of_puts_an_expression_in_the_place_of_the_sum():
    assert floats("relu(c + bias[n])").of(floats("c * 2")) == floats("relu(c * 2 + bias[n])")
    inner = integers("max(c, c)").of(SUM)
    assert inner.dtype == "int32" and inner == integers("max(c, c)")
    assert floats("c").of(SUM.times(constant(2.0, "float32"))).dtype == "float32"


def test_alpha_beta_and_epilogue_in_one():
    w = matmul(3, 4, 5, dtype="float16", alpha=2, beta=0.5, epilogue="bias+relu")
    assert str(w.expression) == "relu(c * 2 + out.float16[m, n] * 0.5 + bias[n])"
    assert w.expression.dtype == "float32" and w.epilogue == "relu(c + bias[n])"
    assert matmul(3, 4, 5).stores_sums and not w.stores_sums
    assert matmul(3, 4, 5, epilogue="c").stores_sums
    again = Matmul(**{name: getattr(w, name) for name in w.__dataclass_fields__})
    assert again == w and again.expression == w.expression


def test_depth_and_size():
    e = floats("relu(c + x[n])")
    assert (e.depth, e.size) == (3, 4)


@pytest.mark.parametrize("function", ["relu", "silu", "gelu", "gelu_tanh"])
def test_meanings_have_the_type_of_what_they_stand_for(function):
    for dtype in ACCUMULATORS:
        stands_for = Apply(function=function, arguments=(Sum(dtype),))
        assert meaning(function, dtype).dtype == stands_for.dtype


REFUSED = {
    "": "invalid syntax",
    "c +": "invalid syntax",
    "c\nc": "invalid syntax",
    "foo(c)": f"foo: no such function; there are {', '.join(sorted(CALLS))}",
    "c.exp()": "c.exp: no such function",
    "__import__('os').system('x')": "__import__('os').system: no such function",
    "max(c)": "max takes 2 argument(s)",
    "relu(x=c)": "relu takes 1 argument(s)",
    "relu(*c)": "*c: not understood",
    "bias+gleu": "the sum c is not in it; names that may be joined by +: bias, clip, gelu",
    "x[n] * 2": "the sum c is not in it",
    "c + x[k]": "x[k]: subscripts are [n], [m] and [m, n]",
    "c + x[n, m]": "x[n, m]: subscripts are",
    "c + x[0]": "x[0]: subscripts are",
    "c[n]": "c cannot name an operand",
    "c.float32": "c cannot name an operand",
    "c + out[m, n]": "out cannot name an operand",
    "c + relu": "relu cannot name an operand",
    "c + \u00e9[n]": "cannot name an operand: up to 32 ASCII letters",
    "c + " + "x" * 33: "cannot name an operand: up to 32 ASCII letters",
    "c + x.float8[n]": "x.float8[n]: data types are float64, float32",
    "c + x.y.float32": "x.y.float32: not understood",
    "c ** 2": "c ** 2: not understood; an expression has + - * /",
    "c if c else 1": "not understood",
    "c < 1": "not understood",
    "+c": "not understood",
    "lambda: c": "not understood",
    "c + True": "True: numbers are whole or decimal",
    "c + 'a'": "'a': numbers are whole or decimal",
    "c + 1j": "1j: numbers are whole or decimal",
    "c + 1e999": "a number beyond the range of float64",
    "c + 1e39": "1e+39: beyond the range of float32",
    "c + " + "9" * 400: "a number beyond the range of float64",
    "c\0": "null bytes",
    "\ud800": "UnicodeEncodeError",
    "(" * 300 + "c" + ")" * 300: "too many nested parentheses",
    "-" * 9000 + "c": "Error; an expression of c",  # which one depends on Python's version
    "+".join("c" * 1000): "more than 50 operations within each other",
    "relu+" * 60 + "relu": "51 operations within each other; up to 50",
    "c" * 20000: "a text of up to 10000 characters",
}


@pytest.mark.parametrize("text", REFUSED)
def test_refusals_name_the_part_and_what_is_possible(text):
    with pytest.raises(WorkloadError) as caught:
        floats(text)
    message = str(caught.value)
    assert message.startswith("epilogue = ") and REFUSED[text] in message
    assert "\n" not in message and len(message) < 400


@pytest.mark.parametrize("value", [3, b"c", ["c"]])
def test_only_text_is_read(value):
    with pytest.raises(WorkloadError, match="a text of up to"):
        parse(value, "float32", "float32")


def test_size_is_limited():
    wide = "c"
    for _ in range(7):
        wide = f"({wide} + {wide})"
    with pytest.raises(WorkloadError, match="255 operations, operands and numbers; up to 200"):
        floats(wide)


@pytest.mark.parametrize("text", ["c + x + x[n]", "c * x.float16 + x", "scale + requantise"])
def test_one_name_is_one_operand(text):
    with pytest.raises(WorkloadError, match="^epilogue: .* one name stands for one operand$"):
        floats(text)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    try:
        assert str(floats(text))
    except WorkloadError as error:
        assert str(error).startswith("epilogue")


def test_an_operand_prints_its_type_where_it_is_not_the_usual_one():
    assert str(Operand(name="x", axes=("m", "n"), dtype="int8")) == "x.int8[m, n]"
