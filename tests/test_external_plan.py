"""External micro-kernels as data: costs, and what a plan says of them; no TVM."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_plans import ANY_TARGET, plan

from anatune.errors import IllegalPlan
from anatune.plan import ExternalKernel, GemmPlan, KernelCost, Storage, ThroughputModel

TABLES = st.dictionaries(
    st.integers(1, 500), st.floats(1.0, 1e6), min_size=1, max_size=6
).map(lambda points: KernelCost(
    steps=tuple(sorted(points)), cycles=tuple(points[k] for k in sorted(points)), origin="drawn"
))  # fmt: skip


def kernel(**changes) -> ExternalKernel:
    fields = dict(
        name="theirs", symbol="f", mr=6, nr=32, dtype="float32", isa="x86_64", features=("fma",),
        form="object", code_sha256="0" * 64, reads_ahead_steps=None,
        cost=ThroughputModel(cycles_per_step=6.0, start_cycles=20.0).cost,
    )  # fmt: skip
    return ExternalKernel(**{**fields, **changes})


def plan_of(theirs: ExternalKernel) -> GemmPlan:
    packed = {"a": Storage.PACKED, "b": Storage.PACKED}
    return plan(37, 70, 20, 6, 32, 16, micro_kernel=theirs, **packed)


@given(TABLES)
def test_a_table_is_met_at_its_points(cost):
    for steps, cycles in zip(cost.steps, cost.cycles):
        assert cost.of(steps) == pytest.approx(cycles, rel=1e-9)
    assert all(cost.of(k) >= 0 for k in range(1, 600))


@given(st.floats(0.1, 100), st.floats(0, 100), st.integers(1, 4096))
def test_a_throughput_model_is_a_line(step, start, k):
    cost = ThroughputModel(cycles_per_step=step, start_cycles=start).cost
    assert cost.of(k) == pytest.approx(start + k * step, rel=1e-6)


def test_between_points_are_straight_lines():
    cost = KernelCost(steps=(4, 8, 16), cycles=(10.0, 20.0, 60.0), origin="drawn")
    assert [cost.of(k) for k in (6, 12, 24)] == [15.0, 40.0, 100.0]


@pytest.mark.parametrize(("steps", "cycles"), [((), ()), ((1, 1), (2.0, 3.0)), ((1,), (0.0,)),
                                               ((0, 1), (1.0, 2.0)), ((1, 2), (1.0,))])  # fmt: skip
def test_what_is_no_table(steps, cycles):
    with pytest.raises(IllegalPlan, match="cost"):
        KernelCost(steps=steps, cycles=cycles, origin="drawn")


def test_a_plan_with_it_is_read_back():
    theirs = plan_of(kernel(reads_ahead_steps=2))
    assert GemmPlan.from_json(theirs.to_json()) == theirs
    assert theirs.panel_rows == 22 and theirs.slack_steps == 2
    assert str(theirs).startswith("micro-kernel theirs, 6x32 tile")


def test_plans_without_one_are_written_as_ever():
    assert "micro_kernel" not in plan(37, 70, 20, 6, 32, 16).to_json()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"isa": "aarch64"}, "is for aarch64, the target is x86_64"),
        ({"features": ("fma", "amx-tile")}, "needs amx-tile, which the target lacks"),
        ({"mr": 5}, "computes tiles of 5x32, the plan's are 6x32"),
        ({"dtype": "float64"}, "computes fma64, the plan fma32"),
    ],
)
def test_what_a_plan_may_not_call(changes, told):
    with pytest.raises(IllegalPlan) as refused:
        plan_of(kernel(**changes))
    assert str(refused.value) == f"micro_kernel = 'theirs': {told}"
    assert "amx-tile" not in ANY_TARGET.features
