"""Measure what no system tells: rates, latencies, bandwidths, parallel regions (rank 6)."""

from __future__ import annotations

import datetime
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from anatune.codegen.probes import Probe
from anatune.hwprofile import CacheLevel, Citation, CoreKind, Memory, Profile, Source, Tlb
from anatune.hwprofile.schema import facts
from anatune.measure.lab import GUESSED_HZ, TARGET_S, Lab, digits
from anatune.measure.probe_units import (
    PROBED_DTYPES,
    peaks,
    probe_clock,
    probe_rates,
    probe_units,
)
from anatune.measure.worker import Worker
from anatune.plan import CodeTarget
from anatune.workload.dtypes import ELEMENT_BYTES

F32_BYTES = ELEMENT_BYTES["float32"]
POINTER_BYTES = 8  # of an int64 that a chase reads

ROUNDS, MOST_ROUNDS = 3, 6
"""Times that all probes are run: a disturbance rarely lasts through two rounds. More where the
result says that one did."""

SHARED = 0.7
"""Share of as many times one thread's rate below which all threads together had to share their
processors with somebody: no processor's clock falls so far when all cores multiply."""

GUESSED_CHASE_CYCLES = 20
"""Cycles from one dependent read to the next that run lengths are computed from: about those of a
second-level cache."""

GUESSED_READ_BYTES_PER_CYCLE = 16
"""Bytes read per cycle, for the same purpose: fewer than a first-level cache gives, more than
memory."""

READ_CHAINS = 16
"""Vectors that are added up at once by a read probe: no sum waits for the one before."""

STRIDE_CHAINS = 8
"""Elements that are added up at once by the TLB's probe: independent, as reads of a tile are."""

FILL = 0.5
"""Share of a cache level that a read probe covers at most: well inside the level."""

OUTSIDE = 4
"""Multiple of the level below that a read probe covers if it can: well outside that level, and
little of a level that other cores and other guests use too."""

MEMORY_FACTOR = 4
"""Multiple of the last cache level that a memory probe covers."""

MAX_MEMORY_BYTES = 1 << 28
"""Largest memory probe: 256 MiB outgrows every shipped profile's share of a last-level cache."""

LEAST_TIME_S = 1e-8
"""The smallest time that a profile may state, seconds."""

NO_CACHE_BYTES = 1 << 20
"""Taken for the last cache of a machine that has none: a memory probe covers a multiple of it."""

SOURCE = "probes"
"""Name of the source that probed facts cite."""


def probe_profile(profile: Profile, progress: Callable[[str], None] = lambda text: None) -> Profile:
    """``profile`` with every fact that can be measured on this machine measured (takes seconds).

    Measured facts replace those of a table and cite `SOURCE`, a source of kind "measured".

    Raises:
        WorkerError: the worker process died, hung or could not be started.
        BuildError: a probe could not be compiled.
    """
    worker = Worker("anatune.measure.probe_bench:ProbeBench", (), profile.usable_threads)
    with worker, tempfile.TemporaryDirectory(prefix="anatune-") as folder:
        lab = Lab(CodeTarget.of(profile.target), worker, Path(folder))
        for number in range(1, MOST_ROUNDS + 1):
            measured = _round(lab, profile, lambda what: progress(f"{what}, round {number}"))
            if number >= ROUNDS and not _starved(measured):
                break
    if _starved(measured):
        warnings.warn(
            f"{measured.usable_threads} threads together were not much faster than one: other "
            "programs use the processors; run `anatune profile measure` on a quiet machine",
            stacklevel=2,
        )
    return _cited(measured)


def _starved(profile: Profile) -> bool:
    """Whether threads found their processors taken."""
    one, every = dict(profile.peak_flops), dict(profile.peak_all_flops)
    threads = profile.usable_threads
    return any(every[d] < SHARED * threads * one[d] for d in one if threads > 1 and d in every)


def _round(lab: Lab, profile: Profile, progress: Callable[[str], None]) -> Profile:
    """All probes, once more; facts follow from the fastest runs so far."""
    threads = profile.usable_threads
    progress("clock")
    core = probe_clock(lab, profile.core, threads)
    progress("multiply-add units")
    one, every = (probe_rates(lab, core, on) for on in (1, threads))
    core = probe_units(lab, core, one)
    progress("caches and memory")
    caches = tuple(_probe_cache(lab, core, i, threads) for i in range(len(core.caches)))
    memory = _probe_memory(lab, profile, core, threads)
    progress("parallel regions")
    return replace(
        profile,
        cores=(replace(core, caches=caches, tlb=_probe_tlb(lab, core)), *profile.cores[1:]),
        memory=memory,
        barrier_s=_barrier(lab, threads),
        peak_flops=peaks(lab, core, one),
        peak_all_flops=peaks(lab, core, every),
    )


