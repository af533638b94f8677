"""Workloads that read each other's results: what they are, what is refused, what plans hold."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from random import Random

import numpy as np
import pytest
from group_samples import (
    blocked,
    computed,
    drawn_by_name,
    laid_out,
    longest_blocks,
    plan_of,
    random_group,
    rows_stage,
    view,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import anatune as at
from anatune.errors import IllegalPlan, WorkloadError
from anatune.model.explain_group import explain_group
from anatune.model.fusion import options
from anatune.model.groups import group_options
from anatune.plan.fusion import Decision, FusionPlan, Member
from anatune.plan.group import AloneStage, Blocks, GroupPlan, RowsStage, TogetherStage
from anatune.plan.read import read_any
from anatune.workload.absorb import absorbable, absorbed
from anatune.workload.blocks import RESULT, place_of
from anatune.workload.group import Group, Step

SEEDS = st.integers(0, 10**6)
TYPES = [("float32",), ("float32",), ("float32", "bfloat16"), ("int8",), ("float64", "float32"),
         ("float16",)]  # fmt: skip

MLP = {
    "h": at.matmul(24, 64, 32, epilogue="bias+gelu"),
    "y": (at.matmul(24, 32, 64), {"a": "h"}),
    "z": (at.elementwise("x + r", (24, 32)), {"x": "y", "r": "h_a"}),
}


def product(m=3, n=4, k=5, **options):
    return at.matmul(m, n, k, **options)


@cache
def profile(name="zen4"):
    return at.load_profile(name)


@cache
def drawn(seed, steps=4, most=12):
    random = Random(seed)
    return random_group(random, random.randint(2, steps), most, random.choice(TYPES))


# Construction.


def test_what_is_not_mentioned_is_an_input_of_its_own():
    g = at.group(MLP)
    assert list(g.inputs) == ["h_a", "h_b", "h_bias", "y_b"]
    assert g.outputs == ("z",) and g.results["z"].shape == (24, 32)
    assert [step.reads for step in g.steps] == [("h_a", "h_b", "h_bias"), ("h", "y_b"),
                                                ("y", "h_a")]  # fmt: skip
    assert g.internal("h") and g.internal("y") and not g.internal("z") and not g.internal("h_a")
    assert [step.name for step in g.readers("h_a")] == ["h", "z"]
    assert g.flops == sum(step.workload.flops for step in g.steps)
    assert g.operand_bytes == 4 * (24 * 32 + 32 * 64 + 64 + 64 * 32 + 24 * (64 + 32 + 32))
    assert "y: matmul 24x32x64 float32 of a = h, b = y_b" in str(g)


def test_outputs_are_the_results_that_nobody_reads_unless_said():
    assert at.group(MLP, outputs=["z", "h"]).outputs == ("z", "h")
    assert at.group({"p": product(), "q": product()}).outputs == ("p", "q")
    assert at.group({"p": product()}, outputs="p").outputs == ("p",)


def test_a_chain_passes_each_result_on():
    c = at.chain([product(epilogue="bias+relu"), at.matmul(3, 7, 4), at.softmax(3, 7)])
    assert [step.name for step in c.steps] == ["step0", "step1", "step2"]
    assert list(c.inputs) == ["step0_a", "step0_b", "step0_bias", "step1_b"]
    assert c.outputs == ("step2",)
    assert c == at.group({
        "step0": product(epilogue="bias+relu"), "step1": (at.matmul(3, 7, 4), {"a": "step0"}),
        "step2": (at.softmax(3, 7), {"x": "step1"}),
    })  # fmt: skip


@pytest.mark.parametrize(
    "made, read",
    [
        (product(6, 8, 5), at.matmul(3, 7, 8, batch=2)),  # rows of a batch
        (product(6, 8, 5), at.matmul(6, 7, 4, batch=2, lda=8, stride_a=4)),  # heads side by side
        (product(6, 4, 5, batch=2, ldc=8, stride_c=4), at.matmul(6, 7, 8)),
        (product(2, 4, 5, batch=3, ldc=6), at.matmul(6, 7, 4, lda=6)),  # gaps in the same places
        (product(1, 4, 5, ldc=9), at.softmax(1, 4)),  # one row has no gaps
        (product(3, 1, 5), at.elementwise("x", 3)),
        (at.reduce("sum", (3, 5)), at.matmul(3, 7, 1)),
    ],
    ids=str,
)
def test_a_result_may_be_seen_in_another_shape(made, read):
    g = at.chain([made, read])
    assert g.inputs.keys() & {"step1_a", "step1_x"} == set()


def test_scalars_are_results_too():
    g = at.group({"s": at.reduce("sum", 9), "y": (at.elementwise("x * s[0]", (3, 4)), {"s": "s"})})
    assert g.results["y"].shape == (3, 4)


P, SQUARE = product(), product(4, 4, 4)
REFUSED = {
    "steps: a dict of workloads by the name of their results": lambda: at.group({}),
    "steps: a dict of workloads by the name of their  results": lambda: at.group([P]),
    "chain: a list of workloads": lambda: at.chain([]),
    "chain: a list of  workloads": lambda: at.chain(P),
    "chain: step1: str: use matmul, elementwise, stencil, reduce, scan or softmax":
        lambda: at.chain([P, "P"]),
    "group: p: int: use matmul, elementwise, stencil, reduce, scan or softmax":
        lambda: at.group({"p": 3}),
    "group: p: tuple: use matmul, elementwise, stencil, reduce, scan or softmax":
        lambda: at.group({"p": (P, {}, {})}),
    "group: p: Fused: use matmul, elementwise, stencil, reduce, scan or softmax":
        lambda: at.group({"p": at.fused([P])}),
    "group: p: matmul mx4x4 float32, m from 1 to 9: numbers for extents are needed here; take "
    "workload.at(...)": lambda: at.group({"p": product(at.Dim("m", 1, 9), 4, 4)}),
    "group: p: matmul 3x4x5 float32, constant B: constant_b is not taken here; pass B with each "
    "call": lambda: at.group({"p": product(constant_b=True)}),
    "group: p: matmul 3x4x5 float32, beta 1: beta is not 0; add in an epilogue, as "
    "'c + before[m, n]'": lambda: at.group({"p": product(beta=1)}),
    "p: sources = None: a dict of names by operand": lambda: at.group({"p": (P, None)}),
    "p: z: no operand; there are a, b": lambda: at.group({"p": (P, {"z": "x"})}),
    "p: a = ['x']: the name of a step or of an input": lambda: at.group({"p": (P, {"a": ["x"]})}),
    "'1x': p: source of a is made of ASCII letters, digits and _":
        lambda: at.group({"p": (P, {"a": "1x"})}),
    "'p q': the name of a step is made of ASCII letters, digits and _":
        lambda: at.group({"p q": P}),
    "3: the name of a step is made of ASCII letters, digits and _": lambda: at.group({3: P}),
    "p: a = q: comes later; put q before it":
        lambda: at.group({"p": (SQUARE, {"a": "q"}), "q": SQUARE}),
    "p: a = p: its own result; name another source": lambda: at.group({"p": (SQUARE, {"a": "p"})}),
    "p: a = out: calls name their results so; take another":
        lambda: at.group({"p": (P, {"a": "out"})}),
    "h: its input h_a would be called as a step is; say where it comes from":
        lambda: at.group({"h_a": at.elementwise("x", (3, 5)), "h": P}),
    "q: a = p: bfloat16 [3, 4] is read, the result of p is float32 [3, 4]":
        lambda: at.group({"p": P, "q": (product(3, 7, 4, dtype="bfloat16"), {"a": "p"})}),
    "step1: a = step0: float32 [3, 5] is read, the result of step0 is float32 [3, 4]":
        lambda: at.chain([P, P]),
    "q: a = x: float32 [5, 4] is read, x as a of p is float32 [4, 4]":
        lambda: at.group({"p": (SQUARE, {"a": "x"}), "q": (product(5, 4, 4), {"a": "x"})}),
    "q: x = p: float32 [3, 4] is read, the result of p is float32 [3, 4] with strides [6, 1]":
        lambda: at.group({"p": product(ldc=6), "q": (at.softmax(3, 4), {"x": "p"})}),
    "q: a = p: float32 [2, 6] with strides [10, 1] is read, the result of p is float32 [3, 4] with "
    "strides [6, 1]":  # as many elements, from the same first to the same last
        lambda: at.group({"p": product(ldc=6), "q": (product(2, 3, 6, lda=10), {"a": "p"})}),
    "outputs: 'q': no such step; there are p": lambda: at.group({"p": P}, outputs="q"),
    "outputs: none; name the steps whose results are wanted":
        lambda: at.group({"p": P}, outputs=[]),
    "outputs = ('p', 'p'): one of them twice": lambda: at.group({"p": P}, outputs=["p", "p"]),
    "outputs = 5: names of steps": lambda: at.group({"p": P}, outputs=5),
    "['p']: one of the outputs is made of ASCII letters, digits and _":
        lambda: at.group({"p": P}, outputs=[["p"]]),
    "p: nothing reads its result; add it to the outputs, or leave it out":
        lambda: at.group({"p": P, "q": P}, outputs="q"),
    "group: 65 steps; from 1 to 64 are possible":
        lambda: at.group({f"p{n}": P for n in range(65)}),
    "p: two steps of this name":
        lambda: Group((Step("p", P, (("a", "x"), ("b", "w"))),) * 2, ("p",)),
    "p: sources of a: of a, b in this order": lambda: Group((Step("p", P, (("a", "x"),)),), ("p",)),
    "p: sources of b, a: of a, b in this order":
        lambda: Group((Step("p", P, (("b", "x"), ("a", "w"))),), ("p",)),
}  # fmt: skip


@pytest.mark.parametrize(("said", "make"), REFUSED.items(), ids=REFUSED)
def test_refused(said, make):
    with pytest.raises(WorkloadError) as caught:
        make()
    assert str(caught.value) == said.replace("  ", " ")


# Steps taken into others.


def same_results(group, seed=0):
    """``group`` with all that can be absorbed, after a look at what it gives."""
    names = absorbable(group)
    smaller = absorbed(group, names)
    assert [step.name for step in smaller.steps] == [
        step.name for step in group.steps if step.name not in names
    ]  # fmt: skip
    given = group.inputs | group.results
    for name, tensor in (smaller.inputs | smaller.results).items():
        assert (tensor.dtype, tensor.elements) == (given[name].dtype, given[name].elements)
    inputs = drawn_by_name(group, seed)
    wanted, found = computed(group, inputs), computed(smaller, inputs)
    for name in group.outputs:
        same = found[name].reshape(wanted[name].shape)
        np.testing.assert_allclose(same, wanted[name], rtol=1e-12, atol=1e-12)
    return names


@given(SEEDS)
@settings(max_examples=150)
def test_absorbed_steps_give_the_same_results(seed):
    group = drawn(seed)
    names = same_results(group, seed)
    for count in range(len(names)):  # any number of them, from the first on
        absorbed(group, names[:count])


ROW = at.elementwise("x * y[m]", 10)
"""Of one axis: there is one row, and one number y."""

ABSORBED = {
    "epilogue": [product(), at.elementwise("relu(x + bias[n]) * row[m]", (3, 4))],
    "after an epilogue": [product(epilogue="bias+relu", alpha=2),
                          at.elementwise("x + bias[n]", (3, 4))],
    "epilogue of a batch": [product(batch=2), at.elementwise("x * r[n] + y", (6, 4))],
    "of one row": [product(1, 4), at.elementwise("x * y[m] + z", 4)],
    "into 16 bits": [product(), at.elementwise("x + y", (3, 4), out_dtype="bfloat16")],
    "of integer sums": [product(dtype="int8"), at.elementwise("x * 3 - y", (3, 4), dtype="int32")],
    "elements": [at.elementwise("x * s[0]", (3, 4)), at.elementwise("sigmoid(x) + s[0]", (3, 4))],
    "elements twice": [at.elementwise("x + 1", (3, 4)), at.elementwise("x * x", (3, 4))],
    "elements of a fold": [at.elementwise("x - y[m]", (3, 4)), at.reduce("mean", (3, 4), "x * x")],
    "elements of a softmax": [at.elementwise("x * 0.5 + mask[n]", (3, 4)), at.softmax(3, 4)],
    "finish": [at.reduce("sum", (10, 4)), at.elementwise("sqrt(abs(x)) + y[n] * s[0]", 10)],
    "finish of columns": [at.reduce("max", (4, 10), axis=0), at.elementwise("x * y", 10)],
    "finish with one number": [at.reduce("sum", (10, 4), finish="c + y[m]"), ROW],
    "names of sums": [product(), at.elementwise("c + a * k - b", (3, 4))],
    "names that are taken": [product(epilogue="c + x[m, n] + x_[m, n]"),
                             at.elementwise("c + x * x_ - x__", (3, 4))],
}  # fmt: skip


@pytest.mark.parametrize("workloads", ABSORBED.values(), ids=ABSORBED)
def test_absorbed(workloads):
    assert same_results(at.chain(workloads)) == ("step0",)


def test_a_run_of_steps_becomes_one():
    steps = [product(), *[at.elementwise("x * y + 1", (3, 4))] * 3]
    assert same_results(at.chain(steps)) == ("step0", "step1", "step2")


def test_one_array_read_by_both_is_read_once():
    g = at.group({"p": (product(3, 5, 5), {"a": "x"}),
                  "q": (at.elementwise("h + a + x", (3, 5)), {"h": "p", "a": "x", "x": "x"})})
    assert same_results(g) == ("p",)
    (step,) = absorbed(g, ["p"]).steps
    assert step.reads == ("x", "p_b")


KEPT = {
    "rounded to 16 bits": [product(dtype="bfloat16"),
                           at.elementwise("x", (3, 4), dtype="bfloat16")],
    "rounded to integers": [product(dtype="int8", out_dtype="int8"),
                            at.elementwise("x", (3, 4), dtype="int8")],
    "elements in 16 bits": [at.elementwise("x", (3, 4), dtype="float16"),
                            at.softmax(3, 4, dtype="float16")],
    "a fold in 16 bits": [at.reduce("sum", (10, 4), dtype="float16"),
                          at.elementwise("x", 10, dtype="float16")],
    "rows of products": [product(batch=2), at.elementwise("x * r[m]", (6, 4))],
    "another shape": [product(4, 4), at.elementwise("x + y[n]", (2, 8))],
    "of products side by side": [product(batch=2, ldc=8, stride_c=4),
                                 at.elementwise("x", (6, 4))],
    "much work, twice": [at.elementwise("exp(x)", (3, 4)), at.elementwise("x * x", (3, 4))],
    "a product's A": [at.elementwise("x * 2", (3, 5)), product()],
    "a fold of a product": [product(), at.reduce("sum", (3, 4))],
    "a fold's rows": [at.reduce("sum", (3, 4)), at.elementwise("y[m] + x", (3, 4))],
    "numbers that wrap around": [product(dtype="int8", out_dtype="float32", epilogue="c * 0.5"),
                                 at.elementwise("x + (2000000000 + 2000000000)", (3, 4))],
    "numbers of another type": [at.elementwise("x + (0.1 + 0.2)", (3, 4), dtype="float64"),
                                at.elementwise("x.float64 + y", (3, 4))],
    "a long expression": [at.elementwise("+".join(["x"] * 40), (3, 4)),
                          at.elementwise("+".join(["x", *["y"] * 40]), (3, 4))],
}  # fmt: skip


@pytest.mark.parametrize("workloads", KEPT.values(), ids=KEPT)
def test_not_absorbed(workloads):
    g = at.chain(workloads)
    assert same_results(g) == ()
    with pytest.raises(WorkloadError, match="step0: its reader cannot compute it as well"):
        absorbed(g, ["step0"])


def test_what_others_need_is_not_absorbed():
    map_ = at.elementwise("x * 2", (3, 4))
    g = {"p": P, "q": (map_, {"x": "p"}), "r": (map_, {"x": "p"})}
    assert absorbable(at.group(g)) == ()
    assert absorbable(at.group({"p": P, "q": (map_, {"x": "p"})}, outputs=["p", "q"])) == ()
    twice = {"p": P, "q": (at.elementwise("x + y", (3, 4)), {"x": "p", "y": "p"})}
    assert absorbable(at.group(twice)) == ()


# Blocks of rows.


def blocks(steps, outputs=None, names=None):
    g = at.group(steps, outputs)
    return Blocks(g, tuple(names or (step.name for step in g.steps)))


def by_blocks(b, rows, inputs):
    """What all blocks give by numpy: results on the way in memory of a block's size."""
    memory = dict(inputs)
    memory |= {s.name: np.full(s.workload.output.span, np.nan) for s in b.steps}
    own = {owner: np.full(memory[owner].size, np.nan) for owner in b.owner.values()}

    def of(step, tensor, operand, item, row):
        name = step.source(operand) if operand else step.name
        if name in b.near:
            return view(own[b.owner[name]], tensor)
        place = place_of(step.workload, operand, b.rows_of_item)
        return view(memory[name], tensor, item * place.item + row * place.row)

    for item in range(b.items):
        for row in range(0, b.rows_of_item, rows):
            high = min(rows, b.rows_of_item - row)
            for step in b.steps:
                w = b.workload(step, high)
                read = {op: of(step, t, op, item, row) for op, t in w.operands.items()}
                sources = tuple((op, op) for op in read)
                alone = Group((Step("result", w, sources),), ("result",))
                of(step, w.output, RESULT, item, row)[...] = computed(alone, read)["result"]
    return {name: memory[name] for name in b.names if name not in b.near}


