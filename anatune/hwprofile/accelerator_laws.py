"""What must hold between the facts of one accelerator (rank 1)."""

from __future__ import annotations

from collections.abc import Iterator

from anatune.hwprofile.accelerator import Accelerator
from anatune.hwprofile.schema import Path
from anatune.units import CAPACITY

OPERANDS = ("a", "b", "c")


def of_accelerator(found: Accelerator) -> Iterator[tuple[Path, str]]:
    """All that does not fit, with where it stands."""
    root = ("accelerator",)
    for listed in ("operations", "scratchpads", "dma"):
        if not getattr(found, listed):
            yield (*root, listed), "is missing: the model cannot do without it"
    held = [operand for pad in found.scratchpads for operand in pad.holds]
    if found.scratchpads and sorted(held) != list(OPERANDS):
        why = f"hold {', '.join(held) or 'nothing'}: each of a, b and c is held by one scratchpad"
        yield (*root, "scratchpads"), why
    for pad in found.scratchpads:
        if pad.size_bytes % pad.banks:
            why = f"{CAPACITY.show(pad.size_bytes)} does not divide into {pad.banks} banks"
            yield (*root, "scratchpads", pad.name, "size"), why
    for way in ("in", "out"):
        if found.dma and not any(engine.moves in (way, "both") for engine in found.dma):
            yield (*root, "dma"), f"none moves {way}: write moves: {way} or moves: both"
    if found.accumulate_cycles > found.pipeline_cycles:
        yield (*root, "accumulate"), "is more than pipeline"
    for operation in found.operations:
        if operation.interval_cycles > found.pipeline_cycles:
            yield (*root, "operations", operation.dtype, "interval"), "is more than pipeline"
