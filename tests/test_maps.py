"""Element-wise workloads, folds and softmax: what they are, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

import anatune as at
from anatune.errors import WorkloadError
from anatune.plan import CodeTarget
from anatune.plan.maps import MapPlan
from anatune.workload.maps import Map
from anatune.workload.maps_reference import map_range, map_reference

TARGET = CodeTarget(isa="x86_64", mcpu="znver4")


def plan_of(workload: Map, **options) -> MapPlan:
    return MapPlan(workload=workload, target=TARGET, **{"lanes": 16, "unroll": 4, **options})


def test_bare_names_are_arrays_of_the_results_shape():
    w = at.elementwise("relu(x + bias[n]) * row[m] - scale[0]", (3, 5))
    shapes = {name: tensor.shape for name, tensor in w.operands.items()}
    assert shapes == {"x": (3, 5), "bias": (5,), "row": (3,), "scale": ()}
    assert w.output.shape == (3, 5)


def test_operands_of_matrix_products_are_names_like_others():
    assert list(at.elementwise("a + b * c", 7).operands) == ["a", "b", "c"]


def test_arrays_of_one_axis():
    w = at.elementwise("x + y", 10)
    assert w.operands["x"].shape == w.output.shape == (10,)
    assert at.reduce("sum", 10).output.shape == ()


@pytest.mark.parametrize(
    "dtype, expression, out",
    [
        ("float32", "x", "float32"), ("float16", "x * y", "float16"), ("int8", "x + y", "int32"),
        ("int8", "exp(x)", "float32"), ("float64", "x", "float64"),
        ("float32", "x + y.float64", "float64"),
    ],
)  # fmt: skip
def test_results_are_of_the_operands_type_or_of_that_they_are_computed_in(dtype, expression, out):
    assert at.elementwise(expression, 4, dtype=dtype).out_dtype == out


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: at.elementwise("x +", 4), "expression"),
        (lambda: at.elementwise("x[k]", 4), r"\[0\] for a single number"),
        (lambda: at.elementwise("2 + 3", 4), "names no array"),
        (lambda: at.elementwise("foo(x)", 4), "no such function"),
        (lambda: at.elementwise("x", (2, 3, 4)), "one or two extents"),
        (lambda: at.elementwise("x", 0), "from 1 to"),
        (lambda: at.elementwise(3, 4), "a text"),
        (lambda: at.reduce("median", 4), "'sum', 'max', 'min' or 'mean'"),
        (lambda: at.reduce("sum", (4, 5), axis=2), "axis"),
        (lambda: at.reduce("sum", (4, 5), finish="c + bias[n]"), r"\[m\]"),
        (lambda: at.reduce("sum", (4, 5), "x", finish="c + x[m]"), "already"),
        (lambda: at.softmax(0, 4), "m = 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_computed_is_named(make, said):
    with pytest.raises(WorkloadError, match=said):
        make()


def test_references_are_numpys():
    generator = np.random.default_rng(0)
    x, bias = generator.standard_normal((7, 9)).astype("f4"), np.arange(9, dtype="f4")
    inputs = {"x": x, "bias": bias}
    wide = x.astype("f8")
    cases = {
        at.elementwise("max(x + bias[n], 0)", (7, 9)): np.maximum(wide + bias, 0),
        at.reduce("sum", (7, 9), "x * x"): (wide * wide).sum(1),
        at.reduce("max", (7, 9), axis=0): wide.max(0),
        at.reduce("mean", (7, 9), finish="c + 1"): wide.mean(1) + 1,
        at.softmax(7, 9): np.exp(wide) / np.exp(wide).sum(1, keepdims=True),
    }
    for workload, want in cases.items():
        np.testing.assert_allclose(map_reference(workload, inputs), want, rtol=1e-6)
        low, high = map_range(workload, inputs)
        assert (low <= want).all() and (want <= high).all()
        assert not (low <= want * 1.001 + 1e-3).all() or not (want * 1.001 + 1e-3 <= high).any()


def test_units_cover_everything():
    assert plan_of(at.elementwise("x", (10, 100))).units == -(-1000 // 64)  # rows run together
    assert plan_of(at.elementwise("x + b[n]", (10, 100))).units == 10 * 2
    assert plan_of(at.reduce("sum", (10, 100))).units == 10
    assert plan_of(at.reduce("sum", (10, 100), axis=0)).units == 2
    assert plan_of(at.softmax(10, 100)).units == 10


@pytest.mark.parametrize(
    "workload", [at.elementwise("x * s[0]", (3, 4)), at.reduce("mean", (3, 4), finish="sqrt(c)"),
                 at.softmax(3, 4, dtype="float16")],
)  # fmt: skip
def test_plans_survive_json(workload):
    plan = plan_of(workload)
    assert MapPlan.from_json(plan.to_json()) == plan
