"""Matrix products: what is to be computed, its reference and its tolerance (rank 2)."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

from anatune.errors import WorkloadError, require

if TYPE_CHECKING:
    import numpy as np

ELEMENT_BYTES = {"float32": 4, "float64": 8}
"""Data types that kernels are generated for, with the size of an element in bytes."""

UNIT_ROUNDOFF = {"float32": 2.0**-24, "float64": 2.0**-53}
"""u of IEEE 754 binary formats, round to nearest (IEEE 754-2019, table 3.5)."""

WIDENED_ELEMENTS = 1 << 20
"""Elements of B that a reference widens at once: 8 MiB of float64, whatever the size of B."""

MAX_EXTENT = 2**31 - 1
"""Largest extent: BLAS and numpy's BLAS calls take 32-bit extents as well."""


@dataclass(frozen=True, kw_only=True)
class Matmul:
    """C[m, n] = A[m, k] B[k, n], all row-major and compact, of one data type."""

    m: int
    n: int
    k: int
    dtype: str = "float32"
    constant_b: bool = False  # B stays the same from call to call: it may be packed ahead of time

    def __post_init__(self) -> None:
        for name in ("m", "n", "k"):
            object.__setattr__(self, name, _extent(name, getattr(self, name)))
        object.__setattr__(self, "dtype", _dtype(self.dtype))
        require(
            isinstance(self.constant_b, bool),
            f"constant_b = {self.constant_b!r}: True or False",
            WorkloadError,
        )

    @property
    def element_bytes(self) -> int:
        return ELEMENT_BYTES[self.dtype]

    @property
    def flops(self) -> int:
        """Floating-point operations: one multiply and one add per (i, j, p)."""
        return 2 * self.m * self.n * self.k

    @property
    def operands(self) -> dict[str, tuple[int, int]]:
        """Shapes of the inputs by name, in the order of a call."""
        return {"a": (self.m, self.k), "b": (self.k, self.n)}

    @property
    def output(self) -> tuple[int, int]:
        """Shape of C."""
        return (self.m, self.n)

    @property
    def operand_bytes(self) -> int:
        """Bytes of A, B and C together."""
        return self.element_bytes * (self.m * self.k + self.k * self.n + self.m * self.n)

    def reference(self, a: np.ndarray, b: np.ndarray, rows: Any = slice(None)) -> np.ndarray:
        """The chosen ``rows`` of C in float64; B is widened a few columns at a time."""
        import numpy as np

        left = a[rows].astype(np.float64)
        step = max(1, WIDENED_ELEMENTS // self.k)
        parts = [left @ b[:, j : j + step].astype(np.float64) for j in range(0, self.n, step)]
        return np.concatenate(parts, axis=1)

    def error_bound(self, a: np.ndarray, b: np.ndarray, rows: Any = slice(None)) -> np.ndarray:
        """Largest rounding error per element of those rows, whatever the order of the sum.

        |C - fl(C)| <= gamma_k |A||B|, gamma_k = k u / (1 - k u) (Higham, Accuracy and Stability of
        Numerical Algorithms, 2nd ed., eq. 3.13), with k + 1 for the rounding of the stored result.
        """
        u = UNIT_ROUNDOFF[self.dtype]
        gamma = (self.k + 1) * u / (1 - (self.k + 1) * u)
        bound: np.ndarray = abs(a[rows]).astype("float64") @ abs(b).astype("float64")
        return gamma * bound

    def __str__(self) -> str:
        constant = ", constant B" if self.constant_b else ""
        return f"matmul {self.m}x{self.n}x{self.k} {self.dtype}{constant}"


def matmul(
    m: int, n: int, k: int, *, dtype: Any = "float32", constant_b: bool = False
) -> Matmul:
    """The workload C[m, n] = A[m, k] B[k, n].

    Args:
        m, n, k: extents, whole numbers from 1 to 2**31 - 1.
        dtype: data type of A, B and C, by name or as anything that ``numpy.dtype`` takes.
        constant_b: B is a weight; the result's ``bind(b=...)`` packs it once, ahead of time.

    Raises:
        WorkloadError: an extent or a data type that cannot be computed, named.
    """
    return Matmul(m=m, n=n, k=k, dtype=dtype, constant_b=constant_b)


def _extent(name: str, value: Any) -> int:
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    require(
        whole and 1 <= value <= MAX_EXTENT,
        f"{name} = {value!r}: an extent is a whole number from 1 to {MAX_EXTENT}",
        WorkloadError,
    )
    return int(value)


def _dtype(value: Any) -> str:
    """The name of a data type; numpy is asked only for what is not such a name already."""
    name = value if isinstance(value, str) else str(getattr(value, "__name__", value))
    if name not in ELEMENT_BYTES and value is not None:
        name = _numpy_name(value) or name
    known = ", ".join(ELEMENT_BYTES)
    why = f"dtype = {name!r}: kernels are generated for {known}"
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
