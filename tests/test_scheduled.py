"""Plain loops and traces on them: right for every kind of workload, and the same code again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

pytest.importorskip("tvm")

from products import assert_right, normal  # noqa: E402
from sample_plans import host_target, workloads  # noqa: E402
from tvm.s_tir import Schedule  # noqa: E402

from anatune.codegen.build import build  # noqa: E402
from anatune.codegen.call import CheckedCall  # noqa: E402
from anatune.codegen.library import load  # noqa: E402
from anatune.codegen.scheduled import C, SUMS, plain_loops, trace_text  # noqa: E402
from anatune.errors import BuildError, WorkloadError  # noqa: E402
from anatune.plan import SchedulePlan, read_plan  # noqa: E402
from anatune.workload import Matmul, matmul  # noqa: E402
from anatune.workload.nodes import CALLS  # noqa: E402

TARGET = host_target()
LANES = 8


def plan_of(w: Matmul, trace: str) -> SchedulePlan:
    return SchedulePlan(workload=w, target=TARGET, threads=1, trace=trace)


def untouched(w: Matmul) -> SchedulePlan:
    """The loops as they are."""
    return plan_of(w, "[[], []]")


def tiled(w: Matmul) -> SchedulePlan:
    """Vectors of columns inside k, rows unrolled, sums set to zero before, the epilogue apart."""
    schedule = Schedule(plain_loops(w))
    block = schedule.get_sblock(C if w.stores_sums else SUMS)
    *_, i, j, p = schedule.get_loops(block)
    rows, row = schedule.split(i, [None, 2])
    columns, column = schedule.split(j, [None, LANES])
    schedule.reorder(rows, columns, p, row, column)
    schedule.unroll(row)
    schedule.vectorize(column)
    schedule.decompose_reduction(block, p)
    if not w.stores_sums:
        last = schedule.get_loops(schedule.get_sblock(C))[-1]
        schedule.vectorize(schedule.split(last, [None, LANES])[1])
    return plan_of(w, trace_text(schedule.trace))


KINDS = [
    *({"dtype": x} for x in ("float16", "bfloat16", "float64", "int8", "uint8", "int16", "int32")),
    {"dtype": "bfloat16", "epilogue": "bias + silu"},
    {"dtype": "uint8", "out_dtype": "int8", "epilogue": "requantise"},
    {"trans_a": True, "trans_b": True, "batch": 3, "broadcast_b": True, "alpha": -2},
    {"batch": 2, "broadcast_a": True, "epilogue": "c * row[m] + residual + s"},
    {"lda": 31, "ldb": 40, "ldc": 35, "epilogue": "bias + gelu"},
]


@pytest.mark.parametrize("of", KINDS, ids=str)
def test_plain_loops_compute(of):
    assert_right(untouched(matmul(5, 19, 29, **of)))


@pytest.mark.parametrize("of", KINDS, ids=str)
def test_scheduled_loops_compute(of):
    w = matmul(6, 16, 29, **{**of, "ldb": None})
    assert_right(tiled(w), None if w.dtype.startswith(("int", "uint")) else normal(w))


@settings(max_examples=20)
@given(workloads(most=20))
def test_any_workload(w):
    assert_right(untouched(replace(w, beta=0)))


@pytest.mark.parametrize("name", sorted(CALLS))
def test_every_function_of_an_epilogue(name):
    arguments = ["abs(c)", "row[m]", "9"][: CALLS[name]]
    w = matmul(4, 2 * LANES, 3, epilogue=f"c - {name}({', '.join(arguments)}) / 3")
    assert_right(tiled(w), normal(w))


def test_a_c_that_is_added_to_is_refused():
    with pytest.raises(WorkloadError, match="beta = 2: .*; use search='evolve'"):
        plain_loops(matmul(4, 4, 4, beta=2))


def test_a_plan_survives_json_and_gives_the_same_code():
    plan = tiled(matmul(6, 2 * LANES, 9, epilogue="bias + relu"))
    again = read_plan(plan.to_json())
    assert again == plan
    one, other = build(plan), build(again)
    assert one.source("tir") == other.source("tir")
    assert one.source("asm") == other.source("asm")


def test_a_trace_changes_the_code():
    w = matmul(6, 2 * LANES, 9)
    assert build(tiled(w)).source("tir") != build(untouched(w)).source("tir")


@pytest.mark.parametrize(
    "trace", ["", "[]", '[[["NoSuchThing", [], [], []]], []]', '[[["GetSBlock"]], []]']
)
def test_a_trace_that_cannot_be_replayed_is_a_build_error(trace):
    with pytest.raises(BuildError):
        build(plan_of(matmul(4, 4, 4), trace))


def test_it_is_called_and_exported_like_any_kernel(tmp_path):
    w = matmul(6, 2 * LANES, 9, constant_b=True)
    values = normal(w)
    kernel = build(tiled(w))
    call = CheckedCall(kernel.plan, kernel.function)
    c = call(values["a"], values["b"])
    np.testing.assert_allclose(c, values["a"] @ values["b"], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(call.bind(b=values["b"])(values["a"]), c)
    loaded = load(kernel.export(tmp_path / "kernel.so"))
    assert loaded.plan == kernel.plan
    np.testing.assert_array_equal(loaded(values["a"], values["b"]), c)


def test_operands_need_only_be_aligned_to_an_element():
    """TVM would trust buffers to begin at a multiple of 64 bytes, and the process would die."""
    w = matmul(4, 2 * LANES, 8)
    parameters = plain_loops(w)["main"].params
    assert [p.ty.data_alignment for p in parameters] == [4, 4, 4]
