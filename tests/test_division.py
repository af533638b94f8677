"""Laws of dividing unequal work: all of it once, and no worker with much more than the mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import anatune as at
from anatune.errors import IllegalPlan, WorkloadError
from anatune.model.division import Cost, cycles_of, divide, whole_members
from anatune.plan import CodeTarget
from anatune.plan.fusion import Decision, FusionPlan, Member, Piece
from anatune.plan.maps import MapPlan
from anatune.workload.fused import Fused

MEMBERS = st.lists(st.tuples(st.floats(0.01, 1e6), st.integers(1, 10_000)), min_size=1, max_size=6)
TARGET = CodeTarget(isa="x86_64", mcpu="znver4")


def covered(shares, units):
    """Each unit of each member is in one piece."""
    for member, count in enumerate(units):
        pieces = sorted((p.start, p.stop) for s in shares for p in s if p.member == member)
        assert pieces[0][0] == 0 and pieces[-1][1] == count
        assert all(a[1] == b[0] and a[0] < a[1] for a, b in zip(pieces, pieces[1:]))


@given(MEMBERS, st.integers(1, 9))
def test_no_share_exceeds_the_mean_by_more_than_a_unit(members, workers):
    costs, units = [Cost(0.0, each) for each, _ in members], [count for _, count in members]
    shares = divide(costs, units, workers)
    assert len(shares) == workers
    covered(shares, units)
    done = cycles_of(shares, costs)
    most = sum(done) / workers + max(cost.each for cost in costs)
    assert max(done) <= most * (1 + 1e-6)


@given(MEMBERS, st.floats(0, 1e6), st.integers(1, 9))
def test_fixed_costs_are_paid_by_each_piece(members, fixed, workers):
    costs, units = [Cost(fixed, each) for each, _ in members], [count for _, count in members]
    shares = divide(costs, units, workers)
    covered(shares, units)
    alone = sum(cost.of(count) for cost, count in zip(costs, units))
    assert max(cycles_of(shares, costs)) <= alone * (1 + 1e-6)  # never worse than one worker
    pieces = [p.member for share in shares for p in share]
    assert len(pieces) <= len(units) + workers - 1  # cut only where a share ends


def test_unbalanced_partners_end_together():
    costs = [Cost(0.0, 1.0), Cost(0.0, 1.0)]
    shares = divide(costs, [10, 990], 2)
    assert cycles_of(shares, costs) == pytest.approx((500, 500), abs=1)


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=12), st.integers(1, 5))
def test_longest_first_is_within_its_bound(seconds, workers):
    groups = whole_members(seconds, workers)
    assert sorted(k for group in groups for k in group) == list(range(len(seconds)))
    busiest = max(sum(seconds[k] for k in group) for group in groups)
    least = max(max(seconds), sum(seconds) / workers)
    assert busiest <= least * (2 - 1 / workers) * (1 + 1e-9)


def fusion(shares):
    plan = MapPlan(workload=at.elementwise("x", 640), target=TARGET, lanes=16, unroll=1)
    return FusionPlan(
        workload=Fused((plan.workload,)), decision=Decision.FUSED, members=(Member(plan=plan),),
        shares=tuple(tuple(Piece(member=0, start=a, stop=b) for a, b in s) for s in shares),
    )  # fmt: skip


@pytest.mark.parametrize("shares", [[[(0, 39)]], [[(0, 20)], [(21, 40)]], [[(0, 30)], [(20, 40)]]])
def test_plans_that_miss_a_unit_or_do_it_twice_are_refused(shares):
    with pytest.raises(IllegalPlan, match="units"):
        fusion(shares)


def test_fusion_plans_survive_json():
    plan = fusion([[(0, 20)], [(20, 40)]])
    assert FusionPlan.from_json(plan.to_json()) == plan
    with pytest.raises(IllegalPlan):
        FusionPlan.from_json('{"kind": "fusion"}')


@pytest.mark.parametrize(
    "members, same_a, said",
    [
        ([], False, "from 1"), ([3], False, "int"),
        ([at.matmul(4, 4, 4, beta=1.0)], False, "beta"),
        ([at.matmul(4, 4, 4, constant_b=True)], False, "constant_b"),
        ([at.matmul(4, 4, 4), at.matmul(5, 4, 4)], True, "its A"),
        ([at.matmul(4, 4, 4), at.softmax(4, 4)], True, "only of matrix products"),
    ],
)  # fmt: skip
def test_what_cannot_be_fused_is_named(members, same_a, said):
    with pytest.raises(WorkloadError, match=said):
        at.fused(members, same_a=same_a)
