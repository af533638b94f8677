"""README.md keeps its word: its Python example runs, its variables are those that are read."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GENERIC = {"x86_64": "generic_x86_64", "amd64": "generic_x86_64", "aarch64": "generic_aarch64"}


def test_the_example_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("tvm")
    target = GENERIC.get(platform.machine().lower())
    if target is None:
        pytest.skip(f"no generic profile for {platform.machine()}")
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert '"host"' in example
    names: dict = {}
    exec(example.replace('"host"', repr(target)), names)
    want = names["a"].astype("f8") @ names["b"].astype("f8")
    assert abs(names["c"] - want).max() < 1e-3
    assert (tmp_path / "kernel.so").stat().st_size > 0
    assert "tile" in capsys.readouterr().out


def test_environment_variables_are_those_that_the_code_reads():
    sources = [file.read_text(encoding="utf-8") for file in (ROOT / "anatune").rglob("*.py")]
    read = {name for text in sources for name in re.findall(r"\bANATUNE_[A-Z_]+\b", text)}
    assert set(re.findall(r"`(ANATUNE_[A-Z_]+)`", README)) == read


def test_what_surprises_is_told():
    (told,) = re.findall(r"## Good to know\n(.*?)\n## ", README, re.DOTALL)
    for word in ("row-major", "os.fork()", "spawn", "Threads", "`gcc` or `clang`", "instruction"):
        assert word in told
    before_commands = README.split("## Two commands")[0]
    assert "milliseconds" in before_commands and "about 3 s, once" in before_commands


@pytest.mark.parametrize("marker", ["host", "tests"])
def test_each_command_is_one_line_that_starts_from_python(marker):
    (block,) = re.findall(rf"<!-- {marker} -->\n```sh\n(.*?)```", README, re.DOTALL)
    assert block.startswith("python3 -m venv ")
    assert block.count("\n") == 1
