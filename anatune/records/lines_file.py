"""A file of lines that several processes append to, and that survives their end (rank 7)."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from anatune.errors import CacheError

DATABASE_ENVIRONMENT = "ANATUNE_DATABASE"

LOCK_S = 20.0
"""Longest wait for another writer, seconds: pruning a store of a million lines takes less."""

POLL_S = 0.005
"""Time between two looks at a lock that is held, seconds: about what an append with fsync takes."""

BUFFER_BYTES = 1 << 16
"""Bytes read at once: few calls for a whole file, little waste for a single line."""

NEW = ".new"
"""Ends the name of a file that is being rewritten; left by a kill, it is used again."""


def real(path: str | os.PathLike[str]) -> Path:
    """The file itself where ``path`` is a link: whoever comes by whatever way takes one lock."""
    return Path(os.path.realpath(Path(path).expanduser()))


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other writers out; folders are made. What goes wrong inside becomes CacheError too.

    Raises:
        CacheError: the folder cannot be written, or another process holds the lock for too long.
    """
    from filelock import FileLock, Timeout  # takes longer to load than reading a small store

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock", timeout=LOCK_S).acquire(poll_interval=POLL_S):
            yield
    except Timeout:
        raise CacheError(
            f"database {path}: another process kept it locked for {LOCK_S:g} s; end that one"
        ) from None
    except CacheError:
        raise
    except OSError as error:
        raise refused(path, error) from None


def refused(path: Path, error: OSError) -> CacheError:
    """The error for a file that cannot be read or written, with the mend."""
    return CacheError(
        f"database {path}: {error.strerror or error}; make room there, or set "
        f"{DATABASE_ENVIRONMENT} to a file that can be read and written"
    )


def append(path: Path, lines: Iterable[bytes]) -> None:
    """Append ``lines``, all or none; they are on the disk when this returns.

    Raises:
        CacheError: they cannot be written; the file is as it was.
    """
    with locked(path):
        append_locked(path, lines)


def append_locked(path: Path, lines: Iterable[bytes]) -> None:
    """`append` for who has the lock already. Raises OSError."""
    data = b"".join(line + b"\n" for line in lines)
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags, 0o666)
    try:
        size = os.lseek(handle, 0, os.SEEK_END)
        if size and _last_byte(handle) != b"\n":  # a writer was killed: its line ends here
            data = b"\n" + data
        try:
            _write_whole(handle, data)
            os.fsync(handle)
        except OSError:
            os.ftruncate(handle, size)
            raise
    finally:
        os.close(handle)


def _last_byte(handle: int) -> bytes:
    os.lseek(handle, -1, os.SEEK_END)
    return os.read(handle, 1)


def _write_whole(handle: int, data: bytes) -> None:
    """One write as a rule; a disk that is getting full takes a part, and says why of the rest."""
    left = memoryview(data)
    while left:
        left = left[os.write(handle, left) :]


def read_lines(path: Path) -> Iterator[bytes]:
    """Lines without their ends, empty ones left out; none of a file that is not there.

    Raises:
        CacheError: the file cannot be read.
    """
    try:
        with open(path, "rb", BUFFER_BYTES) as file:
            for line in file:
                if stripped := line.rstrip(b"\r\n"):
                    yield stripped
    except FileNotFoundError:
        return
    except OSError as error:
        raise refused(path, error) from None


def rewrite_locked(path: Path, lines: Iterable[bytes]) -> None:
    """Put ``lines`` in the place of all; readers see the old file or the new one.

    Raises OSError.
    """
    new = path.with_name(path.name + NEW)
    with open(new, "wb", BUFFER_BYTES) as file:
        file.writelines(line + b"\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())
    shutil.copymode(path, new)
    os.replace(new, path)
