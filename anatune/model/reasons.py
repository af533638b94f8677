"""A plan's decisions with their numbers: arithmetic, order, registers, blocks, sums (rank 4)."""

from __future__ import annotations

from dataclasses import replace

from anatune.errors import IllegalPlan
from anatune.hwprofile.profile import CacheLevel, Profile
from anatune.model.cache_blocks import levels, way_bytes, ways_taken
from anatune.model.estimate import predict
from anatune.model.external import of_kernel
from anatune.model.machine import Machine, machine
from anatune.model.registers import floor_accumulators, port_bound, registers_of
from anatune.model.shapes import CONSTANT, PER_CALL, Shape
from anatune.model.traffic import Extents, block_extent, element_bytes
from anatune.model.work import rate_of
from anatune.plan import GemmPlan, Storage, arithmetics
from anatune.units import CAPACITY
from anatune.workload.dtypes import ELEMENT_BYTES, is_float

INSTRUCTION = {
    "fma64": "multiply-add", "fma32": "multiply-add", "bf16 pairs": "vdpbf16ps",
    "int8 quads": "vpdpbusd", "int16 pairs": "vpdpwssd",
    "int16 pairs and add": "vpmaddwd + vpaddd", "int32": "multiply, then add",
}  # fmt: skip
"""What an arithmetic is made of, by its name; sources: those of `anatune.plan.ARITHMETIC`."""

REGISTERS = {"C": "mr*nv + nv + 1", "A": "mr*kr + mr*nv + nv", "B": "kr*nv + mr*nv + 1"}
"""Registers that a tile needs, by the operand that stays in them: see `registers_of`."""

READS = {
    Storage.IN_PLACE: "read in place",
    Storage.PACKED: "packed before use",
    Storage.PACKED_ON_FIRST_USE: "packed by the first tiles that read it",
    Storage.PACKED_AHEAD: "packed once, ahead of the calls",
}


def of_arithmetic(profile: Profile, plan: GemmPlan) -> list[str]:
    """Which instruction, what it does per cycle, and what the others would do."""
    w, chosen = plan.workload, plan.multiply
    here = machine(profile, plan.grid.threads)
    rate, latency = rate_of(chosen, here)
    dot = here.core.dot(chosen.name)
    doubt = "" if dot and dot.per_cycle else " (assumed)"
    steps = "1 step" if chosen.group == 1 else f"{chosen.group} steps"
    able = [(a.name, rate_of(a, here)[0] * a.group) for a in arithmetics(w, plan.target)]
    rates = ", ".join(f"{name} {plan.tile.lanes * each:g}" for name, each in able)
    return [
        f"{chosen.name} ({INSTRUCTION[chosen.name]}): {steps} along k at once, sums in "
        f"{chosen.accumulator}; {rate:g} a cycle{doubt}, {latency:g} cycles to the next sum",
        f"multiply-adds per cycle of what computes {w.dtype} x {w.dtype_b}: {rates}",
        *_conversions(plan),
    ]


def _conversions(plan: GemmPlan) -> list[str]:
    w, multiply = plan.workload, plan.multiply
    both = (("A", w.dtype, multiply.a, plan.a), ("B", str(w.dtype_b), multiply.b, plan.b))
    lines = []
    for operand, stored, taken, storage in both:
        if operand == "A" and plan.offset_a:
            lines.append(f"A: {stored} + {plan.offset_a} is {taken}; sums start at what mends that")
        elif stored != taken:
            when = "read" if storage is Storage.IN_PLACE else "packed"
            lines.append(f"{operand}: {stored} becomes {taken} as it is {when}")
    return lines


def of_order(plan: GemmPlan) -> list[str]:
    """Which operand lives where, and the loops that follow from it."""
    order = plan.order
    return [
        f"{order.value}: {order.in_l3} in L3, {order.in_l2} in L2, {order.in_registers} in "
        f"registers; the micro-kernel runs along {order.along}",
        f"loops, outermost first: blocks along {', '.join(order.outer)}; "
        f"tiles along {', '.join(order.inner)}",
    ]


