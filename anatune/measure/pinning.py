"""Where the threads of a kernel run while it is timed: each on a processor of its own (rank 6).

A scheduler takes longer than a batch to part two threads that it has put on one processor, and a
pool's threads spin, so that neither ever makes way: a kernel then takes twice its time, in some
processes and not in others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

TASKS = Path("/proc/self/task")

SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"

CAN_PIN = hasattr(os, "sched_setaffinity") and TASKS.is_dir()


def processors() -> int:
    """How many processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def pin_threads() -> None:
    """Give each thread of this process a processor of its own, as far as there are so many.

    The processors with the highest numbers are taken, one of each core first: the lowest serve
    most interrupts. Nothing happens where the system cannot do it.
    """
    if not CAN_PIN:
        return
    threads = sorted(int(task.name) for task in TASKS.iterdir())
    places = one_of_each_core(sorted(os.sched_getaffinity(0), reverse=True))
    for thread, place in zip(threads, places):
        try:
            os.sched_setaffinity(thread, {place})
        except OSError:  # it ended in between, or may not
            continue


def one_of_each_core(
    processors: Sequence[int], siblings: Callable[[int], str] = lambda p: _read(SIBLINGS.format(p))
) -> list[int]:
    """``processors``, those that share a core with an earlier one moved to the end."""
    cores = [siblings(processor) or str(processor) for processor in processors]
    first = [p for place, p in enumerate(processors) if cores[place] not in cores[:place]]
    return first + [p for p in processors if p not in first]


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return ""
