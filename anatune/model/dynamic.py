"""One plan for a family of products: which variants, with which covers, cut where (rank 4)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import inf, prod

from anatune.errors import IllegalPlan
from anatune.hwprofile.profile import Profile
from anatune.model.cache_blocks import round_up
from anatune.model.candidates import best, check_objective, shortlist, thread_count
from anatune.model.cover import covers
from anatune.model.estimate import predict
from anatune.model.machine import machine
from anatune.model.partition import Piece, Sampled, choose, crossing, cut
from anatune.model.work import stream_cycles, tile_cycles
from anatune.plan import (
    CacheBlocks,
    Cover,
    DynamicPlan,
    Estimate,
    GemmPlan,
    Interval,
    Region,
    Storage,
)
from anatune.plan.dynamic import as_member
from anatune.workload import Dim, Matmul
from anatune.workload.dim import dims_of

FURTHEST = 4096
"""Largest value looked at of a dim without an upper end: blocks and storages of products do not
change beyond a few thousand. Larger values are served by the variant of this one."""

SMALL = 8
"""Values up to which every one is looked at: a tile more or less matters most there."""

POINTS = {1: 48, 2: 9, 3: 6}
"""Sampled values of each dim by how many dims there are; 4 for more than three."""

ANCHORS = {1: 9, 2: 3}
"""Values of each dim at which plans are made; 2, the ends, for more than two dims."""

PER_ANCHOR = 3
"""Plans of each anchor that are tried everywhere."""

UNSURE = {"C": 1.0, "A": 1.14, "B": 1.1}
"""What a prediction is multiplied with, by the operand in registers. Nothing is measured here, so a
plan that the model is less sure of must promise more. On 320 plans of 8 products (a Zen 5 guest,
benchmarks/model_accuracy.py --sample 40) half of the predictions were off by more than 13 % where C
stays, 28 % where A and 34 % where B does; of factors from 1 to 1.3 these chose best: 0.983 of the
fastest drawn, against 0.968 without."""

SAME = 0.05
"""Loss that the lack of a size of tile may cost any rest of a cover: less is below what is known of
a few tiles, which are all that the smallest members have."""

SIZES, SIZES_TWICE = 10, 4
"""Sizes of tiles that a cover has at most; the second where both m and n vary: the code then has a
tile for each pair of sizes, and compiling takes hundredths of a second for each tile."""

TILE_BYTES, VECTOR_BYTES = 900, 80
"""Code of a tile, and of each of its vectors: artefacts for AVX-512 of 46 and 163 KB, with 3 and 7
variants, are taken for 46 and 135."""

MOST_BYTES = 1 << 20
"""Default limit of the code of all variants together, bytes."""


@dataclass(frozen=True)
class Choice:
    """A plan that is a member's, with covers that let its code serve the whole family."""

    plan: GemmPlan
    family: Matmul

    def at(self, values: Mapping[str, int]) -> GemmPlan:
        """What its code does for a member, as a plan of that member."""
        return as_member(self.plan, self.family.at(**values))

    def seconds(self, profile: Profile, values: Mapping[str, int]) -> float:
        """Predicted; infinite where the plan cannot serve."""
        try:
            return predict(profile, self.at(values)).seconds
        except IllegalPlan:
            return inf

    def cost(self, profile: Profile, values: Mapping[str, int]) -> float:
        """`seconds`, more where the model is less sure of them."""
        return self.seconds(profile, values) * UNSURE[self.plan.order.in_registers]

    @property
    def code_bytes(self) -> float:
        """About how long its code is."""
        t = self.plan.tile
        rows, columns, steps = (self.plan.cover(dim) for dim in "mnk")
        heights = [t.mr, *(rows.sizes if rows else ())]
        widths = [t.vectors, *((*columns.sizes, columns.tile) if columns else ())]
        depths = [t.kr, *(steps.sizes if steps else ())]
        turns = 1 if self.plan.order.in_registers == "C" else 2  # the first, which has no C to read
        tiles = product(heights, widths, depths)
        return float(turns * sum(TILE_BYTES + VECTOR_BYTES * h * v * d for h, v, d in tiles))


