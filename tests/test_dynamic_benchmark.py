"""The arithmetic of the benchmark of families, and one row of it from end to end."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anatune.errors import OptionError
from anatune.hwprofile import load_profile
from anatune.model.dynamic import plan_family
from anatune.plan import DynamicPlan, Interval, Region
from anatune.workload import matmul

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import dynamic_targets  # noqa: E402
from dynamic_contest import worth_running  # noqa: E402
from dynamic_rows import (  # noqa: E402
    FAMILY,
    STATIC,
    TVM_DYNAMIC,
    Case,
    Line,
    Log,
    Point,
    Row,
    Step,
    chosen,
    read_lines,
)
from dynamic_values import CUT, TILE, geometric, heat_values, neighbours, spread  # noqa: E402

LINE = Line("layer", "m", 1, 512, "m", "768", "768")


@cache
def one_plan(line: Line) -> DynamicPlan:
    return plan_family(load_profile("zen4"), line.family, 1)


def planned(line: Line, *firsts: int) -> DynamicPlan:
    """A plan that is cut before these values."""
    one = one_plan(line)
    ends = [*(first - 1 for first in firsts), line.high]
    regions = tuple(
        Region(intervals=(Interval(dim=line.dim, low=low, high=high),), variant=1)
        for low, high in zip((line.low, *firsts), ends)
    )
    return DynamicPlan(workload=one.workload, variants=one.variants[-1:], regions=regions)


def step(before: float, after: float, flops: tuple[int, int] = (100, 150)) -> Step:
    return Step(8, TILE, flops, ((before, before, 9 * before), (after, after, 9 * after)))


def row(family: float = 1.0, static: float = 1.0, library: float = 1.2, **more: object) -> Row:
    samples = {FAMILY: (family,) * 3, STATIC: (static,) * 3, "numpy (x), told y": (library,) * 3}
    points = [Point(value, 10**6 * value, "plan", samples) for value in (1, 512)]
    about = {
        "build_s": 1.0, "code_bytes": 1000, "cuts": [(1, 1)], "plans": ["a plan"],
        "points": points, "steps": [step(1.0, 1.2)],
    }  # fmt: skip
    return Row(Case(LINE, 1), "run", "4", **about | more)


def met(*rows: Row) -> list[bool | None]:
    return [verdict.met for verdict in dynamic_targets.verdicts(rows)]


def test_the_list_is_families_with_the_ranges_it_names():
    lines = read_lines()
    assert len({line.name for line in lines}) == len(lines) == 10
    by_name = {line.name: line for line in lines}
    assert by_name["resnet_batch"].member(3) == matmul(147, 512, 4608)
    assert by_name["attention_scores"].member(7) == matmul(7, 7, 64, batch=12)
    assert [dim.high for dim in by_name["lin_lu_3"].family.dims] == [1024]
    assert set(dynamic_targets.PUBLISHED_SHARES) < set(by_name)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,dim,low,high,m,n\n", "columns"),
        ("name,dim,low,high,m,n,k,note\na,m,1,8,m,2,x,\n", "list.csv:2"),
        ("name,dim,low,high,m,n,k,note\na,m,8,1,m,2,3,\n", "list.csv:2"),
        ("name,dim,low,high,m,n,k,note\na,m,1,8,1,2,3,\n", "no extent has m"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused_with_its_place(tmp_path, text, said):
    path = tmp_path / "list.csv"
    path.write_text(text)
    with pytest.raises(OptionError, match=said):
        read_lines(path)


def test_rows_are_chosen_by_name():
    lines = read_lines()
    assert [line.name for line in chosen(lines, "bert_ff2,bert_ff1")] == ["bert_ff2", "bert_ff1"]
    assert chosen(lines, None) == lines
    with pytest.raises(OptionError, match="'bert'"):
        chosen(lines, "bert")


@given(st.integers(1, 50), st.integers(0, 3000), st.integers(2, 20))
def test_values_in_equal_ratios_keep_the_ends_and_the_range(low, more, count):
    found = geometric(low, low + more, count)
    assert (found[0], found[-1]) == (low, low + more)
    assert found == sorted(set(found)) and len(found) <= count


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 100), st.lists(st.integers(2, 512), max_size=3, unique=True))
def test_values_are_as_many_as_asked_for_and_hold_both_sides_of_every_cut(count, firsts):
    plan = planned(LINE, *sorted(firsts))
    found = spread(LINE, plan, count)
    assert len(found) >= count and found == sorted(set(found))
    sides = {first + side for first in firsts for side in (-1, 0)}
    assert {1, 512, *heat_values(LINE)} | sides <= set(found) <= set(range(1, 513))


def test_a_short_range_is_looked_at_whole():
    line = Line("batch", "b", 1, 32, "49*b", "512", "64")
    assert spread(line, planned(line), 64) == list(range(1, 33))


def test_steps_are_taken_at_cuts_and_after_whole_tiles():
    plan = planned(LINE, 100)
    found = neighbours(LINE, plan)
    (rows,) = [cover for cover in plan.first.covers if cover.dim == "m"]
    assert found[99] == CUT and found[rows.tile] == found[2 * rows.tile] == TILE
    assert all(1 <= value < 512 for value in found)


@pytest.mark.parametrize(
    ("before", "after", "excess"),
    [
        (1.0, 1.0, 0.0),  # memory, or a tile that was not full
        (1.0, 1.5, 0.0),  # in proportion to the operations
        (1.0, 1.8, 0.2),
        (1.0, 0.8, 0.25),  # less time for more work: the value before was slow
    ],
)
def test_a_cliff_is_what_the_work_does_not_explain(before, after, excess):
    assert step(before, after).excess == pytest.approx(excess)


def test_settings_that_are_worth_running():
    libraries = {"a1": "a", "a2": "a", "a3": "a", "b": "b", "c": "c"}
    heats = [
        {"a1": 1.0, "a2": 1.01, "a3": 2.0, "b": 1.3, "c": 5.0},
        {"a1": 1.0, "a2": 0.99, "a3": 0.5, "b": 0.6, "c": 5.0},
    ]
    # a2 is like a1; a3 is twice as fast at one value; b is near the best at one; c never is.
    assert worth_running(heats, libraries) in ({"a3", "a1", "b"}, {"a3", "a2", "b"})
    assert worth_running([{}, {"b": 1.0}], libraries) == {"b"}
    assert worth_running([{}, {}], libraries) == set()


def test_all_targets_are_met_and_each_can_be_missed():
    assert met(row()) == [True] * 6
    assert met(row(static=0.9))[:3] == [False, True, True]
    assert met(row(static=0.8))[:3] == [False, False, True]
    assert met(row(library=1.05))[2] is False
    assert met(row(steps=[step(1.0, 1.7)]))[3] is False
    assert met(row(build_s=4.0), row(code_bytes=2 << 20))[4:] == [False, False]
    assert met(row(note="failed", points=[], steps=[])) == [False] * 4 + [True, True]


def test_a_library_that_is_not_there_or_waits_for_python_judges_nothing():
    samples = {FAMILY: (1.0,), STATIC: (1.0,)}
    assert met(row(points=[Point(1, 10**6, "plan", samples)]))[2] is None
    tiny = Point(1, 100, "plan", {**samples, "numpy": (0.5,)})
    assert met(row(points=[tiny]))[2] is None


def test_the_published_products_are_held_against_the_best_library_at_their_own_size():
    line = next(line for line in read_lines() if line.name == "lin_lu_1")
    samples = {FAMILY: (1.0,), STATIC: (1.0,), "mkl, x": (0.98,), TVM_DYNAMIC: (40.0,)}
    own = row(points=[Point(768, 10**6, "plan", samples)])
    own.case = Case(line, 1)
    verdict = next(v for v in dynamic_targets.verdicts([own]) if "lin_lu_1 m=768, of" in v.target)
    assert verdict.met and "40.0 times TVM's" in verdict.found and "0.64" in verdict.found
    assert own.points[0].best_library() == "mkl, x"  # TVM's own loops are no library


def test_a_run_is_resumed_and_drawn(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    path = tmp_path / "rows.jsonl"
    log = Log(path, resume=False)
    done, failed = row(), row(note="no kernel")
    failed.case = Case(LINE, 2)
    log.add_run("run", facts={})
    log.add_row(done)
    log.add_row(failed)
    again = Log(path, resume=True)
    assert again.rows == log.rows and again.rows[done.case] == done
    assert again.missing([done.case, failed.case]) == [failed.case]
    with pytest.raises(OptionError, match="--resume"):
        Log(path, resume=False)
    dynamic_targets.show([done, failed])
    assert "no kernel" in capsys.readouterr().out
    assert dynamic_targets.curves(done)["numpy (x)"][0] == (1, pytest.approx(10**6 / 1.2 / 1e9))
    dynamic_targets.draw(done, tmp_path)
    assert (tmp_path / "layer_threads1.png").stat().st_size > 1000


def test_a_row_from_end_to_end(tmp_path):
    pytest.importorskip("tvm")
    (tmp_path / "list.csv").write_text("name,dim,low,high,m,n,k,note\nsmall,m,40,42,m,64,32,\n")
    options = (
        "--list list.csv --threads 1 --points 2 --rounds 1 --budget 0 --libraries numpy "
        "--json rows.jsonl"
    )
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "dynamic.py"), *options.split()],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (found,) = Log(tmp_path / "rows.jsonl", resume=True).rows.values()
    assert found.note == "" and found.steps and found.build_s
    assert all(point.ratio(STATIC) and point.ratio(point.best_library()) for point in found.points)
