"""exp, tanh, sigmoid, erf and erfc of whole vectors, as TIR (rank 5).

A call of the C library's takes one number at a time, and every accumulator would have to leave its
register for it. So these are polynomials of our own, one scheme for float32 and float64 and for
vectors of any length, with no branch and no table. NaN stays NaN, infinities have their limits.
Only x86 before SSE4.1, which has no instruction that rounds, is given a call for that.

Coefficients, lowest power first, are those of the polynomial that meets the named function in the
d + 1 Chebyshev nodes of the named interval, worked out with 80 digits. Reduction and ln 2 in two
parts are Cody and Waite's (Software Manual for the Elementary Functions, 1980).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tvm.tirx.script import builder as T

from anatune.codegen.convert import like, rounded, vector_of

LOG2_E = 1 / math.log(2)

LINEAR_END = 1.0
"""erf is a polynomial times x up to here, and 1 - erfc beyond."""

TANH_END = 20.0
"""tanh is 1 from here on: its distance from 1 is below half an ulp at 9.1 in float32, at 19.1 in
float64."""

POLE = 3.0
"""erfc(z) = P((z - 3) / (z + 3)) / (z + 3) exp(-z^2); of the poles tried, 1 to 4, the one with the
lowest degrees."""


@dataclass(frozen=True)
class _Format:
    """What the functions need to know of a binary format.

    ``exp``: (e^r - 1 - r) / r^2 for |r| <= ln(2) / 2. ``erf``: erf(x) / x of x^2 in [0, 1].
    ``erfc``: P of `POLE` for z in [0, erfc_end].
    """

    dtype: str
    bits: str  # unsigned integer of the same size
    fraction_bits: int
    bias: int
    ln2_high: float  # few enough bits that its products with exponents are exact
    ln2_low: float
    exp_lowest: float  # e^x is 0 from here down, inf from ``exp_highest`` up
    exp_highest: float
    erfc_end: float  # erfc is 0 from here on
    exp: tuple[float, ...]
    erf: tuple[float, ...]
    erfc: tuple[float, ...]

    @property
    def to_biased(self) -> float:
        """Added to a whole number, it leaves that number and the bias in the fraction's bits."""
        return 1.5 * 2.0**self.fraction_bits + self.bias


_FLOAT32 = _Format(
    dtype="float32",
    bits="uint32",
    fraction_bits=23,
    bias=127,
    ln2_high=0.693359375,
    ln2_low=-2.12194440e-4,
    exp_lowest=-104.0,
    exp_highest=89.0,
    erfc_end=11.0,
    exp=(0.5, 0.16666578, 0.041666556, 0.008363173, 0.0013926176),
    erf=(
        1.1283791, -0.37612626, 0.11283594, -0.026854211, 0.0051890872, -8.0168643e-4, 7.875875e-5,
    ),
    erfc=(
        1.0740069, -0.8833945, 0.5902285, -0.31046635, 0.11952691, -0.026838794, -0.0012179486,
        0.0030821708, -4.9362844e-4, -3.3186283e-4,
    ),
)  # fmt: skip
_FLOAT64 = _Format(
    dtype="float64",
    bits="uint64",
    fraction_bits=52,
    bias=1023,
    ln2_high=6.93145751953125e-1,
    ln2_low=1.42860682030941723212e-6,
    exp_lowest=-746.0,
    exp_highest=710.0,
    erfc_end=28.0,
    exp=(
        0.5000000000000001, 0.16666666666666669, 0.041666666666624164, 0.008333333333330065,
        0.0013888888917196719, 0.00019841269863040545, 2.4801521322368692e-05,
        2.7557268480310024e-06, 2.7620075879983367e-07, 2.5100375832561234e-08,
    ),
    erf=(
        1.1283791670955126, -0.3761263890318375, 0.11283791670954879, -0.026866170645076792,
        0.0052239776248180145, -0.000854832698083379, 0.0001205533111164271,
        -1.4925595266831182e-05, 1.6461000484121368e-06, -1.6350312701054695e-07,
        1.4659775274047436e-08, -1.1372848856791674e-09, 5.957176147748911e-11,
    ),
    erfc=(
        1.0740069070883398, -0.8833944531698837, 0.5902283571041004, -0.3104672619005527,
        0.11952776128738794, -0.026827234624950198, -0.0012124166297047625, 0.003034062007973329,
        -0.000548309659577885, -0.0002767778983471239, 0.00010756124911146757,
        3.0398391001005668e-05, -1.7469493531903413e-05, -4.74978324582527e-06,
        2.76233565354979e-06, 9.995012088631186e-07, -4.0247942021736004e-07,
        -2.3318719338409497e-07, 4.009259410305053e-08, 4.8813017932609656e-08,
        2.4829562265305744e-09, -6.384304468234438e-09, -1.6131849000325598e-09,
    ),
)  # fmt: skip


