"""The family of six orders, every arithmetic, layouts, batches and split sums, against numpy."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

pytest.importorskip("tvm")

from products import assert_right, computed, filled, whole_numbers  # noqa: E402
from sample_plans import host_bits, host_target, lanes_in, plan, storages  # noqa: E402

from anatune.codegen.build import build  # noqa: E402
from anatune.codegen.gemm import lower_gemm  # noqa: E402
from anatune.model.candidates import rank  # noqa: E402
from anatune.plan import ARITHMETIC, GemmPlan, Order, Storage, ThreadGrid  # noqa: E402
from anatune.workload import matmul  # noqa: E402
from anatune.workload.dtypes import ELEMENT_BYTES, INTEGER_RANGE  # noqa: E402

TARGET, BITS = host_target(), host_bits()
LANES = lanes_in(BITS, "float32")
KEPT, PACKED = Storage.IN_PLACE, Storage.PACKED
FRESH, AHEAD = Storage.PACKED_ON_FIRST_USE, Storage.PACKED_AHEAD
ORDERS = list(Order)

DOTS = {
    "bf16 pairs": ("bfloat16", "bfloat16"),
    "int8 quads": ("uint8", "int8"),
    "int8 quads, offset": ("int8", "int8"),
    "int16 pairs": ("int16", "int16"),
    "int16 pairs, widened": ("int8", "uint8"),
    "int16 pairs and add": ("int16", "int16"),
}
"""Arithmetic that takes several steps along k at once, and types of A and B for it."""

SINGLE = {
    "fma64": ("float64", "float64"),
    "fma64, mixed": ("float32", "float64"),
    "fma32": ("float32", "float32"),
    "fma32, bfloat16": ("bfloat16", "bfloat16"),
    "fma32, float16": ("float16", "float16"),
    "fma32, mixed": ("float32", "int8"),
    "int32": ("int32", "int32"),
    "int32, narrow": ("uint8", "uint8"),
}
"""Arithmetic that takes one step at a time."""


def sample(m: int, n: int, k: int, mr: int, vectors: int, **rest) -> GemmPlan:
    """A plan for this machine; tiles that keep A or B are three steps long unless told."""
    order = rest.setdefault("order", Order.B3A2C0)
    if order.in_registers != "C":
        rest.setdefault("kr", 3)
    of = rest.get("of", {})
    lanes = lanes_in(BITS, matmul(m, n, k, **of).accumulator)
    return plan(m, n, k, mr, vectors * lanes, lanes, target=TARGET, **rest)


def of_types(case: str) -> dict:
    """Arithmetic and types of a case of `DOTS` or `SINGLE`; skips what this machine lacks."""
    name = case.split(",")[0]
    if not ARITHMETIC[name].runs_on(TARGET):
        pytest.skip(f"this machine has no instruction for {name}")
    dtype, dtype_b = (DOTS | SINGLE)[case]
    return {"arithmetic": name, "of": {"dtype": dtype, "dtype_b": dtype_b}}


def with_every_storage(m: int, n: int, k: int, mr: int, vectors: int, **rest) -> list[GemmPlan]:
    packed = sample(m, n, k, mr, vectors, a=PACKED, b=PACKED, **rest)
    legal = [pair for pair in storages(packed) if pair != (PACKED, PACKED)]
    ahead = [(a, AHEAD) for a in (KEPT, PACKED) if packed.may_store(a, PACKED)]
    others = [sample(m, n, k, mr, vectors, a=a, b=b, **rest) for a, b in [*legal, *ahead]]
    return [packed, *others]


# The six orders.

ORDER_SHAPES = {
    "one element": (1, 1, 1, 1, 1),
    "less than a tile": (2, LANES - 1, 2, 4, 2),
    "whole tiles": (8, 4 * LANES, 6, 4, 2),
}


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.value)
@pytest.mark.parametrize("shape", ORDER_SHAPES.values(), ids=ORDER_SHAPES.keys())
def test_orders_on_awkward_shapes(order, shape):
    assert_right(sample(*shape, order=order, b=FRESH if order is Order.B3A2C0 else KEPT))


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.value)
def test_orders_and_storages(order):
    """Edges in all three dimensions at once, and several blocks along each."""
    shape = (7, 3 * LANES + 3, 8, 2, 1)
    first = ORDERS.index(order) % 2  # orders that keep the same operand share the storages out
    for p in with_every_storage(*shape, order=order, mc=4, nc=2 * LANES, kc=3)[first::2]:
        assert p.edge_rows and p.edge_columns and p.k_blocks == 3
        assert order.in_registers == "C" or p.edge_steps
        assert_right(p)


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.value)
def test_orders_on_threads_some_of_which_are_idle(order):
    threads = ThreadGrid(rows=4, columns=3)
    assert_right(sample(9, 3 * LANES + 1, 7, 4, 1, order=order, kc=3, grid=threads, b=PACKED))


@pytest.mark.parametrize("order", ORDERS[::2], ids=lambda order: order.value)
@pytest.mark.parametrize("case", ["fma64", "fma32, bfloat16", "int32, narrow"])
def test_orders_in_other_types(order, case):
    """Sums that C could not hold lie apart: bfloat16 over several blocks of k."""
    chosen = of_types(case)
    assert_right(sample(5, LANES + 3, 8, 3, 1, order=order, kc=3, a=PACKED, **chosen))


# Arithmetic.


@pytest.mark.parametrize("case", DOTS)
@pytest.mark.parametrize("k", [1, 3, 13])
def test_every_remainder_of_a_group(case, k):
    """k before, at and beyond whole groups; poison lies behind every row of every operand."""
    chosen = of_types(case)
    for p in with_every_storage(5, LANES + 3, k, 3, 2, **chosen)[: None if k == 13 else 1]:
        assert_right(p)


@pytest.mark.parametrize("case", DOTS)
def test_several_blocks_of_groups(case):
    """The last of three blocks along k ends inside a group; A is packed, and read in place."""
    chosen = of_types(case)
    extents = (9, 2 * LANES + 3, 21, 4, 1)
    group = ARITHMETIC[chosen["arithmetic"]].group
    for order, b in ((Order.B3A2C0, PACKED), (Order.A3B2C0, AHEAD)):
        blocks = {"mc": 4, "nc": LANES, "kc": 2 * group}
        assert_right(sample(*extents, order=order, a=PACKED, b=b, **blocks, **chosen))
    whole = sample(*extents, a=PACKED, b=PACKED, **chosen)
    if whole.may_store(KEPT, PACKED):
        assert_right(sample(*extents, a=KEPT, b=PACKED, kc=2 * group, **chosen))


@pytest.mark.parametrize("case", SINGLE)
def test_one_step_at_a_time(case):
    chosen = of_types(case)
    for a, b in ((KEPT, KEPT), (PACKED, AHEAD)):
        assert_right(sample(7, LANES + 3, 9, 3, 1, a=a, b=b, kc=4, **chosen))


@pytest.mark.parametrize("poison", [np.nan, np.inf], ids=str)
@pytest.mark.parametrize("case", ["bf16 pairs", "fma32, bfloat16", "fma32", "fma64"])
def test_what_lies_behind_a_row_does_not_spoil_it(case, poison):
    """Rows of odd length with poison between them: half of a pair is not the row's."""
    chosen = of_types(case)
    chosen["of"] |= {"lda": 7 + 1, "ldb": LANES + 5}
    assert_right(sample(5, LANES + 3, 7, 3, 2, a=KEPT, b=PACKED, **chosen), poison=poison)


