"""The words in which the profile format is declared: facts, tables, blocks and lists (rank 1)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from anatune.units import Quantity

DTYPES = (
    "float64", "float32", "tf32", "float16", "bfloat16", "float8", "int32", "int16", "int8",
)  # fmt: skip


class Kind(Enum):
    """Values without a unit."""

    COUNT = "whole number"
    NUMBER = "number"
    FLAG = "true or false"
    TEXT = "one line of text"
    NAME = "name of a-z, 0-9 and _"
    WORDS = "list of words"
    COUNTS = "list of whole numbers"


class Need(Enum):
    REQUIRED = "required"
    NULLABLE = "null when unknown"  # the model can do without, and a measurement can find it
    OPTIONAL = "optional"  # absent means the noun's default


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One value; ``attr`` is the noun's field, empty for what only the file has."""

    key: str
    attr: str = ""
    kind: Quantity | Kind
    need: Need = Need.REQUIRED
    low: float = 1
    high: float = 1e6
    words: tuple[str, ...] = ()  # the only texts accepted
    sourced: bool = True
    repeats: bool = False  # can be computed from other facts, and is compared with them
    about: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Values of one kind by data type; a tuple of pairs in the noun."""

    key: str
    attr: str
    value: Fact
    keys: tuple[str, ...] = DTYPES
    about: str = ""


@dataclass(frozen=True, kw_only=True)
class Block:
    """Keys under a key; without a ``noun`` its facts are fields of the enclosing noun."""

    key: str
    items: tuple[Item, ...]
    noun: str = ""
    attr: str = ""
    need: Need = Need.OPTIONAL
    cpu_only: bool = False  # its unknown facts are not missed elsewhere
    about: str = ""


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A list of blocks, each known by the value of its ``identity`` key."""

    key: str
    attr: str
    block: Block
    identity: str
    about: str = ""


@dataclass(frozen=True, kw_only=True)
class Header:
    """A key that the loader handles itself: it is about the file, not about the machine."""

    key: str
    about: str = ""


Item = Fact | Table | Block | Listed | Header
