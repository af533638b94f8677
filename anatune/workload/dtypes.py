"""Data types of elements: their sizes, their kinds, what sums of their products are kept in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anatune.errors import WorkloadError, require

if TYPE_CHECKING:
    import numpy as np

ELEMENT_BYTES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2,
    "int32": 4, "int16": 2, "int8": 1, "uint8": 1,
}  # fmt: skip
"""Data types that kernels are generated for, with the size of an element in bytes."""

UNIT_ROUNDOFF = {
    "float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8,
}  # fmt: skip
"""u of binary formats, round to nearest (IEEE 754-2019, table 3.5; bfloat16: 8 bits)."""

SIGNIFICANT_BITS = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}
"""Bits of a significand, hidden bit included."""

INTEGER_RANGE = {
    "int32": (-(2**31), 2**31 - 1), "int16": (-(2**15), 2**15 - 1),
    "int8": (-128, 127), "uint8": (0, 255),
}  # fmt: skip


def is_float(dtype: str) -> bool:
    return dtype in UNIT_ROUNDOFF


def accumulator_of(a: str, b: str) -> str:
    """Type that products of ``a`` and ``b`` are summed in: float64, float32 or int32."""
    if "float64" in (a, b):
        return "float64"
    return "float32" if is_float(a) or is_float(b) else "int32"


def default_output(a: str, b: str) -> str:
    """Type of C unless another is asked for: that of A and B where both are the same kind of float,
    else the accumulator's."""
    return a if a == b and is_float(a) else accumulator_of(a, b)


def numpy_dtype(dtype: str) -> np.dtype:
    """numpy's data type of that name; bfloat16 is ml_dtypes'."""
    import numpy as np

    if dtype != "bfloat16":
        return np.dtype(dtype)
    import ml_dtypes

    found: np.dtype = np.dtype(ml_dtypes.bfloat16)
    return found


def dtype_name(field: str, value: Any) -> str:
    """The name of a data type; numpy is asked only for what is not such a name already.

    Raises:
        WorkloadError: not a data type that kernels are generated for.
    """
    name = value if isinstance(value, str) else str(getattr(value, "__name__", value))
    if name not in ELEMENT_BYTES and value is not None:
        name = _numpy_name(value) or name
    known = ", ".join(ELEMENT_BYTES)
    why = f"{field} = {name!r}: kernels are generated for {known}"
    require(name in ELEMENT_BYTES, why, WorkloadError)
    return name


def _numpy_name(value: Any) -> str | None:
    """The name of what numpy takes for a data type of this machine's byte order, else None."""
    import numpy as np

    try:
        dtype = np.dtype(value)
    except TypeError:
        return None
    return dtype.name if dtype.isnative and dtype.name in ELEMENT_BYTES else None
