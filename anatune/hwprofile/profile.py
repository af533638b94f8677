"""What anatune knows of a machine: facts with units in their names, nothing derived (rank 1).

Paper symbols: W_i = ``ways``, N_i = ``sets``, C_i = ``line_bytes`` of cache level i;
L = ``fma_latency_cycles``, N = ``fma_per_cycle``, R = ``vector_registers``.
A fact that is not known is ``None``; `Profile.missing_note` names the command that measures it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from anatune.hwprofile.accelerator import (  # noqa: F401
    Accelerator,
    DmaEngine,
    Scratchpad,
    TileOperation,
)
from anatune.hwprofile.schema import missing_facts

MEASURE_COMMAND = "anatune profile measure"

MULTIPLY_ADDS = ("fma64", "fma32")
"""Names of the arithmetics whose rate and latency are ``fma_per_cycle`` and ``fma_latency_cycles``:
of full-width vectors, so that one figure serves both."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where numbers come from. ``kind`` is one of detected, measured, document, assumed."""

    name: str
    kind: str
    where: str
    host: str | None = None
    date: str | None = None
    spread: str | None = None


@dataclass(frozen=True, kw_only=True)
class Citation:
    """Which source states a fact; ``fact`` is its dotted name in the file: ``cores.zen5.count``."""

    fact: str
    source: str
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class CacheLevel:
    """One data or unified cache level, as one core sees it; ``cores`` share one instance."""

    level: int
    sets: int
    ways: int
    line_bytes: int
    cores: int
    holds: str = "copies"  # copies | victims | own: whether lower levels are included
    read_bytes_per_cycle: float | None = None  # towards the core, one core reading
    read_all_bytes_per_cycle: float | None = None  # per core, all cores reading
    latency_cycles: float | None = None

    @property
    def size_bytes(self) -> int:
        return self.sets * self.ways * self.line_bytes


@dataclass(frozen=True, kw_only=True)
class Tlb:
    """Data TLB: entries of the first and second level for pages of ``page_bytes``."""

    entries: int
    second_entries: int | None = None
    page_bytes: int = 4096
    miss_cycles: float | None = None  # a first-level miss that the second level serves


@dataclass(frozen=True, kw_only=True)
class Dot:
    """A vector arithmetic beside the multiply-add: short sums of products, added to each lane.

    ``name`` is one of ``anatune.plan.ARITHMETIC``, and one of it may be several instructions.
    """

    name: str
    per_cycle: float | None  # of full width
    latency_cycles: float | None  # from a sum to the next one of the same lane


@dataclass(frozen=True, kw_only=True)
class CoreKind:
    """One kind of core; a hybrid chip has several, the fastest first."""

    name: str
    count: int
    threads_each: int
    cpus: tuple[int, ...] = ()  # operating-system numbers, known for a detected host only
    clock_one_hz: float | None
    clock_all_hz: float | None
    vector_bits: int
    vector_registers: int
    fma_per_cycle: float | None
    fma_latency_cycles: float | None
    loads_per_cycle: float | None  # full-width vector loads
    stores_per_cycle: float | None
    caches: tuple[CacheLevel, ...]  # nearest first
    tlb: Tlb | None = None
    dots: tuple[Dot, ...] = ()  # those that are known; without fma64 and fma32

    def dot(self, name: str) -> Dot | None:
        """Rate and latency of an arithmetic, the multiply-add among them; None: nothing known."""
        if name in MULTIPLY_ADDS:
            return Dot(
                name=name, per_cycle=self.fma_per_cycle, latency_cycles=self.fma_latency_cycles
            )
        return next((dot for dot in self.dots if dot.name == name), None)

    def lanes(self, element_bytes: int) -> int:
        """N_vec: elements of ``element_bytes`` in one vector; a scalar register holds one."""
        return max(1, self.vector_bits // (8 * element_bytes))


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Main-memory read bandwidth, bytes per second: one thread, and all usable threads together."""

    read_one_bytes_per_s: float | None = None
    read_all_bytes_per_s: float | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Target:
    """What LLVM is told; handed over unchanged."""

    isa: str  # x86_64 | aarch64 | riscv64 | nvptx | none: nothing is compiled for it
    mcpu: str
    triple: str | None = None
    features: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """Facts of a GPU; ``tensor_flops`` is dense tensor-core FLOP per SM and cycle by data type."""

    sms: int
    clock_hz: float
    warp_threads: int
    registers_per_sm: int
    registers_per_thread: int
    threads_per_sm: int
    blocks_per_sm: int
    shared_per_sm_bytes: int
    shared_per_block_bytes: int
    shared_bytes_per_cycle: float | None
    l2_bytes: int
    l2_bytes_per_s: float | None
    memory_bytes_per_s: float
    fp32_flops_per_sm_cycle: int
    tensor_flops: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One machine: exactly one of ``cores``, ``gpu`` and ``accelerator`` says something."""

    name: str
    title: str
    target: Target
    cores: tuple[CoreKind, ...] = ()
    gpu: Gpu | None = None
    accelerator: Accelerator | None = None
    memory: Memory = field(default_factory=Memory)
    usable_threads: int = 1
    virtualized: bool = False
    brand: str | None = None
    barrier_s: float | None = None  # start and join of one parallel region on all usable threads
    # Probed, operations per second (two for a product and its sum) by the data type of A and B:
    peak_flops: tuple[tuple[str, float], ...] = ()  # one thread
    peak_all_flops: tuple[tuple[str, float], ...] = ()  # all usable threads together
    sources: tuple[Source, ...] = ()
    citations: tuple[Citation, ...] = ()  # one for each number
    assumed: tuple[str, ...] = ()  # dotted names of the facts whose source is of kind "assumed"

    def __hash__(self) -> int:
        """Of a few fields: the model looks profiles up hundreds of times for one plan."""
        return hash((self.name, self.title, self.usable_threads, self.peak_flops))

    @property
    def core(self) -> CoreKind:
        """The fastest kind of core: the one that kernels are planned for."""
        return self.cores[0]

    @property
    def missing(self) -> tuple[str, ...]:
        """Dotted names of the facts that are None but that ``anatune profile measure`` can find."""
        return missing_facts(self)

    @property
    def missing_note(self) -> str | None:
        """One line that names the missing facts and the command that measures them."""
        missing = self.missing
        if not missing:
            return None
        mend = f"run {MEASURE_COMMAND}" if self.accelerator is None else "add them to the file"
        return f"{len(missing)} facts are missing: {', '.join(missing)}: {mend}"


def hardware_threads(cores: tuple[CoreKind, ...]) -> int:
    """Threads that the machine can run at once, of all kinds of core."""
    return sum(core.count * core.threads_each for core in cores)