@given(SEEDS)
@settings(max_examples=150)
def test_blocks_make_the_whole(seed):
    random = Random(seed)
    group = drawn(seed, steps=6, most=9)
    b = longest_blocks(group)
    assume(b is not None)
    inputs = drawn_by_name(group, seed)
    wanted = computed(group, inputs)
    tensors = group.inputs | {s.name: s.workload.output for s in group.steps}
    memory = {name: laid_out(x, tensors[name]) for name, x in (inputs | wanted).items()}
    given = {name: x for name, x in memory.items() if name not in b.names}
    for rows in {1, random.randint(1, b.rows_of_item), b.rows_of_item}:
        for name, found in by_blocks(b, rows, given).items():
            np.testing.assert_allclose(found, memory[name], rtol=1e-12, atol=1e-12)


def test_items_and_their_blocks():
    heads = at.group({
        "s": at.matmul(10, 10, 4, batch=3, trans_b=True),
        "p": (at.softmax(30, 10), {"x": "s"}),
        "o": (at.matmul(10, 4, 10, batch=3), {"a": "p"}),
    })  # fmt: skip
    b = Blocks(heads, ("s", "p", "o"))
    assert not b.why_not
    assert (b.items, b.rows_of_item, b.count(4), b.edge(4), b.edge(5)) == (3, 10, 3, 2, 0)
    assert b.near == {"s", "p"} and b.owner == {"s": "s", "p": "s"}
    assert b.halo == {"s": 0, "p": 0, "o": 0}
    w = b.workload(heads.by_name["s"], 4)
    assert (w.m, w.batch, w.ldc) == (4, 1, 10)
    assert place_of(heads.by_name["s"].workload, "b", 10).item == 40
    assert place_of(heads.by_name["o"].workload, RESULT, 10).row == 4


