"""All legal plans of a workload on a machine, and the few that are worth measuring (rank 4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from math import inf
from numbers import Integral
from typing import Any

from anatune.errors import OptionError, require
from anatune.hwprofile.profile import Profile
from anatune.model.energy import static_joules
from anatune.model.estimate import predict
from anatune.model.registers import check_tile
from anatune.model.shapes import Shape, least_seconds, plans_of, shapes_of, sketches_of
from anatune.plan import Estimate, GemmPlan
from anatune.workload import Matmul
from anatune.workload.dtypes import ELEMENT_BYTES

Ranked = tuple[GemmPlan, Estimate]

SKETCHED = {"C": 24, "A": 8, "B": 8}
"""Shapes that `best` looks at, by the operand in registers."""

PROMISING, PER_WIDTH = 5, 2
"""Shapes that it looks at closely, and of these per order and width."""

LIGHT_SHARE = 0.65
"""Accumulators of a light tile, as a share of the most that any has: 18 of AVX-512's 28. On large
products of a Zen 5 guest such tiles were 1 to 2 % faster than the model's tall ones."""

CLOSE = 1.25
"""Plans predicted to take longer than this many times the best one's time are not measured for the
operand that they keep in registers alone: beyond what predictions of such plans were off by."""

PER_TILE = 2
"""Plans of one register tile in a shortlist: different tiles tell a measurement more."""

OBJECTIVES: dict[str, Callable[[Estimate], float]] = {
    "time": lambda e: e.seconds,
    "energy": lambda e: e.joules,
    "edp": lambda e: e.joules * e.seconds,
}
"""What is made small: seconds, modelled joules, or their product."""


def rank(
    profile: Profile, workload: Matmul, threads: int | None = None, objective: str = "time",
    keep: Callable[[Shape], bool] = lambda shape: True,
) -> list[Ranked]:  # fmt: skip
    """Every legal plan with its estimate, best first; only of shapes that ``keep`` lets through."""
    check_objective(objective)
    count = thread_count(profile, threads)
    shapes = filter(keep, shapes_of(profile, workload, count))
    plans = (plan for shape in shapes for plan in plans_of(profile, workload, shape))
    return _ordered(profile, plans, objective)


def best(
    profile: Profile, workload: Matmul, threads: int | None = None, objective: str = "time",
    keep: Callable[[Shape], bool] = lambda shape: True,
) -> list[Ranked]:  # fmt: skip
    """`rank` without the tiles and thread grids that cannot win, in milliseconds.

    `SKETCHED` of them, of each kind those that are fastest with all operands at hand, are tried
    with a few plans each. Every plan is tried of the `PROMISING` best of these, of the best light
    tile, and of the best tile that keeps each operand.
    """
    check_objective(objective)
    weight = OBJECTIVES[objective]

    def sketch(shape: Shape) -> float:
        sketches = sketches_of(profile, workload, shape)
        return min((weight(predict(profile, plan)) for plan in sketches), default=inf)

    shapes = list(filter(keep, shapes_of(profile, workload, thread_count(profile, threads))))
    shapes.sort(key=lambda shape: least_seconds(profile, workload, shape))
    in_order = sorted(_some_of_each_kind(shapes), key=sketch)
    light_shapes = _light(shapes)
    light = [shape for shape in in_order if shape in light_shapes][:1]
    by_kind = {(s.order.in_registers, s.kernel): s for s in reversed(in_order)}
    # Each once, in the order in which they are found: the same question has the same answer.
    promising = dict.fromkeys((*_mixed(in_order)[:PROMISING], *light, *by_kind.values()))
    plans = (plan for shape in promising for plan in plans_of(profile, workload, shape))
    return _ordered(profile, plans, objective)


