"""Names and paths -> profiles; what `anatune profile list`, ``show`` and ``check`` use (rank 1)."""

from __future__ import annotations

import os
from pathlib import Path

from anatune.errors import ProfileError
from anatune.hwprofile.load import examine, parse_profile
from anatune.hwprofile.places import SUFFIX, find, names, read_text
from anatune.hwprofile.profile import Profile


def load_profile(name_or_path: str | os.PathLike[str]) -> Profile:
    """The profile at a path, or the first of that name in the look-up order.

    Text is a path if it holds a separator or ends in ``.yaml``; anything else is a name.
    """
    if _is_path(name_or_path):
        file = Path(os.path.expanduser(name_or_path))
        return parse_profile(read_text(file), file.name.removesuffix(SUFFIX), file)
    name = str(name_or_path)
    found = find(name)
    return parse_profile(read_text(found), name, found)


def profiles() -> tuple[str, ...]:
    """Names of all profile files in the look-up order, sorted; nobody has read them yet."""
    return names()


def check_file(path: str | os.PathLike[str]) -> list[str]:
    """Every problem of one file, one line each; an empty list means that the file is in order."""
    file = Path(path)
    try:
        text = read_text(file)
        if file.suffix != SUFFIX:
            return [f"file name {file.name!r} does not end in {SUFFIX}"]
        examined = examine(text, file.name.removesuffix(SUFFIX))
    except ProfileError as error:
        return [str(error)]
    return [*examined.problems, *examined.order]


def _is_path(name_or_path: str | os.PathLike[str]) -> bool:
    if not isinstance(name_or_path, str):
        return True
    separators = [separator for separator in (os.sep, os.altsep) if separator]
    return name_or_path.endswith(SUFFIX) or any(s in name_or_path for s in separators)
