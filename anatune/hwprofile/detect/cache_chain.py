"""Cache geometry that adds up, from several readings of falling trust; absurd numbers fall through.

Runs once the operating system's reader and the table have spoken, before the profile is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from anatune.hwprofile.detect.facts import RawCache, Reading
from anatune.hwprofile.profile import CacheLevel, Source

# The largest that any shipped core has, times two or more; what is beyond is a reporting error.
_MAX_SIZE_BYTES = {1: 256 << 10, 2: 256 << 20, 3: 4 << 30, 4: 16 << 30}
_MIN_SIZE_BYTES = 1 << 10
_LINE_BYTES = (16, 512)  # 32 on old Arm, 256 on s390x
_MAX_WAYS = 512
_MAX_SHARING_CORES = 4096

DEFAULT_SOURCE = Source(
    name="default",
    kind="assumed",
    where="small caches that nearly every core has; anatune profile measure would settle it",
)
DEFAULT_READING = Reading(
    source=DEFAULT_SOURCE,
    caches=(
        RawCache(level=1, size_bytes=32 << 10, ways=8, line_bytes=64, cores=1),
        RawCache(level=2, size_bytes=256 << 10, ways=8, line_bytes=64, cores=1),
    ),
)


@dataclass(frozen=True)
class Settled:
    """A cache level and the source of each of its facts."""

    level: CacheLevel
    sources: tuple[tuple[str, Source], ...]


def settle(readings: Sequence[Reading]) -> tuple[Settled, ...]:
    """Cache levels, nearest first, from ``readings`` in falling order of trust."""
    chain = [
        Reading(source=r.source, caches=tuple(map(clean, r.caches)))
        for r in (*readings, DEFAULT_READING)
    ]
    settled: list[Settled] = []
    for level in _levels(chain):
        offers = [(r.source, c) for r in chain for c in r.caches if c.level == level]
        below = settled[-1].level if settled else None
        # An offer that is smaller than the level below contradicts it: the next one is asked.
        for first in range(len(offers)):
            candidate = _settle_level(offers[first:], below)
            if candidate and (below is None or candidate.level.size_bytes >= below.size_bytes):
                settled.append(candidate)
                break
        if not settled or settled[-1].level.level != level:
            break  # a hole in the middle would misplace what lies behind it
    return tuple(settled)


def is_complete(caches: Sequence[RawCache]) -> bool:
    """Whether every level adds up by itself, and there is a first one."""
    return any(c.level == 1 for c in caches) and all(
        _complete({name: value for name, value in _geometry(clean(c)) if value}) for c in caches
    )


def clean(cache: RawCache) -> RawCache:
    """``cache`` without the numbers that no machine has, or that contradict each other."""
    low, high = _LINE_BYTES
    line = cache.line_bytes
    if line is not None and not (low <= line <= high and line & (line - 1) == 0):
        line = None
    size = cache.size_bytes
    limit = _MAX_SIZE_BYTES.get(cache.level, 0)
    if size is not None and not (_MIN_SIZE_BYTES <= size <= limit and size % (line or low) == 0):
        size = None
    ways = cache.ways if cache.ways and 1 <= cache.ways <= _MAX_WAYS else None
    sets = cache.sets if cache.sets and 1 <= cache.sets <= limit // low else None
    cores = cache.cores if cache.cores and 1 <= cache.cores <= _MAX_SHARING_CORES else None
    if line and ways and sets:
        product = sets * ways * line
        if product != (size or product) or not _MIN_SIZE_BYTES <= product <= limit:
            ways = sets = None  # firmware gets these two wrong; size and line are copied by many
    return replace(cache, size_bytes=size, ways=ways, sets=sets, line_bytes=line, cores=cores)


def _levels(chain: Sequence[Reading]) -> list[int]:
    """Levels of the first source that knows any size: the others may not add to its machine."""
    for reading in chain:
        sized = [c for c in reading.caches if c.size_bytes or (c.sets and c.ways and c.line_bytes)]
        if sized:
            return list(range(1, max(c.level for c in sized) + 1))
    return [1]


def _geometry(cache: RawCache) -> tuple[tuple[str, int | None], ...]:
    return (
        ("line_bytes", cache.line_bytes),
        ("size_bytes", cache.size_bytes),
        ("ways", cache.ways),
        ("sets", cache.sets),
    )


def _complete(known: dict[str, int]) -> dict[str, int] | None:
    """All four numbers where three are known and divide evenly, else None."""
    line, size = known.get("line_bytes"), known.get("size_bytes")
    ways, sets = known.get("ways"), known.get("sets")
    if size is None and line and ways and sets:
        size = line * ways * sets
    elif sets is None and size and line and ways:
        sets = size // (line * ways)
    elif ways is None and size and line and sets:
        ways = size // (line * sets)
    elif line is None and size and ways and sets:
        line = size // (ways * sets)
    if not (line and size and ways and sets) or line * ways * sets != size or line & (line - 1):
        return None
    return {"line_bytes": line, "size_bytes": size, "ways": ways, "sets": sets}


def _settle_level(
    offers: Sequence[tuple[Source, RawCache]], below: CacheLevel | None
) -> Settled | None:
    known: dict[str, int] = {}
    origin: dict[str, Source] = {}
    full = None
    for source, cache in offers:
        for name, value in _geometry(cache):
            if full or value is None or name in known:
                continue
            trial = {**known, name: value}
            full = _complete(trial)
            if full and not _MIN_SIZE_BYTES <= full["size_bytes"] <= _MAX_SIZE_BYTES[cache.level]:
                full = None
            if full or len(trial) < 3:
                known, origin = trial, {**origin, name: source}
        if full:
            origin = {name: origin.get(name, source) for name in full}
            break
    if full is None:
        full, origin = _assume_ways(known, origin)
    if full is None:
        return None
    cores, source = next(((c.cores, s) for s, c in offers if c.cores), (1, DEFAULT_SOURCE))
    level = CacheLevel(
        level=offers[0][1].level,
        sets=full["sets"],
        ways=full["ways"],
        line_bytes=full["line_bytes"],
        cores=max(cores, below.cores if below else 1),  # who shares the near one shares the far one
    )
    facts = (("sets", "sets"), ("ways", "ways"), ("line", "line_bytes"))
    sources = tuple((fact, origin[name]) for fact, name in facts)
    return Settled(level, (*sources, ("cores", source)))


def _assume_ways(
    known: dict[str, int], origin: dict[str, Source]
) -> tuple[dict[str, int] | None, dict[str, Source]]:
    """Size alone: the usual line, and the most ways up to eight that divide it."""
    size, line = known.get("size_bytes"), known.get("line_bytes", 64)
    if size is None or size % line:
        return None, origin
    ways = next(w for w in range(8, 0, -1) if size // line % w == 0)
    full = {"line_bytes": line, "size_bytes": size, "ways": ways, "sets": size // line // ways}
    return full, {name: origin.get(name, DEFAULT_SOURCE) for name in full} | {
        "ways": DEFAULT_SOURCE,
        "sets": DEFAULT_SOURCE,
    }
