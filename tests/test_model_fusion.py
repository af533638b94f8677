"""What the model decides of workloads that may be computed together."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

import anatune as at
from anatune.model.alignment import SPANNING, loads_of
from anatune.model.chains import chain_cycles
from anatune.model.explain_fusion import explain_fusion
from anatune.model.fusion import options
from anatune.model.maps import best_map, predict_map, unit_cost
from anatune.plan.fusion import Decision
from anatune.workload.expression import parse_arrays, parse_step

N = 1000


@pytest.fixture(scope="module")
def zen4():
    return at.load_profile("zen4")


def by_decision(profile, workloads, threads=2):
    return {p.decision: (p, e) for p, e in options(profile, at.fused(workloads), threads)}


def test_unbalanced_partners_are_divided_by_cost(zen4):
    pair = [at.elementwise("x + y", (4, N)), at.elementwise("sigmoid(exp(x))", (4, N * N))]
    found = by_decision(zen4, pair)
    _, fused = found[Decision.FUSED]
    assert max(fused.workers) <= 1.01 * sum(fused.workers) / 2
    _, beside = found[Decision.SIDE_BY_SIDE]
    assert beside.seconds > 1.8 * fused.seconds  # one thread has all but nothing to do


def test_small_workloads_save_barriers(zen4):
    small = [at.softmax(512, 512), at.softmax(512, 256), at.elementwise("exp(x)", 1 << 18)]
    found = by_decision(zen4, small)
    assert found[Decision.FUSED][1].barriers == 1
    assert found[Decision.ONE_BY_ONE][1].barriers == 3
    assert found[Decision.FUSED][1].seconds < found[Decision.ONE_BY_ONE][1].seconds


def test_many_workloads_run_whole_on_a_thread_each_where_that_is_even(zen4):
    same = [at.elementwise("gelu(x)", (64, 1024))] * 4
    plan, estimate = by_decision(zen4, same)[Decision.SIDE_BY_SIDE]
    assert [len(share) for share in plan.shares] == [2, 2]
    assert estimate.workers[0] == pytest.approx(estimate.workers[1])


def test_more_threads_than_workloads_are_given_to_the_slow_one(zen4):
    pair = [at.elementwise("x + y", 100_000), at.elementwise("sigmoid(exp(x))", 800_000)]
    plan, _ = by_decision(zen4, pair, threads=4)[Decision.SIDE_BY_SIDE]
    assert [{p.member for p in share} for share in plan.shares] == [{0}, {1}, {1}, {1}]


def test_one_thread_and_one_workload_leave_no_choice(zen4):
    assert list(by_decision(zen4, [at.softmax(8, 8)])) == [Decision.ONE_BY_ONE]
    assert list(by_decision(zen4, [at.softmax(8, 8)] * 2, threads=1)) == [Decision.ONE_BY_ONE]


def test_products_are_cut_into_tiles(zen4):
    trio = [at.matmul(196, n, 480) for n in (64, 96, 16)]
    plan, _ = by_decision(zen4, trio)[Decision.FUSED]
    for member in plan.members:
        extent = member.plan.workload.along(member.along)
        assert (member.units - 1) * member.unit < extent <= member.units * member.unit


def test_the_unit_of_an_expensive_expression_costs_more(zen4):
    costs = []
    for text in ("x", "x * y + z", "exp(x)", "gelu(exp(x))"):
        plan, _ = best_map(zen4, at.elementwise(text, 1000), 1)
        costs.append(unit_cost(zen4, plan, 1).cycles / plan.chunk)
    assert costs == sorted(costs)


def test_what_does_not_fit_a_cache_comes_from_beyond(zen4):
    sizes = (2**11, 2**15, 2**20, 2**26)
    plans = [best_map(zen4, at.elementwise("x + y", size), 1)[0] for size in sizes]
    found = [predict_map(zen4, plan).bytes_moved[0][0] for plan in plans]
    assert found == ["L1", "L2", "L3", "memory"]


def test_reasons_show_all_three_ways_and_the_shares(zen4):
    ways = options(zen4, at.fused([at.matmul(64, 64, 64), at.softmax(64, 64)]), 2)
    for chosen, _ in ways:
        text = explain_fusion(zen4, ways, chosen)
        assert text.count("barrier(s)") == 3 and text.count("(chosen)") == 1
        assert ("thread 1:" in text) == bool(chosen.shares)
        assert len(re.findall(r"bound by", text)) == 2


@pytest.mark.parametrize(
    "text, columns, loads",
    [
        ("x", 4096, [1]), ("x[n-1] + x[n+15]", 4096, [1, 1]), ("x[n-1] + x", 4096, [1, SPANNING]),
    ],
)  # fmt: skip
def test_loads_that_span_two_lines_count_more(zen4, text, columns, loads):
    plan = replace(best_map(zen4, at.stencil(text, columns), 1)[0], lanes=16)
    assert [loads_of(plan, read, 64) for read in plan.workload.element.reads] == loads


def test_rows_begin_at_lines_as_often_as_their_length_has_it(zen4):
    for columns, share in ((48, 1), (40, 1 / 2), (36, 1 / 4), (33, 1 / 16)):
        plan = replace(best_map(zen4, at.elementwise("x + b[n]", (5, columns)), 1)[0], lanes=16)
        x, b = (loads_of(plan, read, 64) for read in plan.workload.element.reads)
        assert b == 1 and x == 1 + (1 - share) * (SPANNING - 1)


def test_what_waits_for_what():
    def chain(text, dtype="float32"):
        return chain_cycles(parse_step(text, dtype), 4.0)

    assert chain("c + x") == chain("max(c, x)") == 2.0 and chain("c * x") == 4.0
    assert chain("c * a + x") == 4.0  # one multiply-add
    assert chain("(c + x) * a") == 6.0 and chain("x * a + c") == 2.0
    assert chain("tanh(c) + x") > 50
    assert chain("c + x", "int32") == 1.0
    assert chain_cycles(parse_arrays("x * y", "float32"), 4.0) is None
