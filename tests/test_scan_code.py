"""Kernels of scans: random shapes, steps and types, run here and compared with float64."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tvm")

from group_kernels import assert_right, fused_in_parts, map_plan  # noqa: E402

import anatune as at  # noqa: E402
from anatune.plan import CodeTarget  # noqa: E402
from anatune.plan.fusion import Member  # noqa: E402

DTYPES = ("float32", "float64", "bfloat16", "int8", "int32")
STEPS = ("c * 0.5 + x", "c * a * 0.25 + x", "max(c, x) - b[n] * r[m]", "sum", "prod", "max", "min",
         "c + x[m-1, n+1] - x", "relu(c - x) + s[0]", "c + x.int8 * y", "tanh(c) + x")  # fmt: skip
FINISHES = ("", "", "c * gate[m, n] + bias[n]", "relu(c) - row[m] * one")


def drawn_scans(seed):
    """Of all steps and types, along both axes."""
    draw = random.Random(seed)
    for number in range(24):
        m, n = (draw.choice((1, 2, 16, draw.randint(3, 70))) for _ in "mn")
        options = {"axis": draw.choice((0, -1)), "dtype": DTYPES[number % len(DTYPES)]}
        options |= {"finish": draw.choice(FINISHES), "initial": draw.choice((None, 3))}
        options["out_dtype"] = draw.choice((None, None, "int8", "float32"))
        yield at.scan(STEPS[number % len(STEPS)], (m, n), **options)


SCANS = [
    at.scan("sum", 53), at.scan("c * 0.5 + x[n-1] - x[n+1]", 33, finish="c * scale + bias[n]"),
    at.scan("c * a * 0.25 + x", (16, 32), axis=-1), at.scan("sum", (33, 47), axis=-1, dtype="int8"),
    at.scan("c + x", (70, 1)), at.scan("c + x", (70, 1), axis=-1, out_dtype="bfloat16"),
    *drawn_scans(0),
]  # fmt: skip


def plans(workload, target, unroll):
    """All ways in which the model may plan it."""
    plan = map_plan(workload, target, unroll)
    return [plan] if workload.over == "m" else [plan, replace(plan, lanes=1)]


@pytest.mark.parametrize("workload", SCANS, ids=str)
def test_pieces_of_scans_make_the_whole(here, workload):
    for parts in (1, 2):
        for plan in plans(workload, CodeTarget.of(here.target), parts):
            assert_right(fused_in_parts([Member(plan=plan)], parts))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("axis", [0, -1])
def test_a_scan_is_tuned_by_itself_and_beside_others(here, threads, axis):
    x = np.random.default_rng(0).integers(-1000, 1000, (33, 70), dtype="i4")
    total = at.scan("sum", x.shape, axis=axis, dtype="int32")
    r = at.tune(total, here, budget=0, threads=threads)
    assert (r(x) == x.cumsum(axis)).all()
    largest = at.scan("max", x.shape, axis=axis, dtype="int32")
    r = at.tune(at.fused([total, at.softmax(8, 9), largest]), here, budget=0, threads=threads)
    sums, _, most = r(x, np.zeros((8, 9), "f4"), x)
    assert (sums == x.cumsum(axis)).all() and (most == np.maximum.accumulate(x, axis)).all()


def test_integers_wrap_around_as_numpys_do(here):
    x = np.random.default_rng(0).integers(2, 9, 50, dtype="i4")
    r = at.tune(at.scan("prod", 50, dtype="int32"), here, budget=0, threads=1)
    assert (r(x) == x.cumprod(dtype="i4")).all()
