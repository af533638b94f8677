"""Kernels on heads in place: numerics against numpy, and calls with the views that callers have."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tvm")

from products import assert_right, normal  # noqa: E402
from sample_plans import host_bits, host_lanes, host_target, plan, plans  # noqa: E402

import anatune as at  # noqa: E402
from anatune.codegen.build import build  # noqa: E402
from anatune.codegen.call import CheckedCall  # noqa: E402
from anatune.errors import OperandError  # noqa: E402
from anatune.plan import GemmPlan, Storage, ThreadGrid  # noqa: E402
from anatune.workload import Matmul, matmul  # noqa: E402
from anatune.workload.matmul import LAID  # noqa: E402

TARGET, LANES = host_target(), host_lanes()
ROWS, HEADS, WIDTH = 9, 3, 5


def strided(w: Matmul, gap: int, margin: int, which: str = "abc") -> Matmul:
    """``w`` with those operands side by side, ``gap`` elements apart, that each product has."""
    row = {"a": w.m if w.trans_a else w.k, "b": w.k if w.trans_b else w.n, "c": w.n}
    laid: dict[str, Any] = {}
    for x in which:
        if x == "c" or not getattr(w, f"broadcast_{x}"):
            stride = row[x] + gap
            laid |= {f"ld{x}": w.batch * stride + margin, f"stride_{x}": stride}
    return replace(w, **{**dict.fromkeys(LAID), **laid})


def heads(x: Any, count: int = HEADS) -> Any:
    """[rows, heads * width] as [heads, rows, width], without a copy; numpy's and torch's."""
    rows, width = x.shape
    return x.reshape(rows, count, width // count).swapaxes(0, 1)


@cache
def call_of(w: Matmul, **more: Any) -> CheckedCall:
    p = plan_of(w, **more)
    return CheckedCall(p, build(p).function)


def plan_of(w: Matmul, b: Storage = Storage.PACKED, **more: Any) -> GemmPlan:
    p = plan(w.m, w.n, w.k, 4, LANES, LANES, target=TARGET, kc=8, a=Storage.PACKED, b=b,
             of={"batch": w.batch, "dtype": w.dtype}, **more)  # fmt: skip
    return replace(p, workload=w)


# Numerics.


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("trans_a", [False, True])
@pytest.mark.parametrize("trans_b", [False, True])
def test_transpositions_types_and_threads(trans_a, trans_b, dtype, threads):
    seed = (trans_a, trans_b, "fbi".index(dtype[0]), threads)
    m, n, k, gap, margin = np.random.default_rng(seed).integers((1, 1, 1, 0, 0), (40, 40, 30, 4, 9))
    w = matmul(m, n, k, batch=3, dtype=dtype, trans_a=trans_a, trans_b=trans_b, beta=1)
    p = plan_of(strided(w, int(gap), int(margin)), grid=ThreadGrid(batch=threads))
    assert_right(p)
    assert_right(p, normal(p.workload) if dtype != "int8" else None)


@settings(max_examples=10)
@given(
    plans(TARGET, bits=st.just(host_bits()), most=30, tallest=4),
    st.integers(2, 3), st.integers(0, 3), st.integers(0, 5),
    st.sampled_from(["abc", "a", "b", "c"]),
)  # fmt: skip
def test_any_plan(drawn, batch, gap, margin, which):
    """Storages, orders, grids, epilogues: whatever a plan may hold."""
    w = replace(drawn.workload, batch=batch, **dict.fromkeys(LAID))
    assert_right(replace(drawn, workload=strided(w, gap, margin, which)))


def test_products_that_lie_farther_apart_than_they_are_long():
    w = matmul(7, 2 * LANES + 3, 5, batch=3, stride_a=50, stride_b=300, stride_c=999, ldc=60)
    assert_right(plan_of(w))


def test_a_window_that_moves_on():
    """Products of A begin within each other: a signal's frames times one matrix."""
    signal = np.random.default_rng(0).integers(-4, 5, 4 * 8 + 2).astype(np.float32)
    w = matmul(4, 6, 8, batch=3, stride_a=1, broadcast_b=True)
    a = np.lib.stride_tricks.as_strided(signal, (3, 4, 8), (4, 32, 4))
    b = np.random.default_rng(1).integers(-4, 5, (8, 6)).astype(np.float32)
    np.testing.assert_array_equal(call_of(w)(a, b), a @ b)


# Calls.


def scores(**more: Any) -> Matmul:
    ld = {"lda": HEADS * WIDTH, "ldb": HEADS * WIDTH, "stride_a": WIDTH, "stride_b": WIDTH}
    return matmul(ROWS, ROWS, WIDTH, **{"batch": HEADS, "trans_b": True, **ld, **more})


def mixed(**more: Any) -> Matmul:
    ld = {"ldb": HEADS * WIDTH, "stride_b": WIDTH, "ldc": HEADS * WIDTH, "stride_c": WIDTH}
    return matmul(ROWS, WIDTH, ROWS, **{"batch": HEADS, **ld, **more})


