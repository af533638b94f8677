"""``anatune profile``: what is listed, what is checked, what becomes of a file that is there."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from profile_samples import CPU, edited

from anatune.hwprofile import kept, parse_profile


def invoke(*words: str):
    from anatune import cli  # registers the commands

    return CliRunner().invoke(cli.app, list(words), prog_name="anatune")


def test_profile_list_and_check_as_json():
    listed = json.loads(invoke("profile", "list", "--json").stdout)
    assert {"zen4", "neoverse_v1"} <= {entry["name"] for entry in listed}
    problems = json.loads(invoke("profile", "check", "--json").stdout)
    assert len(problems) >= 20
    assert not any(problems.values())


def test_a_broken_profile_costs_the_list_one_line(tmp_path, monkeypatch):
    file = tmp_path / "mine.yaml"
    file.write_text("schema: 1\nname: mine\nspeed: 3\n")
    (tmp_path / "folder.yaml").mkdir()
    monkeypatch.setenv("ANATUNE_PROFILE_PATH", str(tmp_path))
    done = invoke("profile", "list")
    assert done.exit_code == 0
    assert "\nzen4 " in done.stdout and "mine" not in done.stdout
    of_folder, of_file = done.stderr.splitlines()
    assert of_file.startswith(f"anatune: warning: {file}: ") and "speed" in of_file
    assert of_file.endswith(f"(all problems: anatune profile check {file})")
    assert f"{tmp_path / 'folder.yaml'}: " in of_folder and "not a regular file" in of_folder


def test_profile_list_has_the_host_also_before_it_is_probed():
    (first,) = [e for e in json.loads(invoke("profile", "list", "--json").stdout)[:1]]
    assert first == {"name": "host", "title": None, "isa": None}
    assert "\nhost " in invoke("profile", "list").stdout
    assert "not yet probed" in invoke("profile", "list").stdout
    kept.keep_host(parse_profile(edited(("name: small", "name: host")), "host"))
    first = json.loads(invoke("profile", "list", "--json").stdout)[0]
    assert first == {"name": "host", "title": "A small core", "isa": "x86_64"}
    assert "A small core (this machine, as probed)" in invoke("profile", "list").stdout


@pytest.fixture
def measured(monkeypatch):
    """Stands in for the probes, so that what becomes of their profile is tested without TVM."""
    monkeypatch.setattr("anatune.machine.detect", lambda tell: parse_profile(CPU, "small"))


def test_an_output_file_is_named_instead_of_printed(tmp_path, measured):
    file = tmp_path / "mine.yaml"
    done = invoke("profile", "measure", "--output", str(file))
    assert done.exit_code == 0
    assert done.stdout.splitlines()[0] == f"written to {file}"
    assert "schema:" not in done.stdout
    assert parse_profile(file.read_text(), "mine").title == "A small core"
    again = ("profile", "measure", "--output", str(file), "--json")
    assert json.loads(invoke(*again, "--force").stdout)["written_to"] == str(file)


@pytest.mark.parametrize("command", ["measure", "detect"])
def test_an_output_file_is_not_replaced_unasked(tmp_path, measured, command):
    file = tmp_path / "mine.yaml"
    file.write_text("years of work")
    done = invoke("profile", command, "--output", str(file))
    assert (done.exit_code, file.read_text()) == (2, "years of work")
    assert f"'{file}': exists; --force replaces it" in done.stderr
    assert done.stderr.count("\n") == 1


def test_force_replaces_wherever_it_stands(tmp_path, measured):
    file = tmp_path / "mine.yaml"
    for words in (("--force", "--output", str(file)), ("--output", str(file), "--force")):
        file.write_text("old")
        assert invoke("profile", "measure", *words).exit_code == 0
        assert file.read_text().startswith("schema:")


def test_profile_list_is_a_table():
    lines = invoke("profile", "list").stdout.splitlines()
    assert lines[0].split() == ["name", "machine", "instruction", "set"]
    assert any(line.startswith("zen4 ") and line.rstrip().endswith("x86_64") for line in lines)


def test_profile_check_fails_on_a_bad_file(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("schema: 1\nname: mine\nspeed: 3\n")
    done = invoke("profile", "check", str(file))
    assert done.exit_code == 1
    assert all(line.startswith(f"{file}: ") for line in done.stdout.splitlines())
    assert "speed" in done.stdout
    assert done.stderr == ""
