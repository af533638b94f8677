"""Measure what no system tells: rates, latencies, bandwidths, parallel regions (rank 6)."""

from __future__ import annotations

import datetime
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from anatune.codegen.link import write_loadable
from anatune.codegen.probes import CLOCK_STEPS, Probe, build_probe
from anatune.hwprofile import CacheLevel, Citation, CoreKind, Memory, Profile, Source, Tlb
from anatune.hwprofile.schema import facts
from anatune.measure.worker import Worker
from anatune.plan import CodeTarget

PROBED_DTYPES = ("float64", "float32")  # in the order of the format
ELEMENT_BYTES = {"float32": 4, "float64": 8, "int64": 8}
F32_BYTES = ELEMENT_BYTES["float32"]

SAMPLES = 5
"""Runs of each probe in a round; the fastest counts: whatever else runs can only slow it down."""

ROUNDS = 3
"""Times that all probes are run: a disturbance rarely lasts through two rounds."""

TARGET_S = 0.004
"""Length of one probe run, seconds: long against the timer, and all of them take but seconds."""

GUESSED_HZ = 2e9
"""Clock that run lengths are computed from; a real clock twice as high halves them: no harm."""

GUESSED_CHAIN_CYCLES = 8
"""Cycles from one dependent multiply-add to the next, at most, for the same purpose."""

GUESSED_CHASE_CYCLES = 20
"""Cycles from one dependent read to the next, likewise: about those of a second-level cache."""

GUESSED_READ_BYTES_PER_CYCLE = 16
"""Bytes read per cycle, likewise: fewer than a first-level cache gives, more than memory."""

SPARE_REGISTERS = 4
"""Vector registers that the multiply-add probe leaves to factor, addend and compiler."""

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

HANG_S = 60.0
"""A probe that has not answered after this many seconds is taken to hang."""


@dataclass
class _Lab:
    """Builds each probe once, runs it in a worker, and remembers the fastest run of all rounds."""

    target: CodeTarget
    worker: Worker
    folder: Path
    paths: dict[Probe, str] = field(default_factory=dict)
    fastest: dict[Probe, float] = field(default_factory=dict)

    def seconds(self, probe: Probe, chase_step: int = 0) -> float:
        if probe not in self.paths:
            executable = build_probe(probe, self.target)
            self.paths[probe] = write_loadable(executable, self.folder / f"probe{len(self.paths)}")
        arguments = (self.paths[probe], probe.dtype, probe.data_elements, probe.out_elements)
        times = self.worker.call("times", *arguments, chase_step, SAMPLES, timeout_s=HANG_S)
        self.fastest[probe] = min(*times, self.fastest.get(probe, times[0]))
        return self.fastest[probe]


def probe_profile(profile: Profile, progress: Callable[[str], None] = lambda text: None) -> Profile:
    """``profile`` with every fact that can be measured on this machine measured (takes seconds).

    Measured facts replace those of a table and cite `SOURCE`, a source of kind "measured".

    Raises:
        WorkerError: the worker process died, hung or could not be started.
        BuildError: a probe could not be compiled.
    """
    worker = Worker("anatune.measure.probe_bench:ProbeBench", (), profile.usable_threads)
    with worker, tempfile.TemporaryDirectory(prefix="anatune-") as folder:
        lab = _Lab(CodeTarget.of(profile.target), worker, Path(folder))
        for number in range(ROUNDS):
            measured = _round(lab, profile, lambda what: progress(f"{what}, round {number + 1}"))
    return _cited(measured)


def _round(lab: _Lab, profile: Profile, progress: Callable[[str], None]) -> Profile:
    """All probes, once more; facts follow from the fastest runs so far."""
    threads = profile.usable_threads
    progress("clock and multiply-add units")
    core = _probe_core(lab, profile.core, threads)
    progress("multiply-add peak")
    peaks = {d: _peak(lab, core, d, 1) for d in PROBED_DTYPES}
    peaks_all = {d: _peak(lab, core, d, threads) for d in PROBED_DTYPES}
    progress("caches and memory")
    caches = tuple(_probe_cache(lab, core, i, threads) for i in range(len(core.caches)))
    memory = _probe_memory(lab, profile, core, threads)
    progress("parallel regions")
    return replace(
        profile,
        cores=(replace(core, caches=caches, tlb=_probe_tlb(lab, core)), *profile.cores[1:]),
        memory=memory,
        barrier_s=_barrier(lab, threads),
        peak_flops=tuple(peaks.items()),
        peak_all_flops=tuple(peaks_all.items()),
    )


