"""Steps that read each other's results: which are absorbed, which share a region (rank 4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain, combinations, product
from math import log2

from anatune.errors import OptionError, require
from anatune.hwprofile.profile import Profile
from anatune.model import candidates
from anatune.model.fusion import best_member, options, ranked_members
from anatune.model.group_estimate import of_region, of_stages, of_step
from anatune.model.rows import best_rows, every_rows, saved_cycles
from anatune.plan import Estimate
from anatune.plan.fusion import Decision, FusionEstimate, FusionPlan, MemberPlan
from anatune.plan.group import (
    AloneStage,
    Blocks,
    GroupEstimate,
    GroupPlan,
    Stage,
    StageEstimate,
    TogetherStage,
)
from anatune.workload.absorb import absorbable, absorbed
from anatune.workload.fused import Fused
from anatune.workload.group import Group, Step

Option = tuple[GroupPlan, GroupEstimate]

Costed = tuple[Stage, StageEstimate]

WORTH = 0.03
"""Share of the time that blocks of rows must promise to save over steps one by one, and arrays on
the way over absorbing: predictions of blocks of 4 to 128 rows were off by that and more on a Zen 5
guest."""

Way = tuple[int, float, tuple[Costed, ...]]
"""Stages where these count, cycles, and the stages."""

AROUND_STEPS = 2
"""Steps to a power of two of the bytes that are in use around a stage: what is absorbed elsewhere
changes little about it, and its ways are found but once."""

AS_GOOD = 1.01
"""Times the least predicted time that a way of fewer stages may take: at the end of each stage
threads also wait for the slowest, by chance, which is not predicted. Of 20 groups of networks on a
Zen 5 guest, the four that ties cut in two were up to a fifth slower than in one stage."""

LONGEST = 12
"""Steps of a stage at most: each is code of its own within one loop."""


def group_options(profile: Profile, workload: Group, threads: int | None = None) -> list[Option]:
    """The plans for ``workload``, the model's pick first, then by predicted time: fewest stages, no
    stages of several steps, nothing absorbed, and each step by itself. The fewest stages are picked
    where they are predicted to be `AS_GOOD`; another goes before the pick if it saves `WORTH`."""
    count = candidates.thread_count(profile, threads)
    pick = _with_best_absorbed(profile, workload, count)
    fewest = _staged(profile, workload, pick[0].absorbed, count, LONGEST, fewest=True)
    found = dict([pick])
    found.setdefault(*fewest)
    for names, longest in ((pick[0].absorbed, 1), ((), LONGEST), ((), 1)):
        found.setdefault(*_staged(profile, workload, names, count, longest))
    first = fewest if fewest[1].seconds <= AS_GOOD * pick[1].seconds else pick

    def cost(option: Option) -> float:  # others must promise more than predictions are off by
        return option[1].seconds * (1 - WORTH if option[0] == first[0] else 1.0)

    return sorted(found.items(), key=cost)


def rank_groups(
    profile: Profile, workload: Group, threads: int, objective: str = "time"
) -> list[Option]:
    """`group_options`; their energy is not modelled. Raises OptionError where that is wanted."""
    why = (
        f"objective = {objective!r}: the energy of workloads that read each other's results is "
        "not modelled: leave it out, or 'time'"
    )
    require(objective == "time", why, OptionError)
    return group_options(profile, workload, threads)


def _with_best_absorbed(profile: Profile, workload: Group, threads: int) -> Option:
    """The fastest way, from all that can be absorbed on: without one and another as that helps."""
    names = absorbable(workload)
    best = _staged(profile, workload, names, threads, LONGEST)
    kept: set[str] = set()
    for name in names:
        fewer = absorbable(workload, {*kept, name})
        way = _staged(profile, workload, fewer, threads, LONGEST)
        if way[1].seconds < (1 - WORTH) * best[1].seconds:
            best = way
            kept.add(name)
    return best


def exhaustive_options(
    profile: Profile, workload: Group, threads: int | None = None, plans: int = 2
) -> Iterator[Option]:
    """Every plan of a bounded space: what is absorbed, all divisions of the steps in their order
    into stages, every height of blocks, up to ``plans`` plans of a step in all combinations.

    A reference that the model's pick is compared with, for groups of a few steps.
    """
    count = candidates.thread_count(profile, threads)
    every = absorbable(workload)
    left_out = chain.from_iterable(combinations(every, n) for n in range(len(every) + 1))
    for names in dict.fromkeys(absorbable(workload, out) for out in left_out):
        group = absorbed(workload, names)
        for cuts in product((False, True), repeat=len(group.steps) - 1):
            runs = _runs(group.steps, cuts)
            stages = [_all_stages(profile, group, run, count, plans) for run in runs]
            for costed in product(*stages):
                yield _option(profile, workload, names, costed, count)


def _runs(steps: Sequence[Step], cuts: Sequence[bool]) -> list[tuple[Step, ...]]:
    """The steps cut behind those that ``cuts`` says."""
    ends = [0, *(n for n, cut in enumerate(cuts, 1) if cut), len(steps)]
    return [tuple(steps[a:b]) for a, b in zip(ends, ends[1:])]


def _all_stages(
    profile: Profile, group: Group, steps: Sequence[Step], threads: int, plans: int
) -> list[Costed]:
    if len(steps) == 1:
        ranked = ranked_members(profile, steps[0].workload, threads, group.operand_bytes)
        return [_alone(profile, steps[0], *one, threads) for one in ranked[:plans]]
    blocks = Blocks(group, tuple(step.name for step in steps))
    found: list[Costed] = list(every_rows(profile, blocks, threads, group.operand_bytes, plans))
    return found + _together(profile, steps, threads)


def _staged(
    profile: Profile, workload: Group, names: tuple[str, ...], threads: int, longest: int,
    fewest: bool = False,
) -> Option:  # fmt: skip
    """The fastest sequence of stages of up to ``longest`` steps, when ``names`` are absorbed; with
    ``fewest`` the fastest of those that have fewest stages.

    A dynamic programme over the steps in an order: the best way to do the first of them, each
    stage a run of neighbours. Exact for the costs and the order that it is given.
    """
    group = absorbed(workload, names)
    orders = dict.fromkeys((group.steps, _by_level(group), _depth_first(group)))
    ways = []
    for steps in orders if longest > 1 else (group.steps,):
        best: list[Way] = [(0, 0.0, ())]
        for stop in range(1, len(steps) + 1):
            ways_here = []
            for start in range(max(0, stop - longest), stop):
                for costed in _stages(profile, group, steps[start:stop], threads):
                    number, cycles, stages = best[start]
                    number += int(fewest)
                    ways_here.append((number, cycles + costed[1].cycles, (*stages, costed)))
            best.append(min(ways_here, key=lambda way: way[:2]))
        ways.append(best[-1])
    _, _, stages = min(ways, key=lambda way: way[:2])
    return _option(profile, workload, names, stages, threads)


def _option(
    profile: Profile, workload: Group, names: tuple[str, ...], stages: Sequence[Costed],
    threads: int,
) -> Option:  # fmt: skip
    found, estimates = zip(*stages)
    plan = GroupPlan(workload=workload, absorbed=names, stages=found)
    return plan, of_stages(profile, found, estimates, threads)


def _by_level(group: Group) -> tuple[Step, ...]:
    """Steps by how many others they wait for: those that are independent become neighbours."""
    level: dict[str, int] = {}
    for step in group.steps:
        level[step.name] = 1 + max((level.get(name, 0) for name in step.reads), default=0)
    return tuple(sorted(group.steps, key=lambda step: level[step.name]))


def _depth_first(group: Group) -> tuple[Step, ...]:
    """Each step as late as what reads it allows: producers become neighbours of their readers."""
    found: dict[Step, None] = {}

    def visit(step: Step) -> None:
        for name in step.reads:
            if name in group.by_name and group.by_name[name] not in found:
                visit(group.by_name[name])
        found[step] = None

    for step in group.steps:
        if not group.readers(step.name):
            visit(step)
    return tuple(found)


def _stages(
    profile: Profile, group: Group, steps: Sequence[Step], threads: int
) -> Sequence[Costed]:
    """The best ways to do these steps of ``group`` in one region."""
    near = Blocks(group, tuple(step.name for step in steps)).near
    outputs = tuple(step.name for step in steps if step.name not in near)
    around = 2.0 ** (round(log2(group.operand_bytes) * AROUND_STEPS) / AROUND_STEPS)
    return _best_stages(profile, Group(tuple(steps), outputs), threads, around)


@lru_cache(maxsize=4096)
def _best_stages(
    profile: Profile, steps: Group, threads: int, around_bytes: float
) -> Sequence[Costed]:
    """The best ways to do all of ``steps`` in one region, found once for all that they are part
    of; ``around_bytes`` are in use beside each other there."""
    if len(steps.steps) == 1:
        (step,) = steps.steps
        member = best_member(profile, step.workload, threads, around_bytes)
        return [_alone(profile, step, *member, threads)]
    found = _together(profile, steps.steps, threads)
    blocks = Blocks(steps, tuple(step.name for step in steps.steps))
    alone = [_stages_alone(profile, step, threads, around_bytes) for step in steps.steps]
    apart = sum(estimate.cycles for _, estimate in alone)
    if saved_cycles(profile, blocks, threads, around_bytes) < WORTH * apart:
        return found
    rows = best_rows(profile, blocks, threads, around_bytes)
    if rows is not None and rows[1].cycles < (1 - WORTH) * apart:
        found.append(rows)
    return found


def _stages_alone(profile: Profile, step: Step, threads: int, around_bytes: float) -> Costed:
    (found,) = _best_stages(profile, Group((step,), (step.name,)), threads, around_bytes)
    return found


def _alone(
    profile: Profile, step: Step, plan: MemberPlan, estimate: Estimate, threads: int
) -> Costed:
    stage = AloneStage(step=step.name, plan=plan)
    return stage, of_step(profile, estimate, plan.threads, threads)


def _together(profile: Profile, steps: Sequence[Step], threads: int) -> list[Costed]:
    """In one region, divided or side by side; where none of them reads another."""
    names = tuple(step.name for step in steps)
    if threads == 1 or any(set(names) & set(step.reads) for step in steps):
        return []
    fused = Fused(tuple(step.workload for step in steps))
    return [
        (TogetherStage(names=names, plan=plan), of_region(profile, estimate, threads))
        for plan, estimate in _fused_options(profile, fused, threads)
        if plan.decision is not Decision.ONE_BY_ONE
    ]


@lru_cache(maxsize=256)
def _fused_options(
    profile: Profile, fused: Fused, threads: int
) -> list[tuple[FusionPlan, FusionEstimate]]:
    return options(profile, fused, threads)
