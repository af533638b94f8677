"""What a run may leave behind, and ways to see it: processes, descriptors, threads, files."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

MARK = "ANATUNE_TEST_MARK"
"""Variable by which the processes of a test are known, however deep they descend from it."""

PROC = Path("/proc")


@contextmanager
def none_left(folder: Path, monkeypatch) -> Iterator[None]:
    """What happens inside leaves nothing: neither in this process, nor elsewhere, nor in files."""
    import tempfile

    mark = uuid4().hex
    monkeypatch.setenv(MARK, mark)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    descriptors, threads = open_files(), threading.active_count()
    yield
    assert children() == set()
    wait_until(lambda: not marked(mark))
    assert list(folder.iterdir()) == []
    wait_until(lambda: threading.active_count() == threads)
    assert open_files() == descriptors


def open_files() -> int:
    folder = PROC / "self/fd"
    return len(os.listdir(folder)) if folder.is_dir() else 0


def children() -> set[int]:
    """Processes that this one started and that still run or wait to be buried (Linux)."""
    file = PROC / f"self/task/{threading.get_native_id()}/children"
    return {int(pid) for pid in file.read_text().split()} if file.exists() else set()


def marked(mark: str) -> set[int]:
    """Processes that run in an environment with this mark (Linux)."""
    return {pid for pid in processes() if mark.encode() in read(PROC / f"{pid}/environ")}


def processes() -> Iterator[int]:
    names = [entry.name for entry in PROC.iterdir()] if PROC.is_dir() else []
    return (int(name) for name in names if name.isdigit())


def read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # it has ended, or is somebody else's
        return b""


def gone(pid: int) -> bool:
    state = read(PROC / f"{pid}/stat").rpartition(b")")[2].split()
    return not state or state[0] == b"Z"


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never came to pass")
