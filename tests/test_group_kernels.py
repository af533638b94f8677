"""Kernels of workloads that read each other's results: forced plans, run here, against float64."""

from __future__ import annotations

import pickle
from functools import cache
from random import Random

import numpy as np
import pytest

pytest.importorskip("tvm")

from group_samples import (  # noqa: E402
    blocked,
    computed,
    drawn_by_name,
    plan_of,
    random_group,
    with_step,
)

import anatune as at  # noqa: E402
from anatune.codegen.build import build  # noqa: E402
from anatune.codegen.group_call import GroupCall  # noqa: E402
from anatune.errors import OperandError, VerificationError  # noqa: E402
from anatune.measure.group_bench import drawn_inputs  # noqa: E402
from anatune.measure.group_reference import check_group  # noqa: E402
from anatune.model.fusion import options  # noqa: E402
from anatune.plan import Storage  # noqa: E402
from anatune.plan.fusion import Decision  # noqa: E402
from anatune.plan.group import (  # noqa: E402
    AloneStage,
    Blocks,
    GroupPlan,
    RowsStage,
    TogetherStage,
)
from anatune.workload.absorb import absorbable, absorbed  # noqa: E402
from anatune.workload.dtypes import numpy_dtype  # noqa: E402

FEED_FORWARD = {
    "h": (at.matmul(37, 50, 19, epilogue="bias+relu"), {"a": "x"}),
    "y": (at.matmul(37, 19, 50, epilogue="c + bias[n] + r[m, n]"), {"a": "h", "r": "x"}),
}
LAYER_NORM = {
    "mu": (at.reduce("mean", (29, 35)), {"x": "x"}),
    "d": (at.elementwise("x - mu[m]", (29, 35)), {"x": "x", "mu": "mu"}),
    "s": (at.reduce("mean", (29, 35), "x * x", finish="1 / sqrt(c + 0.00001)"), {"x": "d"}),
    "z": (at.elementwise("x * s[m] * gain[n] + bias[n]", (29, 35)), {"x": "d", "s": "s"}),
    "y": (at.matmul(29, 21, 35, epilogue="c * row[m]"), {"a": "z", "row": "s"}),
}
HEADS = {"lda": 24, "stride_a": 8, "ldb": 24, "stride_b": 8}
ATTENTION = {  # three heads, side by side in rows of 24, as the last step reads them again
    "s": at.matmul(13, 15, 8, batch=3, trans_b=True, alpha=0.25, **HEADS),
    "p": (at.softmax(39, 15, "x + mask"), {"x": "s"}),
    "o": (at.matmul(13, 8, 15, batch=3, ldc=24, stride_c=8), {"a": "p"}),
    "y": (at.matmul(13, 20, 24, epilogue="bias"), {"a": "o"}),
}
CASES = {
    "feed-forward": (FEED_FORWARD, None),
    "layer norm": (LAYER_NORM, None),
    "attention": (ATTENTION, None),
    "read and given back": (FEED_FORWARD, ["h", "y"]),
    "read twice": ({
        "h": at.matmul(23, 17, 9),
        "u": (at.matmul(23, 17, 17), {"a": "h"}),
        "v": (at.elementwise("relu(x) + y", (23, 17)), {"x": "u", "y": "h"}),
        "w": (at.elementwise("x * y - u", (23, 17)), {"x": "v", "y": "h", "u": "u"}),
    }, ["w", "u"]),
    "softmax in place": ({
        "s": at.matmul(21, 33, 9),
        "p": (at.softmax(21, 33, "x * 0.5"), {"x": "s"}),
        "q": (at.elementwise("x * 2 + row[m]", (21, 33)), {"x": "p"}),
        "y": (at.matmul(21, 5, 33), {"a": "q"}),
    }, None),
    "one B for the batch": ({
        "h": at.matmul(11, 12, 7, batch=4, broadcast_b=True, epilogue="bias+relu"),
        "y": (at.matmul(11, 9, 12, batch=4, broadcast_b=True), {"a": "h"}),
    }, None),
    "a B each": ({
        "h": at.matmul(11, 12, 7, batch=4, epilogue="c * row[m] + r[m, n]"),
        "y": (at.matmul(11, 9, 12, batch=4, trans_b=True, epilogue="c * s + 1"), {"a": "h"}),
        "z": (at.elementwise("x + all[m]", (44, 9)), {"x": "y"}),
    }, None),
    "one A for the batch": ({
        "h": at.matmul(14, 10, 6, batch=3, broadcast_a=True, alpha=2),
        "y": (at.matmul(42, 13, 10, epilogue="c + row[m]"), {"a": "h"}),
    }, None),
    "A transposed": ({
        "h": at.matmul(26, 18, 31, trans_a=True, lda=28, alpha=-1),
        "y": (at.matmul(26, 18, 18, epilogue="c + before[m, n]"), {"a": "h", "before": "h"}),
    }, None),
    "rows apart": ({
        "h": at.matmul(19, 14, 11, lda=13, ldb=17),
        "y": (at.matmul(19, 10, 14, ldb=12, ldc=15), {"a": "h"}),
        "z": (at.matmul(19, 6, 10, lda=15), {"a": "y"}),
    }, None),
    "scans and neighbours": ({
        "h": at.matmul(36, 22, 9),
        "s": (at.scan("sum", (36, 22), axis=-1), {"x": "h"}),
        "d": (at.stencil("x[m, n+1] - x[m, n] + g[n]", (36, 21)), {"x": "s"}),
        "y": (at.matmul(36, 7, 21), {"a": "d"}),
    }, None),
    "rows above and below": ({
        "h": at.matmul(33, 18, 9, epilogue="bias"),
        "e": (at.stencil("x[m-1, n] + x[m+1, n] - 2 * x[m, n]", (31, 18)), {"x": "h"}),
        "y": (at.matmul(31, 12, 18), {"a": "e"}),
    }, None),
    "bfloat16": ({
        "h": at.matmul(25, 24, 20, dtype="bfloat16", epilogue="bias+relu"),
        "y": (at.matmul(25, 17, 24, dtype="bfloat16", out_dtype="float32"), {"a": "h"}),
        "z": (at.softmax(25, 17, out_dtype="bfloat16"), {"x": "y"}),
    }, None),
    "int8": ({
        "h": at.matmul(25, 24, 20, dtype="uint8", out_dtype="uint8",
                       epilogue="max(c, 0) * scale.float32[n] * 0.01"),
        "y": (at.matmul(25, 17, 24, dtype="uint8"), {"a": "h"}),
        "z": (at.elementwise("x * 0.0005 + b.float32[n]", (25, 17), dtype="int32",
                             out_dtype="float32"), {"x": "y"}),
    }, None),
    "types change": ({
        "h": at.matmul(15, 12, 9, dtype="float64"),
        "i": (at.elementwise("x * 50", (15, 12), dtype="float64", out_dtype="int32"), {"x": "h"}),
        "f": (at.elementwise("x * 0.5", (15, 12), dtype="int32", out_dtype="float32"),
              {"x": "i"}),
        "y": (at.reduce("max", (15, 12), "abs(x)", out_dtype="float16"), {"x": "f"}),
    }, None),
}  # fmt: skip


