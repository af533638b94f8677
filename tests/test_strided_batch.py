"""Products of a batch that do not follow each other: what is accepted, stated, planned, checked."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_plans import plan

from anatune import api
from anatune.errors import WorkloadError
from anatune.hwprofile import load_profile
from anatune.measure import inputs as making
from anatune.measure import verify
from anatune.model.estimate import predict
from anatune.model.fusion import options
from anatune.plan import GemmPlan, ThreadGrid, read_plan
from anatune.records.record import key_of
from anatune.workload import Dim, Matmul, Tensor, matmul
from anatune.workload.group import fused
from anatune.workload.matmul import MAX_STRIDE, STRIDES

ROWS, HEADS, WIDTH = 128, 12, 64
ACROSS = HEADS * WIDTH


def scores(**more) -> Matmul:
    """Q times K transposed, heads read in place out of [rows, heads * width]."""
    ld = {"lda": ACROSS, "ldb": ACROSS, "stride_a": WIDTH, "stride_b": WIDTH}
    return matmul(ROWS, ROWS, WIDTH, **{"batch": HEADS, "trans_b": True, **ld, **more})


def mixed(**more) -> Matmul:
    """Scores times V, heads written side by side."""
    ld = {"ldb": ACROSS, "ldc": ACROSS, "stride_b": WIDTH, "stride_c": WIDTH}
    return matmul(ROWS, WIDTH, ROWS, **{"batch": HEADS, **ld, **more})


def places(tensor: Tensor) -> np.ndarray:
    """Where each element lies."""
    axes = [np.arange(extent) * step for extent, step in zip(tensor.shape, tensor.strides)]
    return sum(np.ix_(*axes), np.zeros((), int))


def refusal(*extents, **of) -> str:
    with pytest.raises(WorkloadError) as caught:
        matmul(*extents, **of)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What is stated, and what it stands for.


def test_heads_lie_where_they_should():
    a, c = scores().operands["a"], mixed().output
    assert a == scores().operands["b"] == Tensor(
        shape=(HEADS, ROWS, WIDTH), dtype="float32", strides=(WIDTH, ACROSS, 1)
    )
    assert c.strides == (WIDTH, ACROSS, 1) and places(a)[5, 7, 9] == 5 * 64 + 7 * 768 + 9
    assert c.leading == ACROSS and not c.compact and c.nested
    assert c.elements == c.span == ROWS * ACROSS and c.size_bytes == 4 * c.elements
    assert np.array_equal(np.sort(places(c), axis=None), np.arange(c.span))


def test_none_is_the_usual_and_the_usual_is_none():
    w = matmul(3, 4, 5, batch=2, lda=7, trans_b=True)
    assert (w.stride_a, w.stride_b, w.stride_c) == (3 * 7, 4 * 5, 3 * 4)
    assert w == matmul(3, 4, 5, batch=2, lda=7, trans_b=True, stride_a=21, stride_c=12)
    assert w.output.compact and w.apart == {"lda": 7}
    assert [getattr(matmul(3, 4, 5), name) for name in STRIDES] == [None] * 3
    one = matmul(3, 4, 5, batch=2, broadcast_a=True)
    assert (one.stride_a, one.stride_b) == (None, 20)
    assert replace(w, batch=1) == matmul(3, 4, 5, lda=7, trans_b=True)
    assert replace(matmul(3, 4, 5), batch=2).stride_a == 15


def test_the_workload_says_so():
    said = "matmul 12 times 128x128x64 float32, B transposed, lda 768, stride_a 64, ldb 768, " \
        "stride_b 64"
    assert str(scores()) == said
    assert str(matmul(3, 4, 5, batch=2, stride_a=99)).endswith("float32, stride_a 99")


def test_some_products_of_a_batch_lie_as_they_did():
    assert scores().products(3) == scores(batch=3)
    one = scores().products(1)
    assert one == matmul(ROWS, ROWS, WIDTH, trans_b=True, lda=ACROSS, ldb=ACROSS)


def test_inputs_may_share_elements():
    """A window that moves on by one: rows of A, and products, begin within each other."""
    a = matmul(4, 5, 6, batch=3, stride_a=1).operands["a"]
    assert a.strides == (1, 6, 1) and not a.nested and a.span == 26
    assert matmul(4, 5, 6, batch=3, stride_b=5).operands["b"].strides == (5, 5, 1)


# What is refused.


@pytest.mark.parametrize(
    ("of", "said"),
    [
        ({"batch": 1, "stride_a": 99}, "stride_a = 99: there is one product; leave it out, or "
         "give a batch"),
        ({"broadcast_b": True, "stride_b": 7}, "stride_b = 7: the batch has one B; leave it out"),
        ({"stride_a": 0}, "stride_a = 0: elements from one product's A to the next one's, a whole "
         f"number from 1 to {MAX_STRIDE}; broadcast_a takes one for all"),
        ({"stride_c": -8}, "stride_c = -8: elements from one product's C to the next one's, a "
         f"whole number from 1 to {MAX_STRIDE}"),
        *(({"stride_b": bad}, f"stride_b = {bad!r}: elements from one product's B to the next "
           f"one's, a whole number from 1 to {MAX_STRIDE}")
          for bad in (1.5, True, "8", MAX_STRIDE + 1)),
        ({"ldc": 8, "stride_c": 11}, "stride_c = 11: beside ldc = 8, products of C lie neither one "
         "after another (20 or more) nor side by side (4 or more, ldc 15 or more)"),
        ({"ldc": 8, "stride_c": 3}, "stride_c = 3: beside ldc = 8, products of C lie neither one "
         "after another (20 or more) nor side by side (4 or more, ldc 8 or more)"),
    ],
)  # fmt: skip
def test_what_cannot_be(of, said):
    assert refusal(3, 4, 5, **{"batch": 2, **of}) == said


def test_the_mends_mend():
    assert matmul(3, 4, 5, batch=2, ldc=8, stride_c=20).output.nested
    assert matmul(3, 4, 5, batch=2, ldc=15, stride_c=11).output.nested
    assert matmul(3, 4, 5, batch=2, ldc=8, stride_c=4).output.nested


small = st.integers(1, 5)


@settings(max_examples=400)
@given(st.integers(2, 4), small, small, st.integers(0, 20), st.integers(1, 40))
def test_c_is_accepted_where_products_follow_each_other_or_lie_side_by_side(
    batch, m, n, gap, stride
):
    """Brute force: the places ascend product by product, or row by row through all products."""
    laid = Tensor.rows((batch, m, n), "float32", n + gap, stride)
    found = places(laid)
    ascend = [(np.diff(x.ravel()) > 0).all() for x in (found, found.swapaxes(0, 1))]
    try:
        accepted = matmul(m, n, 3, batch=batch, ldc=n + gap, stride_c=stride).output == laid
    except WorkloadError as error:
        assert "stride_c = " in str(error)
        accepted = False
    assert accepted == any(ascend)
    assert not accepted or len(np.unique(found)) == found.size


@settings(max_examples=300)
@given(st.lists(st.tuples(small, st.integers(1, 30)), max_size=4))
def test_nested_strides_have_no_two_elements_in_a_place(axes):
    shape, strides = ([axis[i] for axis in axes] for i in (0, 1))
    tensor = Tensor(shape=tuple(shape), dtype="float32", strides=tuple(strides))
    found = places(tensor)
    unique = len(np.unique(found)) == found.size
    assert unique or not tensor.nested
    order = np.argsort(strides, kind="stable")
    if unique and all(np.diff(found.transpose(order[::-1]).ravel()) > 0):
        assert tensor.nested


def test_overlaps_are_found_in_arrays_of_any_size():
    assert matmul(2**20, 2**10, 8, batch=2**20, stride_c=2**30).output.nested
    assert "lie neither" in refusal(2**20, 2**10, 8, batch=2**20, stride_c=2**30 - 1)


# Families.

S, M = Dim("s", 1, 512), Dim("m", 2)


def test_members_lie_as_their_family_does():
    w = matmul(S, S, WIDTH, batch=HEADS, trans_b=True, lda=ACROSS, stride_a=WIDTH)
    member = w.at(s=ROWS)
    assert member == scores(ldb=None, stride_b=None)
    for name, tensor in {**w.operands, "out": w.output}.items():
        assert tensor.at({"s": ROWS}) == {**member.operands, "out": member.output}[name]
    assert read_json(w) == w and "stride_c" not in w.stated()


def read_json(w: Matmul) -> Matmul:
    from anatune.plan.plain import build, plain

    return build(Matmul, json.loads(json.dumps(plain(w))), "workload")


def test_a_member_of_one_product_has_no_stride():
    b = Dim("b", 1, HEADS)
    w = matmul(M, WIDTH, ROWS, batch=b, ldc=ACROSS, stride_c=WIDTH)
    assert w.at(m=9, b=1) == matmul(9, WIDTH, ROWS, ldc=ACROSS)
    assert w.at(m=9, b=4) == matmul(9, WIDTH, ROWS, batch=4, ldc=ACROSS, stride_c=WIDTH)


def test_no_member_of_a_family_may_overlap():
    assert matmul(S, 4, 5, batch=2, stride_c=512 * 4).at(s=512).output.compact
    assert "after another (2048 or more)" in refusal(S, 4, 5, batch=2, stride_c=2047)
    assert "(inf or more)" in refusal(M, 4, 5, batch=2, stride_c=2**40)
    assert "ldc inf or more" in refusal(3, 4, 5, batch=M, ldc=99, stride_c=4)
    assert "after another (inf or more)" in refusal(1, M, 5, batch=2, stride_c=64)
    assert matmul(1, S, 5, batch=2, stride_c=512).output.nested


# What is written, and what records are found by.


@pytest.mark.parametrize("w", [scores(), mixed(), matmul(3, 4, 5, batch=2)], ids=str)
def test_plans_are_read_back(w):
    chosen = api.plan(w, "zen4", threads=2)
    assert read_plan(chosen.to_json()) == chosen
    stated = json.loads(chosen.to_json())["workload"]
    assert {name: stated[name] for name in STRIDES if name in stated} == {
        name: value for name, value in w.apart.items() if name in STRIDES
    }


def test_records_from_before_there_were_strides_are_found():
    of_before = {
        "496938b49c5cc54b": matmul(784, 512, 128),
        "1f07c933bb91092b": matmul(7, 5, 3, batch=4, dtype="int8", lda=9, ldc=8),
        "ff6212d9a7b9509a": matmul(Dim("m", 1, 9), 5, 3, batch=4),
    }
    assert {key_of(w, "0" * 16): w for w in of_before.values()} == of_before
    keys = {key_of(w, "0" * 16) for w in (scores(), scores(stride_a=65), scores(stride_a=None))}
    assert len(keys) == 3


# Operands of measurements.

APART = matmul(3, 4, 5, batch=2, ldc=12, stride_c=6)


def test_a_write_between_heads_is_seen():
    """c c c c . . c c c c . . in each row: after the last C there is nothing."""
    c = making.untouched(APART.output)
    memory = c.base.view(np.uint8)
    start = c.ctypes.data - memory.ctypes.data
    own = {start + 4 * place + byte for place, byte in product(places(APART.output).flat, range(4))}
    c[...] = 0
    assert not making.strayed(c) and (memory == 0).sum() == len(own)
    for place in range(start, start + 4 * APART.output.span):
        if place not in own:
            making.forget(c)
            memory[place] = 0
            assert making.strayed(c), place


@pytest.mark.parametrize("epilogue", ["", "max(c, 0) + bias[n]"])
@pytest.mark.parametrize("more", [{}, {"stride_a": 500}, {"dtype": "int8", "stride_a": 2}], ids=str)
def test_operands_are_as_exact_as_others(more, epilogue):
    """Float32 sums in any order are the reference's, also where rows of A share elements."""
    w = matmul(40, 9, 1000, batch=3, epilogue=epilogue, **more)
    given_ = making.operands(w)
    assert {name: x.strides for name, x in given_.items()} == {
        name: tuple(x.itemsize * step for step in w.operands[name].strides)
        for name, x in given_.items()
    }
    of = "int32" if w.dtype == "int8" else "float32"
    c = np.einsum("hip,hpj->hij", given_["a"].astype(of), given_["b"].astype(of))
    if epilogue:
        c = np.maximum(c, 0) + given_["bias"]
    verify.check(w, given_, c)
    c[2, 7, 5] = c[2, 7, 5] * 1.01 + 1
    with pytest.raises(verify.VerificationError, match=r"c\[2, 7, 5\]"):
        verify.check(w, given_, c)