def plan_family(
    profile: Profile,
    family: Matmul,
    threads: int | None = None,
    objective: str = "time",
    most_bytes: float = MOST_BYTES,
) -> DynamicPlan:
    """The plan for all members of ``family``: milliseconds per anchor, nothing is measured.

    Plans are made at `ANCHORS` of the range, tried at all sampled points, and taken and cut by
    `partition.choose` and `partition.cut`; each cut is then put where the predictions of its two
    sides cross.

    Args:
        most_bytes: what the code of all variants may take.
    """
    check_objective(objective)
    count = thread_count(profile, threads)
    axes = tuple(_sampled(dim, POINTS.get(len(family.dims), 4)) for dim in family.dims)
    choices = _choices(profile, family, axes, count, objective)
    costs = [_costs(profile, family, choice, axes) for choice in choices]
    sampled = Sampled(axes, _weights(family.dims, axes), costs)
    taken = _of_one_layout(sampled, choices, most_bytes)
    pieces = cut(sampled, taken)
    used = sorted({piece.choice for piece in pieces}, key=lambda c: _first(pieces, c))
    regions = _regions(profile, family, axes, pieces, choices, used)
    variants = tuple(choices[c].plan for c in used)
    return DynamicPlan(workload=family, variants=variants, regions=tuple(regions))


def predict_member(profile: Profile, plan: DynamicPlan, **values: int) -> Estimate:
    """The estimate of the variant that serves these values of the dims.

    Raises:
        WorkloadError: values that the family does not have.
        IllegalPlan: values beyond the regions.
    """
    return predict(profile, plan.member(**values))


def with_covers(profile: Profile, plan: GemmPlan, dims: Collection[str]) -> GemmPlan:
    """``plan`` with tiles of several sizes along those of ``dims`` along which it has tiles."""
    here = machine(profile, plan.grid.threads)
    tile = plan.tile
    few = SIZES_TWICE if {"m", "n"} <= set(dims) else SIZES
    made = []
    if "m" in dims:
        cost = {h: tile_cycles(plan, h, tile.vectors, here) for h in range(1, tile.mr + 1)}
        pieces = _few_sizes(cost, SAME, few)
        made.append(Cover(dim="m", unit=1, tile=tile.mr, pieces=pieces))
    if "n" in dims:
        cost = {v: tile_cycles(plan, tile.mr, v, here) for v in range(1, tile.vectors + 1)}
        pieces = _few_sizes(cost, SAME, few)
        made.append(Cover(dim="n", unit=tile.lanes, tile=tile.vectors, pieces=pieces))
    if "k" in dims and plan.order.in_registers != "C":
        cost = {s: stream_cycles(plan, s, here) for s in range(1, tile.kr + 1)}
        made.append(Cover(dim="k", unit=1, tile=tile.kr, pieces=_few_sizes(cost, SAME, few)))
    return replace(plan, covers=tuple(made))


def _few_sizes(
    cost: Mapping[int, float], most_lost: float, most: int
) -> tuple[tuple[int, ...], ...]:
    """The cheapest pieces for every rest below two tiles, of as few sizes as cost about the same.

    Sizes are dropped one by one, that first which is missed least, while no rest loses more than
    the share ``most_lost`` of what all sizes would cost it, or there are more than ``most``.
    """
    tile = max(cost)
    longest = 2 * tile - 1

    def costs(sizes: Iterable[int]) -> list[float]:
        found = covers(longest, {size: cost[size] for size in sizes})
        return [sum(cost[size] for size in pieces) for pieces in found[1:]]

    kept = set(cost)
    least_costs = costs(kept)

    def loss(without: int) -> float:
        pairs = zip(costs(kept - {without}), least_costs)
        return max(mine / least - 1 for mine, least in pairs)

    while removable := kept - {1, tile}:
        least = min(removable, key=loss)
        if loss(least) > most_lost and len(kept) <= most:
            break
        kept.remove(least)
    return tuple(covers(longest, {size: cost[size] for size in kept}))


