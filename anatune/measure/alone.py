"""The machine to itself: passes of several processes take turns (rank 6)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from anatune.hwprofile.kept import cache_folder

LOCK_NAME = "machine.lock"

PATIENCE_S = 120.0
"""Time for which another pass is waited for, seconds: several times what one holds the machine."""


@contextmanager
def alone() -> Iterator[None]:
    """Hold the machine while something is compiled or timed; others of this user wait their turn.

    Where the cache folder cannot be written, or another process does not let go, the work goes on.
    """
    lock = _lock()
    try:
        if lock is not None:
            lock.acquire(timeout=PATIENCE_S)
    except Timeout:
        warnings.warn(
            f"{lock.lock_file if lock else LOCK_NAME}: another tuning run has held the machine for "
            f"{PATIENCE_S:.0f} s; timing beside it, so expect noise",
            stacklevel=2,
        )
        lock = None
    except OSError:
        lock = None
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def _lock() -> FileLock | None:
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return FileLock(folder / LOCK_NAME)
