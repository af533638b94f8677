"""README.md keeps its word: its Python example runs, its variables are those that are read."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import numpy as np
import pytest

from anatune.hwprofile import load_profile
from anatune.plan import CodeTarget, Order, arithmetics
from anatune.workload import Matmul, matmul
from anatune.workload.dtypes import ELEMENT_BYTES
from anatune.workload.expression import JOINED, parse
from anatune.workload.nodes import CALLS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GENERIC = {"x86_64": "generic_x86_64", "amd64": "generic_x86_64", "aarch64": "generic_aarch64"}


def test_the_examples_run(tmp_path, monkeypatch, capsys):
    pytest.importorskip("tvm")
    target = GENERIC.get(platform.machine().lower())
    if target is None:
        pytest.skip(f"no generic profile for {platform.machine()}")
    monkeypatch.chdir(tmp_path)
    first, second, heads, third, *_ = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert all('"host"' in example for example in (first, second, heads, third))
    names: dict = {}
    exec(first.replace('"host"', repr(target)), names)
    want = names["a"].astype("f8") @ names["b"].astype("f8")
    assert abs(names["c"] - want).max() < 1e-3
    exec(second.replace('"host"', repr(target)), names)
    assert names["c"].dtype == "int8" and names["c"].shape == (784, 512)
    assert (names["out"] == 96 + names["bias"]).all()
    exec(heads.replace('"host"', repr(target)), names)
    q, k, v = (names[x].astype("f8").reshape(128, 12, 64) for x in "qkv")
    want = np.einsum("ihp,jhp,jhd->ihd", q, k, v).reshape(128, 768)
    assert abs(names["out"] / want - 1).max() < 1e-3
    exec(third.replace('"host"', repr(target)), names)
    assert names["c"].shape == (37, 768)
    assert (tmp_path / "kernel.so").stat().st_size > 0
    assert "tile" in capsys.readouterr().out


MACHINES = ("zen5", "haswell", "neoverse_v1")
"""Profiles whose arithmetics the table of data types has, in the order of its columns."""


def test_the_table_of_data_types():
    (told,) = re.findall(r"### Data types\n(.*?)\n### ", README, re.DOTALL)
    rows = [line.strip("| ").split(" | ") for line in told.splitlines() if line.startswith("| ")]
    assert {row[0] for row in rows[2:]} == set(ELEMENT_BYTES)
    for a, b, sums, out, *names in rows[2:]:
        w = matmul(8, 8, 8, dtype=a, dtype_b=b)
        assert (w.accumulator, w.out_dtype) == (sums, out)
        targets = [CodeTarget.of(load_profile(machine).target) for machine in MACHINES]
        assert names == [arithmetics(w, target)[0].name for target in targets]


def test_epilogues_are_told_whole():
    (told,) = re.findall(r"### Epilogues\n(.*?)\n### ", README, re.DOTALL)
    words = set(re.findall(r"\w+", told))
    assert words >= {*CALLS, *JOINED}
    for name, meaning in JOINED.items():
        assert f"`{name}` is `{meaning}`" in " ".join(told.split()) or meaning == f"{name}(c)"
    for text in ("bias+gelu", "gelu(c + bias[n])"):
        assert str(parse(text, "float32", "float32")) == "gelu(c + bias[n])"


def test_orders_and_options_are_told_whole():
    assert all(order.value in README for order in Order)
    for field in Matmul.__dataclass_fields__:
        assert len(field) == 1 or f"`--{field.replace('_', '-')}`" in README


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