def of_registers(profile: Profile, plan: GemmPlan) -> list[str]:
    """Low et al.'s register step for tiles that keep C, and what takes its place for others."""
    if plan.micro_kernel is not None:
        return of_kernel(profile, plan)
    tile, kept = plan.tile, plan.order.in_registers
    here = machine(profile, plan.grid.threads)
    needed, parts = registers_of(tile, plan.order)
    fits = f"{REGISTERS[kept]} <= R: {parts} = {needed} of {here.core.vector_registers} registers"
    if kept == "C":
        return _steps_of_c(plan, here, fits)
    rate, _ = rate_of(plan.multiply, here)
    name, sums = ("mr", tile.mr) if kept == "A" else ("nv", tile.vectors)
    return [
        fits,
        f"FMA issue {name}*kr/N = {sums * tile.kr / rate:g} cycles a turn, loads ({name}+kr)/ports "
        f"= {(sums + tile.kr) / here.loads:g}, stores {name}/ports = {sums / here.stores:g}",
    ]


def _steps_of_c(plan: GemmPlan, here: Machine, fits: str) -> list[str]:
    tile = plan.tile
    rate, latency = rate_of(plan.multiply, here)
    floor = floor_accumulators(tile.lanes, latency, rate)
    bound = port_bound(tile.mr, tile.vectors, rate, here.loads)
    return [
        f"mr*nr >= Nvec*L*N: {tile.mr}*{tile.nr} = {tile.mr * tile.nr}, "
        f"{tile.lanes}*{latency:g}*{rate:g} = {floor}",
        fits,
        f"FMA issue mr*nv/N = {tile.accumulators / rate:g} cycles a step, loads (mr+nv)/ports = "
        f"{(tile.mr + tile.vectors) / here.loads:g}: {bound:.0%} of peak at most",
    ]


def of_blocks(profile: Profile, plan: GemmPlan) -> list[str]:
    """Each block beside the cache whose rule sizes it.

    With X in L3, Y in L2, Z in registers: L1 keeps X_r, so it sizes the block along what X and Y
    share; L2 keeps Y_c, which sizes the one of Y alone; L3 keeps X_c, which sizes that of X alone.
    """
    x, order = Extents.of(plan), plan.order
    x_name, y_name = order.in_l3, order.in_l2
    first, last = order.inner

    def panel(operand: str, across: int) -> int:
        along = block_extent(plan, x, order.along)
        return along * across * element_bytes(plan, operand)

    x_r = f"{x_name}_r", panel(x_name, plan.tile.along(first))
    y_r = f"{y_name}_r", panel(y_name, plan.tile.along(last))
    x_c = f"{x_name}_c", panel(x_name, block_extent(plan, x, first))
    y_c = f"{y_name}_c", panel(y_name, block_extent(plan, x, last))
    of_level = ((order.along, x_r, y_r), (last, y_c, x_r), (first, x_c, y_c))
    lines = []
    for (dim, kept, streamed), level in zip(of_level, levels(profile, plan.grid.threads)):
        block = f"{dim}c = {block_extent(plan, x, dim)}"
        rule = _rule(plan, level) if dim == order.along else ""
        lines.append(f"{block}{rule}: {_in_level(level, kept, streamed, order.in_registers)}")
    return lines


def _in_level(
    level: CacheLevel | None, kept: tuple[str, int], streamed: tuple[str, int], other: str
) -> str:
    if level is None:
        return "no such level, bounded by the product and the TLB"
    ways = ways_taken(kept[1], level), ways_taken(streamed[1], level)
    fits = "fits" if sum(ways) + 1 <= level.ways else "streams from the next level"
    return (
        f"L{level.level} of {level.ways} ways of {CAPACITY.show(way_bytes(level))}: {kept[0]} "
        f"{CAPACITY.show(kept[1])} takes {ways[0]}, {streamed[0]} {ways[1]}, {other} 1: {fits}"
    )


