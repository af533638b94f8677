"""TVM functions for the tests of `recognise`: made with te and topi, and written in TVMScript."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tvm
from tvm import te, tirx, topi
from tvm.script import tirx as T

MADE: dict[str, Callable[[], Any]] = {}
"""Functions that are understood, by name."""

REFUSED: dict[str, tuple[Callable[[], Any], str]] = {}
"""Functions that are not, with what the refusal says."""


def made(build: Callable[[], Any]) -> Callable[[], Any]:
    MADE[build.__name__] = build
    return build


def refused(said: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    def keep(build: Callable[[], Any]) -> Callable[[], Any]:
        REFUSED[build.__name__] = build, said
        return build

    return keep


def array(name: str, shape: tuple[int, ...], dtype: str = "float32") -> Any:
    return te.placeholder(shape, dtype, name)


def func(inputs: list[Any], outputs: list[Any]) -> Any:
    return te.create_prim_func([*inputs, *outputs])


def product(a: Any, b: Any, out: str, place: Callable[..., Any], shape: tuple[int, ...]) -> Any:
    """sum over k of place(i..., k), a pair of elements widened to ``out``."""
    k = te.reduce_axis((0, a.shape[-1]), "k")

    def element(*axes: Any) -> Any:
        x, y = place(*axes, k)
        return te.sum(x.astype(out) * y.astype(out), axis=k)

    return te.compute(shape, element, name="prod")


# Matrix products


@made
def plain_product() -> Any:
    a, b = array("a", (37, 29)), array("b", (29, 50))
    return func([a, b], [topi.matmul(a, b)])


@made
def dense_with_bias_and_relu() -> Any:
    x, w, bias = array("x", (7, 29)), array("w", (13, 29)), array("bias", (13,))
    return func([x, w, bias], [topi.nn.relu(topi.nn.dense(x, w, bias))])


@made
def both_transposed() -> Any:
    a, b = array("a", (29, 7)), array("b", (13, 29))
    return func([b, a], [topi.matmul(a, b, True, True)])


@made
def product_of_three_axes_and_a_matrix() -> Any:
    x, w = array("x", (2, 5, 17)), array("w", (17, 11))
    place = lambda b, i, j, k: (x[b, i, k], w[k, j])  # noqa: E731
    return func([x, w], [product(x, w, "float32", place, (2, 5, 11))])


@made
def batch_of_products() -> Any:
    a, b = array("a", (3, 5, 17)), array("b", (3, 11, 17))
    return func([a, b], [topi.nn.batch_matmul(a, b)])


@made
def one_a_for_a_batch() -> Any:
    a, b = array("a", (5, 17)), array("b", (3, 17, 11))
    place = lambda t, i, j, k: (a[i, k], b[t, k, j])  # noqa: E731
    return func([a, b], [product(a, b, "float32", place, (3, 5, 11))])


@made
def heads_of_attention_scores_scaled_and_masked() -> Any:
    q, k = array("q", (2, 3, 5, 8)), array("k", (2, 3, 7, 8))
    mask = array("mask", (7,))
    place = lambda b, h, i, j, d: (q[b, h, i, d], k[b, h, j, d])  # noqa: E731
    scores = product(q, k, "float32", place, (2, 3, 5, 7))
    scaled = te.compute(scores.shape, lambda b, h, i, j: scores[b, h, i, j] * 0.353 + mask[j])
    return func([q, k, mask], [scaled])


@made
def slice_of_stacked_weights() -> Any:
    x, w = array("x", (5, 8)), array("w", (3, 8, 8))
    return func([x, w], [product(x, w, "float32", lambda i, j, k: (x[i, k], w[1, k, j]), (5, 8))])


@made
def columns_of_a_wider_matrix() -> Any:
    x, w = array("x", (5, 8)), array("w", (8, 24))
    place = lambda i, j, k: (x[i, k], w[k, j + 8])  # noqa: E731
    return func([x, w], [product(x, w, "float32", place, (5, 8))])


@made
def int8_product_requantised() -> Any:
    a, b = array("a", (9, 30), "int8"), array("b", (30, 10), "int8")
    scale = array("scale", (10,))
    sums = product(a, b, "int32", lambda i, j, k: (a[i, k], b[k, j]), (9, 10))
    scaled = topi.round(topi.multiply(topi.cast(sums, "float32"), scale))
    return func([a, b, scale], [topi.cast(topi.clip(scaled, -128, 127), "int8")])


@made
def uint8_times_int8() -> Any:
    a, b = array("a", (9, 30), "uint8"), array("b", (10, 30), "int8")
    return func([a, b], [product(a, b, "int32", lambda i, j, k: (a[i, k], b[j, k]), (9, 10))])


@made
def bfloat16_into_float32() -> Any:
    a, b = array("a", (9, 30), "bfloat16"), array("b", (30, 10), "bfloat16")
    return func([a, b], [product(a, b, "float32", lambda i, j, k: (a[i, k], b[k, j]), (9, 10))])


@made
def bfloat16_with_bias_and_back() -> Any:
    a, b = array("a", (9, 30), "bfloat16"), array("b", (30, 10), "bfloat16")
    bias = array("bias", (10,), "bfloat16")
    sums = product(a, b, "float32", lambda i, j, k: (a[i, k], b[k, j]), (9, 10))
    biased = topi.add(sums, topi.cast(bias, "float32"))
    return func([a, b, bias], [topi.cast(biased, "bfloat16")])


@made
def float64_product_with_residual() -> Any:
    a, b = array("a", (9, 30), "float64"), array("b", (30, 10), "float64")
    r = array("r", (9, 10), "float64")
    return func([a, b, r], [topi.add(topi.matmul(a, b), r)])


@made
def gelu_of_a_product_reshaped() -> Any:
    x, w, bias = array("x", (6, 16)), array("w", (16, 12)), array("bias", (12,))
    biased = topi.add(topi.matmul(x, w), bias)
    half = topi.multiply(topi.erf(topi.multiply(biased, 0.70710678)), 0.5)
    gelu = topi.multiply(biased, topi.add(half, 0.5))
    return func([x, w, bias], [topi.reshape(gelu, (2, 3, 12))])


# Element by element


@made
def broadcasts_and_numbers() -> Any:
    x, row, col = array("x", (6, 50)), array("row", (6, 1)), array("col", (50,))
    one = array("one", (1, 1))
    value = topi.subtract(topi.multiply(topi.add(x, col), row), one)
    return func([row, x, one, col], [topi.maximum(value, 0.25)])


@made
def scalar_parameter() -> Any:
    x, alpha = array("x", (5, 7)), tirx.Var("alpha", "float32")
    return func([x, alpha], [te.compute((5, 7), lambda i, j: x[i, j] * alpha + 1.0)])


@made
def four_axes_and_a_bias_of_two() -> Any:
    x, bias = array("x", (2, 3, 4, 5)), array("bias", (4, 5))
    return func([x, bias], [topi.tanh(topi.add(x, bias))])


@made
def one_picture_with_a_bias_of_channels() -> Any:
    x, bias = array("x", (1, 6, 4, 5)), array("bias", (6, 1, 1))
    return func([x, bias], [topi.nn.relu(topi.add(x, bias))])


@made
def one_element() -> Any:
    x = array("x", (1, 1))
    return func([x], [topi.sigmoid(x)])


@made
def roots_and_powers() -> Any:
    x = array("x", (77,))
    value = topi.add(topi.rsqrt(topi.add(x, 3.0)), topi.power(x, 3.0))
    return func([x], [topi.abs(topi.add(value, topi.sqrt(topi.exp(x))))])


@made
def leaky_relu_and_elu() -> Any:
    x = array("x", (33, 5))
    elu = te.compute((33, 5), lambda i, j: tirx.Select(
        x[i, j] > 0, x[i, j], (te.exp(x[i, j]) - 1.0) * 0.5))
    return func([x], [topi.nn.leaky_relu(x, 0.1), elu])


@made
def choices_that_are_limits() -> Any:
    x, y = array("x", (33, 5)), array("y", (33, 5))

    def element(i: Any, j: Any) -> Any:
        larger = te.if_then_else(x[i, j] < y[i, j], y[i, j], x[i, j])
        size = tirx.Select(x[i, j] >= 0, x[i, j], 0 - x[i, j])
        return larger + size

    return func([x, y], [te.compute((33, 5), element)])


@made
def half_precision_on_the_way() -> Any:
    x = array("x", (9, 7), "float16")
    return func([x], [topi.multiply(topi.add(x, tirx.const(1.5, "float16")), x)])


@made
def integers_widened_and_clipped() -> Any:
    x, y = array("x", (9, 7), "int8"), array("y", (9, 7), "int8")
    total = topi.add(topi.cast(x, "int32"), topi.cast(y, "int32"))
    return func([x, y], [topi.cast(topi.clip(total, -128, 127), "int8")])


@made
def integers_as_floats() -> Any:
    x, y = array("x", (9, 7), "uint8"), array("y", (9, 7), "int8")
    shifted = topi.subtract(topi.cast(x, "float32"), 3.0)
    return func([x, y], [topi.multiply(shifted, topi.cast(y, "float32"))])


@made
def part_of_an_array() -> Any:
    x = array("x", (9, 7))
    return func([x], [te.compute((4, 7), lambda i, j: x[i + 3, j] * 2.0)])


# Folds


@made
def sum_of_squares_of_rows() -> Any:
    x = array("x", (2, 6, 7))
    return func([x], [topi.sqrt(topi.sum(topi.multiply(x, x), axis=2))])


@made
def mean_over_two_axes() -> Any:
    x = array("x", (3, 4, 5, 6))
    return func([x], [topi.divide(topi.sum(x, axis=(2, 3)), 30.0)])


@made
def largest_of_columns() -> Any:
    x, bias = array("x", (13, 7)), array("bias", (7,))
    return func([x, bias], [topi.add(topi.max(x, axis=0), bias)])


@made
def smallest_of_all() -> Any:
    x = array("x", (13, 7), "int32")
    return func([x], [topi.min(x)])


@made
def dot_products_of_rows() -> Any:
    x, y = array("x", (13, 77)), array("y", (13, 77))
    return func([x, y], [product(x, y, "float32", lambda i, k: (x[i, k], y[i, k]), (13,))])


@made
def matrix_times_vector() -> Any:
    a, x = array("a", (13, 77)), array("x", (77,))
    return func([a, x], [product(a, x, "float32", lambda i, k: (a[i, k], x[k]), (13,))])


@made
def largest_from_one_on() -> Any:
    """A fold that begins with something that has a say."""
    x = array("x", (13, 7))
    k = te.reduce_axis((0, 7), "k")
    most = te.comm_reducer(lambda p, q: te.max(p, q), lambda t: tirx.const(1.0, t))
    return func([x], [te.compute((13,), lambda i: most(x[i, k], axis=k))])


# Several blocks


@made
def softmax() -> Any:
    x = array("x", (2, 5, 7))
    return func([x], [topi.nn.softmax(x)])


@made
def softmax_of_scaled_scores() -> Any:
    x, mask = array("x", (4, 5, 7)), array("mask", (7,))
    return func([x, mask], [topi.nn.softmax(topi.add(topi.multiply(x, 0.125), mask))])


@made
def mask_that_a_batch_shares() -> Any:
    """No epilogue has it, so it is a workload of its own."""
    a, b, mask = array("a", (3, 5, 8)), array("b", (3, 7, 8)), array("mask", (5, 7))
    return func([a, b, mask], [topi.add(topi.nn.batch_matmul(a, b), mask)])


@made
def query_key_value() -> Any:
    x = array("x", (9, 16))
    ws = [array(name, (8, 16)) for name in ("wq", "wk", "wv")]
    return func([x, *ws], [topi.nn.dense(x, w) for w in ws])


@made
def independent_kinds() -> Any:
    a, b, x = array("a", (9, 16)), array("b", (16, 7)), array("x", (4, 5))
    return func([x, a, b], [topi.matmul(a, b), topi.nn.softmax(x), topi.sum(x, axis=0)])


@made
def feed_forward() -> Any:
    x, w1, w2 = array("x", (9, 16)), array("w1", (32, 16)), array("w2", (16, 32))
    hidden = topi.nn.relu(topi.nn.dense(x, w1))
    return func([x, w1, w2], [topi.add(topi.nn.dense(hidden, w2), x)])


@made
def attention() -> Any:
    q, k, v = (array(name, (3, 9, 8)) for name in "qkv")
    shares = topi.nn.softmax(topi.multiply(topi.nn.batch_matmul(q, k), 0.35))
    return func([q, k, v], [topi.nn.batch_matmul(shares, v, transpose_b=False)])


@made
def attention_of_heads_side_by_side() -> Any:
    """Heads are taken out of columns and put back: that is how matrices are stored, no copy."""
    x = array("x", (9, 24))
    weights = [array(name, (24, 24)) for name in ("wq", "wk", "wv", "wo")]
    biases = [array(name, (24,)) for name in ("bq", "bk", "bv")]
    q, k, v = (
        topi.transpose(topi.reshape(topi.add(topi.nn.dense(x, w), b), (9, 3, 8)), (1, 0, 2))
        for w, b in zip(weights, biases)
    )
    shares = topi.nn.softmax(topi.multiply(topi.nn.batch_matmul(q, k), 0.35))
    mixed = topi.nn.batch_matmul(shares, v, transpose_b=False)
    rows = topi.reshape(topi.transpose(mixed, (1, 0, 2)), (9, 24))
    return func([x, *weights, *biases], [topi.add(topi.nn.dense(rows, weights[3]), x)])


@made
def transposed_result_of_a_product() -> Any:
    a, b, bias = array("a", (5, 8)), array("b", (8, 7)), array("bias", (7,))
    return func([a, b, bias], [topi.transpose(topi.add(topi.matmul(a, b), bias))])


@made
def two_products_of_columns_of_one_array() -> Any:
    x, w = array("x", (5, 8)), array("w", (8, 24))
    first = product(x, w, "float32", lambda i, j, k: (x[i, k], w[k, j]), (5, 8))
    place = lambda i, j, k: (first[i, k], w[k, j + 16])  # noqa: E731
    return func([x, w], [product(first, w, "float32", place, (5, 8))])


@made
def layer_norm() -> Any:
    x, gain, bias = array("x", (2, 5, 24)), array("gain", (24,)), array("bias", (24,))
    return func([x, gain, bias], [topi.nn.layer_norm(x, gain, bias, [2])])


@made
def result_that_is_used_and_returned() -> Any:
    a, b = array("a", (9, 16)), array("b", (16, 7))
    c = topi.matmul(a, b)
    return func([a, b], [c, topi.nn.softmax(c)])


# TVMScript


@made
def script_with_blocks() -> Any:
    @T.prim_func(s_tir=True)
    def main(p: T.handle, q: T.handle, r: T.handle, s: T.handle) -> None:
        W = T.match_buffer(p, (11, 16), "float32")
        X = T.match_buffer(q, (9, 16), "float32")
        B = T.match_buffer(r, (11,), "float32")
        Y = T.match_buffer(s, (9, 11), "float32")
        C = T.sblock_alloc_buffer((9, 11), "float32")
        for i, j, k in T.grid(9, 11, 16):
            with T.sblock("anything"):
                vj, vi, vk = T.axis.remap("SSR", [j, i, k])
                with T.init():
                    C[vi, vj] = B[vj]
                C[vi, vj] = X[vi, vk] * W[vj, vk] + C[vi, vj]
        for i, j in T.grid(9, 11):
            with T.sblock("else"):
                vi, vj = T.axis.remap("SS", [i, j])
                Y[vi, vj] = T.if_then_else(C[vi, vj] > T.float32(0), C[vi, vj], T.float32(0))

    return main


@made
def script_with_plain_loops() -> Any:
    @T.prim_func
    def main(p: T.handle, q: T.handle, r: T.handle) -> None:
        X = T.match_buffer(p, (9, 16), "float32")
        W = T.match_buffer(q, (16, 11), "float32")
        Y = T.match_buffer(r, (9, 11), "float32")
        for i, j in T.grid(9, 11):
            Y[i, j] = T.float32(0)
        for k, i, j in T.grid(16, 9, 11):
            Y[i, j] += X[i, k] * W[k, j]

    return main


@made
def script_with_the_result_first() -> Any:
    @T.prim_func(s_tir=True)
    def main(p: T.handle, q: T.handle) -> None:
        Y = T.match_buffer(p, (9, 1, 16), "float32")
        X = T.match_buffer(q, (9, 16), "float32")
        for i, o, j in T.grid(9, 1, 16):
            with T.sblock("exp"):
                vi, vo, vj = T.axis.remap("SSS", [i, o, j])
                Y[vi, vo, vj] = T.exp(X[vi, vj])

    return main


# What is refused


@refused(r"block 'T_transpose': x\[.*: lies neither along all axes")
def transposed() -> Any:
    x = array("x", (2, 3, 8))
    return func([x], [topi.transpose(x, (0, 2, 1))])


@refused("block 'compute': T.log.*log is not known")
def logarithm() -> Any:
    x = array("x", (4, 6))
    return func([x], [topi.log(x)])


@refused("several statements")
def argmax() -> Any:
    x = array("x", (4, 6))
    return func([x], [topi.argmax(x, 1)])


@refused("a choice with a step at 0")
def step() -> Any:
    x = array("x", (4, 6))
    return func([x], [te.compute((4, 6), lambda i, j: tirx.Select(
        x[i, j] > 0, x[i, j], x[i, j] + 1.0))])


@refused("a choice by anything but < and >")
def equality() -> Any:
    x = array("x", (4, 6))
    return func([x], [te.compute((4, 6), lambda i, j: tirx.Select(
        x[i, j].equal(0.0), x[i, j], x[i, j] + 1.0))])


@refused("an index as a value")
def positions() -> Any:
    x = array("x", (4, 6))
    return func([x], [te.compute((4, 6), lambda i, j: x[i, j] + j.astype("float32"))])


@refused("int64")
def long_integers() -> Any:
    x = array("x", (4, 6), "int64")
    return func([x], [te.compute((4, 6), lambda i, j: x[i, j] + x[i, j])])


@refused("cuts fractions off")
def truncation() -> Any:
    x = array("x", (4, 6))
    return func([x], [topi.cast(x, "int32")])


@refused("wraps around beyond -128 and 127")
def narrowed_without_clipping() -> Any:
    x = array("x", (4, 6), "int32")
    return func([x], [topi.cast(x, "int8")])


@refused("wraps around beyond int8")
def int8_addition() -> Any:
    x = array("x", (4, 6), "int8")
    return func([x], [topi.add(x, x)])


@refused("sums in int8")
def int8_sums() -> Any:
    x = array("x", (4, 6), "int8")
    k = te.reduce_axis((0, 6), "k")
    return func([x], [te.compute((4,), lambda i: te.sum(x[i, k], axis=k))])


@refused("float64 of operands whose expression is computed in float32")
def double_precision_on_the_way() -> Any:
    x = array("x", (4, 6))
    wide = topi.multiply(topi.cast(x, "float64"), topi.cast(x, "float64"))
    return func([x], [topi.cast(wide, "float32")])


@refused("sums in float64; those of float32 and float32 are kept in float32")
def product_in_double_precision() -> Any:
    a, b = array("a", (9, 30)), array("b", (30, 10))
    return func([a, b], [product(a, b, "float64", lambda i, j, k: (a[i, k], b[k, j]), (9, 10))])


@refused("m is no number; specialise the function")
def varying_extent() -> Any:
    m = tirx.Var("m", "int64")
    x = te.placeholder((m, tirx.IntImm("int64", 6)), "float32", "x")
    return func([x], [topi.exp(x)])


@refused("adds to what Y held before; begin with T.init")
def accumulation() -> Any:
    @T.prim_func
    def main(p: T.handle, q: T.handle) -> None:
        X = T.match_buffer(p, (9, 16), "float32")
        Y = T.match_buffer(q, (9,), "float32")
        for i, k in T.grid(9, 16):
            Y[i] += X[i, k]

    return main


@refused("was read before, by 'Z'")
def in_place() -> Any:
    @T.prim_func
    def main(p: T.handle, q: T.handle) -> None:
        X = T.match_buffer(p, (9,), "float32")
        Z = T.match_buffer(q, (9,), "float32")
        for i in range(9):
            Z[i] = X[i] + T.float32(1)
        for i in range(9):
            X[i] = T.exp(Z[i])

    return main


@refused("reads Z within the loops that write it")
def prefix_sums() -> Any:
    @T.prim_func
    def main(p: T.handle, q: T.handle, r: T.handle) -> None:
        X = T.match_buffer(p, (16,), "float32")
        Z = T.match_buffer(q, (1,), "float32")
        Y = T.match_buffer(r, (16,), "float32")
        for i in range(1):
            Z[i] = T.float32(0)
        for k in range(16):
            Z[0] += X[k]
            Y[k] = Z[0]

    return main


@refused("no whole loop of its own")
def scheduled() -> Any:
    from tvm.s_tir import Schedule

    schedule = Schedule(tvm.IRModule({"main": plain_product()}))
    block = schedule.get_sblock("T_matmul")
    schedule.split(schedule.get_loops(block)[0], [None, 1])
    schedule.split(schedule.get_loops(block)[-1], [None, 29])
    return schedule.mod["main"]


@refused("no product of matrices that lie row by row")
def convolution() -> Any:
    x, w = array("x", (40,)), array("w", (9, 8))
    place = lambda i, j, k: (w[i, k], x[j + k])  # noqa: E731
    return func([x, w], [product(w, x, "float32", place, (9, 33))])


def drawn(shape: tuple[int, ...], dtype: str, seed: int) -> Any:
    """Values of which no function here makes what float32 does not hold."""
    generator = np.random.default_rng(seed)
    if np.dtype(np.float32 if dtype == "bfloat16" else dtype).kind in "iu":
        low = 0 if dtype.startswith("u") else -100
        return generator.integers(low, 100, shape).astype(dtype)
    values = generator.uniform(-2, 2, shape)
    if dtype == "bfloat16":
        import ml_dtypes

        return values.astype(ml_dtypes.bfloat16)
    return values.astype(dtype)