def shortlist(ranked: Sequence[Ranked], count: int) -> list[Ranked]:
    """``count`` plans worth measuring, the model's pick first, then what it is least sure of.

    The best plan for each operand in registers, which differ most in what they ask of the caches;
    the best light tile, as the model has no term for the pressure of tall ones on registers and
    prefetchers; the best of each other width, as widths differ in what they ask of ports and links;
    then the order of the ranking. Of one register tile at most `PER_TILE` plans are taken.
    """
    light_shapes = _light([Shape.of(plan) for plan, _ in ranked])
    light = [r for r in ranked if Shape.of(r[0]) in light_shapes]
    # The best of each stays, where many have one key.
    close = [r for r in ranked if r[1].seconds <= CLOSE * ranked[0][1].seconds]
    resident = {(r[0].order.in_registers, r[0].micro_kernel): r for r in reversed(close)}
    widths = {(r[0].order.in_registers, r[0].tile.nr): r for r in reversed(ranked)}
    by_width = sorted(widths.values(), key=ranked.index)
    first = (ranked[0], *sorted(resident.values(), key=ranked.index), *light[:1])
    taken: Counter[Hashable] = Counter()
    chosen: list[Ranked] = []
    for item in (*first, *by_width[: count // 2], *ranked):
        tile = item[0].tile, item[0].micro_kernel
        if len(chosen) < count and taken[tile] < PER_TILE and item not in chosen:
            taken[tile] += 1
            chosen.append(item)
    return chosen


def measured_cost(ranked: tuple[Any, Estimate], seconds: float, objective: str) -> float:
    """The objective's value for a plan measured to take ``seconds``; energy stays modelled."""
    plan, estimate = ranked
    threads = plan.threads
    more = static_joules(seconds, threads) - static_joules(estimate.seconds, threads)
    return OBJECTIVES[objective](replace(estimate, seconds=seconds, joules=estimate.joules + more))


def check_objective(objective: str) -> None:
    """Raise OptionError for an objective that is not one of `OBJECTIVES`."""
    why = f"objective = {objective!r}: one of {', '.join(map(repr, OBJECTIVES))}"
    require(objective in tuple(OBJECTIVES), why, OptionError)


def check_plan(profile: Profile, plan: GemmPlan) -> None:
    """Raise IllegalPlan, with the numbers, for a plan that the machine cannot hold."""
    size = ELEMENT_BYTES[plan.multiply.accumulator]
    if plan.micro_kernel is None:  # which knows best what registers it takes
        check_tile(plan.tile, profile.core, size, plan.order)
    require(
        plan.grid.threads <= profile.usable_threads,
        f"grid = {plan.grid.rows}x{plan.grid.columns}: {plan.grid.threads} threads, profile "
        f"{profile.name} has {profile.usable_threads}",
    )


def check_threads(profile: Profile, threads: int) -> None:
    """Raise IllegalPlan for a plan of more threads than the machine has."""
    usable = profile.usable_threads
    require(threads <= usable, f"threads = {threads}: profile {profile.name} has {usable}")


def thread_count(profile: Profile, threads: int | None) -> int:
    """``threads`` where given and possible, else all that the profile says may be used."""
    if threads is None:
        return profile.usable_threads
    given: Any = threads  # numpy's integers too; whatever else a caller may hand over
    whole = isinstance(given, Integral) and not isinstance(given, bool)
    require(
        whole and 1 <= threads <= profile.usable_threads,
        f"threads = {threads!r}: a whole number from 1 to {profile.usable_threads}, the usable "
        f"threads of {profile.name}",
        OptionError,
    )
    return int(threads)


def _ordered(profile: Profile, plans: Iterable[GemmPlan], objective: str) -> list[Ranked]:
    ranked = [(plan, predict(profile, plan)) for plan in plans]
    require(ranked, f"profile {profile.name}: no legal plan; its caches keep no register tile")
    weight = OBJECTIVES[objective]
    return sorted(ranked, key=lambda item: weight(item[1]))


def _some_of_each_kind(shapes: Sequence[Shape]) -> list[Shape]:
    """`SKETCHED` of ``shapes`` for each number of threads too: fewer take less energy."""
    return [
        shape
        for shape, seen in _counted(shapes, _kind)
        if seen <= SKETCHED[shape.order.in_registers]
    ]


def _kind(shape: Shape) -> Hashable:
    return shape.order.in_registers, shape.grid.threads, shape.kernel


def _mixed(shapes: Sequence[Shape]) -> list[Shape]:
    """``shapes`` in order, but only the first `PER_WIDTH` of each order and width of tile."""
    counted = _counted(shapes, lambda s: (s.order, s.tile.nr))
    return [shape for shape, seen in counted if seen <= PER_WIDTH]


def _counted(
    shapes: Sequence[Shape], kind: Callable[[Shape], Hashable]
) -> Iterator[tuple[Shape, int]]:
    """Each of ``shapes`` with how many of its kind there are up to it."""
    seen: Counter[Hashable] = Counter()
    for shape in shapes:
        seen[kind(shape)] += 1
        yield shape, seen[kind(shape)]


def _light(shapes: Sequence[Shape]) -> set[Shape]:
    """Those that keep C and leave registers free that the largest of them needs."""
    keep_c = [s for s in shapes if s.order.in_registers == "C" and s.kernel is None]
    most = max((shape.tile.accumulators for shape in keep_c), default=0)
    return {shape for shape in keep_c if shape.tile.accumulators <= LIGHT_SHARE * most}
