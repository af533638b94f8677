"""Profile text -> `Profile`: read, merge with parents, build the nouns, test the laws (rank 1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from anatune.errors import ProfileError
from anatune.hwprofile import profile as nouns
from anatune.hwprofile import strict_yaml
from anatune.hwprofile.grammar import Block, Fact, Listed, Need, Table
from anatune.hwprofile.laws import contradictions
from anatune.hwprofile.places import SUFFIX, find, read_text
from anatune.hwprofile.profile import Citation, Profile
from anatune.hwprofile.read import Cell, Reading, read
from anatune.hwprofile.schema import FORMAT, Path, facts

MAX_PARENTS = 8

_OWN = ("name", "title")  # facts that a parent never hands down

Refuse = Callable[[Path, str], None]


@dataclass(frozen=True, kw_only=True)
class Examined:
    """A file's verdict: the profile if there are no problems, and keys that are out of order."""

    profile: Profile | None
    problems: tuple[str, ...]
    order: tuple[str, ...]


def parse_profile(text: str, name: str, file: object = None) -> Profile:
    """The profile in ``text``, whose file is called ``name``; ProfileError has the first fault.

    ``file`` is where the text comes from, for the command in that error that shows all faults.
    """
    examined = examine(text, name)
    if examined.profile is None:
        first, *others = examined.problems
        command = f"anatune profile check {file or name + SUFFIX}"
        more = f" (and {len(others)} more: {command})" if others else ""
        raise ProfileError(f"{name}: {first}{more}")
    return examined.profile


def examine(text: str, name: str) -> Examined:
    """Everything that is wrong with ``text``; only what cannot be read as a tree raises."""
    reading = read(strict_yaml.parse(text, name))
    order = tuple(reading.order)
    if not reading.problems:
        reading = _with_parents(reading, name)
    problems = reading.problems
    profile = _build_profile(reading) if not problems else None
    if profile is not None:
        if profile.name != name:
            reading.refuse(
                ("name",), f"{profile.name!r} in a file called {name!r}: give both one name"
            )
        repeated = {path: cell.value for path, cell in reading.cells.items() if cell.fact.repeats}
        for path, why in contradictions(profile, repeated):
            reading.refuse(path, why)
    return Examined(
        profile=profile if not problems else None, problems=tuple(problems), order=order
    )


def _with_parents(child: Reading, name: str) -> Reading:
    seen = [name]
    while child.like is not None:
        if child.like in seen or len(seen) > MAX_PARENTS:
            child.refuse(("like",), f"{child.like!r} leads back or too far: {' > '.join(seen)}")
            return child
        seen.append(child.like)
        parent = read(strict_yaml.parse(read_text(find(child.like)), child.like))
        if parent.problems:
            child.refuse(("like",), f"{child.like!r} is refused: {parent.problems[0]}")
            return child
        child = _merged(parent, child)
    return child


def _merged(parent: Reading, child: Reading) -> Reading:
    """The parent's cells under the child's; totals belong to the file that states them."""
    inherited = {
        path: cell
        for path, cell in parent.cells.items()
        if not cell.fact.repeats and path[0] not in _OWN
        if not any(path[: len(block)] == block for block in child.absent)
    }
    merged = Reading(
        cells={**inherited, **child.cells},
        sources={**parent.sources, **child.sources},
        like=parent.like,
        absent=child.absent | parent.absent,
        problems=child.problems,
    )
    for name in parent.sources.keys() & child.sources.keys():
        if parent.sources[name] != child.sources[name]:
            merged.refuse(
                ("sources", name), "means something else in the parent: choose another name"
            )
    return merged


def _build_profile(reading: Reading) -> Profile | None:
    values = _values(FORMAT, _nested(reading.cells), (), reading.refuse)
    if reading.problems:
        return None
    if "usable_threads" not in values:
        cores: tuple[nouns.CoreKind, ...] = values["cores"]  # type: ignore[assignment]
        values["usable_threads"] = nouns.hardware_threads(cores) or 1
    profile = Profile(**values)  # type: ignore[arg-type]
    return _with_citations(profile, reading)


def _with_citations(profile: Profile, reading: Reading) -> Profile:
    """The profile with a source for each number, in the order of the format."""
    citations = []
    for path, fact, value in facts(profile):
        cell = reading.cells.get(path)
        if cell is not None and cell.source is not None and not cell.fact.repeats:
            citations.append(Citation(fact=".".join(path), source=cell.source, note=cell.note))
    used = {citation.source for citation in citations}
    assumed = {source.name for source in reading.sources.values() if source.kind == "assumed"}
    return replace(
        profile,
        citations=tuple(citations),
        sources=tuple(source for name, source in reading.sources.items() if name in used),
        assumed=tuple(citation.fact for citation in citations if citation.source in assumed),
    )


def _nested(cells: Mapping[Path, Cell]) -> dict[str, object]:
    """Flat paths as a tree: the shape of the nouns."""
    tree: dict[str, object] = {}
    for path, cell in cells.items():
        branch = tree
        for key in path[:-1]:
            branch = branch.setdefault(key, {})  # type: ignore[assignment]
        branch[path[-1]] = cell
    return tree


def _values(
    block: Block, tree: Mapping[str, object], path: Path, refuse: Refuse
) -> dict[str, object]:
    """Arguments of the block's noun; what is required and not there is refused."""
    values: dict[str, object] = {}
    for item in block.items:
        here = (*path, item.key)
        given = tree.get(item.key)
        if isinstance(item, Fact):
            values |= _fact_value(item, given, here, refuse)
        elif isinstance(item, Table):
            cells: Mapping[str, Cell] = given or {}  # type: ignore[assignment]
            pairs = ((key, cells[key].value) for key in item.keys if key in cells)
            values[item.attr] = tuple((key, value) for key, value in pairs if value is not None)
        elif isinstance(item, Listed):
            entries: Mapping[str, Mapping[str, object]] = given or {}  # type: ignore[assignment]
            values[item.attr] = tuple(
                _noun(item.block, entry, (*here, name), refuse) for name, entry in entries.items()
            )
        elif isinstance(item, Block):
            values |= _block_value(item, given, here, refuse)  # type: ignore[arg-type]
    return values


def _fact_value(fact: Fact, cell: object, path: Path, refuse: Refuse) -> dict[str, object]:
    if not fact.attr or fact.repeats:
        return {}
    value = cell.value if isinstance(cell, Cell) else None
    if value is not None or fact.need is Need.NULLABLE:
        return {fact.attr: value}
    if fact.need is Need.REQUIRED:
        refuse(path, "is missing: the model cannot do without it")
    return {}


def _block_value(
    block: Block, tree: Mapping[str, object] | None, path: Path, refuse: Refuse
) -> dict[str, object]:
    if not block.attr:
        return _values(block, tree or {}, path, refuse)
    if tree:
        return {block.attr: _noun(block, tree, path, refuse)}
    if block.need is Need.REQUIRED:
        refuse(path, "is missing: every profile states it")
    return {}


def _noun(block: Block, tree: Mapping[str, object], path: Path, refuse: Refuse) -> object:
    problems: list[str] = []

    def note(where: Path, why: str) -> None:
        problems.append(why)
        refuse(where, why)

    values = _values(block, tree, path, note)
    return getattr(nouns, block.noun)(**values) if not problems else None
