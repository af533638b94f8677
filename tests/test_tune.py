"""The whole way on this machine: the model alone, the race, plans that fail, other machines."""

from __future__ import annotations

import json
import os
import signal

import numpy as np
import pytest

pytest.importorskip("tvm")

from small_product import K, M, N, operands, wanted  # noqa: E402

import anatune as at  # noqa: E402
from anatune.codegen.target import runs_here  # noqa: E402
from anatune.errors import (  # noqa: E402
    BuildError,
    IllegalPlan,
    OperandError,
    VerificationError,
    WorkerError,
)
from anatune.hwprofile import load_profile  # noqa: E402
from anatune.kinds import FALL_BACK  # noqa: E402
from anatune.measure.nursery import Nursery  # noqa: E402
from anatune.measure.outcome import Measurement, Outcome  # noqa: E402
from anatune.measure.runner import LocalRunner  # noqa: E402
from anatune.plan import CodeTarget  # noqa: E402
from anatune.records import Store  # noqa: E402
from anatune.result import Result  # noqa: E402


@pytest.fixture(scope="module")
def result(here) -> Result:
    return at.tune(at.matmul(M, N, K), here, budget=0, threads=1)


@pytest.fixture(scope="module")
def away() -> str:
    """A shipped profile whose code does not run here."""
    return next(
        n
        for n in ("neoverse_n1", "haswell")
        if not runs_here(CodeTarget.of(load_profile(n).target))
    )


@pytest.fixture(scope="module")
def raced(here) -> Result:
    return at.tune(at.matmul(M, N, K), here, budget=2, threads=1)


def test_the_model_alone(result, here):
    assert result.measured is None
    assert result.plan == at.plan(at.matmul(M, N, K), here, threads=1)
    assert result.predicted == at.predict(result.plan, result.workload, here)
    assert [c.measurement.outcome for c in result.candidates] == [Outcome.SKIPPED] * len(
        result.candidates
    )
    np.testing.assert_array_equal(result(*operands().values()), wanted())


def test_the_race(raced, here):
    assert [c.rank for c in raced.candidates] == [1, 2]
    assert raced.candidates[0].plan == at.plan(at.matmul(M, N, K), here, threads=1)
    predicted = [c.predicted.seconds for c in raced.candidates]
    assert predicted == sorted(predicted)
    chosen = next(c for c in raced.candidates if c.plan == raced.plan)
    assert raced.measured == chosen.measurement.timing
    assert all(s > 0 for s in raced.measured.samples_s)
    np.testing.assert_array_equal(raced(*operands().values()), wanted())


def test_several_threads(here):
    if here.usable_threads < 2:
        pytest.skip("the profile has one thread")
    w = at.matmul(200, 330, 70)
    tuned = at.tune(w, here, budget=1, threads=2)
    a, b = (np.ones(x.shape, np.float32) for x in w.operands.values())
    np.testing.assert_array_equal(tuned(a, b), np.full(w.output.shape, 70, np.float32))


def test_explanation(raced, result):
    text = raced.explain()
    for part in (
        " <= R: ",
        "kc = ",
        "mc = ",
        "nc = ",
        "bound by ",
    ):
        assert part in text
    assert text.startswith(at.explain(raced.plan, raced.profile))
    for candidate in raced.candidates:
        assert f"  {candidate.rank}. {candidate.plan}: predicted " in text
    assert "  nothing: the plan is the model's alone" in result.explain()


def test_plain_values(raced):
    plain = json.loads(json.dumps(raced.as_dict()))
    assert plain["plan"] == str(raced.plan) and plain["measured_s"] == raced.measured.median_s
    assert [c["rank"] for c in plain["candidates"]] == [1, 2]
    assert repr(raced).startswith(f"<anatune result: matmul {M}x{N}x{K} float32; ")


W = at.matmul(M, N, K)


@pytest.mark.parametrize("budget", [0, 2])
@pytest.mark.parametrize(
    ("fault", "outcome", "note"),
    [
        ("nothing", Outcome.WRONG_RESULT, "c[0, 0] = nan: not written or not finite"),
        ("crash", Outcome.RUN_ERROR, "worker died: SIGSEGV"),
        ("compiler error", Outcome.COMPILE_ERROR, "BuildError: as arranged"),
    ],
)
def test_a_plan_that_fails_is_passed_over(here, faults, budget, fault, outcome, note):
    pick = at.plan(W, here, threads=1)
    faults.are({pick: fault})
    tuned = at.tune(W, here, budget=budget, threads=1)
    first = tuned.candidates[0]
    assert (first.plan, first.measurement.outcome) == (pick, outcome)
    assert first.measurement.note == note and first.measurement.timing is None
    assert tuned.plan == tuned.candidates[1].plan
    assert f"1. {pick}: {outcome.value}: {note}" in tuned.explain()
    np.testing.assert_array_equal(tuned(*operands().values()), wanted())


