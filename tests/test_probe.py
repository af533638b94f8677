"""Facts from probe times: a made-up machine answers for the worker, so every time is known."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anatune.hwprofile import CacheLevel, Profile, dump_profile, load_profile, parse_profile
from anatune.hwprofile.schema import facts

pytest.importorskip("tvm")

from anatune.codegen.probes import CLOCK_STEPS, Probe  # noqa: E402
from anatune.measure import lab, probe_units  # noqa: E402
from anatune.measure import probe as probes  # noqa: E402
from anatune.measure.probe_bench import ProbeBench  # noqa: E402

BEFORE = load_profile("zen5")
"""Two threads; private L1 and L2, one L3 that both share; none of the figures below is its own."""

ONE_HZ, ALL_HZ = 4.0e9, 3.5e9
FMA_PER_CYCLE, FMA_LATENCY = 1.6, 5.0
DOTS = {  # name: sums of full width per cycle, cycles from one to the next
    "bf16 pairs": (1.1, 6.5),
    "int8 quads": (0.25, 7.0),
    "int16 pairs": (1.5, 3.5),
    "int16 pairs and add": (1.2, 2.5),
    "int32": (0.67, 2.0),
}
FMA = (FMA_PER_CYCLE, FMA_LATENCY)
READ, READ_ALL = (100.0, 50.0, 25.0), (90.0, 40.0, 12.5)  # bytes per cycle and thread
LATENCY = (3.0, 12.0, 60.0)
MEMORY_ONE, MEMORY_ALL = 2.0e10, 3.0e10  # bytes per second
TLB_MISS, L1_READ = 6.5, 0.5  # cycles
BARRIER_S = 4e-6

Slowness = Callable[[Probe, int], float]


def nearest(profile: Profile, size_bytes: float, threads: int) -> int:
    """Position of the first cache that holds ``size_bytes`` for each thread; beyond: memory's."""

    def holds(level: CacheLevel) -> bool:
        return size_bytes * min(threads, level.cores) <= level.size_bytes

    caches = profile.core.caches
    return next((i for i, level in enumerate(caches) if holds(level)), len(caches))


def true_seconds(profile: Profile, probe: Probe) -> float:
    """Time of a probe on the made-up machine."""
    alone = probe.threads == 1
    hz = ONE_HZ if alone else ALL_HZ
    if probe.kind == "clock":
        return probe.repeats * CLOCK_STEPS / hz
    if probe.kind == "multiply_add":
        return probe.repeats * probe.chains / DOTS.get(probe.arithmetic, FMA)[0] / hz
    if probe.kind == "sum":
        return probe.repeats * DOTS.get(probe.arithmetic, FMA)[1] / hz
    if probe.kind == "read":
        size = 4 * probe.elements
        place = nearest(profile, size, probe.threads)
        memory = MEMORY_ONE if alone else MEMORY_ALL / probe.threads
        rates = [rate * hz for rate in (READ if alone else READ_ALL)]
        rates[len(profile.core.caches) :] = [memory]
        return probe.repeats * size / rates[place]
    if probe.kind == "chase":
        return probe.repeats * LATENCY[nearest(profile, 8 * probe.elements, 1)] / hz
    if probe.kind == "stride":
        reads = probe.elements // probe.stride
        misses = reads > profile.core.tlb.entries
        return probe.repeats * reads * (L1_READ + TLB_MISS * misses) / hz
    assert probe.kind == "empty"
    return BARRIER_S


@dataclass
class MadeUpMachine:
    """Stands for compiler, loader and worker; ``slowness`` disturbs a probe in a round."""

    profile: Profile
    slowness: Slowness = lambda probe, number: 1.0
    built: list[Probe] = field(default_factory=list)
    round: int = 0
    closed: bool = False

    def start(self, factory: str, arguments: tuple, threads: int) -> MadeUpMachine:
        assert factory == f"{ProbeBench.__module__}:{ProbeBench.__name__}"
        assert (arguments, threads) == ((), self.profile.usable_threads)
        return self

    def __enter__(self) -> MadeUpMachine:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True

    def build(self, probe: Probe, target: object) -> Probe:
        self.built.append(probe)
        return probe

    def write(self, probe: Probe, stem: object) -> str:
        return str(self.built.index(probe))

    def hear(self, progress: str) -> None:
        self.round = int(progress.rsplit("round ", 1)[1])

    def call(self, method: str, *arguments: object, timeout_s: float) -> tuple[float, ...]:
        assert method == "times" and timeout_s > 0
        asked = inspect.signature(ProbeBench.times).bind(None, *arguments).arguments
        probe = self.built[int(asked["path"])]
        assert (probe.kind == "chase") == bool(asked["chase_step"])
        fastest = true_seconds(self.profile, probe) * self.slowness(probe, self.round)
        return tuple(fastest * (1 + (i - 1) ** 2) for i in range(asked["samples"]))


