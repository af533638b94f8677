"""Where profiles are found, in which order, and what is said when they are not."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path

import pytest

from anatune.errors import ProfileError
from anatune.hwprofile import (
    check_file,
    content_hash,
    dump_profile,
    load_profile,
    places,
    profiles,
)


@pytest.fixture(autouse=True)
def no_places_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(places.ENVIRONMENT, raising=False)
    monkeypatch.setattr(places, "user_folder", lambda: tmp_path / "user")


def put(folder: Path, title: str, name: str = "zen5") -> Path:
    """A copy of the shipped zen5 under another title, to tell where it came from."""
    folder.mkdir(parents=True, exist_ok=True)
    text = (places.shipped_folder() / "zen5.yaml").read_text()
    lines = [f"title: {title}" if line.startswith("title:") else line for line in text.splitlines()]
    file = folder / f"{name}.yaml"
    file.write_text("\n".join(lines).replace("name: zen5", f"name: {name}", 1))
    return file


def test_shipped_profiles_are_found() -> None:
    assert "zen5" in profiles()
    assert load_profile("zen5").name == "zen5"
    assert list(profiles()) == sorted(set(profiles()))


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    file = put(tmp_path, "by path")
    assert load_profile(file).title == "by path"
    assert load_profile(str(file)).title == "by path"


def test_a_file_name_alone_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "by file name")
    monkeypatch.chdir(tmp_path)
    assert load_profile("zen5.yaml").title == "by file name"
    assert load_profile("zen5").title != "by file name", "a name never means the current folder"


def test_order_of_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "user", "of the user")
    assert load_profile("zen5").title == "of the user"
    put(tmp_path / "b", "second of the environment")
    folders = [str(tmp_path / "a"), "", str(tmp_path / "b")]
    monkeypatch.setenv(places.ENVIRONMENT, os.pathsep.join(folders))
    assert load_profile("zen5").title == "second of the environment"
    put(tmp_path / "a", "first of the environment")
    assert load_profile("zen5").title == "first of the environment"


def test_profiles_lists_all_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "user", "x", "mine")
    put(tmp_path / "env", "x", "ours")
    (tmp_path / "env" / "_template.yaml").write_text("")
    (tmp_path / "env" / "notes.txt").write_text("")
    monkeypatch.setenv(places.ENVIRONMENT, str(tmp_path / "env"))
    assert {"mine", "ours", "zen5"} <= set(profiles())
    assert not {"_template", "notes", "schema"} & set(profiles())


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ProfileError, match="profile 'zen55' is not found: did you mean zen5\\?"):
        load_profile("zen55")


@pytest.mark.parametrize("name", ["", "Zen5", "a b", "x" * 500, "zen5\x00", "..", "host"])
def test_odd_names_are_refused(name: str) -> None:
    with pytest.raises(ProfileError, match="is not found"):
        load_profile(name)


@pytest.mark.parametrize(
    "path", ["/nowhere/zen5.yaml", "zen5\x00.yaml", "./", "\ud800/x.yaml", "~nobody-at-all/x.yaml"]
)
def test_unreadable_paths_are_refused(path: str) -> None:
    with pytest.raises(ProfileError, match="cannot be read"):
        load_profile(path)


def test_a_folder_is_not_a_profile(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="cannot be read"):
        load_profile(tmp_path)


def test_a_place_that_cannot_be_searched_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    odd = [str(tmp_path / "file"), str(tmp_path / "none"), "~nobody-at-all", "x" * 5000]
    monkeypatch.setenv(places.ENVIRONMENT, os.pathsep.join(odd))
    assert load_profile("zen5").name == "zen5"
    assert "zen5" in profiles()


def put_odd(file: Path, kind: str) -> None:
    """Something at ``file`` that is no regular file."""
    if kind == "folder":
        file.mkdir(parents=True)
    elif kind == "link":
        file.symlink_to(file.parent / "nothing")
    elif hasattr(os, "mkfifo"):
        os.mkfifo(file)
    else:
        pytest.skip("this system has no FIFOs in folders")


@pytest.mark.parametrize("kind", ["folder", "link", "fifo"])
def test_what_is_no_regular_file_is_said_to_be_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    file = tmp_path / "b20.yaml"
    put_odd(file, kind)
    monkeypatch.setenv(places.ENVIRONMENT, str(tmp_path))
    why = "No such file" if kind == "link" else "not a regular file"
    for asked in (file, "b20"):
        with pytest.raises(ProfileError, match=f"{file}' cannot be read: {why}"):
            load_profile(asked)
    assert len(check_file(file)) == 1
    put(tmp_path / "user", "a later place", "b20")
    assert load_profile("b20").title == "a later place"


def test_a_device_is_no_regular_file() -> None:
    if not os.path.exists("/dev/null"):
        pytest.skip("needs /dev/null")
    why = "profile file '/dev/null' cannot be read: not a regular file"
    assert check_file("/dev/null") == [why]
    with pytest.raises(ProfileError, match=why):
        load_profile("/dev/null")


def test_a_file_that_is_not_there_is_said_not_to_be_there() -> None:
    (why,) = check_file("/nonexistent")
    assert "No such file" in why


def test_file_name_must_be_the_name(tmp_path: Path) -> None:
    file = put(tmp_path, "x").rename(tmp_path / "other.yaml")
    with pytest.raises(ProfileError, match="'zen5' in a file called 'other'"):
        load_profile(file)


def test_an_endless_file_is_not_read_whole() -> None:
    if not Path("/dev/zero").exists():
        pytest.skip("needs /dev/zero")
    with pytest.raises(ProfileError):
        load_profile("/dev/zero")


def test_profiles_of_an_installed_package_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wheel holds them as `anatune.hwprofiles`; here a package of that name stands in for it."""
    put(tmp_path / "hwprofiles", "of the package")
    package = types.ModuleType("anatune.hwprofiles")
    (tmp_path / "hwprofiles" / "__init__.py").write_text("")
    import importlib.util

    spec = importlib.util.spec_from_file_location(
        "anatune.hwprofiles",
        tmp_path / "hwprofiles" / "__init__.py",
        submodule_search_locations=[str(tmp_path / "hwprofiles")],
    )
    assert spec is not None
    package = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "anatune.hwprofiles", package)
    assert load_profile("zen5").title == "of the package"
    assert profiles() == ("zen5",)


def test_a_copy_is_the_same_machine(tmp_path: Path) -> None:
    copy = load_profile(put(tmp_path, "a copy"))
    assert content_hash(copy) == content_hash(load_profile("zen5"))
    assert dump_profile(copy) != dump_profile(load_profile("zen5"))


def test_the_users_folder_is_named_after_anatune(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert places.user_folder().name == "profiles"
    assert "anatune" in places.user_folder().parts
