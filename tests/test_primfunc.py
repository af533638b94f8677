"""TVM functions as workloads: recognised, generated, and compared with TVM's own builds of them."""

from __future__ import annotations

import pickle
import subprocess
import sys
from functools import cache

import numpy as np
import pytest

pytest.importorskip("tvm")

import prim_funcs  # noqa: E402
import tvm  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from prim_funcs import MADE, REFUSED, array, drawn, func  # noqa: E402
from tvm import tirx, topi  # noqa: E402

import anatune as at  # noqa: E402
from anatune.codegen.build import build  # noqa: E402
from anatune.codegen.call import CheckedCall  # noqa: E402
from anatune.codegen.group_call import GroupCall  # noqa: E402
from anatune.errors import OperandError, WorkloadError  # noqa: E402
from anatune.model import candidates, joint  # noqa: E402
from anatune.primfunc import recognise  # noqa: E402
from anatune.primfunc_result import PrimFuncResult  # noqa: E402
from anatune.workload.maps import SOFTMAX, Map  # noqa: E402
from anatune.workload.maps_reference import map_reference  # noqa: E402
from anatune.workload.matmul import Matmul  # noqa: E402

CLOSE = {"float64": 1e-12, "float32": 2e-5, "float16": 2e-3, "bfloat16": 1e-2}
"""Relative difference between two orders of the same operations; TVM rounds on the way to 16 bits
where this project does not."""


@cache
def recognised(name):
    return recognise(MADE[name]())


def kernel(workload, profile):
    """The model's pick for ``workload``, compiled here: callable as a result is."""
    if isinstance(workload, Matmul):
        plan = candidates.best(profile, workload, 1)[0][0]
        return CheckedCall(plan, build(plan).function)
    plan = joint.rank(profile, workload, 1)[0][0]
    return GroupCall(workload, build(plan).function)


def inputs_of(function):
    return [drawn(t.shape, t.dtype, seed) for seed, (_, t) in enumerate(function.inputs)]


def by_tvm(prim_func, function, inputs):
    """What TVM's own, untuned build of the function writes."""
    library = tvm.compile(tvm.IRModule({"main": prim_func}), target={"kind": "llvm"})
    results = [tvm.runtime.empty(t.shape, t.dtype) for _, t in function.outputs]
    given, waiting, arguments = iter(inputs), iter(results), []
    written = {name for name, _ in function.outputs}
    for param in prim_func.params:
        if str(param.name) in written:
            arguments.append(next(waiting))
        elif tirx.is_buffer_var(param):
            value = next(given)
            tensor = tvm.runtime.empty(value.shape, str(param.dtype))
            arguments.append(tensor.copyfrom(value))
        else:
            arguments.append(float(next(given)))
    library["main"](*arguments)
    return [result.numpy() for result in results]


@pytest.mark.parametrize("name", MADE)
def test_results_are_those_of_tvms_own_build(name, here):
    prim_func = MADE[name]()
    function = recognised(name)
    call = PrimFuncResult(function, kernel(function.workload, here))
    inputs = inputs_of(function)
    results = call(*inputs)
    results = results if isinstance(results, tuple) else (results,)
    wanted = by_tvm(prim_func, function, inputs)
    assert len(results) == len(wanted) == len(function.outputs)
    for result, want, (_, tensor) in zip(results, wanted, function.outputs):
        assert result.shape == want.shape == tensor.shape and result.dtype == want.dtype
        assert_close(result, want)


def assert_close(result, want):
    """Equal, but for what another order of operations makes of floats."""
    close = CLOSE.get(want.dtype.name, 0.0)
    wide = want.astype(float)
    scale = max(1.0, float(np.abs(wide).max()))
    np.testing.assert_allclose(result.astype(float), wide, rtol=close, atol=close * scale)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_understood_is_named_in_one_line(name):
    build_it, said = REFUSED[name]
    with pytest.raises(WorkloadError, match=said) as refusal:
        recognise(build_it())
    assert "\n" not in str(refusal.value)


