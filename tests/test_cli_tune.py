"""The commands that need TVM: one kernel built, checked and kept."""

from __future__ import annotations

import json
import platform

import pytest
from click.testing import CliRunner

pytest.importorskip("tvm")

GENERIC = {"x86_64": "generic_x86_64", "amd64": "generic_x86_64", "aarch64": "generic_aarch64"}


@pytest.fixture
def words() -> list[str]:
    """A small product on the profile that fits any machine of this instruction set."""
    target = GENERIC.get(platform.machine().lower())
    if target is None:
        pytest.skip(f"no generic profile for {platform.machine()}")
    return ["matmul", "9", "20", "7", "--target", target, "--threads", "1"]


def invoke(*words: str):
    from anatune import cli

    return CliRunner().invoke(cli.app, list(words), prog_name="anatune")


def test_tune_model_only_keeps_the_kernel(words, tmp_path):
    file = tmp_path / "kernel.so"
    done = invoke("tune", *words, "--budget", "0", "--export", str(file), "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert (said["measured_s"], said["written_to"]) == (None, str(file))
    assert file.stat().st_size > 0


def test_tune_prints_the_race_and_the_pick(words, tmp_path):
    file = tmp_path / "kernel.so"
    done = invoke("tune", *words, "--budget", "2", "--export", str(file))
    assert done.stdout.splitlines()[-1] == f"written to {file}"
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0].split()[-4:] == ["predicted", "measured", "+-", "outcome"]
    assert "measured  " in done.stdout


def test_compare_refuses_another_machine_before_it_builds(monkeypatch):
    from anatune.codegen import build

    monkeypatch.setattr(build, "build", lambda plan: pytest.fail("a kernel was built"))
    other = "zen5" if platform.machine().lower() == "aarch64" else "neoverse_v1"
    done = invoke("compare", "matmul", "9", "20", "7", "--target", other)
    assert (done.exit_code, done.stdout) == (2, "")
    want = f"target = '{other}': compare measures, and this machine cannot run code for it"
    assert done.stderr == f"anatune: error: {want}\n"


def test_compare_puts_ours_first(words):
    done = invoke("compare", *words, "--budget", "0", "--libraries", "numpy", "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["rows"][0]["library"] == "anatune"
    assert all(row["flops_per_s"] > 0 for row in found["rows"])
    assert found["ratio"] > 0
