"""The cheapest tiles of several sizes that cover an extent: an exact dynamic programme (rank 4).

Nothing here knows what is covered: sizes have costs, and costs of tiles add up.
"""

from __future__ import annotations

from collections.abc import Mapping

from anatune.errors import require


def cheapest_cover(extent: int, cost: Mapping[int, float]) -> tuple[int, ...]:
    """Sizes, largest first, that add up to ``extent`` at the least total cost.

    Of equally cheap covers the one with fewer tiles is taken. The recursion is that of the
    unbounded knapsack: best(e) = min over s of best(e - s) + cost(s).

    Args:
        extent: 0 or more.
        cost: of one tile of each size that there is.

    Raises:
        IllegalPlan: no sizes add up to ``extent``.
    """
    return covers(extent, cost)[extent]


def covers(most: int, cost: Mapping[int, float]) -> list[tuple[int, ...]]:
    """`cheapest_cover` of every extent from 0 to ``most``."""
    best: list[tuple[float, int, tuple[int, ...]] | None] = [(0.0, 0, ())]
    for extent in range(1, most + 1):
        found = None
        for size, price in cost.items():
            before = best[extent - size] if size <= extent else None
            if before is not None:
                total, count, sizes = before
                option = (total + price, count + 1, tuple(sorted((*sizes, size), reverse=True)))
                found = option if found is None or option[:2] < found[:2] else found
        best.append(found)
    for extent, found in enumerate(best):
        why = f"extent = {extent}: no tiles of sizes {sorted(cost)} cover it"
        require(found is not None, why)
    return [found[2] for found in best if found is not None]
