"""A plan for an accelerator, its numbers, and what its simulation found beside them (rank 4)."""

from __future__ import annotations

from anatune.hwprofile.profile import Profile
from anatune.model.accelerator.choose import GAP
from anatune.model.accelerator.estimate import checked, predict
from anatune.model.accelerator.layout import layout
from anatune.model.accelerator.machine import Machine
from anatune.model.accelerator.simulate import MOST_STEPS, simulate
from anatune.plan import Estimate
from anatune.plan.accelerator import OPERANDS, TilePlan, cover_text
from anatune.units import CAPACITY, CLOCK, ENERGY, TIME

NUMBERED = 2**27
"""Multiply-adds up to which a simulation computes C as well: about a second."""


def explain(profile: Profile, plan: TilePlan) -> str:
    """The reasons for ``plan``: operations, blocks, buffers, time, traffic; all of it modelled."""
    here = checked(profile, plan)
    estimate = predict(profile, plan)
    parts = {
        "": [f"{plan.workload} on {profile.name} ({profile.title})", f"plan: {plan}"],
        "operation": _operation(here),
        "blocks": _blocks(here, plan),
        "buffers": _buffers(here, plan),
        "time (modelled)": _time(here, plan, estimate),
        "traffic and energy (modelled)": _traffic(profile, estimate),
        "simulated": _simulated(here, plan, estimate),
        "description": _doubts(profile),
    }
    lines = []
    for title, said in parts.items():
        lines += [title, *(f"  {line}" for line in said)] if title else said
    return "\n".join(lines)


def _operation(here: Machine) -> list[str]:
    o = here.operation
    fed = [f"{x} {here.touched[x] / here.pads[x].bank_bytes_per_cycle:g}" for x in OPERANDS]
    return [
        f"{o.rows}x{o.columns}x{o.depth} multiply-adds of {o.dtype} every {here.interval:g} cycles "
        f"= max({o.interval_cycles:g} of the engine, {', '.join(fed)} to pass the banks)",
        f"sums are there after {here.pipeline:g} cycles, and may be added to again after "
        f"{here.found.accumulate_cycles:g}",
    ]


def _blocks(here: Machine, plan: TilePlan) -> list[str]:
    lines = []
    for dim in "mnk":
        grain, extent = here.grain[dim], plan.workload.along(dim)
        ops = sum(here.units(dim, run.size) * run.count for run in plan.cover(dim))
        lines.append(
            f"{dim}: {extent} = {cover_text(plan.cover(dim))}; {ops} operations of {grain}, "
            f"{extent / (ops * grain):.1%} filled"
        )
    often = ", ".join(f"{x} {plan.visits(x)}" for x in OPERANDS)
    spilled = "; partial sums are stored and loaded again" if plan.spills else ""
    loops = f"loops {plan.order.value}, outermost first; visits of a block: {often}{spilled}"
    return [*lines, loops]


def _buffers(here: Machine, plan: TilePlan) -> list[str]:
    taken = layout(here, plan).taken_bytes
    lines = []
    for operand, (first, second) in OPERANDS.items():
        sizes = plan.block(first), plan.block(second)
        size = CAPACITY.show(here.buffer_bytes(operand, sizes))
        own, where = plan.buffers(operand), here.pads[operand].name
        lines.append(f"{operand}: {own.count} x {size} in {where}, moved by {own.dma}")
    for pad in here.found.scratchpads:
        have = CAPACITY.show(pad.size_bytes)
        lines.append(f"{pad.name}: {CAPACITY.show(taken[pad.name])} of {have}")
    return [*lines, f"placement: {plan.placement.value.replace('_', ' ')}"]


def _time(here: Machine, plan: TilePlan, estimate: Estimate) -> list[str]:
    terms = dict(estimate.terms)
    parts = ("prologue", "engine", "engine waits", "epilogue")
    total = " + ".join(f"{name} {terms.get(name, 0):.6g}" for name in parts)
    return [
        *(f"{name}: {c:.6g} cycles, {c / estimate.cycles:.1%}" for name, c in estimate.terms),
        f"T = {total} = {estimate.cycles:.6g} cycles at {CLOCK.show(here.found.clock_hz)} "
        f"= {TIME.show(estimate.seconds)}",
        f"bound by {estimate.bound}; {estimate.peak_fraction:.1%} of peak; no plan of the space "
        f"is better by more than {GAP:.1%}, for what is made small",
    ]


def _traffic(profile: Profile, estimate: Estimate) -> list[str]:
    lines = [f"{name}: {CAPACITY.show(int(size))}" for name, size in estimate.bytes_moved]
    unknown = any(name.endswith("energy") for name in profile.missing)
    whose = "7 nm constants where the profile has none" if unknown else "the profile's constants"
    return [*lines, f"{ENERGY.show(estimate.joules)} ({whose})"]


def _simulated(here: Machine, plan: TilePlan, estimate: Estimate) -> list[str]:
    if plan.steps > MOST_STEPS:
        return [f"not simulated: {plan.steps} steps are more than {MOST_STEPS}"]
    w = plan.workload
    found = simulate(here, plan, numbers=w.m * w.n * w.k <= NUMBERED)
    off = estimate.cycles / found.cycles - 1
    busy = ", ".join(f"{name} {share:.1%}" for name, share in found.busy)
    peak = ", ".join(f"{name} {CAPACITY.show(size)}" for name, size in found.peak_bytes)
    numbers = {True: "exact", False: "WRONG", None: "not computed"}[found.correct]
    return [
        f"{found.cycles:.6g} cycles, predicted {estimate.cycles:.6g}: {off:+.2%}",
        f"busy: {busy}; bank conflicts: {found.conflict_cycles:.6g} cycles",
        f"most held: {peak}; {found.commands} commands; C is {numbers}",
    ]


def _doubts(profile: Profile) -> list[str]:
    counted = {"assumed": profile.assumed, "not stated": profile.missing}
    facts = [f"{len(names)} facts are {how}" for how, names in counted.items() if names]
    said = " and ".join(facts) or "every fact has a source"
    return [f"{said}: anatune profile show {profile.name}"]
