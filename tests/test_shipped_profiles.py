"""The shipped machine files: well-formed, complete, in agreement with published totals."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from anatune.hwprofile import CoreKind, Profile, check_file, load_profile
from anatune.plan import ARITHMETIC, CodeTarget

FOLDER = Path(__file__).resolve().parents[1] / "hwprofiles"
MAX_LINES = 80
MAX_COLUMNS = 100
MIB = 2**20

PLACEHOLDER = re.compile(
    r"\b(todo|fixme|tbd|xxx|placeholder|fill in|to be done)\b|\?\?", re.IGNORECASE
)


@dataclass(frozen=True)
class Cpu:
    """What data sheets say of the chip; written down here without looking at the profile."""

    mcpu: str
    f32_flops_per_cycle: int  # one core of the fastest kind
    cores: int
    threads: int
    last_cache_mib: float  # all instances of the fastest kind's last level


@dataclass(frozen=True)
class Gpu:
    mcpu: str
    fp32_tflops: float
    f16_tensor_tflops: float
    l2_mib: int
    shared_mib: float  # all SMs together


CPUS = {
    "zen2": Cpu("znver2", 32, 64, 128, 256),
    "zen3": Cpu("znver3", 32, 64, 128, 256),
    "zen4": Cpu("znver4", 32, 96, 192, 384),
    "zen5": Cpu("znver5", 64, 2, 2, 32),
    "haswell": Cpu("haswell", 32, 12, 24, 30),
    "skylake_sp": Cpu("skylake-avx512", 64, 20, 40, 27.5),
    "icelake_sp": Cpu("icelake-server", 64, 40, 80, 60),
    "sapphire_rapids": Cpu("sapphirerapids", 64, 56, 112, 105),
    "alder_lake": Cpu("alderlake", 32, 16, 24, 30),
    "cortex_a53": Cpu("cortex-a53", 8, 4, 4, 0.5),
    "cortex_a72": Cpu("cortex-a72", 8, 4, 4, 1),
    "cortex_a76": Cpu("cortex-a76", 16, 4, 4, 2),
    "neoverse_n1": Cpu("neoverse-n1", 16, 64, 64, 32),
    "neoverse_v1": Cpu("neoverse-v1", 32, 64, 64, 32),
    "neoverse_v2": Cpu("neoverse-v2", 32, 72, 72, 114),
    "carmel": Cpu("carmel", 16, 8, 8, 4),
    "a64fx": Cpu("a64fx", 64, 48, 48, 32),
    "apple_m1": Cpu("apple-m1", 32, 8, 8, 12),
    "sifive_u74": Cpu("sifive-u74", 2, 4, 4, 2),
    "spacemit_x60": Cpu("spacemit-x60", 16, 8, 8, 1),
    "generic_x86_64": Cpu("x86-64-v3", 32, 1, 1, 0.25),
    "generic_aarch64": Cpu("generic", 8, 1, 1, 0.25),
    "generic_riscv64": Cpu("generic-rv64", 2, 1, 1, 0.25),
}
GPUS = {
    "nvidia_a100": Gpu("sm_80", 19.5, 312, 40, 17.3),
    # The white paper rates float32 at 1980 MHz and tensor cores at 1830 MHz: 66.9 x 1830 / 1980.
    "nvidia_h100": Gpu("sm_90a", 61.8, 989.4, 50, 29.4),
    "nvidia_rtx4090": Gpu("sm_89", 82.6, 165.2, 72, 12.5),
}
# Whole-chip float64 peaks that vendors publish at the clock with all cores busy, TFLOP/s.
FP64_TFLOPS = {"a64fx": 3.3792, "neoverse_v2": 7.1 / 2}  # Grace: the superchip has two dies
ACCELERATORS = {"described_npu", "gemmini"}
HYBRID = {"alder_lake": ("p_core", "e_core"), "apple_m1": ("firestorm", "icestorm")}

FILES = sorted(path for path in FOLDER.glob("*.yaml") if not path.name.startswith("_"))
names = pytest.mark.parametrize("name", [path.stem for path in FILES])
cpus = pytest.mark.parametrize("name", CPUS)
gpus = pytest.mark.parametrize("name", GPUS)


def shipped(name: str) -> Profile:
    return load_profile(FOLDER / f"{name}.yaml")


def total_last_cache_mib(core: CoreKind, all_cores: int) -> float:
    """All instances of the last level; one that the whole chip shares exists once."""
    last = core.caches[-1]
    users = all_cores if last.cores > core.count else core.count
    return users / last.cores * last.size_bytes / MIB


def test_every_machine_is_there_and_no_other() -> None:
    assert {path.stem for path in FILES} == CPUS.keys() | GPUS.keys() | ACCELERATORS


@names
def test_file_is_in_order(name: str) -> None:
    assert check_file(FOLDER / f"{name}.yaml") == []


@names
def test_file_is_short_and_finished(name: str) -> None:
    lines = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MAX_LINES
    assert [line for line in lines if len(line) > MAX_COLUMNS] == []
    assert [line for line in lines if PLACEHOLDER.search(line)] == []


@names
def test_assumed_sources_say_what_would_settle_them(name: str) -> None:
    assumed = [s for s in shipped(name).sources if s.kind == "assumed"]
    silent = [s.name for s in assumed if "settle" not in s.where]
    assert silent == []


@names
def test_measured_and_detected_numbers_belong_to_the_development_machine_only(name: str) -> None:
    kinds = {source.kind for source in shipped(name).sources}
    assert name == "zen5" or kinds <= {"document", "assumed"}


@cpus
def test_peak_of_one_core(name: str) -> None:
    core = shipped(name).core
    assert core.fma_per_cycle is not None
    assert 2 * core.fma_per_cycle * core.lanes(4) == CPUS[name].f32_flops_per_cycle


@cpus
def test_totals_of_the_chip(name: str) -> None:
    profile, expected = shipped(name), CPUS[name]
    all_cores = sum(core.count for core in profile.cores)
    assert all_cores == expected.cores
    assert sum(core.count * core.threads_each for core in profile.cores) == expected.threads
    assert total_last_cache_mib(profile.core, all_cores) == expected.last_cache_mib


@pytest.mark.parametrize("name", FP64_TFLOPS)
def test_published_float64_peak_of_the_chip(name: str) -> None:
    core = shipped(name).core
    assert core.fma_per_cycle is not None and core.clock_all_hz is not None
    flops = core.count * core.clock_all_hz * 2 * core.fma_per_cycle * core.lanes(8)
    assert flops / 1e12 == pytest.approx(FP64_TFLOPS[name], rel=0.01)


@cpus
def test_the_register_file_can_hide_the_latency(name: str) -> None:
    """Else the stated peak could not be reached by any kernel."""
    for core in shipped(name).cores:
        assert core.fma_per_cycle is not None and core.fma_latency_cycles is not None
        assert core.fma_per_cycle * core.fma_latency_cycles + 2 <= core.vector_registers


@cpus
def test_the_model_finds_the_facts_that_it_needs(name: str) -> None:
    for core in shipped(name).cores:
        assert core.loads_per_cycle is not None
        assert core.clock_one_hz is not None or name.startswith("generic_")


@cpus
def test_every_known_arithmetic_is_one_that_the_machine_has(name: str) -> None:
    profile = shipped(name)
    target = CodeTarget.of(profile.target)
    unknown = [dot.name for dot in profile.core.dots if not ARITHMETIC[dot.name].runs_on(target)]
    assert unknown == []


@cpus
def test_no_arithmetic_is_faster_than_the_pipes_of_multiply_adds(name: str) -> None:
    core = shipped(name).core
    assert all(dot.per_cycle <= core.fma_per_cycle for dot in core.dots)


@pytest.mark.parametrize("name", HYBRID)
def test_hybrid_chips_list_the_fastest_kind_first(name: str) -> None:
    kinds = shipped(name).cores
    assert tuple(core.name for core in kinds) == HYBRID[name]
    clocks = [core.clock_one_hz or 0 for core in kinds]
    assert clocks == sorted(clocks, reverse=True)


@pytest.mark.parametrize("name", ["sifive_u74", "generic_riscv64"])
def test_a_scalar_core_holds_one_number_of_any_type_in_a_register(name: str) -> None:
    core = shipped(name).core
    assert (core.lanes(4), core.lanes(8)) == (1, 1)


@gpus
def test_peak_and_memories_of_a_gpu(name: str) -> None:
    gpu, expected = shipped(name).gpu, GPUS[name]
    assert gpu is not None
    per_second = gpu.sms * gpu.clock_hz
    fp32 = per_second * gpu.fp32_flops_per_sm_cycle / 1e12
    tensor = per_second * dict(gpu.tensor_flops)["float16"] / 1e12
    assert fp32 == pytest.approx(expected.fp32_tflops, rel=0.002)
    assert tensor == pytest.approx(expected.f16_tensor_tflops, rel=0.002)
    assert gpu.l2_bytes == expected.l2_mib * MIB
    assert gpu.sms * gpu.shared_per_sm_bytes / MIB == pytest.approx(expected.shared_mib, rel=0.005)


@names
def test_target_is_the_one_of_the_machine(name: str) -> None:
    known = {**CPUS, **GPUS}
    assert shipped(name).target.mcpu == (known[name].mcpu if name in known else "none")
