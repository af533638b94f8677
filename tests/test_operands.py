"""Operands: what is taken as it is, what is refused with which words, what comes out again."""

from __future__ import annotations

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tvm_ffi")

import tvm_ffi  # noqa: E402

from anatune.codegen.operands import LINE_BYTES, Slot, aligned, like, overlapping  # noqa: E402
from anatune.errors import OperandError  # noqa: E402
from anatune.workload import Tensor, matmul  # noqa: E402
from anatune.workload.dtypes import ELEMENT_BYTES, numpy_dtype  # noqa: E402

BF16 = np.dtype(ml_dtypes.bfloat16)
M, K, LEADING = 3, 4, 6


def slot(dtype: str = "float32", name: str = "a", leading: int | None = None, **more) -> Slot:
    return Slot(name, Tensor.rows((M, K), dtype, leading), **more)


def scalar(dtype: str = "float32") -> Slot:
    return Slot("scale", Tensor.rows((), dtype))


def refusal(taker: Slot, x) -> str:
    with pytest.raises(OperandError) as caught:
        taker.take(x)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def same_memory(x: np.ndarray, y: np.ndarray) -> bool:
    return x.ctypes.data == y.ctypes.data


@pytest.mark.parametrize("dtype", ELEMENT_BYTES)
@pytest.mark.parametrize("leading", [None, LEADING])
def test_the_callers_memory_is_handed_over(dtype, leading):
    array = np.ones((M, leading or K), numpy_dtype(dtype))[:, :K]
    taken = slot(dtype, leading=leading).take(array)
    assert same_memory(taken, array) and taken.strides == array.strides
    assert taken.dtype == ("uint16" if dtype == "bfloat16" else dtype)
    tvm_ffi.from_dlpack(taken)  # which takes all that is handed over


def test_read_only_memory_is_not_copied():
    array = np.arange(12, dtype=np.float32).reshape(M, K)
    array.flags.writeable = False
    taken = slot().take(array)
    assert same_memory(taken, array)
    tvm_ffi.from_dlpack(taken)
    assert refusal(slot(written=True), array) == (
        "a: read-only; an array that can be written is needed"
    )


def test_what_is_handed_over_keeps_its_owner_alive():
    array = np.full((M, K), 5, np.float32)
    array.flags.writeable = False
    taken = slot().take(array)
    del array
    np.full((M, K), 7, np.float32)  # would take the memory if it were free
    assert (taken == 5).all()


def test_strides_of_single_elements_do_not_count():
    one_row = Slot("a", Tensor.rows((1, K), "float32"))
    taken = one_row.take(np.ones((K, K), np.float32)[::3][:1])
    assert taken.strides == one_row.strides
    assert Slot("a", Tensor.rows((M, 1), "float32")).take(np.ones((1, M), np.float32).T).shape


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.ones((K, M), np.float32), "a: shape (4, 3), (3, 4) is needed"),
        (np.ones((M, K)), "a: data type float64, float32 is needed"),
        (np.ones((M, K), ">f4"), "a: data type >f4, float32 is needed"),
        (np.ones((M, K), BF16), "a: data type bfloat16, float32 is needed"),
        ([[1.0]], "a: list is no array; pass numpy or another DLPack tensor"),
        (1.0, "a: float is no array; pass numpy or another DLPack tensor"),
    ],
    ids=str,
)
def test_wrong_arrays_are_named(array, said):
    assert refusal(slot(), array) == said


def test_wrong_strides_name_the_workload_that_would_take_them():
    wide, tall = np.ones((M, LEADING), np.float32)[:, :K], np.ones((K, M), np.float32).T
    needed = "compact row-major memory is needed: pass numpy.ascontiguousarray(...)"
    assert refusal(slot(), wide) == (
        f"a: strides (24, 4); {needed} or make the workload with lda=6"
    )
    assert refusal(slot(), tall) == (
        f"a: strides (4, 12); {needed} or make the workload with trans_a"
    )
    assert refusal(slot(name="bias"), wide) == f"bias: strides (24, 4); {needed}"
    assert refusal(slot(name="out", written=True), wide) == (
        "out: strides (24, 4); compact row-major memory is needed: make out with numpy.empty"
    )


def test_the_mend_for_strides_mends():
    wide = np.ones((M, LEADING), np.float32)[:, :K]
    assert "lda=6" in refusal(Slot("a", matmul(M, 1, K).operands["a"]), wide)
    assert Slot("a", matmul(M, 1, K, lda=6).operands["a"]).take(wide) is wide
    tall = np.ones((K, M), np.float32)
    assert "trans_a" in refusal(Slot("a", matmul(M, 1, K).operands["a"]), tall.T)
    assert Slot("a", matmul(M, 1, K, trans_a=True).operands["a"]).take(tall) is tall


def test_rows_that_should_lie_apart():
    assert refusal(slot(leading=LEADING), np.ones((M, K), np.float32)) == (
        "a: strides (16, 4) in bytes, (24, 4) are needed as lda = 6: "
        "pass rows of 6 elements, sliced [..., :4]"
    )


def test_a_mask_is_not_ignored():
    array = np.ma.masked_array(np.ones((M, K), np.float32), mask=np.eye(M, K))
    said = "a: a masked array; its mask would be ignored: pass x.filled(...)"
    assert refusal(slot(), array) == said


