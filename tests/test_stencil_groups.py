"""Stencils and scans that read each other's results: halos, blocks of rows, what is absorbed."""

from __future__ import annotations

import numpy as np
import pytest

import anatune as at
from anatune.plan.group import Blocks, GroupPlan
from anatune.workload.absorb import absorbable, absorbed

FIVE_POINT = "0.25 * (x[m-1, n] + x[m+1, n] + x[m, n-1] + x[m, n+1])"


def blur(x):
    return 0.25 * (x[:-2, 1:-1] + x[2:, 1:-1] + x[1:-1, :-2] + x[1:-1, 2:])


def below_less_above(x):
    return x[2:] - x[:-2]


def stencils(rows, columns):
    """Three in a row, with a fold at the end."""
    return at.chain([
        at.stencil(FIVE_POINT, (rows + 4, columns)),
        at.stencil(FIVE_POINT, (rows + 2, columns - 2)),
        at.stencil("x[m+1, n] - x[m-1, n]", (rows, columns - 2)),
        at.reduce("max", (rows, columns - 2)),
    ])  # fmt: skip


def merged(group):
    """The one step that is left, and what it is called with."""
    (step,) = absorbed(group, absorbable(group)).steps
    return step


def test_steps_compute_the_rows_that_those_behind_them_reach():
    blocks = Blocks(stencils(20, 30), ("step0", "step1", "step2", "step3"))
    assert list(blocks.halo.values()) == [4, 2, 0, 0] and not blocks.why_not
    heights = [blocks.workload(step, 8).m for step in blocks.steps]
    assert heights == [12, 10, 8, 8]


def test_scans_down_the_rows_have_no_blocks_and_those_along_them_have():
    for axis, why in ((0, "step0: is no matter of rows"), (-1, "")):
        group = at.chain([at.scan("sum", (9, 7), axis=axis), at.softmax(9, 7)])
        assert Blocks(group, ("step0", "step1")).why_not == why


def test_what_is_made_of_elements_goes_into_a_stencil_that_needs_it_once():
    group = at.chain([at.elementwise("2 * x * s[0]", (5, 7)), at.stencil("x + y[m, n+1]", (5, 7))])
    assert merged(group).workload.operands.keys() == {"x", "s", "y"}
    assert absorbable(at.chain([at.elementwise("2 * x", 8), at.stencil("x + x[n+1]", 7)])) == ()


def test_an_array_that_two_steps_read_around_different_places_stays_one():
    group = at.group({
        "p": (at.stencil("y[m-1, n] + y[m+1, n]", (8, 9)), {"y": "z"}),
        "q": (at.stencil("x - y[m+2, n] * y[m, n]", (8, 9)), {"x": "p", "y": "z"}),
    })  # fmt: skip
    workload = merged(group).workload
    assert workload.operands["y"].shape == (10, 9) and workload.halo("y") == ((0, 2), (0, 0))


def test_what_becomes_of_a_scans_values_is_its_finish():
    group = at.chain([
        at.elementwise("x * a", (5, 7)), at.scan("c * 0.5 + x", (5, 7), finish="c + bias[n]"),
        at.elementwise("relu(x) * y * s[0]", (5, 7)),
    ])  # fmt: skip
    workload = merged(group).workload
    assert (workload.fold, workload.over, workload.each) == (
        "scan", "m", "c * 0.5 + x.float32[m, n] * a_.float32[m, n]",
    )  # fmt: skip
    assert workload.finish == (
        "relu(c + bias.float32[n]) * y.float32[m, n] * s.float32"
    )  # fmt: skip


def test_a_scan_beside_its_neighbours_is_a_step_of_its_own():
    group = at.chain([at.scan("sum", (5, 7)), at.stencil("x[m-1, n] + x[m+1, n]", (3, 7))])
    assert absorbable(group) == ()


GROUPS = {
    "stencils": (stencils(20, 45), lambda x: below_less_above(blur(blur(x))).max(1)),
    "scan along rows": (
        at.chain([at.scan("sum", (22, 33), axis=-1), at.stencil("x[m+1, n] - x[m-1, n]", (20, 33)),
                  at.softmax(20, 33)]),
        lambda x: (lambda p: p / p.sum(1, keepdims=True))(np.exp(below_less_above(x.cumsum(1)))),
    ),
    "scan down columns": (
        at.chain([at.elementwise("x * a", (37, 21)), at.scan("max", (37, 21)),
                  at.elementwise("relu(x) + y", (37, 21))]),
        lambda x, a, y: np.maximum(np.maximum.accumulate(x * a, 0), 0) + y,
    ),
}  # fmt: skip


def assert_right(plan, right):
    from anatune.codegen.build import build
    from anatune.codegen.group_call import GroupCall

    assert GroupPlan.from_json(plan.to_json()) == plan
    generator = np.random.default_rng(0)
    inputs = [generator.uniform(-1, 1, t.shape).astype("f4") for t in plan.workload.inputs.values()]
    got = GroupCall(plan.workload, build(plan).function)(*inputs)
    want = right(*(x.astype("f8") for x in inputs))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", GROUPS)
def test_the_models_pick_is_right(here, name, threads):
    pytest.importorskip("tvm")
    from anatune.model.groups import group_options

    group, right = GROUPS[name]
    for plan, _ in group_options(here, group, threads):
        assert_right(plan, right)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["stencils", "scan along rows"])
def test_blocks_of_any_height_make_the_whole(here, name, threads):
    pytest.importorskip("tvm")
    from anatune.model.rows import every_rows

    group, right = GROUPS[name]
    names = tuple(step.name for step in group.steps)
    stages = {stage.rows: stage for stage, _ in every_rows(here, Blocks(group, names), threads,
                                                           1e5, 1)}
    assert len(stages) > 3
    for rows in sorted(stages)[1::2]:
        assert_right(GroupPlan(workload=group, absorbed=(), stages=(stages[rows],)), right)
