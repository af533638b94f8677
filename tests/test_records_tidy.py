"""Merging, pruning, selecting and exporting: what goes, what stays whatever is asked for."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_samples import ELSEWHERE, FOREIGN, TORN, ZEN4, record, records, small_plan, verdict
from sample_plans import plan

from anatune.errors import CacheError, OptionError
from anatune.measure.outcome import Outcome
from anatune.records import Origin, Store
from anatune.records.line import Line
from anatune.records.select import Selection, moment, outcome_named
from anatune.records.tidy import Merged, as_csv, as_json, columns, merge, prune

OURS = [record(rank=rank).line() for rank in range(4)]
LINES = st.lists(st.sampled_from([*OURS, *FOREIGN, *TORN]), max_size=9)


def write(path: Path, lines) -> Path:
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


@given(LINES, LINES, LINES)
def test_a_merge_has_all_lines_once_and_loses_none(tmp_path_factory, here, one, two):
    folder = tmp_path_factory.mktemp("merge")
    into = write(folder / "into", here)
    sources = [write(folder / "one", one), write(folder / "two", two)]
    done = merge(sources, into)
    after = lines_of(into)
    assert after[: len(here)] == here
    added = after[len(here) :]
    whole = [line for line in (*one, *two) if line not in TORN]
    assert set(added) == set(whole) - set(here) and len(added) == len(set(added))
    assert done.added == len(added)
    assert sum((done.added, done.known, done.torn)) == len(one) + len(two)
    assert merge(sources, into).added == 0 and lines_of(into) == after
    assert [lines_of(source) for source in sources] == [one, two]


def test_a_merge_makes_what_is_not_there_and_takes_a_file_into_itself(tmp_path):
    source = write(tmp_path / "source", OURS)
    into = tmp_path / "new" / "into"
    assert merge([source, source], into) == Merged(4, 4, 0)
    assert merge([into], into) == Merged(0, 4, 0)
    assert lines_of(into) == OURS


def test_a_merge_ends_a_torn_line_first(tmp_path):
    into = tmp_path / "into"
    into.write_bytes(OURS[0] + b"\n" + OURS[1][:99])
    merge([write(tmp_path / "source", OURS[2:])], into)
    assert lines_of(into) == [OURS[0], OURS[1][:99], *OURS[2:]]


def test_a_merge_that_cannot_be_written_says_so(tmp_path):
    source = write(tmp_path / "source", OURS)
    with pytest.raises(CacheError, match="ANATUNE_DATABASE"):
        merge([source], source / "into")


@given(LINES, st.booleans(), st.booleans())
def test_pruning_takes_what_is_meant_and_nothing_else(tmp_path_factory, lines, torn, dry_run):
    path = write(tmp_path_factory.mktemp("prune") / "records", lines)
    gone = prune(path, Selection(profile="zen4"), torn=torn, dry_run=dry_run)
    meant = [line for line in lines if line in OURS or (torn and line in TORN)]
    assert [line.raw for line in gone] == meant
    assert lines_of(path) == [line for line in lines if dry_run or line not in meant]
    assert sorted(file.name for file in path.parent.iterdir()) == ["records", "records.lock"]


@pytest.mark.parametrize("torn", [True, False])
def test_a_selection_that_states_nothing_removes_no_record(tmp_path, torn):
    path = write(tmp_path / "records", [*OURS, *FOREIGN, *TORN])
    prune(path, Selection(), torn=torn)
    assert lines_of(path) == [*OURS, *FOREIGN, *([] if torn else TORN)]


def test_pruning_leaves_a_file_that_stays_alone(tmp_path):
    path = write(tmp_path / "records", [*OURS, *FOREIGN])
    path.chmod(0o640)
    inode = path.stat().st_ino
    assert prune(path, Selection(profile="zen5")) == [] and path.stat().st_ino == inode
    assert len(prune(path, Selection(profile="zen4"))) == 4
    assert path.stat().st_ino != inode and path.stat().st_mode & 0o777 == 0o640
    assert prune(tmp_path / "none", Selection(profile="zen4")) == []


def test_an_open_store_sees_what_was_pruned(tmp_path):
    store = Store(write(tmp_path / "records", OURS))
    workload = small_plan().workload
    assert len(store.find(workload, ZEN4.hash)) == 4
    prune(store.path, Selection(outcome=Outcome.OK))
    assert store.find(workload, ZEN4.hash) == []
    store.append([record(rank=9)])
    assert [one.rank for one in store.find(workload, ZEN4.hash)] == [9]


OLD = datetime(2026, 1, 2, tzinfo=timezone.utc)
PRODUCT = plan(784, 512, 128, 2, 8, 8, of={"epilogue": "bias+relu", "batch": 3})
ONE = record(PRODUCT, at=OLD.isoformat(), outcome=Outcome.TIMEOUT)


@pytest.mark.parametrize(
    ("stated", "taken"),
    [
        ({}, True),
        ({"words": ("matmul", "784", "512", "128")}, True),
        ({"words": ("784x512x128",)}, True),
        ({"words": ("matmul", "3", "times")}, True),
        ({"words": ("bias[n]", "float32")}, True),
        ({"words": ("float",)}, True),
        ({"words": ("matmul", "84", "512", "128")}, False),
        ({"words": ("84x512x128",)}, False),
        ({"words": ("784", "512", "12")}, False),
        ({"words": ("784", "512", "128", "int8")}, False),
        ({"profile": "zen4"}, True),
        ({"profile": ZEN4.hash[:9]}, True),
        ({"profile": "zen"}, False),
        ({"outcome": Outcome.TIMEOUT}, True),
        ({"outcome": Outcome.OK}, False),
        ({"since": OLD}, True),
        ({"before": OLD}, False),
        ({"before": OLD.replace(day=3)}, True),
        ({"since": OLD.replace(day=3)}, False),
        ({"host": Origin.here().host[:6]}, True),
        ({"host": "no such machine"}, False),
        ({"version": Origin.here().anatune}, True),
        ({"version": Origin.here().tvm}, True),
        ({"version": "0.0"}, False),
        ({"profile": "zen4", "outcome": Outcome.OK}, False),
    ],
)
def test_a_selection_takes_what_has_all_that_it_states(stated, taken):
    chosen = Selection(**stated)
    assert chosen.takes(ONE) is taken
    assert chosen.is_narrow is bool(stated)


def test_machines_are_named_by_processor_and_device_too():
    far = record(origin=replace(ELSEWHERE, device="board-3"))
    for text in ("old core", "0123", "board-3"):
        assert Selection(host=text).takes(far)
    assert not Selection(host="board").takes(far) and not Selection(host="board-3").takes(ONE)


@given(records())
def test_everything_is_taken_where_nothing_is_stated(one):
    assert Selection().takes(one)


NOW = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-11-21", NOW.replace(hour=0)),
        ("2026-11-21T08:30", NOW.replace(hour=8, minute=30)),
        ("2026-11-21T08:30+02:00", NOW.replace(hour=6, minute=30)),
        ("12h", NOW.replace(hour=0)),
        ("90 min", NOW.replace(hour=10, minute=30)),
        ("1w", NOW.replace(day=14)),
        ("0d", NOW),
    ],
)
def test_moments(text, meant):
    assert moment(text, NOW) == meant


@pytest.mark.parametrize("text", ["", "x", "3", "-3d", "3 months", "2026-13-01", "999999w", "1e3d"])
def test_other_moments_are_refused(text):
    with pytest.raises(OptionError, match="date = "):
        moment(text, NOW)


def test_outcomes_by_name():
    assert all(outcome_named(outcome.value) is outcome for outcome in Outcome)
    with pytest.raises(OptionError, match="'compile error'"):
        outcome_named("good")


@given(st.lists(records(), max_size=3))
def test_rows_are_the_same_in_csv_and_json(found):
    rows = [columns(Line(one.line()), one) for one in found]
    assert json.loads("".join(as_json(rows))) == rows
    read = list(csv.DictReader(io.StringIO("".join(as_csv(rows)), newline="")))
    assert read == [
        {name: "" if value is None else str(value) for name, value in row.items()} for row in rows
    ]


def test_a_row_holds_what_people_compare():
    one = record(seconds=2e-5, verdict=verdict())
    row = columns(Line(one.line()), one)
    assert (row["measured_s"], row["spread_s"], row["samples"]) == (2e-5, 0.0, 3)
    assert (row["kind"], row["complete"], row["objective"]) == ("verdict", True, "time")
    assert row["plan"] == str(one.plan) and row["workload"] == str(one.plan.workload)
