"""One kernel for a whole range: members are right, nothing else is touched, hot loops are plain."""

from __future__ import annotations

import json
import signal
import sys
from functools import partial
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tvm")

from assembly import BRANCH, hot_loops  # noqa: E402
from families import (  # noqa: E402
    assert_member_right,
    cover_of,
    family_plans,
    one_region,
)
from sample_plans import host_bits, host_lanes, host_target, plan  # noqa: E402
from test_numerics import run_guarded  # noqa: E402
from tvm.tirx.script import builder as T  # noqa: E402

from anatune.codegen import dynamic  # noqa: E402
from anatune.codegen.build import build  # noqa: E402
from anatune.codegen.family_call import FamilyCall  # noqa: E402
from anatune.codegen.link import write_loadable  # noqa: E402
from anatune.codegen.vectors import Row  # noqa: E402
from anatune.model.dynamic import plan_family  # noqa: E402
from anatune.plan import DynamicPlan, GemmPlan, Interval, Order, Region, Storage  # noqa: E402
from anatune.workload import Dim, Matmul, matmul  # noqa: E402

TARGET, BITS, LANES = host_target(), host_bits(), host_lanes()
KEPT, PACKED = Storage.IN_PLACE, Storage.PACKED
FRESH, AHEAD = Storage.PACKED_ON_FIRST_USE, Storage.PACKED_AHEAD

MANY = 600
ROWS = {
    "bounded": Dim("m", 1, MANY),
    "unbounded": Dim("m"),
    "expected to be small": Dim("m", 1, MANY, likely=(1, 2)),
}


@pytest.mark.parametrize(
    ("rows", "dtype"),
    [("bounded", "int8"), ("unbounded", "float32"), ("expected to be small", "float32")],
)
def test_one_kernel_is_right_for_every_number_of_rows(here, rows, dtype):
    """From 1 to 600; and beyond what was looked at, where there is no upper end."""
    n, k, m = 2 * LANES + 5, 23, ROWS[rows]
    p = plan_family(here, matmul(m, n, k, dtype=dtype), threads=2 if rows == "unbounded" else 1)
    call = FamilyCall(p, build(p).function)
    most = MANY if m.high else 4500
    draw = np.random.default_rng(7)
    a, b = (draw.integers(-4, 5, shape).astype(dtype) for shape in ((most, k), (k, n)))
    wanted = a.astype(np.int64) @ b.astype(np.int64)
    room = np.empty((most + 1, n), p.workload.output.dtype)
    for count in (*range(1, MANY + 1), *range(MANY + 1, most + 1, 433), most):
        room[...] = 77
        call(a[:count], b, out=room[:count])
        assert np.array_equal(room[:count], wanted[:count]), count
        assert (room[count:] == 77).all(), count


SAMPLES = (1, 2, 5, 15, 16, 17, 31, 33, 48, 65, 97)


@settings(max_examples=15)
@given(family_plans(TARGET, BITS), st.data())
def test_any_plan_of_any_family(p, data):
    function = build(p).function
    for _ in range(5):
        values = {
            dim.name: data.draw(st.sampled_from((1, 2, 3) if dim.name == "b" else SAMPLES))
            for dim in p.workload.dims
        }
        assert_member_right(p, function, values)