ELEMENTS = at.elementwise("x * 2", (3, 4))


@pytest.mark.parametrize(
    "steps, outputs, owner",
    [
        ({"p": P, "q": (ELEMENTS, {"x": "p"}), "r": (ELEMENTS, {"x": "q"})}, "r",
         {"p": "p", "q": "p"}),
        # p is read again later, by the last step
        ({"p": P, "q": (ELEMENTS, {"x": "p"}),
          "r": (at.elementwise("x + y", (3, 4)), {"x": "q", "y": "p"})}, "r",
         {"p": "p", "q": "q"}),
        # q is written over p, r over q; what reads p twice in other places is not
        ({"p": P, "q": (at.elementwise("x + y", (3, 4)), {"x": "p", "y": "p"}),
          "r": (ELEMENTS, {"x": "q"})}, "r", {"p": "p", "q": "q"}),
        # another type, another shape
        ({"p": P, "q": (at.elementwise("x", (3, 4), out_dtype="int32"), {"x": "p"}),
          "r": (at.elementwise("x", (3, 4), dtype="int32"), {"x": "q"})}, "r",
         {"p": "p", "q": "q"}),
        ({"p": P, "q": (at.reduce("sum", (3, 4)), {"x": "p"}),
          "r": (at.elementwise("y[m] + x", (3, 4)), {"y": "q"})}, "r", {"p": "p", "q": "q"}),
        # a scan reads rows again
        ({"p": P, "q": (at.scan("sum", (3, 4), axis=-1), {"x": "p"}), "r": (ELEMENTS, {"x": "q"})},
         "r", {"p": "p", "q": "q"}),
        # the result of a product is not written over its A
        ({"p": product(3, 4), "q": (product(3, 4, 4), {"a": "p"}), "r": (ELEMENTS, {"x": "q"})},
         "r", {"p": "p", "q": "q"}),
        # outputs have memory of their own
        ({"p": P, "q": (ELEMENTS, {"x": "p"}), "r": (ELEMENTS, {"x": "q"})}, ["q", "r"],
         {"p": "p"}),
    ],
)  # fmt: skip
def test_whose_memory_results_on_the_way_lie_in(steps, outputs, owner):
    b = blocks(steps, outputs)
    assert not b.why_not and b.owner == owner


