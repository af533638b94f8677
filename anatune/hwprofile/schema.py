"""The profile format, declared once: keys in order, units, ranges, what may be unknown (rank 1).

Reading, writing, the content hash, the missing facts and the JSON schema all walk this description.
It names nouns and their fields as text, because `profile` builds on it.
"""

from __future__ import annotations

from collections.abc import Iterator

from anatune.hwprofile.accelerator_schema import ACCELERATOR
from anatune.hwprofile.grammar import Block, Fact, Header, Item, Kind, Listed, Need, Table
from anatune.units import (
    BANDWIDTH,
    BITS,
    BYTES_PER_CYCLE,
    CAPACITY,
    CLOCK,
    CYCLES,
    FLOP_PER_CYCLE,
    FLOP_RATE,
    TIME,
    Quantity,
)

VERSION = 1
OLDEST_VERSION = 1
CHANGES = {1: "first version"}  # version -> what a file must change to be of this version

ISAS = ("x86_64", "aarch64", "riscv64", "nvptx", "none")
DOTS = ("bf16 pairs", "int8 quads", "int16 pairs", "int16 pairs and add", "int32")
SOURCE_KINDS = ("detected", "measured", "document", "assumed")
NAME_PATTERN = "[a-z0-9][a-z0-9_]{0,63}"

Path = tuple[str, ...]


def _text(
    key: str, need: Need = Need.OPTIONAL, about: str = "", words: tuple[str, ...] = ()
) -> Fact:
    return Fact(
        key=key, attr=key, kind=Kind.TEXT, need=need, sourced=False, about=about, words=words
    )


def _unknown(
    key: str, attr: str, kind: Quantity | Kind, low: float, high: float, about: str
) -> Fact:
    return Fact(key=key, attr=attr, kind=kind, need=Need.NULLABLE, low=low, high=high, about=about)


SOURCE = Block(
    key="source",
    noun="Source",
    items=(
        _text("kind", Need.REQUIRED, words=SOURCE_KINDS),
        _text(
            "where",
            Need.REQUIRED,
            about="where exactly; for assumed: why, and what would settle it",
        ),
        _text("host"),
        _text("date"),
        _text("spread"),
    ),
)

TARGET = Block(
    key="target",
    attr="target",
    noun="Target",
    need=Need.REQUIRED,
    about="handed to LLVM unchanged",
    items=(
        _text("isa", Need.REQUIRED, words=ISAS),
        _text("mcpu", Need.REQUIRED),
        _text("triple"),
        Fact(key="features", attr="features", kind=Kind.WORDS, need=Need.OPTIONAL, sourced=False),
    ),
)

CACHE = Block(
    key="caches",
    noun="CacheLevel",
    items=(
        Fact(key="level", attr="level", kind=Kind.COUNT, high=5, sourced=False),
        Fact(key="sets", attr="sets", kind=Kind.COUNT, high=2**26),
        Fact(key="ways", attr="ways", kind=Kind.COUNT, high=1024),
        Fact(key="line", attr="line_bytes", kind=CAPACITY, low=8, high=1024),
        Fact(
            key="size", attr="size_bytes", kind=CAPACITY, need=Need.OPTIONAL, repeats=True,
            low=512, high=2**34, about="sets x ways x line",
        ),
        Fact(key="cores", attr="cores", kind=Kind.COUNT, high=4096, about="that share it"),
        Fact(
            key="holds", attr="holds", kind=Kind.TEXT, need=Need.OPTIONAL,
            words=("copies", "victims", "own"), about="what it has of the nearer levels",
        ),
        _unknown("read", "read_bytes_per_cycle", BYTES_PER_CYCLE, 0.01, 4096, "towards one core"),
        _unknown(
            "read_all", "read_all_bytes_per_cycle", BYTES_PER_CYCLE, 0.01, 4096,
            "towards each core, all cores reading",
        ),
        _unknown("latency", "latency_cycles", CYCLES, 1, 2000, "load to use"),
    ),
)  # fmt: skip

TLB = Block(
    key="tlb",
    attr="tlb",
    noun="Tlb",
    need=Need.NULLABLE,
    items=(
        Fact(key="entries", attr="entries", kind=Kind.COUNT, high=2**20),
        Fact(
            key="second_entries",
            attr="second_entries",
            kind=Kind.COUNT,
            need=Need.OPTIONAL,
            high=2**20,
        ),
        Fact(
            key="page", attr="page_bytes", kind=CAPACITY, need=Need.OPTIONAL, low=1024, high=2**30
        ),
        _unknown(
            "miss",
            "miss_cycles",
            CYCLES,
            0.1,
            2000,
            "a first-level miss that the second level serves",
        ),
    ),
)

