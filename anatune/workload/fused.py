"""Independent workloads that are computed together (rank 2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

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
    """Workloads without a dependence between them, or an operand in common."""

    members: tuple[Workload, ...]

    one_result: ClassVar[bool] = False
    """A call gives back a tuple, also of one."""

    def __post_init__(self) -> None:
        count = len(self.members)
        why = f"fused: {count} workloads; from 1 to {MAX_MEMBERS} can be fused"
        require(1 <= count <= MAX_MEMBERS, why, WorkloadError)
        for member in self.members:
            require_fusable(member, "fused")

    def inputs(self) -> Iterator[tuple[int, str, Tensor]]:
        """(member, name, tensor) of what a call takes, in order."""
        for number, member in enumerate(self.members):
            for name, tensor in member.operands.items():
                yield number, name, tensor

    @property
    def arguments(self) -> dict[str, Tensor]:
        """What a call takes, in order, by the names that errors say."""
        return {f"{name} of workload {number}": t for number, name, t in self.inputs()}

    @property
    def results(self) -> dict[str, Tensor]:
        """What a call gives back, likewise."""
        return {f"out[{k}]": member.output for k, member in enumerate(self.members)}

    @property
    def flops(self) -> int:
        return sum(member.flops for member in self.members)

    @property
    def operand_bytes(self) -> int:
        """Bytes of all inputs and outputs together."""
        inputs = sum(tensor.size_bytes for _, _, tensor in self.inputs())
        return inputs + sum(member.output.size_bytes for member in self.members)

    def __str__(self) -> str:
        return f"fused({'; '.join(map(str, self.members))})"


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
