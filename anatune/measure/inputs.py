"""Operands whose sums of products are exact, in memory that shows what touches its gaps (rank 6).

Floats are random multiples of a power of two, so coarse that every partial sum is a number of the
accumulator's type: a right kernel's sums then equal the reference exactly, whatever their order.
One product too many or too few, anywhere, shows. Integers are random over their whole range, as
their sums are exact, modulo 2**32, in any case.
"""

from __future__ import annotations

import math

import numpy as np

from anatune.codegen.operands import Slot
from anatune.workload import Matmul, Tensor
from anatune.workload.dtypes import SIGNIFICANT_BITS, is_float, numpy_dtype
from anatune.workload.expression import OUT

PERIOD = 1_048_573
"""Elements after which large operands repeat, a prime: drawing all of them would take longer than
the kernel, and no row or tile of a power of two meets its like."""

MAX_OPERAND_BITS = 7
"""Bits of an operand's magnitude at most: a random byte, the quickest to draw, holds them and a
sign; and every type of C, A and B holds their multiples."""

SMALLEST_ROW = 8
"""Powers of two by which rows of A are scaled down where C is a function of the sums: those that
are 1, and those that saturate, differ as rounded numbers and functions such as tanh do."""

UNTOUCHED = 0xFF
"""Every byte of memory that nobody wrote: NaN in all types of floats."""


def operand_bits(workload: Matmul) -> int:
    """Largest b for which sums of k products of b-bit integers fit the significand; at least 1."""
    if not is_float(workload.accumulator):
        return MAX_OPERAND_BITS
    return max(1, min(MAX_OPERAND_BITS, _spare_bits(workload) // 2))


def sums_are_exact(workload: Matmul) -> bool:
    """Whether a kernel's sums of `operands` must equal the reference's: all but for huge k."""
    integers = not is_float(workload.accumulator)
    return integers or 2 * operand_bits(workload) <= _spare_bits(workload)


def _spare_bits(workload: Matmul) -> int:
    """Bits of the accumulator that the number of products leaves to their size."""
    return SIGNIFICANT_BITS[workload.accumulator] - math.ceil(math.log2(workload.k + 1))


def operands(workload: Matmul, seed: int = 0) -> dict[str, np.ndarray]:
    """Random inputs by name, see the module; ``out`` among them where C is read as well.

    They begin cache lines. Floats are within [-1, 1]; what an epilogue reads is never 0, and its
    scalars ascend, as the bounds of a range do.
    """
    generator = np.random.default_rng(seed)
    bits = operand_bits(workload)
    inputs = {}
    for name, tensor in workload.operands.items():
        whole_range = name in ("a", "b") and not is_float(workload.accumulator)
        drawn = _any(generator, tensor) if whole_range else _on_grid(generator, tensor, bits)
        inputs[name] = _filled(tensor, drawn if name in ("a", "b") else _without_zeros(drawn, bits))
    if workload.beta:
        inputs[OUT] = _filled(workload.output, _on_grid(generator, workload.output, bits))
    scalars = [name for name, tensor in workload.operands.items() if not tensor.shape]
    for name, value in zip(scalars, sorted(float(inputs[name]) for name in scalars)):
        inputs[name][...] = value
    if not workload.stores_sums:
        _vary(generator, workload, inputs)
    return inputs


def untouched(tensor: Tensor) -> np.ndarray:
    """Memory for ``tensor`` that begins a cache line; all of it `UNTOUCHED`."""
    array = Slot("", tensor).new()
    array.base.fill(UNTOUCHED)  # type: ignore[union-attr]
    return array


def forget(array: np.ndarray) -> None:
    """Make what `untouched` gave as it was."""
    array.base.fill(UNTOUCHED)  # type: ignore[union-attr]


def strayed(array: np.ndarray) -> bool:
    """Whether something was written before, after or between the elements of what `untouched` gave
    for a tensor whose strides are nested."""
    memory = array.base
    assert memory is not None
    start = array.ctypes.data - memory.ctypes.data
    axes = sorted(zip(array.strides, array.shape))
    parts, reach = [memory[:start]], array.itemsize
    for place, (step, extent) in enumerate(axes):
        outer_steps, outer = zip(*axes[place + 1 :]) if axes[place + 1 :] else ((), ())
        gaps = (extent - 1, max(0, step - reach), *outer), (step, 1, *outer_steps)
        parts.append(np.ndarray(gaps[0], np.uint8, memory, start + reach, gaps[1]))
        reach += (extent - 1) * step
    parts.append(memory[start + reach :])
    return any((part != UNTOUCHED).any() for part in parts)


def _any(generator: np.random.Generator, tensor: Tensor) -> np.ndarray:
    count = min(tensor.elements, PERIOD)
    return np.frombuffer(generator.bytes(count * tensor.element_bytes), tensor.dtype)


def _on_grid(generator: np.random.Generator, tensor: Tensor, bits: int) -> np.ndarray:
    """Whole numbers of ``bits`` bits and a sign; as floats, multiples of 2**-bits in [-1, 1]."""
    count = min(tensor.elements, PERIOD)
    whole = np.frombuffer(generator.bytes(count), np.int8) >> (MAX_OPERAND_BITS - bits)
    if is_float(tensor.dtype):
        return np.ldexp(whole.astype(np.float32), -bits).astype(numpy_dtype(tensor.dtype))
    positive = whole & (2**MAX_OPERAND_BITS - 1)
    return (positive if tensor.dtype == "uint8" else whole).astype(tensor.dtype)


def _without_zeros(values: np.ndarray, bits: int) -> np.ndarray:
    least = 1 if values.dtype.kind in "iu" else 2.0**-bits
    return np.where(values == 0, np.array(least, values.dtype), values)


def _filled(tensor: Tensor, drawn: np.ndarray) -> np.ndarray:
    """An array of ``drawn``, again and again."""
    array = untouched(tensor)
    flat = array.reshape(-1) if tensor.compact else np.empty(array.size, array.dtype)
    for start in range(0, flat.size, PERIOD):
        flat[start : start + PERIOD] = drawn[: flat.size - start]
    if not tensor.compact:
        array[...] = flat.reshape(array.shape)
    return array


def _vary(
    generator: np.random.Generator, workload: Matmul, inputs: dict[str, np.ndarray]
) -> None:
    """Make some sums small, so that not all of them saturate what they become."""
    a, b = inputs["a"], inputs["b"]
    rows = np.swapaxes(a, -1, -2) if workload.trans_a else a
    columns = b if workload.trans_b else np.swapaxes(b, -1, -2)
    # An element that several rows share cannot be scaled for each of them.
    if is_float(workload.dtype) and workload.operands["a"].nested:
        scale = np.ldexp(np.float32(1), -generator.integers(0, SMALLEST_ROW, workload.m))
        rows *= scale.astype(a.dtype)[:, None]
    elif not is_float(workload.accumulator):
        for lines in (rows, columns):
            chosen = generator.random(lines.shape[-2]) < 0.5
            lines[..., chosen, :] = np.fmod(lines[..., chosen, :], 2)