DOT = Block(
    key="dots",
    noun="Dot",
    items=(
        Fact(key="name", attr="name", kind=Kind.TEXT, words=DOTS, sourced=False),
        _unknown("per_cycle", "per_cycle", Kind.NUMBER, 0.01, 64, "of full width"),
        _unknown("latency", "latency_cycles", CYCLES, 1, 100, "from a sum to the next one"),
    ),
)

CORE = Block(
    key="cores",
    noun="CoreKind",
    items=(
        Fact(key="name", attr="name", kind=Kind.NAME, sourced=False),
        Fact(key="count", attr="count", kind=Kind.COUNT, high=4096),
        Fact(key="threads_each", attr="threads_each", kind=Kind.COUNT, high=8),
        Fact(
            key="cpus", attr="cpus", kind=Kind.COUNTS, need=Need.OPTIONAL, sourced=False,
            low=0, high=65535, about="the operating system's numbers",
        ),
        Block(
            key="clock",
            about="sustained in multiply-add loops",
            items=(
                _unknown("one_core", "clock_one_hz", CLOCK, 1e7, 2e10, "one core busy"),
                _unknown("all_cores", "clock_all_hz", CLOCK, 1e7, 2e10, "all cores busy"),
            ),
        ),
        Block(
            key="vector",
            items=(
                Fact(key="width", attr="vector_bits", kind=BITS, low=32, high=65536),
                Fact(key="registers", attr="vector_registers", kind=Kind.COUNT, high=1024),
            ),
        ),
        Block(
            key="fma",
            items=(
                _unknown("per_cycle", "fma_per_cycle", Kind.NUMBER, 0.01, 64, "of full width"),
                _unknown("latency", "fma_latency_cycles", CYCLES, 1, 100, "cycles to the result"),
            ),
        ),
        _unknown("loads_per_cycle", "loads_per_cycle", Kind.NUMBER, 0.01, 64, "of full width"),
        _unknown("stores_per_cycle", "stores_per_cycle", Kind.NUMBER, 0.01, 64, "of full width"),
        Listed(key="caches", attr="caches", block=CACHE, identity="level", about="nearest first"),
        TLB,
        Listed(
            key="dots", attr="dots", block=DOT, identity="name",
            about="short sums of products, each added to a lane of a vector",
        ),
    ),
)  # fmt: skip

MEMORY = Block(
    key="memory",
    attr="memory",
    noun="Memory",
    cpu_only=True,
    items=(
        _unknown("read_one", "read_one_bytes_per_s", BANDWIDTH, 1e7, 1e14, "one thread"),
        _unknown(
            "read_all", "read_all_bytes_per_s", BANDWIDTH, 1e7, 1e14, "all usable threads together"
        ),
        Fact(
            key="size", attr="size_bytes", kind=CAPACITY, need=Need.OPTIONAL, low=2**20, high=2**50
        ),
    ),
)

PROBES = Block(
    key="probes",
    cpu_only=True,
    about="what anatune profile measure timed on this machine",
    items=(
        _unknown("barrier", "barrier_s", TIME, 1e-8, 1, "start and join of one parallel region"),
        Table(
            key="peak", attr="peak_flops",
            about="register-only loop on one thread, by data type of A and B",
            value=Fact(key="*", kind=FLOP_RATE, low=1e6, high=1e18),
        ),
        Table(
            key="peak_all", attr="peak_all_flops", about="the same on all usable threads together",
            value=Fact(key="*", kind=FLOP_RATE, low=1e6, high=1e18),
        ),
    ),
)  # fmt: skip

