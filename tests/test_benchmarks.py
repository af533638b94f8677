"""The benchmarks' own arithmetic, and that each of them starts."""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anatune.errors import OptionError

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import accuracy  # noqa: E402
import call_cost  # noqa: E402
import common  # noqa: E402
import gemm  # noqa: E402
import gemm_targets  # noqa: E402
import targets  # noqa: E402
from gemm_rows import OURS, Case, Kept, Log, Row, Runner, cases  # noqa: E402

NUMBERS = st.lists(st.integers(-5, 5), min_size=2, max_size=12)


def write(folder: Path, text: str) -> Path:
    path = folder / "list.csv"
    path.write_text(text)
    return path


def test_the_list_is_read_and_its_names_are_unique():
    products = common.read_products()
    names = [p.name for p in products]
    assert len(set(names)) == len(names) > 50
    assert products[0] == common.Product("square256", 256, 256, 256, 1)
    assert sum(p.count for p in products if p.name.startswith("resnet50_")) == 54


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,m,n,k\na,1,2,3\n", "columns"),
        ("name,m,n,k,count\na,1,x,3,1\n", "list.csv:2"),
        ("name,m,n,k,count\na,1,2,3,1\nb,1,2\n", "list.csv:3"),
        ("name,m,n,k,count\na,1,0,3,1\n", "1 or more"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused_with_its_place(tmp_path, text, said):
    with pytest.raises(OptionError, match=said):
        common.read_products(write(tmp_path, text))


def test_geomean():
    assert common.geomean([2.0, 8.0]) == pytest.approx(4.0)
    assert common.geomean(iter([0.5])) == pytest.approx(0.5)
    assert math.isnan(common.geomean([]))


@pytest.mark.parametrize(
    ("x", "y", "tau"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 40], 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        ([1, 2, 3], [1, 3, 2], 1 / 3),
        ([12, 2, 1, 12, 2], [1, 4, 7, 1, 0], -4 / math.sqrt(8 * 9)),  # 2 agree, 6 differ
        ([1, 1, 2, 3], [1, 2, 3, 3], 4 / 5),
    ],
)
def test_kendall_tau_b_by_hand(x, y, tau):
    assert common.kendall_tau(x, y) == pytest.approx(tau)


@given(NUMBERS)
def test_kendall_tau_of_an_order_with_itself_and_its_reverse(x):
    tau = common.kendall_tau(x, x)
    if len(set(x)) == 1:
        assert math.isnan(tau)
    else:
        assert tau == pytest.approx(1.0)
        assert common.kendall_tau(x, [-value for value in x]) == pytest.approx(-1.0)


def test_thread_counts():
    assert common.thread_counts("1,2") == [1, 2]
    for wrong in ("", "0", "one", "1,"):
        with pytest.raises(OptionError, match="threads"):
            common.thread_counts(wrong)


def test_shapes():
    assert common.read_shape("196x1024x256").workload.flops == 2 * 196 * 1024 * 256
    assert str(common.read_shape("1x2x3")) == "1x2x3"
    for wrong in ("", "1x2", "1x2xk", "-1x2x3"):
        with pytest.raises(OptionError, match="shape"):
            common.read_shape(wrong)


def test_data_types():
    assert common.data_types("float32,int8") == ["float32", "uint8xint8", "int8xint8"]
    assert common.data_types("uint8xint8,int8") == ["uint8xint8", "int8xint8"]
    for wrong in ("", "float33", "float32,"):
        with pytest.raises(OptionError, match="dtype"):
            common.data_types(wrong)


@pytest.mark.parametrize("dtype", common.OPERANDS)
def test_every_data_type_is_a_workload(dtype):
    workload = common.Product("", 3, 4, 5).of(dtype, constant_b=True)
    assert (workload.flops, workload.constant_b) == (2 * 3 * 4 * 5, True)
    pair = workload.dtype if dtype in ("float32", "float64", "float16", "bfloat16", "int16") else (
        f"{workload.dtype}x{workload.dtype_b}"
    )  # fmt: skip
    assert pair == dtype


def row(name: str, seconds: float | None, told_s: float = 1.0, threads: int = 1) -> targets.Row:
    walls = {"tune_wall_s": 2.0, "model_only_wall_s": 0.5} if seconds else {}
    return targets.Row(
        name, threads, 100, seconds, seconds, installed_s=2.0, told_s=told_s, **walls
    )