def test_a_kernel_that_computes_something_else_does_not_count(here, faults):
    """The pick's code forgets the last step along k; the worker finds it."""
    pick = at.plan(W, here, threads=1)
    faults.are({pick: "forgetful"})
    tuned = at.tune(W, here, budget=2, threads=1)
    assert tuned.candidates[0].plan == pick
    assert tuned.candidates[0].measurement.outcome is Outcome.WRONG_RESULT
    assert "the float64 reference is" in tuned.candidates[0].measurement.note
    assert tuned.plan == tuned.candidates[1].plan


def test_a_kernel_whose_process_is_killed_does_not_count(here, monkeypatch):
    """As where the system runs out of memory: it is gone before the first check is answered."""
    from anatune.measure.nursery import Cell

    call, killed = Cell.call, []

    def deadly(cell, method, *arguments, timeout_s):
        if method == "check" and not killed:
            killed.append(cell._pid)
            os.kill(cell._pid, signal.SIGKILL)
        return call(cell, method, *arguments, timeout_s=timeout_s)

    monkeypatch.setattr(Cell, "call", deadly)
    tuned = at.tune(W, here, budget=2, threads=1)
    (failed,) = [c for c in tuned.candidates if c.measurement.timing is None]
    assert failed.measurement.outcome is Outcome.KILLED
    assert failed.measurement.note == "worker died: SIGKILL"
    assert tuned.plan != failed.plan


@pytest.mark.parametrize("budget", [0, 2])
def test_without_processes_nothing_is_held_against_candidates(here, monkeypatch, budget):
    """No plan is to blame for a machine on which none can be run, so none is written down."""

    def refuse(nursery):
        raise WorkerError("worker: cannot be forked: as arranged")

    monkeypatch.setattr(Nursery, "cell", refuse)
    with pytest.raises(WorkerError, match="^worker: cannot be forked: as arranged$"):
        at.tune(W, here, budget=budget, threads=1)
    assert list(Store().all()) == []


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (Outcome.WRONG_RESULT, VerificationError),
        (Outcome.COMPILE_ERROR, BuildError),
        (Outcome.ILLEGAL, IllegalPlan),
        (Outcome.RUN_ERROR, WorkerError),
        (Outcome.TIMEOUT, WorkerError),
        (Outcome.KILLED, WorkerError),
    ],
)
@pytest.mark.parametrize(("budget", "count"), [(0, FALL_BACK), (2, 2)])
def test_no_plan_that_works_is_an_error(here, monkeypatch, outcome, error, budget, count):
    failure = Measurement(outcome, note="as arranged")
    monkeypatch.setattr(LocalRunner, "prepare", lambda runner, asked: [(e, failure) for e in asked])
    with pytest.raises(error) as caught:
        at.tune(W, here, budget=budget, threads=1)
    want = f"none of {count} plans gave a working kernel; the first: as arranged"
    assert str(caught.value) == want


def test_another_machines_kernel_is_compiled_and_says_so(away, tmp_path):
    tuned = at.tune(at.matmul(M, N, K), away, threads=1)
    (only,) = tuned.candidates
    assert only.measurement == Measurement(
        Outcome.SKIPPED, note="for another machine: compiled, not run"
    )
    assert tuned.measured is None and tuned.source("asm")
    mcpu = load_profile(away).target.mcpu
    with pytest.raises(OperandError) as caught:
        tuned(*operands().values())
    assert (
        str(caught.value)
        == f"target = {mcpu!r}: this machine cannot run its code; export the kernel"
    )


def test_another_machines_kernel_is_not_linked_with_this_ones_compiler(away, tmp_path):
    tuned = at.tune(at.matmul(M, N, K), away, threads=1)
    try:
        file = tuned.export(tmp_path / "kernel.so")
    except BuildError as error:
        assert "\n" not in str(error)
        assert list(tmp_path.iterdir()) == []
    else:
        with pytest.raises(BuildError, match="not a library of this machine"):
            at.load(file)