@cache
def group_of(case):
    return at.group(*CASES[case])


def results_of(plan, inputs):
    """What the plan's kernel makes of ``inputs``, into memory that holds NaN and the like."""
    out = [np.empty(t.shape, numpy_dtype(t.dtype)) for t in plan.workload.results.values()]
    strided = any(not t.compact for t in plan.workload.results.values())
    for array in out:
        array.view(np.uint8).fill(0xFF)
    before = {name: array.copy() for name, array in inputs.items()}
    call = GroupCall(plan.workload, build(plan).function)
    given = None if strided else out[0] if len(out) == 1 else tuple(out)
    made = call(**inputs, out=given)
    for name, array in inputs.items():
        assert (array == before[name]).all(), f"{name} has changed"
    return dict(zip(plan.workload.outputs, (made,) if plan.workload.one_result else made))


def assert_right(plan):
    assert GroupPlan.from_json(plan.to_json()) == plan
    inputs = drawn_inputs(plan.workload)
    results = results_of(plan, inputs)
    check_group(plan.workload, inputs, results)
    return results


# Blocks of rows.


@pytest.mark.parametrize("rows, threads", [(1, 3), (5, 2)])
@pytest.mark.parametrize("case", CASES)
def test_blocks_of_any_height(here, case, rows, threads):
    plan = blocked(here, group_of(case), Random(rows), threads, rows)
    assert any(isinstance(stage, RowsStage) and len(stage.names) > 1 for stage in plan.stages)
    assert_right(plan)


