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

from anatune.codegen.build import PASS_CONFIG
from anatune.codegen.call import ENTRY
from anatune.codegen.library import PROBE_ALIGN_BYTES
from anatune.codegen.target import tvm_target
from anatune.codegen.vectors import Row, index
from anatune.plan import CodeTarget


@dataclass(frozen=True)
class Probe:
    """A probe to build: what it does, on how many threads, and how many times.

    ``kind``: "multiply_add" runs ``chains`` independent register-only chains of multiply-adds;
    "read" adds up ``elements`` per thread, ``chains`` vectors at a time; "stride" adds up one
    element every ``stride``; "chase" follows ``data`` as a list of subscripts, each read waiting
    for the one before; "clock" is a chain of integer operations of one cycle each; "empty" does
    nothing.
    """

    kind: str
    dtype: str
    lanes: int
    threads: int = 1
    repeats: int = 1
    chains: int = 1
    elements: int = 1
    stride: int = 1

    @property
    def data_elements(self) -> int:
        return max(self.elements * self.threads, 2 * self.lanes)

    @property
    def out_elements(self) -> int:
        return self.threads * self.chains * self.lanes


CLOCK_STEPS = 8
"""Dependent additions and exclusive-ors, alternating, per turn of the "clock" probe's loop."""


def build_probe(probe: Probe, target: CodeTarget) -> Any:
    """Compile ``probe``; returns TVM's executable."""
    emit = {
        "multiply_add": _multiply_add,
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


@dataclass
class _Chains:
    """Vector accumulators that live in registers and end in ``out``."""

    probe: Probe
    buffer: Any

    @classmethod
    def zero(cls, probe: Probe) -> _Chains:
        buffer = T.alloc_buffer((probe.chains, probe.lanes), probe.dtype, scope="local")
        chains = cls(probe, buffer)
        row = Row(probe.lanes, probe.lanes, probe.dtype)
        for c in range(probe.chains):
            chains.put(c, row.zero())
        return chains

    def get(self, chain: int) -> Any:
        return self.buffer[chain, T.ramp(0, 1, self.probe.lanes)]

    def put(self, chain: int, value: Any) -> None:
        T.buffer_store(self.buffer, value, [chain, T.ramp(0, 1, self.probe.lanes)])

    def write(self, out: Any, thread: Any) -> None:
        row = Row(self.probe.lanes, self.probe.lanes, self.probe.dtype)
        for c in range(self.probe.chains):
            row.store(out, ((thread * self.probe.chains + c) * self.probe.lanes,), 0, self.get(c))


def _multiply_add(probe: Probe, data: Any, out: Any, thread: Any) -> None:
    row = Row(probe.lanes, probe.lanes, probe.dtype)
    factor = T.bind(row.load(data, (0,), 0))
    addend = T.bind(row.load(data, (probe.lanes,), 0))
    chains = _Chains.zero(probe)
    with T.serial(0, index(probe.repeats)):
        for c in range(probe.chains):
            chains.put(c, chains.get(c) * factor + addend)
    chains.write(out, thread)


def _read(probe: Probe, data: Any, out: Any, thread: Any) -> None:
    row = Row(probe.lanes, probe.lanes, probe.dtype)
    step = probe.chains * probe.lanes
    chains = _Chains.zero(probe)
    with T.serial(0, index(probe.repeats)):
        with T.serial(0, index(probe.elements // step)) as i:
            for c in range(probe.chains):
                where = thread * probe.elements + i * step + c * probe.lanes
                chains.put(c, chains.get(c) + row.load(data, (where,), 0))
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