def test_a_large_batch_is_checked_by_samples(monkeypatch):
    monkeypatch.setattr(verify, "FULL_CHECK_FLOPS", 5e6)
    w = mixed()
    given_ = making.operands(w)
    verify.check(w, given_, given_["a"] @ given_["b"])


# The model.

ZEN5 = load_profile("zen5")


def two_heads(**of) -> GemmPlan:
    w = {"batch": 2, **of}
    return plan(256, 64, 32, 6, 64, 16, of=w, grid=ThreadGrid(batch=2), arithmetic="fma32")


def test_heads_side_by_side_share_lines_of_c_where_a_thread_has_one():
    def lines(p: GemmPlan) -> float:
        return dict(predict(ZEN5, p).terms).get("shared lines of C", 0.0)

    beside = {"ldc": 128, "stride_c": 64}
    assert lines(two_heads(**beside)) > 0 == lines(two_heads())
    assert lines(two_heads(ldc=160, stride_c=80)) == 0
    assert lines(replace(two_heads(**beside), grid=ThreadGrid())) == 0
    four = {"batch": 4, "ldc": 256, "stride_c": 64}
    assert lines(two_heads(**four)) == 0


@pytest.mark.parametrize("w", [scores(), mixed()], ids=str)
def test_the_same_arithmetic_is_predicted_as_if_heads_followed_each_other(w):
    """Nothing but rows and shared lines tells heads from whole matrices."""
    chosen = api.plan(w, "zen5", threads=2)
    assert chosen.thread_batch > 1
    following = replace(w, **dict.fromkeys(STRIDES))
    assert predict(ZEN5, chosen) == predict(ZEN5, replace(chosen, workload=following))


def test_heads_are_planned_beside_other_workloads():
    found = options(ZEN5, fused([mixed(), matmul(ROWS, 64, 64)]), threads=2)
    assert {plan.workload.members[0] for plan, _ in found} == {mixed()} and len(found) == 3
