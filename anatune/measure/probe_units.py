"""Probe the clock, and how fast a core multiplies and adds in each arithmetic (rank 6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from anatune.codegen.probes import CLOCK_STEPS, SUM_VECTORS, Probe
from anatune.hwprofile import CoreKind, Dot
from anatune.hwprofile.profile import MULTIPLY_ADDS
from anatune.measure.lab import GUESSED_HZ, TARGET_S, Lab, digits
from anatune.plan import ARITHMETIC, Arithmetic, CodeTarget, arithmetics
from anatune.workload import matmul
from anatune.workload.dtypes import ELEMENT_BYTES

PROBED_DTYPES = ("float64", "float32", "float16", "bfloat16", "int32", "int16", "int8")
"""Types of A and B whose peak is stated, in the order of the format."""

SPARE_REGISTERS = 4
"""Vector registers that the multiply-add probe leaves to factor, addend and compiler."""

MAX_REREAD_CHAINS = 16
"""Chains of sums that are read as groups of a narrower type, at most: of 28 such, LLVM 22 keeps all
in memory. Twelve hide the six cycles of vpmaddwd and vpaddd at two per cycle."""

GUESSED_PER_CYCLE = 2
"""Multiply-adds per cycle that run lengths are computed from; one per cycle doubles them."""

GUESSED_SUM_CYCLES = 8
"""Cycles from one dependent multiply-add to the next, at most, for the same purpose."""

LEAST_SUM_CYCLES = 1.0
"""Smallest latency that is stated: compilers add integers in another order than they are told, and
an addition to what was added up apart takes one cycle (instruction tables of every vendor)."""

UNIT_DIGITS = 2
"""Digits of a rate per cycle that are kept: clock and rate are timed one after the other."""

Rates = Mapping[Arithmetic, float]
"""Vectors of sums that are added to per second, all threads together."""


def able(target: CodeTarget) -> dict[str, list[Arithmetic]]:
    """The arithmetics that compute products of each data type on ``target``.

    Those of float16 are float32's where numbers are converted before they are multiplied.
    """
    return {d: arithmetics(matmul(1, 1, 1, dtype=d), target) for d in PROBED_DTYPES}


def probe_clock(lab: Lab, core: CoreKind, threads: int) -> CoreKind:
    """``core`` with its clock, from a chain of operations that take one cycle each."""
    repeats = int(TARGET_S * GUESSED_HZ / CLOCK_STEPS)

    def hertz(on: int) -> float:
        probe = Probe("clock", "int64", 1, threads=on, repeats=repeats)
        return repeats * CLOCK_STEPS / lab.seconds(probe)

    one_hz, all_hz = digits(hertz(1)), digits(hertz(threads))
    return replace(core, clock_one_hz=one_hz, clock_all_hz=min(all_hz, one_hz))


def probe_rates(lab: Lab, core: CoreKind, threads: int) -> dict[Arithmetic, float]:
    """`Rates` of every arithmetic that some data type needs: each with as many chains as fit."""
    needed = {arithmetic for each in able(lab.target).values() for arithmetic in each}
    return {a: _rate(lab, core, a, threads) for a in ARITHMETIC.values() if a in needed}


def probe_units(lab: Lab, core: CoreKind, rates: Rates) -> CoreKind:
    """``core`` with per-cycle ``rates`` of one thread and with latencies, from one chain each."""
    hz = core.clock_one_hz
    assert hz is not None  # probed first

    def dot(arithmetic: Arithmetic) -> Dot:
        return Dot(
            name=arithmetic.name,
            per_cycle=digits(rates[arithmetic] / hz, UNIT_DIGITS),
            latency_cycles=max(LEAST_SUM_CYCLES, round(_sum_s(lab, core, arithmetic) * hz, 1)),
        )

    fma = dot(ARITHMETIC["fma32"])
    return replace(
        core,
        fma_per_cycle=fma.per_cycle,
        fma_latency_cycles=fma.latency_cycles,
        dots=tuple(dot(arithmetic) for arithmetic in rates if arithmetic.name not in MULTIPLY_ADDS),
    )


def peaks(lab: Lab, core: CoreKind, rates: Rates) -> tuple[tuple[str, float], ...]:
    """Operations per second by data type: those of the fastest arithmetic that computes it."""

    def operations(arithmetic: Arithmetic) -> float:
        return 2 * arithmetic.group * _lanes(core, arithmetic) * rates[arithmetic]

    fastest = {d: max(map(operations, each)) for d, each in able(lab.target).items()}
    return tuple((dtype, digits(rate)) for dtype, rate in fastest.items())


def _lanes(core: CoreKind, arithmetic: Arithmetic) -> int:
    return core.lanes(ELEMENT_BYTES[arithmetic.accumulator])


def _rate(lab: Lab, core: CoreKind, arithmetic: Arithmetic, threads: int) -> float:
    chains = core.vector_registers - SPARE_REGISTERS
    if arithmetic.group > 1 and arithmetic.instructions > 1:
        chains = min(chains, MAX_REREAD_CHAINS)
    repeats = int(TARGET_S * GUESSED_HZ * GUESSED_PER_CYCLE / chains)
    probe = Probe(
        "multiply_add", arithmetic.accumulator, _lanes(core, arithmetic), threads, repeats, chains,
        arithmetic=arithmetic.name,
    )  # fmt: skip
    return chains * repeats * threads / lab.seconds(probe)


def _sum_s(lab: Lab, core: CoreKind, arithmetic: Arithmetic) -> float:
    """Seconds from one sum to the next of the same lane."""
    lanes = _lanes(core, arithmetic)
    repeats = int(TARGET_S * GUESSED_HZ / GUESSED_SUM_CYCLES)
    probe = Probe(
        "sum", arithmetic.accumulator, lanes, repeats=repeats, elements=SUM_VECTORS * lanes,
        arithmetic=arithmetic.name,
    )  # fmt: skip
    return lab.seconds(probe) / repeats
