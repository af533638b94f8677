"""Plans of families for tests: drawn at random, and whether their kernels are right for members."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st
from products import assert_close, computed, is_exact, tensors, whole_numbers
from sample_plans import EPILOGUES, able_for, lanes_in, storages

from anatune.model.cover import covers
from anatune.plan import (
    CacheBlocks,
    CodeTarget,
    Cover,
    DynamicPlan,
    GemmPlan,
    Interval,
    MicroTile,
    Order,
    Region,
    Storage,
    ThreadGrid,
)
from anatune.workload import Dim, Matmul, matmul

PAIRS = (
    ("float32", "float32"), ("float32", "float32"), ("float64", "float64"), ("float16", "float16"),
    ("bfloat16", "bfloat16"), ("uint8", "int8"), ("int8", "int8"), ("int16", "int16"),
)  # fmt: skip

VARYING = ("m", "n", "k", "mn", "mk", "nk", "mnk", "b", "bm", "bmnk")
"""Extents that vary together; b is the batch."""

UNIT = {"m": 1, "n": 3, "k": 2, "b": 1}
"""What the first dim of an extent is multiplied with, where it is an expression."""


def one_region(family: Matmul, *variants: GemmPlan) -> DynamicPlan:
    """The first of ``variants`` for all values."""
    whole = tuple(Interval(dim=dim.name, low=dim.low, high=dim.high) for dim in family.dims)
    return DynamicPlan(
        workload=family, variants=variants, regions=(Region(intervals=whole, variant=1),)
    )


def cover_of(dim: str, unit: int, tile: int, sizes: frozenset[int]) -> Cover:
    """With these sizes besides 1 and whole tiles, larger ones better by what a tile costs."""
    cost = {size: size + 1.5 for size in {1, tile, *sizes} if size <= tile}
    return Cover(dim=dim, unit=unit, tile=tile, pieces=tuple(covers(2 * tile - 1, cost)))


@st.composite
def some_families(draw) -> Matmul:
    """Types, layouts, an epilogue, and dims or expressions of them in some extents."""
    varying = draw(st.sampled_from(VARYING))
    extents: dict[str, Any] = {e: draw(st.sampled_from([1, 3, 17, 33, 50])) for e in "mnk"}
    batch: Any = draw(st.sampled_from([1, 1, 3]))
    for e in varying:
        made = draw(st.sampled_from([Dim(e), Dim(e), Dim(e) * UNIT[e], Dim(e) + 1]))
        if e == "b":
            batch = made
        else:
            extents[e] = made
    dtype, dtype_b = draw(st.sampled_from(PAIRS))
    options = {name: draw(st.sampled_from([False, False, True])) for name in ("trans_a", "trans_b")}
    if batch != 1:
        options["broadcast_b"] = draw(st.booleans())
    fixed_b = not {"n", "k"} & set(varying) and ("b" not in varying or options["broadcast_b"])
    options["constant_b"] = fixed_b and draw(st.booleans())
    if draw(st.sampled_from([False, False, True])):
        options |= {"beta": draw(st.sampled_from([0, 1])), "alpha": 2}
    epilogue = draw(st.sampled_from(EPILOGUES))
    return matmul(
        **extents, dtype=dtype, dtype_b=dtype_b, batch=batch, epilogue=epilogue, **options
    )


@st.composite
def family_plans(draw, target: CodeTarget, bits: int) -> DynamicPlan:
    """Any plan of any family that the model may give, in one region."""
    family = draw(some_families())
    member = family.at(**{dim.name: 2 if dim.name == "b" else 30 for dim in family.dims})
    varying = {e for e in "mnk" if not isinstance(family.along(e), int)}
    orders = [o for o in Order if "k" not in varying or o.in_registers == "C"]
    order = draw(st.sampled_from(orders))
    multiply = draw(st.sampled_from(able_for(member, target, order)))
    lanes = lanes_in(bits, multiply.accumulator)
    mr, vectors = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    kr = 1 if order.in_registers == "C" else draw(st.integers(1, 3))
    tile = MicroTile(mr=mr, nr=vectors * lanes, lanes=lanes, kr=kr)
    steps = max(kr, multiply.group)
    blocks = CacheBlocks(
        mc=mr * draw(st.integers(1, 3)), nc=tile.nr * draw(st.integers(1, 2)),
        kc=steps * draw(st.integers(1, 6)),
    )  # fmt: skip
    one, two = st.just(1), st.sampled_from([1, 1, 2])
    depth = two if order.in_registers == "C" and not {"n", "k"} & varying else one
    grid = ThreadGrid(
        rows=draw(two), columns=draw(two), depth=draw(depth),
        batch=draw(two if member.batch > 1 else one),
    )  # fmt: skip
    sizes = st.frozensets(st.integers(1, 5), max_size=2)
    made = []
    if "m" in varying:
        made.append(cover_of("m", 1, mr, draw(sizes)))
    if "n" in varying:
        made.append(cover_of("n", lanes, vectors, draw(sizes)))
    packed = GemmPlan(
        workload=member, target=target, tile=tile, blocks=blocks, arithmetic=multiply.name,
        order=order, a=Storage.PACKED, b=Storage.PACKED, prefetch_c=draw(st.booleans()), grid=grid,
        covers=tuple(made),
    )  # fmt: skip
    a, b = draw(st.sampled_from(able_storages(packed, varying)))
    return one_region(family, replace(packed, a=a, b=b))


def able_storages(p: GemmPlan, varying: set[str]) -> list[tuple[Storage, Storage]]:
    """Those that code with extents that vary may have: groups along a k that varies are copied."""
    by_groups = "k" in varying and p.multiply.group > 1
    return [
        (a, b) for a, b in storages(p)
        if not by_groups or (a is Storage.PACKED and b is not Storage.PACKED_ON_FIRST_USE)
    ]


def assert_member_right(
    plan: DynamicPlan, function: Callable[[str], Any], values: Mapping[str, int]
) -> None:
    """As `products.assert_right`, for one member of a family."""
    laid = {name: tensor.at(values) for name, tensor in tensors(plan.workload).items()}
    p = plan.member(**values)
    given = whole_numbers(p.workload)
    got = computed(p, function, given, laid=laid)
    assert_close(p, given, got.reshape(p.workload.output.shape), is_exact(p.workload))