GPU = Block(
    key="gpu",
    attr="gpu",
    noun="Gpu",
    items=(
        Fact(key="sms", attr="sms", kind=Kind.COUNT, high=4096),
        Fact(key="clock", attr="clock_hz", kind=CLOCK, low=1e7, high=2e10),
        Fact(key="warp_threads", attr="warp_threads", kind=Kind.COUNT, high=128),
        Fact(key="registers_per_sm", attr="registers_per_sm", kind=Kind.COUNT, high=2**24),
        Fact(key="registers_per_thread", attr="registers_per_thread", kind=Kind.COUNT, high=4096),
        Fact(key="threads_per_sm", attr="threads_per_sm", kind=Kind.COUNT, high=2**16),
        Fact(key="blocks_per_sm", attr="blocks_per_sm", kind=Kind.COUNT, high=1024),
        Fact(key="shared_per_sm", attr="shared_per_sm_bytes", kind=CAPACITY, low=1024, high=2**26),
        Fact(
            key="shared_per_block", attr="shared_per_block_bytes", kind=CAPACITY,
            low=1024, high=2**26, about="the largest that a kernel may opt in to",
        ),
        _unknown("shared_read", "shared_bytes_per_cycle", BYTES_PER_CYCLE, 1, 65536, "per SM"),
        Fact(key="l2", attr="l2_bytes", kind=CAPACITY, low=1024, high=2**36),
        _unknown("l2_read", "l2_bytes_per_s", BANDWIDTH, 1e8, 1e15, "all SMs together"),
        Fact(key="memory_read", attr="memory_bytes_per_s", kind=BANDWIDTH, low=1e8, high=1e15),
        Fact(
            key="fp32_per_cycle", attr="fp32_flops_per_sm_cycle", kind=FLOP_PER_CYCLE,
            about="per SM",
        ),
        Table(
            key="tensor", attr="tensor_flops", about="dense tensor-core rate per SM",
            value=Fact(key="*", kind=FLOP_PER_CYCLE),
        ),
    ),
)  # fmt: skip

CHECK = Block(
    key="check",
    about="known totals that the loader must reproduce",
    items=tuple(
        Fact(key=key, kind=kind, need=Need.OPTIONAL, low=0.01, high=1e20, repeats=True, about=about)
        for key, kind, about in (
            ("f32_flops_per_cycle", Kind.NUMBER, "one core of the first kind"),
            ("f64_flops_per_cycle", Kind.NUMBER, "one core of the first kind"),
            ("hardware_threads", Kind.COUNT, "of all kinds of core"),
            ("f32_flops", FLOP_RATE, "the whole GPU, outside tensor cores"),
            ("f16_tensor_flops", FLOP_RATE, "the whole GPU, dense"),
            ("macs_per_cycle", Kind.NUMBER, "the accelerator's first operation"),
        )
    ),
)

FORMAT = Block(
    key="",
    noun="Profile",
    items=(
        Header(key="schema", about="version of the format"),
        Fact(key="name", attr="name", kind=Kind.NAME, sourced=False, about="the file's name"),
        _text("title", Need.REQUIRED, about="for people"),
        Header(key="like", about="parent profile: this file states only what differs"),
        TARGET,
        _text("brand", about="what the machine calls itself"),
        Fact(
            key="virtualized", attr="virtualized", kind=Kind.FLAG, need=Need.OPTIONAL,
            sourced=False, about="a guest: what it sees of shared caches may be wrong",
        ),
        Fact(
            key="usable_threads", attr="usable_threads", kind=Kind.COUNT, need=Need.OPTIONAL,
            high=32768, about="threads that may run at once; absent: all",
        ),
        Header(key="sources", about="where the numbers come from"),
        Listed(key="cores", attr="cores", block=CORE, identity="name", about="the fastest first"),
        MEMORY,
        PROBES,
        GPU,
        ACCELERATOR,
        CHECK,
    ),
)  # fmt: skip


def facts(
    noun: object, block: Block = FORMAT, path: Path = ()
) -> Iterator[tuple[Path, Item, object]]:
    """Every fact of a noun with its path, in the format's order; an absent block is one None."""
    for item in block.items:
        here = (*path, item.key)
        if isinstance(item, Fact) and item.attr:
            yield here, item, getattr(noun, item.attr)
        elif isinstance(item, Table):
            for key, value in getattr(noun, item.attr):
                yield (*here, key), item.value, value
        elif isinstance(item, Listed):
            for entry in getattr(noun, item.attr):
                yield from facts(entry, item.block, (*here, str(getattr(entry, item.identity))))
        elif isinstance(item, Block):
            inner = getattr(noun, item.attr) if item.attr else noun
            if inner is None:
                yield here, item, None
            else:
                yield from facts(inner, item, here)


def missing_facts(profile: object) -> tuple[str, ...]:
    """Dotted names of the facts that are unknown although a measurement could find them."""
    coreless = not getattr(profile, "cores")
    unmissed = {item.key for item in FORMAT.items if isinstance(item, Block) and item.cpu_only}
    return tuple(
        ".".join(path)
        for path, item, value in facts(profile)
        if value is None and getattr(item, "need", None) is Need.NULLABLE
        if not (coreless and path[0] in unmissed)
    )
