"""`Profile` -> profile text in canonical form, and the hash of what it states (rank 1)."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, fields

from anatune.errors import ProfileError
from anatune.hwprofile.grammar import Block, Fact, Header, Item, Kind, Listed, Need, Table
from anatune.hwprofile.profile import Citation, Profile, hardware_threads
from anatune.hwprofile.schema import FORMAT, SOURCE, VERSION, Path, facts
from anatune.hwprofile.yaml_text import write

_LABELS = ("title",)  # what a hash of the facts leaves out, besides the sources


def content_hash(profile: Profile) -> str:
    """SHA-256, in hex, over all facts: profiles that differ in title and sources alone agree."""
    stated = [
        [".".join(path), _comparable(value)]
        for path, _, value in facts(profile)
        if path[0] not in _LABELS
    ]
    return hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()


def _comparable(value: object) -> object:
    """4 and 4.0 are one fact."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number else value  # type: ignore[arg-type]


def dump_profile(profile: Profile) -> str:
    """Text that `parse_profile` reads back as an equal profile; parents are written out."""
    return write(_Writer(profile).tree())


@dataclass(frozen=True)
class _Cited:
    """A written value that needs its source beside it, or around it."""

    value: object
    citation: Citation


class _Writer:
    """Walks the format beside one profile's nouns; holds the citations, which belong to paths."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.citations = {citation.fact: citation for citation in profile.citations}

    def tree(self) -> dict[str, object]:
        tree = self._block(FORMAT, self.profile, ())
        headers = {"schema": VERSION, "sources": self._sources()}
        return {
            item.key: headers.get(item.key, tree.get(item.key))
            for item in FORMAT.items
            if item.key in headers or item.key in tree
        }

    def _sources(self) -> dict[str, object]:
        used = {citation.source for citation in self.profile.citations}
        sources = [source for source in self.profile.sources if source.name in used]
        return {source.name: self._block(SOURCE, source, ()) for source in sources}

    def _block(self, block: Block, noun: object, path: Path) -> dict[str, object]:
        tree: dict[str, object] = {}
        for item in block.items:
            if not isinstance(item, Header) and not self._left_out(item, noun):
                tree[item.key] = self._item(item, noun, (*path, item.key))
        return _with_sources({key: value for key, value in tree.items() if value != {}}, block)

    def _left_out(self, item: Item, noun: object) -> bool:
        """What is absent in the canonical form: defaults, and totals other than sizes."""
        if isinstance(item, Block):
            absent = item.attr and getattr(noun, item.attr) is None and item.need is Need.OPTIONAL
            return bool(absent) or (item.cpu_only and not self.profile.cores)
        if isinstance(item, Fact):
            return not item.attr or (
                item.need is Need.OPTIONAL and getattr(noun, item.attr) is None
            )
        return not getattr(noun, item.attr)  # type: ignore[union-attr]

    def _item(self, item: Item, noun: object, path: Path) -> object:
        if isinstance(item, Fact):
            return self._fact(item, noun, path)
        if isinstance(item, Table):
            pairs = getattr(noun, item.attr)
            table = {key: self._cited(item.value, value, (*path, key)) for key, value in pairs}
            return _with_sources(table, None)
        if isinstance(item, Listed):
            return [
                self._block(item.block, entry, (*path, str(getattr(entry, item.identity))))
                for entry in getattr(noun, item.attr)
            ]
        assert isinstance(item, Block)
        inner = getattr(noun, item.attr) if item.attr else noun
        return None if inner is None else self._block(item, inner, path)

    def _fact(self, fact: Fact, noun: object, path: Path) -> object:
        value = getattr(noun, fact.attr)
        if fact.need is Need.OPTIONAL and not fact.repeats and ".".join(path) not in self.citations:
            if value == self._default(fact, noun):
                return {}
        return self._cited(fact, value, path)

    def _default(self, fact: Fact, noun: object) -> object:
        if noun is self.profile and fact.attr == "usable_threads":
            return hardware_threads(self.profile.cores) or 1
        known = {field.name: field.default for field in fields(noun)}  # type: ignore[arg-type]
        return known[fact.attr]

    def _cited(self, fact: Fact, value: object, path: Path) -> object:
        text = _value_text(fact, value)
        if value is None or not fact.sourced:
            return text
        # A size follows from the sets beside it, and so does its source.
        known = (*path[:-1], "sets") if fact.repeats else path
        citation = self.citations.get(".".join(known))
        if citation is None:
            raise ProfileError(
                f"{'.'.join(path)} has no citation: a number is not written without a source"
            )
        return _Cited(text, Citation(fact="", source=citation.source) if fact.repeats else citation)


def _value_text(fact: Fact, value: object) -> object:
    if value is None or fact.kind in (Kind.TEXT, Kind.NAME, Kind.FLAG, Kind.COUNT):
        return value
    if fact.kind is Kind.NUMBER:
        return int(value) if value == int(value) else value  # type: ignore[call-overload]
    if isinstance(fact.kind, Kind):
        return list(value)  # type: ignore[call-overload]
    return fact.kind.text(value)  # type: ignore[arg-type]


def _with_sources(tree: dict[str, object], block: Block | None) -> dict[str, object]:
    """Sources put in: the commonest one once for the block, the others beside their values."""
    counts = Counter(value.citation.source for value in tree.values() if isinstance(value, _Cited))
    shared = None
    if block is not None and block is not FORMAT and counts and max(counts.values()) > 1:
        shared = counts.most_common(1)[0][0]
    written = {key: _written(value, shared) for key, value in tree.items()}
    return written if shared is None else {**written, "source": shared}


def _written(value: object, shared: str | None) -> object:
    if not isinstance(value, _Cited):
        return value
    citation = value.citation
    source = {} if citation.source == shared else {"source": citation.source}
    note = {} if citation.note is None else {"note": citation.note}
    return {"value": value.value, **source, **note} if source or note else value.value
