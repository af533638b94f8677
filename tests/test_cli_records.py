"""``anatune records``: tables, documents, selections, and one line for what goes wrong."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from record_samples import ELSEWHERE, FOREIGN, TORN, ZEN4, record, small_plan, verdict

from anatune.measure.outcome import Outcome
from anatune.records import Store, default_path
from anatune.records.line import Line

BIG = small_plan(16, 32, 64)


def invoke(*words: str | Path):
    from anatune import cli  # registers the commands

    return CliRunner().invoke(cli.app, ["records", *map(str, words)], prog_name="anatune")


@pytest.fixture
def path() -> Path:
    """A store with two workloads, a failure, records of another machine and lines of no use."""
    store = Store()
    store.append(
        [
            record(rank=1, seconds=3e-5, at="2026-01-01T10:00:00+00:00"),
            record(rank=2, seconds=2e-5, at="2026-01-01T10:00:01+00:00"),
            record(rank=3, outcome=Outcome.TIMEOUT, note="30 s", at="2026-01-02T10:00:00+00:00"),
            record(rank=1, seconds=1.5e-6, origin=ELSEWHERE, at="2026-01-03T10:00:00+00:00"),
            record(BIG, seconds=5e-3, verdict=verdict(), at="2026-02-01T10:00:00+00:00"),
        ]
    )
    with open(store.path, "ab") as file:
        file.writelines(line + b"\n" for line in (FOREIGN[0], *TORN[:2]))
    return store.path


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def id_of(path: Path, place: int) -> str:
    return Line(lines(path)[place]).id


def test_the_list_has_a_row_for_what_may_be_compared(path):
    done = invoke("list")
    title, _, *rows = done.stdout.splitlines()
    assert title.split("  ")[0] == "workload" and len(rows) == 3
    mine, other, big = rows
    assert mine.startswith("matmul 8x16x8 float32") and "20 us" in mine and " 3 " in mine
    assert "1 timeout" in mine and "2026-01-02 10:00" in mine and " here " in mine
    assert "Old Core 2, anatune 0.0.1, TVM 0.26.0" in other and "1.5 us" in other
    assert "16x32x64" in big and str(BIG) in big and big.rstrip().endswith("-")
    assert done.stderr.splitlines() == [
        "1 line of other versions, kept and not read",
        "2 lines cut short; anatune records prune --torn removes them",
    ]


def test_the_list_as_json(path):
    done = invoke("list", "--json")
    mine, other, _ = json.loads(done.stdout)
    assert (mine["records"], mine["best_s"], mine["own"]) == (3, 2e-5, True)
    assert mine["failed"] == {"timeout": 1} and mine["plan"] == str(small_plan())
    assert other["own"] is False and other["origin"]["host"] == ELSEWHERE.host


def test_caches_and_devices_are_told_apart():
    one = record()
    far = replace(one, origin=replace(one.origin, device="board-3"))
    Store().append([one, replace(one, cache="cold"), far])
    rows = invoke("list").stdout.splitlines()[2:]
    assert len(rows) == 3
    assert sum("float32, cold caches" in row for row in rows) == 1
    assert sum("board-3" in row for row in rows) == 1


def test_a_workload_has_its_records_one_by_one(path):
    title, _, *rows = invoke("list", "matmul", "8", "16", "8").stdout.splitlines()
    assert title.split("  ")[0] == "id"
    assert [row.split()[0] for row in rows] == [id_of(path, place) for place in range(4)]
    assert "timeout: 30 s" in rows[2] and rows[0].count("30 us") == 1
    (only,) = json.loads(invoke("list", "16x32x64", "--json").stdout)
    assert only["kind"] == "verdict" and only["measured_s"] == 5e-3
    assert json.loads(invoke("list", "matmul", "1", "2", "3", "--json").stdout) == []


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (("--outcome", "timeout"), 1),
        (("--since", "2026-01-02T11:00"), 2),
        (("--before", "2026-01-02"), 2),
        (("--profile", "zen4"), 5),
        (("--profile", "zen3"), 0),
        (("--host", "old core"), 1),
        (("--version", "0.26.0"), 1),
        (("--version", "0.26.0", "--outcome", "timeout"), 0),
    ],
)
def test_options_narrow_the_list(path, options, left):
    found = json.loads(invoke("list", "--json", *options).stdout)
    assert sum(group["records"] for group in found) == left
    said = invoke("list", *options).stdout
    assert left or said == f"no such records in {path}\n"


def test_an_empty_store_is_no_error(cache_folder):
    done = invoke("list")
    assert (done.exit_code, done.stdout) == (0, f"no records in {default_path()}\n")
    assert json.loads(invoke("list", "--json").stdout) == []
    assert not cache_folder.exists()


def test_show_tells_everything_of_one(path):
    done = invoke("show", id_of(path, 4)[:7])
    told = dict(line.split(None, 1) for line in done.stdout.splitlines())
    assert told["workload"] == "matmul 16x32x64 float32" and told["measured_s"] == "5 ms"
    assert told["samples"] == "5 ms, 5 ms, 5 ms" and told["budget"] == "8 candidates, 2.5 s"
    whole = json.loads(invoke("show", id_of(path, 0), "--json").stdout)
    assert whole["state"] == "record" and whole["record"] == json.loads(lines(path)[0])


def test_show_has_lines_of_other_versions_too(path):
    done = invoke("show", Line(FOREIGN[0]).id)
    assert "foreign" in done.stdout and FOREIGN[0].decode() in done.stdout
    assert invoke("show", Line(TORN[1]).id).exit_code == 0


def test_export_and_merge_carry_a_store_elsewhere(path, tmp_path):
    out, into = tmp_path / "out.jsonl", tmp_path / "into.jsonl"
    assert invoke("export", "--output", out).exit_code == 0
    assert lines(out) == [line for line in lines(path) if line not in TORN]
    done = invoke("merge", out, path, "--database", into)
    assert done.stdout == f"6 lines added to {into}, 6 were there\n"
    assert done.stderr.startswith("anatune: warning: 2 lines left out")
    assert lines(into) == lines(out)
    again = json.loads(invoke("merge", out, "--database", into, "--json").stdout)
    assert again == {"database": str(into), "added": 0, "known": 6, "torn": 0}


def test_export_of_a_selection(path, tmp_path):
    rows = list(csv.DictReader(invoke("export", "8x16x8").stdout.splitlines()))
    assert [row["rank"] for row in rows] == ["1", "2", "3", "1"]
    listed = json.loads(invoke("list", "8x16x8", "--json").stdout)
    assert json.loads(invoke("export", "8x16x8", "--json").stdout) == listed
    assert json.loads(invoke("export", "8x16x8", "--format", "json").stdout) == listed
    meant = invoke("export", "--format", "jsonl", "--outcome", "timeout").stdout
    assert meant.encode().splitlines() == [lines(path)[2]]
    file = tmp_path / "some.json"
    invoke("export", "8x16x8", "--output", file)
    assert json.loads(file.read_text()) == listed
    assert json.loads(invoke("export", "none", "--json").stdout) == []


def test_prune_says_what_it_would_remove_and_then_removes_it(path):
    before = lines(path)
    would = invoke("prune", "--outcome", "timeout", "--dry-run")
    assert "1 timeout" in would.stdout and would.stdout.endswith("1 line would be removed\n")
    assert lines(path) == before
    assert invoke("prune", "--outcome", "timeout").stdout.endswith("1 line removed\n")
    assert lines(path) == [line for place, line in enumerate(before) if place != 2]
    done = json.loads(invoke("prune", "--torn", "--json").stdout)
    assert done["removed"] == [Line(line).id for line in TORN[:2]] and not done["dry_run"]
    invoke("prune", "--before", "0d")
    assert lines(path) == [FOREIGN[0]]


def test_torn_lines_are_counted_where_they_go(path):
    said = invoke("prune", "--torn", "--host", "old core").stdout
    assert said.endswith("3 lines removed, 2 of them cut short\n")


REFUSED = {
    ("prune",): "prune: say what to remove",
    ("prune", "--dry-run"): "prune: say what to remove",
    ("list", "--since", "soon"): "date = 'soon'",
    ("list", "--outcome", "good"): "outcome = 'good'",
    ("list", "--database", "none.jsonl"): "database = 'none.jsonl': no such file",
    ("show", "zzz"): "id = 'zzz': no such record",
    ("show", ""): "id = ''",
    ("merge",): "Missing argument",
    ("merge", "none.jsonl"): "none.jsonl",
    ("export", "--format", "xml"): "xml",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_done_is_one_line(path, words):
    before = lines(path)
    done = invoke(*words)
    assert done.exit_code == 2 and REFUSED[words] in done.stderr
    assert done.stderr.startswith("anatune: error: ") and done.stderr.count("\n") == 1
    assert done.stdout == "" and lines(path) == before


def test_an_id_that_several_begin_with_is_refused(path):
    with open(path, "ab") as file:
        file.writelines(record(rank=place).line() + b"\n" for place in range(40))
    ids = [Line(line).id for line in lines(path)]
    first = next(one[0] for one in ids if sum(other[0] == one[0] for other in ids) > 1)
    done = invoke("show", first)
    assert done.exit_code == 2 and "give more digits" in done.stderr


def test_an_output_file_is_not_replaced(path, tmp_path):
    file = tmp_path / "out.csv"
    file.write_text("years of work")
    done = invoke("export", "--output", file)
    assert (done.exit_code, file.read_text()) == (2, "years of work")
    assert "exists; give another name" in done.stderr


def test_a_store_that_cannot_be_read_is_one_line(tmp_path):
    done = invoke("list", "--database", tmp_path)
    assert done.exit_code == 1 and "ANATUNE_DATABASE" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_profile_is_named(path):
    assert all(row["profile"] == ZEN4.name for row in json.loads(invoke("export", "--json").stdout))
