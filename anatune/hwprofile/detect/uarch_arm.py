"""The rows of `uarch` for 64-bit Arm: Arm's own cores, Fujitsu's and Apple's."""

from __future__ import annotations

from dataclasses import replace

from anatune.hwprofile.detect.facts import Part
from anatune.hwprofile.detect.uarch import APPLE_PAGE_BYTES, KIB, MIB, Uarch, arm, cache

_ARM_GUIDE = "Arm, Software Optimization Guide and Technical Reference Manual of the"

_CORTEX_A53 = Uarch(
    name="cortex_a53",
    where=f"{_ARM_GUIDE} Cortex-A53; latency from LLVM's scheduling model",
    mcpu=("cortex-a53",),
    parts=arm(0xD03),
    fma_latency_cycles=8,
    tlb_entries=10,
    tlb_second_entries=512,
    caches=(cache(1, 32 * KIB, 4), cache(2, 512 * KIB, 16, cores=4)),
)
_CORTEX_A55 = Uarch(
    name="cortex_a55",
    where=f"{_ARM_GUIDE} Cortex-A55",
    mcpu=("cortex-a55",),
    parts=arm(0xD05),
    tlb_entries=16,
    tlb_second_entries=1024,
    caches=(cache(1, 32 * KIB, 4), cache(2, 128 * KIB, 4)),
)
_CORTEX_A72 = Uarch(
    name="cortex_a72",
    where=f"{_ARM_GUIDE} Cortex-A72; multiply-add rate from published runs",
    mcpu=("cortex-a72",),
    parts=arm(0xD08),
    fma={128: 1},
    fma_latency_cycles=7,
    loads={128: 1},
    tlb_entries=32,
    tlb_second_entries=1024,
    caches=(cache(1, 32 * KIB, 2), cache(2, 1 * MIB, 16, cores=4)),
)
_CORTEX_A76 = Uarch(
    name="cortex_a76",
    where=f"{_ARM_GUIDE} Cortex-A76",
    mcpu=("cortex-a76",),
    parts=arm(0xD0B),
    fma={128: 2},
    fma_latency_cycles=4,
    loads={128: 2},
    tlb_entries=48,
    tlb_second_entries=1280,
    caches=(cache(1, 64 * KIB, 4), cache(2, 256 * KIB, 8)),
)
_NEOVERSE_N1 = replace(
    _CORTEX_A76,
    name="neoverse_n1",
    where=f"{_ARM_GUIDE} Neoverse N1",
    mcpu=("neoverse-n1",),
    parts=arm(0xD0C),
    caches=(cache(1, 64 * KIB, 4), cache(2, 1 * MIB, 8)),
)
_NEOVERSE_V1 = Uarch(
    name="neoverse_v1",
    where=f"{_ARM_GUIDE} Neoverse V1",
    mcpu=("neoverse-v1",),
    parts=arm(0xD40),
    fma={256: 2, 128: 4},
    fma_latency_cycles=4,
    loads={256: 2, 128: 3},
    stores={128: 2},
    sve_bits=256,
    caches=(cache(1, 64 * KIB, 4), cache(2, 1 * MIB, 8)),
)
_NEOVERSE_N2 = Uarch(
    name="neoverse_n2",
    where=f"{_ARM_GUIDE} Neoverse N2",
    mcpu=("neoverse-n2",),
    parts=arm(0xD49),
    fma={128: 2},
    fma_latency_cycles=4,
    loads={128: 3},
    sve_bits=128,
    caches=(cache(1, 64 * KIB, 4), cache(2, 512 * KIB, 8)),
)
_NEOVERSE_V2 = Uarch(
    name="neoverse_v2",
    where=f"{_ARM_GUIDE} Neoverse V2",
    mcpu=("neoverse-v2", "grace"),
    parts=arm(0xD4F),
    fma={128: 4},
    fma_latency_cycles=4,
    loads={128: 3},
    stores={128: 2},
    tlb_entries=48,
    tlb_second_entries=2048,
    sve_bits=128,
    caches=(cache(1, 64 * KIB, 4), cache(2, 1 * MIB, 8)),
)
_A64FX = Uarch(
    name="a64fx",
    where="Fujitsu, A64FX Microarchitecture Manual",
    mcpu=("a64fx",),
    parts=(Part(implementer=0x46, arm_part=0x001),),
    fma={512: 2},
    fma_latency_cycles=9,
    loads={512: 2},
    stores={512: 1},
    tlb_entries=16,
    tlb_second_entries=1024,
    page_bytes=64 * KIB,
    sve_bits=512,
    caches=(
        cache(1, 64 * KIB, 4, line_bytes=256),
        cache(2, 8 * MIB, 16, cores=12, line_bytes=256),
    ),
)

_APPLE = "Dougall Johnson's public measurements of the Apple M1"
_FIRESTORM = Uarch(
    name="firestorm",
    where=f"{_APPLE}, Firestorm; sizes as sysctl reports them",
    mcpu=("apple-m1", "apple-a14"),
    fma={128: 4},
    fma_latency_cycles=4,
    loads={128: 3},
    stores={128: 2},
    tlb_entries=160,
    tlb_second_entries=3072,
    page_bytes=APPLE_PAGE_BYTES,
    caches=(
        cache(1, 128 * KIB, 8, line_bytes=128),
        cache(2, 12 * MIB, 12, cores=4, line_bytes=128),
    ),
)
_ICESTORM = Uarch(
    name="icestorm",
    where=f"{_APPLE}, Icestorm; sizes as sysctl reports them",
    mcpu=("icestorm",),
    fma={128: 2},
    fma_latency_cycles=4,
    loads={128: 2},
    stores={128: 1},
    page_bytes=APPLE_PAGE_BYTES,
    caches=(
        cache(1, 64 * KIB, 8, line_bytes=128),
        cache(2, 4 * MIB, 16, cores=4, line_bytes=128),
    ),
)

ROWS: tuple[Uarch, ...] = (
    _CORTEX_A53,
    _CORTEX_A55,
    _CORTEX_A72,
    _CORTEX_A76,
    _NEOVERSE_N1,
    _NEOVERSE_V1,
    _NEOVERSE_N2,
    _NEOVERSE_V2,
    _A64FX,
    _FIRESTORM,
    _ICESTORM,
)
# The small cores of a hybrid chip, by LLVM's name for the chip.
EFFICIENCY_CORES: dict[str, Uarch] = {"apple-m1": _ICESTORM, "apple-a14": _ICESTORM}
