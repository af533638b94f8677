"""Measured ways of what is no single product are kept, answer the next call, and are replayed."""

from __future__ import annotations

import json
import os
import subprocess

import numpy as np
import pytest

pytest.importorskip("tvm")

import anatune as at  # noqa: E402
from anatune.errors import IllegalPlan, OperandError, OptionError  # noqa: E402
from anatune.many import tune_many  # noqa: E402
from anatune.measure.budget import Budget  # noqa: E402
from anatune.measure.outcome import Outcome  # noqa: E402
from anatune.measure.race import Race  # noqa: E402
from anatune.records import Origin, Pass, ProfileId, Store  # noqa: E402
from anatune.records.line import Line, State  # noqa: E402
from anatune.records.record import MEASUREMENT, VERDICT, key_of  # noqa: E402
from anatune.records.replay import replay_of  # noqa: E402
from anatune.records.select import Selection  # noqa: E402
from anatune.search import ways  # noqa: E402

SOFTMAX = at.softmax(24, 64)
FUSED = at.fused([at.matmul(24, 32, 16), SOFTMAX])
CHAIN = at.chain([at.matmul(24, 32, 16, epilogue="relu"), at.matmul(24, 16, 32)])

pytestmark = pytest.mark.usefixtures("steady")


@pytest.fixture
def no_process(monkeypatch):
    """Call it, and from then on no process may be started."""

    def refuse(*arguments, **options):
        pytest.fail("a process was started")

    def forbid() -> None:
        for place, name in ((subprocess, "Popen"), (os, "fork"), (os, "posix_spawn")):
            monkeypatch.setattr(place, name, refuse)

    return forbid


def operands(workload):
    generator = np.random.default_rng(0)
    return [generator.random(t.shape, np.float32) for t in workload.arguments.values()]


@pytest.mark.parametrize("workload", [SOFTMAX, FUSED, CHAIN], ids=["map", "fused", "group"])
def test_the_next_call_is_answered_from_the_store(here, no_process, workload):
    first = at.tune(workload, here)
    found = list(Store().all())
    measured = {r.plan for r in found if r.kind == MEASUREMENT}
    assert measured == {plan for plan, _ in at.rank(workload, here)[:8]}
    assert [r.outcome for r in found if r.kind == VERDICT] == [Outcome.OK]
    assert all(r.plan.workload == workload and r.workload == str(workload) for r in found)
    no_process()
    for budget in (None, 1, len(first.candidates), 16 if len(measured) < 8 else 8, "10s"):
        again = at.tune(workload, here, budget=budget)
        assert again.plan == first.plan
        assert again.measured_s == pytest.approx(first.measured_s, rel=1e-3)
        for mine, theirs in zip(again.candidates, first.candidates):
            assert mine.plan == theirs.plan and mine.predicted == theirs.predicted
    assert list(Store().all()) == found
    inputs = operands(workload)
    np.testing.assert_array_equal(np.hstack(first(*inputs)), np.hstack(again(*inputs)))


def test_a_larger_budget_measures_the_rest(here, monkeypatch):
    asked, measure = [], Race.measure

    def noting(race, wave):
        asked.extend(entry.plan for entry in wave)
        return measure(race, wave)

    monkeypatch.setattr(Race, "measure", noting)
    at.tune(SOFTMAX, here, budget=1, threads=1)
    listed = [plan for plan, _ in at.rank(SOFTMAX, here, threads=1)]
    assert asked == listed[:1]
    more = at.tune(SOFTMAX, here, budget=2, threads=1)
    assert asked == listed[:2]
    assert [c.measurement.outcome for c in more.candidates[2:]] == [Outcome.SKIPPED] * (
        len(listed) - 2)


def test_model_only_keeps_nothing_and_verifies(here):
    r = at.tune(FUSED, here, budget=0)
    assert r.measured is None and r.measured_s is None and not Store().path.exists()
    assert r.plan == at.plan(FUSED, here)
    assert "model only" in r.explain()


