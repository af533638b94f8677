"""The package's own names: each is what it says, whatever was imported before."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

import anatune

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", anatune.__all__)
def test_every_name_is_callable(name):
    if anatune._HOME[name].startswith(("anatune.codegen", "anatune.result", "anatune.tune")):
        pytest.importorskip("tvm")
    value = getattr(anatune, name)
    assert callable(value) and value.__name__ == name
    assert name in dir(anatune)


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="module 'anatune' has no attribute 'plans'"):
        anatune.plans  # noqa: B018


@pytest.mark.parametrize(
    "first", ["import anatune.plan", "from anatune.api import rank", "import anatune.tune"]
)
def test_functions_are_not_hidden_by_modules(first):
    """`anatune.plan` and `anatune.tune` are also the names of files."""
    if "tune" in first.split(".")[-1]:
        pytest.importorskip("tvm")
    for a, b in itertools.permutations(("plan", "tune"), 2):
        check = f"assert anatune.{a}.__name__ == {a!r}; assert anatune.{b}.__name__ == {b!r}"
        code = f"import sys; sys.path[:0] = [{str(ROOT)!r}]; import anatune; {first}; {check}"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
