"""Matrix products as workloads: what is refused, what stands for the usual, where elements lie."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from sample_plans import EPILOGUES, workloads

from anatune.errors import WorkloadError
from anatune.workload import Matmul, Tensor, matmul
from anatune.workload.dtypes import (
    ELEMENT_BYTES,
    accumulator_of,
    default_output,
    is_float,
    numpy_dtype,
)

MAX = 2**31 - 1
NOT_EXTENTS = [0, -1, 1.5, 2.0, True, "3", 2**31, None, 10**40, float("nan"), np.float32(3), [3]]


@pytest.mark.parametrize("name", ["m", "n", "k", "batch"])
@pytest.mark.parametrize("value", NOT_EXTENTS)
def test_bad_extents(name, value):
    extents = {"m": 3, "n": 4, "k": 5} | {name: value}
    with pytest.raises(WorkloadError) as caught:
        matmul(**extents)
    assert str(caught.value) == f"{name} = {value!r}: an extent is a whole number from 1 to {MAX}"


@pytest.mark.parametrize("value", [1, MAX, np.int32(7), np.int64(7), np.uint8(7)])
def test_good_extents_become_int(value):
    made = matmul(value, value, value, batch=value, lda=MAX)
    assert made == Matmul(m=int(value), n=int(value), k=int(value), batch=int(value), lda=MAX)
    assert {type(e) for e in (made.m, made.n, made.k, made.batch)} == {int}


@pytest.mark.parametrize("field", ["dtype", "dtype_b", "out_dtype"])
@pytest.mark.parametrize("dtype", ["float32", np.float32, np.dtype("float32")])
def test_good_dtypes_are_one(field, dtype):
    made = matmul(3, 4, 5, **{field: dtype})
    assert made == matmul(3, 4, 5) and hash(made) == hash(matmul(3, 4, 5))


@pytest.mark.parametrize("name", ELEMENT_BYTES)
def test_every_type_has_a_name_and_a_size(name):
    """Also as numpy has it, and bfloat16 as ml_dtypes does."""
    dtype = numpy_dtype(name)
    assert dtype.itemsize == ELEMENT_BYTES[name] and dtype.name == name
    assert matmul(3, 4, 5, dtype=dtype) == matmul(3, 4, 5, dtype=name)
    assert matmul(3, 4, 5, dtype=dtype.type).dtype == name


@pytest.mark.parametrize("field", ["dtype", "dtype_b", "out_dtype"])
@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        ("float63", "float63"),
        ("", ""),
        (np.complex64, "complex64"),
        (np.dtype("V3"), "|V3"),
        (3, "3"),
        (">f4", ">f4"),
        ("int64", "int64"),
    ],
)
def test_bad_dtypes(field, dtype, name):
    with pytest.raises(WorkloadError) as caught:
        matmul(3, 4, 5, **{field: dtype})
    known = ", ".join(ELEMENT_BYTES)
    assert str(caught.value) == f"{field} = {name!r}: kernels are generated for {known}"


USUAL = {
    ("float64", "float64"): ("float64", "float64"),
    ("float32", "float32"): ("float32", "float32"),
    ("float16", "float16"): ("float32", "float16"),
    ("bfloat16", "bfloat16"): ("float32", "bfloat16"),
    ("float16", "bfloat16"): ("float32", "float32"),
    ("float32", "float64"): ("float64", "float64"),
    ("int32", "float64"): ("float64", "float64"),
    ("int8", "float16"): ("float32", "float32"),
    ("int8", "int8"): ("int32", "int32"),
    ("uint8", "int8"): ("int32", "int32"),
    ("int16", "int32"): ("int32", "int32"),
}
"""Types of A and B, then of the sums and of C."""


@pytest.mark.parametrize(("pair", "usual"), USUAL.items(), ids=str)
def test_types_of_sums_and_results(pair, usual):
    w = matmul(3, 4, 5, dtype=pair[0], dtype_b=pair[1])
    assert (w.accumulator, w.out_dtype) == usual
    turned = matmul(3, 4, 5, dtype=pair[1], dtype_b=pair[0])
    assert (turned.accumulator, turned.out_dtype) == usual
    assert w.stores_sums == (w.accumulator == w.out_dtype)


def test_b_is_of_the_type_of_a_but_beside_uint8():
    for dtype in ELEMENT_BYTES:
        usual = "int8" if dtype == "uint8" else dtype
        assert matmul(3, 4, 5, dtype=dtype).dtype_b == usual


def test_sums_have_a_wide_type_of_the_same_kind():
    for a in ELEMENT_BYTES:
        for b in ELEMENT_BYTES:
            sums = accumulator_of(a, b)
            assert is_float(sums) == (is_float(a) or is_float(b))
            assert ELEMENT_BYTES[sums] >= 4 and default_output(a, b) in (a, sums)


def test_sizes():
    w = matmul(3, 4, 5)
    assert w.flops == 2 * 3 * 4 * 5
    a, b = w.operands.values()
    assert list(w.operands) == ["a", "b"] and (a.shape, b.shape) == ((3, 5), (5, 4))
    assert w.output.shape == (3, 4) and {t.dtype for t in (a, b, w.output)} == {"float32"}
    assert w.operand_bytes == 4 * (15 + 20 + 12)
    assert str(w) == "matmul 3x4x5 float32"


def test_a_workload_says_all_that_is_not_usual():
    w = matmul(
        3, 4, 5, dtype="uint8", out_dtype="int8", trans_b=True, batch=2, broadcast_b=True, lda=7,
        constant_b=True, alpha=2, beta=-1, epilogue="requantise",
    )  # fmt: skip
    assert str(w) == (
        "matmul 2 times 3x4x5 uint8 x int8 to int8, B transposed, one B, constant B, lda 7, "
        "alpha 2, beta -1, out = c * scale.float32[n] + zero_point.float32"
    )


def test_flops_do_not_overflow():
    assert matmul(MAX, MAX, MAX, batch=MAX).flops == 2 * MAX**4
    assert matmul(np.int32(MAX), np.int32(MAX), np.int32(MAX)).flops == 2 * MAX**3


def test_operands_as_stored():
    w = matmul(3, 4, 5, trans_a=True, trans_b=True, batch=2, broadcast_b=True, lda=6, ldc=9)
    a, b = w.operands.values()
    assert (a.shape, a.strides) == ((2, 5, 3), (30, 6, 1))
    assert (b.shape, b.strides) == ((4, 5), (5, 1)) and b.compact
    assert (w.output.shape, w.output.strides) == ((2, 3, 4), (27, 9, 1)) and not w.output.compact


def test_operands_of_the_epilogue_follow_a_and_b():
    w = matmul(3, 4, 5, batch=2, epilogue="bias+residual+clip", out_dtype="bfloat16")
    shapes = {name: (t.shape, t.dtype) for name, t in w.operands.items() if name not in "ab"}
    assert shapes == {
        "bias": ((4,), "float32"), "residual": ((2, 3, 4), "bfloat16"),
        "low": ((), "float32"), "high": ((), "float32"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lda": 4}, "lda = 4: at least 5, the elements of a row"),
        ({"trans_a": True, "lda": 2}, "lda = 2: at least 3, the elements of a row"),
        ({"ldb": 3}, "ldb = 3: at least 4, the elements of a row"),
        ({"trans_b": True, "ldb": 4}, "ldb = 4: at least 5, the elements of a row"),
        ({"ldc": 3}, "ldc = 3: at least 4, the elements of a row"),
        ({"ldc": 0}, f"ldc = 0: an extent is a whole number from 1 to {MAX}"),
        ({"trans_a": 1}, "trans_a = 1: True or False"),
        ({"broadcast_b": "yes"}, "broadcast_b = 'yes': True or False"),
        ({"constant_b": None}, "constant_b = None: True or False"),
        ({"alpha": "2"}, "alpha = '2': a finite number"),
        ({"beta": float("inf")}, "beta = inf: a finite number"),
        ({"alpha": True}, "alpha = True: a finite number"),
        (
            {"dtype": "int8", "alpha": 0.5},
            "alpha = 0.5, beta = 0: whole numbers for integer sums",
        ),
    ],
)
def test_options_that_are_refused(options, message):
    with pytest.raises(WorkloadError) as caught:
        matmul(3, 4, 5, **options)
    assert str(caught.value) == message


def test_unknown_options_are_named_with_those_that_there_are():
    with pytest.raises(WorkloadError) as caught:
        matmul(3, 4, 5, transpose_a=True)
    said = str(caught.value)
    assert said.startswith("transpose_a: no such option; there are alpha, ")
    assert all(name in said for name in set(Matmul.__dataclass_fields__) - {"m", "n", "k"})


@given(workloads())
def test_what_stands_for_the_usual_is_filled_in(w):
    """So that equal workloads are equal, however they were asked for."""
    filled = (w.dtype_b, w.out_dtype, w.lda, w.ldb, w.ldc)
    assert None not in filled
    again = Matmul(**{name: getattr(w, name) for name in Matmul.__dataclass_fields__})
    assert again == w and hash(again) == hash(w) and str(again) == str(w)
    assert w.stores_sums == (not w.beta and w.alpha == 1 and not w.epilogue
                             and w.out_dtype == w.accumulator)  # fmt: skip


@given(workloads(epilogues=EPILOGUES))
def test_arrays_have_room_for_their_elements(w):
    for tensor in (*w.operands.values(), w.output):
        assert len(tensor.shape) == len(tensor.strides)
        assert tensor.elements <= tensor.span
        assert tensor.compact == (tensor.span == tensor.elements) or min(tensor.shape) == 1
        assert tensor.size_bytes == tensor.elements * ELEMENT_BYTES[tensor.dtype]
    assert (w.batch > 1) == (len(w.output.shape) == 3)


def test_span_of_rows_that_lie_apart():
    apart = Tensor.rows((2, 3, 4), "int16", 10)
    assert apart.strides == (30, 10, 1) and apart.span == 30 + 20 + 3 + 1
    assert (apart.elements, apart.size_bytes, apart.compact) == (24, 48, False)
    assert Tensor.rows((), "float32").span == 1
    assert replace(apart, strides=(12, 4, 1)).compact
