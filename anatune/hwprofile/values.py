"""One scalar or list of a document -> the value of a fact, or a ValueError saying why (rank 1)."""

from __future__ import annotations

import re
from collections.abc import Collection
from difflib import get_close_matches
from typing import TypeGuard

from anatune.hwprofile.grammar import Fact, Kind
from anatune.hwprofile.schema import NAME_PATTERN
from anatune.units import clip

MAX_TEXT = 200  # characters of one text
MAX_ITEMS = 8192  # of one list

_WORD = re.compile(r"[A-Za-z0-9_.+=-]{1,64}", re.ASCII)
_NAME = re.compile(NAME_PATTERN, re.ASCII)


def parse_value(fact: Fact, value: object) -> object:
    """The fact's value from a scalar or list of the document; ValueError says what is wrong."""
    if isinstance(fact.kind, Kind):
        parsed = _PARSERS[fact.kind](value)
    else:
        parsed = fact.kind.parse(value)
    if fact.words and parsed not in fact.words:
        raise ValueError(f"{clip(value)} is not one of {', '.join(fact.words)}")
    for number in parsed if isinstance(parsed, tuple) else (parsed,):
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            _in_range(fact, number)
    return parsed


def _in_range(fact: Fact, number: float) -> None:
    if not fact.low <= number <= fact.high:
        show = fact.kind.show if not isinstance(fact.kind, Kind) else "{:g}".format
        raise ValueError(
            f"{show(number)} is not plausible: between {show(fact.low)} and {show(fact.high)}"
        )


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{clip(value)} is not a whole number")
    return value


def _number(value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError(f"{clip(value)} is not a number")
    return float(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{clip(value)} is not true or false")
    return value


def one_line(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{clip(value)} is not text: quote it if it is meant as text")
    text = value.strip()
    if len(text) > MAX_TEXT or not text.isprintable():
        raise ValueError(f"{clip(value)} is not one line of at most {MAX_TEXT} characters")
    return text


def is_name(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _name(value: object) -> str:
    if not is_name(value):
        raise ValueError(f"{clip(value)} is not a {Kind.NAME.value}")
    return value


def _list(value: object) -> list[object]:
    if not isinstance(value, list) or len(value) > MAX_ITEMS:
        raise ValueError(f"{clip(value)} is not a list")
    return value


def _words(value: object) -> tuple[str, ...]:
    for word in _list(value):
        if not isinstance(word, str) or not _WORD.fullmatch(word):
            raise ValueError(f"{clip(word)} is not a word")
    return tuple(value)  # type: ignore[arg-type]


def _counts(value: object) -> tuple[int, ...]:
    counts = tuple(_count(entry) for entry in _list(value))
    if len(set(counts)) < len(counts):
        raise ValueError("a number is given twice")
    return counts


_PARSERS = {
    Kind.COUNT: _count,
    Kind.NUMBER: _number,
    Kind.FLAG: _flag,
    Kind.TEXT: one_line,
    Kind.NAME: _name,
    Kind.WORDS: _words,
    Kind.COUNTS: _counts,
}


def nearest(key: str, known: Collection[str]) -> str:
    near = get_close_matches(key[:80], list(known), n=1)
    return f": did you mean {near[0]}?" if near else f": known are {', '.join(known)}"
