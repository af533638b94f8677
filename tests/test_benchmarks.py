"""The benchmarks' own arithmetic, and that each of them starts."""

from __future__ import annotations

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

import common  # noqa: E402
import targets  # noqa: E402

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


@pytest.mark.parametrize("name", ["first_slice", "model_accuracy"])
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
