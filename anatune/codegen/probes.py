"""Small kernels that measure one fact of a machine each (rank 5).

Every probe is a PrimFunc ``main(data, out)``: ``data`` is read, ``out`` takes one vector per thread
and accumulator so that nothing is optimised away. With several threads each works on its own part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from anatune.codegen.arithmetic import GROUP_DTYPE, accumulate, imported
from anatune.codegen.build import PASS_CONFIG
from anatune.codegen.call import ENTRY
from anatune.codegen.library import PROBE_ALIGN_BYTES
from anatune.codegen.target import tvm_target
from anatune.codegen.vectors import index
from anatune.plan import ARITHMETIC, CodeTarget


@dataclass(frozen=True)
class Probe:
    """A probe to build: what it does, on how many threads, and how many times.

    ``kind``: "multiply_add" runs ``chains`` independent register-only chains of an ``arithmetic``;
    "sum" adds products to one vector of sums, so that each waits for the one before; "read" adds
    up ``elements`` per thread, ``chains`` vectors at a time; "stride" adds up one element every
    ``stride``; "chase" follows ``data`` as a list of subscripts, each read waiting for the one
    before; "clock" is a chain of integer operations of one cycle each; "empty" does nothing.
    """

    kind: str
    dtype: str
    lanes: int
    threads: int = 1
    repeats: int = 1
    chains: int = 1
    elements: int = 1
    stride: int = 1
    arithmetic: str = ""  # of "multiply_add" and "sum", whose ``dtype`` is its accumulator

    @property
    def data_elements(self) -> int:
        return max(self.elements * self.threads, 2 * self.lanes)

    @property
    def out_elements(self) -> int:
        return self.threads * self.chains * self.lanes


SUM_VECTORS = 64
"""Vectors that the "sum" probe reads its products from in turn: 4 KiB at most, in any L1."""

CLOCK_STEPS = 8
"""Dependent additions and exclusive-ors, alternating, per turn of the "clock" probe's loop."""


def build_probe(probe: Probe, target: CodeTarget) -> Any:
    """Compile ``probe``; returns TVM's executable."""
    emit = {
        "multiply_add": _multiply_add,
        "sum": _sum,
        "read": _read,
        "stride": _stride,
        "chase": _chase,
        "clock": _clock,
        "empty": lambda *_: None,
    }[probe.kind]
    with IRBuilder() as builder:
        with T.prim_func():
            T.func_name(ENTRY)
            T.func_attr({"tirx.noalias": True, "global_symbol": ENTRY})
            data, out = (
                T.arg(name, T.buffer([index(size)], probe.dtype, align=PROBE_ALIGN_BYTES))
                for name, size in (("data", probe.data_elements), ("out", probe.out_elements))
            )
            if probe.threads == 1:
                emit(probe, data, out, index(0))
            else:
                with T.parallel(0, index(probe.threads)) as thread:
                    emit(probe, data, out, thread)
                    T.buffer_store(out, tirx.const(1, probe.dtype), [thread * probe.lanes])
    with tvm.transform.PassContext(config=PASS_CONFIG):
        return tvm.compile(tvm.IRModule({ENTRY: builder.get()}), target=tvm_target(target))


def _vector(probe: Probe, buffer: Any, start: Any) -> Any:
    return buffer[_lanes_from(probe, start)]


def _lanes_from(probe: Probe, start: Any) -> Any:
    """Subscripts of a vector's elements; a core without vectors takes one element at a time."""
    return T.ramp(start, 1, probe.lanes) if probe.lanes > 1 else start


@dataclass
class _Chains:
    """Vector accumulators that live in registers and end in ``out``."""

    probe: Probe
    buffer: Any

    @classmethod
    def zero(cls, probe: Probe) -> _Chains:
        chains = cls(probe, T.alloc_buffer((probe.chains, probe.lanes), probe.dtype, scope="local"))
        scalar = tirx.const(0, probe.dtype)
        for c in range(probe.chains):
            chains.put(c, T.broadcast(scalar, probe.lanes) if probe.lanes > 1 else scalar)
        return chains

    def get(self, chain: int) -> Any:
        return self.buffer[chain, _lanes_from(self.probe, index(0))]

    def put(self, chain: int, value: Any) -> None:
        T.buffer_store(self.buffer, value, [chain, _lanes_from(self.probe, index(0))])

    def write(self, out: Any, thread: Any) -> None:
        for c in range(self.probe.chains):
            start = (thread * self.probe.chains + c) * self.probe.lanes
            T.buffer_store(out, self.get(c), [_lanes_from(self.probe, start)])


