"""Kernels of stencils: random shapes, offsets and types, run here and compared with float64."""

from __future__ import annotations

import random

import numpy as np
import pytest

pytest.importorskip("tvm")

from group_kernels import assert_right, fused_in_parts, map_plan  # noqa: E402

import anatune as at  # noqa: E402
from anatune.plan import CodeTarget  # noqa: E402
from anatune.plan.fusion import Member  # noqa: E402

FIVE_POINT = "0.25 * (x[m-1, n] + x[m+1, n] + x[m, n-1] + x[m, n+1])"
DTYPES = ("float32", "float64", "bfloat16", "int8", "int32")


def drawn_stencils(seed):
    """Some of one or two axes, every type among them, up to three arrays at up to five places."""
    draw = random.Random(seed)
    for dtype in DTYPES * 2:
        rows, columns = (draw.choice((1, 2, draw.randint(3, 70))) for _ in "mn")
        terms = [f"x[m{draw.randint(-3, 3):+}, n{draw.randint(-9, 9):+}]"
                 for _ in range(draw.randint(1, 4))]
        terms += draw.sample(["b[n-2] * b[n+3]", "r[m+2]", "y", "s[0]", "r[m] * r[m-1]"], 2)
        if draw.random() < 0.2:
            terms = [term.replace("r[m", "q[n").replace("[m", "[n") for term in terms]
            terms = [f"x[n{draw.randint(-9, 9):+}]" if "," in term else term for term in terms]
        shape = columns if not any("m" in term for term in terms) else (rows, columns)
        out = draw.choice((None, "int8", "float32"))
        yield at.stencil(" - ".join(terms), shape, dtype=dtype, out_dtype=out)


STENCILS = [
    at.stencil(FIVE_POINT, (37, 61)),
    at.stencil("x[m-1, n] + x[m+2, n]", (5, 33)),
    at.stencil("x[n-64] + x + x[n+64]", 70, dtype="int32"),
    at.stencil("x[m, n+1] - x[m, n-1]", (1, 70)),
    at.stencil("x[m-1, n-1] + x[m+1, n+1]", (1, 17), dtype="float64"),
    at.reduce("sum", (9, 35), "x * x[m, n+1]"),
    at.reduce("max", (9, 35), "x[m-1, n] - x[m+1, n-1]", axis=0, finish="c + bias[n]"),
    at.softmax(7, 35, "x[m, n-1] + x[m, n+1]"),
    *drawn_stencils(0),
]


@pytest.mark.parametrize("workload", STENCILS, ids=str)
def test_pieces_of_stencils_make_the_whole(here, workload):
    for parts in (1, 2):
        plan = map_plan(workload, CodeTarget.of(here.target), unroll=parts)
        assert_right(fused_in_parts([Member(plan=plan)], parts))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_stencil_is_tuned_by_itself_and_beside_others(here, threads):
    blur = at.stencil(FIVE_POINT, (33, 70))
    x = np.random.default_rng(0).standard_normal((35, 72)).astype("f4")
    want = 0.25 * (x[:-2, 1:-1] + x[2:, 1:-1] + x[1:-1, :-2] + x[1:-1, 2:])
    r = at.tune(blur, here, budget=0, threads=threads)
    np.testing.assert_allclose(r(x), want, rtol=1e-5, atol=1e-6)
    r = at.tune(at.fused([blur, at.matmul(8, 9, 10)]), here, budget=0, threads=threads)
    y, c = r(x, np.ones((8, 10), "f4"), np.ones((10, 9), "f4"))
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)
    assert (c == 10).all()


def test_nothing_beyond_an_array_is_read(here):
    """The last row ends where a page ends, behind which nothing may be touched."""
    mmap = pytest.importorskip("mmap")
    columns, page = 37, mmap.PAGESIZE
    libc = pytest.importorskip("ctypes").CDLL(None)
    room = mmap.mmap(-1, 2 * page)
    whole = np.frombuffer(room, np.uint8)
    assert libc.mprotect(_pointer(whole.ctypes.data + page), page, 0) == 0
    workload = at.stencil("x[n-1] + x[n+2]", columns)
    x = whole[page - 4 * (columns + 3) : page].view("f4")
    x[:] = np.arange(columns + 3)
    r = at.tune(workload, here, budget=0, threads=1)
    assert (r(x) == x[:-3] + x[3:]).all()


def _pointer(address):
    import ctypes

    return ctypes.c_void_p(address)
