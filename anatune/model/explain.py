"""A plan's equations with its numbers in them, and why another tile was not taken (rank 4)."""

from __future__ import annotations

import re

from anatune.errors import IllegalPlan, OptionError, require
from anatune.hwprofile.profile import MEASURE_COMMAND, Profile
from anatune.model.cache_blocks import levels, way_bytes, ways_taken
from anatune.model.candidates import best, rank
from anatune.model.estimate import OVERLAP, predict
from anatune.model.machine import machine
from anatune.model.registers import check_tile, floor_accumulators, port_bound, registers_needed
from anatune.model.traffic import Extents
from anatune.plan import Estimate, GemmPlan, MicroTile, Storage
from anatune.units import CAPACITY, CLOCK, ENERGY, TIME
from anatune.workload import Matmul

WHY_SLOWER = (
    "{tile} tile: legal, predicted {factor:.2f} times the time of {best}: {term} {cycles:.3g}"
    " against {best_cycles:.3g} cycles"
)
WHY_CHOSEN = "{tile} tile: it is the model's choice"
WHY_TOO_LARGE = "{tile} tile: larger than the product {m}x{n}; its rows or columns would be empty"

NAMED_FACTS = 3
"""Facts named in a line on what is assumed or missing: enough to see what kind they are."""


def explain(profile: Profile, plan: GemmPlan) -> str:
    """The reasons for ``plan``: registers, cache blocks, traffic, then time, binding term first."""
    estimate = predict(profile, plan)
    together = f"{plan.grid.threads} thread(s) together"
    parts = [
        [f"{plan.workload} on {profile.name} ({profile.title})", f"plan: {plan}"],
        ["registers", *_indent(_registers(profile, plan))],
        ["cache blocks", *_indent(_cache_blocks(profile, plan))],
        ["storage and threads", *_indent(_storage(plan))],
        [f"traffic (modelled, {together})", *_indent(_traffic(estimate))],
        ["time (modelled, busiest thread)", *_indent(_time(profile, plan, estimate))],
        _doubts(profile),
    ]
    return "\n".join(line for part in parts for line in part)


def why_not(profile: Profile, workload: Matmul, tile: str, threads: int | None = None) -> str:
    """One line: why the register ``tile``, such as "8x48", is not the plan's.

    Raises:
        OptionError: text that is not two whole numbers with an x between them.
    """
    rows, columns = _parse_tile(tile)
    lanes = profile.core.lanes(workload.element_bytes)
    shape = MicroTile(mr=rows, nr=columns, lanes=lanes)
    try:
        check_tile(shape, profile.core, workload.element_bytes)
    except IllegalPlan as error:
        return str(error)
    winner, estimate = best(profile, workload, threads)[0]
    if winner.tile == shape:
        return WHY_CHOSEN.format(tile=tile)
    others = [(p, e) for p, e in rank(profile, workload, threads) if p.tile == shape]
    if not others:
        return WHY_TOO_LARGE.format(tile=tile, m=workload.m, n=workload.n)
    theirs, best_terms = dict(others[0][1].terms), dict(estimate.terms)
    term = max(theirs, key=lambda name: theirs[name] - best_terms[name])
    return WHY_SLOWER.format(
        tile=tile,
        best=f"{winner.tile.mr}x{winner.tile.nr}",
        factor=others[0][1].seconds / estimate.seconds,
        term=term,
        cycles=theirs[term],
        best_cycles=best_terms[term],
    )


def _parse_tile(text: str) -> tuple[int, int]:
    found = isinstance(text, str) and re.fullmatch(r"\s*(\d{1,4})\s*[xX]\s*(\d{1,4})\s*", text)
    require(found, f"tile = {text!r}: rows x columns, such as '8x48'", OptionError)
    assert found is not None
    return int(found[1]), int(found[2])