def exp(x: Any) -> Any:
    """2^n e^r, for x = n ln 2 + r."""
    form = _format_of(x)
    whole, rest = _reduced(_within(x, form.exp_lowest, form.exp_highest))
    # Two factors: 2^whole alone would overflow, or be denormal, before the product does.
    half = T.bind(rounded(whole * like(x, 0.5, form.dtype)))
    return (rest + _one(x)) * _power_of_two(half) * _power_of_two(whole - half)


def tanh(x: Any) -> Any:
    """With e = exp(2 x) - 1 it is e / (e + 2), which keeps its digits where x is small."""
    doubled = _within(x, -TANH_END, TANH_END) * like(x, 2, _format_of(x).dtype)
    whole, rest = _reduced(doubled)
    scale = T.bind(_power_of_two(whole))
    e = T.bind(scale * rest + (scale - _one(x)))
    return e / (e + like(x, 2, _format_of(x).dtype))


def sigmoid(x: Any) -> Any:
    return _one(x) / (_one(x) + exp(-x))


def erf(x: Any) -> Any:
    form = _format_of(x)
    small = x * _polynomial(T.bind(x * x), form.erf)
    size = T.bind(T.abs(x))
    large = T.bind(_one(x) - _erfc_of_size(size))
    large = T.Select(x < like(x, 0, form.dtype), -large, large)
    return T.Select(size < like(x, LINEAR_END, form.dtype), small, large)


def erfc(x: Any) -> Any:
    """1 - erf(x), with all its digits where that is small."""
    form = _format_of(x)
    tail = T.bind(_erfc_of_size(T.abs(x)))
    return T.Select(x < like(x, 0, form.dtype), like(x, 2, form.dtype) - tail, tail)


def _erfc_of_size(size: Any) -> Any:
    form = _format_of(size)
    z = T.bind(T.min(like(size, form.erfc_end, form.dtype), size))
    pole = like(z, POLE, form.dtype)
    t = T.bind(_one(z) / (z + pole))
    s = T.bind((z - pole) * t)
    return _polynomial(s, form.erfc) * t * exp(T.bind(-(z * z)))


def _reduced(x: Any) -> tuple[Any, Any]:
    """(n, e^r - 1) with x = n ln 2 + r, n whole and |r| <= ln(2) / 2."""
    form = _format_of(x)
    x = T.bind(x)
    n = T.bind(rounded(x * like(x, LOG2_E, form.dtype)))
    r = x - n * like(x, form.ln2_high, form.dtype) - n * like(x, form.ln2_low, form.dtype)
    r = T.bind(r)
    return n, T.bind(r * r * _polynomial(r, form.exp) + r)


def _power_of_two(exponent: Any) -> Any:
    """2^exponent of whole numbers: the exponent, biased, moved to where a format keeps it."""
    form = _format_of(exponent)
    biased = exponent + like(exponent, form.to_biased, form.dtype)
    bits = T.reinterpret(vector_of(exponent, form.bits), biased)
    bits = T.shift_left(bits, like(exponent, form.fraction_bits, form.bits))
    return T.reinterpret(vector_of(exponent, form.dtype), bits)


def _polynomial(x: Any, coefficients: tuple[float, ...]) -> Any:
    """By Horner's scheme: one multiply-add per coefficient."""
    dtype = _format_of(x).dtype
    *lower, highest = coefficients
    value = like(x, highest, dtype)
    for coefficient in reversed(lower):
        value = value * x + like(x, coefficient, dtype)
    return value


def _within(x: Any, low: float, high: float) -> Any:
    """``x`` or the end of the interval; limits come first, for a NaN is not beyond them."""
    dtype = _format_of(x).dtype
    return T.max(like(x, low, dtype), T.min(like(x, high, dtype), x))


def _one(x: Any) -> Any:
    return like(x, 1, _format_of(x).dtype)


def _format_of(x: Any) -> _Format:
    return _FLOAT64 if x.ty.dtype.bits == 64 else _FLOAT32
