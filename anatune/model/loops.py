"""Predicted cycles, traffic and energy of any loops, on a CPU or a GPU (rank 4).

T = (sum over ports of T_p^q + T_data^q)^(1/q) + T_starts + T_barriers, with q = `OVERLAP`; ports:
arithmetic, loads, stores, conditions, instructions, sums. Traffic is `loop_traffic`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import prod

from anatune.errors import ProfileError, require
from anatune.hwprofile.profile import Gpu, Profile
from anatune.model.energy import ADD_PJ, BYTE_PJ, MULTIPLY_PJ, PJ, static_joules
from anatune.model.estimate import LINK_SHARE
from anatune.model.loop_traffic import footprint_of_all, moved
from anatune.model.machine import Machine, machine
from anatune.model.work import OVERLAP, STREAM_START_CYCLES
from anatune.plan.loops import Access, Loop, LoopEstimate, LoopNest, Work
from anatune.workload.dtypes import ELEMENT_BYTES

CONDITION_CYCLES = 1.0
"""Cycles of a compare and its branch, whichever way it goes: current cores take one a cycle."""

ISSUED_PER_CYCLE = 4.0
"""Instructions a cycle: the narrowest of the out-of-order cores that there are profiles of."""

LOOP_INSTRUCTIONS = 2.0
"""Instructions of a loop's turn besides its work: the counter, and a compare fused with a jump."""

SHORT_LOOP = 16.0
"""Turns up to which LLVM unrolls a loop of constant extent whole (its limit is on instructions)."""

MASKING = frozenset({"avx512f", "sve", "sve2", "v"})
"""LLVM features with which its vectoriser takes conditions along, as masks of whole vectors."""

INTERLEAVED = 4.0
"""Vectors that LLVM's vectoriser takes at once in a loop whose extent is not a constant."""

DEFAULT_EXTENT = 1000
"""A size that the caller does not give: large enough that edges are the smaller part."""


@dataclass
class Ports:
    """Cycles of a core, by what takes them."""

    arithmetic: float = 0.0
    loads: float = 0.0
    stores: float = 0.0
    conditions: float = 0.0
    instructions: float = 0.0
    sums: float = 0.0  # one after another, where each turn needs the last one's
    starts: float = 0.0

    def __add__(self, other: Ports) -> Ports:
        pairs = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        return Ports(**pairs)

    @property
    def overlapped(self) -> float:
        """What those take together that overlap; starts come on top."""
        parts = (self.arithmetic, self.loads, self.stores, self.conditions, self.instructions)
        return _overlapped(*parts, self.sums)


def estimate(profile: Profile, nest: LoopNest, threads: int = 1) -> LoopEstimate:
    """The estimate of a function's loops, ``threads`` at work where they are parallel.

    Raises:
        ProfileError: a profile of neither a CPU nor a GPU.
    """
    if profile.gpu is not None:
        return _on_gpu(profile.gpu, nest)
    require(profile.cores, f"profile {profile.name}: describes no cores", ProfileError)
    here = machine(profile, threads)
    masks = bool(MASKING.intersection(profile.target.features))
    ports, cycles = Ports(), 0.0
    traffic = moved(nest, here)
    data = _data_cycles(traffic, here)
    total = sum(prod(loop.turns for loop in loops) for loops, _ in nest.works()) or 1.0
    for loops, work in nest.works():
        share = 1 / min(threads, _parallel(loops))
        mine = ports_of(loops, work, here, masks)
        ports += mine
        waits = data * prod(loop.turns for loop in loops) / total
        cycles += share * (_overlapped(mine.overlapped, waits) + mine.starts)
    barriers: float = sum(_barriers(part, here) for part in nest.body if isinstance(part, Loop))
    named = {f.name: getattr(ports, f.name) for f in fields(ports)}
    named |= {"data": data, "barriers": barriers}
    seconds = (cycles + barriers) / here.hz
    return LoopEstimate(
        seconds=seconds,
        cycles=cycles + barriers,
        joules=_joules(nest, traffic) + static_joules(seconds, threads),
        terms=_by_size(named),
        bytes_moved=tuple(traffic.items()),
        conditions=_conditions(nest),
    )


