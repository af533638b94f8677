"""The part of YAML that profiles use: text -> dicts, lists and scalars, nothing else (rank 1).

Narrower than YAML on purpose. Plain scalars are null, true, false, numbers in decimal, or text, so
``on``, ``1:30`` and dates stay text. Anchors, aliases, tags and repeated keys are refused, which
also refuses every document that grows while it is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from anatune.errors import ProfileError

MAX_BYTES = 64 * 1024
MAX_DEPTH = 12
MAX_DIGITS = 18  # of a whole number: fits 64 bits

_WHOLE = re.compile(rf"-?\d{{1,{MAX_DIGITS}}}", re.ASCII)
_FRACTION = re.compile(rf"-?\d{{1,{MAX_DIGITS}}}\.\d{{1,{MAX_DIGITS}}}", re.ASCII)
_WORDS = {"null": None, "~": None, "": None, "true": True, "false": False}


def parse(text: str, name: str) -> object:
    """The one document in ``text``; ``name`` leads every message."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise ProfileError(
            f"{name}: more than {MAX_BYTES // 1024} KiB: keep samples out of profiles"
        )
    try:
        return _document(yaml.parse(text, Loader=yaml.SafeLoader), name)
    # PyYAML lets ValueError escape for escapes and directives that name impossible numbers.
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        if isinstance(error, ProfileError):
            raise
        raise ProfileError(f"{name}: not readable as YAML: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    where = f"line {mark.line + 1}: " if mark is not None else ""
    return where + " ".join(str(problem).split())[:120]


def _document(events: Iterator[yaml.Event], name: str) -> object:
    documents: list[object] = []
    for event in events:
        if isinstance(event, yaml.NodeEvent):
            if documents:
                raise ProfileError(
                    f"{name}: line {_line(event)}: a second document: keep one per file"
                )
            documents.append(_node(event, events, name, depth=0))
    return documents[0] if documents else None


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark is not None else 0


def _node(event: yaml.Event, events: Iterator[yaml.Event], name: str, depth: int) -> object:
    _plain_node(event, name, depth)
    if isinstance(event, yaml.ScalarEvent):
        return _scalar(event)
    if isinstance(event, yaml.SequenceStartEvent):
        items = []
        while not isinstance(item := next(events), yaml.SequenceEndEvent):
            items.append(_node(item, events, name, depth + 1))
        return items
    return _mapping(events, name, depth)


def _mapping(events: Iterator[yaml.Event], name: str, depth: int) -> dict[str, object]:
    mapping: dict[str, object] = {}
    while not isinstance(key_event := next(events), yaml.MappingEndEvent):
        if not isinstance(key_event, yaml.ScalarEvent):
            raise ProfileError(f"{name}: line {_line(key_event)}: a key must be a word")
        _plain_node(key_event, name, depth)
        key = key_event.value
        if key in mapping:
            raise ProfileError(f"{name}: line {_line(key_event)}: key {key[:40]!r} is given twice")
        mapping[key] = _node(next(events), events, name, depth + 1)
    return mapping


def _plain_node(event: Any, name: str, depth: int) -> None:
    """Refuse what YAML has and profiles do not: anchors, aliases, tags, deep nesting."""
    where = f"{name}: line {_line(event)}"
    if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
        raise ProfileError(
            f"{where}: anchors and aliases (&, *) are not read: write the value again"
        )
    if event.tag is not None:
        raise ProfileError(f"{where}: tags (!) are not read: write the plain value")
    if depth > MAX_DEPTH:
        raise ProfileError(f"{where}: nested more than {MAX_DEPTH} deep")


def _scalar(event: yaml.ScalarEvent) -> object:
    # Quoted or a block: text, whatever it says.
    return event.value if event.style is not None else _plain_scalar(event.value)


def _plain_scalar(value: str) -> object:
    if value in _WORDS:
        return _WORDS[value]
    if _WHOLE.fullmatch(value):
        return int(value)
    return float(value) if _FRACTION.fullmatch(value) else value


def is_text(value: str) -> bool:
    """Whether ``value`` stays text without quotes."""
    return isinstance(_plain_scalar(value), str)
