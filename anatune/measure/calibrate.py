"""How many calls make a batch, and in how many parts it is timed (rank 6)."""

from __future__ import annotations

from collections.abc import Callable

SLICES = 16
"""Parts of a batch that are timed apart, where it has so many calls; their median is the sample, so
that an interruption of some of them is not seen."""

COLD_CALLS = 5
"""Calls of a cold sample at most: emptying the caches takes far longer than most of them."""

LEAST_S = 1e-9
"""What a kernel takes at least, seconds: a timer may say 0."""


def calls_of_batch(sample: Callable[[int], float], batch_s: float, cold: bool) -> int:
    """Calls that make a batch of about ``batch_s``, found by doubling: what timeit does.

    ``sample(calls)`` is what a call takes, seconds; ``cold``: caches are emptied before each.
    """
    calls = 1
    while True:
        seconds = max(LEAST_S, calls * sample(calls))
        if cold:
            return max(1, min(COLD_CALLS, int(batch_s / seconds)))
        if seconds >= batch_s / 2:
            return max(1, round(calls * batch_s / seconds))
        calls *= 2
