"""Plans as data: equal, frozen, written and read back, refused with the numbers that do not fit."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields, replace

import pytest
from hypothesis import given
from sample_plans import ANY_TARGET, plan, plans, storages

from anatune.errors import IllegalPlan
from anatune.plan import (
    ARITHMETIC,
    CacheBlocks,
    CodeTarget,
    GemmPlan,
    MicroTile,
    Order,
    Storage,
    ThreadGrid,
    arithmetics,
)
from anatune.plan.nouns import DIMS
from anatune.workload import matmul

PLAN = plan(
    100, 70, 50, 6, 16, 8, mc=24, nc=32, kc=20, a=Storage.PACKED, b=Storage.PACKED_ON_FIRST_USE,
    grid=ThreadGrid(rows=2, columns=1),
)  # fmt: skip


@given(plans())
def test_round_trip(drawn):
    text = drawn.to_json()
    again = GemmPlan.from_json(text)
    assert again == drawn and hash(again) == hash(drawn)
    assert again.to_json() == text and "\n" not in text


def test_features_come_back_as_a_tuple():
    target = CodeTarget(
        isa="x86_64", mcpu="znver5", triple="x86_64-linux-gnu", features=("avx2", "fma")
    )
    again = GemmPlan.from_json(replace(PLAN, target=target).to_json())
    assert again.target == target


def test_written_form(golden):
    golden("plan.json", PLAN.to_json() + "\n")
    others = [
        replace(PLAN, grid=ThreadGrid()),
        plan(64, 64, 64, 4, 32, 16, kr=4, order=Order.C3B2A0, prefetch_c=True),
        plan(64, 64, 64, 4, 32, 16, of={"dtype": "uint8"}, a=Storage.PACKED, b=Storage.PACKED_AHEAD,
             grid=ThreadGrid(rows=2, columns=1, depth=3)),
        plan(64, 64, 64, 4, 32, 16, of={"batch": 4}, grid=ThreadGrid(columns=2, batch=4)),
    ]  # fmt: skip
    golden("plan.txt", "".join(f"{p}\n" for p in (PLAN, *others)))


@pytest.mark.parametrize("field", [f.name for f in fields(GemmPlan)])
def test_frozen(field):
    with pytest.raises(FrozenInstanceError):
        setattr(PLAN, field, getattr(PLAN, field))


@pytest.mark.parametrize(
    "change",
    [
        {"workload": replace(PLAN.workload, m=101)},
        {"workload": replace(PLAN.workload, beta=1)},
        {"order": Order.A3B2C0, "b": Storage.PACKED},
        {"target": CodeTarget(isa="x86_64", mcpu="znver5")},
        {"tile": MicroTile(mr=6, nr=8, lanes=8)},
        {"blocks": CacheBlocks(mc=24, nc=32, kc=21)},
        {"a": Storage.IN_PLACE},
        {"b": Storage.PACKED},
        {"grid": ThreadGrid(rows=1, columns=2)},
        {"grid": ThreadGrid(rows=2, depth=2)},
        {"prefetch_c": True},
    ],
)
def test_each_field_tells_plans_apart(change):
    assert set(change) <= {f.name for f in fields(GemmPlan)}
    assert replace(PLAN) == PLAN
    assert replace(PLAN, **change) != PLAN


def changed(*path: str, **values) -> str:
    """PLAN's JSON with ``values`` put into the object at ``path``; ... takes a key away."""
    whole = json.loads(PLAN.to_json())
    part = whole
    for name in path:
        part = part[name]
    part.update(values)
    for name in [name for name, value in values.items() if value is ...]:
        del part[name]
    return json.dumps(whole)