def drawn(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(dtype)


def test_views_of_callers_are_taken_as_they_lie():
    q, k = drawn(ROWS, HEADS * WIDTH), drawn(ROWS, HEADS * WIDTH, seed=1)
    call = call_of(scores())
    wanted = heads(q) @ heads(k).swapaxes(1, 2)
    np.testing.assert_array_equal(call(heads(q), heads(k)), wanted)
    run = call.prepare(heads(q), heads(k))
    q[...] = 2  # a copy would not see it
    np.testing.assert_array_equal(run(), heads(q) @ heads(k).swapaxes(1, 2))
    q.flags.writeable = False
    np.testing.assert_array_equal(call(heads(q), heads(k)), run())


def test_results_lie_side_by_side():
    p, v = drawn(HEADS, ROWS, ROWS), drawn(ROWS, HEADS * WIDTH, seed=1)
    call, wanted = call_of(mixed()), p @ heads(v)
    c = call(p, heads(v))
    assert c.strides == heads(v).strides
    one = c.swapaxes(0, 1).reshape(ROWS, HEADS * WIDTH)
    assert np.shares_memory(one, c)
    np.testing.assert_array_equal(heads(one), wanted)
    out = np.full((ROWS, HEADS * WIDTH), np.nan, np.float32)
    view = heads(out)
    assert call(p, heads(v), out=view) is view
    np.testing.assert_array_equal(out, one)


def test_operands_and_result_may_be_parts_of_one_array():
    """Query and result in neighbouring columns of one array do not overlap; in the same they do."""
    across, w = HEADS * WIDTH, {"lda": 3 * HEADS * WIDTH, "stride_a": WIDTH}
    call = call_of(matmul(ROWS, WIDTH, WIDTH, batch=HEADS, ldc=3 * across, stride_c=WIDTH, **w))
    whole, b = drawn(ROWS, 3 * across), drawn(HEADS, WIDTH, WIDTH, seed=1)

    def third(number: int) -> np.ndarray:
        return heads(whole[:, number * across : (number + 1) * across])

    wanted = third(0) @ b
    call(third(0), b, out=third(2))
    np.testing.assert_array_equal(third(2), wanted)
    with pytest.raises(OperandError, match="^out: overlaps a; give memory of its own$"):
        call(third(0), b, out=third(0))


def test_epilogues_have_compact_operands_of_the_shape_of_c():
    w = mixed(epilogue="c * 2 + residual[m, n] + bias[n]", beta=1)
    p, v = drawn(HEADS, ROWS, ROWS), heads(drawn(ROWS, HEADS * WIDTH, seed=1))
    residual, bias = drawn(HEADS, ROWS, WIDTH, seed=2), drawn(WIDTH, seed=3)
    out = heads(drawn(ROWS, HEADS * WIDTH, seed=4))
    wanted = (p @ v + out) * 2 + residual + bias
    call_of(w)(p, v, residual, bias, out=out)
    np.testing.assert_array_equal(out, wanted)


def test_a_constant_b_is_packed_out_of_its_rows():
    w = mixed(constant_b=True)
    p, v = drawn(HEADS, ROWS, ROWS), heads(drawn(ROWS, HEADS * WIDTH, seed=1))
    call = call_of(w, b=Storage.PACKED_AHEAD)
    bound = call.bind(b=v)
    for c in (call(p, v), bound(p)):
        np.testing.assert_array_equal(c, p @ v)
        assert c.strides == v.strides


def refusal(call: CheckedCall, *operands: Any, **named: Any) -> str:
    with pytest.raises(OperandError) as caught:
        call(*operands, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_wrong_strides_are_told_what_is_needed():
    q, whole = heads(drawn(ROWS, HEADS * WIDTH)), np.zeros((HEADS, ROWS, WIDTH), np.float32)
    view = "pass x.reshape(9, 3, 5).transpose(1, 0, 2)"
    said = "strides (180, 20, 4) in bytes, (20, 60, 4) are needed as"
    assert refusal(call_of(scores()), q, whole) == f"b: {said} ldb = 15, stride_b = 5: {view}"
    p = drawn(HEADS, ROWS, ROWS)
    assert refusal(call_of(mixed()), p, q, out=whole) == (
        f"out: {said} ldc = 15, stride_c = 5: {view}"
    )
    gaps = call_of(mixed(ldb=20, stride_b=6))
    assert refusal(gaps, p, whole).endswith(
        "(24, 80, 4) are needed as ldb = 20, stride_b = 6: pass "
        "numpy.lib.stride_tricks.as_strided(x, (3, 9, 5), (24, 80, 4))"
    )
    reserved = call_of(matmul(ROWS, WIDTH, ROWS, batch=HEADS, stride_b=99))
    assert "are needed as stride_b = 99: pass numpy.lib" in refusal(reserved, p, whole)
    rows = call_of(matmul(ROWS, WIDTH, ROWS, batch=HEADS, ldb=7))
    assert refusal(rows, p, whole).endswith("ldb = 7: pass rows of 7 elements, sliced [..., :5]")


@pytest.mark.parametrize("trans", [False, True])
def test_the_workload_that_would_take_an_array_is_named(trans):
    q = heads(drawn(ROWS, HEADS * WIDTH))
    compact = call_of(matmul(ROWS, ROWS, WIDTH, batch=HEADS))
    b = q.swapaxes(1, 2)
    whole = np.zeros((HEADS, ROWS, WIDTH), np.float32)
    mend = "compact row-major memory is needed: pass numpy.ascontiguousarray(...) or make the " \
        "workload with "
    if trans:
        said = refusal(compact, whole, b)
        assert said == f"b: strides (20, 4, 60); {mend}trans_b, ldb=15, stride_b=5"
        w = matmul(ROWS, ROWS, WIDTH, batch=HEADS, trans_b=True, ldb=15, stride_b=5)
        np.testing.assert_array_equal(call_of(w)(whole + 1, q), (whole + 1) @ b)
    else:
        said = refusal(compact, q, b.copy())
        assert said == f"a: strides (20, 60, 4); {mend}lda=15, stride_a=5"
        w = matmul(ROWS, ROWS, WIDTH, batch=HEADS, lda=15, stride_a=5)
        np.testing.assert_array_equal(call_of(w)(q, b.copy()), q @ b)


def test_an_array_that_no_workload_takes_is_to_be_copied():
    compact = call_of(matmul(ROWS, ROWS, WIDTH, batch=HEADS))
    q, b = drawn(HEADS, ROWS, WIDTH), np.zeros((HEADS, WIDTH, ROWS), np.float32)
    for x in (q[::-1], np.broadcast_to(q[0], q.shape), np.repeat(q, 2, axis=2)[..., ::2]):
        assert refusal(compact, x, b).endswith("pass numpy.ascontiguousarray(...)")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_torch_views(dtype):
    torch = pytest.importorskip("torch")
    kind = getattr(torch, dtype)
    q, k = (torch.from_numpy(drawn(ROWS, HEADS * WIDTH, seed=s)).to(kind) for s in (0, 1))
    s = call_of(scores(dtype=dtype))(heads(q), heads(k))
    wanted = heads(q).float() @ heads(k).float().swapaxes(1, 2)
    assert torch.equal(s.float(), wanted.to(kind).float())
    small = s.clamp(-4, 4).contiguous()
    c = call_of(mixed(dtype=dtype))(small, heads(k))
    assert c.stride() == heads(k).stride() and c.dtype == kind
    out = torch.empty(ROWS, HEADS * WIDTH, dtype=kind)
    call_of(mixed(dtype=dtype))(small, heads(k), out=heads(out))
    assert torch.equal(heads(out), c)


def test_variable_lengths(here):
    """One kernel for every number of rows: heads in place, and side by side in the result."""
    s = at.Dim("s", 1, 40)
    across = HEADS * WIDTH
    laid = {"ldb": across, "stride_b": WIDTH, "ldc": across, "stride_c": WIDTH}
    w = at.matmul(s, WIDTH, s, batch=HEADS, **laid)
    r = at.tune(w, here, threads=1, budget=0, database=False, code_bytes=1)  # one variant
    for rows in (1, 7, 40):
        p, v = drawn(HEADS, rows, rows), heads(drawn(rows, across, seed=1))
        c = r(p, v)
        np.testing.assert_array_equal(c, p @ v)
        assert c.shape[1] == 1 or c.strides == v.strides


def test_tuned_and_exported(here, tmp_path):
    r = at.tune(mixed(), here, threads=1, budget=1, database=False)
    p, v = drawn(HEADS, ROWS, ROWS), heads(drawn(ROWS, HEADS * WIDTH, seed=1))
    loaded = at.load(r.export(tmp_path / "heads.so"))
    assert loaded.plan.workload == mixed()
    for c in (r(p, v), loaded(p, v)):
        np.testing.assert_array_equal(c, p @ v)
        assert c.strides == v.strides


def test_heads_beside_another_workload(here):
    both = at.fused([mixed(), at.matmul(ROWS, 7, WIDTH)])
    r = at.tune(both, here, threads=min(2, here.usable_threads), budget=0, database=False)
    p, v = drawn(HEADS, ROWS, ROWS), heads(drawn(ROWS, HEADS * WIDTH, seed=1))
    x, y = drawn(ROWS, WIDTH, seed=2), drawn(WIDTH, 7, seed=3)
    c, d = r(p, v, x, y)
    np.testing.assert_array_equal(c, p @ v)
    np.testing.assert_array_equal(d, x @ y)
    assert c.strides == v.strides
