"""Predicted time of a plan: an overlap of terms, each from its own resource (rank 4)."""

from __future__ import annotations

from math import gcd

from anatune.hwprofile.profile import Profile
from anatune.model.copying import packing_cycles
from anatune.model.energy import joules
from anatune.model.machine import Machine, machine
from anatune.model.traffic import Extents, Panels, Traffic, traffic
from anatune.model.work import rate_of, work_of
from anatune.plan import CodeTarget, Estimate, GemmPlan, Storage, arithmetics
from anatune.workload import Matmul
from anatune.workload.dtypes import ELEMENT_BYTES

LINK_SHARE = 0.9
"""Share of a level's probed read rate that a tile's loop gets: it reads shorter runs."""

SAME_SET = 0.25
"""Share of the L2 latency that a row adds whose lines fall where those of the row before fell."""

SHARED_LINE = 2.0
"""L3 latencies that a line costs which two threads write: there and back. Seen on a Zen 5 guest as
60 to 150 cycles a row of C where 64 or 256 columns were split between two threads."""

ROW_START = 0.17
"""Exposed share of a level's latency where a row starts that no prefetcher has seen coming. A mean:
tiles of one to four rows, where nothing hides it, showed up to 10 of L2's 17 cycles."""

FAR_LINE = 0.3
"""Exposed share of L3's latency where a line comes that no prefetcher has seen coming: 12 products
512 x 64 x 512 were 11 % slower with B in registers than with C on a Zen 5 guest, one was not."""

RARE = ("conversions", "epilogue", "adding up")
"""Terms that are left out where they are nothing."""


def predict(profile: Profile, plan: GemmPlan) -> Estimate:
    """The estimate of ``plan`` on ``profile``: the time of the busiest thread.

    T = products * (sum over steps of (t_multiply^p + t_loads^p + t_stores^p + t_data^p)^(1/p)
      + T_starts + T_C + T_packing + T_conversions + T_epilogue + T_shared)
      + T_threads + T_adding_up

    A step is a turn of the micro-kernel's loop, p is `OVERLAP`, and each step waits for its equal
    part t_data of T_L2 + T_L3 + T_memory + T_rows + T_TLB.
    """
    here = machine(profile, plan.grid.threads)
    x, panels, moved = _moves(plan, here)
    work = work_of(plan, x, here)
    data = {
        "L2 bandwidth": moved.l1 / (here.l2_rate * LINK_SHARE),
        "L3 bandwidth": moved.l2 / (here.l3_rate * LINK_SHARE),
        "memory bandwidth": moved.l3 / (here.memory_rate * LINK_SHARE),
        "row starts": _row_start_cycles(plan, moved, here),
        "TLB misses": _tlb_cycles(plan, x, here),
    }
    added = {
        "tile starts": work.starts,
        "C": _c_cycles(plan, x, moved, here),
        "packing": packing_cycles(plan, x, panels, here),
        "conversions": _conversion_cycles(plan, x, here),
        "epilogue": _epilogue_cycles(plan, x, here),
        "shared lines of C": _shared_line_cycles(plan, x, here),
    }
    once = {"threads": here.barrier_cycles, "adding up": _adding_up_cycles(plan, here)}
    by_kernel = plan.micro_kernel is not None
    busy = "micro-kernel" if by_kernel else "multiply-add units"
    ports = {busy: work.multiply, "load ports": work.loads}
    if work.stores:
        ports["store ports"] = work.stores
    each = work.loops(sum(data.values())) + sum(added.values())
    terms = {name: x.products * c for name, c in {**ports, **data, **added}.items()}
    shown = {name: c for name, c in {**terms, **once}.items() if c or name not in RARE}
    return _estimate(plan, here, x.products * each + sum(once.values()), shown, moved)


def peak_seconds(profile: Profile, workload: Matmul, threads: int) -> float:
    """Time of the multiply-adds alone, by all of ``threads`` and the arithmetic that does most."""
    here = machine(profile, threads)
    able = arithmetics(workload, CodeTarget.of(profile.target))
    lanes = profile.core.lanes(ELEMENT_BYTES[workload.accumulator])
    per_cycle = max(rate_of(each, here)[0] * each.group for each in able) * lanes * threads
    return workload.flops / (2 * per_cycle * here.hz)