ABOVE_0 = "a whole number above 0"
A_STORAGE = "one of 'in_place', 'packed', 'packed_on_first_use', 'packed_ahead'"
ORDERS = ", ".join(repr(order.value) for order in Order)
NAMES = ", ".join(map(repr, ARITHMETIC))
REFUSED = {
    "[]": "plan: [] is not a plan; give what to_json returned",
    "3": "plan: 3 is not a plan; give what to_json returned",
    changed(kind=...): "kind = None: this version reads plans of kind 'gemm'",
    changed(kind="conv"): "kind = 'conv': this version reads plans of kind 'gemm'",
    changed(epilogue="relu"): "plan.epilogue: unknown field; GemmPlan has "
    "workload, target, tile, blocks, arithmetic, order, a, b, prefetch_c, grid, covers, "
    "micro_kernel",
    changed("tile", lines=4): "plan.tile.lines: unknown field; MicroTile has mr, nr, lanes, kr",
    changed("tile", kr=0): f"plan.tile.kr = 0: {ABOVE_0}",
    changed("tile", kr=4): "kr = 4: 1 where C stays in registers",
    changed("tile", mr=0): f"plan.tile.mr = 0: {ABOVE_0}",
    changed("tile", mr=-6): f"plan.tile.mr = -6: {ABOVE_0}",
    changed("tile", mr=6.0): f"plan.tile.mr = 6.0: {ABOVE_0}",
    changed("tile", mr=True): f"plan.tile.mr = True: {ABOVE_0}",
    changed("tile", mr="6"): f"plan.tile.mr = '6': {ABOVE_0}",
    changed("blocks", kc=None): f"plan.blocks.kc = None: {ABOVE_0}",
    changed("grid", rows=0): f"plan.grid.rows = 0: {ABOVE_0}",
    changed("grid", depth=0): f"plan.grid.depth = 0: {ABOVE_0}",
    changed("grid", batch=2): "grid.batch = 2: at most 1, the batch",
    changed(order="C3A2C0"): f"plan.order = 'C3A2C0': one of {ORDERS}",
    changed(arithmetic="fma"): f"arithmetic = 'fma': one of {NAMES}",
    changed(arithmetic="int32"): "arithmetic = 'int32': does not compute matmul 100x70x50 float32",
    changed("workload", alpha="1"): "plan.workload.alpha = '1': a number",
    changed("workload", trans_a=1): "plan.workload.trans_a = 1: true or false",
    changed(prefetch_c="no"): "plan.prefetch_c = 'no': true or false",
    changed(tile=[6, 16, 8]): "plan.tile = [6, 16, 8]: an object with the fields of MicroTile",
    changed(grid=None): "plan.grid = None: an object with the fields of ThreadGrid",
    changed(b="somewhere"): f"plan.b = 'somewhere': {A_STORAGE}",
    changed(b=["packed"]): f"plan.b = ['packed']: {A_STORAGE}",
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), REFUSED.items(), ids=REFUSED.values())
def test_refused(text, message):
    with pytest.raises(IllegalPlan) as caught:
        GemmPlan.from_json(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("path", "field"), [((), "tile"), ((), "workload"), (("tile",), "nr"), (("target",), "mcpu")]
)
def test_missing_fields_are_named(path, field):
    with pytest.raises(IllegalPlan) as caught:
        GemmPlan.from_json(changed(*path, **{field: ...}))
    assert str(caught.value).startswith(".".join(("plan", *path)) + ": ")
    assert repr(field) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "values"),
    [
        (("target",), {"mcpu": 3}),
        (("target",), {"isa": None}),
        (("target",), {"triple": 1}),
        (("target",), {"features": "avx2"}),
        (("target",), {"features": [1, 2]}),
        (("target",), {"features": {"avx2": True}}),
        (("workload",), {"dtype": ["float32"]}),
        (("workload",), {"dtype": {}}),
    ],
)
def test_text_must_be_text(path, values):
    """What comes from a file of somebody else's fails here, not in LLVM."""
    (name,) = values
    with pytest.raises(IllegalPlan, match=rf"{'.'.join(('plan', *path, name))} = "):
        GemmPlan.from_json(changed(*path, **values))


