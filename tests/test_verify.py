"""The check that a kernel must pass: exact operands, and every kind of wrong result found."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from anatune.codegen.operands import LINE_BYTES
from anatune.errors import VerificationError
from anatune.measure import inputs as making
from anatune.measure import verify
from anatune.workload import Matmul, matmul
from anatune.workload.dtypes import ELEMENT_BYTES, INTEGER_RANGE, is_float, numpy_dtype
from anatune.workload.reference import error_bound, reference, store

EXTENTS = st.integers(1, 60)
SHAPES = st.builds(matmul, EXTENTS, EXTENTS, EXTENTS)
LONG_K = 5000
MIXED = [("uint8", "int8"), ("float32", "int8"), ("int16", "int8")]
PAIRS = [(d, d) for d in ELEMENT_BYTES] + MIXED
EPILOGUES = ["", "bias+relu", "gelu", "(c + residual[m, n]) * scale", "c * row[m] - bias[n]"]


@st.composite
def workloads(draw, most: int = 40) -> Matmul:
    """Any types, layouts and epilogues of small products."""
    a, b = draw(st.sampled_from(PAIRS))
    m, n, k = (draw(st.integers(1, most)) for _ in "mnk")
    options: dict[str, Any] = {
        name: draw(st.booleans()) for name in ("trans_a", "trans_b", "broadcast_a", "broadcast_b")
    }
    if draw(st.booleans()):
        options.update(lda=max(m, k) + 3, ldb=max(k, n) + 1, ldc=n + 2)
    if draw(st.booleans()):
        options.update(alpha=3, beta=draw(st.sampled_from([1, -2])))
    options["batch"] = draw(st.sampled_from([1, 1, 3]))
    options["out_dtype"] = draw(st.sampled_from([None, None, "int8", "bfloat16", "float32"]))
    return matmul(
        m, n, k, dtype=a, dtype_b=b, epilogue=draw(st.sampled_from(EPILOGUES)), **options
    )


@pytest.fixture(params=["all rows", "some rows"])
def size(request, monkeypatch) -> str:
    """Both ways of checking: the second is for large products, so let every product be large."""
    if request.param == "some rows":
        make_large(monkeypatch, 2)
    return request.param


def make_large(patch: pytest.MonkeyPatch, rows: int) -> None:
    patch.setattr(verify, "FULL_CHECK_FLOPS", 0)
    patch.setattr(verify, "SAMPLED_ROWS", rows)


def right(w: Matmul, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Inputs and C as a right kernel would leave it."""
    given_ = verify.operands(w, seed)
    return given_, store(w, reference(w, given_, given_.get("out")))


def summed(w: Matmul, given_: dict[str, np.ndarray], order: np.ndarray) -> np.ndarray:
    """Sums one product after another in the accumulator's own type."""
    a, b = (x.astype(w.accumulator) for x in (given_["a"], given_["b"]))
    a = a.swapaxes(-1, -2) if w.trans_a else a
    b = b.swapaxes(-1, -2) if w.trans_b else b
    total = np.zeros(w.output.shape, w.accumulator)
    for p in order:
        total += a[..., :, p, None] * b[..., p, None, :]
    return total


@given(workloads(), st.integers(0, 99))
def test_every_order_of_the_sum_gives_the_same(w, seed):
    plain = dataclasses.replace(w, epilogue="", alpha=1.0, beta=0.0, out_dtype=w.accumulator)
    order = np.random.default_rng(seed).permutation(w.k)
    for form in (plain, w):  # other operands where C is a function of the sums
        given_ = verify.operands(form, seed)
        total = summed(plain, given_, order)
        np.testing.assert_array_equal(total, reference(plain, given_))
    verify.check(plain, verify.operands(plain), summed(plain, verify.operands(plain), order))


@given(workloads())
def test_operands_lie_as_the_workload_says(w):
    given_ = verify.operands(w)
    tensors = {**w.operands, **({"out": w.output} if w.beta else {})}
    assert list(given_) == list(tensors)
    for name, tensor in tensors.items():
        array = given_[name]
        assert array.shape == tensor.shape and array.dtype == numpy_dtype(tensor.dtype)
        assert array.strides == tuple(array.itemsize * step for step in tensor.strides)
        assert array.ctypes.data % LINE_BYTES == 0
        assert len(array.shape) < 2 or not making.strayed(array)
        if is_float(tensor.dtype):
            assert (np.abs(array.astype(float)) <= 1).all()
        assert name in ("a", "b", "out") or array.all()