def test_what_another_stage_reads_is_not_near():
    b = blocks({"p": P, "q": (ELEMENTS, {"x": "p"}), "r": (ELEMENTS, {"x": "p"})}, None,
               ["p", "q"])  # fmt: skip
    assert b.near == frozenset() and not b.why_not


WHY_NOT = {
    "rows of results differ: [3, 4]": ({"p": P, "q": SQUARE}, None),
    "batches differ: [2, 4]": (
        {"p": product(4, batch=2), "q": product(2, batch=4)}, None),
    "q: is no matter of rows": (
        {"p": P, "q": at.reduce("sum", (3, 4), axis=0)}, None),
    "p: is no matter of rows": ({"p": at.elementwise("x", 3), "q": product(1)}, None),
    "q: b needs all rows of p": ({"p": SQUARE, "q": (SQUARE, {"b": "p"})}, None),
    "q:  a needs all rows of p": (
        {"p": SQUARE, "q": (product(4, 4, 4, trans_a=True), {"a": "p"})}, None),
    "q: y needs all rows of p": (
        {"p": at.reduce("sum", (4, 7)), "q": (at.elementwise("x + y[n]", (4, 4)), {"y": "p"})},
        None),
    "q: r needs all rows of p": (
        {"p": at.reduce("sum", (8, 7)),
         "q": (at.elementwise("x * r[n]", (8, 8)), {"r": "p"})}, None),
    "q: x sees p as another array": (
        {"p": product(4, 2, 5, batch=3, ldc=6, stride_c=2), "q": (at.softmax(12, 2), {"x": "p"})},
        None),
    "q: a sees p as another array": (
        {"p": at.reduce("sum", (4, 7)), "q": (product(4, 3, 1), {"a": "p"})}, ["p", "q"]),
}  # fmt: skip