def judged(rows: list[targets.Row]) -> dict[str, bool | None]:
    start = {"import anatune": 0.1, "load TVM": 9.0, "first tune, budget=0": 0.5}
    return {v.target: v.met for v in targets.verdicts(rows, {1: 100.0, 2: 200.0}, start)}


def test_all_targets_met_and_the_peak_only_where_it_was_measured():
    found = judged([row("a", 0.9), row("b", 1.0)])
    assert [what for what, met in found.items() if met is None] == [
        "square2000, threads=1, of the probed peak: at least 0.93",
        "square2000, threads=2 over threads=1: at least 1.9",
    ]
    assert {met for met in found.values() if met is not None} == {True}
    square = "square2000 2000x2000x2000"
    assert list(judged([row(square, 1.05), row(square, 0.6, threads=2)]).values())[:2] == [
        True,
        False,
    ]


def test_one_slow_row_misses_and_a_failed_row_misses_everything_it_should_have_shown():
    slow = judged([row("a", 0.5), row("b", 1.2)])
    assert slow["threads=1: speed over told OpenBLAS: geomean at least 1.0"] is True
    assert slow["threads=1: speed over told OpenBLAS: no row under 0.9"] is False
    failed = judged([row("a", 0.5), row("b", None)])
    assert [what for what, met in failed.items() if met is True] == [
        "import anatune, in a new process: within 0.3 s",
        "first tune, budget=0, in a new process: within 1.0 s",
    ]


def test_openblas_counts_at_its_best():
    assert row("a", 1.0, told_s=3.0).of_told == 2.0  # as installed it is faster


@pytest.mark.parametrize("name", ["first_slice", "model_accuracy", "gemm", "dynamic"])
def test_a_benchmark_tells_its_options(name, tmp_path):
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / f"{name}.py"), "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "--threads" in done.stdout and "--json" in done.stdout


def test_a_wrong_option_is_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "first_slice.py"), "--threads", "none"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "OptionError: threads = 'none': whole numbers above 0, such as 1,2"
    ]


SQUARE = common.Product("square2000", 2000, 2000, 2000)
TINY = common.Product("tiny", 32, 32, 32)
LAYER = common.Product("fc", 1, 1000, 2048)
PEAKS = common.Peaks({"float32": 100e9, "bfloat16": 200e9, "int8": 400e9}, 20e9)


def timed(name: str, seconds: float, **more: object) -> Runner:
    return Runner(name, f"{name} 1.0", "as installed", (2 * seconds, seconds, seconds), **more)


def measured(product=SQUARE, ours=1.0, dtype="float32", constant_b=False, threads=1, **others):
    """A row: our seconds, then those of each library by name."""
    runners = [timed(OURS, ours, tuning_s=2.0)] if ours else []
    runners += [timed(name, seconds) for name, seconds in others.items()]
    return Row(Case(product, dtype, constant_b, threads), "run", runners=runners)


def kept(*rows: Row) -> Kept:
    return Kept({row.case.key: row for row in rows}, {"run": [{1: PEAKS, 2: PEAKS}]})


def met(*rows: Row) -> dict[str, bool | None]:
    return {v.target: v.met for v in gemm_targets.verdicts(kept(*rows))}


def test_the_best_library_counts_with_its_median_and_nobody_elses():
    row = measured(ours=1.0, numpy=1.2, torch=1.1, tvm=30.0)
    row.runners.append(timed("numpy", 0.5, final=False))  # a heat's time, of a setting that lost
    row.runners.append(timed("metaschedule 64", 0.9))
    assert row.best().name == "torch" and row.ratio() == pytest.approx(1.1)
    assert row.best(("numpy", "tvm")).name == "numpy"
    assert row.best(("mkl",)) is None and row.ratio(("mkl",)) is None


def test_a_row_that_somebody_was_left_out_of_for_want_of_time_has_no_ratio():
    row = measured(ours=1.0, numpy=1.2)
    assert row.complete and row.ratio() == pytest.approx(1.2)
    row.unreached.append("torch")
    assert not row.complete and row.ratio() is None and row.seconds == 1.0
    assert not measured(ours=None, numpy=1.2).complete


def test_shares_of_peak_and_of_memory():
    flops, moved = SQUARE.workload.flops, 4 * (1 * 2048 + 2048 * 1000 + 1000)
    assert measured(ours=flops / 95e9).peak_share(PEAKS) == pytest.approx(0.95)
    assert measured(dtype="int8xint8", ours=flops / 100e9).peak_share(PEAKS) == pytest.approx(0.25)
    assert measured(dtype="float64").peak_share(PEAKS) is None
    assert measured().peak_share(None) is None
    assert measured(LAYER, ours=moved / 10e9).memory_share(PEAKS) == pytest.approx(0.5)