def _rule(plan: GemmPlan, l1: CacheLevel | None) -> str:
    """The limit that the rule for L1 gives; multiples of it are candidates too."""
    shape = Shape.of(plan)
    try:
        return "" if l1 is None else f" (rule for L1: at most {shape.along_by_rule(l1)})"
    except IllegalPlan:
        return ""


def of_storage(profile: Profile, plan: GemmPlan, seconds: float) -> list[str]:
    """How A and B reach the micro-kernel, and what the other ways would take."""
    ways_of_b = CONSTANT if plan.workload.constant_b else PER_CALL
    ways_of_a = (Storage.IN_PLACE, Storage.PACKED)

    def other(storage: Storage, a: Storage, b: Storage) -> str:
        return _other(profile, plan, storage, a, b, seconds)

    of_a = [other(a, a, plan.b) for a in ways_of_a if a is not plan.a]
    of_b = [other(b, plan.a, b) for b in ways_of_b if b is not plan.b]
    return ["; ".join([f"A {READS[plan.a]}", *of_a]), "; ".join([f"B {READS[plan.b]}", *of_b])]


def _other(
    profile: Profile, plan: GemmPlan, storage: Storage, a: Storage, b: Storage, seconds: float
) -> str:
    try:
        factor = predict(profile, replace(plan, a=a, b=b)).seconds / seconds
    except IllegalPlan as error:
        return f"not {READS[storage]}: {str(error).split(': ', 1)[-1]}"
    return f"{READS[storage]}: {factor:.3g} times the time"


def of_threads(plan: GemmPlan) -> list[str]:
    """The grid, and what is one thread's."""
    w, grid, x = plan.workload, plan.grid, Extents.of(plan)
    lines = [
        f"{grid.rows} x {grid.columns} threads over rows x columns of C: "
        f"at most {x.m} x {x.n} each"
    ]
    if grid.depth > 1:
        row_tiles, column_tiles = -(-w.m // plan.tile.mr), -(-w.n // plan.tile.nr)
        lines.append(
            f"{grid.depth} threads share k, at most {x.k} steps each: C has only "
            f"{row_tiles} x {column_tiles} tiles; their sums are added up at the end"
        )
    if w.batch > 1:
        lines.append(
            f"batch of {w.batch}: {grid.batch} thread(s), at most {plan.thread_batch} products each"
        )
    steps = f", {plan.edge_steps or 'no'} steps" if plan.k_unit > 1 else ""
    edges = f"{plan.edge_rows or 'no'} rows, {plan.edge_columns or 'no'} columns{steps}"
    return [*lines, f"edge tiles: {edges}"]


def of_sums(plan: GemmPlan) -> list[str]:
    """How often C is touched, where its sums lie meanwhile, and what is stored in the end."""
    w, turns = plan.workload, plan.turns_of_c
    times = "once" if turns == 1 else f"{turns} times"
    asked = ", asked for ahead" if plan.prefetch_c else ""
    lines = [f"each element of C leaves the registers {times}{asked}"]
    if plan.keeps_sums_apart:
        why = "each thread has its own" if plan.grid.depth > 1 else "C cannot hold them"
        lines.append(f"sums that are not complete lie apart, in {w.accumulator}: {why}")
    if w.stores_sums:
        return lines
    computed, out = w.expression.dtype or w.accumulator, str(w.out_dtype)
    narrower = ELEMENT_BYTES[out] < ELEMENT_BYTES[computed] or is_float(out) != is_float(computed)
    rounded = "" if not narrower else ", rounded half to even"
    rounded += ", saturated" if narrower and not is_float(out) else ""
    return [*lines, f"stored when complete: {w.expression}, as {out}{rounded}"]
