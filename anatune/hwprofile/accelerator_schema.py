"""The part of the profile format that describes accelerators (rank 1)."""

from __future__ import annotations

from anatune.hwprofile.grammar import DTYPES, Block, Fact, Kind, Listed, Need
from anatune.units import (
    BYTES_PER_CYCLE,
    CAPACITY,
    CLOCK,
    CYCLES,
    ENERGY_PER_BYTE,
    ENERGY_PER_FLOP,
)

MOVES = ("in", "out", "both")

_PER_BYTE = Fact(
    key="energy", attr="pj_per_byte", kind=ENERGY_PER_BYTE, need=Need.NULLABLE,
    low=1e-3, high=1e5,
)  # fmt: skip

OPERATION = Block(
    key="operations",
    noun="TileOperation",
    items=(
        Fact(key="dtype", attr="dtype", kind=Kind.TEXT, words=DTYPES, sourced=False),
        Fact(key="rows", attr="rows", kind=Kind.COUNT, high=4096),
        Fact(key="columns", attr="columns", kind=Kind.COUNT, high=4096),
        Fact(key="depth", attr="depth", kind=Kind.COUNT, high=4096),
        Fact(key="interval", attr="interval_cycles", kind=CYCLES, low=1, high=1e5),
        Fact(
            key="energy", attr="pj_per_flop", kind=ENERGY_PER_FLOP, need=Need.NULLABLE,
            low=1e-4, high=1e4, about="a multiply-add is two",
        ),
    ),
)  # fmt: skip

SCRATCHPAD = Block(
    key="scratchpads",
    noun="Scratchpad",
    items=(
        Fact(key="name", attr="name", kind=Kind.NAME, sourced=False),
        Fact(
            key="holds", attr="holds", kind=Kind.WORDS, sourced=False,
            about="operands of C = A B: of a, b and c",
        ),
        Fact(key="size", attr="size_bytes", kind=CAPACITY, low=64, high=2**36),
        Fact(key="banks", attr="banks", kind=Kind.COUNT, high=1024),
        Fact(
            key="bank_rate", attr="bank_bytes_per_cycle", kind=BYTES_PER_CYCLE,
            low=0.01, high=65536, about="of each bank, reads and writes together",
        ),
        _PER_BYTE,
    ),
)  # fmt: skip

DMA = Block(
    key="dma",
    noun="DmaEngine",
    items=(
        Fact(key="name", attr="name", kind=Kind.NAME, sourced=False),
        Fact(key="moves", attr="moves", kind=Kind.TEXT, words=MOVES, sourced=False),
        Fact(key="rate", attr="bytes_per_cycle", kind=BYTES_PER_CYCLE, low=0.01, high=65536),
        Fact(
            key="start", attr="start_cycles", kind=CYCLES, low=0, high=1e6,
            about="from a command to its first byte",
        ),
        Fact(key="burst", attr="burst_bytes", kind=CAPACITY, low=1, high=2**20),
        _PER_BYTE,
    ),
)  # fmt: skip

ACCELERATOR = Block(
    key="accelerator",
    attr="accelerator",
    noun="Accelerator",
    about="a tile engine with scratchpads that DMA engines fill",
    items=(
        Fact(key="clock", attr="clock_hz", kind=CLOCK, low=1e6, high=2e10),
        Fact(
            key="pipeline", attr="pipeline_cycles", kind=CYCLES, low=1, high=1e6,
            about="from an operation's start to its sums in the scratchpad",
        ),
        Fact(
            key="accumulate", attr="accumulate_cycles", kind=CYCLES, need=Need.OPTIONAL,
            low=1, high=1e6, about="from one operation to the next that adds to the same sums",
        ),
        Listed(key="operations", attr="operations", block=OPERATION, identity="dtype"),
        Listed(key="scratchpads", attr="scratchpads", block=SCRATCHPAD, identity="name"),
        Listed(key="dma", attr="dma", block=DMA, identity="name"),
    ),
)  # fmt: skip
