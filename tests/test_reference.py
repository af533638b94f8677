"""The reference of a product and its bound: every layout, type and epilogue."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from epilogues import shape_of, texts
from hypothesis import given
from hypothesis import strategies as st

from anatune.workload import Matmul, matmul
from anatune.workload.dtypes import ELEMENT_BYTES, INTEGER_RANGE, is_float, numpy_dtype
from anatune.workload.evaluate import FUNCTIONS, evaluate, wrapped
from anatune.workload.expression import MEANINGS, Constant, Operand, Sum, meaning, parse
from anatune.workload.reference import error_bound, reference, store

FLAGS = ("trans_a", "trans_b", "broadcast_a", "broadcast_b")
EPILOGUES = ("", "bias", "bias+gelu", "residual+relu", "scale_n+silu", "clip", "c * y[m] - 0.5")
LAYOUTS = st.fixed_dictionaries(
    {name: st.booleans() for name in FLAGS}
    | {"batch": st.integers(1, 3), "epilogue": st.sampled_from(EPILOGUES)}
    | {"alpha": st.sampled_from((1, 2)), "beta": st.sampled_from((0, 1, 3))}
)
TYPES = st.sampled_from(
    [(a, b) for a in ELEMENT_BYTES for b in ELEMENT_BYTES if is_float(a) == is_float(b)]
    + [("float32", "int8"), ("uint8", "float16"), ("int16", "float64")]
)
SEEDS = st.integers(0, 99)
EXTENTS = st.integers(1, 9)


def drawn(shape: tuple[int, ...], dtype: str, generator: np.random.Generator) -> np.ndarray:
    """Numbers of a type's whole range where it is an integer's."""
    if is_float(dtype):
        return generator.standard_normal(shape).astype(numpy_dtype(dtype))
    low, high = INTEGER_RANGE[dtype]
    return generator.integers(low, high + 1, shape).astype(dtype)


def operands(w: Matmul, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    generator = np.random.default_rng(seed)
    inputs = {name: drawn(t.shape, t.dtype, generator) for name, t in w.operands.items()}
    return inputs, drawn(w.output.shape, w.output.dtype, generator)


def product(w: Matmul, inputs: dict[str, np.ndarray], kind: type) -> np.ndarray:
    """[batch, m, n] by plain loops over the batch."""
    batches = []
    for item in range(w.batch):
        a, b = (x if x.ndim == 2 else x[item] for x in (inputs["a"], inputs["b"]))
        a, b = a.T if w.trans_a else a, b.T if w.trans_b else b
        batches.append(a.astype(kind) @ b.astype(kind))
    return np.stack(batches)


@given(LAYOUTS, TYPES, EXTENTS, EXTENTS, EXTENTS, SEEDS)
def test_reference_is_the_expression_of_the_product(options, types, m, n, k, seed):
    w = matmul(m, n, k, dtype=types[0], dtype_b=types[1], **options)
    inputs, out = operands(w, seed)
    whole = not is_float(w.accumulator)
    # Python's integers have no end, so that wrapping around comes last here.
    sums = product(w, inputs, object if whole else np.float64)
    if whole:
        sums = (sums + 2**31) % 2**32 - 2**31
    seen = {"out": out.reshape(w.batch, m, n)}
    for op in w.expression.operands:
        if op.name != "out":
            shape = shape_of(op, m, n)
            seen[op.name] = inputs[op.name].reshape(-1, *shape if len(op.axes) == 2 else shape)
    want, _ = evaluate(w.expression, sums.astype(np.int64 if whole else np.float64), seen)
    got = reference(w, inputs, out)
    assert got.shape == w.output.shape
    assert got.dtype == (np.int64 if w.expression.dtype == "int32" else np.float64)
    np.testing.assert_allclose(got.reshape(want.shape), want, rtol=1e-9, atol=1e-9)


@given(LAYOUTS, TYPES, st.integers(3, 9), SEEDS)
def test_rows_are_rows(options, types, m, seed):
    w = matmul(m, 5, 4, dtype=types[0], dtype_b=types[1], **options)
    inputs, out = operands(w, seed)
    for rows in (slice(1, 3), np.array([2, 0])):
        for made in (reference, error_bound):
            want = made(w, inputs, out)[..., rows, :]
            np.testing.assert_allclose(made(w, inputs, out, rows), want, rtol=1e-12)


@given(EXTENTS, EXTENTS, EXTENTS, SEEDS, st.integers(1, 300))
def test_reference_in_parts_is_the_reference(m, n, k, seed, elements):
    w = matmul(m, n, k, dtype="int16", dtype_b="float64", batch=2)
    inputs, _ = operands(w, seed)
    inputs["b"] = np.round(inputs["b"] * 16)  # whole numbers: every order gives one sum
    whole = reference(w, inputs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[reference.__module__], "WIDENED_ELEMENTS", elements)
        np.testing.assert_array_equal(reference(w, inputs), whole)


def test_integer_sums_wrap_around():
    w = matmul(1, 1, 3, dtype="int32")
    a = np.array([[2**31 - 1, 2**31 - 1, 5]], np.int32)
    b = np.array([[2**31 - 1], [3], [-7]], np.int32)
    exact = (2**31 - 1) ** 2 + 3 * (2**31 - 1) - 35
    want = (exact + 2**31) % 2**32 - 2**31
    assert reference(w, {"a": a, "b": b})[0, 0] == want
    assert error_bound(w, {"a": a, "b": b})[0, 0] == 0


def test_integer_expressions_wrap_around():
    e = parse("c * 2 + x", "int32", "int32")
    value, error = evaluate(e, np.array([[2**31 - 1]]), {"x": np.array(2**31 - 1)})
    assert value[0, 0] == 2**31 - 1 - 2 and error[0, 0] == 0


@pytest.mark.parametrize(("dtype", "ulp"), [("float32", 2.0**-23), ("float64", 2.0**-52)])
@given(options=LAYOUTS, seed=SEEDS, k=st.integers(1, 60))
def test_sums_of_that_type_stay_within_the_bound(dtype, ulp, options, seed, k):
    w = matmul(4, 5, k, dtype=dtype, **options | {"epilogue": "", "alpha": 1, "beta": 0})
    inputs, _ = operands(w, seed)
    total = np.zeros(w.output.shape, dtype)
    for p in range(k):
        one = matmul(4, 5, 1, dtype=dtype, **options | {"epilogue": "", "alpha": 1, "beta": 0})
        a = inputs["a"][..., p : p + 1, :] if w.trans_a else inputs["a"][..., p : p + 1]
        b = inputs["b"][..., p : p + 1] if w.trans_b else inputs["b"][..., p : p + 1, :]
        total += reference(one, {"a": a, "b": b}).astype(dtype)
    want, bound = reference(w, inputs), error_bound(w, inputs)
    assert (np.abs(total - want) <= bound).all()
    size = reference(w, {name: np.abs(x) for name, x in inputs.items()})
    assert (bound <= 2 * (k + 4) * ulp * size + 1e-37).all()  # and it means something


def test_bfloat16_allows_for_pairs_and_for_small_numbers_that_count_as_0():
    w = matmul(1, 1, 4, dtype="bfloat16", out_dtype="float32")
    b = np.ones((4, 1), numpy_dtype("bfloat16"))
    tiny = np.full((1, 4), 2.0**-130).astype(numpy_dtype("bfloat16"))
    assert error_bound(w, {"a": tiny, "b": b})[0, 0] >= 4 * 2.0**-130
    half = {"a": np.ones((1, 4), np.float16), "b": b.astype(np.float16)}
    plain = error_bound(matmul(1, 1, 4, dtype="float16", out_dtype="float32"), half)
    pairs = error_bound(w, {"a": tiny * 0 + 1, "b": b})
    assert pairs[0, 0] == pytest.approx(2 * plain[0, 0], rel=1e-3)


@given(LAYOUTS, TYPES, st.sampled_from(sorted(ELEMENT_BYTES)), SEEDS)
def test_what_is_stored_stays_within_the_bound(options, types, out_dtype, seed):
    w = matmul(4, 5, 6, dtype=types[0], dtype_b=types[1], out_dtype=out_dtype, **options)
    inputs, out = operands(w, seed)
    value, bound = reference(w, inputs, out), error_bound(w, inputs, out)
    stored = store(w, value)
    assert stored.dtype == numpy_dtype(out_dtype)
    assert not np.isnan(bound).any()
    infinite = np.isinf(stored.astype(np.float64))
    assert np.isinf(bound[infinite]).all()
    near = np.abs(stored.astype(np.float64) - value) <= bound
    assert near[~infinite].all()


def test_stores_round_half_to_even_and_saturate():
    w = matmul(1, 8, 1, out_dtype="int8")
    given = np.array([[0.5, 1.5, -2.5, 127.4, 127.5, -1e9, np.inf, np.nan]])
    assert store(w, given).tolist() == [[0, 2, -2, 127, 127, -128, 127, 0]]
    whole = matmul(1, 3, 1, dtype="int8", out_dtype="uint8")
    assert store(whole, np.array([[-1, 255, 256]])).tolist() == [[0, 255, 255]]
    wide = matmul(1, 2, 1, out_dtype="int32")
    assert store(wide, np.array([[3e9, -3e9]])).tolist() == [[2**31 - 1, -(2**31)]]


def test_saturated_values_have_one_right_answer():
    w = matmul(1, 1, 1, dtype="int16", out_dtype="int8")
    inputs = {"a": np.array([[300]], np.int16), "b": np.array([[7]], np.int16)}
    value, bound = reference(w, inputs), error_bound(w, inputs)
    assert bound[0, 0] == value[0, 0] - 127


def in_own_types(expression, sums: np.ndarray, seen: dict[str, np.ndarray]) -> np.ndarray:
    """The expression with every operation rounded to its type, as numpy rounds."""
    if isinstance(expression, Sum):
        return sums
    if isinstance(expression, Operand):
        return seen[expression.name].astype(expression.computed)
    if isinstance(expression, Constant):
        return np.full((1, 1), expression.value, expression.dtype)
    parts = [in_own_types(part, sums, seen) for part in expression.arguments]
    if expression.function in MEANINGS:
        said = meaning(expression.function, expression.arguments[0].computed)
        return in_own_types(said, parts[0], {})
    exact = [part.astype(expression.dtype) for part in parts]
    whole = expression.dtype == "int32"
    exact = [part.astype(np.int64 if whole else np.float64) for part in exact]
    made = FUNCTIONS[expression.function](*exact)
    return (wrapped(made) if whole else made).astype(expression.dtype)


@given(texts(), st.sampled_from(("float32", "int32")), SEEDS)
def test_rounding_stays_within_the_bound(text, accumulator, seed):
    generator = np.random.default_rng(seed)
    e = parse(text, accumulator, "float16")
    exact = generator.standard_normal((4, 5)) * 8
    if accumulator == "int32":
        exact = np.round(exact)
    sums = exact.astype(accumulator)
    seen = {
        op.name: (generator.standard_normal(shape_of(op, 4, 5)) * 4).astype(numpy_dtype(op.dtype))
        for op in e.operands
    }
    with np.errstate(all="ignore"):
        rounded = in_own_types(e, sums, seen)
    value, bound = evaluate(e, exact, seen, np.abs(sums - exact))
    sure = np.isfinite(bound)
    assert (np.abs(rounded[sure] - value[sure]) <= bound[sure]).all()


@pytest.mark.parametrize("text", ["c * 2", "c + bias[n]", "gelu(c)", "relu(c) - 1", "tanh(c / 3)"])
def test_bounds_mean_something(text):
    e = parse(text, "float32", "float32")
    sums = np.linspace(-3, 3, 40).reshape(8, 5)
    value, bound = evaluate(e, sums, {"bias": np.ones((1, 5))}, 2.0**-24 * np.abs(sums))
    assert (bound <= 2.0**-24 * (40 * np.abs(value) + 4 * np.abs(sums) + 4)).all()


@pytest.mark.parametrize("text", ["1 / c", "sqrt(c)", "c / (c - c)"])
def test_nothing_is_said_where_an_error_can_lead_anywhere(text):
    e = parse(text, "float32", "float32")
    _, bound = evaluate(e, np.zeros((1, 1)), {}, np.full((1, 1), 1e-7))
    assert np.isinf(bound).all()


def test_rounding_to_whole_numbers_is_exact_unless_the_value_is_near_a_half():
    e = parse("round(c)", "float32", "float32")
    sums = np.array([[1.2, 1.5, 1.4999]])
    _, exact = evaluate(e, sums, {})
    _, unsure = evaluate(e, sums, {}, 1e-3)
    assert exact.tolist() == [[0, 0, 0]] and unsure.tolist() == [[0, 1, 1]]
