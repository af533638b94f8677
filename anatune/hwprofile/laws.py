"""What must hold between the facts of one machine; each law states its numbers (rank 1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

from anatune.hwprofile.accelerator_laws import of_accelerator
from anatune.hwprofile.profile import CoreKind, Gpu, Profile, Tlb, hardware_threads
from anatune.hwprofile.schema import CHECK, Path, facts
from anatune.units import CAPACITY

RATE_TOLERANCE = 0.01  # relative; vendors round their totals to two or three digits

Contradiction = tuple[Path, str]

_KIND_OF_ISA = {"nvptx": "gpu", "none": "accelerator"}  # all others: cores


def contradictions(profile: Profile, repeated: Mapping[Path, object]) -> Iterator[Contradiction]:
    """All that does not fit; ``repeated`` is what the file states although it follows."""
    yield from _of_machine(profile)
    for core in profile.cores:
        yield from _of_core(core, ("cores", core.name))
        yield from _of_caches(core, sum(kind.count for kind in profile.cores))
    if profile.gpu is not None:
        yield from _of_gpu(profile.gpu)
    if profile.accelerator is not None:
        yield from of_accelerator(profile.accelerator)
    yield from _of_repeated(profile, repeated)


def _of_machine(profile: Profile) -> Iterator[Contradiction]:
    there = {"gpu": profile.gpu is not None, "accelerator": profile.accelerator is not None}
    kinds = [name for name, stated in {"cores": bool(profile.cores), **there}.items() if stated]
    if len(kinds) != 1:
        yield ("cores",), "a profile has either cores or gpu or accelerator"
    wanted = _KIND_OF_ISA.get(profile.target.isa, "cores")
    if kinds and wanted not in kinds:
        yield ("target", "isa"), f"{profile.target.isa} does not go with {kinds[0]}"
    threads = hardware_threads(profile.cores)
    if profile.cores and profile.usable_threads > threads:
        why = f"{profile.usable_threads} is more than the {threads} hardware threads"
        yield ("usable_threads",), why
    cpus = [cpu for core in profile.cores for cpu in core.cpus]
    if len(set(cpus)) < len(cpus):
        yield ("cores",), "two kinds of core claim one of the cpus"


def _of_core(core: CoreKind, path: Path) -> Iterator[Contradiction]:
    if core.vector_bits % 32:
        yield (*path, "vector", "width"), f"{core.vector_bits} bit is not a multiple of 32 bit"
    if core.cpus and len(core.cpus) > core.count * core.threads_each:
        yield (*path, "cpus"), f"{len(core.cpus)} are more than {core.count} x {core.threads_each}"
    if not core.caches:
        yield (*path, "caches"), "is missing: the model cannot do without it"
    if core.tlb is not None:
        yield from _of_tlb(core.tlb, (*path, "tlb"))


def _of_tlb(tlb: Tlb, path: Path) -> Iterator[Contradiction]:
    if not _power_of_two(tlb.page_bytes):
        yield (*path, "page"), f"{CAPACITY.show(tlb.page_bytes)} is not a power of two"
    if tlb.second_entries is not None and tlb.second_entries < tlb.entries:
        yield (*path, "second_entries"), f"is less than the first level's {tlb.entries}"


def _of_caches(core: CoreKind, all_cores: int) -> Iterator[Contradiction]:
    path = ("cores", core.name, "caches")
    levels = [cache.level for cache in core.caches]
    if levels != list(range(1, len(levels) + 1)):
        yield path, f"levels are {levels}: start at 1, nearest first, leave none out"
    for cache in core.caches:
        here = (*path, str(cache.level))
        if not _power_of_two(cache.line_bytes):
            yield (*here, "line"), f"{cache.line_bytes} B is not a power of two"
        if cache.cores > all_cores:
            why = f"{cache.cores} is more than the {all_cores} cores of the machine"
            yield (*here, "cores"), why
    for near, far in pairwise(core.caches):
        here = (*path, str(far.level))
        if far.size_bytes < near.size_bytes:
            sizes = f"{CAPACITY.show(far.size_bytes)} is less than {CAPACITY.show(near.size_bytes)}"
            yield (*here, "size"), f"{sizes} of level {near.level}"
        if far.cores < near.cores:
            yield (*here, "cores"), f"{far.cores} is less than {near.cores} of level {near.level}"


def _of_gpu(gpu: Gpu) -> Iterator[Contradiction]:
    if gpu.shared_per_block_bytes > gpu.shared_per_sm_bytes:
        yield ("gpu", "shared_per_block"), "is more than shared_per_sm"
    if gpu.registers_per_thread > gpu.registers_per_sm:
        yield ("gpu", "registers_per_thread"), "is more than registers_per_sm"
    if gpu.threads_per_sm % gpu.warp_threads:
        why = f"is not a multiple of the warp's {gpu.warp_threads} threads"
        yield ("gpu", "threads_per_sm"), why


def _of_repeated(profile: Profile, repeated: Mapping[Path, object]) -> Iterator[Contradiction]:
    computed = {path: value for path, _, value in facts(profile)} | _totals(profile)
    for path, stated in repeated.items():
        actual = computed.get(path)
        if stated is None:
            continue
        if actual is None:
            yield path, "cannot be computed: a fact that it needs is missing"
        elif not _agrees(path, float(stated), float(actual)):  # type: ignore[arg-type]
            yield path, f"{stated:.12g} is stated, but the facts give {actual:.12g}"


def _agrees(path: Path, stated: float, actual: float) -> bool:
    tolerance = RATE_TOLERANCE if path[0] == CHECK.key and path[1].endswith("_flops") else 0.0
    return abs(stated - actual) <= tolerance * actual


def _totals(profile: Profile) -> dict[Path, float]:
    """The totals of ``check`` as far as the facts give them."""
    totals: dict[str, float] = {}
    if profile.cores:
        totals["hardware_threads"] = hardware_threads(profile.cores)
        if profile.core.fma_per_cycle is not None:
            for name, element_bytes in (("f32", 4), ("f64", 8)):
                flops = 2 * profile.core.fma_per_cycle * profile.core.lanes(element_bytes)
                totals[f"{name}_flops_per_cycle"] = flops
    if profile.gpu is not None:
        per_cycle = profile.gpu.sms * profile.gpu.clock_hz
        totals["f32_flops"] = per_cycle * profile.gpu.fp32_flops_per_sm_cycle
        tensor = dict(profile.gpu.tensor_flops)
        if "float16" in tensor:
            totals["f16_tensor_flops"] = per_cycle * tensor["float16"]
    if profile.accelerator is not None and profile.accelerator.operations:
        first = profile.accelerator.operations[0]
        macs = first.rows * first.columns * first.depth
        totals["macs_per_cycle"] = macs / first.interval_cycles
    return {(CHECK.key, name): value for name, value in totals.items()}


def _power_of_two(number: int) -> bool:
    return number & (number - 1) == 0