@given(st.integers(1, 2**31 - 1), st.sampled_from(PAIRS))
def test_sums_are_exact_where_they_are_said_to_be(k, pair):
    w = matmul(1, 1, k, dtype=pair[0], dtype_b=pair[1])
    bits = making.operand_bits(w)
    assert 1 <= bits <= making.MAX_OPERAND_BITS
    if w.accumulator == "int32":
        assert making.sums_are_exact(w)
        return
    holds = {"float32": 2**24, "float64": 2**53}[w.accumulator]
    assert not making.sums_are_exact(w) or k * 2 ** (2 * bits) <= holds
    assert making.sums_are_exact(w) or k * 4 > holds / 2


def test_integers_take_their_whole_range():
    for dtype, (low, high) in INTEGER_RANGE.items():
        a = verify.operands(matmul(500, 500, 500, dtype=dtype, dtype_b=dtype))["a"].astype(float)
        span = high - low
        assert a.min() < low + 0.01 * span and a.max() > high - 0.01 * span


@pytest.mark.parametrize("k", [16, 100, 1000])
@pytest.mark.parametrize("epilogue", ["", "requantise", "relu", "clip"])
def test_narrow_integers_do_not_all_saturate(k, epilogue):
    w = matmul(60, 60, k, dtype="int8", out_dtype="int8", epilogue=epilogue)
    _, c = right(w)
    values = np.unique(c.astype(int), return_counts=True)[1]
    assert len(values) > 50 and values.max() < 0.7 * c.size


def test_sigmoid_does_not_saturate_everywhere():
    _, c = right(matmul(60, 60, 4000, epilogue="tanh"))
    assert 0.05 < (np.abs(c) < 0.9).mean() < 0.95


def test_the_bounds_of_a_range_ascend():
    for seed in range(9):
        given_ = verify.operands(matmul(3, 3, 3, epilogue="clip(c, low, high)"), seed)
        assert given_["low"] <= given_["high"]


def test_operands_depend_on_the_seed_alone():
    w = matmul(9, 8, 7)
    for name, array in verify.operands(w).items():
        np.testing.assert_array_equal(array, verify.operands(w)[name])
        assert (array != verify.operands(w, seed=5)[name]).any()
    assert (verify.operands(w)["a"].ravel()[:8] != verify.operands(w)["b"].ravel()[:8]).any()


@settings(deadline=None)
@given(workloads(), st.booleans())
def test_a_right_result_passes(w, large):
    given_, c = right(w)
    with pytest.MonkeyPatch.context() as patch:
        if large:
            make_large(patch, 2)
        verify.check(w, given_, c)


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 1, 5), (1, 7, 5), (40, 33, 17), (3, 4, LONG_K)])
def test_a_right_result_of_any_shape_passes(size, shape):
    verify.check(matmul(*shape), *right(matmul(*shape)))


@given(SHAPES, st.data())
def test_one_wrong_element_is_found_and_named(w, data):
    given_, c = right(w)
    i, j = data.draw(st.integers(0, w.m - 1)), data.draw(st.integers(0, w.n - 1))
    before = c[i, j]
    c[i, j] += np.float32(2.0 ** (-2 * making.operand_bits(w)))  # the least that can differ
    assume(c[i, j] != before)
    with pytest.raises(VerificationError) as caught:
        verify.check(w, given_, c)
    said = f"c[{i}, {j}] = {c[i, j]}: the float64 reference is {float(before)}"
    assert str(caught.value) == said


@given(workloads(), st.data())
def test_one_wrong_element_of_anything_is_found_and_named(w, data):
    given_, c = right(w)
    place = tuple(data.draw(st.integers(0, extent - 1)) for extent in c.shape)
    before = c[place]
    c[place] = 77 if before != 77 else 11  # no float's bound is as wide
    wide = np.abs(float(c[place]) - float(before)) > 1 + 2e-2 * abs(float(before))
    assume(wide)
    bound = error_bound(w, given_, given_.get("out"))
    assume(np.isfinite(bound[place]))  # sums beyond int32 wrap; what relu makes of them is open
    with pytest.raises(VerificationError) as caught:
        verify.check(w, given_, c)
    assert str(caught.value).startswith(f"c[{', '.join(map(str, place))}] = {c[place]}: the ")


@given(
    SHAPES,
    st.sampled_from(["float32", "float64", "int8", "int16", "int32"]),
    st.booleans(), st.booleans(), st.data(),
)  # fmt: skip
def test_one_wrong_element_is_found_in_a_large_product(w, dtype, trans_a, trans_b, data):
    w = matmul(w.m, w.n, w.k, dtype=dtype, trans_a=trans_a, trans_b=trans_b)
    given_, c = right(w)
    i, j = data.draw(st.integers(0, w.m - 1)), data.draw(st.integers(0, w.n - 1))
    c[i, j] += 1
    with pytest.MonkeyPatch.context() as patch:
        make_large(patch, 1)
        with pytest.raises(VerificationError, match=rf"^c\[{i}, (:|{j})\]"):
            verify.check(w, given_, c)


