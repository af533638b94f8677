"""Epilogues as vector code: functions, conversions and whole expressions, run and read."""

from __future__ import annotations

import numpy as np
import pytest
from epilogues import shape_of, texts
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tvm")

from vector_code import vector_code  # noqa: E402

from anatune.codegen import transcendental  # noqa: E402
from anatune.codegen.convert import narrow, stored, widen  # noqa: E402
from anatune.codegen.elementwise import emit  # noqa: E402
from anatune.workload.dtypes import (  # noqa: E402
    ELEMENT_BYTES,
    INTEGER_RANGE,
    SIGNIFICANT_BITS,
    UNIT_ROUNDOFF,
    is_float,
    numpy_dtype,
)
from anatune.workload.evaluate import (  # noqa: E402
    FUNCTION_ERROR,
    FUNCTIONS,
    SMALLEST_NORMAL,
    evaluate,
)
from anatune.workload.expression import parse  # noqa: E402

LANES = 8
SIZE = 1 << 14
LIMITS = {"exp": (0, np.inf), "tanh": (-1, 1), "sigmoid": (0, 1), "erf": (-1, 1), "erfc": (2, 0)}
"""Of each function at -inf and at inf."""

ENDS = {
    "float32": {"exp": 105, "tanh": 20, "sigmoid": 105, "erf": 6, "erfc": 12},
    "float64": {"exp": 750, "tanh": 25, "sigmoid": 750, "erf": 7, "erfc": 29},
}
"""Where nothing happens any more."""


