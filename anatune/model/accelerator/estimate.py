"""Predicted time, traffic and energy of a plan on an accelerator, term by term (rank 4)."""

from __future__ import annotations

from collections import Counter

from anatune.errors import require
from anatune.hwprofile.profile import Profile
from anatune.model.accelerator.machine import Machine
from anatune.model.accelerator.space import MOST_BUFFERS
from anatune.model.accelerator.timeline import timeline
from anatune.model.accelerator.traffic import Totals, joules, totals
from anatune.plan import Estimate
from anatune.plan.accelerator import OPERANDS, TilePlan


def predict(profile: Profile, plan: TilePlan) -> Estimate:
    """The estimate of one plan. Raises IllegalPlan where the machine cannot run it.

    The terms ``engine``, ``DMA in`` and ``DMA out`` overlap; ``prologue``, ``engine waits`` and
    ``epilogue`` are what the engine's own cycles lack to all cycles.
    """
    here = checked(profile, plan)
    when, sums = timeline(here, plan), totals(here, plan)
    terms = {
        "engine": when.engine_cycles,
        "DMA in": _busiest(sums, "in"),
        "DMA out": _busiest(sums, "out"),
        "start latencies": max(sums.starts.values()),
        "prologue": when.prologue_cycles,
        "engine waits": when.wait_cycles,
        "epilogue": when.epilogue_cycles,
        "bank conflicts": when.conflict_cycles,
    }
    w = plan.workload
    macs = w.m * w.n * w.k * here.operation.interval_cycles
    in_one = here.grain["m"] * here.grain["n"] * here.grain["k"]
    return Estimate(
        seconds=when.cycles / here.found.clock_hz,
        cycles=when.cycles,
        peak_fraction=macs / in_one / when.cycles,
        joules=joules(here, sums),
        terms=tuple(sorted(((k, v) for k, v in terms.items() if v), key=lambda term: -term[1])),
        bytes_moved=tuple(_bytes(here, sums).items()),
    )


def checked(profile: Profile, plan: TilePlan) -> Machine:
    """The machine as the plan's workload sees it. Raises IllegalPlan for a plan of another."""
    here = Machine(profile, plan.workload)
    for operand, most in zip(OPERANDS, next(iter(MOST_BUFFERS.values()))):
        buffers = plan.buffers(operand)
        why = f"{operand}: {buffers.count} buffers: from 1 to {most}"
        require(1 <= buffers.count <= most, why)
        wrong = "in" if operand == "c" else "out"
        engine = here.dma.get(buffers.dma)
        why = f"{operand}: dma = {buffers.dma!r}: {profile.name} has none of that way and name"
        require(engine is not None and engine.moves != wrong, why)
    return here


def _busiest(sums: Totals, way: str) -> float:
    """Cycles that the DMA engine with most to do moves something one way."""
    return max(cycles for (moves, _), cycles in sums.ways.items() if moves == way)


def _bytes(here: Machine, sums: Totals) -> Counter[str]:
    """Bytes by link: memory through each DMA engine, scratchpads from and to the tile engine."""
    moved: Counter[str] = Counter()
    for name, size in sums.link_bytes.items():
        moved[f"memory by {name}"] += size
    for operand, size in here.touched.items():
        moved[f"{here.pads[operand].name} by engine"] += size * sums.operations
    return moved