@pytest.mark.parametrize(("why", "steps"), WHY_NOT.items(), ids=WHY_NOT)
def test_why_not_block_by_block(why, steps):
    b = blocks(*steps)
    assert b.why_not == why.replace("  ", " ")
    with pytest.raises(IllegalPlan, match="^rows of p, q: "):
        GroupPlan(workload=b.group, absorbed=(), stages=(any_rows(b),))


def any_rows(b):
    plans = tuple(plan_of(profile(), step.workload) for step in b.steps)
    return RowsStage(names=b.names, plans=plans, rows=1, threads=1)


# Plans.


@cache
def mlp():
    """The group, and a plan of it with a stage of each kind."""
    steps = {**MLP, "u": product(24, 8, 32), "v": (at.softmax(24, 32), {"x": "z"})}
    g = at.group(steps)
    b = Blocks(g, ("h", "y"))
    rows = rows_stage(profile(), b, Random(0), 2, 5)
    z = AloneStage(step="z", plan=plan_of(profile(), g.by_name["z"].workload))
    return g, GroupPlan(workload=g, absorbed=(), stages=(rows, z, together(g, "u", "v")))


def together(g, *names):
    fused = at.fused([g.by_name[name].workload for name in names])
    plan = next(p for p, _ in options(profile(), fused, 2) if p.decision is Decision.FUSED)
    return TogetherStage(names=names, plan=plan)


