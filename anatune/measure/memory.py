"""Whether the operands of a workload fit into this machine's memory (rank 6)."""

from __future__ import annotations

import os
from typing import Any

from anatune.errors import WorkloadError, require
from anatune.units import CAPACITY
from anatune.workload import Matmul, Tensor

COPIES = 3
"""Room for operands: themselves, and what making, packing and checking them takes for a while."""

WIDENED_BYTES = 8
"""Of an element of A or B as a reference holds it."""


def available_bytes() -> int | None:
    """Memory that can be had without swapping; None where the system does not tell."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (OSError, ValueError, AttributeError, IndexError):
        return None


def resident_bytes(pid: int) -> int | None:
    """Memory that a process holds, shared pages included; None where the system does not tell."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return None


def needed_bytes(workload: Any) -> int:
    """Memory in which ``workload`` can be measured and its result checked."""
    tensors = _tensors(workload)
    held = sum(tensor.span * tensor.element_bytes for tensor in tensors)
    widened = WIDENED_BYTES * max(tensor.elements for tensor in tensors)
    widened //= getattr(workload, "batch", 1)
    return held + max((COPIES - 1) * held, held + widened)


def _tensors(workload: Any) -> list[Tensor]:
    if isinstance(workload, Matmul):
        return [workload.output, *workload.operands.values()]
    return [*workload.arguments.values(), *workload.results.values()]


def require_memory(workload: Any) -> None:
    """Raise WorkloadError where measuring ``workload`` would run out of memory."""
    free = available_bytes()
    needed = needed_bytes(workload)
    require(
        free is None or needed <= free,
        f"{workload}: operands need {CAPACITY.show(needed)} with room to check them, "
        f"{CAPACITY.show(free or 0)} are free; take smaller extents or a machine with more",
        WorkloadError,
    )
