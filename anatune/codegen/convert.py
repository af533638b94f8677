"""Conversions between data types, of scalars and vectors, as TIR (rank 5).

A bfloat16 is handled as its 16 bits: TIR's own has no vectors that LLVM could be given.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from anatune.workload.dtypes import INTEGER_RANGE, is_float

BFLOAT16 = "bfloat16"

UPPER_HALF = 16
"""A bfloat16 is the upper 16 bits of the float32 of the same value."""

JUST_BELOW_HALF = 0x7FFF
"""Added to the lower half, together with the upper half's last bit, it carries where the nearest
bfloat16, or the even one of two, is the next."""

QUIET_NAN = 0x7FC0
"""The bfloat16 of a NaN, whose own upper half may be that of an infinity."""

LARGEST_BELOW_2_31 = 2.0**31 - 2.0**7
"""The largest float32 that an int32 holds."""


def stored(dtype: str) -> str:
    """The data type that TIR declares for elements of ``dtype``."""
    return "uint16" if dtype == BFLOAT16 else dtype


def widen(value: Any, held: str, to: str) -> Any:
    """``value``, of type ``stored(held)``, as ``to``."""
    if held == to:
        return value
    if held == BFLOAT16:
        bits = T.shift_left(cast(value, "uint32"), like(value, UPPER_HALF, "uint32"))
        return cast(T.reinterpret(vector_of(value, "float32"), bits), to)
    return cast(value, to)


def narrow(value: Any, held: str, to: str) -> Any:
    """``value``, of type float64, float32 or int32, as ``stored(to)``.

    Floats are rounded to nearest even, from float64 to 16 bits by way of float32. What an integer
    type does not reach becomes its nearest end, and NaN becomes 0.
    """
    if held == to:
        return value
    if to == BFLOAT16:
        return _bfloat16_of(cast(value, "float32"))
    if is_float(to):
        return cast(cast(value, "float32") if held == "float64" else value, to)
    if is_float(held):
        value, held = _int32_of(value, held, to), "int32"
    else:
        value = _clamped(value, held, *INTEGER_RANGE[to])
    return cast(value, to)


def cast(value: Any, to: str) -> Any:
    return T.cast(value, vector_of(value, to))


def filled(number: float, dtype: str, lanes: int) -> Any:
    one = tirx.const(number, dtype)
    return one if lanes == 1 else T.broadcast(one, lanes)


def like(value: Any, number: float, dtype: str) -> Any:
    """``number`` in as many lanes as ``value`` has."""
    return filled(number, dtype, lanes_of(value))


def vector_of(value: Any, dtype: str) -> str:
    """The type of as many elements of ``dtype`` as ``value`` has lanes."""
    lanes = lanes_of(value)
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def rounded(value: Any) -> Any:
    """To the nearest whole number, half to even."""
    return T.nearbyint(value) if value.ty.dtype.is_float else value


def lanes_of(value: Any) -> int:
    return int(value.ty.dtype.lanes)


def _clamped(value: Any, dtype: str, low: float, high: float) -> Any:
    return T.max(T.min(value, like(value, high, dtype)), like(value, low, dtype))


def _int32_of(value: Any, held: str, to: str) -> Any:
    """A float rounded into the range of the integer type ``to``, as int32."""
    low, high = INTEGER_RANGE[to]
    reached = LARGEST_BELOW_2_31 if (held, to) == ("float32", "int32") else high
    value = T.Select(T.isnan(value), like(value, 0, held), value)
    whole = cast(rounded(_clamped(value, held, low, reached)), "int32")
    if reached == high:
        return whole
    beyond = value > like(value, reached, held)
    return T.Select(beyond, like(value, high, "int32"), whole)


def _bfloat16_of(value: Any) -> Any:
    bits = T.reinterpret(vector_of(value, "uint32"), value)
    shift = like(value, UPPER_HALF, "uint32")
    last = T.bitwise_and(T.shift_right(bits, shift), like(value, 1, "uint32"))
    nearest = T.shift_right(bits + (last + like(value, JUST_BELOW_HALF, "uint32")), shift)
    nearest = T.Select(T.isnan(value), like(value, QUIET_NAN, "uint32"), nearest)
    return cast(nearest, "uint16")
