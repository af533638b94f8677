"""Modelled energy of a product: operations, bytes by level, and power that flows anyway (rank 4).

E = sum n_op*e_op + sum bytes_level*e_level + P_static*T (Choi et al., "A roofline model of
energy", IPDPS 2013). Constants are those of a 7 nm node, not of the machine at hand: figures
compare plans of one workload, they are not measurements.
"""

from __future__ import annotations

from anatune.workload import Matmul

PJ = 1e-12

ADD_PJ = {"float32": 0.38, "float64": 0.84, "int32": 0.03}
MULTIPLY_PJ = {
    "float32": 1.31, "float64": 6.4, "float16": 0.34, "bfloat16": 0.21,
    "int32": 1.48, "int16": 0.37, "int8": 0.07, "uint8": 0.07,
}  # fmt: skip
"""Energy of one operation, 7 nm (Jouppi et al., "Ten lessons from three generations shaped Google's
TPUv4i", ISCA 2021, table 2). float64 is not in the table: assumed in proportion to the significand,
53 bits to 24, for an addition and to its square for a multiplication; int16 likewise between int8
and int32."""

BYTE_PJ = {"L2": 1.75, "L3": 10.0, "memory": 162.0}
"""Energy per byte out of a level, pJ: 1 MiB SRAM and DDR of the same table; L3 is the SRAM's times
the root of its 32-fold size, an assumption."""

STATIC_W = 1.0
"""Power that flows while a thread runs, watts per core: assumed, about a server socket's idle power
divided by its cores; reading a socket's energy counter would settle it."""


def joules(workload: Matmul, bytes_moved: dict[str, float], seconds: float, threads: int) -> float:
    """Modelled energy of one run, joules; ``bytes_moved`` by the level that they come out of."""
    operation = ADD_PJ[workload.accumulator] + MULTIPLY_PJ[workload.dtype]
    dynamic = workload.flops / 2 * operation + sum(BYTE_PJ[k] * v for k, v in bytes_moved.items())
    return dynamic * PJ + static_joules(seconds, threads)


def static_joules(seconds: float, threads: int) -> float:
    """Energy that ``threads`` cores take for being on, whatever they do."""
    return STATIC_W * threads * seconds
