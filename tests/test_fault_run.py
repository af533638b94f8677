"""A pass among whose candidates everything goes wrong that can: named, passed over, cleaned up."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from math import inf

import numpy as np
import pytest
from small_product import K, M, N, operands, wanted

pytest.importorskip("tvm")

from click.testing import CliRunner  # noqa: E402

import anatune as at  # noqa: E402
from anatune.codegen.library import Code  # noqa: E402
from anatune.errors import WorkerError  # noqa: E402
from anatune.measure import builder as builder_module  # noqa: E402
from anatune.measure.budget import Budget  # noqa: E402
from anatune.measure.builder import Builder  # noqa: E402
from anatune.measure.entry import Entry  # noqa: E402
from anatune.measure.nursery import Cell  # noqa: E402
from anatune.measure.outcome import MEASURED, Measurement, Outcome  # noqa: E402
from anatune.measure.race import Race  # noqa: E402
from anatune.measure.runner import LocalRunner  # noqa: E402
from anatune.model import candidates as model  # noqa: E402
from anatune.plan import Plan  # noqa: E402
from anatune.records import Journal, Kernels, Origin, Pass, ProfileId, Store  # noqa: E402

W = at.matmul(M, N, K)

START_S = 3.0
"""Patience with a kernel of microseconds: what a hang costs each of these tests."""

COMPILER_S = 4.0
"""Patience with a compilation of tenths of a second."""

MEMORY_BYTES = 200 << 20
COMPILER_BYTES = 600 << 20

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that are forked"),
    pytest.mark.usefixtures("nothing_left", "steady"),
]

FAULTS: dict[str, tuple[Outcome, str]] = {
    "late crash": (Outcome.RUN_ERROR, "worker died: SIGSEGV"),
    "crash": (Outcome.RUN_ERROR, "worker died: SIGSEGV"),
    "hang": (Outcome.TIMEOUT, "worker hung: no answer in 3 s"),
    "illegal instruction": (Outcome.ILLEGAL, "worker died: SIGILL"),
    "forgetful": (Outcome.WRONG_RESULT, ": the float64 reference is "),
    "memory": (Outcome.KILLED, "worker killed: it took "),
    "heap": (Outcome.RUN_ERROR, "worker died: SIGABRT"),
    "exit": (Outcome.RUN_ERROR, "worker died: exit status 5, no more"),
    "compiler error": (Outcome.COMPILE_ERROR, "BuildError: as arranged"),
    "compiler crash": (Outcome.COMPILE_ERROR, "compiling: worker died: SIGSEGV"),
    "compiler hang": (Outcome.TIMEOUT, "compiling: worker hung: no answer in 4 s"),
    "compiler memory": (Outcome.KILLED, "compiling: worker killed: it took "),
    "late hang": (Outcome.TIMEOUT, "worker hung: no answer in 3 s"),
    "late illegal instruction": (Outcome.ILLEGAL, "worker died: SIGILL"),
    "late heap": (Outcome.RUN_ERROR, "worker died: SIGABRT"),
}
"""What goes wrong -> how it is called, and what is said of it."""

GOOD = 4
"""Candidates that work, among them."""


@pytest.fixture
def plans(here) -> list[Plan]:
    ranked = model.best(here, W, 1, "time")
    return [plan for plan, _ in ranked[: len(FAULTS) + GOOD]]


@pytest.fixture
def arranged(plans, faults) -> dict[Plan, str]:
    """The good ones among them come last, but for the second; the first is the reference at first,
    until it fails."""
    bad = dict(zip([plans[0], *plans[2:]], FAULTS))
    faults.are(bad)
    return bad


@pytest.fixture
def hasty(monkeypatch) -> None:
    monkeypatch.setattr(builder_module, "PATIENCE_S", COMPILER_S)
    monkeypatch.setattr(builder_module, "PATIENCE_FACTOR", 1.0)


def test_all_are_named_and_a_good_one_wins(here, plans, arranged, hasty):
    store = Store()
    this = Pass(workload=W, profile=ProfileId.of(here), threads=1, origin=Origin.here())
    journal = Journal(store, Kernels(), this, "time", "shortlist")
    with (
        Builder(2, Kernels(), COMPILER_BYTES) as builder,
        LocalRunner(W, 1, builder, None, MEMORY_BYTES, START_S) as runner,
    ):

        def note(entry: Entry, found: Measurement) -> None:
            journal.measured(entry, found, race.rank(entry))

        race = Race(runner, Budget(len(plans), inf), journal=note)
        answers = race.measure([Entry(plan, at.predict(plan, W, here)) for plan in plans])
        winner = race.finish()
        code = Code.of(builder.path(winner.plan))

    for plan, found in zip(plans, answers):
        check(arranged.get(plan), found)
    assert [entry.plan for entry, _ in race.measured] == plans
    assert winner.plan in set(plans) - set(arranged)
    assert_right(lambda a, b: call(code, a, b))
    recorded = {record.plan: record.measurement for record in store.all()}
    assert set(recorded) == set(plans)
    assert all(record.rank == plans.index(record.plan) + 1 for record in store.all())
    again = Journal(Store(), Kernels(), this, "time", "shortlist")
    assert [entry.plan for entry, _ in again.seen] == plans
    for plan, found in recorded.items():
        check(arranged.get(plan), found)
    kept = {plan for plan in plans if Kernels().get(plan)}
    assert kept == {plan for plan in plans if arranged.get(plan, "late").startswith("late")}


def check(fault: str | None, found: Measurement) -> None:
    if fault is None:
        assert found.outcome in MEASURED and found.timing is not None
        return
    outcome, note = FAULTS[fault]
    assert (found.outcome, found.timing) == (outcome, None), (fault, found)
    assert note in found.note and "\n" not in found.note


def call(code: Code, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    import tvm_ffi

    c = np.zeros((M, N), np.float32)
    code.load()["main"](*map(tvm_ffi.from_dlpack, (a, b, c)))
    return c


def assert_right(kernel: Callable[..., np.ndarray]) -> None:
    np.testing.assert_array_equal(kernel(*operands().values()), wanted())


FAST = ("crash", "illegal instruction", "forgetful", "compiler error", "compiler crash")
"""Faults that nobody has to wait for."""


def first_of(profile, count: int) -> list[Plan]:
    """The candidates of a pass of so many, in its order."""
    ranked = model.best(profile, W, 1, "time")
    return [plan for plan, _ in model.shortlist(ranked, count)]


def tune(*words: str):
    from anatune import cli

    command = ["tune", "matmul", str(M), str(N), str(K), "--threads", "1", "--budget", "8", *words]
    return CliRunner().invoke(cli.app, command, prog_name="anatune")


def test_the_command_lists_at_the_end_who_failed(here, faults):
    plans = first_of(here, 8)
    bad = dict(zip(plans, FAST))
    faults.are(bad)
    done = tune("--target", here.name)
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    place = lines.index("failed, of 8 candidates:")
    listed = lines[place + 1 :]
    assert len(listed) == len(FAST) and not any(str(plan) in "".join(lines[:place]) for plan in bad)
    for number, (line, (plan, fault)) in enumerate(zip(listed, bad.items()), 1):
        outcome, note = FAULTS[fault]
        assert line.startswith(f"  {number}. {plan}: {outcome.value}: ") and note in line
    again = tune("--target", here.name, "--json")  # from the store
    outcomes = [candidate["outcome"] for candidate in json.loads(again.stdout)["candidates"]]
    assert outcomes[: len(FAST)] == [FAULTS[fault][0].value for fault in FAST]


def test_a_result_says_who_failed(here, faults):
    plans = first_of(here, 8)
    bad = dict(zip(plans[1:], FAST))
    faults.are(bad)
    result = at.tune(W, here, budget=8, threads=1)
    assert [failed.plan for failed in result.failed] == list(bad)
    assert result.plan not in bad
    for failed, fault in zip(result.failed, FAST):
        check(fault, failed.measurement)
        outcome = failed.measurement.outcome.value
        said = f"  {failed.rank}. {failed.plan}: {outcome}: {failed.measurement.note}"
        assert said in result.explain()
    assert_right(result)


@pytest.mark.parametrize("fault", ["crash", "compiler error"])
def test_where_all_fail_the_first_says_why_and_all_are_recorded(here, faults, fault):
    from faulty import ALL

    faults.are({ALL: fault})
    outcome, note = FAULTS[fault]
    for _ in range(2):  # the second time from what is recorded
        with pytest.raises(outcome.error) as caught:
            at.tune(W, here, budget=3, threads=1)
        assert str(caught.value) == f"none of 3 plans gave a working kernel; the first: {note}"
    assert [record.outcome for record in Store().all()] == [outcome] * 3


def test_a_compiler_that_hangs_does_not_hold_up_who_interrupts(here, faults, monkeypatch):
    """Compilations that nobody waits for any more are ended, not waited for."""
    stop, stopped = Cell.stop, []
    monkeypatch.setattr(Cell, "stop", lambda cell: (stopped.append(cell), stop(cell)))
    plans = first_of(here, 2)
    faults.are({plans[0]: "compiler hang"})
    with Builder(2) as builder:
        builds = builder.build([Entry(plan) for plan in plans])
        entry, _ = next(builds)
        assert entry.plan == plans[1]
        assert not stopped
        builds.close()
        assert len(stopped) == 1 and builder.built.keys() == {plans[1]}


def test_what_worked_before_and_fails_now_is_not_the_winner(here, faults):
    """Its kernel is gone, and cannot be made again: the next best one is taken, then none."""
    first = at.tune(W, here, budget=2, threads=1)
    (other,) = {c.plan for c in first.candidates} - {first.plan}
    for bad, left in (([first.plan], other), ([first.plan, other], None)):
        shutil.rmtree(Kernels().folder)
        faults.are(dict.fromkeys(bad, "crash"))
        if left is None:
            with pytest.raises(WorkerError, match="^none of 2 plans gave a working kernel; "):
                at.tune(W, here, budget=2, threads=1)
        else:
            result = at.tune(W, here, budget=2, threads=1)
            assert result.plan == left
            assert_right(result)