@pytest.mark.parametrize(
    "text", ["", "{", "nonsense", "\x00", "[" * 10**6], ids=lambda text: repr(text[:9])
)
def test_not_json(text):
    with pytest.raises(IllegalPlan, match=r"^plan: not JSON \(.*\); give what to_json returned$"):
        GemmPlan.from_json(text)


def test_blocks_are_whole_tiles_or_all_of_a_thread():
    with pytest.raises(IllegalPlan) as caught:
        plan(100, 70, 50, 6, 16, 8, mc=20)
    assert str(caught.value) == "mc = 20: a multiple of the tile's 6, or all 100 of a thread"
    with pytest.raises(IllegalPlan) as caught:
        plan(100, 70, 50, 6, 16, 8, nc=40, grid=ThreadGrid(columns=1))
    assert str(caught.value) == "nc = 40: a multiple of the tile's 16, or all 70 of a thread"
    of_a_thread = plan(100, 70, 50, 6, 16, 8, nc=50, grid=ThreadGrid(columns=2))
    assert of_a_thread.thread_columns == 48  # less than nc: nothing is left to cut


def test_columns_are_whole_vectors():
    with pytest.raises(IllegalPlan) as caught:
        plan(100, 70, 50, 6, 12, 8)
    assert str(caught.value) == "nr = 12: a multiple of the 8 lanes of a vector"


def test_a_is_not_packed_on_first_use():
    with pytest.raises(IllegalPlan) as caught:
        plan(100, 70, 50, 6, 16, 8, a=Storage.PACKED_ON_FIRST_USE)
    assert str(caught.value) == "a = 'packed_on_first_use': A is read in place or packed"


@given(plans(target=ANY_TARGET))
def test_threads_share_all_of_c_in_whole_tiles(drawn):
    w, grid = drawn.workload, drawn.grid
    for extent, share, unit, parts in (
        (w.m, drawn.thread_rows, drawn.tile.mr, grid.rows),
        (w.n, drawn.thread_columns, drawn.tile.nr, grid.columns),
        (w.k, drawn.thread_depth, drawn.k_unit, grid.depth),
        (w.batch, drawn.thread_batch, 1, grid.batch),
    ):
        assert share % unit == 0
        assert share * parts >= extent > (share - unit) * parts
    for extent, edge, unit in (
        (w.m, drawn.edge_rows, drawn.tile.mr),
        (w.n, drawn.edge_columns, drawn.tile.nr),
        (w.k, drawn.edge_steps, drawn.k_unit),
    ):
        assert edge < unit and (extent - edge) % unit == 0
    deepest = min(drawn.thread_depth, w.k)
    assert drawn.k_blocks * drawn.blocks.kc >= deepest > (drawn.k_blocks - 1) * drawn.blocks.kc


# The family.

LOOPS = {
    # order: loops over blocks, outermost first; over tiles; what the micro-kernel runs along
    "B3A2C0": (tuple("nkm"), tuple("nm"), "k"),
    "A3B2C0": (tuple("mkn"), tuple("mn"), "k"),
    "C3B2A0": (tuple("mnk"), tuple("mk"), "n"),
    "B3C2A0": (tuple("knm"), tuple("km"), "n"),
    "C3A2B0": (tuple("nmk"), tuple("nk"), "m"),
    "A3C2B0": (tuple("kmn"), tuple("kn"), "m"),
}


@pytest.mark.parametrize("order", Order, ids=lambda order: order.value)
def test_loops_of_the_family(order):
    assert (order.outer, order.inner, order.along) == LOOPS[order.value]


@pytest.mark.parametrize("order", Order, ids=lambda order: order.value)
def test_each_operand_is_at_hand_for_as_long_as_its_level_keeps_it(order):
    """X changes with the two outer loops over blocks, Y with the inner two; Z is the tile itself,
    which the micro-kernel leaves alone."""
    assert {order.in_l3, order.in_l2, order.in_registers} == {"A", "B", "C"}
    assert set(order.outer[:2]) == set(DIMS[order.in_l3])
    assert set(order.outer[1:]) == set(DIMS[order.in_l2])
    assert order.along not in DIMS[order.in_registers]
    assert list(order.inner) == [dim for dim in order.outer if dim != order.along]


