"""Stencils: shapes and halos, what is refused, and kernels compared with numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import anatune as at
from anatune.errors import VerificationError, WorkloadError
from anatune.measure import group_bench, map_check
from anatune.model.maps import best_map, unit_cost
from anatune.plan import CodeTarget
from anatune.plan.maps import MapPlan
from anatune.workload.expression import MAX_OFFSET, parse_arrays
from anatune.workload.maps_reference import map_range, map_reference

FIVE_POINT = "0.25 * (x[m-1, n] + x[m+1, n] + x[m, n-1] + x[m, n+1])"
OFFSETS = st.integers(-MAX_OFFSET, MAX_OFFSET)
FLAT = {"lanes": 16, "unroll": 2, "target": CodeTarget(isa="x86_64", mcpu="znver4")}


@given(st.lists(st.tuples(OFFSETS, OFFSETS), min_size=1, max_size=5))
def test_what_is_printed_is_read_as_the_same(places):
    first = parse_arrays(" + ".join(f"x[m{a:+}, n{b:+}]" for a, b in places), "int8")
    again = parse_arrays(f"{first} - s[0] * y", "int8")
    assert parse_arrays(str(again), "int8") == again and again.arguments[0] == first
    assert len(first.reads) == len(set(places)) and len(first.operands) == 1


@given(st.lists(st.tuples(OFFSETS, OFFSETS), min_size=1, max_size=5), st.integers(1, 9))
def test_arrays_reach_as_far_as_they_are_read(places, rows):
    w = at.stencil(" + ".join(f"x[m{a:+}, n{b:+}]" for a, b in places), (rows, 4))
    (lo_m, hi_m), (lo_n, hi_n) = w.halo("x")
    assert (lo_m, lo_n) == tuple(map(min, zip(*places)))
    assert (hi_m, hi_n) == tuple(map(max, zip(*places)))
    assert w.operands["x"].shape == (rows + hi_m - lo_m, 4 + hi_n - lo_n)
    assert w.output.shape == (rows, 4)


def test_offsets_are_each_arrays_own():
    w = at.stencil("x[m-1, n] + x[m+2, n] + y[m+3, n-1] + b[n] - b[n+1] + r[m-2] + z", (5, 7))
    shapes = {name: tensor.shape for name, tensor in w.operands.items()}
    assert shapes == {"x": (8, 7), "y": (5, 7), "b": (8,), "r": (5,), "z": (5, 7)}
    assert w.halo("y") == ((3, 3), (-1, -1)) and w.halo("r") == ((-2, -2), (0, 0))
    with pytest.raises(WorkloadError, match="the operands are x, y, b, r, z"):
        w.halo("q")


def test_arrays_of_one_axis():
    w = at.stencil("x[n-1] + x + x[n+1] * s[0]", 10)
    assert w.operands["x"].shape == (12,) and w.output.shape == (10,)
    assert w.halo("x") == ((0, 0), (-1, 1))


@pytest.mark.parametrize(
    "text, shape, said",
    [
        ("x[m-65, n]", (3, 4), "offsets go from -64 to 64"),
        ("x[n, m-1]", (3, 4), "subscripts are"),
        ("x[2*m, n]", (3, 4), "subscripts are"),
        ("x[m-1.5, n]", (3, 4), "subscripts are"),
        ("x[m+True, n]", (3, 4), "subscripts are"),
        ("x[1+m, n]", (3, 4), "subscripts are"),
        ("x[m-1, n] + x", 4, "one axis, n"),
        ("x[n-1] + x", (3, 4), "one name stands for one operand"),
    ],
)
def test_what_cannot_be_read_is_named(text, shape, said):
    with pytest.raises(WorkloadError, match=said):
        at.stencil(text, shape)


def test_sums_have_no_neighbours():
    with pytest.raises(WorkloadError, match=r"subscripts are \[n\], \[m\] and \[m, n\]$"):
        at.matmul(3, 4, 5, epilogue="c + x[m-1, n]")
    with pytest.raises(WorkloadError, match="subscripts are"):
        at.reduce("sum", (3, 4), finish="c + x[m+1]")


def test_the_reference_is_numpys():
    x = np.random.default_rng(0).standard_normal((9, 12)).astype("f4")
    wide = x.astype("f8")
    want = 0.25 * (wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:])
    w = at.stencil(FIVE_POINT, (7, 10))
    np.testing.assert_allclose(map_reference(w, {"x": x}), want, rtol=1e-12)
    low, high = map_range(w, {"x": x})
    assert (low <= want).all() and (want <= high).all() and (high - low < 1e-5).all()


@pytest.mark.parametrize(
    "text, shape, flat",
    [
        ("x[m-1, n] + x[m+1, n]", (5, 7), True),
        ("x[m, n-1] + x[m, n+1]", (5, 7), False),
        ("x[m, n+3]", (5, 7), True),
        ("x[m, n-1] + x[m, n+1]", (1, 7), True),
        ("x[m-1, n-1] + x[m+1, n+1]", (1, 7), False),
        ("x[n-1] + x[n+1]", 7, True),
        ("x + b[n] - b[n+1]", (5, 7), False),
    ],
)
def test_rows_are_told_apart_where_an_arrays_are_longer(text, shape, flat):
    assert MapPlan(workload=at.stencil(text, shape), **FLAT).flat is flat


def test_plans_survive_json():
    plan = MapPlan(workload=at.stencil(FIVE_POINT, (5, 7)), **FLAT)
    assert MapPlan.from_json(plan.to_json()) == plan


def test_each_offset_is_loaded_and_each_byte_fetched_once():
    zen4 = at.load_profile("zen4")
    near, far = (
        unit_cost(zen4, best_map(zen4, at.stencil(text, 100_000), 1)[0], 1)
        for text in ("x + x + x", "x[n-1] + x + x[n+1]")
    )
    loads = [dict(cost.terms)["load ports"] / cost.bytes_moved for cost in (near, far)]
    assert loads[1] > 2.9 * loads[0]
    assert far.bytes_moved == pytest.approx(near.bytes_moved, rel=1e-3)


@pytest.mark.parametrize(
    "workload",
    [
        at.stencil(FIVE_POINT, (90, 70)), at.stencil("x[m, n-1] * x[m, n+1]", (90, 70)),
        at.stencil("x[n-1] + x[n+2]", 5000), at.reduce("sum", (90, 70), "x * x[m, n+1]"),
        at.reduce("max", (90, 70), "x - x[m+1, n-1]", axis=0), at.elementwise("x + b[n]", (90, 70)),
    ],
    ids=str,
)  # fmt: skip
def test_parts_that_are_checked_are_right_and_hold_both_ends(workload, monkeypatch):
    monkeypatch.setattr(map_check, "CHECKED_ELEMENTS", 1000)
    inputs = group_bench.drawn(workload, 0)
    right = map_reference(workload, inputs).astype(workload.out_dtype)
    group_bench.check_member(workload, inputs, right)
    for place in (0, -1):
        wrong = right.copy()
        wrong.reshape(-1)[place] += 1
        with pytest.raises(VerificationError):
            group_bench.check_member(workload, inputs, wrong)
