"""The model alone, of what is no single product: planned, ranked, predicted, explained, refused."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import anatune as at
from anatune.errors import IllegalPlan, OptionError, ProfileError, WorkloadError
from anatune.plan.fusion import FusionPlan
from anatune.plan.group import GroupPlan
from anatune.plan.maps import MapPlan
from anatune.plan.read import read_any
from anatune.units import TIME

ROOT = Path(__file__).resolve().parents[1]

FUSED = at.fused([at.matmul(196, 64, 480), at.softmax(512, 512)])
CHAIN = at.chain([at.matmul(128, 256, 64, epilogue="gelu"), at.matmul(128, 64, 256)])
KINDS = {
    MapPlan: at.elementwise("relu(x + bias[n])", (128, 768)),
    FusionPlan: FUSED,
    GroupPlan: CHAIN,
}
ALL = [*KINDS.values(), at.reduce("sum", (128, 768), axis=0), at.softmax(12, 512)]


@pytest.mark.parametrize(("kind", "workload"), KINDS.items(), ids=lambda x: type(x).__name__)
def test_a_plan_is_the_first_of_the_ranked_and_reads_back(kind, workload):
    chosen = at.plan(workload, "zen4", threads=2)
    ways = at.rank(workload, "zen4", threads=2)
    assert isinstance(chosen, kind) and chosen == ways[0][0]
    assert chosen.workload == workload and chosen.threads <= 2
    for plan, _ in ways:
        assert read_any(plan.to_json()) == plan


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("workload", ALL, ids=str)
def test_what_is_predicted_of_a_plan_is_what_it_was_ranked_by(workload, threads):
    ways = at.rank(workload, "zen4", threads=threads)
    assert [e.seconds for _, e in ways] == sorted(e.seconds for _, e in ways)
    for plan, estimate in ways:
        again = at.predict(plan, workload, "zen4")
        assert again.seconds == pytest.approx(estimate.seconds, rel=1e-12)
        assert again.terms and again.bound == again.terms[0][0]
        cycles = [taken for _, taken in again.terms]
        assert cycles == sorted(cycles, reverse=True)


def test_members_of_a_fused_group_add_up():
    """Bytes and operations are those of the members, however they are shared out."""
    for plan, estimate in at.rank(FUSED, "zen4", threads=4):
        alone = [at.predict(at.plan(w, "zen4", threads=1), w, "zen4") for w in FUSED.members]
        assert 0 < estimate.peak_fraction < 1
        assert estimate.joules > estimate.seconds * plan.threads  # 1 W for each that is on
        assert dict(estimate.bytes_moved).keys() >= {alone[0].bytes_moved[0][0]}
        assert estimate.cycles / estimate.seconds == pytest.approx(
            alone[0].cycles / alone[0].seconds, rel=0.5)


def test_one_thread_is_a_choice_where_energy_counts():
    """Two threads with a barrier take longer than half, so one takes less energy."""
    ways = at.rank(FUSED, "zen4", threads=2, objective="energy")
    assert [e.joules for _, e in ways] == sorted(e.joules for _, e in ways)
    assert {plan.threads for plan, _ in ways} == {1, 2}
    maps = at.rank(KINDS[MapPlan], "zen4", objective="edp")
    products = [e.joules * e.seconds for _, e in maps]
    assert products == sorted(products)


def test_what_has_no_modelled_energy_is_refused_by_it():
    assert math.isnan(at.rank(CHAIN, "zen4")[0][1].joules)
    with pytest.raises(OptionError, match="^objective = 'energy': .* is not modelled: leave it"):
        at.plan(CHAIN, "zen4", objective="energy")


@pytest.mark.parametrize("workload", ALL, ids=str)
def test_reasons_name_the_chosen_way_among_the_others(workload):
    for plan, estimate in at.rank(workload, "zen4", threads=2)[:2]:
        text = at.explain(plan, "zen4")
        assert text.startswith(f"{workload} on zen4") and text.count("(chosen)") == 1
        assert len(re.findall("bound by", text)) >= 1
        (line,) = [line for line in text.splitlines() if "(chosen)" in line]
        assert TIME.show(estimate.seconds) in line


def test_the_time_of_a_map_is_spelled_out():
    plan = at.plan(at.softmax(64, 512), "zen4", threads=1)
    text = at.explain(plan, "zen4")
    assert f"{plan.lanes} lanes of float32" in text and "of 32 registers" in text
    assert "T = (sum of the other terms ^ 4) ^ (1/4) + turns + rows" in text


def test_a_plan_of_ones_own_is_explained_and_predicted():
    plan = at.plan(at.softmax(64, 512), "zen4", threads=1)
    own = replace(plan, unroll=plan.unroll + 1)
    assert at.predict(own, plan.workload, "zen4").seconds > 0
    assert "(chosen)" in at.explain(own, "zen4")


def test_nothing_of_tvm_is_loaded():
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import anatune as at
w = at.fused([at.softmax(64, 64), at.matmul(8, 8, 8)])
for one in (w, w.members[0], at.chain([at.matmul(8, 8, 8), at.softmax(8, 8)])):
    plan = at.plan(one, "zen4")
    at.predict(plan, one, "zen4"), at.explain(plan, "zen4"), at.rank(one, "zen4")
print([name for name in sys.modules if name.startswith("tvm")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize(
    ("call", "error", "line"),
    [
        (lambda w, p: at.plan(w, "zen4", threads=0), OptionError, "threads = 0: a whole number"),
        (lambda w, p: at.plan(w, "zen4", objective="heat"), OptionError, "objective = 'heat'"),
        (lambda w, p: at.plan(w, "nvidia_a100"), OptionError, "target = 'nvidia_a100': a CPU"),
        (lambda w, p: at.plan(w, "described_npu"), OptionError, "target = 'described_npu': a CPU"),
        (lambda w, p: at.rank(w, "zen9"), ProfileError, "profile 'zen9' is not found"),
        (lambda w, p: at.predict(p, at.softmax(3, 4), "zen4"), IllegalPlan, "plan: is of"),
        (lambda w, p: at.predict(w, w, "zen4"), IllegalPlan, "plan = "),
        (lambda w, p: at.predict(p, w, "zen4", m=3), WorkloadError, "m = 3: .* has no dims"),
        (lambda w, p: at.explain(w, "zen4"), IllegalPlan, "plan = "),
        (lambda w, p: at.why_not("8x48", w, "zen4"), WorkloadError, "workload = "),
    ],
)
@pytest.mark.parametrize("workload", KINDS.values(), ids=lambda w: type(w).__name__)
def test_refusals_name_field_and_value(workload, call, error, line):
    with pytest.raises(error, match=f"^{line}"):
        call(workload, at.plan(workload, "zen4", threads=2))


@pytest.mark.parametrize("workload", KINDS.values(), ids=lambda w: type(w).__name__)
def test_a_machine_with_fewer_threads_cannot_hold_the_plan(workload):
    few = replace(at.load_profile("zen4"), usable_threads=2)
    plans = [p for p, _ in at.rank(workload, "zen4", threads=4) if p.threads == 4]
    with pytest.raises(IllegalPlan, match="4 ?.*profile zen4 has 2"):
        at.predict(plans[0], workload, few)