def test_targets_of_float32_are_other_ones_for_a_constant_b():
    slow, fast = SQUARE.workload.flops / 95e9, SQUARE.workload.flops / 97e9
    on = "float32, B at run time, threads=1: "
    found = met(measured(ours=fast, numpy=1.07 * fast), measured(LAYER, ours=1.0, numpy=1.07))
    assert found == {
        on + "large squares, of the probed peak: no row under 0.96": True,
        on + "speed over the best library: geomean at least 1.08": False,
        on + "speed over the best library: no row under 0.97": True,
    }
    found = met(
        measured(ours=slow, numpy=1.2 * slow, constant_b=True, threads=2),
        measured(LAYER, ours=1.0, numpy=0.975, constant_b=True, threads=2),
    )
    assert list(found.values()) == [True, True, False]  # 0.95 of two threads' peak will do
    assert all(what.startswith("float32, constant B, threads=2: ") for what in found)


def test_narrow_types_are_held_against_two_libraries_and_their_own_peak():
    ours = SQUARE.workload.flops / 190e9
    found = met(measured(ours=ours, dtype="bfloat16", torch=1.1 * ours, mkl=0.5 * ours))
    assert set(found.values()) == {True} and len(found) == 2
    found = met(measured(ours=ours, dtype="bfloat16", torch=1.1 * ours),
                measured(LAYER, ours=None, dtype="bfloat16", torch=1.0))  # fmt: skip
    assert list(found.values()) == [True, False]  # the failed row is a miss


def test_a_row_without_a_rival_is_no_miss():
    with_rival, without = measured(ours=1.0, numpy=1.2), measured(LAYER)
    assert gemm_targets.ratios([with_rival, without]) == {str(SQUARE): pytest.approx(1.2)}
    assert gemm_targets.ratios([measured(LAYER, ours=None)]) == {str(LAYER): None}


def test_a_product_that_a_python_call_outlasts_is_shown_and_not_judged():
    assert gemm_targets.ratios([measured(TINY, ours=1e-7, numpy=1e-6)]) == {}
    assert gemm_targets.COLUMNS["ours / its speed"](measured(TINY, numpy=9.0), kept()) == "9.000"


def test_other_types_are_held_against_the_peak_of_one_square_only():
    assert met(measured(TINY, dtype="float64")) == {}
    (only,) = met(measured(dtype="int16"))
    assert only.endswith("of the probed peak: no row under 0.85")


def test_the_search_must_be_half_as_fast_and_fifty_times_as_slow_to_tune():
    row = measured(threads=2)
    row.runners.append(timed("metaschedule 64", 2.5, tuning_s=99.0))
    about = "square2000 2000x2000x2000, threads=2: metaschedule 64: "
    found = {what: verdict for what, verdict in met(row).items() if what.startswith(about)}
    assert found == {
        about + "speed over its kernel's: at least 2": True,
        about + "its tuning time over ours: at least 50": False,
    }
    row.case = dataclasses.replace(row.case, threads=1)
    assert not [what for what in met(row) if "metaschedule" in what]


def test_calls_are_judged_by_what_they_add_to_the_kernel():
    found = {
        shape: {call_cost.CALL: call_s, call_cost.PREPARED: 0.5e-6, call_cost.LOOP: loop_s}
        for shape, call_s, loop_s in (("1x1x1", 2e-6, 0.02e-6), ("32x32x32", 3.2e-6, 0.3e-6))
    }
    assert [v.met for v in call_cost.verdicts(found)] == [True, False, True, True, True]
    row = measured(TINY, numpy=1.1)
    row.call_s = found["32x32x32"]
    judged = [v for v in gemm_targets.verdicts(kept(row)) if "beyond" in v.target]
    assert [v.met for v in judged] == [True, True]
    assert "300 ns" in gemm_targets.COLUMNS["note"](row, kept(row))


def test_summary_and_tables_of_rows_that_failed(capsys):
    failed = measured(LAYER, ours=None)
    failed.note = "BuildError: no register left"
    unrivalled = measured(LAYER)
    assert gemm_targets.summary([failed]) == "beside no library"
    tiny, large = measured(TINY, 1e-6, numpy=1.1e-6), measured(ours=1.0, numpy=1.21)
    other = measured(dataclasses.replace(SQUARE, name="other"), ours=1.0, numpy=1.1)
    assert gemm_targets.summary([tiny, large, other, unrivalled]) == (
        "1.154 times the best library's speed over 2 of 4 rows, tiny ones apart; "
        "lowest 1.100 (other 2000x2000x2000)"
    )
    gemm_targets.show(kept(failed, tiny, large))
    shown = capsys.readouterr().out
    assert "no register left" in shown and "1000 ns" in shown and "numpy 1.0" in shown
    assert gemm_targets.one_line(failed) == failed.note


