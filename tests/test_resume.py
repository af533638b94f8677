"""A pass that ends early goes on where it stopped; one that got through is not done again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import pytest
from record_samples import small_plan
from small_product import K, M, N, operands, wanted

pytest.importorskip("tvm")

from traces import wait_until  # noqa: E402

import anatune as at  # noqa: E402
from anatune.measure.budget import Budget  # noqa: E402
from anatune.measure.entry import Entry  # noqa: E402
from anatune.measure.outcome import Measurement, Outcome, Timing  # noqa: E402
from anatune.measure.race import Race  # noqa: E402
from anatune.measure.runner import LocalRunner  # noqa: E402
from anatune.plan import CacheBlocks, Plan  # noqa: E402
from anatune.records import Effort, Journal, Kernels, Origin, Pass, ProfileId, Store  # noqa: E402
from anatune.result import Result  # noqa: E402
from anatune.search import shortlist  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
W = at.matmul(M, N, K)
KILLS = int(os.environ.get("ANATUNE_TEST_PASS_KILLS", "6"))

pytestmark = pytest.mark.usefixtures("nothing_left", "steady")


@pytest.fixture
def asked(monkeypatch) -> list[Plan]:
    """What searches want to have measured; the final of those that were is not among it."""
    measure, plans = Race.measure, []

    def noting(race, entries):
        plans.extend(entry.plan for entry in entries)
        return measure(race, entries)

    monkeypatch.setattr(Race, "measure", noting)
    return plans


@pytest.fixture
def no_process(monkeypatch):
    """Call it, and from then on no process may be started."""

    def refuse(*arguments, **options):
        pytest.fail("a process was started")

    def forbid() -> None:
        for place, name in ((subprocess, "Popen"), (os, "fork"), (os, "posix_spawn")):
            monkeypatch.setattr(place, name, refuse)

    return forbid


def recorded() -> dict[Plan, Measurement]:
    return {record.plan: record.measurement for record in Store().all()}


def assert_right(result: Result) -> None:
    np.testing.assert_array_equal(result(*operands().values()), wanted())


def test_a_larger_budget_continues_and_a_smaller_one_is_answered(here, asked, no_process):
    at.tune(W, here, budget=2, threads=1)
    first = list(asked)
    assert len(first) == 2 and set(recorded()) == set(first)
    more = at.tune(W, here, budget=4, threads=1)
    assert len(asked) == 4 and asked[:2] == first and not set(asked[2:]) & set(first)
    assert [c.plan for c in more.candidates] == asked and set(recorded()) == set(asked)
    assert_right(more)
    size = Store().path.stat().st_size
    no_process()
    for budget in (4, 3, 2, 1):
        same = at.tune(W, here, budget=budget, threads=1)
        assert len(asked) == 4
        assert same.plan == more.plan and same.measured is not None
        assert [c.plan for c in same.candidates] == asked[:4]
        assert_right(same)
    assert Store().path.stat().st_size == size


def test_the_same_call_is_answered_whatever_the_kind_of_budget(here, asked, no_process):
    first = at.tune(W, here, threads=1)
    count = len(asked)
    assert count > 0
    no_process()
    assert at.tune(W, here, threads=1).plan == first.plan
    assert len(asked) == count


def test_nothing_is_kept_where_that_is_asked_for(here, asked):
    for _ in range(2):
        at.tune(W, here, budget=1, threads=1, database=False)
    assert len(asked) == 2 and asked[0] == asked[1]
    assert not Store().path.exists()


def test_a_store_of_ones_own(here, asked, tmp_path):
    for database in (tmp_path / "a.jsonl", str(tmp_path / "a.jsonl"), Store(tmp_path / "a.jsonl")):
        at.tune(W, here, budget=1, threads=1, database=database)
    at.tune(W, here, budget=1, threads=1, database=tmp_path / "b.jsonl")
    assert len(asked) == 2
    assert {file.suffix for file in tmp_path.iterdir()} == {".jsonl", ".lock"}


@pytest.mark.parametrize(
    "change", [{"threads": 2}, {"cache": "cold"}, {"objective": "energy"}, {"search": "evolve"}]
)
def test_another_question_is_not_answered_from_the_store(here, monkeypatch, change):
    """Whoever asks something else gets an answer of its own."""
    if here.usable_threads < 2 and "threads" in change:
        pytest.skip("the profile has one thread")
    given = {"threads": 1, "budget": 1}
    at.tune(W, here, **given)
    before = len(list(Store().all()))
    at.tune(W, here, **{**given, **change})
    records = list(Store().all())[before:]
    assert [record.kind for record in records][-1] == "verdict"
    told = records[-1]
    assert told.threads == change.get("threads", 1) and told.cache == change.get("cache", "warm")
    assert told.verdict.objective == change.get("objective", "time")
    assert told.verdict.search == change.get("search", "shortlist")


@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_kernel_is_built_again(here, asked, damage):
    first = at.tune(W, here, budget=1, threads=1)
    library = Kernels().get(first.plan)
    whole = library.read_bytes()
    if damage == "gone":
        library.unlink()
    else:
        library.write_bytes(whole[:-1] + (b"" if damage == "cut" else b"x"))
    again = at.tune(W, here, budget=1, threads=1)
    assert len(asked) == 1 and again.plan == first.plan
    assert_right(again)
    assert Kernels().get(first.plan) is not None


def test_an_interruption_between_two_waves_is_recorded(here, asked, monkeypatch):
    """As by Ctrl-C: the best so far is written down, as that of a pass that did not end."""
    monkeypatch.setattr(shortlist, "WAVE", 2)
    prepare, waves = LocalRunner.prepare, []

    def interrupted(runner, entries):
        waves.append(entries)
        if len(waves) == 2:
            raise KeyboardInterrupt
        return prepare(runner, entries)

    monkeypatch.setattr(LocalRunner, "prepare", interrupted)
    with pytest.raises(KeyboardInterrupt):
        at.tune(W, here, budget=3, threads=1)
    last = list(Store().all())[-1]
    assert last.verdict is not None and not last.verdict.complete
    first = set(asked[:2])
    assert set(recorded()) == first
    monkeypatch.setattr(LocalRunner, "prepare", prepare)
    asked.clear()
    result = at.tune(W, here, budget=3, threads=1)
    assert len(asked) == 1 and not set(asked) & first
    assert len(result.candidates) == 3 and len(recorded()) == 3
    assert_right(result)


def test_an_interrupted_compilation_leaves_nothing(here, faults):
    faults.are({at.plan(W, here, threads=1): "compiler hang"})

    def tell(text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        at.tune(W, here, budget=3, threads=1, progress=tell)


COUNT = 8
PROGRAM = """
from anatune import cli
from anatune.measure import outcome
from anatune.search import shortlist
outcome.CALM = outcome.UNSTABLE_SPREAD = float("inf")  # however busy the machine is
shortlist.WAVE = 2  # several waves of a small budget
cli.main()
"""
COMMAND = [
    sys.executable, "-c", PROGRAM, "tune",
    "matmul", str(M), str(N), str(K), "--threads", "1", "--budget", str(COUNT), "--json",
]  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="needs a group of processes that is signalled")
def test_ctrl_c_keeps_what_was_measured_and_the_same_command_goes_on(here, tmp_path):
    command = [*COMMAND, "--target", here.name]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        wait_until(lambda: process.poll() is not None or recorded())
        assert process.poll() is None, process.stderr.read()
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: all that runs there hears it
        out, said = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert said.splitlines()[-1] == "anatune: interrupted"
    before = recorded()
    assert 0 < len(before) < COUNT
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    assert len(result["candidates"]) == len(recorded()) == COUNT
    times = [record for record in Store().all() if record.kind == "measurement"]
    final = {record.plan for record in times[len(before) :]} & set(before)
    assert len(final) <= 4  # finalists run again, in the final


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that are forked")
def test_passes_survive_kills_at_random_instants(tmp_path):
    script = [sys.executable, str(ROOT / "benchmarks" / "kill_passes.py"), "--json"]
    few = ["--kills", str(KILLS), "--candidates", "6"]
    done = subprocess.run([*script, *few], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kills"] == found["resumed"] == KILLS and found["recorded"] > 0
    assert (found["lost"], found["again"], found["wrong_end"]) == (0, 0, 0)


# What follows needs neither kernels nor time: the journal alone.

PLAN = small_plan()
THIS = Pass(
    workload=PLAN.workload, profile=ProfileId("zen4", "a" * 64), threads=1, origin=Origin.here()
)
FOUND = Measurement(Outcome.OK, Timing((1e-5,) * 3))


def journal(this: Pass = THIS, objective: str = "time", search: str = "shortlist") -> Journal:
    return Journal(Store(), Kernels(), this, objective, search)


def decide(one: Journal, budget: Budget, spent: Effort, complete: bool = True) -> None:
    one.measured(Entry(PLAN), FOUND, 1)
    one.decided(Entry(PLAN), FOUND, 1, budget, spent, complete)


@pytest.mark.parametrize(
    "other",
    [
        replace(THIS, profile=ProfileId("zen4", "b" * 64)),
        replace(THIS, threads=2),
        replace(THIS, cache="cold"),
        replace(THIS, origin=replace(THIS.origin, device="board:9090/key")),
        replace(THIS, origin=replace(THIS.origin, host="another")),
        replace(THIS, origin=replace(THIS.origin, tvm="0.1")),
        replace(THIS, workload=small_plan(16).workload),
    ],
)
def test_what_was_measured_otherwise_is_not_ones_own(other):
    decide(journal(), Budget(8, 2.5), Effort(1, 1.0))
    assert journal().seen == ((Entry(PLAN), FOUND),) and journal().verdict is not None
    assert journal(other).seen == () and journal(other).verdict is None
    assert journal(other).spent_s == 0.0 and not journal(other).answers(Budget(1, 0.1))


@pytest.mark.parametrize("asked", [("energy", "shortlist"), ("time", "evolve")])
def test_another_objective_or_search_knows_the_times_and_decides_anew(asked):
    decide(journal(), Budget(8, 2.5), Effort(1, 1.0))
    other = journal(THIS, *asked)
    assert other.seen == journal().seen
    assert other.verdict is None and not other.answers(Budget(1, 0.1)) and other.spent_s == 0.0


@pytest.mark.parametrize(
    ("spent", "complete", "asked", "answers"),
    [
        (Effort(8, 1.0), True, Budget(8, 2.5), True),
        (Effort(5, 1.0), True, Budget(8, 2.5), True),  # no more plans were left to try
        (Effort(5, 1.0), True, Budget(4, 1.0), True),
        (Effort(5, 1.0), True, Budget(9, 2.5), False),
        (Effort(5, 1.0), True, Budget(8, 3.0), False),
        (Effort(8, 1.0), True, Budget(8, inf), True),  # all candidates that are asked for
        (Effort(5, 2.5), True, Budget(9, 2.0), True),  # all the time
        (Effort(8, 1.0), True, Budget(0, inf), False),  # the model alone is not asked for times
        (Effort(8, 2.5), False, Budget(8, 2.5), False),
    ],
)
def test_what_was_spent_answers_what_asks_for_no_more(spent, complete, asked, answers):
    decide(journal(), Budget(8, 2.5), spent, complete)
    assert journal().answers(asked) is answers
    assert journal().spent_s == spent.seconds


def test_of_each_plan_the_record_with_most_samples_counts():
    best = Measurement(Outcome.OK, Timing((1e-5,) * 9))
    for found in (Measurement(Outcome.RUN_ERROR, note="as drawn"), best, FOUND):
        journal().measured(Entry(PLAN), found, 1)
    assert journal().seen == ((Entry(PLAN), best),)
    (entry, _), = journal().seen
    assert entry.engine == "model"


def test_candidates_come_in_the_order_in_which_they_were_proposed():
    blocks = CacheBlocks(mc=4, nc=16, kc=8)
    plans = [PLAN, replace(PLAN, prefetch_c=True), replace(PLAN, blocks=blocks)]
    for rank in (3, 1, 2):  # as where the third fails while the others are timed
        journal().measured(Entry(plans[rank - 1]), FOUND, rank)
    assert [entry.plan for entry, _ in journal().seen] == plans


def test_without_a_store_nothing_is_known():
    none = Journal(None, Kernels(), THIS, "time", "shortlist")
    decide(none, Budget(8, 2.5), Effort(1, 1.0))
    assert none.seen == () and none.verdict is None and not none.answers(Budget(1, 0.1))
    assert not Store().path.exists()
