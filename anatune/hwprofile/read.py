"""Document tree -> cells: each fact with its source, checked against the format (rank 1).

Cells are flat, so that a parent and a child merge by path and each fact keeps the source it was
written with. Problems are collected, not raised: a file is reported on whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from anatune.hwprofile.grammar import Block, Fact, Header, Item, Kind, Listed, Table
from anatune.hwprofile.profile import Source
from anatune.hwprofile.schema import CHANGES, FORMAT, OLDEST_VERSION, SOURCE, VERSION, Path
from anatune.hwprofile.values import is_name, nearest, one_line, parse_value
from anatune.units import clip

_VALUE_KEYS = ("value", "source", "note")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One fact as a file states it; a null has no source."""

    fact: Fact
    value: object
    source: str | None = None
    note: str | None = None


@dataclass
class Reading:
    """What one file says and what is wrong with it; ``order`` has keys out of canonical order."""

    cells: dict[Path, Cell] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)
    like: str | None = None
    absent: set[Path] = field(default_factory=set)  # blocks that are null
    problems: list[str] = field(default_factory=list)
    order: list[str] = field(default_factory=list)

    def refuse(self, path: Path, why: str) -> None:
        self.problems.append(f"{'.'.join(path)}: {why}" if path else why)


def read(tree: object) -> Reading:
    """All cells of one document; `Reading.problems` is empty if each is well-formed by itself."""
    reading = Reading()
    if not isinstance(tree, dict):
        reading.refuse((), "a profile is a mapping of keys: see hwprofiles/README.md")
        return reading
    _read_version(tree.get("schema"), reading)
    if reading.problems:  # of another version every other message would mislead
        return reading
    _read_like(tree.get("like"), reading)
    _read_sources(tree.get("sources"), reading)
    _read_block(FORMAT, tree, (), None, reading)
    used = {cell.source for cell in reading.cells.values()}
    for name in reading.sources.keys() - used:
        reading.refuse(("sources", name), "no number uses it: remove it, or name it as a source")
    return reading


def _read_version(version: object, reading: Reading) -> None:
    if not isinstance(version, int) or isinstance(version, bool):
        reading.refuse(("schema",), f"{clip(version)} is not a version: write schema: {VERSION}")
    elif version > VERSION:
        reading.refuse(
            ("schema",), f"{version} is newer than this anatune reads ({VERSION}): update anatune"
        )
    elif version < OLDEST_VERSION:
        changes = "; ".join(f"{v}: {text}" for v, text in CHANGES.items() if v > version)
        reading.refuse(("schema",), f"{version} is no longer read: change the file for {changes}")


def _read_like(like: object, reading: Reading) -> None:
    if like is None:
        return
    if is_name(like):
        reading.like = like
    else:
        reading.refuse(("like",), f"{clip(like)} is not the name of a profile")


def _read_sources(tree: object, reading: Reading) -> None:
    if not isinstance(tree, dict):
        if tree is not None:
            reading.refuse(("sources",), "write a mapping from names to sources")
        return
    for name, entry in tree.items():
        path = ("sources", name)
        if not is_name(name):
            reading.refuse(("sources",), f"{clip(name)} is not a {Kind.NAME.value}")
            continue
        if not isinstance(entry, dict):
            reading.refuse(path, "write {kind: document, where: ...}")
            continue
        inner = Reading()
        _read_block(SOURCE, entry, path, None, inner)
        reading.problems += inner.problems
        values = {cell.fact.attr: cell.value for cell in inner.cells.values()}
        missing = {"kind", "where"} - values.keys()
        if missing:
            reading.refuse(path, f"has no {min(missing)}")
        elif not inner.problems:
            reading.sources[name] = Source(name=name, **values)  # type: ignore[arg-type]


