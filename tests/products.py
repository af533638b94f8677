"""Operands of any workload amid poison, and whether a kernel makes of them what it should."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm_ffi

from anatune.codegen.call import ENTRY, PACK_ENTRY
from anatune.codegen.operands import handed_dtype, packed_b
from anatune.plan import Plan
from anatune.workload import Matmul, Tensor
from anatune.workload.dtypes import INTEGER_RANGE, is_float, numpy_dtype
from anatune.workload.evaluate import EXACT
from anatune.workload.expression import Apply, Expression
from anatune.workload.reference import error_bound, reference, store

GUARD = 64
"""Elements of poison before and after each array: a cache line at least."""

SMALL = 4
"""Largest of the whole numbers whose sums of products are exact in every float."""

EIGHTHS = 16
"""Operands of epilogues are up to so many eighths: not whole, and exact in every float."""

EXACT_OF_SUCH = EXACT | {"add", "sub", "mul", "relu"}

Values = dict[str, np.ndarray]
Maker = Callable[[tuple[int, ...], dict[str, int]], np.ndarray]


AROUND_OUT = 77
"""Poison around ``out``: NaN there would not show where sums that are spoilt are written."""


def poison_of(dtype: str) -> Any:
    """What spoils every sum that it gets into, in floats."""
    return np.nan if is_float(dtype) else INTEGER_RANGE[dtype][1]


@dataclass(frozen=True)
class Field:
    """An array amid poison: before it, after it and between its rows."""

    inside: np.ndarray
    whole: np.ndarray  # all of the memory, in bytes

    @classmethod
    def of(cls, tensor: Tensor, values: np.ndarray, poison: Any = None) -> Field:
        """``values`` as ``tensor`` lays them out."""
        filler = poison_of(tensor.dtype) if poison is None else poison
        memory = np.full(tensor.span + 2 * GUARD, filler, numpy_dtype(tensor.dtype))
        inside = _laid(memory, tensor)
        inside[...] = np.reshape(values, inside.shape)
        return cls(inside, memory.view(np.uint8))

    def outside(self, tensor: Tensor) -> bytes:
        """All that is not the array's."""
        size = tensor.element_bytes
        around = np.ones(len(self.whole) // size, bool)
        _laid(around, tensor)[...] = False
        return self.whole.reshape(-1, size)[around].tobytes()


def _laid(memory: np.ndarray, tensor: Tensor) -> np.ndarray:
    shape = tensor.shape or (1,)
    strides = [step * memory.itemsize for step in tensor.strides or (1,)]
    return np.lib.stride_tricks.as_strided(memory[GUARD:], shape, strides)


def whole_numbers(w: Matmul, seed: int = 0) -> Values:
    """Operands, and ``out``, whose results are exact: integers of any size among integers."""
    generator = np.random.default_rng(seed + w.m + w.n + w.k)
    wide = w.out_dtype == "int32" and _whole(w.expression)

    def draw(name: str, tensor: Tensor) -> np.ndarray:
        low, high = -SMALL, SMALL
        if not is_float(tensor.dtype):
            least, most = INTEGER_RANGE[tensor.dtype]
            low, high = (least, most) if wide and name in "ab" else (max(low, least), high)
        numbers = generator.integers(low, high + 1, tensor.shape)
        if name not in ("a", "b", "out") and is_float(tensor.dtype):
            numbers = generator.integers(-EIGHTHS, EIGHTHS + 1, tensor.shape) / 8
        return np.asarray(numbers).astype(numpy_dtype(tensor.dtype))

    return {name: draw(name, tensor) for name, tensor in tensors(w).items()}


def normal(w: Matmul, seed: int = 0) -> Values:
    """Operands with every bit of their type in use."""
    generator = np.random.default_rng(seed + w.m + w.n + w.k)
    return {
        name: np.asarray(generator.standard_normal(t.shape)).astype(numpy_dtype(t.dtype))
        for name, t in tensors(w).items()
    }


def filled(w: Matmul, **values: Any) -> Values:
    """Whole numbers, but all elements of some operands alike."""
    return {name: np.full_like(x, values.get(name, x)) for name, x in whole_numbers(w).items()}


def tensors(w: Matmul) -> dict[str, Tensor]:
    return {**w.operands, "out": w.output}


def computed(
    p: Plan,
    function: Callable[[str], Any],
    values: Values,
    poison: Any = None,
    laid: dict[str, Tensor] | None = None,
) -> np.ndarray:
    """What the kernel makes of ``values``; nothing but C may have changed by then.

    ``laid``: how operands and ``out`` lie, where that is not as the plan's workload says.
    """
    w, laid = p.workload, laid or tensors(p.workload)
    fields = {x: Field.of(t, values[x], poison) for x, t in laid.items() if x != "out"}
    unwritten = np.full(w.output.shape, poison_of(w.output.dtype), values["out"].dtype)
    before_call = values["out"] if w.beta else unwritten
    fields["out"] = Field.of(laid["out"], before_call, AROUND_OUT)
    before = {name: f.outside(laid[name]) for name, f in fields.items()}
    run(p, function, {name: f.inside for name, f in fields.items()})
    for name, tensor in laid.items():
        assert fields[name].outside(tensor) == before[name], f"{name}: written around: {w}, {p}"
        if name != "out":
            given = np.reshape(values[name], fields[name].inside.shape)
            assert fields[name].inside.tobytes() == given.tobytes(), f"{name}: changed: {w}, {p}"
    return fields["out"].inside


def run(p: Plan, function: Callable[[str], Any], arrays: Values, packed: Any = None) -> None:
    """Call a kernel on arrays by name, ``out`` among them, B packed first where it wants it so."""
    handed = {name: _handed(x) for name, x in arrays.items()}
    tensor = packed_b(p)
    if tensor is not None:
        if packed is None:
            packed = Field.of(tensor, np.zeros(tensor.shape)).inside
        room = _handed(packed)
        function(PACK_ENTRY)(handed["b"], room)
        handed["b"] = room
    out = handed.pop("out")
    function(ENTRY)(*handed.values(), out)


def _handed(x: np.ndarray) -> Any:
    return tvm_ffi.from_dlpack(x.view(handed_dtype(x.dtype.name)))


def assert_right(
    p: Plan, values: Values | None = None, *, poison: Any = None, kernel: Any = None
) -> None:
    """Exact where the sums are, else right within rounding.

    Poison shows what is read outside, written outside, or not written at all.
    """
    from anatune.codegen.build import build

    exact = values is None and is_exact(p.workload)
    values = whole_numbers(p.workload) if values is None else values
    got = computed(p, (kernel or build(p)).function, values, poison)
    assert_close(p, values, got, exact)


def assert_close(p: Plan, values: Values, got: np.ndarray, exact: bool) -> None:
    w = p.workload
    wanted = reference(w, values, values["out"])
    if exact:
        np.testing.assert_array_equal(got, store(w, wanted), str((str(w), str(p))))
        return
    error = np.abs(got.astype(np.float64) - wanted)
    bound = error_bound(w, values, values["out"])
    assert (error <= bound).all(), f"{w}, {p}: off by {(error - bound).max()} more than rounding"


def is_exact(w: Matmul) -> bool:
    """Whether results of `whole_numbers` are exact until they are stored."""
    rounded = is_float(w.accumulator) and "int32" in (w.dtype, w.dtype_b)
    return not rounded and _exact(w.expression)


def _whole(expression: Expression) -> bool:
    """Whether all of it is computed in integers."""
    own = expression.dtype not in ("float32", "float64")
    return own and all(map(_whole, expression.parts))


def _exact(expression: Expression) -> bool:
    of_such = not isinstance(expression, Apply) or expression.function in EXACT_OF_SUCH
    return of_such and all(map(_exact, expression.parts))
