"""The rows of `uarch` for x86: Intel from Haswell, AMD from Zen."""

from __future__ import annotations

from dataclasses import replace

from anatune.hwprofile.detect.uarch import KIB, MIB, Uarch, amd, cache, intel

_INTEL_MANUAL = "Intel 64 and IA-32 Architectures Optimization Reference Manual (248966)"
_AMD_GUIDE = "AMD Software Optimization Guide for processors of family"

_HASWELL = Uarch(
    name="haswell",
    where=f"{_INTEL_MANUAL}, Haswell",
    mcpu=("haswell", "core-avx2"),
    parts=intel(0x3C, 0x3F, 0x45, 0x46),
    fma={256: 2, 128: 2},
    fma_latency_cycles=5,
    loads={256: 2, 128: 2},
    stores={256: 1, 128: 1},
    tlb_entries=64,
    tlb_second_entries=1024,
    caches=(cache(1, 32 * KIB, 8), cache(2, 256 * KIB, 8)),
    far_holds="copies",
)
_BROADWELL = replace(
    _HASWELL,
    name="broadwell",
    where=f"{_INTEL_MANUAL}, Broadwell",
    mcpu=("broadwell",),
    parts=intel(0x3D, 0x47, 0x4F, 0x56),
    tlb_second_entries=1536,
)
_SKYLAKE = replace(
    _BROADWELL,
    name="skylake",
    where=f"{_INTEL_MANUAL}, Skylake client",
    mcpu=("skylake",),
    parts=intel(0x4E, 0x5E, 0x8E, 0x9E, 0xA5, 0xA6),
    fma_latency_cycles=4,
    caches=(cache(1, 32 * KIB, 8), cache(2, 256 * KIB, 4)),
)
# One or two 512-bit FMA units by product, not by model: only a probe can tell.
_SKYLAKE_SERVER = replace(
    _SKYLAKE,
    name="skylake_server",
    where=f"{_INTEL_MANUAL}, Skylake server",
    mcpu=("skylake-avx512", "cascadelake", "cooperlake"),
    parts=intel(0x55),
    loads={512: 2, 256: 2, 128: 2},
    stores={512: 1, 256: 1, 128: 1},
    caches=(cache(1, 32 * KIB, 8), cache(2, 1 * MIB, 16)),
    far_holds="victims",
)
_SUNNY_COVE = Uarch(
    name="sunny_cove",
    where=f"{_INTEL_MANUAL}, Ice Lake client",
    mcpu=("icelake-client",),
    parts=intel(0x7D, 0x7E),
    fma={512: 1, 256: 2, 128: 2},
    fma_latency_cycles=4,
    loads={512: 2, 256: 2, 128: 2},
    stores={512: 1},
    tlb_entries=64,
    tlb_second_entries=2048,
    caches=(cache(1, 48 * KIB, 12), cache(2, 512 * KIB, 8)),
)
_SUNNY_COVE_SERVER = replace(
    _SUNNY_COVE,
    name="sunny_cove_server",
    where=f"{_INTEL_MANUAL}, Ice Lake server (Xeon Scalable)",
    mcpu=("icelake-server",),
    parts=intel(0x6A),
    fma={512: 2, 256: 2, 128: 2},
    caches=(cache(1, 48 * KIB, 12), cache(2, 1280 * KIB, 20)),
    far_holds="victims",
)
_GOLDEN_COVE = Uarch(
    name="golden_cove",
    where=f"{_INTEL_MANUAL}, Golden Cove in Alder Lake",
    mcpu=("alderlake",),
    parts=intel(0x97, 0x9A),
    fma={256: 2, 128: 2},
    fma_latency_cycles=4,
    loads={512: 2, 256: 3, 128: 3},
    stores={512: 1, 256: 2, 128: 2},
    tlb_entries=96,
    tlb_second_entries=2048,
    caches=(cache(1, 48 * KIB, 12), cache(2, 1280 * KIB, 10)),
)
_RAPTOR_COVE = replace(
    _GOLDEN_COVE,
    name="raptor_cove",
    where=f"{_INTEL_MANUAL}, Raptor Lake (Golden Cove with 2 MiB of L2)",
    mcpu=("raptorlake",),
    parts=intel(0xB7, 0xBA, 0xBF),
    caches=(cache(1, 48 * KIB, 12), cache(2, 2 * MIB, 16)),
)
_GOLDEN_COVE_SERVER = replace(
    _RAPTOR_COVE,
    name="golden_cove_server",
    where=f"{_INTEL_MANUAL}, Sapphire Rapids",
    mcpu=("sapphirerapids", "emeraldrapids"),
    parts=intel(0x8F, 0xCF),
    fma={512: 2, 256: 2, 128: 2},
    far_holds="victims",
)
_GRACEMONT = Uarch(
    name="gracemont",
    where=f"{_INTEL_MANUAL}, Gracemont: 256-bit operations take two 128-bit passes",
    mcpu=("gracemont",),
    fma={256: 1, 128: 2},
    loads={256: 1, 128: 2},
    stores={256: 1, 128: 2},
    caches=(cache(1, 32 * KIB, 8), cache(2, 2 * MIB, 16, cores=4)),
)