def ports_of(
    loops: tuple[Loop, ...], work: Work, here: Machine, masks: bool = False
) -> Ports:
    """What the ports have to do for one statement, all its turns.

    Conditions that become ``masks`` of vectors are arithmetic like any other.
    """
    turns = prod(loop.turns for loop in loops)
    along, per_turn = vectors(loops, work, here, masks)
    masked = work.guards if along is not None else 0
    arithmetic = (work.operations + masked) * turns * per_turn
    loads = sum(_times(a, loops, along, per_turn) for a in work.accesses if not a.writes)
    stores = sum(_times(a, loops, along, per_turn) for a in work.accesses if a.writes)
    conditions = (work.guards - masked) * turns
    runs = [loop for loop in loops if loop.kind not in ("vectorized", "unrolled")]
    running = [loop for loop in runs if not (loop.fixed and loop.turns <= SHORT_LOOP)]
    jumps = prod(loop.turns for loop in running) * (per_turn if along in running else 1.0)
    begun = prod(loop.turns for loop in running[:-1]) if running else 1.0
    instructions = arithmetic + loads + stores + 2 * conditions + LOOP_INSTRUCTIONS * jumps
    return Ports(
        arithmetic=arithmetic / here.fma_per_cycle,
        loads=loads / here.loads,
        stores=stores / here.stores,
        conditions=conditions * CONDITION_CYCLES,
        instructions=instructions / ISSUED_PER_CYCLE,
        sums=turns * here.fma_latency if work.carried and along is None and _long(loops) else 0.0,
        starts=begun * STREAM_START_CYCLES,
    )