def _probe_core(lab: _Lab, core: CoreKind, threads: int) -> CoreKind:
    """Clock from a chain of one-cycle operations; FMA latency from one chain, rate from many."""
    lanes = core.lanes(F32_BYTES)
    repeats = int(TARGET_S * GUESSED_HZ / CLOCK_STEPS)

    def hertz(on: int) -> float:
        probe = Probe("clock", "int64", 1, threads=on, repeats=repeats)
        return repeats * CLOCK_STEPS / lab.seconds(probe)

    one_hz, all_hz = _digits(hertz(1)), _digits(hertz(threads))
    repeats = int(TARGET_S * GUESSED_HZ / GUESSED_CHAIN_CYCLES)
    chain_s = lab.seconds(Probe("multiply_add", "float32", lanes, repeats=repeats))
    free = core.vector_registers - SPARE_REGISTERS
    free_s = lab.seconds(Probe("multiply_add", "float32", lanes, repeats=repeats, chains=free))
    return replace(
        core,
        clock_one_hz=one_hz,
        clock_all_hz=min(all_hz, one_hz),
        fma_latency_cycles=round(chain_s * one_hz / repeats, 1),
        fma_per_cycle=round(free * repeats / (free_s * one_hz), 1),
    )


def _peak(lab: _Lab, core: CoreKind, dtype: str, threads: int) -> float:
    """FLOP/s of a register-only multiply-add loop, all threads together."""
    lanes = core.lanes(ELEMENT_BYTES[dtype])
    chains = core.vector_registers - SPARE_REGISTERS
    repeats = int(TARGET_S * GUESSED_HZ / chains)
    probe = Probe("multiply_add", dtype, lanes, threads=threads, repeats=repeats, chains=chains)
    return _digits(2 * lanes * chains * repeats * threads / lab.seconds(probe))


def _digits(value: float, digits: int = 4) -> float:
    """``value`` without digits that another run would not repeat."""
    return float(f"{value:.{digits}g}")


def _read_rate(lab: _Lab, core: CoreKind, size_bytes: float, threads: int) -> float:
    """Bytes per second that each of ``threads`` reads of its own ``size_bytes``."""
    lanes, chains = core.lanes(F32_BYTES), min(READ_CHAINS, core.vector_registers // 2)
    step = lanes * chains
    elements = max(1, int(size_bytes / F32_BYTES) // step) * step
    pass_bytes = F32_BYTES * elements
    repeats = max(1, int(TARGET_S * GUESSED_HZ * GUESSED_READ_BYTES_PER_CYCLE / pass_bytes))
    probe = Probe("read", "float32", lanes, threads, repeats, chains, elements)
    return pass_bytes * repeats / lab.seconds(probe)


def _probe_cache(lab: _Lab, core: CoreKind, position: int, threads: int) -> CacheLevel:
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


def _latency(lab: _Lab, size_bytes: float, line_bytes: int) -> float:
    """Seconds per read when each read waits for the one before it, on lines in random order."""
    step = line_bytes // ELEMENT_BYTES["int64"]
    elements = int(size_bytes) // ELEMENT_BYTES["int64"] // step * step
    repeats = int(TARGET_S * GUESSED_HZ / GUESSED_CHASE_CYCLES)
    probe = Probe("chase", "int64", 1, repeats=repeats, elements=elements)
    return lab.seconds(probe, chase_step=step) / repeats


def _probe_memory(lab: _Lab, profile: Profile, core: CoreKind, threads: int) -> Memory:
    last = core.caches[-1].size_bytes if core.caches else NO_CACHE_BYTES
    size = min(MEMORY_FACTOR * last, MAX_MEMORY_BYTES)
    one = _read_rate(lab, core, size, 1)
    every = threads * _read_rate(lab, core, size / threads, threads)
    return replace(
        profile.memory,
        read_one_bytes_per_s=_digits(one),
        read_all_bytes_per_s=_digits(max(one, every)),
    )


def _probe_tlb(lab: _Lab, core: CoreKind) -> Tlb | None:
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


def _barrier(lab: _Lab, threads: int) -> float:
    """Seconds to start and join a parallel region whose threads do next to nothing."""
    if threads == 1:
        return LEAST_TIME_S  # no region is started
    return max(LEAST_TIME_S, _digits(lab.seconds(Probe("empty", "float32", 1, threads=threads))))


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