def _read_rate(lab: Lab, core: CoreKind, size_bytes: float, threads: int) -> float:
    """Bytes per second that each of ``threads`` reads of its own ``size_bytes``."""
    lanes, chains = core.lanes(F32_BYTES), min(READ_CHAINS, core.vector_registers // 2)
    step = lanes * chains
    elements = max(1, int(size_bytes / F32_BYTES) // step) * step
    pass_bytes = F32_BYTES * elements
    repeats = max(1, int(TARGET_S * GUESSED_HZ * GUESSED_READ_BYTES_PER_CYCLE / pass_bytes))
    probe = Probe("read", "float32", lanes, threads, repeats, chains, elements)
    return pass_bytes * repeats / lab.seconds(probe)


def _probe_cache(lab: Lab, core: CoreKind, position: int, threads: int) -> CacheLevel:
    """Read rates and latency of the cache level at ``position``, 0 the nearest."""
    level = core.caches[position]
    assert core.clock_one_hz and core.clock_all_hz  # probed first
    size = FILL * level.size_bytes
    if position:
        size = min(size, OUTSIDE * core.caches[position - 1].size_bytes)
    one = _read_rate(lab, core, size, 1)
    every = _read_rate(lab, core, size / (threads if level.cores > 1 else 1), threads)
    return replace(
        level,
        read_bytes_per_cycle=round(one / core.clock_one_hz, 1),
        read_all_bytes_per_cycle=round(min(every, one) / core.clock_all_hz, 1),
        latency_cycles=round(_latency(lab, size, level.line_bytes) * core.clock_one_hz, 1),
    )


def _latency(lab: Lab, size_bytes: float, line_bytes: int) -> float:
    """Seconds per read when each read waits for the one before it, on lines in random order."""
    step = line_bytes // POINTER_BYTES
    elements = int(size_bytes) // POINTER_BYTES // step * step
    repeats = int(TARGET_S * GUESSED_HZ / GUESSED_CHASE_CYCLES)
    probe = Probe("chase", "int64", 1, repeats=repeats, elements=elements)
    return lab.seconds(probe, chase_step=step) / repeats


def _probe_memory(lab: Lab, profile: Profile, core: CoreKind, threads: int) -> Memory:
    last = core.caches[-1].size_bytes if core.caches else NO_CACHE_BYTES
    size = min(MEMORY_FACTOR * last, MAX_MEMORY_BYTES)
    one = _read_rate(lab, core, size, 1)
    every = threads * _read_rate(lab, core, size / threads, threads)
    return replace(
        profile.memory,
        read_one_bytes_per_s=digits(one),
        read_all_bytes_per_s=digits(max(one, every)),
    )


def _probe_tlb(lab: Lab, core: CoreKind) -> Tlb | None:
    """What a miss of the first-level TLB adds to a read of L1: one line a page, sets in turn."""
    if core.tlb is None or not core.caches:
        return core.tlb
    hz = core.clock_one_hz
    assert hz is not None  # probed first
    line = core.caches[0].line_bytes
    stride = (core.tlb.page_bytes + line) // F32_BYTES

    def cycles_per_read(pages: int) -> float:
        reads = pages // STRIDE_CHAINS * STRIDE_CHAINS
        repeats = max(1, int(TARGET_S * GUESSED_HZ / pages))
        probe = Probe("stride", "float32", 1, 1, repeats, STRIDE_CHAINS, stride * reads, stride)
        return lab.seconds(probe) * hz / (repeats * reads)

    within = max(STRIDE_CHAINS, core.tlb.entries // 2)
    beyond = min(4 * core.tlb.entries, core.caches[0].size_bytes // (2 * line))
    extra = cycles_per_read(beyond) - cycles_per_read(within)
    return replace(core.tlb, miss_cycles=round(max(0.0, extra), 2))


def _barrier(lab: Lab, threads: int) -> float:
    """Seconds to start and join a parallel region whose threads do next to nothing."""
    if threads == 1:
        return LEAST_TIME_S  # no region is started
    return max(LEAST_TIME_S, digits(lab.seconds(Probe("empty", "float32", 1, threads=threads))))


def _cited(profile: Profile) -> Profile:
    """``profile`` with `SOURCE` behind every fact that the probes set.

    In the order of the format, so that a kept profile is loaded as an equal one.
    """
    core = profile.core
    here = f"cores.{core.name}"
    probed = [f"{here}.clock.one_core", f"{here}.clock.all_cores"]
    probed += [f"{here}.fma.per_cycle", f"{here}.fma.latency"]
    for level in core.caches:
        probed += [f"{here}.caches.{level.level}.{f}" for f in ("read", "read_all", "latency")]
    if core.tlb is not None:
        probed.append(f"{here}.tlb.miss")
    probed += [f"{here}.dots.{dot.name}.{f}" for dot in core.dots for f in ("per_cycle", "latency")]
    probed += ["memory.read_one", "memory.read_all", "probes.barrier"]
    probed += [f"probes.{table}.{d}" for table in ("peak", "peak_all") for d in PROBED_DTYPES]
    probes = Source(
        name=SOURCE,
        kind="measured",
        where="anatune profile measure",
        date=datetime.date.today().isoformat(),
    )
    cited = {citation.fact: citation for citation in profile.citations}
    cited.update({fact: Citation(fact=fact, source=SOURCE) for fact in probed})
    stated = (".".join(path) for path, _, _ in facts(profile))
    citations = tuple(cited[fact] for fact in stated if fact in cited)
    used = {citation.source for citation in citations}
    sources = (*(s for s in profile.sources if s.name != SOURCE), probes)
    return replace(
        profile,
        sources=tuple(source for source in sources if source.name in used),
        citations=citations,
        assumed=tuple(fact for fact in profile.assumed if fact not in probed),
    )