def vectors(
    loops: tuple[Loop, ...], work: Work, here: Machine, masks: bool = False
) -> tuple[Loop | None, float]:
    """The loop that vectors lie along, and vector instructions for each of its turns.

    Ours where the code says so, unless a condition makes TVM take it apart; else the innermost loop
    that LLVM does not unroll, if its turns are independent, go through memory element by element,
    and hold no condition, or one that becomes a mask.
    """
    lanes = here.core.lanes(ELEMENT_BYTES.get(work.dtype, 4))
    stated = [loop for loop in loops if loop.kind == "vectorized"]
    if stated and (work.guards or _has_guards(stated[-1])):
        return None, 1.0
    if stated:
        return stated[-1], pieces(int(stated[-1].turns), lanes) / stated[-1].turns
    kept = [loop for loop in loops if not (loop.fixed and loop.turns <= SHORT_LOOP)]
    if not kept or not kept[-1].independent:
        return None, 1.0
    along = kept[-1]
    if _has_guards(along) and not masks:
        return None, 1.0
    if any(a.strides is None or abs(a.stride(along.name) or 0) > 1 for a in work.accesses):
        return None, 1.0
    at_once = lanes * INTERLEAVED
    whole, rest = divmod(along.turns, at_once)
    half = max(1, lanes // 2)
    return along, (whole * INTERLEAVED + rest // half + rest % half) / along.turns


def pieces(size: int, lanes: int) -> int:
    """Vector instructions for ``size`` elements: whole vectors, and halves of halves of one."""
    return size // lanes + (size % lanes).bit_count()


def _times(access: Access, loops: tuple[Loop, ...], along: Loop | None, per_turn: float) -> float:
    """How often an access is made: once for the innermost loops that do not move it."""
    moving = list(loops)
    while moving and access.stride(moving[-1].name) == 0:
        moving.pop()
    turns = prod(loop.turns for loop in moving)
    if along in moving and access.stride(along.name) == 1:
        return turns * per_turn
    if along is not None and access.stride(along.name) == 0 and along in moving:
        return turns / along.turns
    return turns


def _long(loops: tuple[Loop, ...]) -> bool:
    """Whether the innermost loop runs so long that a core does not see its end from its start."""
    return not (loops[-1].fixed and loops[-1].turns <= SHORT_LOOP)


def _has_guards(part: Loop | Work) -> bool:
    if isinstance(part, Work):
        return part.guards > 0
    return any(_has_guards(each) for each in part.body)


def _parallel(loops: tuple[Loop, ...]) -> float:
    return prod(loop.turns for loop in loops if loop.kind == "parallel") or 1.0


def _barriers(loop: Loop, here: Machine) -> float:
    if loop.kind == "parallel":
        return here.barrier_cycles
    return loop.turns * sum(_barriers(p, here) for p in loop.body if isinstance(p, Loop))


def _data_cycles(traffic: Mapping[str, float], here: Machine) -> float:
    rates = {"L2": here.l2_rate, "L3": here.l3_rate, "memory": here.memory_rate}
    return sum(size / (rates[name] * LINK_SHARE) for name, size in traffic.items())


def _conditions(nest: LoopNest) -> float:
    return sum(work.guards * prod(loop.turns for loop in loops) for loops, work in nest.works())


def _joules(nest: LoopNest, traffic: Mapping[str, float]) -> float:
    """Operations, conditions (each an integer addition) and bytes."""
    total = sum(BYTE_PJ[name] * size for name, size in traffic.items())
    for loops, work in nest.works():
        add = ADD_PJ.get(work.dtype, ADD_PJ["float32"])
        multiply = MULTIPLY_PJ.get(work.dtype, MULTIPLY_PJ["float32"])
        each = work.multiply_adds * (add + multiply) + work.additions * add
        each += work.multiplications * multiply + work.guards * ADD_PJ["int32"]
        total += each * prod(loop.turns for loop in loops)
    return total * PJ


def _on_gpu(gpu: Gpu, nest: LoopNest) -> LoopEstimate:
    """Instructions of all threads over the lanes of the SMs in use, overlapped with memory.

    A multiprocessor's lanes take one instruction each a cycle: half its multiply-add FLOP.
    """
    lanes = gpu.fp32_flops_per_sm_cycle / 2
    cycles = dict.fromkeys(("arithmetic", "accesses", "conditions"), 0.0)
    for loops, work in nest.works():
        blocks = prod(loop.turns for loop in loops if loop.kind == "block")
        rate = lanes * min(gpu.sms, blocks)
        turns = prod(loop.turns for loop in loops)
        cycles["arithmetic"] += work.operations * turns / rate
        cycles["accesses"] += len(work.accesses) * turns / rate
        cycles["conditions"] += 2 * work.guards * turns / rate
    size = footprint_of_all(list(nest.works()), GPU_SECTOR_BYTES)
    fits = size <= gpu.l2_bytes
    rate_s = (gpu.l2_bytes_per_s if fits else None) or gpu.memory_bytes_per_s
    name = "L2" if fits else "memory"
    named = {**cycles, "data": size / rate_s * gpu.clock_hz}
    total = _overlapped(sum(cycles.values()), named["data"])
    return LoopEstimate(
        seconds=total / gpu.clock_hz,
        cycles=total,
        joules=_joules(nest, {name: size}),
        terms=_by_size(named),
        bytes_moved=((name, size),),
        conditions=_conditions(nest),
    )


GPU_SECTOR_BYTES = 32
"""What an NVIDIA GPU moves at least: a sector of a line (CUDA C++ Best Practices Guide)."""


def _by_size(named: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    return tuple(sorted(named.items(), key=lambda item: -item[1]))


def _overlapped(*cycles: float) -> float:
    """(sum T_i^q)^(1/q)."""
    largest = max(cycles)
    if not largest:
        return 0.0
    total: float = largest * sum((c / largest) ** OVERLAP for c in cycles) ** (1 / OVERLAP)
    return total