@pytest.mark.parametrize("case", ["bf16 pairs", "fma32", "fma32, float16"])
@pytest.mark.parametrize("order", [Order.B3A2C0, Order.C3B2A0, Order.C3A2B0], ids=lambda o: o.value)
def test_nan_and_inf_stay_in_their_row_and_column(case, order):
    chosen = of_types(case)
    if ARITHMETIC[chosen["arithmetic"]].group > 1 and order.in_registers != "C":
        pytest.skip("no such plan")
    p = sample(6, LANES + 3, 5, 4, 2, order=order, a=PACKED, b=PACKED, **chosen)
    values = whole_numbers(p.workload)
    function = build(p).function
    clean = computed(p, function, values)
    values["a"][5, 4], values["b"][0, LANES + 2] = np.nan, np.inf
    values["a"][:, 0] = 1
    spoilt = computed(p, function, values)
    assert np.isnan(spoilt[5]).all() and np.isposinf(spoilt[:5, LANES + 2].astype(float)).all()
    assert np.isfinite(clean).all() and np.isfinite(spoilt[:5, : LANES + 2].astype(float)).all()


EXTREMES = [(a, b) for a in (-128, 127) for b in (-128, 127)]


@pytest.mark.parametrize("case", ["int8 quads, offset", "int16 pairs, int8", "int32, int8"])
def test_int8_at_its_ends_over_thousands_of_steps(case):
    """An offset of A, or sums of two products in 16 bits, would overflow here if anywhere."""
    name = case.split(",")[0]
    if not ARITHMETIC[name].runs_on(TARGET):
        pytest.skip(f"this machine has no instruction for {name}")
    of = {"dtype": "int8", "dtype_b": "int8"}
    p = sample(3, LANES + 1, 4099, 3, 2, arithmetic=name, of=of, a=PACKED, b=PACKED, kc=2000)
    kernel = build(p)
    for a, b in EXTREMES:
        got = computed(p, kernel.function, filled(p.workload, a=a, b=b))
        assert (got == 4099 * a * b).all()
    assert_right(p, kernel=kernel)


