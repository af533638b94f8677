"""The arrays of a TVM function by names that expressions can have (rank 5)."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from keyword import iskeyword
from math import prod
from typing import Any

from tvm import tirx

from anatune.codegen.places import row_major, shape_of, shown
from anatune.codegen.stages import Stage
from anatune.errors import WorkloadError, require
from anatune.workload.dtypes import ELEMENT_BYTES
from anatune.workload.expression import MAX_NAME, RESERVED
from anatune.workload.nodes import Operand
from anatune.workload.tensor import Tensor


@dataclass(frozen=True)
class Source:
    """An array, and the first of its elements that an operand sees."""

    array: str
    offset: int


@dataclass
class Arrays:
    """Names of a function's arrays and of what is seen of them, each its own.

    One name for one array seen from one place along the same axes, in all of the function: so
    expressions of different blocks can be compared.
    """

    func: Any
    _arrays: dict[int, str] = field(default_factory=dict)
    _operands: dict[tuple[str, int, tuple[str, ...]], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for param in self.func.params:
            self._arrays[hash(param)] = _free(str(param.name), self._arrays.values())
            if tirx.is_buffer_var(param):
                _check_compact(param)

    def name_of(self, buffer: Any) -> str:
        """The name of an array, or of a parameter that is one number."""
        if hash(buffer) not in self._arrays:
            self._arrays[hash(buffer)] = _free(str(buffer.name), self._arrays.values())
        return self._arrays[hash(buffer)]

    def tensor(self, param: Any) -> Tensor:
        """The array of a parameter, () for a number."""
        known = str(param.dtype) if tirx.is_buffer_var(param) else _scalar_dtype(param)
        why = f"{param.name}: data type {known}; kernels are generated for " \
            f"{', '.join(ELEMENT_BYTES)}"
        require(known in ELEMENT_BYTES, why, WorkloadError)
        return Tensor.rows(shape_of(param) if tirx.is_buffer_var(param) else (), known)

    def operand(
        self, stage: Stage, buffer: Any, first: int, axes: tuple[str, ...], elements: int
    ) -> Operand:
        """What ``stage`` sees of ``buffer`` along ``axes``, from its element ``first`` on."""
        source = self.seen(stage, buffer, first, elements)
        return self._operand(source, axes, str(buffer.dtype))

    def scalar(self, stage: Stage, var: Any) -> Operand:
        """A parameter of the function that is a number."""
        if hash(var) not in self._arrays or tirx.is_buffer_var(var):
            stage.refuse(f"{shown(var)}: an index as a value")
        dtype = _scalar_dtype(var)
        if dtype not in ELEMENT_BYTES:
            stage.refuse(f"{shown(var)}: data type {dtype}")
        return self._operand(Source(self.name_of(var), 0), (), dtype)

    def seen(self, stage: Stage, buffer: Any, first: int, elements: int) -> Source:
        """``elements`` of ``buffer`` from ``first`` on."""
        if str(buffer.dtype) not in ELEMENT_BYTES:
            stage.refuse(f"{buffer.name}: data type {buffer.dtype}; kernels are generated for "
                         f"{', '.join(ELEMENT_BYTES)}")
        whole = prod(shape_of(buffer))
        part = first or elements != whole
        if part and not any(buffer.same_as(param) for param in self.func.params):
            stage.refuse(f"{buffer.name}: {elements} of {whole} elements of what another block "
                         "writes; whole results are read")
        return Source(self.name_of(buffer), first)

    def source(self, operand: str) -> Source:
        """What a name that `operand` or `scalar` gave stands for."""
        array, first, _ = next(key for key, name in self._operands.items() if name == operand)
        return Source(array, first)

    def _operand(self, source: Source, axes: tuple[str, ...], dtype: str) -> Operand:
        key = (source.array, source.offset, axes)
        if key not in self._operands:
            taken = {*RESERVED, *self._operands.values()}
            self._operands[key] = _free(source.array, taken)
        return Operand(name=self._operands[key], axes=axes, dtype=dtype)


def _free(wanted: str, taken: Collection[str]) -> str:
    """An identifier like ``wanted`` that is not ``taken``."""
    stem = re.sub(r"[^0-9A-Za-z_]", "_", wanted)[: MAX_NAME - len("_9999")]
    stem = stem if stem.isidentifier() and not iskeyword(stem) else f"_{stem}"
    name, number = stem, 0
    while name in taken:
        number += 1
        name = f"{stem}_{number}"
    return name


def _scalar_dtype(var: Any) -> str:
    return str(getattr(var.ty, "dtype", var.ty))


def _check_compact(param: Any) -> None:
    strides = [int(step) for step in param.strides if isinstance(step, tirx.IntImm)]
    first = param.elem_offset
    plain = len(strides) == len(param.strides) and (
        not strides or tuple(strides) == row_major(shape_of(param))
    )
    at_start = isinstance(first, tirx.IntImm) and int(first) == 0
    why = f"{param.name}: strides or an offset of its own; compact arrays are taken"
    require(plain and at_start, why, WorkloadError)