def numbers(dtype: str, end: float) -> np.ndarray:
    """Evenly spread ones, and both signs of all magnitudes."""
    small = np.geomspace(1e-45 if dtype == "float32" else 1e-320, end, SIZE // 4)
    return np.concatenate([np.linspace(-end, end, SIZE // 2), small, -small]).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUNCTION_ERROR)
def test_functions_are_as_near_as_the_bound_takes_them_to_be(here, name, dtype):
    code = vector_code(
        getattr(transcendental, name), [dtype], dtype, profile=here, lanes=LANES, elements=SIZE
    )
    x = numbers(dtype, ENDS[dtype][name])
    with np.errstate(all="ignore"):
        want = FUNCTIONS[name](x.astype(np.float64))
        got = code(x).astype(np.float64)
        units = np.abs(got - want) / np.abs(want) / UNIT_ROUNDOFF[dtype]
    allowed = FUNCTION_ERROR[name] * (1 + np.maximum(x, 0.0) ** 2 * (name == "erfc"))
    # Beside float64 the reference is itself off by an ulp.
    allowed = allowed + 2 * (dtype == "float64")
    largest = np.finfo(dtype).max
    normal = (np.abs(want) >= SMALLEST_NORMAL[dtype]) & (want <= largest)
    assert (units <= allowed)[normal].all(), x[normal][np.argmax(units[normal])]
    small = np.abs(want) < SMALLEST_NORMAL[dtype]
    assert (np.abs(got[small] - want[small]) <= SMALLEST_NORMAL[dtype]).all()
    assert np.isinf(got[want > largest * (1 + UNIT_ROUNDOFF[dtype])]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LIMITS)
def test_functions_of_what_is_no_ordinary_number(here, name, dtype):
    code = vector_code(getattr(transcendental, name), [dtype], dtype, profile=here, lanes=LANES)
    largest = np.finfo(dtype).max
    at_zero = float(FUNCTIONS[name](np.zeros(1))[0])
    low, high = LIMITS[name]
    given_ = np.array([-np.inf, np.inf, -largest, largest, np.nan, 0, -0.0, np.nan], dtype)
    want = [low, high, low, high, np.nan, at_zero, at_zero, np.nan]
    np.testing.assert_array_equal(code(given_), np.array(want, dtype))


@pytest.mark.parametrize("profile", ["zen5", "haswell", "neoverse_n1"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_functions_make_no_calls(profile, dtype):
    for name in FUNCTION_ERROR:
        function = getattr(transcendental, name)
        assert not vector_code(function, [dtype], dtype, profile=profile, lanes=LANES).calls, name


EPILOGUES = (
    "gelu(c + x[n])", "silu(c)", "gelu_tanh(c)", "clip(c, -1, s)", "round(sqrt(abs(c)))", "c / s",
)  # fmt: skip


@pytest.mark.parametrize("accumulator", ["float32", "int32"])
def test_epilogues_make_no_calls(accumulator):
    for text in EPILOGUES:
        assert not expression_code(text, accumulator, "zen5", lanes=16).calls, text


def expression_code(text, accumulator, profile, lanes=LANES, elements=0):
    """Code for an epilogue; operands are arrays as long as the sums, in the order of the text."""
    e = parse(text, accumulator, "float16")

    def function(sums, *held):
        widened = {
            op.name: widen(value, op.dtype, op.computed) for op, value in zip(e.operands, held)
        }
        return emit(e, sums, lambda op: widened[op.name], lanes)

    types = [accumulator, *(stored(op.dtype) for op in e.operands)]
    return vector_code(function, types, e.dtype, profile=profile, lanes=lanes, elements=elements)


@settings(max_examples=25)
@given(data=st.data(), accumulator=st.sampled_from(("float32", "float64", "int32")))
def test_expressions_stay_within_their_bound(here, data, accumulator):
    text = data.draw(texts())
    generator = np.random.default_rng(data.draw(st.integers(0, 99)))
    e = parse(text, accumulator, "float16")
    m, n = 4, LANES * 4
    code = expression_code(text, accumulator, here, elements=m * n)
    sums = (generator.standard_normal((m, n)) * 8).astype(accumulator)
    seen = {
        op.name: (generator.standard_normal(shape_of(op, m, n)) * 4).astype(numpy_dtype(op.dtype))
        for op in e.operands
    }
    laid = [np.broadcast_to(seen[op.name], (m, n)).ravel() for op in e.operands]
    got = code(sums.ravel(), *laid).reshape(m, n).astype(np.float64)
    value, bound = evaluate(e, sums, seen)
    sure = np.isfinite(bound)
    assert (np.abs(got[sure] - value[sure]) <= bound[sure]).all(), str(e)


WRAPPING = [
    "c * 3 + x[n] - 7", "abs(c * c)", "relu(c * c)", "max(c + 1000000000, c)", "max(x[n] - c, 0)",
    "min(-c, 0)", "abs(c) + 0 * x[n]", "max(x[n] * x[n] + c * c, -1)",
]  # fmt: skip


@pytest.mark.parametrize("text", WRAPPING)
def test_integers_wrap_around(here, text):
    """Also where a comparison would tell: a compiler takes it that int32 does not overflow."""
    code = expression_code(text, "int32", here)
    sums = np.array([2**31 - 1, -(2**31), 2**30, 50000, -5, 0, 1, 2**30 + 1], np.int32)
    x = np.full(LANES, 2**31 - 1, np.int32)
    e = parse(text, "int32", "int32")
    value, _ = evaluate(e, sums, {"x": x})
    np.testing.assert_array_equal(code(sums, *([x] if e.operands else [])), value)


@pytest.mark.parametrize("text", ["relu(c)", "max(c, 0)", "min(1, c)", "clip(c, 0, 6)", "gelu(c)"])
def test_a_nan_is_kept(here, text):
    sums = np.array([np.nan, 1] * (LANES // 2), np.float32)
    assert np.isnan(expression_code(text, "float32", here)(sums)).tolist() == [True, False] * 4


SPECIAL = np.array(
    [0.5, 1.5, 2.5, -0.5, 127.5, 126.5, -128.5, 255.5, 254.5, 1e10, -1e10, np.inf, -np.inf, np.nan]
    + [2.0**31, 2.0**31 - 128, -(2.0**31), -(2.0**31) - 300, 65504, 65519, 65520, 6e-8, 1e-40, -0.0]
)


def held_numbers(dtype: str, size: int) -> np.ndarray:
    generator = np.random.default_rng(1)
    if dtype == "int32":
        whole = generator.integers(-(2**31), 2**31, size) >> generator.integers(0, 31, size)
        return whole.astype(dtype)
    spread = generator.standard_normal(size) * 10.0 ** generator.integers(-8, 11, size)
    with np.errstate(over="ignore"):
        return np.concatenate([SPECIAL, spread])[:size].astype(numpy_dtype(dtype))


def as_numpy_does(x: np.ndarray, to: str) -> np.ndarray:
    if is_float(to):
        narrow_ = SIGNIFICANT_BITS[to] < SIGNIFICANT_BITS["float32"]
        return (x.astype(np.float32) if narrow_ else x).astype(numpy_dtype(to))
    whole = np.nan_to_num(np.rint(x.astype(np.float64)), posinf=1e300, neginf=-1e300)
    return np.clip(whole, *INTEGER_RANGE[to]).astype(to)


@pytest.mark.parametrize("held", ["float32", "float64", "int32"])
@pytest.mark.parametrize("to", ELEMENT_BYTES)
def test_narrowed_numbers_round_to_even_and_saturate(here, held, to):
    size = 256
    x = held_numbers(held, size)
    with np.errstate(all="ignore"):
        want = as_numpy_does(x, to)
    for lanes in (1, 4, 16):
        code = vector_code(
            lambda v: narrow(v, held, to),
            [held],
            stored(to),
            profile=here,
            lanes=lanes,
            elements=size,
        )
        got = code(x).view(numpy_dtype(to))
        np.testing.assert_array_equal(got.astype(np.float64), want.astype(np.float64))


@pytest.mark.parametrize("held", ELEMENT_BYTES)
def test_widened_numbers_are_the_same(here, held):
    size = 64
    x = held_numbers(held, size) if is_float(held) else np.arange(-32, 32).astype(held)
    for to in ("float32", "float64") if is_float(held) else ("int32", "float32", "float64"):
        for lanes in (1, 16):
            code = vector_code(
                lambda v: widen(v, held, to),
                [stored(held)],
                to,
                profile=here,
                lanes=lanes,
                elements=size,
            )
            with np.errstate(over="ignore"):
                np.testing.assert_array_equal(code(x.view(stored(held))), x.astype(to))


@pytest.mark.parametrize(
    ("held", "to", "instruction"),
    [
        ("int32", "int8", "vpmovsdb"),
        ("int32", "int16", "vpmovsdw"),
        ("float32", "float16", "vcvtps2ph"),
        ("float32", "int8", "vpmovdb"),
        ("float32", "bfloat16", "vpmovdw"),
    ],
)
def test_sixteen_numbers_are_narrowed_at_once(held, to, instruction):
    code = vector_code(lambda v: narrow(v, held, to), [held], stored(to), profile="zen5", lanes=16)
    assert code.assembly.count(instruction) == 1
    assert "vpinsr" not in code.assembly and not code.calls