S, B, M = Dim("s", 1, 100), Dim("b", 1, 6), Dim("m", 1, 80)
SEVERAL = {
    "both sides": (matmul(S, S, 24, batch=3), {"s": (1, 2, 16, 17, 63, 100)}),
    "scores and keys": (matmul(S, S + M, 8), {"s": (1, 33, 100), "m": (1, 7, 80)}),
    "images": (matmul(49 * B, 40, 16), {"b": (1, 2, 6)}),
    "a batch": (matmul(20, 33, 9, batch=B, epilogue="bias+residual"), {"b": (1, 2, 5, 6)}),
    "rows and a batch": (matmul(M, 33, 9, batch=B, broadcast_b=True), {"b": (1, 6), "m": (1, 50)}),
    "steps": (matmul(20, 33, Dim("k"), dtype="int8"), {"k": (1, 3, 4, 5, 500)}),
    "all": (matmul(M, Dim("n"), Dim("k")), {"m": (1, 80), "n": (1, 70), "k": (1, 77)}),
    "half an image": (matmul(S, (S + 1) // 2, 9), {"s": (1, 2, 99, 100)}),
}  # fmt: skip


@pytest.mark.parametrize("name", SEVERAL)
def test_several_dims_and_expressions(here, name):
    """As the model plans them, of little code: it is LLVM that takes long."""
    family, values = SEVERAL[name]
    p = plan_family(here, family, threads=2, most_bytes=9_000)
    function = build(p).function
    for some in product(*values.values()):
        assert_member_right(p, function, dict(zip(values, some)))


# Which variant runs.


def cut_in_three(family: Matmul, *regions: tuple) -> DynamicPlan:
    """``regions``: the variant, then the ends of each dim."""
    member = family.at(**{dim.name: 9 for dim in family.dims})
    variants = tuple(varying_plan(family, mr=mr, m=member.m, n=member.n) for mr in (1, 2, 3))
    made = [
        Region(
            intervals=tuple(Interval(dim=dim.name, low=low, high=high)
                            for dim, (low, high) in zip(family.dims, ends)),
            variant=variant,
        )
        for variant, *ends in regions
    ]  # fmt: skip
    return DynamicPlan(workload=family, variants=variants, regions=tuple(made))


def varying_plan(
    family: Matmul, mr: int, m: int = 9, n: int = 9, vectors: int = 1, **rest
) -> GemmPlan:
    """A plan with covers along what varies of m and n."""
    made = []
    if not isinstance(family.m, int):
        made.append(cover_of("m", 1, mr, frozenset({2})))
    if not isinstance(family.n, int):
        made.append(cover_of("n", LANES, vectors, frozenset()))
    k = family.k if isinstance(family.k, int) else 8
    rest = {"mc": 2 * mr, "nc": vectors * LANES, **rest}
    return plan(
        m, n, k, mr, vectors * LANES, LANES, target=TARGET, covers=tuple(made), **rest
    )


M9, N9 = Dim("m", 1, 30), Dim("n", 1)
CUT = {
    "one dim": (matmul(M9, 9, 8), (2, (1, 4)), (1, (5, 5)), (2, (6, 12)), (3, (13, 30))),
    "no end": (matmul(9, N9, 8), (1, (1, 7)), (2, (8, None))),
    "two dims": (
        matmul(M9, N9, 8),
        (1, (1, 4), (1, 9)), (2, (1, 4), (10, None)), (3, (5, 30), (1, 3)), (1, (5, 9), (4, None)),
        (2, (10, 30), (4, None)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CUT)
def test_values_lead_to_the_variant_of_their_region(monkeypatch, name):
    """Each variant's code writes down its number instead of computing."""
    p = cut_in_three(*CUT[name])

    def sign(sizes, buffers) -> None:
        T.buffer_store(buffers["c"], T.float32(1 + p.variants.index(sizes.plan)), [0, 0])

    monkeypatch.setattr(dynamic, "emit_product", sign)
    call = FamilyCall(p, build(p).function)
    dims = [dim.name for dim in p.workload.dims]
    for some in product(range(1, 31), repeat=len(dims)):
        values = dict(zip(dims, some))
        w = p.workload.at(**values)
        c = call(np.zeros((w.m, w.k), "f4"), np.zeros((w.k, w.n), "f4"))
        assert p.variants[int(c[0, 0]) - 1] == p.variant_at(**values), values


def test_values_beyond_the_range_are_refused_by_the_code_itself():
    """Without the checks of a call, as from C: arrays of blocks are no longer than they must be."""
    import tvm_ffi

    p = cut_in_three(*CUT["one dim"])
    for m in (30, 31):
        a, b = np.ones((m, 8), "f4"), np.ones((8, 9), "f4")
        c = np.zeros((m, 9), "f4")
        run = partial(build(p).function(), *map(tvm_ffi.from_dlpack, (a, b, c)))
        if m == 30:
            run()
            assert (c == 8).all()
        else:
            with pytest.raises(RuntimeError, match="^m: beyond 30, the upper end of its range$"):
                run()


# Memory, and what the compiler made of it.


def ragged() -> list[tuple[DynamicPlan, list[dict[str, int]]]]:
    """Columns, steps and rows that end within a vector, a group, a tile; each storage."""
    columns = matmul(7, Dim("n"), 9)
    found = [
        (one_region(columns, varying_plan(columns, mr=4, m=7, vectors=2, b=b, kc=5)),
         [{"n": n} for n in (1, LANES - 1, LANES, 2 * LANES + 1, 5 * LANES - 1)])
        for b in (KEPT, PACKED, FRESH)
    ]  # fmt: skip
    rows = matmul(Dim("m"), LANES + 1, 9)
    found += [
        (one_region(rows, varying_plan(rows, mr=4, n=LANES + 1, vectors=2, a=a, order=order)),
         [{"m": m} for m in (1, 3, 4, 5, 11)])
        for a, order in ((KEPT, Order.B3A2C0), (PACKED, Order.B3A2C0), (KEPT, Order.C3B2A0))
    ]  # fmt: skip
    steps = matmul(5, 2 * LANES - 1, Dim("k"), dtype="int8", batch=Dim("b"))
    of = {"dtype": "int8", "batch": 2}
    found.append(
        (one_region(steps, plan(5, 2 * LANES - 1, 8, 4, LANES, LANES, target=TARGET, mc=8,
                                nc=2 * LANES, a=PACKED, b=PACKED, of=of)),
         [{"k": k, "b": b} for k in (1, 4, 7, 9) for b in (1, 3)])
    )  # fmt: skip
    return found


needs_mprotect = pytest.mark.skipif(
    sys.platform != "linux", reason="mprotect through the C library of Linux"
)


@needs_mprotect
def test_no_access_outside_the_operands(tmp_path):
    cases = []
    for number, (p, members) in enumerate(ragged()):
        path = write_loadable(build(p).executable, tmp_path / f"kernel{number}")
        cases += [(path, p.to_json(), end, dims) for end in (True, False) for dims in members]
    done = run_guarded(cases)
    assert done.returncode == 0, (done.stdout.splitlines()[-1:], done.stderr[-2000:])
    assert done.stdout.splitlines() == [json.dumps(case) for case in cases]


@needs_mprotect
def test_a_kernel_that_reads_outside_is_killed(tmp_path, monkeypatch):
    """Without masks that follow the extent, a last vector steps over: the test above can fail."""
    masked = Row._mask
    monkeypatch.setattr(
        Row, "_mask", lambda row, u: None if row.last is not None else masked(row, u)
    )
    p, members = ragged()[0]
    path = write_loadable(build(p).executable, tmp_path / "kernel")
    assert run_guarded([(path, p.to_json(), True, members[1])]).returncode == -signal.SIGSEGV


LISTED = {
    "rows": matmul(Dim("m", 1, 512), 256, 256),
    "rows and columns": matmul(Dim("m", 1, 512), Dim("n", 1, 512), 64),
    "steps": matmul(64, 128, Dim("k", 1, 512)),
}


@pytest.mark.parametrize("name", LISTED)
def test_the_loop_along_k_has_no_branch_but_its_own(name):
    """Every tile of a cover has a loop of its own, one block that jumps to its head and no more."""
    family = LISTED[name]
    p = one_region(family, varying_plan(
        family, mr=6, m=64, n=128 if name != "rows" else 256, vectors=2, mc=48, nc=4 * LANES,
        a=PACKED if name == "steps" else KEPT, b=PACKED,
    ))  # fmt: skip
    found = hot_loops(build(p).source("asm"))
    (variant,) = p.variants
    heights, widths = ({*c.sizes, c.tile} if c else {t} for c, t in (
        (variant.cover("m"), 6), (variant.cover("n"), 2)))
    tiles = {h * v for h, v in product(heights, widths)} if name != "steps" else {6 * 2}
    counts = {loop.multiply_adds for loop in found}
    assert all(any(count % tile == 0 for count in counts) for tile in tiles), (counts, tiles)
    assert len(found) >= len(tiles)
    for loop in found:
        assert sum(bool(BRANCH.match(line)) for line in loop.lines) == 1, loop.lines
        assert not loop.calls and not loop.spilled_vectors
