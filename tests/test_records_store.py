"""The store: what is found, what survives kills, full disks, other writers and other files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st
from record_samples import (
    ELSEWHERE,
    FOREIGN,
    TORN,
    ZEN4,
    record,
    reformatted,
    small_plan,
    verdict,
)

from anatune.records import Store, default_path, lines_file
from anatune.records import store as store_module
from anatune.records.line import Line, State
from anatune.records.record import MEASUREMENT, VERDICT

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
W = small_plan().workload
KILLS = int(os.environ.get("ANATUNE_TEST_KILLS", "25"))


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "some" / "folder" / "records.jsonl"


def ranks(found) -> list[int]:
    return [one.rank for one in found]


def numbered(*numbers: int, **more):
    return [record(rank=number, **more) for number in numbers]


def test_nothing_is_found_in_nothing(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Store(path).find(W, ZEN4.hash) == []
        assert list(Store(path).all()) == []
        path.parent.mkdir(parents=True)
        path.touch()
        assert Store(path).find(W, ZEN4.hash) == []


def test_what_is_appended_is_found_by_workload_and_profile(path):
    other = record(small_plan(16, 16, 16), rank=8)
    elsewhere = record(profile=replace(ZEN4, hash="b" * 64), rank=9)
    Store(path).append([*numbered(1, 2), other, elsewhere])
    for store in (Store(path), Store(str(path))):
        assert ranks(store.find(W, ZEN4.hash)) == [1, 2]
        assert store.find(other.plan.workload, ZEN4.hash) == [other]
        assert store.find(W, "b" * 64) == [elsewhere]
        assert store.find(W, "c" * 64) == []
        assert ranks(store.all()) == [1, 2, 8, 9]


def test_records_of_others_are_found_and_told_apart(path):
    store = Store(path)
    store.append([record(rank=1), record(rank=2, origin=ELSEWHERE)])
    found = store.find(W, ZEN4.hash)
    assert [one.is_own(record().origin) for one in found] == [True, False]


def test_appending_nothing_makes_nothing(path):
    Store(path).append([])
    assert not path.parent.exists()


def test_one_kind_alone(path):
    store = Store(path)
    store.append([record(rank=1), record(rank=2, verdict=verdict())])
    path.write_bytes(path.read_bytes() + reformatted(record(rank=3, verdict=verdict()).line()))
    store.append(numbered(4))
    assert ranks(store.find(W, ZEN4.hash, VERDICT)) == [2, 3]
    assert ranks(store.find(W, ZEN4.hash, MEASUREMENT)) == [1, 4]
    assert store.find(W, ZEN4.hash, VERDICT)[0].verdict == verdict()


def test_a_line_that_is_there_twice_counts_once(path):
    (one,) = numbered(1)
    Store(path).append([one, one])
    assert Store(path).find(W, ZEN4.hash) == [one]


def test_what_others_append_is_found_by_an_open_store(path):
    mine, other = Store(path), Store(path)
    for number in range(1, 6):
        other.append(numbered(number))
        assert ranks(mine.find(W, ZEN4.hash)) == list(range(1, number + 1))


def test_only_the_tail_is_read_again(path, monkeypatch):
    mine = Store(path)
    mine.append(numbered(*range(100)))
    mine.append([record(small_plan(16, 16, 16))])
    mine.find(W, ZEN4.hash)
    mine.append(numbered(100))
    seen = []
    monkeypatch.setattr(store_module, "Line", lambda raw: seen.append(raw) or Line(raw))
    assert ranks(mine.find(W, ZEN4.hash)) == list(range(101))
    assert len(seen) == 1 + 101  # the one that is new, and those that are handed out


@pytest.mark.parametrize("new", [numbered(7), numbered(*range(7, 99)), []])
@pytest.mark.parametrize("in_place", [True, False])
def test_another_file_of_the_same_name_is_noticed(path, new, in_place):
    mine = Store(path)
    mine.append(numbered(1, 2, 3))
    mine.find(W, ZEN4.hash)
    text = b"".join(one.line() + b"\n" for one in new)
    if in_place:
        path.write_bytes(text)
    else:
        (path.parent / "new").write_bytes(text)
        os.replace(path.parent / "new", path)
    assert ranks(mine.find(W, ZEN4.hash)) == ranks(new)


def test_a_file_that_was_removed_is_empty_and_made_again(path):
    mine = Store(path)
    mine.append(numbered(1))
    mine.find(W, ZEN4.hash)
    path.unlink()
    assert mine.find(W, ZEN4.hash) == []
    mine.append(numbered(2))
    assert ranks(mine.find(W, ZEN4.hash)) == [2]


@given(cut=st.integers(1, 400))
def test_a_torn_last_line_costs_that_line_alone(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("torn") / "records.jsonl"
    mine = Store(path)
    mine.append(numbered(1, 2))
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size - cut)
    whole = [1, 2] if cut == 1 else [1]  # without its end alone, a line is whole once it has one
    assert ranks(Store(path).find(W, ZEN4.hash)) == [1]
    assert ranks(mine.find(W, ZEN4.hash)) == [1]
    mine.append(numbered(3))
    for store in (mine, Store(path)):
        assert ranks(store.find(W, ZEN4.hash)) == [*whole, 3]
        assert ranks(store.all()) == [*whole, 3]


def test_lines_that_are_no_records_stay_and_are_counted(path):
    lines = [*FOREIGN, *TORN, reformatted(record(rank=1).line())]
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\n".join(lines) + b"\r\n\n")
    before = path.read_bytes()
    store = Store(path)
    store.append(numbered(2))
    assert path.read_bytes().startswith(before)
    assert ranks(store.find(W, ZEN4.hash)) == [1, 2]
    counts = store.count()
    assert counts == {State.RECORD: 2, State.FOREIGN: len(FOREIGN), State.TORN: len(TORN)}


def test_a_plan_of_another_version_is_passed_over(path):
    fields = json.loads(record(rank=1).line())
    fields["plan"]["kind"] = "poem"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(fields, separators=(",", ":")) + "\n")
    store = Store(path)
    store.append(numbered(2))
    assert ranks(store.find(W, ZEN4.hash)) == [2]
    assert len(list(store.all())) == 2


def test_links_to_one_file_share_its_lock(path, tmp_path):
    Store(path).append(numbered(1))
    link = tmp_path / "link.jsonl"
    link.symlink_to(path)
    Store(link).append(numbered(2))
    assert ranks(Store(path).all()) == [1, 2]
    assert Store(link).path == Store(path).path
    assert sorted(file.name for file in tmp_path.iterdir()) == ["link.jsonl", "some"]


WRITER = """
import sys
sys.path.insert(0, sys.argv[3])
from record_samples import record
from anatune.records import Store
store = Store(sys.argv[1])
sample = record(note=sys.argv[2])
from dataclasses import replace
sys.stdin.readline()
for number in range(500):
    store.append([replace(sample, rank=number + 1)])
