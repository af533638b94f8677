"""The host's measured profile between runs: a file in the user's cache folder (rank 1)."""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from functools import lru_cache
from pathlib import Path

from anatune.errors import CacheError, ProfileError
from anatune.hwprofile.detect import host_fingerprint
from anatune.hwprofile.dump import dump_profile
from anatune.hwprofile.load import parse_profile
from anatune.hwprofile.places import read_text
from anatune.hwprofile.profile import Profile

CACHE_ENVIRONMENT = "ANATUNE_CACHE_DIR"

PROBES_VERSION = 2
"""Counts up whenever probes find more, so that a profile which lacks it is not taken for whole."""


def cache_folder() -> Path:
    """Where anatune keeps what it can make again; it need not exist."""
    chosen = os.environ.get(CACHE_ENVIRONMENT)
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs  # only needed where the environment says nothing

    return Path(platformdirs.user_cache_dir("anatune", appauthor=False))


def host_file() -> Path:
    """Where the profile of the host as it now is lies; another or changed host: another file.

    So is that which other probes found.
    """
    folder = f"{host_fingerprint()}_{PROBES_VERSION}"
    return cache_folder() / "hosts" / folder / "host.yaml"


def kept_host() -> Profile | None:
    """The profile that was kept for this host, or None, also where it cannot be read."""
    file = host_file()
    try:
        return _parsed(file, file.stat().st_mtime_ns)
    except (OSError, ProfileError):
        return None


@lru_cache(maxsize=1)
def _parsed(file: Path, changed_ns: int) -> Profile:
    """The profile in ``file``, read again when it has changed since."""
    return parse_profile(read_text(file), "host", file)


def keep_host(profile: Profile) -> Path | None:
    """Keep ``profile`` for this host; a folder that cannot be written costs a mere warning."""
    try:
        return write_whole(host_file(), dump_profile(profile))
    except CacheError as error:
        warnings.warn(f"{error}; the profile is not kept", stacklevel=2)
        return None


def write_whole(file: Path, text: str) -> Path:
    """Write a file so that whoever reads it sees all of it or its former self.

    Raises:
        CacheError: the folder cannot be made or written.
    """
    temporary = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=file.name)
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
        os.replace(temporary, file)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise CacheError(
            f"cache folder {file.parent}: {error.strerror}; set {CACHE_ENVIRONMENT} to a folder "
            "that can be written"
        ) from None
    return file