def _choices(
    profile: Profile, family: Matmul, axes: Sequence[tuple[int, ...]], threads: int, objective: str
) -> list[Choice]:
    """Plans made at anchors, each once."""
    found: dict[GemmPlan, Choice] = {}
    largest = family.at(**{dim.name: _last(dim) for dim in family.dims})
    for values in _anchors(family.dims, axes):
        member = family.at(**values)
        ranked = best(profile, member, threads, objective)
        able = ((plan, estimate) for plan, estimate in ranked if _serves(plan, family))
        sure = sorted(able, key=lambda r: r[1].seconds * UNSURE[r[0].order.in_registers])
        for plan, _ in shortlist(sure, PER_ANCHOR) if sure else ():
            general = with_covers(profile, _with_whole_blocks(plan, family), _varying(family))
            key = replace(general, workload=largest)
            found.setdefault(key, Choice(general, family))
    if not found:
        raise IllegalPlan(f"{family}: no legal plan that serves the whole range")
    return list(found.values())


def _serves(plan: GemmPlan, family: Matmul) -> bool:
    """Whether code of ``plan`` can be made for extents that vary.

    A k that varies has no known edge, which an A that is read by groups needs. Sums that threads
    share are added up over an n and in parts of a k that are known.
    """
    varying = _varying(family)
    if plan.grid.depth > 1 and {"n", "k"} & varying:
        return False
    if "k" not in varying:
        return True
    by_groups = plan.multiply.group > 1
    whole = plan.a is Storage.PACKED and plan.b is not Storage.PACKED_ON_FIRST_USE
    return whole or not by_groups


def _varying(family: Matmul) -> set[str]:
    """Those of m, n and k that are not numbers."""
    return {dim for dim in "mnk" if dims_of(family.along(dim))}


def _with_whole_blocks(plan: GemmPlan, family: Matmul) -> GemmPlan:
    """Blocks of whole tiles along what varies: other members are longer than this one."""
    b = {
        dim: round_up(plan.blocks.along(dim), plan.unit(dim))
        if dim in _varying(family) else plan.blocks.along(dim)
        for dim in "mnk"
    }  # fmt: skip
    return replace(plan, blocks=CacheBlocks(mc=b["m"], nc=b["n"], kc=b["k"]))


def _sampled(dim: Dim, count: int) -> tuple[int, ...]:
    """Values of a dim: small ones, likely ones, the ends, and others in about equal ratios."""
    low, high = dim.low, _last(dim)
    ends = {low, high, *dim.likely}
    ends |= set(range(low, min(high, SMALL) + 1)) if count > SMALL else set()
    steps = max(2, count - len(ends))
    ratio = (high / low) ** (1 / steps)
    return tuple(sorted(ends | {min(high, round(low * ratio**n)) for n in range(steps + 1)}))


def _last(dim: Dim) -> int:
    return dim.high if dim.high is not None else max(FURTHEST, 4 * dim.low, *dim.likely, 1)


def _anchors(dims: Sequence[Dim], axes: Sequence[tuple[int, ...]]) -> Iterator[dict[str, int]]:
    """Values spread over the range, likely ones among them."""
    count = ANCHORS.get(len(dims), 2)
    spread = []
    for dim, axis in zip(dims, axes):
        places = {round(n * (len(axis) - 1) / (count - 1)) for n in range(count)}
        spread.append(sorted({axis[place] for place in places} | set(dim.likely)))
    for values in product(*spread):
        yield {dim.name: value for dim, value in zip(dims, values)}