def test_the_family_is_complete():
    assert len({(o.in_l3, o.in_l2) for o in Order}) == len(LOOPS) == 6


@given(plans())
def test_how_often_c_leaves_the_registers(drawn):
    """Counted along the loops; a thread that shares sums counts its own."""
    deepest = min(drawn.thread_depth, drawn.workload.k)
    turns = 0
    for start in range(0, deepest, drawn.blocks.kc):
        steps = min(drawn.blocks.kc, deepest - start)
        stays = drawn.order.in_registers == "C"
        turns += 1 if stays else len(range(0, steps, drawn.tile.kr))
    assert drawn.turns_of_c == turns >= drawn.k_blocks


@given(plans())
def test_sums_lie_apart_where_c_cannot_hold_them(drawn):
    w = drawn.workload
    if drawn.grid.depth > 1:
        assert drawn.keeps_sums_apart
    else:
        as_they_are = w.out_dtype == w.accumulator and not (w.epilogue or w.beta or w.alpha != 1)
        assert drawn.keeps_sums_apart == (drawn.turns_of_c > 1 and not as_they_are)


@given(plans())
def test_storages_are_legal_exactly_where_a_plan_may_have_them(drawn):
    legal = storages(drawn)
    assert (drawn.a, drawn.b) in legal and (Storage.PACKED, Storage.PACKED) in legal
    for a in Storage:
        for b in Storage:
            if (a, b) in legal:
                assert replace(drawn, a=a, b=b).may_store(a, b)
                continue
            with pytest.raises(IllegalPlan) as caught:
                replace(drawn, a=a, b=b)
            said = str(caught.value)
            assert said.startswith((f"a = {a.value!r}: ", f"b = {b.value!r}: "))
            assert "\n" not in said


@given(plans())
def test_packed_ahead_has_room_for_all_of_b(drawn):
    """Whole blocks of whole tiles: every step and column has its place, of every thread along k."""
    w, group = drawn.workload, drawn.multiply.group
    products, blocks, column_tiles, rows, width = drawn.packed_ahead_shape
    assert products == (1 if w.broadcast_b else w.batch)
    assert column_tiles * width >= w.n * group > (column_tiles - 1) * width
    per_thread = blocks // drawn.grid.depth
    assert per_thread * drawn.blocks.kc >= min(drawn.thread_depth, w.k)
    steps = (rows - bool(drawn.offset_a)) * group
    assert steps >= min(drawn.blocks.kc, w.k) and steps - group < drawn.blocks.kc


# Arithmetic.

CHOICES = {
    ("float64", "float64"): ["fma64"],
    ("float32", "int8"): ["fma32"],
    ("float16", "float16"): ["fma32"],
    ("bfloat16", "bfloat16"): ["bf16 pairs", "fma32"],
    ("uint8", "int8"): ["int8 quads", "int16 pairs", "int32"],
    ("int8", "int8"): ["int8 quads", "int16 pairs", "int32"],
    ("int8", "uint8"): ["int16 pairs", "int32"],
    ("uint8", "uint8"): ["int16 pairs", "int32"],
    ("int16", "int8"): ["int16 pairs", "int32"],
    ("int32", "int8"): ["int32"],
}
"""Of which types what computes the product, the most steps per instruction first."""


@pytest.mark.parametrize(("types", "names"), CHOICES.items(), ids=str)
def test_what_computes_which_types(types, names):
    w = matmul(8, 8, 8, dtype=types[0], dtype_b=types[1])
    assert [a.name for a in arithmetics(w, ANY_TARGET)] == names


BARE = CodeTarget(isa="x86_64", mcpu="haswell", features=("avx2", "fma"))
VNNI = replace(BARE, features=("avx2", "avxvnni"))
ELSEWHERE = CodeTarget(isa="aarch64", mcpu="neoverse-n1", features=("neon",))


