"""Built kernels, kept by what they were built from, and checked before they are used (rank 7)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
import warnings
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import anatune
from anatune.hwprofile.detect import host_fingerprint
from anatune.hwprofile.kept import CACHE_ENVIRONMENT, cache_folder
from anatune.plan.read import AnyPlan
from anatune.records.origin import tvm_version

MOST_BYTES = 512 << 20
"""Bytes that all kernels together may take: some thousands of them, of 50 to 200 KiB each."""

ABANDONED_S = 3600.0
"""Age from which a half-written file is taken for that of a writer that was killed, seconds."""

LOCK_S = 5.0
"""Longest wait for another writer, seconds; without the lock a kernel is merely built again."""

NOTE, HALF = ".json", ".half"
"""Ends of names: what is known of a kernel, and a file that is being written."""

LOCK = "kernels.lock"

SOURCES = ("codegen", "plan", "workload")
"""Rooms whose sources decide what a plan becomes."""


class Kernels:
    """A folder of shared libraries; only kernels whose numbers were verified belong into it.

    A library that was cut or changed is not handed out but removed. Processes may share the folder.
    One that cannot be written costs a warning: kernels are then built whenever they are needed.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.folder = cache_folder() / "kernels" if folder is None else Path(folder).expanduser()
        self._warned = False

    @cached_property
    def _builder(self) -> str:
        """All that a kernel depends on besides its plan."""
        made_by = (anatune.__version__, tvm_version(), host_fingerprint(), sources_hash())
        return "\n".join(made_by)

    def id_of(self, plan: AnyPlan) -> str:
        """The name by which the plan's kernel goes here, as built by this installation."""
        return hashlib.sha256(f"{plan.to_json()}\n{self._builder}".encode()).hexdigest()

    def get(self, plan: AnyPlan) -> Path | None:
        """The plan's kernel, whole and as it was put; None where there is none."""
        name = self.id_of(plan)
        library = self._whole(name)
        if library is None and self._note(name).exists():
            with contextlib.suppress(OSError), self._locked():
                library = self._whole(name)  # somebody may have been in the middle of putting it
                if library is None:
                    self._remove(name)
        if library is not None:
            with contextlib.suppress(OSError):
                os.utime(library)
        return library

    def put(self, plan: AnyPlan, shared_library_path: str | os.PathLike[str]) -> Path:
        """Keep a verified kernel; return where it lies now, which is where it was if it cannot."""
        source, name = Path(shared_library_path), self.id_of(plan)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._locked():
                kept = self._whole(name) or self._put(name, source)
                self._make_room(kept)
                return kept
        except OSError as error:
            if not self._warned:
                warnings.warn(
                    f"kernels in {self.folder}: {error.strerror or error}; they are not kept; make "
                    f"room, or set {CACHE_ENVIRONMENT} to a folder that can be written",
                    stacklevel=2,
                )
            self._warned = True
            return source

    def _put(self, name: str, source: Path) -> Path:
        library = self.folder / f"{name}{source.suffix}"
        half = self.folder / f"{library.name}{HALF}"
        try:
            shutil.copyfile(source, half)
            note = {"file": library.name, "bytes": half.stat().st_size, "sha256": _sha256(half)}
            os.replace(half, library)
            half.write_text(json.dumps(note), encoding="utf-8")
            os.replace(half, self._note(name))
        finally:
            half.unlink(missing_ok=True)
        return library

    def _note(self, name: str) -> Path:
        return self.folder / f"{name}{NOTE}"

    def _whole(self, name: str) -> Path | None:
        """The library of that name if it is what its note says."""
        try:
            note: Any = json.loads(self._note(name).read_text(encoding="utf-8"))
            library = self.folder / Path(note["file"]).name
            same = library.stat().st_size == note["bytes"] and _sha256(library) == note["sha256"]
            return library if same else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _remove(self, name: str) -> None:
        for file in self.folder.glob(f"{name}.*"):
            file.unlink(missing_ok=True)

    def _make_room(self, newest: Path) -> None:
        """Remove what was not used for longest, and what a killed writer left."""
        libraries = []
        for file in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                stat = file.stat()
                if file.suffix == HALF and stat.st_mtime < time.time() - ABANDONED_S:
                    file.unlink()
                elif file.suffix not in (NOTE, HALF) and file.name != LOCK:
                    libraries.append((stat.st_mtime, stat.st_size, file))
        total = sum(size for _, size, _ in libraries)
        for _, size, file in sorted(libraries):
            if total > MOST_BYTES and file != newest:
                self._remove(file.stem)
                total -= size

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        from filelock import FileLock

        with FileLock(self.folder / LOCK, timeout=LOCK_S):
            yield


@cache
def sources_hash() -> str:
    """Of the sources that turn a plan into code: an edited checkout builds its kernels anew."""
    found = hashlib.sha256()
    folder = Path(__file__).resolve().parents[1]
    for room in SOURCES:
        for file in sorted((folder / room).glob("*.py")):
            found.update(file.read_bytes())
    return found.hexdigest()


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