def _read_block(
    block: Block, tree: Mapping[str, object], path: Path, source: str | None, reading: Reading
) -> None:
    items = {item.key: item for item in block.items}
    takes_source = block is not FORMAT and any(_may_cite(item) for item in block.items)
    if takes_source and "source" in tree:
        source = _source_name(tree["source"], path, reading)
    for key in tree:
        if key not in items and not (takes_source and key == "source"):
            reading.refuse(path, f"unknown key {clip(key)}{nearest(key, items)}")
    given = [key for key in tree if key in items]
    if given != [key for key in items if key in tree]:
        canonical = ", ".join(key for key in items if key in tree)
        reading.order.append(f"{'.'.join(path) or 'top level'}: order of keys: write {canonical}")
    for key in given:
        _read_item(items[key], tree[key], (*path, key), source, reading)


def _may_cite(item: Item) -> bool:
    return not isinstance(item, Header) and not (isinstance(item, Fact) and not item.sourced)


def _read_item(item: Item, value: object, path: Path, source: str | None, reading: Reading) -> None:
    if isinstance(item, Header):
        return
    if isinstance(item, Fact):
        _read_fact(item, value, path, source, reading)
    elif value is None:
        reading.absent.add(path)
    elif isinstance(item, Listed):
        _read_list(item, value, path, source, reading)
    elif not isinstance(value, dict):
        reading.refuse(path, f"{clip(value)} is not a mapping of keys")
    elif isinstance(item, Table):
        for key, entry in value.items():
            if key in item.keys:
                _read_fact(item.value, entry, (*path, key), source, reading)
            else:
                reading.refuse(path, f"unknown data type {clip(key)}{nearest(key, item.keys)}")
    else:
        _read_block(item, value, path, source, reading)


def _read_list(
    item: Listed, value: object, path: Path, source: str | None, reading: Reading
) -> None:
    if not isinstance(value, list):
        reading.refuse(
            path, f"{clip(value)} is not a list: start each entry with '- {item.identity}:'"
        )
        return
    identity = next(i for i in item.block.items if i.key == item.identity)
    seen = set()
    for number, entry in enumerate(value, start=1):
        where = (*path, f"({number})")
        if not isinstance(entry, dict) or item.identity not in entry:
            reading.refuse(where, f"an entry starts with '{item.identity}:'")
            continue
        own = Reading()
        _read_item(identity, entry[item.identity], (*where, item.identity), None, own)
        name = str(entry[item.identity])
        if own.problems:
            reading.problems += own.problems
        elif name in seen:
            reading.refuse(path, f"{item.identity} {name} is given twice")
        else:
            seen.add(name)
            _read_block(item.block, entry, (*path, name), source, reading)


def _read_fact(fact: Fact, value: object, path: Path, source: str | None, reading: Reading) -> None:
    note = None
    if fact.sourced and isinstance(value, dict):
        for key in value.keys() - set(_VALUE_KEYS):
            reading.refuse(path, f"unknown key {clip(key)}{nearest(key, _VALUE_KEYS)}")
        if value.get("value") is None:
            reading.refuse(path, "has no value: write null in place of the whole entry")
            return
        if "source" in value:
            source = _source_name(value["source"], path, reading)
        note = _note(value.get("note"), path, reading)
        value = value["value"]
    if value is None:
        reading.cells[path] = Cell(fact=fact, value=None)
        return
    try:
        parsed = parse_value(fact, value)
    except ValueError as error:  # UnitError is one
        reading.refuse(path, str(error))
        return
    if fact.sourced and source is None:
        reading.refuse(path, "has no source: add source: here or to the block")
    cited = source if fact.sourced else None
    reading.cells[path] = Cell(fact=fact, value=parsed, source=cited, note=note)


def _note(value: object, path: Path, reading: Reading) -> str | None:
    if value is None:
        return None
    try:
        return one_line(value)
    except ValueError as error:
        reading.refuse((*path, "note"), str(error))
        return None


def _source_name(value: object, path: Path, reading: Reading) -> str | None:
    if isinstance(value, str) and value in reading.sources:
        return value
    names = tuple(reading.sources)
    near = nearest(value, names) if isinstance(value, str) else ""
    reading.refuse((*path, "source"), f"{clip(value)} is not in sources{near}")
    return None