def _indent(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _registers(profile: Profile, plan: GemmPlan) -> list[str]:
    core, tile = profile.core, plan.tile
    here = machine(profile, plan.grid.threads)
    latency, rate = here.fma_latency, here.fma_per_cycle
    floor = floor_accumulators(tile.lanes, latency, rate)
    bound = port_bound(tile.mr, tile.vectors, rate, here.loads)
    return [
        f"mr*nr >= Nvec*L*N: {tile.mr}*{tile.nr} = {tile.mr * tile.nr}, "
        f"{tile.lanes}*{latency:g}*{rate:g} = {floor}",
        f"mr*nv + nv + 1 <= R: {tile.mr}*{tile.vectors} + {tile.vectors} + 1 = "
        f"{registers_needed(tile.mr, tile.vectors)} of {core.vector_registers} registers",
        f"FMA issue mr*nv/N = {tile.accumulators / rate:g} cycles a step, loads (mr+nv)/ports = "
        f"{(tile.mr + tile.vectors) / here.loads:g}: {bound:.0%} of peak at most",
    ]


def _cache_blocks(profile: Profile, plan: GemmPlan) -> list[str]:
    s, tile, b = plan.workload.element_bytes, plan.tile, plan.blocks
    l1, l2, l3 = levels(profile, plan.grid.threads)
    x = Extents.of(plan)
    mc, nc = min(b.mc, x.m), min(b.nc, x.n)
    a_r, b_r, a_c, b_c = (extent * b.kc * s for extent in (tile.mr, tile.nr, mc, nc))
    held = [
        ("kc", b.kc, l1, "B_r", b_r, "A_r", a_r),
        ("mc", mc, l2, "A_c", a_c, "B_r", b_r),
        ("nc", nc, l3, "B_c", b_c, "A_c", a_c),
    ]
    lines = []
    for symbol, value, level, kept, kept_bytes, streamed, streamed_bytes in held:
        if level is None:
            lines.append(f"{symbol} = {value}: no such level, bounded by the product and the TLB")
            continue
        ways = ways_taken(kept_bytes, level), ways_taken(streamed_bytes, level)
        fits = "fits" if sum(ways) + 1 <= level.ways else "streams from the next level"
        lines.append(
            f"{symbol} = {value}: L{level.level} of {level.ways} ways of "
            f"{CAPACITY.show(way_bytes(level))}: {kept} {CAPACITY.show(kept_bytes)} takes "
            f"{ways[0]}, {streamed} {ways[1]}, C 1: {fits}"
        )
    return lines


def _storage(plan: GemmPlan) -> list[str]:
    grid = plan.grid
    reads = {
        Storage.IN_PLACE: "read in place",
        Storage.PACKED_AHEAD: "packed once, ahead of the calls",
        Storage.PACKED: "packed before use",
        Storage.PACKED_ON_FIRST_USE: "packed by the first tiles that read it",
    }
    x = Extents.of(plan)
    return [
        f"A {reads[plan.a]}; B {reads[plan.b]}",
        f"{grid.rows} x {grid.columns} threads over rows x columns of C: "
        f"at most {x.m} x {x.n} each",
        f"edge tiles: {plan.edge_rows or 'no'} rows, {plan.edge_columns or 'no'} columns",
    ]


def _traffic(estimate: Estimate) -> list[str]:
    return [f"out of {name}: {CAPACITY.show(int(size))}" for name, size in estimate.bytes_moved]


def _time(profile: Profile, plan: GemmPlan, estimate: Estimate) -> list[str]:
    here = machine(profile, plan.grid.threads)
    all_cycles = estimate.cycles
    return [
        *(f"{name}: {c:.4g} cycles, {c / all_cycles:.1%}" for name, c in estimate.terms),
        f"T = (sum of the overlapping terms ^ {OVERLAP:g}) ^ (1/{OVERLAP:g}) + tiles + C + packing "
        f"+ shared lines + threads = {all_cycles:.4g} cycles at {CLOCK.show(here.hz)} = "
        f"{TIME.show(estimate.seconds)}",
        f"bound by {estimate.bound}; {estimate.peak_fraction:.1%} of peak; "
        f"{ENERGY.show(estimate.joules)} (modelled, 7 nm constants)",
    ]


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
