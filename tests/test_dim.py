"""Extents by name: what they are made of, their ranges, what is told from them, what is refused."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import asdict
from itertools import product
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anatune.errors import WorkloadError
from anatune.plan.plain import build
from anatune.workload import Dim, Matmul, Tensor, matmul
from anatune.workload.dim import Extent, at, dims_of, extent_of, solve

S, B, H = Dim("s", 1, 9), Dim("b", 2, 6), Dim("h", 3, 8)
DIMS = (S, B, H)
MAX = 2**31 - 1


def values(dims: tuple[Dim, ...], longest: int = 9) -> list[dict[str, int]]:
    """Every member's values; so many of a dim without an upper end."""
    each = (range(d.low, (d.high or d.low + longest) + 1) for d in dims)
    return [dict(zip([d.name for d in dims], some)) for some in product(*each)]


@st.composite
def expressions(draw, depth: int = 3):
    """Any expression of some dims, zeros and negative numbers among what it is made of."""
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        return draw(st.sampled_from(DIMS) | st.integers(-3, 50))
    op = draw(st.sampled_from("+-*/"))
    left, right = draw(expressions(depth=depth - 1)), draw(expressions(depth=depth - 1))
    if op == "/":
        low = right.range[0] if isinstance(right, Extent) else right
        able = isinstance(left, Extent) and low > 0
        return left // right if able else left
    return {"+": lambda: left + right, "-": lambda: left - right, "*": lambda: left * right}[op]()


@given(expressions())
def test_every_value_is_in_the_range_and_is_what_the_text_says(e):
    if not isinstance(e, Extent):
        return
    low, high = e.range
    for some in values(e.dims):
        assert low <= at(e, some) <= high
        assert at(e, some) == eval(str(e), {}, dict(some)), str(e)


@given(expressions(), st.sampled_from(DIMS))
def test_what_is_solved_is_right(e, dim):
    """One dim from an expression, those of the others given: right, or nothing at all."""
    if not isinstance(e, Extent) or dim not in e.dims:
        return
    for some in values(e.dims):
        others = {name: value for name, value in some.items() if name != dim.name}
        found = e.solved(at(e, some), others)
        assert found in ({}, {dim.name: some[dim.name]})