class Today(date):
    """The same for all tests, also at midnight."""

    @classmethod
    def today(cls) -> date:
        return cls(2026, 1, 31)


@contextmanager
def stand_in(machine: MadeUpMachine) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probes, "Worker", machine.start)
        patch.setattr(lab, "build_probe", machine.build)
        patch.setattr(lab, "write_loadable", machine.write)
        patch.setattr(probes, "datetime", SimpleNamespace(date=Today))
        yield


def measured(profile: Profile = BEFORE, **options: Slowness) -> Profile:
    machine = MadeUpMachine(profile, **options)
    with stand_in(machine):
        found = probes.probe_profile(profile, machine.hear)
    assert machine.closed and machine.round == probes.ROUNDS
    assert len(set(machine.built)) == len(machine.built), "a probe was built twice"
    return found


@pytest.fixture(scope="module")
def undisturbed() -> Profile:
    return measured()


def test_clock_and_multiply_adds(undisturbed):
    core = undisturbed.core
    assert (core.clock_one_hz, core.clock_all_hz) == (ONE_HZ, ALL_HZ)
    assert (core.fma_latency_cycles, core.fma_per_cycle) == (FMA_LATENCY, FMA_PER_CYCLE)


def test_each_arithmetic_that_the_machine_has(undisturbed):
    found = {dot.name: (dot.per_cycle, dot.latency_cycles) for dot in undisturbed.core.dots}
    slower = {"int16 pairs and add"}  # than int16 pairs, and never chosen where they are
    assert found == {name: dot for name, dot in DOTS.items() if name not in slower}


def test_arithmetics_that_the_machine_lacks_are_not_built():
    machine = MadeUpMachine(BEFORE)
    older = replace(BEFORE, target=replace(BEFORE.target, features=("avx2", "fma")))
    with stand_in(machine):
        core = probes.probe_profile(older, machine.hear).core
    assert {probe.arithmetic for probe in machine.built} == {
        "", "fma64", "fma32", "int16 pairs and add", "int32",
    }  # fmt: skip
    assert [dot.name for dot in core.dots] == ["int16 pairs and add", "int32"]


OPERATIONS = {  # per cycle of 512 bit: a product and its sum, in the fastest arithmetic of the type
    "float64": 2 * 8 * FMA_PER_CYCLE,
    "float32": 2 * 16 * FMA_PER_CYCLE,
    "float16": 2 * 16 * FMA_PER_CYCLE,
    "bfloat16": 2 * 32 * DOTS["bf16 pairs"][0],
    "int32": 2 * 16 * DOTS["int32"][0],
    "int16": 2 * 32 * DOTS["int16 pairs"][0],
    "int8": 2 * 32 * DOTS["int16 pairs"][0],  # quads are slower on the made-up machine
}


@pytest.mark.parametrize("dtype", OPERATIONS)
def test_peak(undisturbed, dtype):
    one, every = dict(undisturbed.peak_flops), dict(undisturbed.peak_all_flops)
    assert one[dtype] == probe_units.digits(OPERATIONS[dtype] * ONE_HZ)
    assert every[dtype] == probe_units.digits(2 * OPERATIONS[dtype] * ALL_HZ)


def test_no_latency_is_below_a_cycle(monkeypatch):
    monkeypatch.setitem(DOTS, "int32", (2.0, 0.4))
    assert measured().core.dot("int32").latency_cycles == 1.0


def test_caches_are_probed_at_their_own_level(undisturbed):
    caches = undisturbed.core.caches
    assert tuple(c.read_bytes_per_cycle for c in caches) == READ
    assert tuple(c.read_all_bytes_per_cycle for c in caches) == READ_ALL
    assert tuple(c.latency_cycles for c in caches) == LATENCY


