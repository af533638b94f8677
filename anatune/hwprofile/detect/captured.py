"""A machine replayed from a folder of captured answers, for tests and for reports from users.

``host.json`` holds the short answers and names the files of the long ones; ``files.txt`` holds the
text files as ``grep -rs '' PATH...`` prints them: ``path:line``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from anatune.hwprofile.detect.system import LlvmFacts


class CapturedSystem:
    """A `System` that answers from ``folder`` and reads nothing else."""

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        self.facts: dict[str, Any] = json.loads(self._text("host.json"))
        self.files: dict[str, str] = {}
        if (self.folder / "files.txt").exists():
            self.files = parse_grep(self._text("files.txt"))

    @property
    def llvm(self) -> LlvmFacts:
        """What LLVM said on that machine."""
        said = self.facts["llvm"]
        return LlvmFacts(said["mcpu"], said["triple"], tuple(said["features"]))

    def _text(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")

    def platform(self) -> str:
        return str(self.facts["platform"])

    def machine(self) -> str:
        return str(self.facts["machine"])

    def processor(self) -> str:
        return str(self.facts.get("processor", ""))

    def cpu_count(self) -> int | None:
        return self.facts.get("cpu_count")

    def affinity(self) -> frozenset[int] | None:
        cpus = self.facts.get("affinity")
        return None if cpus is None else frozenset(cpus)

    def read_text(self, path: str) -> str | None:
        return self.files.get(path)

    def list_dir(self, path: str) -> tuple[str, ...]:
        inside = path.rstrip("/") + "/"
        return tuple(
            sorted({p[len(inside) :].split("/")[0] for p in self.files if p.startswith(inside)})
        )

    def run(self, command: tuple[str, ...]) -> str | None:
        name = self.facts.get("commands", {}).get(" ".join(command))
        return None if name is None else self._text(name)

    def native(self, call: str) -> bytes | None:
        name = self.facts.get("native", {}).get(call)
        return None if name is None else bytes.fromhex(self._text(name))

    def py_cpuinfo(self) -> dict[str, Any]:
        return dict(self.facts.get("py_cpuinfo", {}))


def parse_grep(text: str) -> dict[str, str]:
    """Files from ``path:line`` lines; the lines of one file follow each other."""
    files: dict[str, list[str]] = {}
    for line in text.splitlines():
        path, colon, content = line.partition(":")
        if colon:
            files.setdefault(path, []).append(content)
    return {path: "\n".join(lines) + "\n" for path, lines in files.items()}