def test_plans_say_what_they_hold():
    g, plan = mlp()
    assert plan.steps == g and plan.threads == 2 and plan.decision is Decision.FUSED
    assert [len(stage.names) for stage in plan.stages] == [2, 1, 2] and len(plan.plans) == 5
    assert str(plan) == "[h, y] in blocks of 5 rows; z; {u, v} fused"
    alone = tuple(AloneStage(step=s.name, plan=plan_of(profile(), s.workload)) for s in g.steps)
    one_by_one = replace(plan, stages=alone)
    assert one_by_one.decision is Decision.ONE_BY_ONE and one_by_one.threads == 1


def test_round_trip_of_all_kinds_of_stages():
    g, plan = mlp()
    again = GroupPlan.from_json(plan.to_json())
    assert again == plan and hash(again) == hash(plan) and again.to_json() == plan.to_json()
    assert read_any(plan.to_json()) == plan


@given(SEEDS)
@settings(max_examples=10)
def test_round_trip(seed):
    group = drawn(seed)
    plan = blocked(profile(), group, Random(seed), threads=2)
    assert GroupPlan.from_json(plan.to_json()) == plan
    names = absorbable(group)
    fewer = blocked(profile(), absorbed(group, names), Random(seed), threads=1)
    whole = GroupPlan(workload=group, absorbed=names, stages=fewer.stages)
    assert GroupPlan.from_json(whole.to_json()) == whole