def test_what_was_measured_in_another_way_is_no_answer(here):
    at.tune(SOFTMAX, here, budget=1, threads=1)
    count = len(list(Store().all()))
    for change in ({"threads": 2}, {"cache": "cold"}, {"objective": "energy"}):
        at.tune(SOFTMAX, here, budget=1, **{"threads": 1, **change})
        assert len(list(Store().all())) > count, change
        count = len(list(Store().all()))


def test_workloads_have_keys_of_their_own():
    pair = [at.matmul(8, 8, 8), at.matmul(8, 8, 8)]
    alike = [
        at.fused(pair), at.fused(pair, same_a=True), at.fused(pair[:1]), pair[0],
        at.chain(pair), at.softmax(8, 8), at.softmax(8, 8, "2 * x"), at.elementwise("x", (8, 8)),
        at.group({"a": pair[0], "b": pair[1]}),
    ]  # fmt: skip
    assert len({key_of(w, "facts") for w in alike}) == len(alike)


def test_lines_of_other_versions_are_passed_over_and_stay(here):
    """Plans of a kind that is not known, and estimates with fields that are not."""
    at.tune(SOFTMAX, here, budget=1, threads=1)
    store = Store()
    lines = store.path.read_bytes().splitlines()
    fields = json.loads(lines[0])
    later = {**fields, "plan": {**fields["plan"], "kind": "dream"}}
    more = {**fields, "predicted": {**fields["predicted"], "dreams": 3}}
    added = [json.dumps(each, separators=(",", ":")).encode() for each in (later, more)]
    store.path.write_bytes(b"\n".join([*lines, *added, b""]))
    states = [Line(raw).state for raw in added]
    assert states == [State.RECORD, State.RECORD]
    with pytest.raises(IllegalPlan, match="kind = 'dream'"):
        _ = Line(added[0]).record.plan
    assert Line(added[1]).record.predicted.seconds == Line(lines[0]).record.predicted.seconds
    found = store.find(SOFTMAX, ProfileId.of(here).hash)
    assert len(found) == len(lines) + 1
    at.tune(SOFTMAX, here, budget=2, threads=1)
    assert store.path.read_bytes().startswith(b"\n".join([*lines, *added]))


def test_numbers_that_a_model_lacks_are_written_as_none(here):
    plan, estimate = at.rank(CHAIN, here)[0]
    from anatune.measure.entry import Entry
    from anatune.measure.outcome import Measurement

    this = Pass(workload=CHAIN, profile=ProfileId.of(here), threads=2, origin=Origin.here())
    line = this.measured(Entry(plan, estimate), Measurement(Outcome.RUN_ERROR), 1).line()
    assert json.loads(line)["predicted"]["joules"] is None
    read = Line(line).record
    assert read.predicted.joules != read.predicted.joules  # nan
    assert read.predicted.seconds == pytest.approx(estimate.seconds, rel=1e-4)
    assert read.plan == plan


def test_a_pass_is_replayed_from_its_records(here):
    r = at.tune(FUSED, here)
    runner = replay_of(Store().all())
    race = Race(runner, Budget(8, 60.0), clock=runner.clock, rest=runner.rest)
    ways.search(race, here, FUSED, None, "time")
    assert {e.plan for e, _ in race.measured} == {c.plan for c in r.candidates}
    chosen = race.finish()
    seconds = {c.plan: c.seconds for c in r.candidates}
    assert seconds[chosen.plan] <= 1.06 * min(seconds.values())