def _multiply_add(probe: Probe, data: Any, out: Any, thread: Any) -> None:
    """A chain goes through the product where that is an instruction of its own, or could be: a
    product of what never changes would be taken once, and plain additions timed."""
    arithmetic = ARITHMETIC[probe.arithmetic]
    through_product = arithmetic.group == 1 or arithmetic.instructions > 1
    factor, other = (T.bind(_vector(probe, data, index(i * probe.lanes))) for i in range(2))
    chains = _Chains.zero(probe)
    with imported(arithmetic, probe.lanes), T.serial(0, index(probe.repeats)):
        for c in range(probe.chains):
            sums, a = (other, chains.get(c)) if through_product else (chains.get(c), other)
            chains.put(c, _accumulated(probe, sums, a, factor))
    chains.write(out, thread)


def _sum(probe: Probe, data: Any, out: Any, thread: Any) -> None:
    factor = T.bind(_vector(probe, data, index(0)))
    chains = _Chains.zero(probe)
    with imported(ARITHMETIC[probe.arithmetic], probe.lanes):
        with T.serial(0, index(probe.repeats)) as i:
            a = _vector(probe, data, i % SUM_VECTORS * probe.lanes)
            chains.put(0, _accumulated(probe, chains.get(0), a, factor))
    chains.write(out, thread)


def _accumulated(probe: Probe, sums: Any, a: Any, b: Any) -> Any:
    """``sums`` plus the products of ``a`` and ``b``, vectors of the probe's type read as others."""
    arithmetic = ARITHMETIC[probe.arithmetic]
    if arithmetic.group > 1:
        stored = "uint16" if arithmetic.b == "bfloat16" else arithmetic.b
        a = T.reinterpret(f"{GROUP_DTYPE}x{probe.lanes}", a)
        b = T.reinterpret(f"{stored}x{arithmetic.group * probe.lanes}", b)
    return accumulate(arithmetic, sums, a, b, probe.lanes)


def _read(probe: Probe, data: Any, out: Any, thread: Any) -> None:
    step = probe.chains * probe.lanes
    chains = _Chains.zero(probe)
    with T.serial(0, index(probe.repeats)):
        with T.serial(0, index(probe.elements // step)) as i:
            for c in range(probe.chains):
                where = thread * probe.elements + i * step + c * probe.lanes
                chains.put(c, chains.get(c) + _vector(probe, data, where))
    chains.write(out, thread)


def _stride(probe: Probe, data: Any, out: Any, thread: Any) -> None:
    total = T.alloc_buffer((probe.chains,), probe.dtype, scope="local")
    for c in range(probe.chains):
        T.buffer_store(total, tirx.const(0, probe.dtype), [c])
    step = probe.stride * probe.chains
    with T.serial(0, index(probe.repeats)):
        with T.serial(0, index(probe.elements // step)) as i:
            for c in range(probe.chains):
                value = data[thread * probe.elements + i * step + c * probe.stride]
                T.buffer_store(total, total[c] + value, [c])
    for c in range(probe.chains):
        T.buffer_store(out, total[c], [(thread * probe.chains + c) * probe.lanes])


def _chase(probe: Probe, data: Any, out: Any, thread: Any) -> None:
    where = T.alloc_buffer((1,), probe.dtype, scope="local")
    T.buffer_store(where, tirx.const(0, probe.dtype), [0])
    with T.serial(0, index(probe.repeats)):
        T.buffer_store(where, data[where[0]], [0])
    T.buffer_store(out, where[0], [thread * probe.lanes])


def _clock(probe: Probe, data: Any, out: Any, thread: Any) -> None:
    value = T.alloc_buffer((1,), probe.dtype, scope="local")
    T.buffer_store(value, data[0], [0])
    with T.serial(0, index(probe.repeats)) as i:
        varying = T.bind(T.cast(i, probe.dtype))
        for step in range(CLOCK_STEPS):
            old = value[0]
            new = old + varying if step % 2 else T.bitwise_xor(old, varying)
            T.buffer_store(value, new, [0])
    T.buffer_store(out, value[0], [thread * probe.lanes])
