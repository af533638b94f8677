"""The host's profile between runs: kept, read again, forgotten where it cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from profile_samples import edited

from anatune.errors import CacheError
from anatune.hwprofile import kept, parse_profile

TEXT = edited(("name: small", "name: host"))
HOST = parse_profile(TEXT, "host")
OTHER = parse_profile(edited(("one_core: 3 GHz", "one_core: 2 GHz"), text=TEXT), "host")


def later(file: Path) -> None:
    """Date ``file`` a second later: two writes may be closer than the clock of files is fine."""
    changed_ns = file.stat().st_mtime_ns + 10**9
    os.utime(file, ns=(changed_ns, changed_ns))


def test_what_is_kept_is_loaded(cache_folder):
    assert kept.kept_host() is None
    file = kept.keep_host(HOST)
    assert file == kept.host_file() and file.is_relative_to(cache_folder)
    assert kept.kept_host() == HOST
    assert [f.name for f in file.parent.iterdir()] == [file.name]


def test_a_changed_file_is_parsed_again_and_no_other():
    file = kept.keep_host(HOST)
    first = kept.kept_host()
    assert kept.kept_host() is first
    kept.keep_host(OTHER)
    later(file)
    assert kept.kept_host() == OTHER != first


def test_another_host_has_another_file(monkeypatch):
    file = kept.keep_host(HOST)
    monkeypatch.setattr(kept, "host_fingerprint", lambda: "another")
    assert kept.host_file() != file
    assert kept.kept_host() is None


def test_what_fewer_probes_found_is_not_taken(monkeypatch):
    kept.keep_host(HOST)
    monkeypatch.setattr(kept, "PROBES_VERSION", kept.PROBES_VERSION + 1)
    assert kept.kept_host() is None


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"schema: 2\n", b"{", b"- 1\n"])
def test_a_file_that_cannot_be_read_is_none(content):
    file = kept.keep_host(HOST)
    file.write_bytes(content)
    later(file)
    assert kept.kept_host() is None


def test_a_folder_in_place_of_the_file_is_none():
    kept.host_file().mkdir(parents=True)
    assert kept.kept_host() is None


def test_a_fifo_in_place_of_the_file_is_none_and_not_waited_for():
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no FIFOs in folders")
    kept.host_file().parent.mkdir(parents=True)
    os.mkfifo(kept.host_file())
    assert kept.kept_host() is None


def test_a_write_that_fails_leaves_the_former_file(monkeypatch):
    file = kept.keep_host(HOST)

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(CacheError, match="No space left on device"):
        kept.write_whole(file, "half")
    assert kept.kept_host() == HOST
    assert [f.name for f in file.parent.iterdir()] == [file.name]


def test_the_folder_is_the_users_unless_the_environment_names_one(monkeypatch):
    monkeypatch.setenv(kept.CACHE_ENVIRONMENT, "~/elsewhere")
    assert kept.cache_folder() == Path.home() / "elsewhere"
    monkeypatch.delenv(kept.CACHE_ENVIRONMENT)
    assert "anatune" in kept.cache_folder().parts
