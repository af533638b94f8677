"""Matrix products as workloads: what is refused, what is accepted, the reference and its bound."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anatune.errors import WorkloadError
from anatune.workload import Matmul, matmul

MAX = 2**31 - 1


@pytest.mark.parametrize("name", ["m", "n", "k"])
@pytest.mark.parametrize(
    "value", [0, -1, 1.5, 2.0, True, "3", 2**31, None, 10**40, float("nan"), np.float32(3), [3]]
)
def test_bad_extents(name, value):
    extents = {"m": 3, "n": 4, "k": 5} | {name: value}
    with pytest.raises(WorkloadError) as caught:
        matmul(**extents)
    assert str(caught.value) == f"{name} = {value!r}: an extent is a whole number from 1 to {MAX}"


@pytest.mark.parametrize("value", [1, MAX, np.int32(7), np.int64(7), np.uint8(7)])
def test_good_extents_become_int(value):
    made = matmul(value, value, value)
    assert made == Matmul(m=int(value), n=int(value), k=int(value))
    assert {type(e) for e in (made.m, made.n, made.k)} == {int}


@pytest.mark.parametrize("dtype", ["float32", np.float32, np.dtype("float32")])
def test_good_dtypes_are_one(dtype):
    assert matmul(3, 4, 5, dtype=dtype) == matmul(3, 4, 5)
    assert hash(matmul(3, 4, 5, dtype=dtype)) == hash(matmul(3, 4, 5))


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        ("float63", "float63"),
        ("", ""),
        (np.complex64, "complex64"),
        (np.dtype("V3"), "|V3"),
        (3, "3"),
        (None, "None"),
        (">f4", ">f4"),
    ],
)
def test_bad_dtypes(dtype, name):
    with pytest.raises(WorkloadError) as caught:
        matmul(3, 4, 5, dtype=dtype)
    message = str(caught.value)
    assert message.startswith(f"dtype = {name!r}: kernels are generated for float32")
    assert "\n" not in message


def test_sizes():
    w = matmul(3, 4, 5)
    assert w.flops == 2 * 3 * 4 * 5
    assert w.operands == {"a": (3, 5), "b": (5, 4)} and w.output == (3, 4)
    assert w.operand_bytes == 4 * (15 + 20 + 12)
    assert str(w) == "matmul 3x4x5 float32"


def test_flops_do_not_overflow():
    assert matmul(MAX, MAX, MAX).flops == 2 * MAX**3
    assert matmul(np.int32(MAX), np.int32(MAX), np.int32(MAX)).flops == 2 * MAX**3


def operands(w: Matmul, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return tuple(generator.standard_normal(s).astype(w.dtype) for s in w.operands.values())


EXTENTS = st.integers(1, 40)
SHAPES = st.builds(matmul, EXTENTS, EXTENTS, EXTENTS)
SEEDS = st.integers(0, 99)


@given(SHAPES, SEEDS)
def test_reference_is_the_product_in_float64(w, seed):
    a, b = operands(w, seed)
    want = np.einsum("ip,pj->ij", a.astype(float), b.astype(float))
    got = w.reference(a, b)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)
    np.testing.assert_allclose(w.reference(a, b, slice(1, 3)), want[1:3], rtol=0, atol=1e-12)


@given(SHAPES, SEEDS, st.integers(1, 500))
def test_reference_in_parts_is_the_reference(w, seed, elements):
    a, b = (np.round(x * 16) for x in operands(w, seed))  # whole numbers: every order gives one sum
    whole = w.reference(a, b)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[Matmul.__module__], "WIDENED_ELEMENTS", elements)
        np.testing.assert_array_equal(w.reference(a, b), whole)


@given(SHAPES, SEEDS)
def test_float32_sums_stay_within_the_bound(w, seed):
    a, b = operands(w, seed)
    total = np.zeros(w.output, np.float32)
    for p in range(w.k):
        total += a[:, p, None] * b[p]
    error = np.abs(total - w.reference(a, b))
    assert (error <= w.error_bound(a, b)).all()
    assert (
        w.error_bound(a, b) <= 1e-4 * (np.abs(a) @ np.abs(b)) + 1e-30
    ).all()  # and it means something