def changed_stage(number, **changes):
    _, plan = mlp()
    stages = list(plan.stages)
    stages[number] = replace(stages[number], **changes)
    return replace(plan, stages=tuple(stages))


def test_wrong_stages_are_refused():
    g, plan = mlp()
    rows, z, two = plan.stages
    taller = rows_stage(profile(), Blocks(g, ("h", "y")), Random(0), 2, 6)
    wrong_plan = plan_of(profile(), at.elementwise("x - r", (24, 32)))
    unfused = FusionPlan(
        workload=two.plan.workload, decision=Decision.ONE_BY_ONE,
        members=tuple(Member(plan=p, along=along) for p, along in zip(two.plans, ("m", ""))),
    )  # fmt: skip
    refused = {
        "stages: h, y, z: each of h, y, z, u, v is needed once":
            lambda: replace(plan, stages=(rows, z)),
        "stages: h, y, z, z, u, v: each of h, y, z, u, v is needed once":
            lambda: replace(plan, stages=(rows, z, z, two)),
        "z: reads y, which comes later": lambda: replace(plan, stages=(z, rows, two)),
        "y: reads h, which comes later":
            lambda: changed_stage(0, names=("y", "h"), plans=rows.plans[::-1]),
        "v: reads z, which comes later": lambda: replace(plan, stages=(rows, two, z)),
        "z: its plan is of x - r over [24, 32] float32": lambda: changed_stage(1, plan=wrong_plan),
        "plans: 1; one for each of 2 steps": lambda: replace(rows, plans=rows.plans[:1]),
        "h: its plan is of matmul 6x64x32 float32, out = gelu(c + bias[n]), matmul 5x64x32 float32,"
        " out = gelu(c + bias[n]) is needed": lambda: changed_stage(0, plans=taller.plans),
        "rows = 0: a whole number from 1 on": lambda: replace(rows, rows=0),
        "threads = 2.0: a whole number from 1 on": lambda: replace(rows, threads=2.0),
        "plan: of 2 workloads; there are 1 steps": lambda: replace(two, names=("u",)),
        "plan: one_by_one; stages of their own are that":
            lambda: replace(two, plan=unfused),
    }  # fmt: skip
    for said, make in refused.items():
        with pytest.raises(IllegalPlan) as caught:
            make()
        assert str(caught.value) == said


def test_blocks_are_computed_by_one_thread_each():
    _, plan = mlp()
    rows = plan.stages[0]
    threads = replace(plan.stages[1].plan, threads=2)
    with pytest.raises(IllegalPlan, match="^z: 2 threads; blocks are shared out$"):
        RowsStage(names=("z",), plans=(threads,), rows=24, threads=1)
    assert rows.threads == 2


def test_members_of_one_region_do_not_read_each_other():
    g = at.group({"p": SQUARE, "q": (SQUARE, {"a": "p"})})
    with pytest.raises(IllegalPlan, match="q: reads p, which comes later"):
        GroupPlan(workload=g, absorbed=(), stages=(together(g, "p", "q"),))


def test_what_cannot_be_absorbed_is_no_plan():
    g, plan = mlp()
    with pytest.raises(WorkloadError, match="absorbed: h: its reader cannot compute it as well"):
        replace(plan, absorbed=("h",))


def paths(value, path=()):
    yield path
    parts = value.items() if isinstance(value, dict) else (
        enumerate(value) if isinstance(value, list) else ())
    for key, part in parts:
        yield from paths(part, (*path, key))


def put(whole, path, value):
    if not path:
        return value
    part = whole
    for key in path[:-1]:
        part = part[key]
    if value is ...:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    return whole


