"""One line of a store as it stands there, whoever wrote it (rank 7)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

from anatune.records.record import KEY_DIGITS, SCHEMA, Record

HEAD = f'{{"schema":{SCHEMA},"key":"'.encode()
"""Beginning of every line that is written here; the key follows."""

ID_DIGITS = 12
"""Hex digits by which people name a line: 48 bits tell a million lines apart."""


class State(str, Enum):
    """What can be made of a line."""

    RECORD = "record"
    FOREIGN = "foreign"  # of another version or kind: kept, not used
    TORN = "torn"  # cut by a kill, or never a line of a store


@dataclass(frozen=True)
class Line:
    """A line without its end."""

    raw: bytes

    @cached_property
    def id(self) -> str:
        return hashlib.sha256(self.raw).hexdigest()[:ID_DIGITS]

    @property
    def fields(self) -> dict[str, Any] | None:
        """What it states; None where it is no JSON object that names its schema."""
        try:
            fields = json.loads(self.raw)
        except (ValueError, RecursionError):
            return None
        return fields if isinstance(fields, dict) and "schema" in fields else None

    @cached_property
    def record(self) -> Record | None:
        fields = self.fields
        if fields is None:
            return None
        try:
            return Record.from_fields(fields)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            return None

    @property
    def state(self) -> State:
        if self.record is not None:
            return State.RECORD
        return State.TORN if self.fields is None else State.FOREIGN

    def may_be(self, kind: str | None) -> bool:
        """Whether it may be a record of a kind, unparsed; None: of any."""
        if kind is None or not self.raw.startswith(HEAD):
            return True
        return self.raw[len(HEAD) + KEY_DIGITS :].startswith(f'","kind":"{kind}"'.encode())

    @property
    def key(self) -> bytes:
        """The record's key, unparsed where the line begins as ours do; empty if it has none."""
        if self.raw.startswith(HEAD):
            return self.raw[len(HEAD) : len(HEAD) + KEY_DIGITS]
        return b"" if self.record is None else self.record.key.encode()
