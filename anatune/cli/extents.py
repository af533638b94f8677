"""Extents as a command line has them: numbers, or names with their ranges (rank 9)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from anatune.errors import OptionError, require

if TYPE_CHECKING:
    from anatune.workload import Dim

EXTENTS_HELP = """An extent may vary: m=1..512, m=1.. without an upper end, 49*b=1..32 for 49 times
b; a name has its range once (s=1..512 s 64). The plan then serves the whole range."""

FORMS = "write NAME=LOW..HIGH, NAME=LOW.., or FACTOR*NAME=LOW..HIGH"

_VARYING = re.compile(
    r"(?:(?P<factor>\d{1,18})\*)?(?P<name>[A-Za-z_]\w*)"
    r"(?:=(?P<low>\d{1,18})\.\.(?P<high>\d{1,18})?)?",
    re.ASCII,
)
_MEANT = re.compile(r"[=*]|\.\.|^[A-Za-z_]")
"""What a mistyped extent has that was to vary; anything else was to be a number."""


def read_extents(texts: Mapping[str, Any]) -> dict[str, Any]:
    """Extents by field, of which those that are texts may vary.

    Texts that are neither stay as they are, for the workload to refuse.

    Raises:
        OptionError: a range that is not one, a name without a range or with two.
    """
    found = {field: _matched(field, text) for field, text in texts.items()}
    dims: dict[str, Dim] = {}
    for field, match in found.items():
        if match is not None and match["low"] is not None:
            name = match["name"]
            why = f"{field} = {texts[field]!r}: {name} has a range already; name it alone here"
            require(name not in dims, why, OptionError)
            dims[name] = _dim(match)
    return {
        field: text if found[field] is None else _extent(field, text, found[field], dims)
        for field, text in texts.items()
    }


def _matched(field: str, text: Any) -> re.Match[str] | None:
    if not isinstance(text, str):
        return None
    match = _VARYING.fullmatch(text)
    meant = bool(_MEANT.search(text))
    require(match is not None or not meant, f"{field} = {text!r}: {FORMS}", OptionError)
    return match


def _dim(match: re.Match[str]) -> Dim:
    from anatune.workload import Dim

    high = match["high"]
    return Dim(match["name"], int(match["low"]), None if high is None else int(high))


def _extent(field: str, text: str, match: re.Match[str] | None, dims: Mapping[str, Dim]) -> Any:
    assert match is not None
    name = match["name"]
    why = f"{field} = {text!r}: {name} has no range; write {name}=LOW..HIGH where it comes first"
    require(name in dims, why, OptionError)
    return dims[name] if match["factor"] is None else int(match["factor"]) * dims[name]
