"""The host as a `Profile`: system facts, then the table's, each with its source; the rest None."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from anatune.errors import ProfileError, require
from anatune.hwprofile.detect import isa as isa_rules
from anatune.hwprofile.detect import linux, macos, windows
from anatune.hwprofile.detect.cache_chain import settle
from anatune.hwprofile.detect.facts import NOMINAL_CLOCK, HostFacts, RawKind, Reading
from anatune.hwprofile.detect.system import LlvmFacts, LocalSystem, System
from anatune.hwprofile.detect.uarch import Uarch
from anatune.hwprofile.detect.uarch_find import find
from anatune.hwprofile.grammar import Fact
from anatune.hwprofile.laws import contradictions
from anatune.hwprofile.profile import (
    CacheLevel,
    Citation,
    CoreKind,
    Memory,
    Profile,
    Source,
    Target,
    Tlb,
)
from anatune.hwprofile.schema import ISAS
from anatune.hwprofile.schema import facts as numbers

_READERS = {"linux": linux.read, "darwin": macos.read, "windows": windows.read}
_OTHER = Source(name="python", kind="detected", where="os.cpu_count on a system without a reader")
_UNLISTED = Uarch(name="unlisted", where="")
_FAR_LEVEL = 3
_MEMORY_BYTES = (1 << 20, 1 << 50)
_MAX_TEXT = 200

Origins = dict[str, Source]  # dotted facts that the operating system did not tell


def detect_host(llvm: LlvmFacts, system: System | None = None) -> Profile:
    """This machine, or the one that ``system`` replays; ProfileError where it makes no sense."""
    system = system or LocalSystem()
    mcpu = llvm.mcpu or "generic"
    isa = isa_rules.isa_of(system.machine())
    require(
        isa in ISAS,
        f"machine: {isa[:40]!r} is not one of {', '.join(ISAS)}; write a profile file",
        ProfileError,
    )
    facts = _read(system)
    # Only a complete list may overrule LLVM, which knows the processor by its name.
    flags = facts.flags if facts.flags_complete or not llvm.features else frozenset()
    origins: Origins = {}
    cores = _core_kinds(facts, isa, replace(llvm, mcpu=mcpu), flags, origins)
    features = isa_rules.usable_features(isa, llvm.features, flags)
    low, high = _MEMORY_BYTES
    memory_bytes = facts.memory_bytes if low <= (facts.memory_bytes or 0) <= high else None
    brand = _one_line(facts.brand or system.py_cpuinfo().get("brand_raw"))
    profile = Profile(
        name="host",
        title=brand or f"{isa} machine, core {mcpu}",
        target=Target(isa=isa, mcpu=mcpu, triple=llvm.triple or None, features=features),
        cores=cores,
        memory=Memory(size_bytes=memory_bytes),
        usable_threads=facts.usable_threads,
        virtualized=facts.virtualized,
        brand=brand,
    )
    for path, why in contradictions(profile, {}):
        raise ProfileError(f"{'.'.join(path)} {why}; the system's answers contradict each other")
    return _cited(profile, facts.source, origins)


def _read(system: System) -> HostFacts:
    reader = _READERS.get(system.platform())
    if reader is not None:
        return reader(system)
    count = max(1, system.cpu_count() or 1)
    return HostFacts(source=_OTHER, kinds=(RawKind(count=count),), usable_threads=count)


def _one_line(text: object) -> str | None:
    words = text.split() if isinstance(text, str) else []
    return " ".join(words)[:_MAX_TEXT] or None


def _kind_names(kinds: tuple[RawKind, ...], rows: list[Uarch], mcpu: str) -> list[str]:
    """The design's name, else the role or LLVM's name; unique, because facts are found by it."""
    names: list[str] = []
    for kind, row in zip(kinds, rows):
        plain = row.name if row is not _UNLISTED else kind.role or mcpu
        stem = re.sub(r"[^a-z0-9]+", "_", plain.lower()).strip("_")[:40] or "core"
        candidates = (stem, *(f"{stem}_{number}" for number in range(2, len(kinds) + 2)))
        names.append(next(name for name in candidates if name not in names))
    return names


def _core_kinds(
    facts: HostFacts, isa: str, llvm: LlvmFacts, flags: frozenset[str], origins: Origins
) -> tuple[CoreKind, ...]:
    rows = [find(kind.part, llvm.mcpu, kind.role) or _UNLISTED for kind in facts.kinds]
    names = _kind_names(facts.kinds, rows, llvm.mcpu)
    all_cores = sum(kind.count for kind in facts.kinds)
    widths = [isa_rules.vectors(isa, llvm.features, flags, row.sve_bits) for row in rows]
    return tuple(
        _core_kind(name, kind, row, all_cores, vectors, origins)
        for name, kind, row, vectors in zip(names, facts.kinds, rows, widths)
    )


def _core_kind(
    name: str,
    kind: RawKind,
    row: Uarch,
    all_cores: int,
    vectors: isa_rules.Vectors,
    origins: Origins,
) -> CoreKind:
    path = f"cores.{name}"
    table = {
        "fma.per_cycle": row.fma.get(vectors.bits),
        "fma.latency": row.fma_latency_cycles,
        "loads_per_cycle": row.loads.get(vectors.bits),
        "stores_per_cycle": row.stores.get(vectors.bits),
    }
    for fact in (*table, "tlb.entries", "tlb.second_entries", "tlb.page"):
        origins[f"{path}.{fact}"] = row.source
    for fact in ("clock.one_core", "clock.all_cores"):
        origins[f"{path}.{fact}"] = NOMINAL_CLOCK
    for fact in ("vector.width", "vector.registers"):
        origins[f"{path}.{fact}"] = vectors.source
    return CoreKind(
        name=name,
        count=kind.count,
        threads_each=kind.threads_each,
        cpus=kind.cpus,
        clock_one_hz=kind.clock_one_hz,
        clock_all_hz=kind.clock_all_hz,
        vector_bits=vectors.bits,
        vector_registers=vectors.registers,
        fma_per_cycle=table["fma.per_cycle"],
        fma_latency_cycles=table["fma.latency"],
        loads_per_cycle=table["loads_per_cycle"],
        stores_per_cycle=table["stores_per_cycle"],
        caches=_caches(f"{path}.caches", kind, row, all_cores, origins),
        tlb=_tlb(row),
    )


def _tlb(row: Uarch) -> Tlb | None:
    if row.tlb_entries is None:
        return None
    return Tlb(
        entries=row.tlb_entries, second_entries=row.tlb_second_entries, page_bytes=row.page_bytes
    )


def _caches(
    path: str, kind: RawKind, row: Uarch, all_cores: int, origins: Origins
) -> tuple[CacheLevel, ...]:
    levels = []
    for entry in settle((*kind.readings, Reading(source=row.source, caches=row.caches))):
        here = f"{path}.{entry.level.level}"
        origins.update({f"{here}.{fact}": source for fact, source in entry.sources})
        # A cache may also serve cores that this process cannot reach; those are not in the profile.
        level = replace(entry.level, cores=min(entry.level.cores, all_cores))
        if level.level == _FAR_LEVEL and row.far_holds is not None:
            level = replace(level, holds=row.far_holds)
            origins[f"{here}.holds"] = row.source
        levels.append(level)
    return tuple(levels)


def _cited(profile: Profile, system: Source, origins: Mapping[str, Source]) -> Profile:
    """``profile`` with the source of each number, and the names of those that are assumed."""
    cited = {
        ".".join(path): origins.get(".".join(path), system)
        for path, fact, value in numbers(profile)
        if value is not None and isinstance(fact, Fact) and fact.sourced and not fact.repeats
        # Where nobody says what a level holds, the noun's default is no statement of fact.
        if fact.key != "holds" or ".".join(path) in origins
    }
    return replace(
        profile,
        citations=tuple(Citation(fact=fact, source=s.name) for fact, s in cited.items()),
        sources=tuple({s.name: s for s in cited.values()}.values()),
        assumed=tuple(fact for fact, s in cited.items() if s.kind == "assumed"),
    )
