"""Scans: what they are, what they refuse, how they are planned and checked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import anatune as at
from anatune.errors import VerificationError, WorkloadError
from anatune.measure import map_check
from anatune.measure.group_bench import drawn
from anatune.model.maps import best_map, predict_map
from anatune.plan import CodeTarget
from anatune.plan.maps import MapPlan
from anatune.workload.expression import parse_step
from anatune.workload.maps_reference import map_range, map_reference, step_range

TARGET = CodeTarget(isa="x86_64", mcpu="znver4")
INT32 = 2**31


def plan_of(workload, **options):
    return MapPlan(workload=workload, target=TARGET, **{"lanes": 16, "unroll": 4, **options})


def test_a_scan_is_its_step_its_axis_and_where_it_begins():
    w = at.scan("c * a + x", (3, 5), axis=-1, initial=2, finish="c * gate[m, n] + bias[n]")
    assert (w.each, w.fold, w.over, w.initial) == ("c * a + x", "scan", "n", 2.0)
    shapes = {name: tensor.shape for name, tensor in w.operands.items()}
    assert shapes == {"a": (3, 5), "x": (3, 5), "gate": (3, 5), "bias": (5,)}
    assert w.output.shape == (3, 5)
    assert str(w) == ("scan(c * a + x from 2) over [3, 5] along n float32, "
                      "out = c * gate[m, n] + bias[n]")  # fmt: skip


@pytest.mark.parametrize(
    "name, step, of_floats, of_integers",
    [
        ("sum", "c + x", 0, 0), ("prod", "c * x", 1, 1),
        ("max", "max(c, x)", -np.inf, -INT32), ("min", "min(c, x)", np.inf, INT32 - 1),
    ],
)  # fmt: skip
def test_steps_with_a_name_begin_with_what_changes_nothing(name, step, of_floats, of_integers):
    floats, integers = at.scan(name, 4), at.scan(name, 4, dtype="int8")
    assert floats.each == integers.each == step
    assert (floats.initial, integers.initial) == (of_floats, of_integers)
    assert at.scan(name, 4, initial=7).initial == 7


@pytest.mark.parametrize(
    "step, dtype, carried, stored",
    [
        ("c + x", "int8", "int32", "int32"), ("c * 0.5 + x", "int8", "float32", "float32"),
        ("c + x", "bfloat16", "float32", "bfloat16"),
        ("c + x.float64", "float32", "float64", "float64"),
        ("c + x.int8 * y", "float64", "float64", "float64"),
    ],
)  # fmt: skip
def test_what_is_carried_holds_all_that_is_in_the_step(step, dtype, carried, stored):
    w = at.scan(step, 4, dtype=dtype)
    assert (w.held, w.out_dtype) == (carried, stored)
    assert parse_step(str(w.element), dtype) == w.element


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: at.scan("x + y", 4), "step = 'x . y': c, what the step before has left"),
        (lambda: at.scan("c * 2", 4), "names no array"),
        (lambda: at.scan(3, 4), "a text"),
        (lambda: at.scan("c + x", (3, 4), axis=2), "axis = 2: from -2 to 1"),
        (lambda: at.scan("c + x", 4, initial=0.5, dtype="int8"), "int32 is carried"),
        (lambda: at.scan("c + x", 4, initial=2**31, dtype="int8"), "whole number from"),
        (lambda: at.scan("c + x", 4, initial=float("nan")), "initial = nan: a number"),
        (lambda: at.scan("c + x", 4, initial="one"), "initial = 'one': a number"),
        (lambda: at.scan("c + x", (3, 4), finish="c * x[m, n]"), "already"),
        (lambda: at.scan("c + c.int8", 4), "c cannot name an operand"),
        (lambda: at.elementwise("x", 4).__class__(m=1, n=4, each="x", initial=1), "only of a scan"),
    ],
)  # fmt: skip
def test_what_cannot_be_computed_is_named(make, said):
    with pytest.raises(WorkloadError, match=said):
        make()


@pytest.mark.parametrize("axis", [0, -1])
def test_references_are_numpys(axis):
    x = np.random.default_rng(0).standard_normal((17, 9)).astype("f4")
    wide = x.astype("f8")
    for name, accumulate in (
        ("sum", np.add), ("prod", np.multiply), ("max", np.maximum), ("min", np.minimum)
    ):  # fmt: skip
        w, want = at.scan(name, x.shape, axis=axis), accumulate.accumulate(wide, axis)
        np.testing.assert_allclose(map_reference(w, {"x": x}), want, rtol=1e-12)
        low, high = map_range(w, {"x": x})
        assert (low <= want).all() and (want <= high).all()


@given(st.integers(1, 40), st.integers(0, 2**32 - 1), st.sampled_from(["c * a + x", "c * x - a"]))
def test_single_precision_stays_within_the_range(steps, seed, text):
    """Each step rounded as a kernel rounds it, with or without fusing the two operations."""
    w = at.scan(text, (steps, 2))
    inputs = drawn(w, seed)
    low, high = map_range(w, inputs)
    for fused in (np.float32, np.float64):
        out, carried = np.empty((steps, 2), "f4"), np.zeros(2, "f4")
        for i in range(steps):
            c, a, x = (v.astype(fused) for v in (carried, inputs["a"][i], inputs["x"][i]))
            carried = out[i] = c * a + x if text == "c * a + x" else c * x - a
        assert (low <= out).all() and (out <= high).all()
        near = step_range(w, inputs, out)
        assert (near[0] <= out).all() and (out <= near[1]).all()


def test_ranges_widen_with_the_steps():
    w = at.scan("c + x", 1000)
    low, high = map_range(w, drawn(w, 0))
    width = (high - low).astype("f8")
    assert width[0] < 1e-6 < width[-1] < 1e-2


def test_units_are_columns_or_as_many_rows_as_there_are_lanes():
    down, along = at.scan("sum", (40, 100)), at.scan("sum", (40, 100), axis=-1)
    assert (plan_of(down).units, plan_of(down).unit) == (2, "64 columns")
    assert (plan_of(along).units, plan_of(along).unit) == (3, "16 rows")
    assert plan_of(along, lanes=1).units == 40 and not plan_of(down).flat
    for workload in (down, along, at.scan("max", 40)):
        plan = plan_of(workload)
        assert MapPlan.from_json(plan.to_json()) == plan


def test_the_chain_of_the_step_bounds_narrow_scans():
    zen4 = at.load_profile("zen4")
    for axis in (0, -1):
        plan, estimate = best_map(zen4, at.scan("tanh(c)*a + x", (16, 16), axis=axis), 1)
        assert estimate.bound == "chains"
        shorter = plan_of(at.scan("c*a + x", (16, 16), axis=axis), lanes=16, unroll=plan.unroll)
        assert predict_map(zen4, shorter).cycles < 0.3 * estimate.cycles


def test_a_single_row_has_no_use_for_lanes():
    zen4 = at.load_profile("zen4")
    assert best_map(zen4, at.scan("sum", 1000), 1)[0].lanes == 1
    assert best_map(zen4, at.scan("sum", (256, 1000), axis=-1), 1)[0].lanes == 16


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("finish", ["", "c * 2"])
def test_a_wrong_step_is_seen(axis, finish, monkeypatch):
    monkeypatch.setattr(map_check, "CHECKED_STEPS", 100)
    w = at.scan("c * 0.5 + x", (300, 200), axis=axis, finish=finish)
    inputs = drawn(w, 0)
    right = map_reference(w, inputs).astype("f4")
    map_check.check_map(w, inputs, right)
    places = [(0, 0), (-1, -1)] if not finish else [(0, 0), (99, 99)]
    for place in places:
        wrong = right.copy()
        wrong[place] *= 1.001
        with pytest.raises(VerificationError):
            map_check.check_map(w, inputs, wrong)
    if not finish:  # far behind the steps that are followed
        wrong = right.copy()
        np.moveaxis(wrong, axis, 0)[150:] = np.nan
        with pytest.raises(VerificationError):
            map_check.check_map(w, inputs, wrong)