def test_uint8_beside_int8_at_its_ends():
    p = sample(3, LANES + 1, 4099, 3, 2, of={"dtype": "uint8"}, a=PACKED, b=PACKED)
    kernel = build(p)
    for a, b in product((0, 255), (-128, 127)):
        got = computed(p, kernel.function, filled(p.workload, a=a, b=b))
        assert (got == 4099 * a * b).all()
    assert_right(p, kernel=kernel)


WRAPPING = {
    "int16 pairs": (-32768, -32768, 2),
    "int16 pairs and add": (-32768, -32768, 2),
    "int32": (2**31 - 1, 2**31 - 1, 3),
}


@pytest.mark.parametrize("name", WRAPPING)
def test_sums_wrap_around(name):
    """Modulo 2**32, also inside the one instruction that adds two products."""
    a, b, k = WRAPPING[name]
    dtype = "int32" if name == "int32" else "int16"
    if not ARITHMETIC[name].runs_on(TARGET):
        pytest.skip(f"this machine has no instruction for {name}")
    p = sample(2, LANES, k, 2, 1, arithmetic=name, of={"dtype": dtype}, a=PACKED, b=PACKED)
    got = computed(p, build(p).function, filled(p.workload, a=a, b=b))
    exact = k * a * b
    assert not -(2**31) <= exact < 2**31
    assert (got == (exact + 2**31) % 2**32 - 2**31).all()
    assert_right(p)


@pytest.mark.parametrize("out_dtype", ["int8", "uint8", "int16"])
@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_saturation(out_dtype, dtype):
    p = sample(2, LANES + 1, 300, 2, 2, of={"dtype": dtype, "out_dtype": out_dtype}, b=PACKED)
    kernel = build(p)
    low, high = INTEGER_RANGE[out_dtype]
    for a, b, end in ((-128, 127, low), (-128, -128, high), (1, -1, max(low, -300)), (1, 1, None)):
        got = computed(p, kernel.function, filled(p.workload, a=a, b=b))
        assert (got == (min(300, high) if end is None else end)).all()


# Layouts.

LAYOUTS = list(product((False, True), repeat=2))