@given(st.data())
@settings(max_examples=100)
def test_torn_json_is_refused(data):
    """Whatever is put in the place of whatever: what is read is a plan, or refused as none."""
    text = mlp()[1].to_json()
    path = data.draw(st.sampled_from(list(paths(json.loads(text)))))
    value = data.draw(st.sampled_from([..., None, True, 0, 3, -1, 2.5, "x", "h", [], {}, [[]]]))
    if not path and value is ...:
        text = text[: data.draw(st.integers(0, len(text) - 1))]
    else:
        text = json.dumps(put(json.loads(text), path, value))
    try:
        assert GroupPlan.from_json(text).to_json()
    except IllegalPlan as error:
        assert str(error) and "\n" not in str(error)


@pytest.mark.parametrize(
    "path, value",
    [
        (("stages", 0, 2), []), (("stages", 2, 2), []), (("stages", 0, 0), "columns"),
        (("stages", 0, 1), []), (("stages", 0, 3), 7), (("stages", 1, 2, 0), "x"),
        (("steps", 0, 2, "m"), 25), (("steps", 0, 1), "conv"), (("steps", 1, 3, 0, 1), "w"),
        (("outputs",), []), (("outputs", 0), "q"), (("absorbed",), ["h"]), (("absorbed",), 3),
        (("kind",), "gemm"), (("steps",), {}), (("steps",), ...),
    ],
)  # fmt: skip
def test_torn_in_these_places(path, value):
    torn = put(json.loads(mlp()[1].to_json()), path, value)
    with pytest.raises(IllegalPlan):
        GroupPlan.from_json(json.dumps(torn))


# The model's choice.

ATTENTION = {
    "q": at.matmul(32, 16, 24), "k": (at.matmul(32, 16, 24), {"a": "q_a"}),
    "s": (at.matmul(32, 32, 16, trans_b=True, alpha=0.25), {"a": "q", "b": "k"}),
    "p": (at.softmax(32, 32, "x + mask"), {"x": "s"}),
    "o": (at.matmul(32, 16, 32), {"a": "p"}),
}  # fmt: skip


def assert_sound(found, profile_, group, threads):
    """What must hold of the options for any group and machine."""
    seconds = [estimate.seconds for _, estimate in found]
    assert seconds == sorted(seconds) and seconds[0] > 0
    apart = [
        estimate.seconds for plan, estimate in found
        if all(isinstance(stage, AloneStage) for stage in plan.stages) and not plan.absorbed
    ]  # fmt: skip
    assert len(apart) == 1 and seconds[0] <= apart[0]
    for plan, estimate in found:
        assert plan.workload == group and plan.threads <= threads
        assert GroupPlan.from_json(plan.to_json()) == plan
        assert [len(e.steps) for e in estimate.stages] == [len(s.names) for s in plan.stages]
        assert estimate.barriers <= len(plan.stages)
        text = explain_group(profile_, found, plan)
        assert text.count("(chosen)") == 1 and text.count("bound by") == len(plan.plans)


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("name", ["zen4", "neoverse_v1"])
def test_options_are_legal_and_the_best_is_first(name, threads):
    random = Random(threads)
    group = random_group(random, 3, 24, ("float32",))
    assert_sound(group_options(profile(name), group, threads), profile(name), group, threads)


def test_options_of_attention():
    group = at.group(ATTENTION)
    found = group_options(profile(), group, 2)
    assert_sound(found, profile(), group, 2)
    assert group_options(profile(), group, 2) == found


def test_one_step_is_left_alone():
    group = at.group({"p": P})
    ((plan, estimate),) = group_options(profile(), group, 2)
    assert plan.decision is Decision.ONE_BY_ONE and estimate.barriers == (plan.threads > 1)


def test_what_can_be_absorbed_depends_on_what_is():
    product = at.matmul(64, 64, 64)
    g = at.group({
        "g": product,
        "p": (at.elementwise("gelu(g)", (64, 64)), {"g": "g"}),
        "r": (at.elementwise("p * p", (64, 64)), {"p": "p"}),
    })  # fmt: skip
    assert absorbable(g) == ("g", "p") and absorbable(g, {"g"}) == ()
    assert group_options(at.load_profile("zen4"), g, 2)
    with pytest.raises(WorkloadError, match="^absorbed: nonsense: no such step$"):
        absorbed(g, ("nonsense",))