def prefetch_pays(plan: GemmPlan, here: Machine) -> bool:
    """Whether asking for C ahead, a load a vector, costs less than the starts of its rows do."""
    x, _, moved = _moves(plan, here)
    asking = x.k_blocks * x.row_tiles * x.column_tiles * plan.tile.accumulators / here.loads
    return moved.c > 0 and asking < _c_row_starts(x, moved, here)


def _moves(plan: GemmPlan, here: Machine) -> tuple[Extents, Panels, Traffic]:
    """The busiest thread's extents, what the caches keep of them, and what passes the links."""
    x = Extents.of(plan)
    panels = Panels.of(plan, x, here)
    return x, panels, traffic(plan, x, panels, here)


def _estimate(
    plan: GemmPlan, here: Machine, cycles: float, terms: dict[str, float], moved: Traffic
) -> Estimate:
    w, threads = plan.workload, plan.grid.threads
    rate, _ = rate_of(plan.multiply, here)
    peak_cycles = w.flops / (2 * rate * plan.tile.lanes * plan.multiply.group * threads)
    levels_beyond = ((2, "L2"), (3, "L3"), (4, "memory"))
    all_products = plan.thread_batch * threads
    bytes_moved = tuple((name, moved.out_of(level) * all_products) for level, name in levels_beyond)
    seconds = cycles / here.hz
    return Estimate(
        seconds=seconds,
        cycles=cycles,
        peak_fraction=peak_cycles / cycles,
        joules=joules(w, dict(bytes_moved), seconds, threads),
        terms=tuple(sorted(terms.items(), key=lambda item: -item[1])),
        bytes_moved=bytes_moved,
    )


def _row_start_cycles(plan: GemmPlan, moved: Traffic, here: Machine) -> float:
    """Rows read in place start without the prefetcher, which stops at the end of a page.

    The share `ROW_START` of an L2 latency is exposed per row; rows that share a page share it. Rows
    that fall into the same set of L1 wait for each other: `SAME_SET`, divided by the places within
    a page at which rows start (`residency.strided_lines`). Lines out of L3 expose `FAR_LINE` each.
    """
    stride = _stride(plan)
    new_page = ROW_START * min(1.0, stride / here.page_bytes)
    same_set = SAME_SET * gcd(here.page_bytes, stride) / here.page_bytes
    far = moved.far_lines * FAR_LINE * here.l3_latency
    return moved.row_starts * here.l2_latency * (new_page + same_set) + far


def _tlb_cycles(plan: GemmPlan, x: Extents, here: Machine) -> float:
    """Pages that a tile goes down, at each pass that needs more of them than the TLB has.

    Tiles that keep C walk rows of a B read in place, tiles that keep B rows of C and of A.
    """
    if plan.order.in_registers == "A":
        return 0.0
    if plan.order.in_registers == "C":
        if plan.b is not Storage.IN_PLACE:
            return 0.0
        pages = _pages(plan.blocks.kc, _stride(plan), here)
        if pages + plan.tile.mr <= here.tlb_entries:
            return 0.0
        return pages * here.tlb_miss_cycles * x.row_tiles * x.column_tiles * x.k_blocks
    rows = min(plan.blocks.mc, x.m)
    pages = _pages(rows, _stride(plan), here)
    pages += _pages(rows, plan.workload.operands["a"].leading * plan.a_bytes, here)
    if pages + plan.tile.kr <= here.tlb_entries:
        return 0.0
    return pages * here.tlb_miss_cycles * x.step_tiles * x.column_tiles * x.row_blocks