def test_memory_tlb_and_parallel_regions(undisturbed):
    memory = undisturbed.memory
    assert (memory.read_one_bytes_per_s, memory.read_all_bytes_per_s) == (MEMORY_ONE, MEMORY_ALL)
    assert undisturbed.core.tlb.miss_cycles == TLB_MISS
    assert undisturbed.barrier_s == BARRIER_S


def test_every_machine_is_probed_where_its_levels_are():
    """Sizes follow from the caches; some L3 are too small beside L2 to be told apart."""
    for name in ("haswell", "zen2", "zen3", "zen4", "skylake_sp"):
        caches = measured(replace(load_profile(name), usable_threads=2)).core.caches
        assert tuple(c.read_bytes_per_cycle for c in caches) == READ, name
        assert tuple(c.latency_cycles for c in caches) == LATENCY, name


@settings(max_examples=20)
@given(st.data())
def test_a_disturbed_round_changes_nothing_beside_an_undisturbed_one(undisturbed, data):
    """Each probe has one quiet round, not the same for all of them."""
    quiet = data.draw(st.lists(st.integers(1, probes.ROUNDS), min_size=1, max_size=9))
    factor = data.draw(st.floats(1.001, 100))

    def slowness(probe: Probe, number: int) -> float:
        return 1.0 if number == quiet[probe.repeats % len(quiet)] else factor

    assert measured(slowness=slowness) == undisturbed


def test_a_disturbance_through_all_rounds_shows(undisturbed):
    """Or the test above could not fail."""
    slow = measured(slowness=lambda probe, number: 2.0)
    assert slow.core.clock_one_hz == ONE_HZ / 2
    assert slow.memory.read_one_bytes_per_s == MEMORY_ONE / 2
    assert slow.barrier_s == 2 * BARRIER_S


def values(profile: Profile) -> dict[str, object]:
    return {".".join(path): value for path, _, value in facts(profile)}


def cited(profile: Profile) -> set[str]:
    return {c.fact for c in profile.citations if c.source == probes.SOURCE}


def test_every_measured_fact_is_cited_and_no_other(undisturbed):
    before, after = values(BEFORE), values(undisturbed)
    assert cited(undisturbed) == {fact for fact in after if after[fact] != before.get(fact)}
    assert undisturbed.missing == ()
    assert not cited(undisturbed) & set(undisturbed.assumed)
    assert set(undisturbed.assumed) < set(BEFORE.assumed)
    (source,) = [s for s in undisturbed.sources if s.name == probes.SOURCE]
    assert source.kind == "measured"


def test_a_measured_profile_is_one_that_can_be_kept(undisturbed):
    assert parse_profile(dump_profile(undisturbed), undisturbed.name) == undisturbed


def test_measuring_again_replaces_what_was_measured(undisturbed):
    again = measured(undisturbed)
    assert again == undisturbed
    assert len({c.fact for c in again.citations}) == len(again.citations)


def test_one_thread_starts_no_region():
    alone = measured(replace(BEFORE, usable_threads=1))
    assert alone.barrier_s == probes.LEAST_TIME_S
    assert alone.core.clock_all_hz == alone.core.clock_one_hz == ONE_HZ
    assert alone.memory.read_all_bytes_per_s == MEMORY_ONE


def test_a_machine_without_caches_has_its_memory_measured():
    bare = replace(BEFORE, cores=(replace(BEFORE.core, caches=(), tlb=None),))
    found = measured(bare)
    assert found.memory.read_one_bytes_per_s == MEMORY_ONE
    assert found.core.tlb is None
    assert not [fact for fact in cited(found) if ".caches." in fact or ".tlb." in fact]


@pytest.mark.parametrize(
    ("value", "kept"), [(4249731234.0, 4.25e9), (123449.0, 123400.0), (3.14159e-6, 3.142e-6)]
)
def test_four_digits_are_kept(value, kept):
    assert lab.digits(value) == kept


@given(st.floats(1e-9, 1e18))
def test_digits_are_lost_once_and_few(value):
    kept = lab.digits(value)
    assert kept == pytest.approx(value, rel=0.5e-3)
    assert lab.digits(kept) == kept