_ZEN1 = Uarch(
    name="zen1",
    where=f"{_AMD_GUIDE} 17h: 256-bit operations take two 128-bit passes",
    mcpu=("znver1",),
    parts=amd(0x17, 0x01, 0x08, 0x11, 0x18, 0x20),
    fma={256: 1, 128: 2},
    fma_latency_cycles=5,
    loads={256: 1, 128: 2},
    stores={256: 0.5, 128: 1},
    tlb_entries=64,
    tlb_second_entries=1536,
    caches=(cache(1, 32 * KIB, 8), cache(2, 512 * KIB, 8), cache(3, 8 * MIB, 16, cores=4)),
    far_holds="victims",
)
_ZEN2 = replace(
    _ZEN1,
    name="zen2",
    where=f"{_AMD_GUIDE} 17h, models 30h and greater",
    mcpu=("znver2",),
    parts=amd(0x17, 0x31, 0x47, 0x60, 0x68, 0x71, 0x90, 0x98, 0xA0),
    fma={256: 2, 128: 2},
    loads={256: 2, 128: 2},
    stores={256: 1, 128: 1},
    tlb_second_entries=2048,
)
_ZEN3 = replace(
    _ZEN2,
    name="zen3",
    where=f"{_AMD_GUIDE} 19h",
    mcpu=("znver3",),
    parts=amd(0x19, 0x01, 0x08, 0x21, 0x40, 0x44, 0x50),
    fma_latency_cycles=4,
    caches=(cache(1, 32 * KIB, 8), cache(2, 512 * KIB, 8), cache(3, 16 * MIB, 16, cores=8)),
)
_ZEN4 = replace(
    _ZEN3,
    name="zen4",
    where=f"{_AMD_GUIDE} 19h, models 10h and greater: 512-bit operations take two passes",
    mcpu=("znver4",),
    parts=amd(0x19, 0x11, 0x18, 0x61, 0x74, 0x75, 0x78, 0xA0),
    fma={512: 1, 256: 2, 128: 2},
    loads={512: 1, 256: 2, 128: 2},
    stores={512: 0.5, 256: 1, 128: 1},
    tlb_entries=72,
    tlb_second_entries=3072,
    caches=(cache(1, 32 * KIB, 8), cache(2, 1 * MIB, 8), cache(3, 16 * MIB, 16, cores=8)),
)
_ZEN5 = replace(
    _ZEN4,
    name="zen5",
    where=f"{_AMD_GUIDE} 1Ah, parts with the 512-bit data path (Turin, Granite Ridge)",
    mcpu=("znver5",),
    parts=amd(0x1A, 0x02, 0x11, 0x44),
    fma={512: 2, 256: 2, 128: 2},
    loads={512: 2, 256: 2, 128: 2},
    stores={512: 1},
    tlb_entries=96,
    tlb_second_entries=4096,
    caches=(cache(1, 48 * KIB, 12), cache(2, 1 * MIB, 16), cache(3, 16 * MIB, 16, cores=8)),
)
# Mobile parts of the same name split 512-bit operations, and LLVM's name does not tell them apart.
_ZEN5_UNKNOWN = replace(
    _ZEN5,
    name="zen5_unknown_width",
    where=f"{_AMD_GUIDE} 1Ah, facts that hold for both widths of the data path",
    parts=(),
    fma={256: 2, 128: 2},
    loads={256: 2, 128: 2},
    stores={},
)

ROWS: tuple[Uarch, ...] = (
    _HASWELL,
    _BROADWELL,
    _SKYLAKE,
    _SKYLAKE_SERVER,
    _SUNNY_COVE,
    _SUNNY_COVE_SERVER,
    _GOLDEN_COVE,
    _RAPTOR_COVE,
    _GOLDEN_COVE_SERVER,
    _GRACEMONT,
    _ZEN1,
    _ZEN2,
    _ZEN3,
    _ZEN4,
    _ZEN5_UNKNOWN,  # before _ZEN5: the name alone must not claim the wide data path
    _ZEN5,
)
# The small cores of a hybrid chip, by LLVM's name for the chip.
EFFICIENCY_CORES: dict[str, Uarch] = {"alderlake": _GRACEMONT, "raptorlake": _GRACEMONT}
