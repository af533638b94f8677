"""Independent workloads that are computed together (rank 2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from anatune.errors import WorkloadError, require
from anatune.workload.maps import Map
from anatune.workload.matmul import Matmul
from anatune.workload.tensor import Tensor

Workload = Matmul | Map
"""What kernels are generated for."""

MAX_MEMBERS = 64
"""Workloads that may be fused: each is code of its own."""


@dataclass(frozen=True)
class Fused:
    """Workloads without a dependence between them: one call computes all.

    ``same_a``: they are matrix products of one and the same A, which a call takes once.
    """

    members: tuple[Workload, ...]
    same_a: bool = False

    def __post_init__(self) -> None:
        count = len(self.members)
        why = f"fused: {count} workloads; from 1 to {MAX_MEMBERS} can be fused"
        require(1 <= count <= MAX_MEMBERS, why, WorkloadError)
        for member in self.members:
            require_fusable(member, "fused")
        if self.same_a:
            self._check_same_a()

    def _check_same_a(self) -> None:
        first, *others = (m.operands.get("a") for m in self.members)
        for member in self.members:
            why = f"same_a: {member}: only of matrix products"
            require(isinstance(member, Matmul), why, WorkloadError)
        for member, other in zip(self.members[1:], others):
            why = f"same_a: {member}: its A is {other}, that of the first is {first}"
            require(other == first, why, WorkloadError)

    def inputs(self) -> Iterator[tuple[int, str, Tensor]]:
        """(member, name, tensor) of what a call takes, in order."""
        for number, member in enumerate(self.members):
            for name, tensor in member.operands.items():
                if not (self.same_a and number and name == "a"):
                    yield number, name, tensor

    @property
    def flops(self) -> int:
        return sum(member.flops for member in self.members)

    @property
    def operand_bytes(self) -> int:
        """Bytes of all inputs and outputs together."""
        inputs = sum(tensor.size_bytes for _, _, tensor in self.inputs())
        return inputs + sum(member.output.size_bytes for member in self.members)

    def __str__(self) -> str:
        one = ", one A" if self.same_a else ""
        return f"fused({'; '.join(map(str, self.members))}{one})"


def require_fusable(member: Any, where: str) -> None:
    """Raises WorkloadError, that begins with ``where``, for what cannot be computed with others."""
    named = type(member).__name__
    why = f"{where}: {named}: use matmul, elementwise, stencil, reduce, scan or softmax"
    require(isinstance(member, (Matmul, Map)), why, WorkloadError)
    dims = member.dims if isinstance(member, Matmul) else ()
    why = f"{where}: {member}: numbers for extents are needed here; take workload.at(...)"
    require(not dims, why, WorkloadError)
    constant = isinstance(member, Matmul) and member.constant_b
    why = f"{where}: {member}: constant_b is not taken here; pass B with each call"
    require(not constant, why, WorkloadError)
    in_place = isinstance(member, Matmul) and member.beta
    why = f"{where}: {member}: beta is not 0; add in an epilogue, as 'c + before[m, n]'"
    require(not in_place, why, WorkloadError)


def fused(workloads: Sequence[Any], *, same_a: bool = False) -> Fused:
    """Independent workloads as one, computed by one call: ``c1, c2 = result(a1, b1, a2, b2)``.

    Args:
        workloads: what `matmul`, `elementwise`, `stencil`, `reduce`, `scan` and `softmax` return.
        same_a: they are matrix products of one A: query, key and value; reduce and downsample. A
            call then takes it once, first: ``q, k, v = result(x, wq, wk, wv)``.

    Raises:
        WorkloadError: an argument that cannot be computed, named.
    """
    return Fused(tuple(workloads), same_a)
