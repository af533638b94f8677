"""Built kernels by content: whole or not at all, the least used ones go first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from record_samples import small_plan

from anatune.records import Kernels, kernels

PLAN = small_plan()
OTHER = replace(PLAN, prefetch_c=True)


@pytest.fixture
def built(tmp_path) -> Path:
    """Stands in for a library: nothing here looks inside."""
    file = tmp_path / "built.so"
    file.write_bytes(b"\x7fELF" + bytes(1000))
    return file


@pytest.fixture
def kept(tmp_path) -> Kernels:
    return Kernels(tmp_path / "kernels")


def names(kept: Kernels) -> set[str]:
    return {file.name for file in kept.folder.iterdir()} - {kernels.LOCK}


def test_what_is_put_is_got_by_its_plan(kept, built):
    assert kept.get(PLAN) is None
    put = kept.put(PLAN, built)
    assert put.read_bytes() == built.read_bytes() and put.suffix == ".so"
    assert kept.get(PLAN) == put == Kernels(kept.folder).get(PLAN)
    assert put.name == f"{kept.id_of(PLAN)}.so" and json.loads(
        (kept.folder / f"{kept.id_of(PLAN)}.json").read_text()
    )
    assert kept.get(OTHER) is None
    assert len(names(kept)) == 2


def test_the_folder_is_in_the_cache(cache_folder, built):
    assert Kernels().put(PLAN, built).parent == cache_folder / "kernels"


def test_the_first_kernel_stays_where_two_put_one(kept, built):
    put = kept.put(PLAN, built)
    inode = put.stat().st_ino
    built.write_bytes(b"the same kernel, linked at another time")
    assert kept.put(PLAN, built) == put and put.stat().st_ino == inode


@pytest.mark.parametrize("what", ["__version__", "tvm_version", "host_fingerprint", "sources_hash"])
def test_another_builder_has_other_kernels(kept, built, monkeypatch, what):
    kept.put(PLAN, built)
    if what == "__version__":
        monkeypatch.setattr("anatune.__version__", "9.9.9")
    else:
        monkeypatch.setattr(kernels, what, lambda: "another")
    assert Kernels(kept.folder).get(PLAN) is None
    assert kept.get(PLAN) is not None


def test_the_sources_count(tmp_path, monkeypatch):
    for room in kernels.SOURCES:
        (tmp_path / room).mkdir()
        (tmp_path / room / "code.py").write_text("x = 1")
    (tmp_path / "records").mkdir()
    monkeypatch.setattr(kernels, "__file__", str(tmp_path / "records" / "kernels.py"))
    hashes = []
    for room in (None, *kernels.SOURCES):
        if room:
            (tmp_path / room / "code.py").write_text("x = 2")
        hashes.append(kernels.sources_hash.__wrapped__())
    assert len(set(hashes)) == 1 + len(kernels.SOURCES)


DAMAGE = {
    "changed": lambda library, note: library.write_bytes(library.read_bytes()[:-1] + b"x"),
    "cut": lambda library, note: library.write_bytes(library.read_bytes()[:-1]),
    "emptied": lambda library, note: library.write_bytes(b""),
    "removed": lambda library, note: library.unlink(),
    "note cut": lambda library, note: note.write_text(note.read_text()[:-5]),
    "note of nothing": lambda library, note: note.write_text("[]"),
    "note of another": lambda library, note: note.write_text(
        note.read_text().replace('"sha256": "', '"sha256": "0')
    ),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_what_is_damaged_is_removed_and_may_be_put_again(kept, built, how):
    put = kept.put(PLAN, built)
    other = kept.put(OTHER, built)
    DAMAGE[how](put, kept.folder / f"{kept.id_of(PLAN)}.json")
    assert kept.get(PLAN) is None
    assert {name.split(".")[0] for name in names(kept)} == {kept.id_of(OTHER)}
    assert kept.get(OTHER) == other
    assert kept.put(PLAN, built) == put == kept.get(PLAN)


def test_a_library_without_its_note_is_no_kernel(kept, built):
    kept.put(PLAN, built)
    (kept.folder / f"{kept.id_of(PLAN)}.json").unlink()
    assert kept.get(PLAN) is None


def test_what_was_used_longest_ago_goes_first(kept, built, monkeypatch):
    size = built.stat().st_size
    monkeypatch.setattr(kernels, "MOST_BYTES", 2 * size)
    plans = [small_plan(m) for m in (1, 2, 3, 4)]
    for age, one in enumerate(plans[:2]):
        os.utime(kept.put(one, built), (age, age))
    assert kept.get(plans[0]) is not None  # used just now
    kept.put(plans[2], built)
    assert [kept.get(one) is not None for one in plans] == [True, False, True, False]
    monkeypatch.setattr(kernels, "MOST_BYTES", 0)
    kept.put(plans[3], built)  # the newest stays, or nothing would ever be kept
    assert [kept.get(one) is not None for one in plans] == [False, False, False, True]


def test_what_a_killed_writer_left_is_cleared_away(kept, built):
    kept.put(PLAN, built)
    old, new = kept.folder / f"a.so{kernels.HALF}", kept.folder / f"b.so{kernels.HALF}"
    for file in (old, new):
        file.write_bytes(b"half")
    os.utime(old, (0, 0))
    kept.put(OTHER, built)
    assert not old.exists() and new.exists()


def test_a_folder_that_cannot_be_written_costs_one_warning(tmp_path, built):
    (tmp_path / "file").write_text("in the way")
    kept = Kernels(tmp_path / "file" / "kernels")
    with pytest.warns(UserWarning) as caught:
        assert kept.put(PLAN, built) == built
        assert kept.put(OTHER, built) == built
    (only,) = caught
    assert str(kept.folder) in str(only.message) and "ANATUNE_CACHE_DIR" in str(only.message)
    assert kept.get(PLAN) is None


def test_a_disk_that_gets_full_leaves_nothing_half(kept, built, monkeypatch):
    def full(source, target):
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kernels.shutil, "copyfile", full)
    with pytest.warns(UserWarning, match="No space left"):
        assert kept.put(PLAN, built) == built
    assert names(kept) == set()


TWO = """
import sys
sys.path.insert(0, sys.argv[3])
from pathlib import Path
from record_samples import small_plan
from anatune.records import Kernels
kept, built = Kernels(sys.argv[1]), Path(sys.argv[2])
plan = small_plan()
for turn in range(100):
    put = kept.put(plan, built)
    found = kept.get(plan)
    assert found is None or found == put
    if turn % 3 == 0:
        put.write_bytes(b"damaged by somebody")
"""


def test_two_processes_share_a_folder(kept, built):
    command = [sys.executable, "-c", TWO, str(kept.folder), str(built), str(Path(__file__).parent)]
    both = [subprocess.Popen(command) for _ in range(2)]
    assert [one.wait() for one in both] == [0, 0]
    kept.put(PLAN, built)
    assert kept.get(PLAN).read_bytes() == built.read_bytes()
    assert len(names(kept)) == 2
