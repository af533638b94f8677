"""Whatever the loader is given, it answers with a profile or with one line that says why not."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from anatune.errors import ProfileError, UnitError
from anatune.hwprofile import (
    Profile,
    check_file,
    content_hash,
    dump_profile,
    parse_profile,
    strict_yaml,
)
from anatune.hwprofile.schema import FORMAT, SOURCE

GOOD = (Path(__file__).parents[1] / "hwprofiles" / "zen5.yaml").read_text()
TREE = strict_yaml.parse(GOOD, "zen5")
quick = settings(max_examples=100, deadline=None)

LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from(["48 KiB", "0 B", "1e99 GHz", "4 cycles", "sysfs", "zen5", 10**400])
)  # fmt: skip
KEYS = st.text(max_size=8) | st.sampled_from(
    [item.key for item in (*FORMAT.items, *SOURCE.items)]
    + ["value", "source", "note", "level", "caches", "clock"]
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=30,
)


def answers(text: str) -> Profile | None:
    """The profile, or None where the text is refused in form; anything else fails the test."""
    try:
        profile = parse_profile(text, "zen5")
    except (ProfileError, UnitError) as error:
        message = str(error)
        assert message and "\n" not in message and len(message) < 1000
        return None
    assert isinstance(profile, Profile)
    assert parse_profile(dump_profile(profile), "zen5") == profile
    assert len(content_hash(profile)) == 64
    return profile


def yaml_of(tree: object) -> str:
    """JSON is YAML, and needs no writer that might avoid what is being tried."""
    return json.dumps(tree, ensure_ascii=False)


@given(st.text())
@example("")
@example("\x00")
@example("\ud800")
@example("﻿schema: 1")
@example("? [a]\n: b")
@example("<<: {schema: 1}")
@example("- - - -")
@example("%YAML 9.9\n---\n{}")
@example("%YAML " + "1" * 5000 + ".1\n---\n{}")
@example('"\\UFFFFFFFF"')
@example('"\\xZZ"')
@example("!!python/object/apply:os.system ['true']")
@example("!%FF%FE x")
@example("!!timestamp x")
@example("a: &a [*a]")
@example("a: *b")
@example("[" * 30000)
@example("{a: " * 15000)
@example("- " * 30000)
@example("schema: 1\n" * 2)
@example("schema: " + "9" * 60000)
@example("schema: -1")
@quick
def test_any_text(text: str) -> None:
    answers(text)


@given(st.binary(max_size=400))
@quick
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "zen5.yaml"
    file.write_bytes(data)
    problems = check_file(file)
    assert problems and all("\n" not in problem for problem in problems)


@given(TREES)
@quick
def test_any_tree(tree: object) -> None:
    answers(yaml_of(tree))


@given(st.dictionaries(KEYS, TREES, max_size=6))
@quick
def test_any_tree_of_this_version(tree: dict[str, object]) -> None:
    answers(yaml_of({**tree, "schema": 1}))


def places_of(tree: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """Paths of all nodes below the root."""
    if isinstance(tree, dict):
        inner = list(tree.items())
    else:
        inner = list(enumerate(tree)) if isinstance(tree, list) else []
    return [
        place for key, node in inner for place in ((*path, key), *places_of(node, (*path, key)))
    ]


PLACES = places_of(TREE)


def replaced(path: tuple[object, ...], value: object, remove: bool = False) -> object:
    tree = json.loads(json.dumps(TREE))
    node = tree
    for key in path[:-1]:
        node = node[key]
    if remove:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return tree


def test_the_tree_itself_is_good() -> None:
    assert answers(yaml_of(TREE)) == parse_profile(GOOD, "zen5")


@given(st.sampled_from(PLACES), TREES)
@quick
def test_one_node_replaced(path: tuple[object, ...], value: object) -> None:
    answers(yaml_of(replaced(path, value)))


@pytest.mark.parametrize("value", [None, True, -1, 10**30, "x", [], {"value": {}}])
def test_every_node_replaced(value: object) -> None:
    for path in PLACES:
        answers(yaml_of(replaced(path, value)))


def test_every_node_removed() -> None:
    for path in PLACES:
        answers(yaml_of(replaced(path, None, remove=True)))


@given(st.randoms(use_true_random=False), st.integers(1, 4))
@quick
def test_characters_changed(source: random.Random, edits: int) -> None:
    text = GOOD
    for _ in range(edits):
        start = source.randrange(len(text))
        end = min(len(text), start + source.choice((0, 0, 1, 1, 2, 40)))
        text = (
            text[:start]
            + source.choice(
                ("", "0", " ", "\n", ":", "{", "}", "-", "#", "'", '"', "é", "\t", "9" * 20)
            )
            + text[end:]
        )
    answers(text)


def test_wide_documents_are_answered() -> None:
    many = "".join(f"- {{name: c{i}}}\n" for i in range(4000))
    assert (
        answers(
            f"schema: 1\nname: zen5\ntitle: x\ntarget: {{isa: x86_64, mcpu: y}}\ncores:\n{many}"
        )
        is None
    )
    assert answers("schema: 1\n" + "".join(f"k{i}: {i}\n" for i in range(5000))) is None


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for tag in (
        "!!python/object/apply:os.mkdir",
        "!!python/object/new:os.mkdir",
        "!!python/name:os.mkdir",
    ):
        assert answers(f"schema: 1\ntitle: {tag} [{str(mark)!r}]\n") is None
    assert not mark.exists()
