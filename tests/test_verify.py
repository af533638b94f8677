"""The check that a kernel must pass: exact operands, and every kind of wrong result found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from anatune.errors import VerificationError
from anatune.measure import verify
from anatune.workload import Matmul, matmul

EXTENTS = st.integers(1, 60)
SHAPES = st.builds(matmul, EXTENTS, EXTENTS, EXTENTS)
LONG_K = 5000


@pytest.fixture(params=["all rows", "some rows"])
def size(request, monkeypatch) -> str:
    """Both ways of checking: the second is for large products, so let every product be large."""
    if request.param == "some rows":
        monkeypatch.setattr(verify, "FULL_CHECK_FLOPS", 0)
        monkeypatch.setattr(verify, "SAMPLED_ROWS", 2)
    return request.param


def computed(w: Matmul) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Inputs and the product as a right kernel would leave it, summed in float32."""
    inputs = verify.operands(w)
    return inputs, inputs["a"] @ inputs["b"]


@given(SHAPES, st.integers(0, 99))
def test_every_order_of_the_sum_gives_the_same(w, seed):
    inputs = verify.operands(w, seed)
    a, b = inputs["a"], inputs["b"]
    want = w.reference(a, b)
    assert a.dtype == b.dtype == np.float32 and np.abs(a).max() <= 1 and np.abs(b).max() <= 1
    total = np.zeros(w.output, np.float32)
    for p in np.random.default_rng(seed).permutation(w.k):
        total += a[:, p, None] * b[p]
    np.testing.assert_array_equal(total, want)


@given(st.integers(1, 2**31 - 1))
def test_sums_are_exact_where_they_are_said_to_be(k):
    bits = verify.operand_bits(matmul(1, 1, k))
    assert 1 <= bits <= verify.MAX_OPERAND_BITS
    largest_sum = k * 2 ** (2 * bits)
    exact = verify._tolerance(matmul(1, 1, k), 1.0) == 0
    assert not exact or largest_sum <= 2**24
    assert exact == (k < 2**22) or largest_sum <= 2**24


def test_operands_depend_on_the_seed_alone():
    w = matmul(9, 8, 7)
    for name, array in verify.operands(w).items():
        np.testing.assert_array_equal(array, verify.operands(w)[name])
        assert (array != verify.operands(w, seed=5)[name]).any()
    assert (verify.operands(w)["a"].ravel()[:8] != verify.operands(w)["b"].ravel()[:8]).any()


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 1, 5), (1, 7, 5), (40, 33, 17), (3, 4, LONG_K)])
def test_a_right_result_passes(size, shape):
    w = matmul(*shape)
    inputs, c = computed(w)
    verify.check(w, inputs, c)


@given(SHAPES, st.data())
def test_one_wrong_element_is_found_and_named(w, data):
    inputs, c = computed(w)
    i, j = data.draw(st.integers(0, w.m - 1)), data.draw(st.integers(0, w.n - 1))
    right = c[i, j]
    c[i, j] += np.float32(2.0 ** (-2 * verify.operand_bits(w)))  # the least that can differ
    assume(c[i, j] != right)
    with pytest.raises(VerificationError) as caught:
        verify.check(w, inputs, c)
    assert str(caught.value) == f"c[{i}, {j}] = {c[i, j]}: the float64 reference is {float(right)}"


@given(SHAPES, st.data())
def test_one_wrong_element_is_found_in_a_large_product(w, data):
    inputs, c = computed(w)
    i, j = data.draw(st.integers(0, w.m - 1)), data.draw(st.integers(0, w.n - 1))
    c[i, j] += 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify, "FULL_CHECK_FLOPS", 0)
        patch.setattr(verify, "SAMPLED_ROWS", 1)
        with pytest.raises(VerificationError, match=rf"^c\[{i}, (:|{j})\]"):
            verify.check(w, inputs, c)


def product_that_counts(inputs: dict[str, np.ndarray]) -> tuple[int, int]:
    """Subscripts (i, p) of an element of A that is not 0 and meets an element of B that is not."""
    return next((i, p) for i, p in np.argwhere(inputs["a"]) if inputs["b"][p].any())


def test_a_missing_product_is_found(size):
    w = matmul(19, 23, LONG_K)
    inputs, _ = computed(w)
    i, p = product_that_counts(inputs)
    forgetful = inputs["a"].copy()
    forgetful[i, p] = 0
    with pytest.raises(VerificationError):
        verify.check(w, inputs, forgetful @ inputs["b"])


def test_a_product_too_many_is_found(size):
    w = matmul(19, 23, 50)
    inputs, c = computed(w)
    i, p = product_that_counts(inputs)
    c[i] += inputs["a"][i, p] * inputs["b"][p]
    with pytest.raises(VerificationError):
        verify.check(w, inputs, c)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_was_not_written_is_named(size, value):
    w = matmul(19, 23, 50)
    inputs, c = computed(w)
    c[11, 5] = value
    with pytest.raises(VerificationError) as caught:
        verify.check(w, inputs, c)
    assert str(caught.value) == f"c[11, 5] = {value}: not written or not finite"


def test_swapped_rows_are_found(size):
    w = matmul(19, 23, 50)
    inputs, c = computed(w)
    c[[4, 5]] = c[[5, 4]]
    with pytest.raises(VerificationError):
        verify.check(w, inputs, c)


def test_errors_that_add_up_to_nothing_are_found(size):
    """The sum of a row stays the same: a check by row sums would not see it."""
    w = matmul(19, 23, 50)
    inputs, c = computed(w)
    c[7, 3] += 0.5
    c[7, 9] -= 0.5
    with pytest.raises(VerificationError):
        verify.check(w, inputs, c)


def test_what_was_there_before_must_not_count(size):
    w = matmul(19, 23, 50)
    inputs, c = computed(w)
    with pytest.raises(VerificationError):
        verify.check(w, inputs, 2 * c)  # a kernel that adds to C instead of writing it