@pytest.mark.parametrize(
    ("target", "dtype", "names"),
    [
        (BARE, "bfloat16", ["fma32"]),
        (BARE, "int8", ["int16 pairs and add", "int32"]),
        (ELSEWHERE, "int8", ["int32"]),
        (ELSEWHERE, "bfloat16", ["fma32"]),
        (VNNI, "int8", ["int8 quads", "int16 pairs", "int32"]),
    ],
)
def test_features_of_the_target_decide(target, dtype, names):
    assert [a.name for a in arithmetics(matmul(8, 8, 8, dtype=dtype), target)] == names


@given(plans())
def test_arithmetic_takes_whole_groups_of_32_bits(drawn):
    how = drawn.multiply
    assert how.runs_on(drawn.target) and how.computes(drawn.workload)
    if how.group > 1:
        assert drawn.order.in_registers == "C" and drawn.k_unit == how.group
    assert (drawn.offset_a == 128) == (how.a == "uint8" and drawn.workload.dtype == "int8")


IN_PLACE, PACKED, AHEAD = Storage.IN_PLACE, Storage.PACKED, Storage.PACKED_AHEAD
FRESH = Storage.PACKED_ON_FIRST_USE
ROWS_OF_B = "rows along n, one step along k at a time, are needed; pack B"
ILLEGAL = {
    "arithmetic = 'bf16 pairs': needs avx512bf16; target has avx2, fma": (
        {"of": {"dtype": "bfloat16"}, "arithmetic": "bf16 pairs", "target": BARE}
    ),
    "arithmetic = 'int8 quads': needs avx512vnni or avxvnni; target has neon": (
        {"of": {"dtype": "int8"}, "arithmetic": "int8 quads", "target": ELSEWHERE}
    ),
    "arithmetic = 'int16 pairs and add': needs x86_64; target has neon": (
        {"of": {"dtype": "int8"}, "arithmetic": "int16 pairs and add", "target": ELSEWHERE}
    ),
    "order = C3B2A0: only for arithmetic that takes one step along k": (
        {"of": {"dtype": "int8"}, "order": Order.C3B2A0, "arithmetic": "int8 quads", "a": PACKED,
         "b": PACKED}
    ),
    "depth = 2: only with C in registers": (
        {"order": Order.C3A2B0, "grid": ThreadGrid(depth=2)}
    ),
    "kr = 2: 1 where C stays in registers": {"kr": 2},
    "kc = 5: a multiple of the tile's 2, or all 50 of a thread": (
        {"order": Order.C3A2B0, "kr": 2, "kc": 5}
    ),
    "kc = 6: a multiple of the tile's 4, or all 50 of a thread": (
        {"of": {"dtype": "int8"}, "kc": 6, "a": PACKED, "b": PACKED}
    ),
    "b = 'packed_ahead': only of a workload with constant_b=True": {"b": AHEAD, "constant": False},
    f"b = 'in_place': {ROWS_OF_B}": {"of": {"trans_b": True}},
    "a = 'packed_ahead': A is read in place or packed": {"a": AHEAD},
    "a = 'in_place': int16 pairs take neighbours along k of type int16; pack A": (
        {"of": {"dtype": "int16", "trans_a": True}, "b": PACKED}
    ),
    "b = 'packed_on_first_use': only in B3A2C0, of whole groups of rows along n": (
        {"order": Order.A3B2C0, "b": FRESH}
    ),
    "grid.batch = 3: at most 2, the batch": (
        {"of": {"batch": 2}, "grid": ThreadGrid(batch=3)}
    ),
}  # fmt: skip


@pytest.mark.parametrize("message", ILLEGAL)
def test_refusals_name_field_and_value(message):
    options = dict(ILLEGAL[message])
    constant = options.pop("constant", True)
    with pytest.raises(IllegalPlan) as caught:
        made = plan(100, 70, 50, 6, 16, 8, **options)
        replace(made, workload=replace(made.workload, constant_b=constant))
    assert str(caught.value) == message
