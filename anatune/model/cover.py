"""The cheapest tiles of several sizes that cover an extent: an exact dynamic programme (rank 4).

Nothing here knows what is covered: sizes have costs, and costs of tiles add up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from anatune.errors import require

Found = tuple[float, int, tuple[int, ...]]
"""A cover: its cost, how many tiles it has, and their sizes."""


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
    return _required(_table(extent, cost), extent, cost)


def covers(most: int, cost: Mapping[int, float]) -> list[tuple[int, ...]]:
    """`cheapest_cover` of every extent from 0 to ``most``."""
    table = _table(most, cost)
    return [_required(table, extent, cost) for extent in range(most + 1)]


def _table(most: int, cost: Mapping[int, float]) -> list[Found | None]:
    """The cheapest cover of every extent from 0 to ``most``; None where there is none."""
    best: list[Found | None] = [(0.0, 0, ())]
    for extent in range(1, most + 1):
        found = None
        for size, price in cost.items():
            before = best[extent - size] if size <= extent else None
            if before is not None:
                total, count, sizes = before
                option = (total + price, count + 1, tuple(sorted((*sizes, size), reverse=True)))
                found = option if found is None or option[:2] < found[:2] else found
        best.append(found)
    return best


def _required(
    table: Sequence[Found | None], extent: int, cost: Mapping[int, float]
) -> tuple[int, ...]:
    found = table[extent]
    require(found is not None, f"extent = {extent}: no tiles of sizes {sorted(cost)} cover it")
    assert found is not None
    return found[2]