"""


def test_two_processes_append_at_once(path):
    command = [sys.executable, "-c", WRITER, str(path)]
    tests = str(Path(__file__).parent)
    writers = [
        subprocess.Popen([*command, name, tests], stdin=subprocess.PIPE) for name in ("a", "b")
    ]
    for writer in writers:
        writer.stdin.write(b"go\n")
        writer.stdin.flush()
    assert [writer.wait() for writer in writers] == [0, 0]
    found = [(one.measurement.note, one.rank) for one in Store(path).all()]
    assert sorted(found) == [(name, number) for name in "ab" for number in range(1, 501)]
    of_a = [number for name, number in found if name == "a"]
    assert of_a == sorted(of_a)
    assert Store(path).count()[State.TORN] == 0


FULL_DISK = """
import resource, sys, warnings
sys.path.insert(0, sys.argv[2])
from record_samples import ZEN4, record, small_plan
from anatune.records import Store
store = Store(sys.argv[1])
store.append([record(rank=1), record(rank=2)])
size = store.path.stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + size // 4, resource.RLIM_INFINITY))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    store.append([record(rank=3)])
    store.append([record(rank=4), record(rank=5)])
print(*(str(one.message) for one in caught), sep="\\n")
assert store.path.stat().st_size == size, "what did not fit was not taken back"
workload = small_plan().workload
print(*(one.rank for one in store.find(workload, ZEN4.hash)))
print(*(one.rank for one in Store(sys.argv[1]).find(workload, ZEN4.hash)))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.append([record(rank=6)])
print(*(one.rank for one in Store(sys.argv[1]).find(workload, ZEN4.hash)))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of the system")
def test_a_full_disk_costs_one_warning_and_no_record_of_the_run(path):
    command = [sys.executable, "-c", FULL_DISK, str(path), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    warning, mine, others, later = done.stdout.splitlines()
    assert str(path) in warning and "ANATUNE_DATABASE" in warning and "make room" in warning
    assert (mine, others) == ("1 2 3 4 5", "1 2")
    assert later == "1 2 3 4 5 6"


def test_a_place_that_cannot_be_written_costs_one_warning(tmp_path):
    (tmp_path / "file").write_text("in the way")
    store = Store(tmp_path / "file" / "records.jsonl")
    with pytest.warns(UserWarning) as caught:
        store.append(numbered(1))
        store.append(numbered(2))
        assert ranks(store.find(W, ZEN4.hash)) == [1, 2]
        assert ranks(store.all()) == [1, 2]
    (only,) = caught
    assert str(store.path) in str(only.message) and "ANATUNE_DATABASE" in str(only.message)
    assert "\n" not in str(only.message)


def test_a_folder_in_place_of_the_file_costs_one_warning(tmp_path):
    store = Store(tmp_path)
    with pytest.warns(UserWarning) as caught:
        assert store.find(W, ZEN4.hash) == []
        store.append(numbered(1))
    assert len(caught) == 1
    assert ranks(store.find(W, ZEN4.hash)) == [1]


def test_a_lock_that_is_held_costs_a_warning_and_is_tried_again(path, monkeypatch):
    monkeypatch.setattr(lines_file, "LOCK_S", 0.05)
    store = Store(path)
    store.append(numbered(1))
    with FileLock(f"{path}.lock"), pytest.warns(UserWarning, match="locked"):
        store.append(numbered(2))
    assert ranks(Store(path).all()) == [1]
    store.append(numbered(3))
    assert ranks(Store(path).all()) == [1, 2, 3] == ranks(store.all())


def test_the_environment_says_where(monkeypatch, cache_folder, tmp_path):
    monkeypatch.delenv("ANATUNE_DATABASE", raising=False)
    assert default_path() == cache_folder / "records.jsonl"
    monkeypatch.setenv("ANATUNE_DATABASE", "~/mine.jsonl")
    assert default_path() == Path.home() / "mine.jsonl" == Store().path
    monkeypatch.delenv("ANATUNE_DATABASE")
    monkeypatch.delenv("ANATUNE_CACHE_DIR")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_path().name == "records.jsonl" and "anatune" in str(default_path())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that are forked")
def test_what_was_appended_survives_kills_at_random_instants(tmp_path):
    script = [sys.executable, str(BENCHMARKS / "kill_writers.py"), "--kills", str(KILLS), "--json"]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kills"] == KILLS and found["appended"] > 0
    assert found["lost"] == 0 and found["loads"] is True


def test_the_benchmark_of_the_store_starts(tmp_path):
    script = [sys.executable, str(BENCHMARKS / "record_store.py"), "--records", "200"]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "200 records" in done.stdout and "20 to 20 per answer" in done.stdout
    assert done.stdout.count("within") == 2