def test_cases_and_where_the_search_runs():
    products = [common.Product("square1000", 1000, 1000, 1000), TINY]
    found = cases(products, ["float32", "int8xint8"], [False, True], [1, 2], [64])
    assert len(found) == len({case.key for case in found}) == 16
    assert {str(case) for case in found if case.trials} == {
        f"square1000 1000x1000x1000, float32, B at run time, threads={t}" for t in (1, 2)
    }
    planned = gemm.planned([*products, SQUARE], ["int16"], [False, True], [1], [], named=False)
    assert [str(case) for case in planned] == [
        "square2000 2000x2000x2000, int16, B at run time, threads=1"
    ]
    assert len(gemm.planned(products, ["int16"], [False, True], [1], [], named=True)) == 4


def test_rows_are_chosen_by_name_or_expression():
    products = common.read_products()
    assert [p.name for p in gemm.chosen(products, "prime,odd", None)] == ["odd", "prime"]
    assert {p.name for p in gemm.chosen(products, None, "^tiny")} == {"tiny", "tiny_odd"}
    for rows, only, said in (("od", None, "'od'"), (None, "(", "only"), (None, "zzz", "finds no")):
        with pytest.raises(OptionError, match=said):
            gemm.chosen(products, rows, only)


def test_a_run_is_resumed_where_it_was_stopped(tmp_path):
    path = tmp_path / "rows.jsonl"
    log = Log(path, resume=False)
    done, failed = measured(numpy=1.1), measured(TINY, ours=None)
    log.add_run("run", facts={"machine": "one"})
    log.add_peaks("run", {1: PEAKS})
    log.add_row(done)
    log.add_row(failed)
    with path.open("a") as file:
        file.write('{"kind": "row", "case": {"prod')  # killed while it wrote
    again = Log(path, resume=True)
    assert again.kept == log.kept and again.kept.rows[done.case] == done
    other = dataclasses.replace(done.case, threads=2)
    assert again.kept.missing([done.case, failed.case, other]) == [failed.case, other]
    searched = dataclasses.replace(done.case, trials=(64,))
    assert again.kept.missing([searched]) == [searched]
    again.add_row(measured(TINY, numpy=1.1))  # the line that was cut off is not in its way
    assert Log(path, resume=True).kept.missing([done.case, failed.case]) == []


def test_results_are_not_overwritten_and_other_files_are_not_taken_for_them(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"kind": "row"\n')
    with pytest.raises(OptionError, match="--resume"):
        Log(path, resume=False)
    for text in ('{"kind": "row"\n', "[1]\n", '{"kind": "plan"}\n'):
        path.write_text(text)
        with pytest.raises(OptionError, match=":1: "):
            Log(path, resume=True)
    assert Log(None, resume=False).kept == Kept()


def test_the_highest_peaks_of_a_row_s_own_run_count():
    log = Log(None, resume=False)
    log.add_peaks("run", {1: common.Peaks({"float32": 90e9, "int8": 5e9}, 10e9)})
    log.add_peaks("run", {1: common.Peaks({"float32": 80e9, "int8": 6e9}, 11e9)})
    log.add_peaks("other run", {1: common.Peaks({"float32": 99e9, "int8": 9e9}, None)})
    row = measured(ours=2.0)
    assert log.kept.peaks_of(row) == common.Peaks({"float32": 90e9, "int8": 6e9}, 11e9)
    assert log.kept.peaks_of(measured(threads=2)) is None


def test_sweeps_are_judged_together():
    def swept(error: float, pick: float | None, default: float | None) -> accuracy.Sweep:
        return accuracy.Sweep("a", 10, 20, error, 0.8, pick, default)

    good = [swept(0.05, 0.965, 1.0), dataclasses.replace(swept(0.2, 0.99, 0.99), title="b")]
    found = accuracy.summary([*good, dataclasses.replace(good[0], title="c")])
    assert [v.met for v in found] == [True, True, True, True]
    assert "the sample's best" in found[2].target
    found = accuracy.summary([swept(0.1, 0.98, None)])
    assert [v.met for v in found] == [False, True, True, False]