@pytest.mark.parametrize("product", [0, 6])
def test_the_ends_of_a_large_batch_are_checked(monkeypatch, product):
    make_large(monkeypatch, 1)
    w = matmul(5, 6, 7, batch=7, epilogue="c + bias[n]")
    given_, c = right(w)
    verify.check(w, given_, c)
    c[product, 0, 3] += 1
    with pytest.raises(VerificationError, match=rf"^c\[{product}, 0, 3\]"):
        verify.check(w, given_, c)


def test_parts_of_a_batch_are_named_by_their_own_numbers(monkeypatch):
    monkeypatch.setattr(verify, "CHECKED_ELEMENTS", 2 * 5 * 7)
    w = matmul(5, 6, 7, batch=7, broadcast_b=True)
    given_, c = right(w)
    c[5, 2, 1] += 1
    with pytest.raises(VerificationError, match=r"^c\[5, 2, 1\]"):
        verify.check(w, given_, c)


def product_that_counts(given_: dict[str, np.ndarray]) -> tuple[int, int]:
    """Subscripts (i, p) of an element of A that is not 0 and meets an element of B that is not."""
    return next((i, p) for i, p in np.argwhere(given_["a"]) if given_["b"][p].any())


@pytest.mark.parametrize("k", [LONG_K, 50])
@pytest.mark.parametrize("dtype", ["float32", "int8", "bfloat16"])
@pytest.mark.parametrize("epilogue", ["", "c + bias[n]", "c * scale + residual[m, n]"])
def test_a_missing_product_is_found(k, dtype, epilogue):
    """The bound of any order of rounded sums would let it pass at a large k."""
    out_dtype = "int32" if dtype == "int8" and not epilogue else "float32"
    w = matmul(19, 23, k, dtype=dtype, out_dtype=out_dtype, epilogue=epilogue)
    given_, _ = right(w)
    i, p = product_that_counts(given_)
    forgetful = {**given_, "a": given_["a"].copy()}
    forgetful["a"][i, p] = 0
    with pytest.raises(VerificationError):
        verify.check(w, given_, store(w, reference(w, forgetful)))


def test_a_product_too_many_is_found(size):
    w = matmul(19, 23, 50)
    given_, c = right(w)
    i, p = product_that_counts(given_)
    c[i] += given_["a"][i, p] * given_["b"][p]
    with pytest.raises(VerificationError):
        verify.check(w, given_, c)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_was_not_written_is_named(size, value):
    w = matmul(19, 23, 50)
    given_, c = right(w)
    c[11, 5] = value
    with pytest.raises(VerificationError) as caught:
        verify.check(w, given_, c)
    assert str(caught.value) == f"c[11, 5] = {value}: not written or not finite"


def test_what_an_epilogue_did_not_write_is_named(size):
    w = matmul(19, 23, 50, epilogue="relu")
    given_, c = right(w)
    c[11, 5] = np.nan
    with pytest.raises(VerificationError, match=r"^c\[11, 5\] = nan: the float64 reference is "):
        verify.check(w, given_, c)


def test_what_cannot_be_known_may_be_anything():
    w = matmul(9, 9, 9, epilogue="sqrt(c)")
    given_, c = right(w)
    assert np.isnan(c).any() and not np.isnan(c).all()
    verify.check(w, given_, c)
    c[np.isfinite(c)] += 1
    with pytest.raises(VerificationError):
        verify.check(w, given_, c)


def test_swapped_rows_are_found(size):
    w = matmul(19, 23, 50)
    given_, c = right(w)
    c[[4, 5]] = c[[5, 4]]
    with pytest.raises(VerificationError):
        verify.check(w, given_, c)


def test_errors_that_add_up_to_nothing_are_found(size):
    """The sum of a row stays the same: a check by row sums would not see it."""
    w = matmul(19, 23, 50)
    given_, c = right(w)
    c[7, 3] += 0.5
    c[7, 9] -= 0.5
    with pytest.raises(VerificationError):
        verify.check(w, given_, c)


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_what_was_there_before_counts_only_with_beta(size, beta):
    given_, c = right(matmul(19, 23, 50, beta=1.0))
    w = matmul(19, 23, 50, beta=beta)
    before = given_ if beta else {"a": given_["a"], "b": given_["b"]}
    if beta:
        verify.check(w, before, c)
    else:
        with pytest.raises(VerificationError):
            verify.check(w, before, c)


def test_a_write_around_c_is_seen():
    w = matmul(3, 4, 5, batch=2, ldc=7)
    c = making.untouched(w.output)
    c[...] = 0
    assert not making.strayed(c)
    flat = c.base.view(np.uint8)
    start = c.ctypes.data - flat.ctypes.data
    for place in (start - 1, start + 4 * 4, start + c.strides[0] - 1, start + 5 * 28 + 16):
        if place < 0:
            continue
        making.forget(c)
        c[...] = 0
        flat[place] = 0
        assert making.strayed(c), place
