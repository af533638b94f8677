"""Compiled kernels called with what callers have: any type, rows apart, scalars, a packed B."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm")

from sample_plans import host_lanes, host_target, plan  # noqa: E402

from anatune.codegen.build import build  # noqa: E402
from anatune.codegen.call import CheckedCall  # noqa: E402
from anatune.errors import OperandError  # noqa: E402
from anatune.measure import verify  # noqa: E402
from anatune.plan import GemmPlan, Storage  # noqa: E402
from anatune.workload.dtypes import ELEMENT_BYTES  # noqa: E402

M, N, K, LANES = 19, 37, 23, host_lanes()
AHEAD = Storage.PACKED_AHEAD


def sample(b: Storage = Storage.PACKED, mr: int = 4, **of: Any) -> GemmPlan:
    """Several blocks along k, edges everywhere; ``of`` are options of the workload."""
    return plan(
        M, N, K, mr, LANES, LANES, target=host_target(), kc=12, a=Storage.PACKED, b=b, of=of
    )


def kernel(p: GemmPlan) -> CheckedCall:
    return CheckedCall(p, build(p).function)


def operands(p: GemmPlan) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """What a call takes, and the same by name."""
    inputs = verify.operands(p.workload)
    return [inputs[name] for name in p.workload.operands], inputs


@pytest.fixture(scope="module")
def packing() -> CheckedCall:
    return kernel(sample(AHEAD))


@pytest.mark.parametrize("storage", [Storage.PACKED, AHEAD], ids=lambda s: s.value)
@pytest.mark.parametrize("dtype", ELEMENT_BYTES)
def test_every_type(dtype, storage):
    p = sample(storage, dtype=dtype, epilogue="(c + bias[n]) * scale")
    given, inputs = operands(p)
    call = kernel(p)
    c = call(*given)
    verify.check(p.workload, inputs, c)
    if storage is AHEAD:
        a, b, *rest = given
        np.testing.assert_array_equal(call.bind(b=b)(a, *rest), c)
    np.testing.assert_array_equal(call.prepare(*given)(), c)


def test_scalars_as_numbers():
    p = sample(epilogue="clip(c, low, high)")
    given, _ = operands(p)
    c = kernel(p)(*given[:2], -0.5, 1)
    assert c.min() == -0.5 and c.max() == 1


def test_batches_of_rows_that_lie_apart_are_added_up():
    p = sample(batch=3, broadcast_b=True, lda=30, ldb=40, ldc=41, alpha=2, beta=1)
    given, inputs = operands(p)
    c = inputs["out"].copy()
    out = np.zeros((3, M, 41), np.float32)[..., :N]
    out[...] = c
    assert kernel(p)(*given, out=out) is out
    verify.check(p.workload, inputs, out)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_torch(dtype):
    torch = pytest.importorskip("torch")
    p = sample(AHEAD, dtype=dtype)
    given, inputs = operands(p)
    a, b = (torch.from_numpy(x.astype(float)).to(getattr(torch, dtype)) for x in given)
    call = kernel(p)
    c = call(a, b)
    assert c.dtype == getattr(torch, str(p.workload.out_dtype))
    verify.check(p.workload, inputs, c.double().numpy())
    assert torch.equal(call.bind(b=b)(a, out=torch.empty_like(c)), c)


def test_b_may_change_after_it_was_packed(packing):
    (a, b), _ = operands(packing._plan)
    mine = b.copy()
    bound = packing.bind(b=mine)
    before = bound(a)
    mine[:] = 0
    np.testing.assert_array_equal(bound(a), before)
    np.testing.assert_array_equal(before, packing(a, b))


def test_packing_says_what_it_cost(packing):
    """Two blocks along k, the last one padded, and whole tiles of columns."""
    bound = packing.bind(b=operands(packing._plan)[0][1])
    assert bound.packed_bytes == 4 * 2 * 12 * -(-N // LANES) * LANES
    assert 0 < bound.packing_s < 60


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_saved_and_loaded(dtype, tmp_path):
    p = sample(AHEAD, dtype=dtype)
    (a, b), _ = operands(p)
    call = kernel(p)
    path = call.bind(b=b).save(tmp_path / "weights.npz")
    np.testing.assert_array_equal(call.load_bound(path)(a), call(a, b))


def test_a_file_of_another_plan_is_refused(packing, tmp_path):
    path = packing.bind(b=operands(packing._plan)[0][1]).save(tmp_path / "weights.npz")
    with pytest.raises(OperandError, match="packed for another plan; bind b anew"):
        kernel(sample(AHEAD, mr=5)).load_bound(path)