@pytest.mark.parametrize(("trans_a", "trans_b"), LAYOUTS[1:])
@pytest.mark.parametrize("case", ["fma32", "fma64", *DOTS])
def test_transposed_operands(case, trans_a, trans_b):
    """k of more groups than a vector has lanes: those are transposed together, the rest alone."""
    chosen = of_types(case)
    chosen["of"] |= {"trans_a": trans_a, "trans_b": trans_b}
    assert_right(sample(4, LANES + 3, 4 * LANES + 7, 3, 1, a=PACKED, b=PACKED, **chosen))


@pytest.mark.parametrize(("trans_a", "trans_b"), LAYOUTS[1:])
def test_storages_of_transposed_operands(trans_a, trans_b):
    of = {"trans_a": trans_a, "trans_b": trans_b}
    for p in with_every_storage(7, LANES + 3, LANES + 5, 4, 1, kc=6, of=of):
        assert_right(p)


@pytest.mark.parametrize("order", ORDERS[2:], ids=lambda order: order.value)
def test_transposed_operands_where_a_or_b_stays(order):
    of = {"trans_a": True, "trans_b": True}
    for a in (KEPT, PACKED):
        assert_right(sample(7, LANES + 3, LANES + 2, 3, 1, order=order, a=a, b=PACKED, kc=6, of=of))


@pytest.mark.parametrize("case", ["fma32", "fma64", "bf16 pairs", "int8 quads, offset"])
@pytest.mark.parametrize("transposed", [False, True])
def test_rows_that_lie_apart(case, transposed):
    """What lies between rows is poison, and is there afterwards."""
    chosen = of_types(case)
    m, n, k = 6, LANES + 3, 9
    chosen["of"] |= {"trans_a": transposed, "trans_b": transposed, "ldc": n + 5}
    chosen["of"] |= {"lda": (m if transposed else k) + 2, "ldb": (k if transposed else n) + 1}
    assert_right(sample(m, n, k, 4, 2, a=PACKED, b=PACKED, **chosen))
    if chosen["arithmetic"].startswith("fma") and not transposed:
        assert_right(sample(m, n, k, 4, 2, kc=4, **chosen))


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.value)
def test_orders_with_rows_that_lie_apart(order):
    of = {"lda": 11, "ldb": LANES + 7, "ldc": LANES + 4}
    assert_right(sample(6, LANES + 3, 9, 4, 2, order=order, kc=3, of=of))


# Batches.


@pytest.mark.parametrize(("one_a", "one_b"), LAYOUTS)
@pytest.mark.parametrize("b", [KEPT, PACKED, AHEAD], ids=lambda s: s.value)
def test_batches(one_a, one_b, b):
    of = {"batch": 3, "broadcast_a": one_a, "broadcast_b": one_b}
    grid = ThreadGrid(batch=2, columns=2)
    assert_right(sample(5, LANES + 3, 7, 4, 1, b=b, kc=3, of=of, grid=grid))


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.value)
def test_orders_of_batches(order):
    of = {"batch": 2, "lda": 9, "ldc": LANES + 4, "epilogue": "bias+residual"}
    assert_right(sample(5, LANES + 3, 7, 4, 1, order=order, a=PACKED, b=PACKED, kc=3, of=of))


def test_a_thread_without_a_product():
    """Four products on three threads are two each: the third has none."""
    for b in (PACKED, AHEAD):
        assert_right(sample(4, LANES, 5, 4, 1, b=b, of={"batch": 4}, grid=ThreadGrid(batch=3)))


# What becomes of sums.

FACTORS = [(1, 1), (-1, 0), (0.5, 0.25)]


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.value)
def test_factors_over_several_blocks_of_k(order):
    """C is read once, when the sums are complete."""
    of = {"alpha": 2, "beta": -3}
    p = sample(6, LANES + 3, 9, 4, 1, order=order, kc=3, of=of)
    assert p.k_blocks == 3 and p.keeps_sums_apart
    assert_right(p)


