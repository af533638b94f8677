"""How many configurations serve a whole range of extents on an accelerator, and the cuts (rank 4).

A configuration is all of a plan but its covers: block sizes, order, buffers, DMA engines. Covers
follow from the extents of a call.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import product

from anatune.hwprofile.profile import Profile
from anatune.model.accelerator.choose import best
from anatune.model.accelerator.machine import Machine
from anatune.model.accelerator.space import cover
from anatune.model.accelerator.timeline import timeline
from anatune.model.partition import Sampled, choose, cut
from anatune.plan.accelerator import TilePlan
from anatune.plan.plain import plain
from anatune.workload import Matmul

POINTS = {1: 22, 2: 7, 3: 4}
"""Sampled values of each dim by how many dims there are."""

APART = 3
"""Places on an axis from one value that plans are made for to the next; all others try these."""

FURTHEST = 4096
"""Largest value that is sampled of a dim without an upper end."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Values of each dim, both ends included, and the configuration that serves them."""

    low: tuple[int, ...]
    high: tuple[int, ...]
    configuration: int


@dataclass(frozen=True, kw_only=True)
class TileFamily:
    """Configurations for all members of a workload with dims; ``loss`` is modelled.

    Each configuration is a plan for one member; `at` makes it one for another.
    """

    workload: Matmul
    configurations: tuple[TilePlan, ...]
    pieces: tuple[Piece, ...]
    worst_loss: float  # share of cycles by which a sampled member is slower than with the best

    def at(self, **values: int) -> TilePlan:
        """The plan for one member of the family. Raises WorkloadError for values it has not."""
        member = self.workload.at(**values)
        point = tuple(values[dim.name] for dim in self.workload.dims)
        inside = [p for p in self.pieces if all(x >= low for x, low in zip(point, p.low))]
        found = max(inside, key=lambda p: p.low)
        for piece in inside:
            if all(x <= high for x, high in zip(point, piece.high)):
                found = piece
        return fitted(self.configurations[found.configuration], member)

    def to_json(self) -> str:
        """Configurations and cuts as one line of JSON."""
        return json.dumps({"kind": "tile_family", **plain(self)}, sort_keys=True)

    def __str__(self) -> str:
        names = [dim.name for dim in self.workload.dims]
        lines = [f"{self.workload}: {len(self.configurations)} configurations"]
        for piece in self.pieces:
            ends = zip(names, piece.low, piece.high)
            where = ", ".join(f"{name} {low} to {high}" for name, low, high in ends)
            lines.append(f"  {where}: {self.configurations[piece.configuration].configuration}")
        worst = f"  at worst {self.worst_loss:.1%} slower (modelled) than the best one tried"
        return "\n".join([*lines, worst])


def plan_family(profile: Profile, family: Matmul, objective: str = "time") -> TileFamily:
    """Configurations that pay, and where the range is cut, over sampled members."""
    points = POINTS.get(len(family.dims), 3)
    axes = tuple(_values(dim.low, dim.high, points) for dim in family.dims)
    names = [dim.name for dim in family.dims]
    members = {
        places: family.at(**{n: axis[i] for n, axis, i in zip(names, axes, places)})
        for places in product(*(range(len(axis)) for axis in axes))
    }
    anchors = [p for p in members if all(_anchor(i, len(a)) for i, a in zip(p, axes))]
    own = [best(profile, members[places], objective) for places in anchors]
    different = {_key(plan): plan for plan in own}
    plans = tuple(different.values())
    costs = [{p: _cycles(profile, plan, w) for p, w in members.items()} for plan in plans]
    sampled = Sampled(axes, dict.fromkeys(members, 1.0), costs)
    chosen = choose(sampled, [1.0] * len(plans))
    pieces = cut(sampled, chosen)
    taken = sorted({piece.choice for piece in pieces})
    served = {
        places: costs[piece.choice][places]
        for piece in pieces
        for places in members
        if all(a <= x <= b for a, x, b in zip(piece.first, places, piece.last))
    }
    least = {places: min(cost[places] for cost in costs) for places in members}
    return TileFamily(
        workload=family,
        configurations=tuple(plans[choice] for choice in taken),
        pieces=tuple(
            Piece(
                low=tuple(axis[i] for axis, i in zip(axes, piece.first)),
                high=tuple(_end(axis, i) for axis, i in zip(axes, piece.last)),
                configuration=taken.index(piece.choice),
            )
            for piece in pieces
        ),
        worst_loss=max(served[p] / least[p] - 1 for p in members),
    )


def fitted(plan: TilePlan, workload: Matmul) -> TilePlan:
    """The plan's configuration with the covers of another workload."""
    covers = {dim: cover(workload.along(dim), plan.block(dim)) for dim in "mnk"}
    return replace(plan, workload=workload, **covers)  # type: ignore[arg-type]


def _anchor(place: int, places: int) -> bool:
    return place % APART == 0 or place == places - 1


def _key(plan: TilePlan) -> object:
    blocks = tuple(plan.block(dim) for dim in "mnk")
    return blocks, plan.order, plan.a, plan.b, plan.c, plan.placement


def _cycles(profile: Profile, plan: TilePlan, workload: Matmul) -> float:
    return timeline(Machine(profile, workload), fitted(plan, workload)).cycles


def _values(low: int, high: int | None, points: int) -> tuple[int, ...]:
    """Values from one end to the other, each about as much larger than the one before."""
    last = max(low, FURTHEST) if high is None else high
    steps = max(1, points - 1)
    found = {round(low * (last / low) ** (i / steps)) for i in range(steps + 1)}
    return tuple(sorted(found))


def _end(axis: tuple[int, ...], place: int) -> int:
    """The last value that goes with a sampled one: up to the next."""
    return axis[place] if place + 1 == len(axis) else axis[place + 1] - 1