KINDS = {
    "plain_product": "matmul 37x50x29 float32",
    "dense_with_bias_and_relu": "B transposed, out = max(c + bias[n], 0)",
    "both_transposed": "A transposed, B transposed",
    "product_of_three_axes_and_a_matrix": "matmul 10x11x17",
    "batch_of_products": "matmul 3 times 5x11x17 float32, B transposed",
    "one_a_for_a_batch": "one A",
    "heads_of_attention_scores_scaled_and_masked": "matmul 6 times 5x7x8",
    "slice_of_stacked_weights": "of x, w+64 gives",
    "columns_of_a_wider_matrix": "ldb 24",
    "int8_product_requantised": "int8 to int8, out = max(min(round(c * scale.float32[n]), 127)",
    "uint8_times_int8": "matmul 9x10x30 uint8 x int8",
    "bfloat16_into_float32": "bfloat16 to float32",
    "broadcasts_and_numbers": "max((x + col[n]) * row[m] - one[0], 0.25) over [6, 50]",
    "four_axes_and_a_bias_of_two": "tanh(x + bias[n]) over [6, 20]",
    "one_picture_with_a_bias_of_channels": "over [6, 20]",
    "leaky_relu_and_elu": "max(x, 0) + min(x, 0) * 0.1",
    "sum_of_squares_of_rows": "sum(x * x) over [12, 7] along n float32, out = sqrt(c)",
    "mean_over_two_axes": "over [12, 30] along n float32, out = c / 30",
    "largest_of_columns": "along m float32, out = c + bias[n]",
    "largest_from_one_on": "out = max(c, 1)",
    "softmax": "softmax(x) over [10, 7]",
    "transposed_result_of_a_product": "matmul 7x5x8 float32, A transposed, B transposed",
    "query_key_value": ") of x, wq, wk, wv gives",
    "script_with_blocks": "out = max(c + B[n], 0)",
}


@pytest.mark.parametrize("name", KINDS)
def test_what_they_are_recognised_as(name):
    assert KINDS[name] in str(recognised(name))


def test_steps_that_read_each_other_are_a_group():
    assert [step.workload.fold for step in recognised("layer_norm").workload.steps] == [
        "sum", "sum", ""]  # fmt: skip
    scores, shares, mixed = recognised("attention").workload.steps
    assert scores.workload.epilogue and shares.workload.fold == SOFTMAX
    assert mixed.workload.batch == 3
    both = recognised("result_that_is_used_and_returned")
    assert both.workload.outputs == tuple(name for name, _ in both.outputs)


def test_heads_in_columns_are_strides():
    group = recognised("attention_of_heads_side_by_side").workload
    scores, mixed = (step.workload for step in group.steps
                     if isinstance(step.workload, Matmul) and step.workload.batch == 3)
    assert (scores.stride_a, scores.lda, scores.stride_b, scores.ldb) == (8, 24, 8, 24)
    assert (mixed.stride_c, mixed.ldc) == (8, 24) and len(group.steps) == 7


def test_names_mean_nothing():
    """The same computation under names that lie about it."""
    text = recognised("dense_with_bias_and_relu").workload
    x, w, bias = array("relu", (7, 29)), array("exp", (13, 29)), array("c", (13,))
    function = func([x, w, bias], [topi.nn.relu(topi.nn.dense(x, w, bias))])
    function = function.with_attr("global_symbol", "softmax")
    workload = recognise(function).workload
    assert workload.epilogue == "max(c + c_1[n], 0)"
    assert at.matmul(7, 13, 29, trans_b=True, epilogue="max(c + bias[n], 0)") == text
    assert (workload.m, workload.n, workload.k) == (text.m, text.n, text.k)


def test_modules_with_one_function_are_taken_and_others_are_not():
    one = MADE["plain_product"]()
    assert recognise(tvm.IRModule({"main": one})).workload == recognised("plain_product").workload
    two = tvm.IRModule({"first": one, "second": MADE["softmax"]()})
    with pytest.raises(WorkloadError, match=r"2 PrimFuncs \(first, second\)"):
        recognise(two)
    with pytest.raises(WorkloadError, match="a TVM PrimFunc is needed"):
        recognise("main")


def test_arrays_that_do_not_fit_are_named(here):
    function = recognised("product_of_three_axes_and_a_matrix")
    call = PrimFuncResult(function, kernel(function.workload, here))
    x, w = inputs_of(function)
    with pytest.raises(OperandError, match="1 inputs: 2 are needed: x, w"):
        call(x)
    with pytest.raises(OperandError, match=r"x: shape \(10, 17\), \(2, 5, 17\) is needed"):
        call(x.reshape(10, 17), w)
    with pytest.raises(OperandError, match="shares memory with x"):
        call(x, w, out=x.reshape(-1)[:110].reshape(2, 5, 11))