@pytest.mark.parametrize("b", Storage)
@pytest.mark.parametrize("case", ["feed-forward", "one B for the batch"])
def test_wherever_b_is_stored(here, case, b):
    plan = blocked(here, group_of(case), Random(0), 2, 6, b)
    products = [p for p in plan.plans if hasattr(p, "b") and not p.workload.trans_b]
    assert {p.b for p in products} == {b}
    assert_right(plan)


@pytest.mark.parametrize("rows", [7, 40])
def test_more_threads_than_blocks(here, rows):
    assert_right(blocked(here, group_of("feed-forward"), Random(1), 8, rows))


def test_tiles_that_do_not_fit_the_last_block(here):
    """Blocks end amid tiles of rows: heights around that of a tile, whole and one off."""
    group = group_of("feed-forward")
    tall = plan_of(here, group.by_name["h"].workload).tile.mr
    for rows in {max(1, tall - 1), tall + 1}:
        assert_right(blocked(here, group, Random(2), 2, rows))


# Other stages.


def together(here, group, names, decision):
    fused = at.fused([group.by_name[name].workload for name in names])
    plan = next(plan for plan, _ in options(here, fused, 2) if plan.decision is decision)
    return TogetherStage(names=names, plan=plan)


@pytest.mark.parametrize("decision", [Decision.FUSED, Decision.SIDE_BY_SIDE])
def test_independent_steps_share_a_region_within_a_group(here, decision):
    group = at.group({
        "x": at.elementwise("x * gain[n]", (24, 20)),
        "q": (at.matmul(24, 16, 20), {"a": "x"}), "k": (at.matmul(24, 16, 20), {"a": "x"}),
        "t": (at.reduce("max", (24, 20)), {"x": "x"}),
        "s": (at.matmul(24, 24, 16, trans_b=True, epilogue="c - t[m]"),
              {"a": "q", "b": "k", "t": "t"}),
    }, outputs=["s", "k"])  # fmt: skip
    first, last = (
        AloneStage(step=name, plan=plan_of(here, group.by_name[name].workload)) for name in "xs"
    )
    middle = together(here, group, ("q", "k", "t"), decision)
    assert_right(GroupPlan(workload=group, absorbed=(), stages=(first, middle, last)))


def test_absorbed_steps(here):
    group = at.group({
        "h": at.matmul(26, 34, 17),
        "e": (at.elementwise("relu(c + b[n]) * k", (26, 34)), {"c": "h"}),
        "r": (at.reduce("sum", (26, 34), "x * x"), {"x": "e"}),
        "n": (at.elementwise("sqrt(x) + s[m]", 26), {"x": "r"}),
    })  # fmt: skip
    names = absorbable(group)
    assert names == ("h", "r")
    stages = blocked(here, absorbed(group, names), Random(0), 2, 4).stages
    assert_right(GroupPlan(workload=group, absorbed=names, stages=stages))


