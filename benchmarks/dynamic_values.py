"""Which values of a range dynamic.py looks at (nothing here measures)."""

from __future__ import annotations

import math

from dynamic_rows import Line

from anatune.plan import DynamicPlan
from anatune.workload import Dim

HEATS = 4
"""Values at which all settings of all libraries run, the ends among them."""

BETWEEN = 6
"""Steps in about equal ratios, wherever cuts and tiles are."""

CUT, TILE, ELSEWHERE = "cut", "tile", "between"

GOLDEN = (math.sqrt(5) - 1) / 2
"""Its multiples, less their whole parts, fill an interval evenly and keep no step with a tile."""


def geometric(low: int, high: int, count: int) -> list[int]:
    """``count`` values from ``low`` to ``high`` in about equal ratios; fewer where they meet."""
    steps = max(count - 1, 1)
    return sorted({round(low * (high / low) ** (n / steps)) for n in range(count)})


def heat_values(line: Line) -> list[int]:
    return geometric(line.low, line.high, HEATS)


def spread(line: Line, plan: DynamicPlan, count: int) -> list[int]:
    """``count`` values or all there are, half in equal ratios, half spread evenly; and more where
    they are not among them: the ends of all regions, and the heats' values."""
    low, span = line.low, line.high - line.low + 1
    found = set(geometric(low, line.high, math.ceil(count / 2)))
    number = 0
    while len(found) < min(count, span):
        number += 1
        found.add(low + int(number * GOLDEN % 1 * span))
    for region in plan.regions:
        (interval,) = region.intervals
        found |= {interval.low, interval.high or line.high}
    return sorted(found | set(heat_values(line)))


def neighbours(line: Line, plan: DynamicPlan) -> dict[int, str]:
    """Values, each of which is to be compared with the next one, and what lies between them.

    All cuts; of every variant, whole numbers of tiles, a power of two of them each; some others.
    """
    found = dict.fromkeys(geometric(line.low, line.high - 1, BETWEEN), ELSEWHERE)
    for region in plan.regions:
        (interval,) = region.intervals
        last = min(interval.high or line.high, line.high - 1)
        for cover in plan.of(region).covers:
            tile = cover.unit * cover.tile
            if isinstance(line.family.along(cover.dim), Dim):
                whole = (tile << power for power in range(line.high.bit_length()))
                found |= {v: TILE for v in whole if interval.low <= v <= last}
    firsts = [region.intervals[0].low for region in plan.regions]
    return found | {first - 1: CUT for first in firsts if first > line.low}
