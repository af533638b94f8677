"""The contest with other libraries: turns, heats, what a failing runner costs, what is told."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import replace

import pytest
from click.testing import CliRunner

from anatune.errors import OptionError, WorkerError
from anatune.hwprofile import load_profile
from anatune.plan import CacheBlocks, CodeTarget, GemmPlan, MicroTile
from anatune.report import compare as contest
from anatune.report.compare import Comparison, LeftOut, Row, compare, heat, probed_peak, start
from anatune.report.competitors.base import About
from anatune.report.competitors.entries import Choice, Request
from anatune.report.turns import Entrant, fastest, take_turns
from anatune.workload import matmul

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


# Turns


def test_turns_alternate_and_batches_are_long_enough():
    log: list[str] = []
    pauses: list[float] = []
    runners = [turns(log, "a", 0.001), turns(log, "b", 1.0)]
    take_turns(runners, 3, BATCH_S, rest=pauses.append)
    # The first turn of a has a call that fixes the batch; one call of b is a batch.
    assert "".join(log) == "aab" + "ba" + "ab"
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


def test_who_is_hopeless_takes_few_turns():
    log: list[str] = []
    runners = [turns(log, "a", 0.04), turns(log, "b", 0.4), turns(log, "c", 0.41)]
    runners.append(turns(log, "d", 4.0))
    take_turns(runners, 4, BATCH_S, rest=lambda seconds: None, patience=10.0)
    assert [len(r.samples) for r in runners] == [4, 4, 2, 1]  # one long turn is enough to tell
    assert "".join(log) == "abcd" + "cba" + "ab" + "ba"


def test_one_disturbed_turn_does_not_put_anybody_out():
    seconds = iter([0.4, *[0.04] * 9])
    disturbed = Entrant("b", "", lambda calls: next(seconds))
    runners = [turns([], "a", 0.03), disturbed]
    take_turns(runners, 4, BATCH_S, rest=lambda seconds: None, patience=10.0)
    assert disturbed.samples == [0.4, 0.04, 0.04, 0.04]


# Heats and the final, with workers replaced


class FakeWorker:
    """Serves `served[setting]`: seconds per call, a complaint about the result, or an error."""

    def __init__(self, factory, arguments, threads):
        self.alive = True
        self.seconds = FakeWorker.served[dict(arguments[2])["setting"]]
        FakeWorker.made.append(self)

    def __enter__(self):
        return self

    def __exit__(self, *reason):
        self.kill()

    def kill(self):
        self.alive = False

    def call(self, method, *arguments, timeout_s):
        if isinstance(self.seconds, Exception):
            raise self.seconds
        wrong = self.seconds if isinstance(self.seconds, str) else ""
        about = About("Lib 1", "slow", 7.0)
        return {"check": wrong, "about": about, "sample": self.seconds}[method]


@pytest.fixture
def serve(monkeypatch):
    monkeypatch.setattr(contest, "Worker", FakeWorker)
    monkeypatch.setattr("anatune.report.turns.SETTLE_S", 0.0)

    def served(**seconds):
        FakeWorker.served, FakeWorker.made = seconds, []
        return [choice(setting) for setting in seconds]

    return served


def choice(setting: str) -> Choice:
    environment = (("setting", setting),)
    return Choice(
        library="lib", setting=setting, factory="module:Maker", workload=plan().workload,
        environment=environment,
    )  # fmt: skip


def request() -> Request:
    return Request(workload=plan().workload, target=plan().target, threads=1)


def test_a_heat_keeps_the_best_setting_and_ends_the_others(serve):
    choices = serve(a=3.0, b=2.0, bad=WorkerError("worker died"), wrong="c[0, 0] = 1")
    with ExitStack() as stack:
        best, others = heat(turns([], "ours", 1.0), choices, request(), stack)
        assert (best.library, best.setting, best.tuning_s, best.note) == ("Lib 1", "b", 7.0, "slow")
        assert [o.note for o in others] == ["slow", "worker died", "c[0, 0] = 1"]
        assert [worker.alive for worker in FakeWorker.made] == [False, True, False, False]
    assert not any(worker.alive for worker in FakeWorker.made)


def test_another_type_of_c_is_told(serve):
    (asked,) = serve(a=1.0)
    other = replace(asked, workload=replace(asked.workload, out_dtype="float64"))
    with ExitStack() as stack:
        assert start(other, request(), stack).note == "C in float64; slow"


def test_the_final_has_the_best_of_each_and_the_hopeless_keep_their_time(serve, monkeypatch):
    choices = serve(a=3.0, b=2.0, bad=WorkerError("worker died"), slow=30.0)
    by_library = {"x": choices[:2], "y": choices[2:3], "z": choices[3:]}
    monkeypatch.setattr(contest, "find", lambda *given: (by_library, {"w": "not installed"}))
    monkeypatch.setattr(contest, "_start_ours", lambda *given: turns([], "anatune", 1.0))
    found = compare(plan(), rounds=2, tuning_s=5.0)
    assert [(r.setting, r.time_s, r.note) for r in found.rows] == [
        ("", 1.0, ""), ("b", 2.0, "slow"), ("slow", 30.0, "slow; timed in the heats only"),
    ]  # fmt: skip
    assert [r.tuning_s for r in found.rows] == [5.0, 7.0, 7.0]
    assert [r.setting for r in found.tried] == ["a"]
    assert found.left_out == (LeftOut("w", "not installed"), LeftOut("y", "worker died"))
    assert found.ratio == 2.0


def test_fewer_than_one_round_is_refused():
    with pytest.raises(OptionError, match=r"^rounds = 0: at least 1$"):
        compare(plan(), rounds=0)


# What is told


def test_ratios_are_against_each_and_the_fastest_other():
    rows = (
        Row("anatune", "tuned", 2.0),
        Row("numpy", "as installed", 4.0),
        Row("numpy", "told", 3.0),
        Row("mkl", "as installed", note="died"),
    )
    found = Comparison(plan(), rows)
    assert found.ratio == 1.5
    assert [found.ratio_to(row) for row in rows] == [1.0, 2.0, 1.5, None]
    assert Comparison(plan(), rows[:1]).ratio is None
    assert Comparison(plan(), (Row("anatune", "tuned", note="died"), *rows[1:])).ratio is None


def test_rates_are_held_against_the_probed_peak_of_as_many_threads():
    profile = replace(
        load_profile("zen5"), usable_threads=4, peak_flops=(("float32", 100.0),),
        peak_all_flops=(("float32", 400.0),),
    )  # fmt: skip
    peaks = [probed_peak(profile, replace(request(), threads=n)) for n in (1, 2, 4)]
    assert peaks == [100.0, None, 400.0]
    assert probed_peak(None, request()) is None
    other = replace(request(), workload=matmul(2, 2, 2, dtype="float64"))
    assert probed_peak(profile, other) is None
    flops = plan().workload.flops
    row = Row("anatune", "tuned", flops / 80.0)
    assert Comparison(plan(), (row,), peak_flops_per_s=100.0).peak_share(row) == 0.8
    assert Comparison(plan(), (row,)).peak_share(row) is None


def invoke(*words: str):
    from anatune import cli

    return CliRunner().invoke(cli.app, ["compare", *words], prog_name="anatune")


@pytest.mark.parametrize(
    ("option", "why"),
    [
        (("--libraries", "numpy,eigen"), "libraries = 'eigen': there are numpy, mkl, blis, torch"),
        (("--libraries", ""), "libraries = '': there are numpy"),
        (("--metaschedule", "64,many"), "metaschedule = '64,many': numbers of trials above 0"),
        (("--metaschedule", "0"), "metaschedule = '0': numbers of trials above 0"),
    ],
)
def test_options_are_refused_before_anything_is_tuned(option, why, monkeypatch):
    from anatune.tune import tune

    module = sys.modules[tune.__module__]
    monkeypatch.setattr(module, "tune", lambda *given, **options: pytest.fail("it tuned"))
    done = invoke("matmul", "8", "8", "8", *option)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"anatune: error: {why}")


def test_table_and_json_show_every_figure():
    from anatune.cli import comparisons

    flops = plan().workload.flops
    rows = (
        Row("anatune", "tuned", flops / 8e10, 1e-9, tuning_s=3.0),
        Row("PyTorch 2", "oneDNN linear", flops / 4e10, 1e-9, "C in float32"),
    )
    found = Comparison(plan(), rows, (), (LeftOut("mkl", "not installed"),), 1e11)
    fields = comparisons._fields(found)
    ours, other = fields["rows"]
    assert (ours["tuning_s"], ours["ratio"], ours["peak_share"]) == (3.0, 1.0, pytest.approx(0.8))
    assert other["ratio"] == pytest.approx(2.0) and other["flops_per_s"] == pytest.approx(4e10)
    assert fields["left_out"] == [{"library": "mkl", "why": "not installed"}]
    line = dict(zip(comparisons.COLUMNS, comparisons._line(found, rows[1])))
    assert line["of peak"] == "40.0 %" and line[comparisons.OURS_OVER] == "2.00"
    assert line["note"] == "C in float32" and line["tuning"] == "-"
    assert dict(zip(comparisons.COLUMNS, comparisons._line(found, rows[0])))["tuning"] != "-"