# The check itself.

CHANGES = {
    "another function": ("feed-forward", "h",
                         at.matmul(37, 50, 19, epilogue="max(c + bias[n], 0.002)")),
    "no residual": ("feed-forward", "y", at.matmul(37, 19, 50, epilogue="c + bias[n] + r[m, n]*0")),
    "another factor": ("attention", "s",
                       at.matmul(13, 15, 8, batch=3, trans_b=True, alpha=0.2501, **HEADS)),
    "no mask": ("attention", "p", at.softmax(39, 15, "x + mask * 0")),
    "mean of one more": ("layer norm", "mu", at.reduce("sum", (29, 35), finish="c / 36")),
    "no epsilon": ("layer norm", "s",
                   at.reduce("mean", (29, 35), "x * x", finish="1 / sqrt(c + 0.001)")),
    "another exponent": ("bfloat16", "z", at.softmax(25, 17, "x * 2", out_dtype="bfloat16")),
    "a scale": ("int8", "h", at.matmul(25, 24, 20, dtype="uint8", out_dtype="uint8",
                                       epilogue="max(c, 0) * scale.float32[n] * 0.02")),
}  # fmt: skip


def by_numpy(group, inputs):
    """What a right kernel could give."""
    made = computed(group, inputs)
    return {name: made[name].astype(numpy_dtype(t.dtype)) for name, t in group.results.items()}


@pytest.mark.parametrize("case", sorted(CASES.keys() - {"attention", "rows apart"}))
def test_numpys_results_pass(case):
    group = group_of(case)
    inputs = drawn_inputs(group)
    check_group(group, inputs, by_numpy(group, inputs))


@pytest.mark.parametrize("case, step, other", CHANGES.values(), ids=CHANGES)
def test_another_computation_is_caught(case, step, other):
    group = group_of(case)
    if case == "attention":
        group = at.group({name: ATTENTION[name] for name in "sp"})
    inputs = drawn_inputs(group)
    check_group(group, inputs, by_numpy(group, inputs))
    with pytest.raises(VerificationError, match=r"\] = .* the reference has .* give or take"):
        check_group(group, inputs, by_numpy(with_step(group, step, other), inputs))


SPOIL = {
    "a row": lambda y: y.__setitem__(7, 0),
    "the last block": lambda y: y.__setitem__(slice(-3, None), np.nan),
    "blocks that changed places": lambda y: y.__setitem__(slice(0, 8), y[4:12][::-1].copy()),
    "an element": lambda y: y.__setitem__((20, 3), y[20, 3] * 1.001 + 1e-3),
}


@pytest.mark.parametrize("spoil", SPOIL.values(), ids=SPOIL)
@pytest.mark.parametrize("case", ["feed-forward", "layer norm"])
def test_results_that_were_tampered_with_are_caught(case, spoil):
    group = group_of(case)
    inputs = drawn_inputs(group)
    results = by_numpy(group, inputs)
    spoil(results["y"])
    with pytest.raises(VerificationError, match=r"^y\["):
        check_group(group, inputs, results)


@pytest.mark.parametrize("operands", [("x", "y_bias"), ("h_b", "y_b")])
def test_swapped_operands_are_caught(operands):
    group = group_of("feed-forward")
    inputs = drawn_inputs(group)
    one, other = operands
    wrong = inputs | {one: np.roll(inputs[one], 1), other: np.roll(inputs[other], 1)}
    with pytest.raises(VerificationError):
        check_group(group, inputs, by_numpy(group, wrong))


