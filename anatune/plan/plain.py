"""Frozen dataclasses from plain JSON values, with every mistake named (rank 3)."""

from __future__ import annotations

import json
import types
import typing
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, get_type_hints

from anatune.errors import IllegalPlan, require
from anatune.workload import Matmul
from anatune.workload.dim import extent_of


def plain(noun: Any) -> Any:
    """``dataclasses.asdict`` of a noun, of products only what they state; other values as is."""
    if isinstance(noun, Matmul):
        return noun.stated()
    if is_dataclass(noun):
        return {field.name: plain(getattr(noun, field.name)) for field in fields(noun)}
    return [plain(item) for item in noun] if isinstance(noun, (list, tuple)) else noun


def json_fields(text: str, kind: str) -> dict[str, Any]:
    """The fields of a plan of ``kind`` from its JSON. Raises IllegalPlan where it is not one."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise IllegalPlan(f"plan: not JSON ({error}); give what to_json returned") from None
    why = f"plan: {fields!r} is not a plan; give what to_json returned"
    require(isinstance(fields, dict), why)
    stated = fields.pop("kind", None)
    require(stated == kind, f"kind = {stated!r}: this version reads plans of kind {kind!r}")
    return dict(fields)


def build(cls: type, fields: Any, path: str) -> Any:
    """An instance of the frozen dataclass ``cls`` from plain JSON values, unknown keys refused."""
    why = f"{path} = {fields!r}: an object with the fields of {cls.__name__}"
    require(isinstance(fields, dict), why)
    known = _known(cls)
    for name in fields:
        why = f"{path}.{name}: unknown field; {cls.__name__} has {', '.join(known)}"
        require(name in known, why)
    try:
        return cls(**{name: _value(known[name], fields[name], f"{path}.{name}") for name in fields})
    except TypeError as error:
        raise IllegalPlan(f"{path}: {error}") from None


@cache
def _known(cls: type) -> dict[str, Any]:
    """Fields by name with their types; evaluated once, as that takes longer than all the rest."""
    return get_type_hints(cls)


def _value(kind: Any, value: Any, path: str) -> Any:
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        if value is None:
            return None
        kind = next(part for part in typing.get_args(kind) if part is not type(None))
    if isinstance(kind, type) and is_dataclass(kind):
        return build(kind, value, path)
    if isinstance(kind, type) and issubclass(kind, Enum):
        choices = ", ".join(repr(item.value) for item in kind)
        require(value in [item.value for item in kind], f"{path} = {value!r}: one of {choices}")
        return kind(value)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is float:
        require(number, f"{path} = {value!r}: a number")
        return float(value)
    if kind is bool:
        require(isinstance(value, bool), f"{path} = {value!r}: true or false")
    if kind is int and isinstance(value, dict):
        return extent_of(value)
    if kind is int:
        whole = number and isinstance(value, int)
        require(whole and value > 0, f"{path} = {value!r}: a whole number above 0")
    if typing.get_origin(kind) is tuple and kind != tuple[str, ...]:
        (item, _) = typing.get_args(kind)
        require(isinstance(value, list | tuple), f"{path} = {value!r}: a list")
        return tuple(_value(item, each, f"{path}[{n}]") for n, each in enumerate(value))
    if kind == tuple[str, ...]:
        texts = isinstance(value, list) and all(isinstance(item, str) for item in value)
        require(texts, f"{path} = {value!r}: a list of texts")
        return tuple(value)
    if kind in (tuple[int, ...], tuple[float, ...]):
        require(isinstance(value, list), f"{path} = {value!r}: a list of numbers")
        member = typing.get_args(kind)[0]
        return tuple(_value(member, item, path) for item in value)
    require(isinstance(value, kind), f"{path} = {value!r}: a text")
    return value
