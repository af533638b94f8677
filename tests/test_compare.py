"""The contest with other libraries: turns, what a failing runner costs, settings before loading."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from anatune.errors import WorkerError
from anatune.measure.worker import Worker
from anatune.plan import CacheBlocks, CodeTarget, GemmPlan, MicroTile
from anatune.report import competitors
from anatune.report.compare import Comparison, Row
from anatune.report.turns import Entrant, fastest, take_turns
from anatune.workload import matmul

ROOT = Path(__file__).resolve().parents[1]
BATCH_S = 0.02


def plan() -> GemmPlan:
    w = matmul(8, 16, 8)
    return GemmPlan(
        workload=w,
        target=CodeTarget(isa="x86_64", mcpu="x86-64-v3"),
        tile=MicroTile(mr=4, nr=16, lanes=8),
        blocks=CacheBlocks(mc=8, nc=16, kc=8),
    )


def turns(log: list[str], name: str, seconds: float):
    def turn(calls: int) -> float:
        log.append(name)
        return seconds

    return Entrant(name, "", turn)


def test_turns_alternate_and_batches_are_long_enough():
    log: list[str] = []
    pauses: list[float] = []
    runners = [turns(log, "a", 0.001), turns(log, "b", 1.0)]
    take_turns(runners, 3, BATCH_S, rest=pauses.append)
    assert "".join(log) == "aabb" + "ba" + "ab"  # the first turn has a call that fixes the batch
    assert [r.calls for r in runners] == [round(BATCH_S / 0.001), 1]
    assert [len(r.samples) for r in runners] == [3, 3]
    assert len(pauses) == 6


def test_a_runner_that_fails_is_out_and_says_why():
    def turn(calls: int) -> float:
        raise WorkerError("worker died: exit status -4")

    log: list[str] = []
    bad, good = Entrant("bad", "told X", turn), turns(log, "good", 0.5)
    take_turns([bad, good], 2, BATCH_S, rest=lambda seconds: None)
    assert Row.of(bad) == Row("bad", "told X", note="worker died: exit status -4")
    assert Row.of(good) == Row("good", "", 0.5, 0.0)
    assert fastest([bad, good, turns(log, "idle", 0.1)]) is good and fastest([bad]) is None


def test_ratio_is_against_the_fastest_other():
    rows = (
        Row("anatune", "tuned", 2.0),
        Row("numpy", "as installed", 4.0),
        Row("numpy", "told", 3.0),
    )
    assert Comparison(plan(), rows).ratio == 1.5
    assert Comparison(plan(), rows[:1]).ratio is None
    assert Comparison(plan(), (Row("anatune", "tuned", note="died"), *rows[1:])).ratio is None


@pytest.mark.parametrize("core_type", [None, "Haswell"])
def test_numpy_runs_in_its_own_process_and_is_checked(core_type):
    served = "anatune.report.competitors:NumpyMatmul"
    with Worker(served, (matmul(7, 9, 5), 1, core_type), threads=1) as worker:
        assert worker.call("check", timeout_s=60) == ""
        assert worker.call("library", timeout_s=60)
        assert worker.call("sample", 3, timeout_s=60) > 0


def test_idle_is_waited_for_and_not_for_ever(monkeypatch):
    used = iter([0.0, 0.01, 0.01, 0.0102])  # busy in the first step, asleep in the second
    slept: list[float] = []
    monkeypatch.setattr(competitors.time, "process_time", lambda: next(used))
    monkeypatch.setattr(competitors.time, "sleep", slept.append)
    competitors.wait_until_idle()
    assert slept == [competitors.IDLE_STEP_S] * 2
    busy = iter(range(1000))
    monkeypatch.setattr(competitors.time, "process_time", lambda: next(busy))
    monkeypatch.setattr(
        competitors.time, "perf_counter", lambda: slept.append(0.0) or 0.1 * len(slept)
    )
    competitors.wait_until_idle()
    assert len(slept) < 40


def test_settings_are_written_before_numpy_is_loaded(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import anatune.report.competitors, os\n"
        "assert 'numpy' not in sys.modules\n"
        "from anatune.workload import matmul\n"
        "assert 'numpy' not in sys.modules\n"
        "anatune.report.competitors.NumpyMatmul(matmul(2, 2, 2), 1, 'Haswell')\n"
        "print(os.environ['OPENBLAS_CORETYPE'], os.environ['OPENBLAS_NUM_THREADS'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.stdout.split(), done.stderr) == (["Haswell", "1"], "")
