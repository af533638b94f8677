"""Calls of a kernel: what is handed to its functions, what comes back, what is refused.

The compiled functions are stood in for by numpy, so no compiler is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("tvm_ffi")

from anatune.codegen.call import ENTRY, PACK_ENTRY, BoundCall, CheckedCall  # noqa: E402
from anatune.errors import OperandError  # noqa: E402
from anatune.plan import CacheBlocks, CodeTarget, GemmPlan, MicroTile, Storage  # noqa: E402
from anatune.workload import Matmul, matmul  # noqa: E402
from anatune.workload.dtypes import ELEMENT_BYTES, numpy_dtype  # noqa: E402

M, N, K = 5, 8, 3
BF16 = np.dtype(ml_dtypes.bfloat16)


def plan(w: Matmul, b: Storage = Storage.IN_PLACE) -> GemmPlan:
    return GemmPlan(
        workload=w, target=CodeTarget(isa="x86_64", mcpu="haswell"), b=b,
        tile=MicroTile(mr=1, nr=8, lanes=8), blocks=CacheBlocks(mc=w.m, nc=w.n, kc=w.k),
        arithmetic={"float64": "fma64", "float32": "fma32", "int32": "int32"}[w.accumulator],
    )  # fmt: skip


class Stand:
    """In the place of a compiled kernel: float64 sums, then whatever ``after`` makes of them."""

    def __init__(self, w: Matmul, after: Callable[..., Any] = lambda c, *_: c) -> None:
        self.w, self.after = w, after
        self.calls: list[str] = []

    def function(self, name: str) -> Callable[..., None]:
        return {ENTRY: self.main, PACK_ENTRY: self.pack}[name]

    def main(self, a: Any, b: Any, *rest: Any) -> None:
        self.calls.append(ENTRY)
        w, arrays = self.w, [np.from_dlpack(x) for x in (a, b, *rest)]
        dtypes = [t.dtype for t in w.operands.values()] + [str(w.out_dtype)]
        if arrays[1].ndim == 5:
            dtypes[1] = "float32"  # as it is packed
        x, y, *more, c = (z.view(numpy_dtype(d)) for z, d in zip(arrays, dtypes))
        if y.ndim == 5:
            y = y.ravel()[: w.k * w.n].reshape(w.k, w.n)
        if w.trans_a:
            x = x.swapaxes(-1, -2)
        sums = x.astype(float) @ y.astype(float)
        c[...] = self.after(w.alpha * sums + (w.beta * c.astype(float) if w.beta else 0), *more)

    def pack(self, b: Any, packed: Any) -> None:
        self.calls.append(PACK_ENTRY)
        b = np.from_dlpack(b).view(numpy_dtype(str(self.w.dtype_b)))
        np.from_dlpack(packed).ravel()[: b.size] = b.ravel().astype(np.float32)


def kernel(w: Matmul, b: Storage = Storage.IN_PLACE, after=lambda c, *_: c) -> CheckedCall:
    return CheckedCall(plan(w, b), Stand(w, after).function)


def drawn(*shape: int, dtype: str = "float32", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 5, shape).astype(numpy_dtype(dtype))


A, B = drawn(M, K), drawn(K, N, seed=1)
WANTED = A @ B


def refusal(call: Callable[..., Any], *operands: Any, **named: Any) -> str:
    with pytest.raises(OperandError) as caught:
        call(*operands, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("dtype", ELEMENT_BYTES)
def test_numpy_in_numpy_out(dtype):
    w = matmul(M, N, K, dtype=dtype)
    a, b = (x.astype(numpy_dtype(t.dtype)) for x, t in zip((A, B), w.operands.values()))
    c = kernel(w)(a, b)
    assert type(c) is np.ndarray and c.dtype == numpy_dtype(str(w.out_dtype))
    np.testing.assert_array_equal(c.astype(float), WANTED)
    out = np.empty((M, N), c.dtype)
    assert kernel(w)(a, b, out=out) is out
    np.testing.assert_array_equal(out.astype(float), WANTED)


@pytest.mark.parametrize("dtype", [d for d in ELEMENT_BYTES if d != "int16"])
def test_torch_in_torch_out(dtype):
    torch = pytest.importorskip("torch")
    w = matmul(M, N, K, dtype=dtype, dtype_b=dtype)
    a, b = (torch.from_numpy(x).to(getattr(torch, dtype)) for x in (A, B))
    c = kernel(w)(a, b)
    assert isinstance(c, torch.Tensor) and c.dtype == getattr(torch, str(w.out_dtype))
    assert (c.double().numpy() == WANTED).all()
    out = torch.empty_like(c)
    assert kernel(w)(a, b, out=out) is out and (out == c).all()
    numpy_out = np.empty((M, N), numpy_dtype(str(w.out_dtype)))
    assert kernel(w)(a, b, out=numpy_out) is numpy_out


def test_operands_of_an_epilogue_come_in_the_order_of_the_workload():
    w = matmul(M, N, K, epilogue="(c + bias[n]) * scale - residual[m, n]")
    bias, residual = drawn(N, seed=2), drawn(M, N, seed=3)
    call = kernel(w, after=lambda c, bias, scale, residual: (c + bias) * scale - residual)
    np.testing.assert_array_equal(call(A, B, bias, 2, residual), (WANTED + bias) * 2 - residual)
    assert refusal(call, A, B, bias) == "3 operands: 5 are needed: a, b, bias, scale, residual"
    assert refusal(call, A, B, residual, 2, bias) == "bias: shape (5, 8), (8,) is needed"


def test_batches_and_rows_that_lie_apart():
    w = matmul(M, N, K, batch=2, broadcast_b=True, lda=K + 2, ldc=N + 3, trans_a=False)
    a, out = drawn(2, M, K + 2)[..., :K], np.full((2, M, N + 3), np.nan, np.float32)
    c = kernel(w)(a, B, out=out[..., :N])
    np.testing.assert_array_equal(c, a @ B)
    assert np.isnan(out[..., N:]).all()
    new = kernel(w)(a, B)
    assert new.strides == c.strides
    np.testing.assert_array_equal(new, c)


def test_what_c_held_is_added_and_must_be_given():
    call = kernel(matmul(M, N, K, beta=2))
    assert refusal(call, A, B) == "out: missing; beta = 2 adds to what it holds"
    out = np.ones((M, N), np.float32)
    np.testing.assert_array_equal(call(A, B, out=out), WANTED + 2)


def test_out_overlaps_nothing():
    w = matmul(4, 4, 4, epilogue="c + residual[m, n]", constant_b=True)
    field = np.zeros((9, 4), np.float32)
    part, other, free = field[:4], field[3:7], np.zeros((4, 4), np.float32)
    for place, name in enumerate(("a", "b", "residual")):
        operands = [free] * 3
        operands[place] = part
        said = f"out: overlaps {name}; give memory of its own"
        assert refusal(kernel(w), *operands, out=other) == said
        assert refusal(kernel(w).prepare, *operands, out=other) == said
    assert refusal(kernel(w).bind(b=part), free, free, out=other).startswith("out: overlaps b")


def test_neighbours_in_the_rows_of_one_array_do_not_overlap():
    w = matmul(4, 4, 4, lda=8, ldc=8)
    field = drawn(4, 8)
    wanted = field[:, :4] @ np.eye(4, dtype=np.float32)
    kernel(w)(field[:, :4], np.eye(4, dtype=np.float32), out=field[:, 4:])
    np.testing.assert_array_equal(field[:, 4:], wanted)


def test_a_prepared_call_reads_its_arrays_anew():
    a, b = A.copy(), B.copy()
    run = kernel(matmul(M, N, K)).prepare(a, b)
    c = run()
    np.testing.assert_array_equal(c, WANTED)
    a *= 2
    assert run() is c
    np.testing.assert_array_equal(c, 2 * WANTED)
    out = np.empty((M, N), np.float32)
    assert kernel(matmul(M, N, K)).prepare(a, b, out=out)() is out


def test_a_prepared_call_keeps_its_arrays_alive():
    run = kernel(matmul(M, N, K)).prepare(A.copy(), B.copy())
    np.testing.assert_array_equal(run(), WANTED)
    torch = pytest.importorskip("torch")
    tensors = [torch.from_numpy(x.copy()).bfloat16() for x in (A, B)]
    run = kernel(matmul(M, N, K, dtype="bfloat16")).prepare(*tensors)
    del tensors
    assert (run().double().numpy() == WANTED).all()


AHEAD = Storage.PACKED_AHEAD
TYPES = ["float32", "bfloat16", "float16"]


def packing(dtype: str = "float32", **more: Any) -> CheckedCall:
    return kernel(matmul(M, N, K, dtype=dtype, constant_b=True, **more), AHEAD)


@pytest.mark.parametrize("dtype", TYPES)
def test_b_is_packed_once(dtype):
    stand = Stand(matmul(M, N, K, dtype=dtype, constant_b=True))
    call = CheckedCall(plan(stand.w, AHEAD), stand.function)
    a, b = A.astype(numpy_dtype(dtype)), B.astype(numpy_dtype(dtype))
    bound = call.bind(b=b)
    assert isinstance(bound, BoundCall) and bound.packing_s > 0
    assert bound.packed_bytes == 4 * K * N
    for _ in range(2):
        np.testing.assert_array_equal(bound(a).astype(float), WANTED)
    np.testing.assert_array_equal(bound.prepare(a)().astype(float), WANTED)
    assert stand.calls == [PACK_ENTRY, ENTRY, ENTRY, ENTRY]
    b[:] = 0
    np.testing.assert_array_equal(bound(a).astype(float), WANTED)
    assert not call(a, b).any() and stand.calls[-2:] == [PACK_ENTRY, ENTRY]


def test_a_bound_call_takes_the_rest_of_the_operands():
    w = matmul(M, N, K, constant_b=True, epilogue="c + bias[n]", beta=1)
    bound = kernel(w, AHEAD, after=lambda c, bias: c + bias).bind(b=B)
    out, bias = np.ones((M, N), np.float32), drawn(N, seed=2)
    np.testing.assert_array_equal(bound(A, bias, out=out), WANTED + 1 + bias)
    assert refusal(bound, A, B, bias, out=out) == "3 operands: 2 are needed: a, bias"
    assert refusal(bound, A, bias).startswith("out: missing")


@pytest.mark.parametrize("storage", [AHEAD, Storage.IN_PLACE])
@pytest.mark.parametrize("dtype", TYPES)
def test_b_survives_a_file(tmp_path, dtype, storage):
    w = matmul(M, N, K, dtype=dtype, constant_b=True, ldb=N + 1)
    call, a = kernel(w, storage), A.astype(numpy_dtype(dtype))
    bound = call.bind(b=drawn(K, N + 1, dtype=dtype)[:, :N])
    loaded = call.load_bound(bound.save(tmp_path / "b.npz"))
    np.testing.assert_array_equal(loaded(a), bound(a))
    assert loaded.packed_bytes == bound.packed_bytes and loaded.packing_s == 0


def test_a_file_of_another_plan_is_refused(tmp_path):
    path = packing("bfloat16").bind(b=B.astype(BF16)).save(tmp_path / "b.npz")
    assert refusal(packing().load_bound, path).endswith("packed for another plan; bind b anew")


def test_a_damaged_file_is_refused(tmp_path):
    path = packing().bind(b=B).save(tmp_path / "b.npz")
    whole = dict(np.load(path))
    whole["b"].ravel()[0] += 1
    with open(path, "wb") as file:
        np.savez(file, **whole)
    assert refusal(packing().load_bound, path).endswith("damaged: its checksum is wrong")


@pytest.mark.parametrize("content", [None, b"", b"no archive", b"PK\x05\x06" + 18 * b"\0"])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    path = tmp_path / "b.npz"
    if content is not None:
        path.write_bytes(content)
    assert "no B that save wrote" in refusal(packing().load_bound, path)


def test_a_folder_that_is_not_there(tmp_path):
    bound = packing().bind(b=B)
    assert "cannot be written" in refusal(bound.save, tmp_path / "nowhere" / "b.npz")


def test_only_a_constant_b_is_bound():
    said = "bind: b is not constant; make the workload with constant_b=True"
    assert refusal(kernel(matmul(M, N, K)).bind, b=B) == said
    assert refusal(packing().bind, b=B.T).startswith("b: shape (8, 3), (3, 8) is needed")


def test_wrong_operands_reach_no_kernel():
    stand = Stand(matmul(M, N, K))
    call = CheckedCall(plan(stand.w), stand.function)
    for operands in ((A,), (A, B, B), (A, A), (A.astype(float), B), (A, np.asfortranarray(B))):
        refusal(call, *operands)
    assert not stand.calls
