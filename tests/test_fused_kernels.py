"""Kernels of several workloads, of any kinds and awkward sizes: run here, compared with float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tvm")

from group_kernels import assert_right, fused_in_parts, map_plan  # noqa: E402

import anatune as at  # noqa: E402
from anatune.codegen.build import build  # noqa: E402
from anatune.errors import OperandError  # noqa: E402
from anatune.model.candidates import best  # noqa: E402
from anatune.model.fusion import options  # noqa: E402
from anatune.plan import CodeTarget, GemmPlan  # noqa: E402
from anatune.plan.fusion import Decision, FusionPlan, Member, alone  # noqa: E402

MAPS = [
    at.elementwise("relu(x + bias[n])", (37, 131)),
    at.elementwise("x * scale[0] + y * row[m] - gelu(x)", (5, 77)),
    at.elementwise("sigmoid(exp(x))", 1003),
    at.elementwise("x + y", (33, 7), dtype="float64"),
    at.elementwise("x + y", (33, 7), dtype="int8"),
    at.elementwise("x.int8 * scale.float32[n] + z", (33, 17), out_dtype="int8"),
    at.elementwise("x * y", (33, 17), dtype="bfloat16"),
    at.elementwise("x", 1),
    at.reduce("sum", (13, 77)),
    at.reduce("max", (13, 77), "exp(x)"),
    at.reduce("min", (13, 77), axis=0, dtype="int32"),
    at.reduce("mean", (13, 77), "x * x", axis=0, finish="sqrt(c) + bias[n]"),
    at.reduce("mean", (13, 77), "x * x", finish="c * gain[m]"),
    at.reduce("sum", 1000),
    at.reduce("max", (3, 1), dtype="float16"),
    at.softmax(13, 77),
    at.softmax(1, 5),
    at.softmax(13, 77, "x * 0.125 + mask[n]", dtype="float16"),
]

PRODUCTS = [
    at.matmul(49, 100, 77),
    at.matmul(50, 100, 60, dtype="int8"),
    at.matmul(50, 100, 60, dtype="bfloat16", epilogue="bias+relu"),
    at.matmul(1, 33, 65, trans_b=True),
    at.matmul(30, 40, 50, batch=6),
]


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("workload", MAPS, ids=str)
def test_pieces_of_maps_make_the_whole(here, workload, parts):
    plan = map_plan(workload, CodeTarget.of(here.target), unroll=parts)
    assert_right(fused_in_parts([Member(plan=plan)], parts))


@pytest.mark.parametrize("workload", MAPS[::3], ids=str)
def test_maps_run_on_several_threads_by_themselves(here, workload):
    plan = replace(map_plan(workload, CodeTarget.of(here.target), 2), threads=3)
    assert_right(
        FusionPlan(workload=at.fused([workload]), decision=Decision.ONE_BY_ONE,
                   members=(Member(plan=plan),))
    )  # fmt: skip


@pytest.mark.parametrize("along", ["m", "n", "batch"])
@pytest.mark.parametrize("workload", PRODUCTS, ids=str)
def test_pieces_of_products_make_the_whole(here, workload, along):
    if along == "batch" and workload.batch == 1:
        along = "n"
    tried = {p.order: p for p, _ in best(here, workload, 1)}
    for plan in list(tried.values())[:2]:
        assert isinstance(plan, GemmPlan)
        assert_right(fused_in_parts([Member(plan=alone(plan, along), along=along)], 3))


def test_all_kinds_in_one_region(here):
    for plan, _ in options(here, at.fused([*MAPS[:3], *PRODUCTS, MAPS[-1]]), None):
        assert_right(plan)


def test_one_a_is_taken_once(here):
    together = at.fused([at.matmul(49, n, 64) for n in (100, 32, 16)], same_a=True)
    r = at.tune(together, here, budget=0)
    a = np.random.default_rng(0).random((49, 64), "f4")
    bs = [np.random.default_rng(n).random((64, n), "f4") for n in (100, 32, 16)]
    for c, b in zip(r(a, *bs), bs):
        np.testing.assert_allclose(c, a @ b, rtol=1e-4)


def test_results_are_a_tuple_in_the_order_of_the_workloads(here):
    r = at.tune(at.fused([at.matmul(8, 9, 10), at.reduce("sum", (3, 4))]), here, budget=0)
    assert r.decision in {d.value for d in Decision}
    a, b, x = np.ones((8, 10), "f4"), np.ones((10, 9), "f4"), np.ones((3, 4), "f4")
    c, s = r(a, b, x)
    assert (c == 10).all() and (s == 4).all()
    out = np.empty((8, 9), "f4"), np.empty(3, "f4")
    assert r(a, b, x, out=out) is out and (out[0] == 10).all() and (out[1] == 4).all()
    assert r.prepare(a, b, x)()[1].sum() == 12
    with pytest.raises(OperandError, match="3 are needed"):
        r(a, b)
    with pytest.raises(OperandError, match="b of workload 0: shape"):
        r(a, a, x)
    with pytest.raises(OperandError, match=r"out\[1\]: overlaps"):
        r(a, b, x, out=(out[0], x[0, :3]))


def test_a_single_map_gives_an_array(here):
    r = at.tune(at.elementwise("x * x", (3, 5)), here, budget=0)
    x = np.arange(15, dtype="f4").reshape(3, 5)
    assert (r(x) == x * x).all()
    assert "x * x" in repr(r) and "measured" in r.explain()


def test_hot_loops_hold_no_branch_and_no_allocation(here):
    """What is looked up by thread is looked up before the loops, and vectors stay vectors."""
    plan = map_plan(at.elementwise("x + y", 1 << 16), CodeTarget.of(here.target), 4)
    kernel = build(fused_in_parts([Member(plan=plan), Member(plan=plan)], 2))
    assert "AllocWorkspace" not in kernel.source("llvm")
    fold = map_plan(at.reduce("sum", (64, 64)), CodeTarget.of(here.target), 4)
    assert "AllocWorkspace" not in build(fused_in_parts([Member(plan=fold)], 2)).source("llvm")
