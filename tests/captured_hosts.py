"""The captured machines under data/hosts, for the tests of detection."""

from __future__ import annotations

import re
from pathlib import Path

from anatune.hwprofile.detect import CapturedSystem, detect_host
from anatune.hwprofile.profile import CoreKind, Profile

HOSTS = Path(__file__).parent / "data" / "hosts"
NAMES = sorted(p.parent.name for p in HOSTS.glob("*/host.json"))
KIB, MIB = 1 << 10, 1 << 20


def host(name: str) -> CapturedSystem:
    return CapturedSystem(HOSTS / name)


def detected(system: CapturedSystem) -> Profile:
    return detect_host(system.llvm, system)


def geometry(core: CoreKind) -> list[tuple[int, int, int, int, int]]:
    return [(c.size_bytes, c.ways, c.sets, c.line_bytes, c.cores) for c in core.caches]


def sources(profile: Profile) -> dict[str, str]:
    return {citation.fact: citation.source for citation in profile.citations}


def rewrite(system: CapturedSystem, pattern: str, text: str | None) -> CapturedSystem:
    """``system`` with the text of every file that matches replaced, or the files gone."""
    hits = [path for path in system.files if re.search(pattern, path)]
    assert hits, f"no captured file matches {pattern}"
    for path in hits:
        system.files[path] = text or ""
        if text is None:
            del system.files[path]
    return system