def _weights(
    dims: Sequence[Dim], axes: Sequence[tuple[int, ...]]
) -> dict[tuple[int, ...], float]:
    """1 for each point; likely values of a dim weigh as much as all its others together."""
    each = []
    for dim, axis in zip(dims, axes):
        likely = set(dim.likely)
        share = (len(axis) - len(likely)) / len(likely) if likely else 1.0
        each.append([max(share, 1.0) if value in likely else 1.0 for value in axis])
    places = product(*(range(len(axis)) for axis in axes))
    return {place: prod(w[p] for w, p in zip(each, place)) for place in places}


def _costs(
    profile: Profile, family: Matmul, choice: Choice, axes: Sequence[tuple[int, ...]]
) -> dict[tuple[int, ...], float]:
    names = [dim.name for dim in family.dims]
    places = product(*(range(len(axis)) for axis in axes))
    return {
        place: choice.cost(profile, {n: a[p] for n, a, p in zip(names, axes, place)})
        for place in places
    }


def _of_one_layout(
    sampled: Sampled, choices: Sequence[Choice], most_bytes: float
) -> tuple[int, ...]:
    """The best set of choices that all take B in one form: a constant B is packed once for all."""
    by_layout: dict[object, list[int]] = {}
    for number, choice in enumerate(choices):
        by_layout.setdefault(choice.plan.packed_ahead_layout, []).append(number)
    losses = sampled.losses()
    best_of = []
    for numbers in by_layout.values():
        costs = [sampled.costs[n] for n in numbers]
        if any(min(cost[p] for cost in costs) == inf for p in sampled.points):
            continue
        part = replace(sampled, costs=costs)
        sizes = [choices[n].code_bytes for n in numbers]
        chosen = tuple(numbers[c] for c in choose(part, sizes, most_bytes))
        loss = sum(min(losses[c][p] for c in chosen) for p in sampled.points)
        best_of.append((loss, chosen))
    if not best_of:
        raise IllegalPlan("no set of plans serves the whole range")
    return min(best_of)[1]


def _first(pieces: Sequence[Piece], choice: int) -> tuple[int, ...]:
    return min(piece.first for piece in pieces if piece.choice == choice)


def _regions(
    profile: Profile,
    family: Matmul,
    axes: Sequence[tuple[int, ...]],
    pieces: Sequence[Piece],
    choices: Sequence[Choice],
    used: Sequence[int],
) -> list[Region]:
    """The pieces as intervals of values without a gap; the last ones have no end where dims have
    none."""
    ends = {}
    for axis, dim in enumerate(family.dims):
        for place in {piece.last[axis] for piece in pieces} - {len(axes[axis]) - 1}:
            ends[axis, place] = _end(profile, family, axes, pieces, choices, axis, place)
        ends[axis, len(axes[axis]) - 1] = dim.high or 0
    found = []
    for piece in sorted(pieces, key=lambda piece: piece.first):
        intervals = []
        for axis, dim in enumerate(family.dims):
            low = ends[axis, piece.first[axis] - 1] + 1 if piece.first[axis] else dim.low
            high = ends[axis, piece.last[axis]] or None
            intervals.append(Interval(dim=dim.name, low=low, high=high))
        found.append(Region(intervals=tuple(intervals), variant=used.index(piece.choice) + 1))
    return found


def _end(
    profile: Profile,
    family: Matmul,
    axes: Sequence[tuple[int, ...]],
    pieces: Sequence[Piece],
    choices: Sequence[Choice],
    axis: int,
    place: int,
) -> int:
    """The last value below a cut: where predictions cross, in the middle of the other dims."""
    low, high = axes[axis][place], axes[axis][place + 1]
    below = next(p for p in pieces if p.last[axis] == place)
    above = next(p for p in pieces if p.first[axis] == place + 1)
    middle = [a[(f + e) // 2] for a, f, e in zip(axes, below.first, below.last)]
    names = [dim.name for dim in family.dims]

    def better_above(value: int) -> bool:
        values = dict(zip(names, (*middle[:axis], value, *middle[axis + 1 :])))
        one, other = (choices[piece.choice].cost(profile, values) for piece in (below, above))
        return other < one

    return crossing(low, high, better_above)
