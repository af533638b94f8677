"""A constant B: given once, packed once, kept in a file, and refused where it does not fit."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm")

from sample_plans import host_lanes, host_target, plan  # noqa: E402

from anatune.codegen.build import build  # noqa: E402
from anatune.codegen.call import CheckedCall  # noqa: E402
from anatune.errors import OperandError  # noqa: E402
from anatune.plan import Storage  # noqa: E402

M, N, K, LANES = 19, 37, 23, host_lanes()
generator = np.random.default_rng(0)
A = generator.standard_normal((M, K)).astype(np.float32)
B = generator.standard_normal((K, N)).astype(np.float32)


def kernel(b: Storage = Storage.PACKED_AHEAD, mr: int = 4) -> CheckedCall:
    p = plan(M, N, K, mr, LANES, LANES, target=host_target(), kc=9, b=b)
    return CheckedCall(p, build(p).function)


@pytest.fixture(scope="module")
def packing() -> CheckedCall:
    return kernel()


def test_bound_and_unbound_calls_agree(packing):
    bound = packing.bind(b=B)
    np.testing.assert_allclose(bound(A), A @ B, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(bound(A), packing(A, B))


def test_out_is_written_and_handed_back(packing):
    out = np.empty((M, N), np.float32)
    bound = packing.bind(b=B)
    assert bound(A, out=out) is out
    np.testing.assert_array_equal(out, bound(A))


def test_b_may_change_after_it_was_packed(packing):
    mine = B.copy()
    bound = packing.bind(b=mine)
    before = bound(A)
    mine[:] = 0
    np.testing.assert_array_equal(bound(A), before)


def test_packed_bytes_count_the_padding(packing):
    k_blocks, column_tiles = 3, -(-N // LANES)
    assert packing.bind(b=B).packed_bytes == 4 * k_blocks * 9 * column_tiles * LANES


def test_saved_and_loaded(packing, tmp_path):
    path = packing.bind(b=B).save(tmp_path / "weights.npz")
    np.testing.assert_array_equal(packing.load_bound(path)(A), packing(A, B))


def test_a_file_of_another_plan_is_refused(packing, tmp_path):
    path = packing.bind(b=B).save(tmp_path / "weights.npz")
    with pytest.raises(OperandError, match="packed for another plan; bind b anew"):
        kernel(mr=5).load_bound(path)


def test_a_damaged_file_is_refused(packing, tmp_path):
    path = packing.bind(b=B).save(tmp_path / "weights.npz")
    whole = dict(np.load(path))
    whole["b"][0, 0, 0, 0] += 1
    with open(path, "wb") as file:
        np.savez(file, **whole)
    with pytest.raises(OperandError, match="damaged: its checksum is wrong"):
        packing.load_bound(path)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x05\x06" + 18 * b"\0"])
def test_a_file_of_something_else_is_refused(packing, tmp_path, content):
    path = tmp_path / "weights.npz"
    path.write_bytes(content)
    with pytest.raises(OperandError, match="no saved B"):
        packing.load_bound(path)


def test_a_missing_file_is_refused(packing, tmp_path):
    with pytest.raises(OperandError, match="no saved B"):
        packing.load_bound(tmp_path / "nothing.npz")


def test_a_b_of_the_wrong_shape_is_refused(packing):
    with pytest.raises(OperandError, match=r"b: shape \(37, 23\), \(23, 37\) is needed"):
        packing.bind(b=B.T)


def test_only_a_constant_b_is_bound():
    with pytest.raises(OperandError, match="make the workload with constant_b=True"):
        kernel(b=Storage.PACKED).bind(b=B)


def test_out_must_not_overlap_a(packing):
    square = np.zeros((M * max(N, K),), np.float32)
    a, out = square[: M * K].reshape(M, K), square[: M * N].reshape(M, N)
    with pytest.raises(OperandError, match="out: overlaps a"):
        packing.bind(b=B)(a, out=out)