def test_results_are_written_where_they_are_wanted(here):
    function = recognised("query_key_value")
    call = PrimFuncResult(function, kernel(function.workload, here))
    inputs = inputs_of(function)
    out = tuple(np.zeros((9, 8), np.float32) for _ in range(3))
    assert call(*inputs, out=out) is out
    run = call.prepare(*inputs)
    for written, made in zip(out, run()):
        np.testing.assert_array_equal(written, made)
    with pytest.raises(OperandError, match="a tuple of 3 arrays"):
        call(*inputs, out=out[0])


def test_tuned_from_end_to_end(here):
    for name in ("dense_with_bias_and_relu", "softmax", "independent_kinds",
                 "attention_of_heads_side_by_side", "two_products_of_columns_of_one_array"):
        prim_func, function = MADE[name](), recognised(name)
        result = at.tune(prim_func, here, budget=0, database=False, threads=1)
        inputs = inputs_of(function)
        got = result(*inputs)
        for mine, tvms in zip(got if isinstance(got, tuple) else (got,),
                              by_tvm(prim_func, function, inputs)):
            assert_close(mine, tvms)
        assert result.function == function and result.plan.workload is not None
        again = pickle.loads(pickle.dumps(result))
        np.testing.assert_array_equal(np.asarray(again(*inputs)[0]), np.asarray(got[0]))


def test_the_model_alone_takes_them(here):
    prim_func = MADE["dense_with_bias_and_relu"]()
    plan = at.plan(prim_func, here)
    assert plan == at.plan(recognised("dense_with_bias_and_relu").workload, here)
    assert at.rank(prim_func, here)[0][0] == plan
    assert at.predict(plan, prim_func, here).seconds > 0
    told = at.explain(prim_func, here)
    assert told.startswith("main: matmul 7x13x29") and at.explain(plan, here) in told


def test_tvm_is_not_loaded_to_ask_whether_something_is_its():
    code = (
        "import sys, anatune.primfunc as p; assert not p.is_tvm(3) and not p.is_tvm(None); "
        "assert 'tvm' not in sys.modules and 'tvm_ffi' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


UNARY = (topi.exp, topi.tanh, topi.sigmoid, topi.abs, topi.erf, topi.nn.relu, topi.negative,
         lambda x: topi.clip(x, -1.5, 0.75), lambda x: topi.nn.leaky_relu(x, 0.3),
         lambda x: topi.subtract(2.0, topi.multiply(x, 0.5)))  # fmt: skip
BINARY = (topi.add, topi.subtract, topi.multiply, topi.maximum, topi.minimum)
LEAVES = {"x": (6, 50), "y": (6, 50), "row": (6, 1), "col": (50,)}


def trees(leaves):
    """Expressions of topi's functions, as functions of the arrays by name."""
    one = st.tuples(st.sampled_from(UNARY), leaves)
    two = st.tuples(st.sampled_from(BINARY), leaves, leaves)
    return one | two


def grown(tree, arrays):
    if isinstance(tree, str):
        return arrays[tree]
    function, *parts = tree
    return function(*(grown(part, arrays) for part in parts))


@settings(max_examples=20)
@given(st.recursive(st.sampled_from(tuple(LEAVES)), trees, max_leaves=6))
def test_whatever_expression_is_recognised_means_what_it_did(tree):
    """Compared in float64, without generated code, with TVM's build of the function."""
    arrays = {name: array(name, shape) for name, shape in LEAVES.items()}
    whole = topi.add(grown(tree, arrays), arrays["x"])
    prim_func = func(list(arrays.values()), [whole])
    function = recognise(prim_func)
    inputs = inputs_of(function)
    given_arrays = {name: x for (name, _), x in zip(function.inputs, inputs)}
    (want,) = by_tvm(prim_func, function, inputs)
    scale = max(1.0, float(np.abs(want).max()))
    got = in_float64(function.workload, [given_arrays[v.array] for v in function.operands])
    np.testing.assert_allclose(got, want, atol=1e-5 * scale)


def in_float64(workload, operands):
    """What a map, or a group of maps, makes of arrays of any shapes."""
    if isinstance(workload, Map):
        seen = {name: np.reshape(x, tensor.shape)
                for (name, tensor), x in zip(workload.operands.items(), operands)}
        return map_reference(workload, seen)
    known = dict(zip(workload.inputs, operands))
    for step in workload.steps:
        known[step.name] = in_float64(step.workload, [known[name] for _, name in step.sources])
    return known[workload.outputs[0]]


def test_samples_are_all_used():
    assert len(MADE) > 40 and len(REFUSED) > 15 and prim_funcs.MADE is MADE
