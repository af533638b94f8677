"""The record store: appended to by every pass, asked by the next one (rank 7)."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from anatune.errors import CacheError, IllegalPlan, OptionError, require
from anatune.hwprofile.kept import CACHE_ENVIRONMENT, cache_folder
from anatune.records.line import Line, State
from anatune.records.lines_file import (
    BUFFER_BYTES,
    DATABASE_ENVIRONMENT,
    append,
    read_lines,
    real,
    refused,
)
from anatune.records.record import Record, key_of

FILE_NAME = "records.jsonl"


def default_path() -> Path:
    """Where records are kept: what the environment names, else the user's data folder."""
    chosen = os.environ.get(DATABASE_ENVIRONMENT)
    if chosen:
        return Path(chosen).expanduser()
    if os.environ.get(CACHE_ENVIRONMENT):
        return cache_folder() / FILE_NAME
    import platformdirs  # only needed where the environment says nothing

    return Path(platformdirs.user_data_dir("anatune", appauthor=False)) / FILE_NAME


def open_store(database: object) -> Store | None:
    """The store that a user means: None is their own, False is none.

    Raises:
        OptionError: neither these, nor a path, nor a `Store`.
    """
    if database is False:
        return None
    if database is None or isinstance(database, (str, os.PathLike)):
        file = default_path() if database is None else Path(database)
        named = DATABASE_ENVIRONMENT if database is None else "database"
        why = f"{named} = {str(database or file)!r}: a folder; name a file, such as records.jsonl"
        require(str(database) != "" and not file.is_dir(), why, OptionError)
        return Store(database)
    why = f"database = {database!r}: None, False, the path of a file, or a Store"
    require(isinstance(database, Store), why, OptionError)
    assert isinstance(database, Store)
    return database


class Store:
    """A file of records, one per line, which others may write to at the same time.

    Lines of other versions and lines that a kill cut short are left where they are and passed over.
    A file that cannot be read or written costs one warning: records then last as long as the run.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = real(default_path() if path is None else path)
        self._places = _Places()
        self._unwritten: list[Line] = []
        self._warned = False

    def append(self, records: Iterable[Record]) -> None:
        """Write ``records``; they are on the disk when this returns, or a warning said why not."""
        new = [Line(record.line()) for record in records]
        if not new:
            return
        try:
            append(self.path, [line.raw for line in (*self._unwritten, *new)])
        except CacheError as error:
            self._unwritten += new
            self._warn(f"{error}; what is measured is kept until this run ends")
        else:
            self._unwritten.clear()

    def find(self, workload: Any, profile_hash: str, kind: str | None = None) -> list[Record]:
        """Records of a workload for a profile, oldest first, whoever wrote them: see `is_own`.

        ``kind``: only measurements or only verdicts.
        """
        key = key_of(workload, profile_hash).encode()
        lines = [*self._lines_at(key), *(line for line in self._unwritten if line.key == key)]
        records = [line.record for line in dict.fromkeys(lines) if line.may_be(kind)]
        return [
            record
            for record in records
            if record is not None
            and kind in (None, record.kind)
            and _is_of(record, workload, profile_hash)
        ]

    def all(self) -> Iterator[Record]:
        """Every record, in the order of the file."""
        return (line.record for line in self.lines() if line.record is not None)

    def lines(self) -> Iterator[Line]:
        """Every line, also those that are no records."""
        try:
            yield from map(Line, read_lines(self.path))
        except CacheError as error:
            self._warn(f"{error}; it is taken as empty")
        yield from self._unwritten

    def count(self) -> dict[State, int]:
        """How many lines there are of each state; reads the whole file."""
        counts = dict.fromkeys(State, 0)
        for line in self.lines():
            counts[line.state] += 1
        return counts

    def _lines_at(self, key: bytes) -> list[Line]:
        try:
            with open(self.path, "rb", BUFFER_BYTES) as file:
                self._places.follow(file)
                return [_line_at(file, place) for place in self._places.of(key)]
        except FileNotFoundError:
            return []
        except OSError as error:
            self._warn(f"{refused(self.path, error)}; it is taken as empty")
            return []

    def _warn(self, text: str) -> None:
        if not self._warned:
            warnings.warn(text, stacklevel=3)
        self._warned = True


def _is_of(record: Record, workload: Any, profile_hash: str) -> bool:
    """Whether a record that its key found is meant, and its plan one that can be read."""
    try:
        return record.profile.hash == profile_hash and record.plan.workload == workload
    except IllegalPlan:
        return False


def _line_at(file: BinaryIO, place: int) -> Line:
    file.seek(place)
    return Line(file.readline().rstrip(b"\r\n"))


@dataclass(frozen=True)
class _Seen:
    """How far a file was read: what must still hold for the rest alone to be read."""

    device: int = -1
    inode: int = -1
    end: int = 0  # of the last whole line
    last: bytes = b""  # that line: it tells a file that was cut and written on from a longer one

    def still_holds(self, file: BinaryIO) -> bool:
        now = os.fstat(file.fileno())
        if (now.st_dev, now.st_ino) != (self.device, self.inode) or now.st_size < self.end:
            return False
        file.seek(self.end - len(self.last))
        return file.read(len(self.last)) == self.last


class _Places:
    """Where in a file the lines of each key begin."""

    def __init__(self) -> None:
        self._by_key: dict[bytes, list[int]] = {}
        self._seen = _Seen()

    def of(self, key: bytes) -> list[int]:
        return self._by_key.get(key, [])

    def follow(self, file: BinaryIO) -> None:
        """Take in what was appended since the last time, or all where the file is another one."""
        if not self._seen.still_holds(file):
            self._by_key, self._seen = {}, _Seen()
        place, last = self._seen.end, self._seen.last
        file.seek(place)
        for line in file:
            if not line.endswith(b"\n"):  # torn, or still being written
                break
            self._by_key.setdefault(Line(line).key, []).append(place)
            place += len(line)
            last = line
        stat = os.fstat(file.fileno())
        self._seen = _Seen(stat.st_dev, stat.st_ino, place, last)
