"""Plans of element-wise workloads, folds, scans and softmax, and their predicted times (rank 4)."""

from __future__ import annotations

from dataclasses import dataclass

from anatune.hwprofile.profile import Profile
from anatune.model.alignment import loads_of
from anatune.model.candidates import OBJECTIVES, check_threads
from anatune.model.chains import chain_cycles, simple_cycles
from anatune.model.copying import TRANSPOSE_CYCLES
from anatune.model.energy import BYTE_PJ, PJ, static_joules
from anatune.model.machine import Machine, machine
from anatune.model.residency import kept_share, keeps
from anatune.model.work import OVERLAP
from anatune.plan import CodeTarget, Estimate
from anatune.plan.maps import MapPlan
from anatune.workload.dtypes import ELEMENT_BYTES, is_float
from anatune.workload.maps import FOLDS, SCAN, SOFTMAX, Map
from anatune.workload.nodes import OPERATIONS

UNROLLS = (1, 2, 4, 8, 16)
"""Vectors of a turn of the inner loop that are tried."""

CODE_OPERATIONS = 128
"""Operations of a turn at most, so that its code stays in the caches of decoded instructions (4096
and more operations on current cores) with room for others; one vector is always possible."""

TURN_CYCLES = 1.0
"""Cycles of a turn for counting and branching, one branch taken a cycle on current cores."""

WRITE_ALLOCATE = 2.0
"""Times that a line passes a link which is written: it is read first, and written back."""

ROW_CYCLES = 1.0
"""Cycles to begin and end a row: addresses and a loop. Rows overlap, as a Zen 5 guest showed with
x + b[n] of 500 rows of 7."""

HALVING_CYCLES = 0.5
"""Cycles of one halving when a vector is folded across: a shuffle and an operation, two of each a
cycle; those of one row overlap with the next row. Sums of 2000 rows of 7 on a Zen 5 guest."""

ROW_START_CYCLES = 12.0
"""Cycles that a part of a row costs which no prefetcher has seen coming, where columns are folded
or scanned in chunks: nothing hides them. 49 rows of 1000 columns, in L2 of a Zen 5 guest; 49 rows
of 2048, which share a few sets, took twice that."""

MEMORY_SHARE = 0.75
"""Share of the probed read rate of memory that reads and writes together get: the bus turns around.
x + y of 8 million elements on a Zen 5 guest."""

NARROWING = {"integer": 4.5, "bfloat16": 7.0, "float": 1.0, "saturated": 1.0}
"""Vector operations that make a result of a narrower type: counted in `codegen.convert`, those to
integers measured on a Zen 5 guest; integers are saturated and narrowed in one."""

SOFTMAX_OPERATIONS = OPERATIONS["exp"] + 4
"""Besides the expression: largest value, difference, exponential, sum, product."""

SOFTMAX_RUNS = 2.0
"""Times that softmax reads and writes a row which it keeps for itself."""


@dataclass(frozen=True)
class UnitCost:
    """Cycles of one unit by term; ``cycles`` is what they take together."""

    terms: tuple[tuple[str, float], ...]
    cycles: float
    bytes_moved: float
    level: str  # that the bytes come out of


def best_map(
    profile: Profile, workload: Map, threads: int, working_bytes: float | None = None
) -> tuple[MapPlan, Estimate]:
    """The first of `rank_maps`."""
    return rank_maps(profile, workload, threads, working_bytes=working_bytes)[0]


def rank_maps(
    profile: Profile, workload: Map, threads: int, objective: str = "time",
    working_bytes: float | None = None,
) -> list[tuple[MapPlan, Estimate]]:  # fmt: skip
    """The plans with one of ``threads`` and all of them, best first; of equals the longer turns.

    ``working_bytes``: what is in use beside each other, where that is more than the workload's.
    """
    weight = OBJECTIVES[objective]
    plans = [
        MapPlan(workload=workload, target=CodeTarget.of(profile.target), lanes=lanes,
                unroll=unroll, threads=count)
        for lanes in _lanes(profile, workload)
        for unroll in UNROLLS
        if unroll == 1 or _fits(profile, workload, unroll)
        for count in {1, threads}
    ]  # fmt: skip
    ranked = [(plan, predict_map(profile, plan, working_bytes)) for plan in plans]
    return sorted(ranked, key=lambda item: (weight(item[1]), -item[0].unroll))


