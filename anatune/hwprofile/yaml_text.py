"""Dicts, lists and scalars -> the YAML that `strict_yaml` reads, laid out for people (rank 1)."""

from __future__ import annotations

import re

from anatune.hwprofile import strict_yaml

LINE = 100  # columns; a longer mapping is written one key per line

# Text that no YAML rule can read as anything else; the rest is quoted.
_PLAIN = re.compile(r"[A-Za-z0-9/][A-Za-z0-9 _./+()-]*(?<! )", re.ASCII)


def write(tree: dict[str, object]) -> str:
    """One document; what fits on a line is written on one."""
    return "".join(f"{line}\n" for key, value in tree.items() for line in _lines(key, value, ""))


def _lines(key: str, value: object, indent: str) -> list[str]:
    line = f"{indent}{key}: {_flow(value)}"
    nested = _holds_block(value)
    if not isinstance(value, (dict, list)) or not value or (len(line) <= LINE and not nested):
        return [line]
    if isinstance(value, dict):
        inner = [text for k, v in value.items() for text in _lines(k, v, f"{indent}  ")]
        return [f"{indent}{key}:", *inner]
    return [f"{indent}{key}:", *(text for entry in value for text in _entry(entry, f"{indent}  "))]


def _entry(entry: object, indent: str) -> list[str]:
    """One entry of a list: a dash before the first of its lines."""
    line = f"{indent}- {_flow(entry)}"
    if not isinstance(entry, dict) or (len(line) <= LINE and not _holds_block(entry)):
        return [line]
    inner = [text for k, v in entry.items() for text in _lines(k, v, f"{indent}  ")]
    return [f"{indent}- {inner[0].lstrip()}", *inner[1:]]


def _holds_block(value: object) -> bool:
    """Lists of mappings, and mappings of mappings of mappings, read badly on one line."""
    if isinstance(value, list):
        return any(isinstance(entry, dict) for entry in value)
    inner = list(value.values()) if isinstance(value, dict) else []
    return any(_holds_block(v) or (isinstance(v, dict) and "where" in v) for v in inner)


def _flow(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(entry) for entry in value) + "]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _quoted(value) if isinstance(value, str) else repr(value)


def _quoted(text: str) -> str:
    if _PLAIN.fullmatch(text) and strict_yaml.is_text(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
