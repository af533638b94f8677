"""A function of arrays as a workload, and which part of which array each operand is (rank 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from anatune.workload.tensor import Tensor


@dataclass(frozen=True)
class View:
    """What an operand sees of an array: ``tensor`` from its element ``offset`` on."""

    array: str
    offset: int
    tensor: Tensor

    def __str__(self) -> str:
        return f"{self.array}+{self.offset}" if self.offset else self.array


@dataclass(frozen=True)
class Recognised:
    """What a function computes.

    ``workload`` is a `Matmul`, a `Map`, a `Fused` or a `Group`. A call of it takes ``operands`` and
    gives ``results``.
    """

    name: str
    inputs: tuple[tuple[str, Tensor], ...]  # in the order of the function's parameters
    outputs: tuple[tuple[str, Tensor], ...]
    workload: Any
    operands: tuple[View, ...]
    results: tuple[View, ...]

    def __str__(self) -> str:
        taken = ", ".join(map(str, self.operands))
        return f"{self.name}: {self.workload} of {taken} gives {', '.join(map(str, self.results))}"