@pytest.mark.parametrize(
    ("e", "text", "ends"),
    [
        (49 * B, "49*b", (98, 294)),
        (B * 49, "b*49", (98, 294)),
        (S + 1, "s+1", (2, 10)),
        (1 + S, "1+s", (2, 10)),
        (S - 1, "s-1", (0, 8)),
        (20 - S, "20-s", (11, 19)),
        ((H + 1) // 2, "(h+1)//2", (2, 4)),
        (2 * (H // 2), "2*(h//2)", (2, 8)),
        (H // 2 * 2, "h//2*2", (2, 8)),
        (S * -2, "s*-2", (-18, -2)),
        (20 - (S - B), "20-(s-b)", (13, 25)),
        ((S - 5) * B, "(s-5)*b", (-24, 24)),
        ((S - 5) // B, "(s-5)//b", (-2, 2)),
        (Dim("t") * 2, "t*2", (2, inf)),
        ((Dim("t") - 1) * Dim("u"), "(t-1)*u", (0, inf)),
        (Dim("t") // Dim("u"), "t//u", (0, inf)),
        (9 - Dim("t"), "9-t", (-inf, 8)),
        ((9 - Dim("t")) // Dim("u"), "(9-t)//u", (-inf, 8)),
    ],
)  # fmt: skip
def test_operators(e, text, ends):
    assert (str(e), e.range) == (text, ends)
    assert isinstance(e, Extent) and e == copy.deepcopy(e) and hash(e) == hash(copy.deepcopy(e))


def test_what_does_nothing_is_left_out():
    for same in (S * 1, 1 * S, S + 0, 0 + S, S - 0, S // 1):
        assert same is S
    assert S + 1 == S + 1 != S + 2 and S + 1 != 1 + S


def test_each_dim_is_named_once_and_in_order():
    assert ((S + B) * S // 2 - H).dims == (S, B, H)
    assert dims_of(7) == () and dims_of(S) == (S,)


def test_numpys_numbers_are_numbers():
    """And written to JSON as such."""
    for e in (S * np.int64(4), np.int64(4) * S, S + np.int32(4)):
        numbers = [side for side in (e.left, e.right) if not isinstance(side, Extent)]
        assert list(map(type, numbers)) == [int]
    made = Dim("s", np.int64(2), np.int32(7), likely=np.int64(3))
    assert made == Dim("s", 2, 7, likely=(3,))
    assert {type(x) for x in (made.low, made.high, *made.likely)} == {int}


@pytest.mark.parametrize("other", [1.5, "2", None, True, [1]])
def test_no_numbers(other):
    """Fractions and the rest are Python's to refuse, as of any type that does not know them."""
    for op in ("__add__", "__sub__", "__mul__", "__floordiv__", "__radd__", "__rsub__", "__rmul__"):
        assert getattr(S, op)(other) is NotImplemented
    with pytest.raises(TypeError):
        S / 2
    with pytest.raises(TypeError):
        7 // S


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Dim("7"), "name = '7': a letter, then letters and digits"),
        (lambda: Dim("a b"), "name = 'a b': a letter, then letters and digits"),
        (lambda: Dim(""), "name = '': a letter, then letters and digits"),
        (lambda: Dim(None), "name = None: a letter, then letters and digits"),
        (lambda: Dim("s", 0), "s.low = 0: a whole number from 1 on"),
        (lambda: Dim("s", -4), "s.low = -4: a whole number from 1 on"),
        (lambda: Dim("s", 1.5), "s.low = 1.5: a whole number from 1 on"),
        (lambda: Dim("s", True), "s.low = True: a whole number from 1 on"),
        (lambda: Dim("s", 5, 4), "s.high = 4: a whole number from 5 on"),
        (lambda: Dim("s", 5, "9"), "s.high = '9': a whole number from 5 on"),
        (lambda: Dim("s", 5, 9, likely=4), "s.likely = 4: a whole number from 5 on"),
        (lambda: Dim("s", 5, 9, likely=(6, 10)),
         "s.likely = 10: at most 9, the upper end of the range"),
        (lambda: S // 0, "s//0: the divisor must be above 0"),
        (lambda: S // -2, "s//-2: the divisor must be above 0"),
        (lambda: S // (B - 2), "s//b-2: the divisor must be above 0"),
        (lambda: extent_of({"op": "**", "left": 1, "right": 2}), "op = '**': one of +, -, *, //"),
    ],
)  # fmt: skip
def test_refusals(make, why):
    with pytest.raises(WorkloadError) as caught:
        make()
    assert str(caught.value) == why


def test_a_dim_says_its_range():
    assert Dim("s", 5, 9).described == "s from 5 to 9" and Dim("s", 5).described == "s from 5"
    assert Dim("s").range == (1, inf) and Dim("s", 4, 4).range == (4, 4)
    assert Dim("s", 1, 9, likely=3).likely == (3,)
    assert Dim("s", 1, 9, likely=[3, 9]).likely == (3, 9)


SOLVED = [
    ({49 * B: 98}, {"b": 2}),
    ({S + 1: 8}, {"s": 7}),
    ({S - 1: 8}, {"s": 9}),
    ({20 - S: 15}, {"s": 5}),
    ({3 * (S + 2): 27}, {"s": 7}),
    ({S: 4, S * B: 12}, {"s": 4, "b": 3}),
    ({S * B: 12, S: 4}, {"s": 4, "b": 3}),
    ({S * B: 12, S + H: 7, H: 3}, {"s": 4, "b": 3, "h": 3}),
    ({(H + 1) // 2: 4}, {}),
    ({S * B: 12}, {}),
    ({S + S: 12}, {}),
    ({H: 5, (H + 1) // 2: 3}, {"h": 5}),
    ({(S - 1) * B: 0, S: 1}, {"s": 1}),  # b may then be anything
    ({S: 0, S * B: 5}, {"s": 0}),  # which no member's operands say
    ({7: 7, S: 2}, {"s": 2}),
]


@pytest.mark.parametrize(("given_", "found"), SOLVED)
def test_solve(given_, found):
    assert solve(given_) == found


@given(expressions())
def test_json_round_trip(e):
    if not isinstance(e, Extent):
        return
    assert extent_of(json.loads(json.dumps(asdict(e)))) == e
    assert pickle.loads(pickle.dumps(e)) == e


def test_a_workload_with_dims_is_read_back():
    w = matmul(49 * Dim("b", 1, 32, likely=(1, 8)), H, (H + 1) // 2 * H, trans_b=True)
    assert build(Matmul, json.loads(json.dumps(asdict(w))), "workload") == w


# Products with dims.

M, N, K, NB = Dim("m", 1, 600), Dim("n", 1, 50), Dim("k", 4), Dim("nb", 1, 8)


def test_at_gives_the_member():
    w = matmul(M, 64, 32, epilogue="bias+relu", trans_b=True)
    assert w.at(m=7) == matmul(7, 64, 32, epilogue="bias+relu", trans_b=True)
    w = matmul(49 * B, N, K + 1, batch=NB, ldc=99, lda=None)
    assert w.dims == (B, N, K, NB)
    assert w.at(b=2, n=3, k=4, nb=1) == matmul(98, 3, 5, batch=1, ldc=99)
    assert matmul(3, 4, 5).at() == matmul(3, 4, 5) and matmul(3, 4, 5).dims == ()
    assert type(w.at(b=np.int64(2), n=3, k=4, nb=1).m) is int


@pytest.mark.parametrize(
    ("given_", "why"),
    [
        ({}, "m: missing; m from 1 to 600"),
        ({"m": 5}, "k: missing; k from 4"),
        ({"m": 5, "k": 9, "q": 1, "p": 1}, "p, q: no such dim; there are m, k"),
        ({"m": 601, "k": 9}, "m = 601: a whole number, m from 1 to 600"),
        ({"m": 0, "k": 9}, "m = 0: a whole number, m from 1 to 600"),
        ({"m": 2, "k": 3}, "k = 3: a whole number, k from 4"),
        ({"m": 2.0, "k": 9}, "m = 2.0: a whole number, m from 1 to 600"),
        ({"m": True, "k": 9}, "m = True: a whole number, m from 1 to 600"),
        ({"m": 2, "k": MAX + 1}, f"k = {MAX + 1}: an extent is a whole number from 1 to {MAX}"),
    ],
)  # fmt: skip
def test_values_that_are_no_members(given_, why):
    with pytest.raises(WorkloadError) as caught:
        matmul(M, 64, K).at(**given_)
    assert str(caught.value) == why


def test_a_number_has_no_members():
    with pytest.raises(WorkloadError, match="^m: no such dim; there are none$"):
        matmul(3, 4, 5).at(m=3)


def test_shapes_are_extents():
    w = matmul(M, N, 3, batch=NB, broadcast_b=True, trans_a=True, epilogue="bias+residual")
    shapes = {name: t.shape for name, t in w.operands.items()}
    assert shapes == {"a": (NB, 3, M), "b": (3, N), "bias": (N,), "residual": (NB, M, N)}
    assert w.output.shape == (NB, M, N) and w.lda == M and w.ldc == N
    for some in ({"m": 5, "n": 7, "nb": 2}, {"m": 600, "n": 1, "nb": 8}):
        member = w.at(**some)
        assert {x: t.at(some) for x, t in w.operands.items()} == member.operands
        assert w.output.at(some) == member.output
        assert at(w.flops, some) == member.flops
        assert at(w.operand_bytes, some) == member.operand_bytes
        assert all(t.compact for t in w.operands.values())


def test_rows_that_lie_apart_stay_so():
    w = matmul(M, 5, 6, lda=9, ldb=8)
    assert w.operands["a"] == Tensor(shape=(M, 6), dtype="float32", strides=(9, 1))
    assert (w.at(m=3).lda, w.at(m=3).ldb, w.at(m=3).ldc) == (9, 8, 5)
    assert matmul(5, N, 6, ldc=50).at(n=3).ldc == 50


def test_a_batch_of_one_has_its_axis_in_a_family_alone():
    w = matmul(2, 3, 4, batch=NB)
    assert w.operands["a"].at({"nb": 1}).shape == (1, 2, 4)
    assert w.at(nb=1).operands["a"].shape == (2, 4)


def test_a_workload_says_its_dims():
    assert str(matmul(M, 64, K)) == "matmul mx64xk float32, m from 1 to 600, k from 4"
    assert str(matmul(49 * B, 64, 8, batch=NB, epilogue="bias")) == (
        "matmul nb times 49*bx64x8 float32, out = c + bias[n], b from 2 to 6, nb from 1 to 8"
    )


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: matmul(S - 1, 4, 5), f"m = s-1: from 0 to 8; an extent is from 1 to {MAX}"),
        (lambda: matmul(3, 9 - S, 5), f"n = 9-s: from 0 to 8; an extent is from 1 to {MAX}"),
        (lambda: matmul(3, 4, S * -1), f"k = s*-1: from -9 to -1; an extent is from 1 to {MAX}"),
        (lambda: matmul(Dim("m", 1, 2**31), 4, 5),
         f"m = m: from 1 to 2.14748e+09; an extent is from 1 to {MAX}"),
        (lambda: matmul(Dim("m", 1, 9), Dim("m", 1, 8), 5),
         "m: dims of one name, different ranges; make one Dim, use it twice"),
        (lambda: matmul(S * B, 4, 5),
         "b, s: cannot be told from the operands' shapes; give it an extent of its own"),
        (lambda: matmul((H + 1) // 2, 4, 5),
         "h: cannot be told from the operands' shapes; give it an extent of its own"),
        (lambda: matmul(S, (S - 5) * B + 40, 5),  # of s = 5
         "b: cannot be told from the operands' shapes; give it an extent of its own"),
        (lambda: matmul(S, (S - 1) * B + 1, 5),
         "b: cannot be told from the operands' shapes; give it an extent of its own"),
        (lambda: matmul(3, 4, 5, batch=NB, broadcast_a=True, broadcast_b=True),
         "nb: cannot be told from the operands' shapes; give it an extent of its own"),
        (lambda: matmul(3, N, 5, constant_b=True),
         "constant_b: B is 5xn; a B that stays the same has numbers for extents"),
        (lambda: matmul(3, 4, K, constant_b=True),
         "constant_b: B is kx4; a B that stays the same has numbers for extents"),
        (lambda: matmul(3, 4, 5, batch=NB, constant_b=True),
         "constant_b: B is nbx5x4; a B that stays the same has numbers for extents"),
        (lambda: matmul(3, N, 5, ldc=49), "ldc = 49: a number, at least n, the elements of a row"),
        (lambda: matmul(3, 4, K, lda=49), "lda = 49: a number, at least k, the elements of a row"),
        (lambda: matmul(3, N, 5, ldc=N + 1),
         "ldc = n+1: a number, at least n, the elements of a row"),
    ],
)  # fmt: skip
def test_products_that_are_refused(make, why):
    with pytest.raises(WorkloadError) as caught:
        make()
    assert str(caught.value) == why


def test_products_of_dims_are_told_apart():
    """What is told of one extent is used for the next."""
    assert matmul(49 * B, B * S, 8).dims == (B, S)
    assert matmul(H, (H + 1) // 2, S).dims == (H, S)
    assert matmul(3, 4, 5, batch=NB, broadcast_a=True, broadcast_b=True, epilogue="residual").dims


def test_constant_b_with_varying_rows():
    assert matmul(M, 4, 5, constant_b=True, batch=1).at(m=4).constant_b
    assert matmul(3, 4, 5, batch=NB, broadcast_b=True, constant_b=True).at(nb=4).constant_b
