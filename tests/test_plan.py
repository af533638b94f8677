"""Plans as data: equal, frozen, written and read back, refused with the numbers that do not fit."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields, replace

import pytest
from hypothesis import given
from sample_plans import ANY_TARGET, plan, plans

from anatune.errors import IllegalPlan
from anatune.plan import CacheBlocks, CodeTarget, GemmPlan, MicroTile, Storage, ThreadGrid

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
    golden("plan.txt", f"{PLAN}\n{replace(PLAN, grid=ThreadGrid())}\n")


@pytest.mark.parametrize("field", [f.name for f in fields(GemmPlan)])
def test_frozen(field):
    with pytest.raises(FrozenInstanceError):
        setattr(PLAN, field, getattr(PLAN, field))


@pytest.mark.parametrize(
    "change",
    [
        {"workload": replace(PLAN.workload, m=101)},
        {"target": CodeTarget(isa="x86_64", mcpu="znver5")},
        {"tile": MicroTile(mr=6, nr=8, lanes=8)},
        {"blocks": CacheBlocks(mc=24, nc=32, kc=21)},
        {"a": Storage.IN_PLACE},
        {"b": Storage.PACKED},
        {"grid": ThreadGrid(rows=1, columns=2)},
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
REFUSED = {
    "[]": "plan: [] is not a plan; give what to_json returned",
    "3": "plan: 3 is not a plan; give what to_json returned",
    changed(kind=...): "kind = None: this version reads plans of kind 'gemm'",
    changed(kind="conv"): "kind = 'conv': this version reads plans of kind 'gemm'",
    changed(epilogue="relu"): "plan.epilogue: unknown field; GemmPlan has "
    "workload, target, tile, blocks, a, b, prefetch_c, grid",
    changed("tile", kr=4): "plan.tile.kr: unknown field; MicroTile has mr, nr, lanes",
    changed("tile", mr=0): f"plan.tile.mr = 0: {ABOVE_0}",
    changed("tile", mr=-6): f"plan.tile.mr = -6: {ABOVE_0}",
    changed("tile", mr=6.0): f"plan.tile.mr = 6.0: {ABOVE_0}",
    changed("tile", mr=True): f"plan.tile.mr = True: {ABOVE_0}",
    changed("tile", mr="6"): f"plan.tile.mr = '6': {ABOVE_0}",
    changed("blocks", kc=None): f"plan.blocks.kc = None: {ABOVE_0}",
    changed("grid", rows=0): f"plan.grid.rows = 0: {ABOVE_0}",
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
    w = drawn.workload
    for extent, share, tile, parts in (
        (w.m, drawn.thread_rows, drawn.tile.mr, drawn.grid.rows),
        (w.n, drawn.thread_columns, drawn.tile.nr, drawn.grid.columns),
    ):
        assert share % tile == 0
        assert share * parts >= extent > (share - tile) * parts
    assert drawn.edge_rows < drawn.tile.mr and (w.m - drawn.edge_rows) % drawn.tile.mr == 0
    assert drawn.k_blocks * drawn.blocks.kc >= w.k > (drawn.k_blocks - 1) * drawn.blocks.kc