def _pages(rows: int, stride: int, here: Machine) -> int:
    return min(rows, -(-rows * stride // here.page_bytes))


def _stride(plan: GemmPlan) -> int:
    """Bytes between the rows that a tile goes down: of B, or of C where B stays in registers."""
    w = plan.workload
    if plan.order.in_registers == "B":
        return w.output.leading * w.output.element_bytes
    return w.operands["b"].leading * plan.b_bytes


def _c_cycles(plan: GemmPlan, x: Extents, moved: Traffic, here: Machine) -> float:
    """C between tiles: its bytes over the link, and without a prefetch the start of each row.

    Added to the loops: the next tile's multiply-adds wait for what the last one writes.
    """
    over_link = moved.c / here.rate(moved.c_level)
    if plan.prefetch_c or not moved.c:
        return over_link
    return over_link + _c_row_starts(x, moved, here)


def _c_row_starts(x: Extents, moved: Traffic, here: Machine) -> float:
    latency = here.l2_latency if moved.c_level == 2 else here.l3_latency
    return x.m * x.column_tiles * (2 * x.k_blocks - 1) * ROW_START * latency


CONVERTED_ELEMENT, CONVERTED_VECTOR = 3.0, 1.0
"""Vector operations of an element of A that is converted as it is read, and of a vector of B: the
element is put into a vector register, converted and spread. Counted in the code for float16."""


def _conversion_cycles(plan: GemmPlan, x: Extents, here: Machine) -> float:
    """Operands read in place that are of another type than the multiply-add takes.

    They are converted again by every tile that reads them, on the ports that multiply and add.
    """
    w, resident = plan.workload, plan.order.in_registers
    operations = 0.0
    if plan.a is Storage.IN_PLACE and w.dtype != plan.multiply.a and not plan.offset_a:
        tiles = x.column_tiles if resident != "A" else x.column_blocks
        operations += x.m * x.k * tiles * CONVERTED_ELEMENT
    if plan.b is Storage.IN_PLACE and w.dtype_b != plan.multiply.b:
        tiles = x.row_tiles if resident != "B" else x.row_blocks
        operations += x.k * -(-x.n // plan.tile.lanes) * tiles * CONVERTED_VECTOR
    return operations / here.fma_per_cycle


def _epilogue_cycles(plan: GemmPlan, x: Extents, here: Machine) -> float:
    """Vector operations of the epilogue on all of C, as fast as multiply-adds, and its arrays."""
    w = plan.workload
    if w.stores_sums:
        return 0.0
    vectors = x.m * -(-x.n // plan.tile.lanes)
    narrowing = 0 if w.out_dtype == w.accumulator else 1
    work = vectors * (w.expression.operations + narrowing) / here.fma_per_cycle
    if plan.finishes_blocks:
        work += vectors * max(1 / here.loads, 1 / here.stores)
    arrays = [op for op in w.expression.operands if len(op.axes) == 2]
    size = sum(x.m * x.n * ELEMENT_BYTES[op.dtype] for op in arrays)
    return work + (size / here.rate_for(w.operand_bytes) if size else 0.0)


def _shared_line_cycles(plan: GemmPlan, x: Extents, here: Machine) -> float:
    """Lines of C that two threads write, where the columns of one end and the next one's begin.

    Such a line travels to the neighbour and back once a row and k block. Columns of a thread are
    whole vectors, but callers' arrays need not begin with a line, so one is shared all the same.
    Products side by side in the rows of C meet likewise, where each thread has one: two of 256x64
    took 26 us in place of 17 as a line was shared. Threads with more come to the line in their
    midst one after the other: twelve took 61 us wherever C began.
    """
    beside = plan.grid.columns
    if x.products == 1 and _shares_rows_of_c(plan.workload, here):
        beside *= plan.grid.batch
    return x.m * x.k_blocks * min(2, beside - 1) * SHARED_LINE * here.l3_latency


def _shares_rows_of_c(w: Matmul, here: Machine) -> bool:
    """Whether products of a batch lie side by side in the rows of C, less than a line apart."""
    if w.batch == 1:
        return False
    c = w.output
    step, row = c.strides[0], c.leading
    return step < row and (step - w.n) * c.element_bytes < here.l1.line_bytes


def _adding_up_cycles(plan: GemmPlan, here: Machine) -> float:
    """Sums of ``depth`` threads written, read and added, by one of them."""
    if plan.grid.depth == 1:
        return 0.0
    w = plan.workload
    elements = w.batch * w.m * w.n * (plan.grid.depth + 1)
    vectors = elements / plan.tile.lanes
    size = elements * ELEMENT_BYTES[w.accumulator]
    return max(vectors / here.loads, size / here.rate_for(size)) + here.l3_latency