def test_records_are_found_by_a_part_of_the_text(here):
    at.tune(SOFTMAX, here, budget=1, threads=1)
    (record, *_) = Store().all()
    assert Selection(words=("softmax", "24", "64")).takes(record)
    assert not Selection(words=("softmax", "24", "6")).takes(record)


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ({"search": "evolve"}, "search = 'evolve': is for single matrix products; .*leave it out"),
        ({"search": "metaschedule"}, "search = 'metaschedule': is for single matrix products"),
        ({"search": "luck"}, "search = 'luck': one of 'shortlist'"),
        ({"remote": "there:9190/zen"}, "remote = 'there:9190/zen': is for single matrix products"),
        ({"code_bytes": 9}, "code_bytes = 9: for workloads with dims"),
        ({"cache": "tepid"}, "cache = 'tepid': 'warm' or 'cold'"),
        ({"objective": "heat"}, "objective = 'heat': one of 'time', 'energy', 'edp'"),
        ({"budget": "soon"}, "budget = 'soon': None, a number of candidates, or a time"),
        ({"budget": -1}, "budget = -1: a number of candidates is 0 or more"),
        ({"threads": 0}, "threads = 0: a whole number from 1"),
        ({"database": 3}, "database = 3: None, False, the path of a file, or a Store"),
        ({"target": 5}, "target = 5: 'host', the name of a profile"),
    ],
)
@pytest.mark.parametrize("workload", [SOFTMAX, FUSED, CHAIN], ids=["map", "fused", "group"])
def test_options_that_are_not_for_these_are_refused(workload, option, line):
    with pytest.raises(OptionError, match=f"^{line}"):
        at.tune(workload, **{"target": "zen5", **option})


def test_energy_and_cold_caches_are_objectives_of_their_own(here):
    """Whatever is measured, one thread takes less energy than two that take a barrier."""
    r = at.tune(SOFTMAX, here, objective="energy", database=False)
    assert r.plan.threads == 1
    cold = at.tune(SOFTMAX, here, cache="cold", budget=1, threads=1, database=False)
    assert cold.measured_s > 0


def test_another_machine_gets_code_that_is_not_run(here):
    other = "neoverse_v1" if here.target.isa == "x86_64" else "zen5"
    r = at.tune(CHAIN, other, database=False)
    assert r.measured is None and "compiled, not run" in r.explain()
    with pytest.raises(OperandError, match="this machine cannot run its code"):
        r(*operands(CHAIN))


def test_lists_may_hold_them(here, tmp_path):
    store = tmp_path / "records.jsonl"
    given = [SOFTMAX, FUSED, CHAIN, at.matmul(8, 8, 8)]
    tuned = tune_many(given, here, database=store, budget=1, threads=1, search="evolve")
    assert [t.error for t in tuned] == [""] * 4
    assert [t.result.workload for t in tuned] == given
    assert {r.workload for r in Store(store).all()} == {str(w) for w in given}
    refused = tune_many([FUSED], here, database=False, remote="there:9190/zen")
    assert refused[0].error.startswith("remote = 'there:9190/zen': is for single matrix products")


def test_a_result_tells_in_tables_and_json(here):
    r = at.tune(CHAIN, here, budget=1, threads=1, database=False)
    fields = json.loads(json.dumps(r.as_dict()))
    assert fields["workload"] == str(CHAIN) and fields["measured_s"] == r.measured_s
    assert len(fields["candidates"]) == len(r.candidates) == len(at.rank(CHAIN, here, threads=1))
    assert r.failed == () and str(r.plan) in repr(r)


def test_a_kernel_that_is_wrong_is_listed_and_another_taken(here, monkeypatch):
    from anatune.measure import runner
    from anatune.measure.outcome import Measurement

    worst = at.plan(SOFTMAX, here, threads=1)
    first_run = runner.LocalRunner._first_run

    def wrong(self, cell, entry, loadable):
        if entry.plan == worst:
            return Measurement(Outcome.WRONG_RESULT, note="out[0] = 1")
        return first_run(self, cell, entry, loadable)

    monkeypatch.setattr(runner.LocalRunner, "_first_run", wrong)
    for budget in (0, None):
        r = at.tune(SOFTMAX, here, threads=1, budget=budget, database=False)
        assert r.plan != worst
        assert [c.plan for c in r.failed] == [worst]