def predict_map(
    profile: Profile, plan: MapPlan, working_bytes: float | None = None
) -> Estimate:
    """The estimate of ``plan``: T = units of a thread * T_unit + T_threads.

    T_unit = (sum of t^p)^(1/p) + t_turns + t_rows + t_row_starts, the sum over operations, loads,
    stores, chains, transposing and data.
    """
    here = machine(profile, plan.threads)
    units = -(-plan.units // plan.threads)
    cost = unit_cost(profile, plan, plan.threads, working_bytes)
    barrier = here.barrier_cycles if plan.threads > 1 else 0.0
    cycles = units * cost.cycles + barrier
    terms = {name: units * c for name, c in cost.terms if c}
    if barrier:
        terms["threads"] = barrier
    seconds = cycles / here.hz
    moved = cost.bytes_moved * plan.units
    operations = plan.workload.flops / plan.lanes / here.fma_per_cycle / plan.threads
    dynamic = PJ * BYTE_PJ.get(cost.level, 0.0) * moved
    return Estimate(
        seconds=seconds,
        cycles=cycles,
        peak_fraction=operations / cycles,
        joules=dynamic + static_joules(seconds, plan.threads),
        terms=tuple(sorted(terms.items(), key=lambda item: -item[1])),
        bytes_moved=((cost.level, moved),),
    )


def check_map(profile: Profile, plan: MapPlan) -> None:
    """Raise IllegalPlan for a plan that the machine cannot hold."""
    check_threads(profile, plan.threads)


def unit_cost(
    profile: Profile, plan: MapPlan, threads: int, working_bytes: float | None = None
) -> UnitCost:
    """What a unit takes while ``threads`` are at work on units like it.

    Runs over a row of softmax differ: the first and the last wait for memory, and that between them
    computes out of L1, so neither hides the other: 6144 rows of 512 took as long as both together
    on a Zen 5 guest.
    """
    w, here = plan.workload, machine(profile, threads)
    vectors, turns, rows = _vectors_turns_rows(plan)
    finish = w.finished.reads if w.fold == SCAN else ()
    loads = [loads_of(plan, op, here.l1.line_bytes)
             for op in (*w.element.reads, *finish) if "n" in op.axes]
    kept = SOFTMAX_RUNS if w.fold == SOFTMAX else 0.0
    stores = kept + (0.0 if w.fold in FOLDS else 1.0)
    size = _bytes_of_unit(plan)
    level, rate = level_of(here, working_bytes or w.operand_bytes)
    far = level != "L1"  # within L1 the ports are all there is
    down = w.m if plan.down and plan.chunks > 1 and far else 0
    terms = {
        "operations": vectors * operations_of_vector(w) / here.fma_per_cycle,
        "load ports": vectors * (sum(loads) + kept) / here.loads,
        "store ports": vectors * stores / here.stores,
        "chains": (turns - (w.fold in FOLDS)) * _chain_cycles(w, here.fma_latency),
        "transposing": vectors * plan.lanes * _squares(plan) * TRANSPOSE_CYCLES,
        f"{level} bandwidth": size / rate if far else 0.0,
    }
    after = {
        "turns": turns * TURN_CYCLES,
        "rows": rows * (ROW_CYCLES + _folding_cycles(plan)),
        "row starts": down * ROW_START_CYCLES,
    }
    waited = terms[f"{level} bandwidth"] if w.fold == SOFTMAX and level == "memory" else 0.0
    hidden = sum(c**OVERLAP for c in terms.values()) - waited**OVERLAP
    together = hidden ** (1 / OVERLAP) + waited
    shown = (*terms.items(), *after.items())
    return UnitCost(shown, together + sum(after.values()), size, level)


def _vectors_turns_rows(plan: MapPlan) -> tuple[float, float, float]:
    """Vectors of a unit, turns of its inner loop, and rows (or chunks of columns) that begin in it,
    on average."""
    w = plan.workload
    rows, columns = plan.extents
    in_row = columns // plan.lanes + (columns % plan.lanes > 0)
    if plan.down:
        return w.m * in_row / plan.chunks, float(w.m), 1.0
    if w.fold == SCAN:
        return float(w.n), float(w.n), 1.0
    if w.fold:
        runs = 3.0 if w.fold == SOFTMAX else 1.0
        return float(in_row), float(plan.chunks), runs
    return in_row / plan.chunks, in_row / plan.chunks / plan.unroll, 1.0 / plan.chunks


def operations_of_vector(w: Map) -> float:
    """Of the expression, of conversions, of folding."""
    converted = sum(op.dtype != op.computed for op in w.element.reads if "n" in op.axes)
    folding = 1 if w.fold in FOLDS else SOFTMAX_OPERATIONS if w.fold == SOFTMAX else 0
    finish = w.finished.operations if w.fold == SCAN else 0
    return w.element.operations + converted + folding + finish + _narrowing(w)


def _scans_rows(w: Map) -> bool:
    return w.fold == SCAN and w.over == "n"


def _chain_cycles(w: Map, fma_latency: float) -> float:
    """Cycles that each turn waits for the one before."""
    if w.fold == SCAN:
        return chain_cycles(w.element, fma_latency) or 0.0
    return simple_cycles(w.held, fma_latency) if w.fold in FOLDS else 0.0


def _squares(plan: MapPlan) -> int:
    """Arrays that are transposed on their way in or out, square by square."""
    w = plan.workload
    if not _scans_rows(w) or plan.lanes == 1:
        return 0
    return 1 + sum(len(op.axes) == 2 for op in (*w.element.reads, *w.finished.reads))


def _narrowing(w: Map) -> float:
    to = str(w.out_dtype)
    if w.fold in FOLDS or to == w.held:
        return 0.0
    kind = "float" if is_float(to) else "integer" if is_float(w.held) else "saturated"
    return NARROWING.get(to, NARROWING[kind])


def _folding_cycles(plan: MapPlan) -> float:
    """Folding the chains of a row, and the vector that is left across."""
    w = plan.workload
    if w.fold in ("", SCAN) or w.over == "m":
        return 0.0
    steps = (plan.lanes * plan.unroll - 1).bit_length()
    return steps * HALVING_CYCLES * (2 if w.fold == SOFTMAX else 1)


def _bytes_of_unit(plan: MapPlan) -> float:
    """Bytes that pass the link for a unit: arrays once, the result twice; what runs along columns
    alone stays near."""
    w = plan.workload
    whole = sum(t.size_bytes for t in w.operands.values() if t.elements >= w.elements)
    return (whole + WRITE_ALLOCATE * w.output.size_bytes) / plan.units


def level_of(here: Machine, all_bytes: float) -> tuple[str, float]:
    """The nearest level that keeps what all threads use, and bytes per cycle and thread out of it.

    Each has a part of it in levels of its own, L3 is common. L2 keeps a part of what is too much
    for it: replacement of private levels is not strict.
    """
    mine = all_bytes / here.threads
    if keeps(here.l1, mine):
        return "L1", here.loads * here.core.vector_bits / 8
    if here.l2 is not None and keeps(here.l2, mine):
        return "L2", here.l2_rate
    if here.l3 is not None and keeps(here.l3, all_bytes):
        near = kept_share(here.l2, mine)
        return "L3", 1 / (near / here.l2_rate + (1 - near) / here.l3_rate)
    return "memory", here.memory_rate * MEMORY_SHARE


def _lanes(profile: Profile, w: Map) -> tuple[int, ...]:
    """Elements of a vector of the widest type that is computed in; where rows are scanned, also one
    row at a time."""
    computed = (w.held, *(op.computed for op in w.element.operands))
    lanes = profile.core.lanes(max(ELEMENT_BYTES[dtype] for dtype in computed))
    return (lanes, 1) if _scans_rows(w) else (lanes,)


def _fits(profile: Profile, w: Map, unroll: int) -> bool:
    """Whether so many vectors fit the registers, and their code the cache of instructions.

    Rows are scanned one step after the other.
    """
    if _scans_rows(w):
        return False
    registers = registers_of(w, unroll) <= profile.core.vector_registers
    return registers and unroll * operations_of_vector(w) <= CODE_OPERATIONS


def registers_of(w: Map, unroll: int) -> int:
    """Vector registers that ``unroll`` vectors take with their operands."""
    return unroll * (1 + sum("n" in op.axes for op in w.element.operands))
