"""Profiles that state only how they differ from a parent."""

from __future__ import annotations

from pathlib import Path

import pytest
from profile_samples import CPU, edited

from anatune.hwprofile import check_file, dump_profile, load_profile, parse_profile, places


def parent_and_child(folder: Path, monkeypatch: pytest.MonkeyPatch, child: str) -> Path:
    (folder / "small.yaml").write_text(CPU)
    file = folder / "tiny.yaml"
    file.write_text(f"schema: 1\nname: tiny\ntitle: Tiny\nlike: small\n{child}")
    monkeypatch.setenv(places.ENVIRONMENT, str(folder))
    return file


def test_a_child_states_only_what_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = """\
sources: {sheet: {kind: assumed, where: sheet}}
cores:
  - name: big
    count: {value: 6, source: sheet}
    caches: [{level: 1, ways: 4, source: sheet}]
    tlb: null
"""
    profile = load_profile(parent_and_child(tmp_path, monkeypatch, child))
    assert (profile.name, profile.title, profile.core.count, profile.core.threads_each) == (
        "tiny",
        "Tiny",
        6,
        2,
    )
    assert [cache.ways for cache in profile.core.caches] == [4, 16]
    assert profile.core.tlb is None
    sources = {citation.fact: citation.source for citation in profile.citations}
    assert (sources["cores.big.count"], sources["cores.big.threads_each"]) == ("sheet", "manual")
    assert (sources["cores.big.caches.1.ways"], sources["cores.big.caches.1.sets"]) == (
        "sheet",
        "manual",
    )
    assert "cores.big.count" in profile.assumed and "probes.barrier" in profile.assumed
    assert parse_profile(dump_profile(profile), "tiny") == profile, "written out without its parent"


def test_a_parents_source_never_covers_the_childs_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = parent_and_child(tmp_path, monkeypatch, "cores: [{name: big, count: 6}]\n")
    assert check_file(file) == ["cores.big.count: has no source: add source: here or to the block"]


def test_one_name_means_one_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = """\
usable_threads: {value: 2, source: guess}
sources: {guess: {kind: assumed, where: other}}
"""
    file = parent_and_child(tmp_path, monkeypatch, child)
    assert check_file(file) == [
        "sources.guess: means something else in the parent: choose another name"
    ]


def test_parents_in_a_circle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = parent_and_child(tmp_path, monkeypatch, "")
    (tmp_path / "small.yaml").write_text(
        file.read_text().replace("tiny", "small").replace("like: small", "like: tiny")
    )
    assert check_file(file)[0].startswith("like: 'tiny' leads back or too far: tiny > small")


def test_a_broken_parent_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = parent_and_child(tmp_path, monkeypatch, "")
    (tmp_path / "small.yaml").write_text(edited(("ways: 8", "ways: 0")))
    assert check_file(file)[0].startswith(
        "like: 'small' is refused: cores.big.caches.1.ways: 0 is not plausible"
    )
