"""Which lines a cache keeps when they lie apart: operands that are read in place (rank 4).

Not in the paper, which packs everything. A packed block fills all sets of a cache evenly; rows of
an operand that is read in place lie one leading dimension apart and may fall into few sets.
"""

from __future__ import annotations

from math import gcd

from anatune.hwprofile.profile import CacheLevel

PAGE_BYTES = 4096
"""Page size where the profile has no TLB: the base page of x86-64, AArch64 and RISC-V alike."""


def strided_lines(level: CacheLevel, row_bytes: int, stride_bytes: int, page_bytes: int) -> int:
    """Lines of a level that rows of ``row_bytes``, ``stride_bytes`` apart, can occupy at most.

    Rows start at page/gcd(page, stride) places within a page. A cache larger than a page a way is
    indexed by physical addresses, and pages lie anywhere: each place occurs once per page colour
    (N_i*C_i / page of them). Lines = min(N_i, places * lines of a row * colours) * W_i.
    """
    line = level.line_bytes
    places = page_bytes // gcd(page_bytes, stride_bytes)
    colours = max(1, level.sets * line // page_bytes)
    lines_of_row = -(-row_bytes // line)
    return min(level.sets, places * lines_of_row * colours) * level.ways


def keeps_rows(
    level: CacheLevel, rows: int, row_bytes: int, stride_bytes: int, page_bytes: int
) -> bool:
    """Whether ``rows`` rows stay in a level while others stream past, one way left to those."""
    if stride_bytes == row_bytes:
        return keeps(level, rows * row_bytes)
    lines = rows * -(-row_bytes // level.line_bytes)
    room = strided_lines(level, row_bytes, stride_bytes, page_bytes)
    return lines <= room * (level.ways - 1) / level.ways


def keeps(level: CacheLevel, size_bytes: float) -> bool:
    """Whether a packed block stays in a level while others stream past, one way left to those."""
    return size_bytes <= level.size_bytes * (level.ways - 1) / level.ways


def kept_share(level: CacheLevel | None, size_bytes: float) -> float:
    """Share of a block that a last-level cache keeps, one way left to others; 0 without the level.

    Not all or nothing, as strict least-recently-used replacement would have it: last levels are
    hashed, and their replacement resists streams.
    """
    if level is None:
        return 0.0
    return min(1.0, level.size_bytes * (level.ways - 1) / level.ways / size_bytes)