def test_memory_that_begins_within_an_element():
    array = np.zeros(4 * M * K + 1, np.uint8)[1:].view(np.float32).reshape(M, K)
    assert refusal(slot(), array) == "a: begins within an element; aligned memory is needed"


class Elsewhere:
    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)


def test_another_device():
    assert refusal(slot(), Elsewhere()) == "a: on DLPack device 2; the CPU's memory is needed"


@pytest.mark.parametrize("x", [2, 2.0, Fraction(4, 2), np.float64(2), np.int8(2), np.float32(2)])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_numbers_for_scalars(x, dtype):
    taken = scalar(dtype).take(x)
    assert taken.shape == (1,) and taken.view(numpy_dtype(dtype))[0] == 2
    tvm_ffi.from_dlpack(taken)


@pytest.mark.parametrize("dtype", ELEMENT_BYTES)
def test_arrays_without_axes_for_scalars(dtype):
    array = np.array(3, numpy_dtype(dtype))
    for x in (array, array[()], array.reshape(1)[:1].reshape(())):
        taken = scalar(dtype).take(x)
        assert taken.shape == (1,) and taken.view(numpy_dtype(dtype))[0] == 3
    assert same_memory(scalar(dtype).take(array), array)


def test_numbers_that_a_type_does_not_hold():
    assert refusal(scalar("int8"), 128) == "scale = 128: a whole number from -128 to 127 is needed"
    assert refusal(scalar("uint8"), -1) == "scale = -1: a whole number from 0 to 255 is needed"
    assert refusal(scalar("int32"), 0.5).startswith("scale = 0.5: a whole number from ")
    assert refusal(scalar("float16"), 1e5) == "scale = 100000.0: too large for float16"
    assert math.isinf(scalar("float16").take(math.inf)[0])


def test_an_array_of_one_element_is_no_scalar():
    assert refusal(scalar(), np.ones(1, np.float32)) == "scale: shape (1,), () is needed"


@given(st.sampled_from(sorted(ELEMENT_BYTES)), st.integers(1, 9), st.integers(1, 9))
def test_new_memory_begins_a_line_and_lies_as_asked(dtype, rows, gap):
    taker = Slot("out", Tensor.rows((2, rows, 5), dtype, 5 + gap), written=True)
    new = taker.new()
    assert new.ctypes.data % LINE_BYTES == 0 and new.dtype == numpy_dtype(dtype)
    assert new.shape == taker.shape and new.strides == taker.strides
    new[...] = 1
    size = new.itemsize
    assert np.count_nonzero(new.base.view(np.uint8)) == new.size * np.count_nonzero(
        np.ones(1, new.dtype).view(np.uint8)
    )
    assert new.base.nbytes >= size * new.size


def test_overlap_is_by_element():
    field = aligned((4, 8), np.dtype(np.float32))
    left, right = field[:, :4], field[:, 4:]
    assert not overlapping(left, right) and overlapping(left, field[:, 3:7])
    assert overlapping(field, field[3:]) and not overlapping(field[:2], field[2:])


@pytest.mark.parametrize("dtype", ELEMENT_BYTES)
def test_torch_in_and_out(dtype):
    torch = pytest.importorskip("torch")
    wide = torch.ones((M, LEADING), dtype=getattr(torch, dtype))
    compact = wide[:, :K].clone(memory_format=torch.contiguous_format)
    for tensor, taker in ((wide[:, :K], slot(dtype, leading=LEADING)), (compact, slot(dtype))):
        taken = taker.take(tensor)
        assert taken.ctypes.data == tensor.data_ptr() and taken.strides == taker.strides
        assert taken.flags.writeable
    c = slot(dtype).new()
    c[...] = 3
    back = like(compact, c)
    assert isinstance(back, torch.Tensor) and back.dtype == compact.dtype
    assert back.data_ptr() == c.ctypes.data and (back == 3).all()


def test_torch_refusals():
    torch = pytest.importorskip("torch")
    half = torch.ones((M, K), dtype=torch.bfloat16)
    assert refusal(slot(), half) == "a: data type bfloat16, float32 is needed"
    assert refusal(slot("bfloat16"), half.T) == "a: shape (4, 3), (3, 4) is needed"
    assert refusal(slot(), torch.ones((M, K), requires_grad=True)) == (
        "a: requires a gradient, which no kernel passes on: pass a.detach()"
    )
    assert refusal(slot(), torch.ones((M, K)).to_sparse()).startswith("a: ")
    assert "meta" in refusal(slot(), torch.empty((M, K), device="meta"))
    assert refusal(scalar("bfloat16"), torch.ones(1, dtype=torch.bfloat16)) == (
        "scale: shape (1,), () is needed"
    )
    assert scalar("bfloat16").take(torch.tensor(1, dtype=torch.bfloat16)).shape == (1,)


class Foreign:
    """A tensor of a library that only speaks DLPack."""

    def __init__(self, tensor) -> None:
        self.tensor = tensor

    def __dlpack__(self, **options):
        return self.tensor.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


def test_other_libraries():
    array = np.ones((M, K), np.float32)
    assert same_memory(slot().take(Foreign(array)), array)
    array.flags.writeable = False
    assert "read-only" in refusal(slot(written=True), Foreign(array))
    torch = pytest.importorskip("torch")
    half = torch.ones((M, K), dtype=torch.bfloat16)
    assert slot("bfloat16").take(Foreign(half)).ctypes.data == half.data_ptr()
