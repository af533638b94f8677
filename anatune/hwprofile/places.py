"""Where profile files lie: the environment's folders, the user's, the shipped ones (rank 1)."""

from __future__ import annotations

import importlib.resources
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from anatune.errors import ProfileError
from anatune.hwprofile.strict_yaml import MAX_BYTES
from anatune.hwprofile.values import is_name, nearest
from anatune.units import clip

if TYPE_CHECKING:  # the class moved in Python 3.11
    if sys.version_info >= (3, 11):
        from importlib.resources.abc import Traversable
    else:
        from importlib.abc import Traversable

ENVIRONMENT = "ANATUNE_PROFILE_PATH"
SUFFIX = ".yaml"


def user_folder() -> Path:
    """Where a user's own profiles are kept; it need not exist."""
    import platformdirs  # only look-ups need it

    return Path(platformdirs.user_config_dir("anatune", appauthor=False)) / "profiles"


def shipped_folder() -> Traversable:
    """`anatune.hwprofiles` of an installed wheel, or ``hwprofiles/`` beside the sources."""
    try:
        return importlib.resources.files("anatune.hwprofiles")
    except ModuleNotFoundError:
        return Path(__file__).resolve().parents[2] / "hwprofiles"


def folders() -> Iterator[Traversable]:
    """All folders in the order in which a name is looked up."""
    for entry in os.environ.get(ENVIRONMENT, "").split(os.pathsep):
        if entry:
            yield Path(os.path.expanduser(entry))
    yield user_folder()
    yield shipped_folder()


def names() -> tuple[str, ...]:
    """Names of all profiles that can be found, sorted."""
    found: set[str] = set()
    for folder in folders():
        try:
            files = [entry.name for entry in folder.iterdir()]
        except OSError:  # a folder that is not there holds no profiles
            continue
        found.update(name.removesuffix(SUFFIX) for name in files if name.endswith(SUFFIX))
    return tuple(sorted(name for name in found if is_name(name)))


def find(name: str) -> Traversable:
    """The first file of that name in `folders`; a folder or a FIFO only where there is no other."""
    if is_name(name):
        files = [folder / f"{name}{SUFFIX}" for folder in folders()]
        for found in (_is_file, _is_something):
            for file in filter(found, files):
                return file
    raise ProfileError(f"profile {clip(name)} is not found{nearest(name, names())}")


def _is_file(file: Traversable) -> bool:
    try:
        return file.is_file()
    except OSError:  # a folder that may not be entered holds no profiles either
        return False


def _is_something(file: Traversable) -> bool:
    """Whether the name is taken, also by a link that leads nowhere."""
    return isinstance(file, Path) and os.path.lexists(file)


def read_text(file: Traversable) -> str:
    """The file's text; no more of it is read than a profile may hold."""
    if isinstance(file, Path) and os.path.exists(file) and not os.path.isfile(file):
        # Reading a FIFO might never end, and of a device nothing good would come.
        raise ProfileError(f"profile file {str(file)!r} cannot be read: not a regular file")
    try:
        with file.open("rb") as stream:
            data: bytes = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise ProfileError(f"profile file {str(file)!r} cannot be read: {reason}") from None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProfileError(
            f"profile file {str(file)!r} is not UTF-8 text: byte {error.start}"
        ) from None
