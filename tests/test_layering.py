"""The house stands as drawn: imports point down the ranks, TVM is above the model, no cycles."""

from __future__ import annotations

import ast
import re
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import anatune

ROOT = Path(anatune.__file__).resolve().parent

# Whole numbers are the ranks of the design; halves order two rooms that share one.
RANK = {
    "errors": 0, "units": 0.5,
    "hwprofile": 1,
    "workload": 2,
    "plan": 3,
    "model": 4,
    "codegen": 5,
    "measure": 6,
    "compiled": 6.5,
    "machine": 7, "records": 7, "result": 7, "group_result": 7.2,
    "search": 7.5,
    "family": 7.8, "primfunc": 7.9, "primfunc_result": 7.9,
    "api": 8, "external": 8, "partition": 8, "loops": 8, "kinds": 8, "tune": 8.1, "many": 8.2,
    "graph": 9, "report": 9, "cli": 9.5,
}  # fmt: skip
DECIDES = RANK["model"]
STRANGERS = [("model", "codegen"), ("codegen", "model"), ("measure", "model")]


@cache
def modules() -> dict[str, Path]:
    """Every module by its dotted name, packages by their ``__init__``."""
    names = {}
    for file in ROOT.rglob("*.py"):
        parts = ("anatune", *file.relative_to(ROOT).with_suffix("").parts)
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return names


def docstring(module: str) -> str:
    return ast.get_docstring(ast.parse(modules()[module].read_text(encoding="utf-8"))) or ""


def for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def nodes(tree: ast.AST):
    """All nodes of a module but those that only a type checker sees."""
    yield tree
    for child in ast.iter_child_nodes(tree):
        if not for_types_only(child):
            yield from nodes(child)


def targets(node: ast.AST, importer: str, package: bool) -> list[str]:
    """Dotted names that an import statement needs; a name of the facade counts as its home."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = importer.split(".")
    up = node.level - 1 if package else node.level
    stem = ".".join([*(base[: len(base) - up] if node.level else []), *filter(None, [node.module])])
    found = []
    for alias in node.names:
        whole = f"{stem}.{alias.name}"
        if stem == "anatune" and alias.name in anatune._HOME and whole not in modules():
            whole = anatune._HOME[alias.name]
        found.append(whole if whole in modules() or stem == "anatune" else stem)
    return found


@cache
def imports(module: str) -> tuple[str, ...]:
    file = modules()[module]
    tree = ast.parse(file.read_text(encoding="utf-8"))
    package = file.name == "__init__.py"
    return tuple(dict.fromkeys(t for node in nodes(tree) for t in targets(node, module, package)))


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def inside() -> list[tuple[str, str]]:
    """(importer, imported) of all imports from one room of the house to another."""
    return [
        (module, target)
        for module in modules()
        if room(module)
        for target in imports(module)
        if target.split(".")[0] == "anatune" and room(target) and room(module) != room(target)
    ]


def test_every_room_has_a_rank():
    assert {room(module) for module in modules()} - {""} <= set(RANK)


def test_imports_are_seen():
    """The reader of imports reads: lazy ones, submodules, names of the facade."""
    pairs = set(inside())
    assert ("anatune.tune", "anatune.codegen.target") in pairs  # inside a function
    assert ("anatune.api", "anatune.model.candidates") in pairs  # a submodule by `from package`
    assert ("anatune.codegen.build", "anatune.plan") in pairs


def test_imports_point_down():
    up = [f"{a} -> {b}" for a, b in inside() if RANK[room(b)] >= RANK[room(a)]]
    assert not up


@pytest.mark.parametrize(("importer", "imported"), STRANGERS)
def test_strangers(importer, imported):
    assert not [f"{a} -> {b}" for a, b in inside() if (room(a), room(b)) == (importer, imported)]


def test_nothing_that_decides_knows_tvm():
    low = [m for m in modules() if room(m) and RANK[room(m)] <= DECIDES]
    known = [
        f"{m} -> {t}" for m in low for t in imports(m) if t.split(".")[0] in ("tvm", "tvm_ffi")
    ]
    assert low and not known


def test_no_cycle():
    """Between any two modules, packages and their own parts included."""
    graph = {m: {t for t in imports(m) if t in modules() and t != m} for m in modules()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"cycle: {' -> '.join(error.args[1])}")


def test_modules_say_their_rank():
    stated = {m: re.search(r"\(rank (\d+)", docstring(m)) for m in modules() if room(m)}
    wrong = {m: s[1] for m, s in stated.items() if s and int(s[1]) != int(RANK[room(m)])}
    assert any(stated.values()) and not wrong
