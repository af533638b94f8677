"""The best plan for a product on an accelerator: bounds first, then walks (rank 4).

Best first over families of block sizes, then over their plans: whatever has the least bound is
opened next, and the search ends when no bound promises more than `GAP`. So the pick is proven to
be within that of the best plan in `space`, by the model's own cycles.
"""

from __future__ import annotations

from functools import lru_cache
from math import inf

from anatune.errors import OptionError, require
from anatune.hwprofile.profile import Profile
from anatune.model.accelerator.edges import with_edges
from anatune.model.accelerator.machine import Machine
from anatune.model.accelerator.space import Family, buffered, families, members
from anatune.model.accelerator.timeline import cycles_within
from anatune.model.accelerator.traffic import Totals, joules, least_buffered, least_cycles, totals
from anatune.plan.accelerator import OPERANDS, TilePlan
from anatune.workload import Matmul

GAP = 0.005
"""Share of the objective by which a plan that was not looked at may be better."""

ALIKE = 0.001
"""Share by which bounds of families may differ and say nothing of which is better."""

OBJECTIVES = {"time": (1, 0), "energy": (0, 1), "edp": (1, 1)}
"""Powers of cycles and of joules, whose product is made small."""

Powers = tuple[int, int]


@lru_cache(maxsize=512)
def best(profile: Profile, workload: Matmul, objective: str = "time") -> TilePlan:
    """The plan with the least predicted cycles, energy or product of both.

    Raises:
        WorkloadError: the accelerator does not compute the workload.
        OptionError: another objective.
        IllegalPlan: a scratchpad does not hold a single operation's operands.
    """
    known = ", ".join(OBJECTIVES)
    require(objective in OBJECTIVES, f"objective = {objective!r}: one of {known}", OptionError)
    here, powers = Machine(profile, workload), OBJECTIVES[objective]
    pick: TilePlan | None = None
    least = inf
    for bound, family in _by_bound(here, powers):
        if bound >= least * (1 - GAP):
            continue
        for promise, single, sums in _members_by_bound(here, family, powers):
            if promise >= least * (1 - GAP):
                break
            for plan in buffered(here, single):
                own = _score(powers, least_buffered(here, plan, sums), joules(here, sums))
                if own < least * (1 - GAP):
                    found = _found(here, plan, sums, powers, least)
                    pick, least = (plan, found) if found < least else (pick, least)
    why = f"{profile.name}: no scratchpad holds the operands of one operation"
    require(pick is not None, why)
    assert pick is not None
    return with_edges(here, pick, lambda p: _found(here, p, totals(here, p), powers, inf))


def _score(powers: Powers, cycles: float, energy: float) -> float:
    return float(cycles ** powers[0] * energy ** powers[1])


def _found(
    here: Machine, plan: TilePlan, sums: Totals, powers: Powers, least: float
) -> float:
    """The score of a plan; infinite where it is certain to exceed ``least``."""
    energy = joules(here, sums)
    if not powers[0]:
        return energy
    limit = least / energy ** powers[1]
    return _score(powers, cycles_within(here, plan, sums.engine_cycles, limit), energy)


def _by_bound(here: Machine, powers: Powers) -> list[tuple[float, Family]]:
    """Families by rising bounds; of those that promise `ALIKE`, the largest first."""
    found = [(_score(powers, *_family_bound(here, family)), family) for family in families(here)]
    alike = min((bound for bound, _ in found), default=0.0) * (1 + ALIKE)
    return sorted(
        found, key=lambda e: (max(e[0], alike), -e[1].m * e[1].n if e[0] <= alike else 0, e[0])
    )


def _members_by_bound(
    here: Machine, family: Family, powers: Powers
) -> list[tuple[float, TilePlan, Totals]]:
    found = []
    for plan in members(here, family):
        sums = totals(here, plan)
        promise = _score(powers, least_cycles(here, plan, sums), joules(here, sums))
        found.append((promise, plan, sums))
    return sorted(found, key=lambda entry: entry[0])


def _family_bound(here: Machine, family: Family) -> tuple[float, float]:
    """Cycles and joules that no plan of a family falls below.

    Either all of A or all of B moves more than once where both have several blocks; bytes move at
    the rate of all DMA engines together, in bursts that are full.
    """
    w, grain = here.workload, here.grain
    blocks = {"m": -(-w.m // (family.m * grain["m"])), "n": -(-w.n // (family.n * grain["n"]))}
    a, b = w.m * w.k * w.element_bytes, w.k * w.n * w.element_bytes
    c = w.output.size_bytes
    moved = min(a * blocks["n"] + b, a + b * blocks["m"]) + c
    rate = sum(engine.bytes_per_cycle for engine in here.found.dma)
    operations = here.operations(w.m, w.n, w.k)
    cheapest = min(here.dma_pj(engine) for engine in here.found.dma)
    energy = (operations * here.operation_pj() + moved * cheapest) * 1e-12
    busy = operations * here.interval + _ends(here, family)
    size = 2 * here.buffer_bytes("c", (family.m * grain["m"], family.n * grain["n"]))
    if size > here.pads["c"].size_bytes:  # a single buffer: the engine rests while it is stored
        busy += c / max(engine.bytes_per_cycle for engine in here.found.dma)
    return max(busy, moved / rate), energy


def _ends(here: Machine, family: Family) -> float:
    """Cycles in which the engine cannot work: the first loads, and the last store of a family."""
    w, grain = here.workload, here.grain
    first = {"m": min(w.m, family.m * grain["m"]), "n": min(w.n, family.n * grain["n"])}
    first["k"] = min(w.k, grain["k"])
    fill = []
    for operand in "ab":
        one, other = OPERANDS[operand]
        size = first[one], first[other]
        engines = (e for e in here.found.dma if e.moves != "out")
        fill.append(min(e.start_cycles + size[0] * size[1] * w.element_bytes / e.bytes_per_cycle
                        for e in engines))  # fmt: skip
    return max(fill) + here.pipeline - here.interval
