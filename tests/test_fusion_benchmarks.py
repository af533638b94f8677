"""The arithmetic of the benchmarks of fusion, and that each of them runs from end to end."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("tvm")

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import chain_groups  # noqa: E402
import chains  # noqa: E402
import encoder  # noqa: E402
import encoder_layer  # noqa: E402
import fusion  # noqa: E402
import fusion_compile  # noqa: E402
import fusion_groups  # noqa: E402
import fusion_targets  # noqa: E402
import joint_search  # noqa: E402
from fusion_rows import UNFUSED, Case, Log, Row, chosen  # noqa: E402
from fusion_turns import take_turns  # noqa: E402
from fusion_ways import PLANNED  # noqa: E402

import anatune as at  # noqa: E402
from anatune.errors import OptionError  # noqa: E402
from anatune.hwprofile.detect import detect_host  # noqa: E402
from anatune.measure.group_bench import drawn_inputs  # noqa: E402
from anatune.measure.group_reference import check_group  # noqa: E402
from anatune.measure.host import llvm_facts  # noqa: E402
from anatune.workload.group import Group  # noqa: E402


@pytest.fixture(autouse=True)
def unprobed(monkeypatch):
    """This machine without its rates, which take longer to measure than all else here."""
    profile = detect_host(llvm_facts())
    monkeypatch.setattr(at, "load_profile", lambda name: profile, raising=False)


TINY = {"tiny": lambda: at.chain([at.elementwise("x + y", (8, 16)), at.softmax(8, 16)])}


def row(name="a", pick=PLANNED, kind="chains", threads=2, note="", predicted=(), **times) -> Row:
    """``ours`` stands for `PLANNED`."""
    said = dict(zip((PLANNED, UNFUSED), predicted))
    names = {"ours": PLANNED, "side": "side by side"}
    samples = {names.get(way, way): [2.0 * s, s, 3.0 * s] for way, s in times.items()}
    return Row(Case(kind, name, threads), "now", pick, predicted_s=said, samples_s=samples,
               note=note)


def test_the_fastest_turn_counts():
    one = row(ours=2.0, unfused=3.0, side=1.0, predicted=(4.0, 5.0))
    assert one.seconds == {PLANNED: 2.0, "unfused": 3.0, "side by side": 1.0}
    assert (one.gain, one.predicted_gain) == (1.5, 1.25)
    assert (one.fastest, one.behind, one.off(PLANNED)) == ("side by side", 2.0, 2.0)
    assert one.applied and not row(pick=UNFUSED, unfused=1.0).applied
    failed = row(note="WorkerError: it died")
    assert (failed.gain, failed.behind, failed.fastest) == (None, None, None)
    assert failed.time(PLANNED) == "-"


def test_rows_are_read_back_and_failed_ones_are_measured_again(tmp_path):
    path = tmp_path / "rows.jsonl"
    log = Log("chains.py", path, False)
    log.add_run("now", facts={})
    rows = [row("a", ours=1.0, unfused=2.0), row("b", note="BuildError: no")]
    for one in rows:
        log.add_row(one)
    again = Log("chains.py", path, True)
    assert list(again.rows.values()) == rows
    assert again.missing([one.case for one in rows]) == [rows[1].case]
    with pytest.raises(OptionError, match="exists"):
        Log("chains.py", path, False)
    with pytest.raises(OptionError, match="resume"):
        Log("chains.py", None, True)


def test_rows_are_chosen_by_kind_or_name():
    cases = [Case("x", "a", 1), Case("x", "b", 1), Case("y", "c", 2)]
    assert chosen(cases, None) == cases
    assert chosen(cases, "x") == cases[:2]
    assert chosen(cases, "b;y") == cases[1:]
    with pytest.raises(OptionError, match="a; b; c; x; y"):
        chosen(cases, "z")


def words(verdicts):
    return [verdict.word for verdict in verdicts]


def test_fusion_is_judged_by_each_m_and_by_the_share_of_right_picks():
    experiments = [
        row("M=1", "fused", "balanced", fused=1.0, unfused=0.995),
        row("M=1", "fused", "unbalanced", fused=1.0, unfused=0.995),
    ]
    assert words(fusion_targets.verdicts(experiments)) == ["pass", "SHORT"]
    close = [row("M=1", "fused", "unbalanced", fused=1.0, unfused=0.995, again=0.99)]
    assert words(fusion_targets.verdicts(close)) == ["pass"]
    right = [row(str(n), "fused", "networks", fused=1.0, unfused=1.2) for n in range(9)]
    wrong = row("w", UNFUSED, "networks", fused=1.0, unfused=1.1)
    assert words(fusion_targets.verdicts([*right, wrong])) == ["pass", "pass"]
    assert words(fusion_targets.verdicts([*right[:3], wrong])) == ["pass", "SHORT"]
    failed = row("f", kind="networks", note="BuildError: no")
    assert words(fusion_targets.verdicts([*right, failed, failed])) == ["SHORT", "SHORT"]


def test_curves_have_the_published_figures_beside_ours():
    rows = [row(f"M={m}", "fused", "unbalanced", fused=1.0, unfused=m) for m in (2, 1)]
    found = fusion_targets.curves(rows, "unbalanced")
    assert found["threads=2"] == [(1, 1.0), (2, 2.0)]
    assert found["published"][:3] == [(1, 1.0), (2, 0.45), (4, 0.47)]
    assert list(fusion_targets.curves(rows, "balanced")) == ["published"]
    assert all(len(theirs) == 10 for theirs in fusion_groups.THEIRS.values())


def test_chains_are_held_to_what_was_predicted():
    good = row("a", ours=1.0, unfused=1.3, predicted=(1.0, 1.25))
    small = row("b", ours=1.0, unfused=0.99, predicted=(1.0, 1.05))
    alone = row("c", UNFUSED, unfused=1.0)
    assert words(chains.verdicts([good, small, alone])) == ["pass", "pass", "pass"]
    boast = row("d", ours=1.0, unfused=1.1, predicted=(1.0, 1.3))
    assert words(chains.verdicts([good, boast])) == ["pass", "SHORT", "pass"]
    slower = row("e", ours=1.0, unfused=0.97, predicted=(1.0, 1.05))
    assert words(chains.verdicts([good, slower])) == ["pass", "pass", "SHORT"]
    failed = row("f", note="VerificationError: y[0] = 1")
    assert words(chains.verdicts([good, failed])) == ["pass", "SHORT", "SHORT"]


def test_there_are_twenty_groups_of_pairs_and_triples():
    groups = fusion_groups.networks()
    assert len(groups) == 20
    members = [len(g.steps if isinstance(g, Group) else g.members) for g in groups.values()]
    assert set(members) == {2, 3}
    one_input = [group for group in groups.values() if isinstance(group, Group)]
    assert len(one_input) == 8
    assert all(step.source("a") == "a" for group in one_input for step in group.steps)


def test_every_chain_is_a_group_and_an_attention_is_what_it_says():
    made = [make() for group in chain_groups.CHAINS.values() for make in group.values()]
    assert all(len(group.outputs) == 1 for group in made)
    group = chain_groups.attention(5, heads=2, head=4)
    given = drawn_inputs(group)
    q, k, v = (given[name].astype("f8") for name in ("s_a", "s_b", "y_b"))
    power = np.exp(np.einsum("hik,hjk->hij", q, k) / 2.0)
    right = np.einsum("hij,hjd->hid", power / power.sum(-1, keepdims=True), v)
    check_group(group, given, {"y": right.astype("f4")})


def test_a_layer_norm_in_steps_is_one():
    group = chain_groups.layer_norm(3, 17)
    given = drawn_inputs(group)
    x, gain, shift = given.values()
    x = x.astype("f8")
    off = x - x.mean(-1, keepdims=True)
    right = off / np.sqrt((off**2).mean(-1, keepdims=True) + chain_groups.EPSILON)
    check_group(group, given, {"y": (right * gain + shift).astype("f4")})


@pytest.mark.parametrize(("module", "library"), [("torch", encoder.Torch), ("onnx", encoder.Onnx)])
def test_libraries_compute_the_layer(module, library):
    pytest.importorskip(module)
    group = encoder.encoder(3)
    assert (len(group.steps), group.outputs) == (26, ("y",))
    served = library(3, 1)
    check_group(group, drawn_inputs(group), {"y": served.result()})
    assert served.sample(2) > 0


def test_take_turns_goes_forth_and_back():
    order = []

    def turn(name):
        return lambda calls: order.append(name) or 1.0

    samples = take_turns({name: turn(name) for name in "ab"}, 2)
    first, calibrated = "ab", "ab"
    assert order == list(first + calibrated + "ba" + "ab")
    assert samples == {"a": [1.0, 1.0], "b": [1.0, 1.0]}


def test_plans_to_measure_are_the_best_and_others_at_random():
    found = {plan: float(plan) for plan in range(100)}
    assert joint_search.drawn(found, [7], 1000) == [7, *(p for p in range(100) if p != 7)]
    some = joint_search.drawn(found, [70, 3], 12)
    assert some[:7] == [70, 3, 0, 1, 2, 4, 5]
    assert len(set(some)) == 12 and some == joint_search.drawn(found, [70, 3], 12)


def run(main, *arguments: str) -> str:
    done = CliRunner().invoke(main, list(arguments))
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


@pytest.fixture
def tiny(monkeypatch):
    """One chain that is planned and computed in no time."""
    for module in (chain_groups, chains, joint_search, fusion_compile):
        monkeypatch.setattr(module, "CHAINS", {chains.MAPS: TINY})


def test_fusion_runs_and_draws(tmp_path):
    pytest.importorskip("matplotlib")
    arguments = ("--rows", "M=1", "--rounds", "1", "--threads", "1")
    said = run(fusion.main, *arguments, "--plot", str(tmp_path / "plot.png"))
    assert "unbalanced, threads=1" in said and "fused over unfused" in said
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_chains_run(tiny):
    said = run(chains.main, "--rounds", "1", "--threads", "1")
    assert "tiny" in said and "where applied" in said


def test_a_joint_search_runs(tiny, tmp_path):
    path = tmp_path / "rows.jsonl"
    arguments = ("--rows", "tiny", "--rounds", "1", "--threads", "1", "--limit", "4")
    said = run(joint_search.main, *arguments, "--json", str(path))
    assert "4 of 4" in said
    assert "tiny" in run(joint_search.main, *arguments, "--json", str(path), "--resume")


def test_an_encoder_layer_runs_beside_libraries(monkeypatch):
    monkeypatch.setattr(encoder_layer, "encoder", lambda tokens: TINY["tiny"]())
    monkeypatch.setattr(encoder_layer, "LIBRARIES", {})
    said = run(encoder_layer.main, "--tokens", "8", "--rounds", "1", "--threads", "1")
    assert "8 tokens" in said and "fused over unfused" in said


def test_compile_times_are_those_of_deciding_lowering_and_compiling(monkeypatch):
    monkeypatch.setattr(fusion_compile, "workloads", lambda: {"tiny": TINY["tiny"]()})
    served = fusion_compile.Timer("tiny", 1)
    for together in (False, True):
        times = served.times(together)
        assert set(times) == set(fusion_compile.PARTS) and min(times.values()) >= 0
    known = {False: 1.0, True: 3.0}
    monkeypatch.setattr(fusion_compile, "timed", lambda name, threads, together, processes: (
        dict.fromkeys(fusion_compile.PARTS, known[together])))
    found = fusion_compile.compared("tiny", 1, 1)
    assert (found["added_s"], found["added_per_step_s"], found["share"]) == (6.0, 3.0, 6 / 9)


def test_every_named_row_exists():
    every = fusion_compile.workloads()
    assert set(fusion_compile.COMPARED) <= set(every)
    chained = {name for group in chain_groups.CHAINS.values() for name in group}
    assert set(joint_search.SEARCHED) <= chained