@pytest.mark.parametrize("case", ["fma64", "bf16 pairs", "int8 quads, offset"])
@pytest.mark.parametrize(("alpha", "beta"), FACTORS)
def test_factors_in_other_types(case, alpha, beta):
    chosen = of_types(case)
    if chosen["of"]["dtype"] == "int8" and (alpha % 1 or beta % 1):
        pytest.skip("integer sums have whole factors")
    chosen["of"] |= {"alpha": alpha, "beta": beta}
    assert_right(sample(6, LANES + 3, 9, 4, 1, a=PACKED, b=PACKED, kc=4, **chosen))


@pytest.mark.parametrize(
    ("depth", "epilogue"), [(2, ""), (3, ""), (4, ""), (3, "bias+relu"), (2, "bias+gelu")]
)
def test_sums_shared_by_threads(depth, epilogue):
    grid = ThreadGrid(rows=2, columns=1, depth=depth)
    of = {"epilogue": epilogue, "ldc": LANES + 9}
    order, b = (Order.A3B2C0, AHEAD) if depth == 3 else (Order.B3A2C0, PACKED)
    assert_right(sample(7, LANES + 3, 25, 4, 1, order=order, b=b, kc=4, of=of, grid=grid))


@pytest.mark.parametrize("case", DOTS)
def test_groups_shared_by_threads(case):
    chosen = of_types(case)
    chosen["of"] |= {"beta": 1, "batch": 2}
    grid = ThreadGrid(depth=3, batch=2)
    assert_right(sample(5, LANES + 3, 27, 4, 1, a=PACKED, b=PACKED, kc=4, grid=grid, **chosen))


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_threads_without_a_step(k):
    """5 steps on 4 threads are 2 each: the last has none, and what it would have summed is not
    added up."""
    assert_right(sample(4, LANES + 1, k, 4, 2, grid=ThreadGrid(depth=4)))


EPILOGUES = ("bias+residual+relu", "silu", "scale_n+clip", "max(c, 0) * row[m] - low")


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.value)
def test_epilogues_in_every_order(order):
    """Orders that keep the same operand in registers share them out."""
    first = ORDERS.index(order) % 2
    for epilogue in EPILOGUES[first::2]:
        p = sample(6, LANES + 3, 9, 4, 1, order=order, kc=3, of={"epilogue": epilogue})
        assert p.keeps_sums_apart or p.finishes_blocks
        assert_right(p)


@pytest.mark.parametrize("out_dtype", ["int8", "uint8", "int16", "bfloat16", "float16", "float32"])
def test_requantised(out_dtype):
    of = {"dtype": "int8", "epilogue": "requantise", "out_dtype": out_dtype}
    assert_right(sample(6, LANES + 3, 9, 4, 1, a=PACKED, b=PACKED, kc=4, of=of))


@pytest.mark.parametrize("out_dtype", sorted(ELEMENT_BYTES))
def test_float_sums_become_any_type(out_dtype):
    assert_right(sample(5, LANES + 3, 7, 4, 2, of={"dtype": "bfloat16", "out_dtype": out_dtype},
                        a=PACKED, b=PACKED))  # fmt: skip


# What the model decides.

DECIDED = {
    "float32": {}, "bfloat16": {"dtype": "bfloat16", "trans_b": True, "constant_b": True},
    "batch": {"dtype": "float64", "batch": 2, "trans_a": True, "beta": 1},
    "epilogue": {"dtype": "uint8", "epilogue": "requantise", "out_dtype": "int8"},
}  # fmt: skip


@pytest.mark.parametrize("of", DECIDED.values(), ids=DECIDED.keys())
def test_what_the_model_ranks_becomes_code(here, of):
    """One plan of each order, arithmetic and storage is lowered; the best that keep A, B and C
    are run."""
    ranked = [p for p, _ in rank(here, matmul(13, 19, 17, **of), min(2, here.usable_threads))]
    kinds = {(p.order, p.arithmetic, p.a, p.b): p for p in reversed(ranked)}
    for p in kinds.values():
        assert lower_gemm(p)
    for p in {p.order.in_registers: p for p in reversed(ranked)}.values():
        assert_right(p)
