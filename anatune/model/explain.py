"""A plan's equations with its numbers in them, in the order of its decisions (rank 4)."""

from __future__ import annotations

from anatune.hwprofile.profile import MEASURE_COMMAND, Profile
from anatune.model import reasons
from anatune.model.constant_b import packed_ahead
from anatune.model.estimate import predict
from anatune.model.machine import machine
from anatune.model.work import OVERLAP
from anatune.plan import Estimate, GemmPlan
from anatune.units import CAPACITY, CLOCK, ENERGY, TIME

NAMED_FACTS = 3
"""Facts named in a line on what is assumed or missing: enough to see what kind they are."""

ADDED = (
    "tile starts", "C", "packing", "conversions", "epilogue", "shared lines of C", "threads",
    "adding up",
)  # fmt: skip
"""Terms of `predict` that overlap with nothing."""


def explain(profile: Profile, plan: GemmPlan) -> str:
    """The reasons for ``plan``: each decision, then traffic and time, binding term first."""
    estimate = predict(profile, plan)
    together = f"{plan.grid.threads} thread(s) together"
    storage = reasons.of_storage(profile, plan, estimate.seconds)
    parts = [
        [f"{plan.workload} on {profile.name} ({profile.title})", f"plan: {plan}"],
        _section("arithmetic", reasons.of_arithmetic(profile, plan)),
        _section("order", reasons.of_order(plan)),
        _section("registers", reasons.of_registers(profile, plan)),
        _section("cache blocks", reasons.of_blocks(profile, plan)),
        _section("storage and threads", [*storage, *reasons.of_threads(plan)]),
        _section("sums", reasons.of_sums(plan)),
        _section(f"traffic (modelled, {together})", _traffic(estimate)),
        _section("time (modelled, busiest thread)", _time(profile, plan, estimate)),
        _constant_b(profile, plan),
        _doubts(profile),
    ]
    return "\n".join(line for part in parts for line in part)


def _section(title: str, lines: list[str]) -> list[str]:
    return [title, *(f"  {line}" for line in lines)]


def _traffic(estimate: Estimate) -> list[str]:
    return [f"out of {name}: {CAPACITY.show(int(size))}" for name, size in estimate.bytes_moved]


def _time(profile: Profile, plan: GemmPlan, estimate: Estimate) -> list[str]:
    here = machine(profile, plan.grid.threads)
    all_cycles, terms = estimate.cycles, dict(estimate.terms)
    added = " + ".join(name for name in ADDED if name in terms)
    return [
        *(f"{name}: {c:.4g} cycles, {c / all_cycles:.1%}" for name, c in estimate.terms),
        f"T = (sum of the other terms ^ {OVERLAP:g}) ^ (1/{OVERLAP:g}), tile by tile, + {added} "
        f"= {all_cycles:.4g} cycles at {CLOCK.show(here.hz)} = {TIME.show(estimate.seconds)}",
        f"bound by {estimate.bound}; {estimate.peak_fraction:.1%} of peak; "
        f"{ENERGY.show(estimate.joules)} (modelled, 7 nm constants)",
    ]


def _constant_b(profile: Profile, plan: GemmPlan) -> list[str]:
    if not plan.workload.constant_b:
        return []
    return _section("constant B", [str(packed_ahead(profile, plan))])


def _doubts(profile: Profile) -> list[str]:
    """What the figures rest on that nobody has measured or written down: a line for each kind."""
    missing = f"are missing ({MEASURE_COMMAND} finds what it can)"
    kinds = ("are assumed", profile.assumed), (missing, profile.missing)
    return [
        f"{len(facts)} facts {what}: {_first(facts, profile.name)}"
        for what, facts in kinds
        if facts
    ]


def _first(facts: tuple[str, ...], profile_name: str) -> str:
    """The first few names, and where the others are."""
    named, more = ", ".join(facts[:NAMED_FACTS]), len(facts) - NAMED_FACTS
    return named if more <= 0 else f"{named} and {more} more: anatune profile show {profile_name}"
