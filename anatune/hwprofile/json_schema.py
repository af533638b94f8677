"""The profile format as a JSON schema, for editors and other tools (rank 1).

It is made from the same declaration as the loader's checks, and says less than they do: sources,
sums and what a parent may supply are beyond a schema.
"""

from __future__ import annotations

import re

from anatune.hwprofile.grammar import Block, Fact, Header, Item, Kind, Listed, Need, Table
from anatune.hwprofile.schema import FORMAT, NAME_PATTERN, OLDEST_VERSION, SOURCE, VERSION
from anatune.hwprofile.values import MAX_TEXT
from anatune.units import QUANTITIES, Quantity

Schema = dict[str, object]

_NUMBER = r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?"
_NAME: Schema = {"type": "string", "pattern": f"^{NAME_PATTERN}$"}
_TEXT: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}
_NULL: Schema = {"type": "null"}
_CITED: Schema = {"$ref": "#/$defs/cited"}


def json_schema() -> Schema:
    """The schema of one profile file, a fresh dictionary."""
    root = _block(FORMAT)
    required = [item.key for item in FORMAT.items if _always(item)]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "anatune hardware profile",
        "$comment": "made from anatune/hwprofile/schema.py; the loader checks more than this",
        **root,
        "required": ["schema", *required],
        "anyOf": [{"required": ["like"]}, {"required": ["target", "sources"]}],
        "$defs": _definitions(),
    }


def _always(item: Item) -> bool:
    return isinstance(item, Fact) and item.need is Need.REQUIRED


def _block(block: Block) -> Schema:
    properties = {item.key: _about(item, _item(item)) for item in block.items}
    if block is not FORMAT and block is not SOURCE:
        properties["source"] = {**_NAME, "description": "of every number here that names no other"}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _about(item: Item, schema: Schema) -> Schema:
    return {"description": item.about, **schema} if item.about else schema


def _item(item: Item) -> Schema:
    if isinstance(item, Fact):
        return _fact(item)
    if isinstance(item, Header):
        return _header(item)
    if isinstance(item, Listed):
        return {"type": "array", "items": {**_block(item.block), "required": [item.identity]}}
    if isinstance(item, Table):
        properties = {key: _fact(item.value) for key in item.keys}
        table = {"type": "object", "additionalProperties": False, "properties": properties}
        return {"anyOf": [table, _NULL]}
    return {"anyOf": [_block(item), _NULL]}


def _header(header: Header) -> Schema:
    if header.key == "schema":
        return {"type": "integer", "minimum": OLDEST_VERSION, "maximum": VERSION}
    if header.key == "like":
        return _NAME
    required = [item.key for item in SOURCE.items if _always(item)]
    return {
        "type": "object",
        "propertyNames": _NAME,
        "additionalProperties": {**_block(SOURCE), "required": required},
    }


def _fact(fact: Fact) -> Schema:
    if isinstance(fact.kind, Quantity):
        return {"$ref": f"#/$defs/{_definition_name(fact.kind)}"}
    scalar = _plain(fact)
    return {"anyOf": [scalar, _CITED, _NULL]} if fact.sourced else scalar


def _definition_name(quantity: Quantity) -> str:
    return quantity.base.replace("/", " per ")  # a slash would part the reference


def _definitions() -> Schema:
    """What many keys share: quantities with their units, and a value with its source."""
    quantities = {_definition_name(quantity): _quantity(quantity) for quantity in QUANTITIES}
    properties: Schema = {"value": {"type": ["string", "number"]}, "source": _NAME, "note": _TEXT}
    cited = {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "required": ["value"],
    }
    return {"cited": cited, **quantities}


def _quantity(quantity: Quantity) -> Schema:
    units = "|".join(re.escape(unit) for unit in quantity.units)
    text = {"type": "string", "pattern": f"^{_NUMBER} ?({units})$", "examples": [quantity.example]}
    return {"anyOf": [text, _CITED, _NULL]}


def _plain(fact: Fact) -> Schema:
    if fact.words:
        return {"enum": list(fact.words)}
    if fact.kind is Kind.COUNT:
        return {"type": "integer", "minimum": int(fact.low), "maximum": int(fact.high)}
    if fact.kind is Kind.NUMBER:
        return {"type": "number", "minimum": fact.low, "maximum": fact.high}
    if fact.kind is Kind.COUNTS:
        return {"type": "array", "items": {"type": "integer", "minimum": int(fact.low)}}
    if fact.kind is Kind.WORDS:
        return {"type": "array", "items": _TEXT}
    if fact.kind is Kind.FLAG:
        return {"type": "boolean"}
    return _NAME if fact.kind is Kind.NAME else _TEXT