def test_rounding_that_tips_whole_numbers_is_allowed():
    """What becomes of either of two neighbours that rounding may give is right; more is not."""
    steps = {
        "h": at.matmul(16, 16, 16, out_dtype="int8", epilogue="c * 20"),
        "y": (at.elementwise("x * 0.5", (16, 16), dtype="int8", out_dtype="float32"), {"x": "h"}),
    }
    group = at.group(steps)
    inputs = drawn_by_name(group)
    exact = computed(at.group({"h": at.matmul(16, 16, 16, epilogue="c * 20")}), inputs)["h"]
    inputs["h_a"][:] = 0
    inputs["h_a"][:, 0] = 1
    inputs["h_b"][0] = (np.arange(16) + 0.5) / 20  # which float32 does not hold
    for away in (np.floor, np.ceil):
        h = away(inputs["h_a"].astype("f8") @ inputs["h_b"].astype("f8") * 20)
        check_group(group, inputs, {"y": (h * 0.5).astype("f4")})
    with pytest.raises(VerificationError):
        check_group(group, inputs, {"y": (h * 0.5 + 5).astype("f4")})
    assert exact.shape == h.shape


@pytest.mark.parametrize("case", ["feed-forward", "a B each"])
def test_a_kernel_that_forgets_its_last_blocks_is_caught(here, case, monkeypatch):
    plan = blocked(here, group_of(case), Random(0), 2, 4)
    assert any(plan.blocks(s).edge(s.rows) for s in plan.stages if isinstance(s, RowsStage))
    monkeypatch.setattr(Blocks, "edge", lambda self, rows: 0)
    monkeypatch.setattr(Blocks, "count", lambda self, rows: self.rows_of_item // rows)
    with pytest.raises(VerificationError):
        assert_right(plan)


def test_a_kernel_that_writes_over_what_is_read_later_is_caught(here, monkeypatch):
    plan = blocked(here, group_of("read twice"), Random(0), 1, 4)
    assert plan.blocks(plan.stages[0]).owner == {"h": "h", "v": "v"}
    monkeypatch.setattr(Blocks, "owner", property(lambda self: dict.fromkeys(self.near, "h")))
    with pytest.raises(VerificationError):
        assert_right(plan)


# Calls.


@pytest.fixture(scope="module")
def tuned(here):
    group = at.group(FEED_FORWARD, outputs=["h", "y"])
    return at.tune(group, here, budget=0, threads=2)


@pytest.fixture(scope="module")
def given(tuned):
    inputs = drawn_by_name(tuned.workload)
    return inputs, computed(tuned.workload, inputs)


def assert_close(results, given):
    for name, found in zip("hy", results):
        np.testing.assert_allclose(found, given[1][name], rtol=1e-4, atol=1e-5)


def test_operands_by_place_and_by_name(tuned, given):
    inputs, _ = given
    assert list(inputs) == ["x", "h_b", "h_bias", "y_b", "y_bias"]
    assert_close(tuned(*inputs.values()), given)
    assert_close(tuned(**inputs), given)
    first, *rest = inputs.items()
    assert_close(tuned(first[1], **dict(reversed(rest))), given)
    assert_close(tuned.prepare(first[1], **dict(rest))(), given)


def test_results_go_where_they_are_wanted(tuned, given):
    inputs, _ = given
    out = np.empty((37, 50), "f4"), np.empty((37, 19), "f4")
    assert tuned(**inputs, out=out) is out
    assert_close(out, given)


WRONG = {
    "4 operands: 5 are needed: x, h_b, h_bias, y_b, y_bias": lambda r, x: r(*list(x.values())[:4]),
    "y_bias: missing": lambda r, x: r(**{k: v for k, v in x.items() if k != "y_bias"}),
    "z: no operand, or given twice; by name there may be x, h_b, h_bias, y_b, y_bias":
        lambda r, x: r(**x, z=x["x"]),
    "x: no operand, or given twice; by name there may be h_b, h_bias, y_b, y_bias":
        lambda r, x: r(x["x"], **x),
    "h_b: shape (37, 19), (19, 50) is needed": lambda r, x: r(**{**x, "h_b": x["x"]}),
    "x: data type float64, float32 is needed":
        lambda r, x: r(**{**x, "x": x["x"].astype("f8")}),
    "x: strides (152, 8); compact row-major memory is needed": lambda r, x:
        r(**{**x, "x": np.zeros((37, 38), "f4")[:, ::2]}),
    "out: a tuple of 2 arrays is needed": lambda r, x: r(**x, out=np.empty((37, 50), "f4")),
    "y: shape (37, 50), (37, 19) is needed":
        lambda r, x: r(**x, out=(np.empty((37, 50), "f4"),) * 2),
    "y: overlaps x": lambda r, x: r(**x, out=(np.empty((37, 50), "f4"), x["x"])),
}  # fmt: skip


@pytest.mark.parametrize(("said", "call"), WRONG.items(), ids=WRONG)
def test_wrong_operands_are_refused(tuned, given, said, call):
    with pytest.raises(OperandError) as caught:
        call(tuned, given[0])
    assert str(caught.value).startswith(said)


def test_a_single_result_is_an_array(here):
    r = at.tune(at.chain([at.matmul(5, 6, 7), at.softmax(5, 6)]), here, budget=0, threads=1)
    a, b = np.ones((5, 7), "f4"), np.eye(7, 6, dtype="f4")
    np.testing.assert_allclose(r(a, b), np.full((5, 6), 1 / 6), rtol=1e-6)
    np.testing.assert_allclose(r(step0_b=b, step0_a=a), np.full((5, 6), 1 / 6), rtol=1e-6)
    assert "step1" in r.explain() and r.decision in {d.value for d in Decision}


def test_a_result_survives_pickling(tuned, given):
    again = pickle.loads(pickle.dumps(tuned))
    assert again.plan == tuned.plan and again.workload == tuned.workload
    assert again.predicted == tuned.predicted and again.explain() == tuned.explain()
    assert_close(again(**given[0]), given)


def test_names_of_inputs_are_free(here):
    """Inputs may be called as Python's words, as a result's argument, or as a method's first."""
    sources = {"a": "y_out", "b": "class", "bias": "self"}
    group = at.group({"y": (at.matmul(9, 17, 5, epilogue="bias"), sources)})
    inputs = drawn_by_name(group)
    call = GroupCall(group, build(blocked(here, group, Random(0), 1)).function)
    np.testing.assert_allclose(call(**inputs), computed(group, inputs)["y"], rtol=1e-5, atol=1e-6)


# Anything at all.

TYPES = [("float32",)] * 3 + [("float32", "bfloat16"), ("int8",), ("float64", "float32")]


@pytest.mark.parametrize("seed", range(16))
def test_any_steps_in_any_blocks(here, seed):
    random = Random(seed)
    group = random_group(random, random.randint(2, 6), 24, random.choice(TYPES))
    plan = blocked(here, group, random, random.randint(1, 3))
    assert_right(plan)
    inputs = drawn_by_name(group, seed)
    results, wanted = results_of(plan, inputs), computed(group, inputs)
    for step in group.steps:
        wide = step.workload.out_dtype in ("float32", "float64")
        if step.name in results and wide and all(
            s.workload.out_dtype in ("float32", "float64") for s in group.steps
        ):
            size = np.abs(wanted[step.name]).max() + 1
            np.testing.assert_allclose(results[step.name], wanted[step.name], atol=2e-5 * size)


@pytest.mark.parametrize("seed, threads", [(0, 1), (1, 2)])
def test_any_steps_tuned(here, seed, threads):
    random = Random(1000 + seed)
    group = random_group(random, random.randint(2, 5), 30)
    r = at.tune(group, here, budget=0, threads=threads)
    inputs = drawn_by_name(group, seed)
    found, wanted = r(**inputs), computed(group, inputs)
    for name, result in zip(group.outputs, (found,) if group.one_result else found):
        size = np.abs(wanted[name]).max() + 1
        np.testing.assert_allclose(result, wanted[name], atol=2e-5 * size)
