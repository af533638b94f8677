"""Loops as data: what partitions are described by, and what is predicted of them (rank 3)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LoopCut:
    """A loop that was cut: the condition that holds, and where; texts of the loop's own names."""

    loop: str
    condition: str
    at: str

    def __str__(self) -> str:
        return f"{self.loop}: {self.condition} {self.at}"


@dataclass(frozen=True, kw_only=True)
class LeftGuard:
    """A condition that stays in the code, and why."""

    condition: str
    reason: str

    def __str__(self) -> str:
        return f"{self.condition}: {self.reason}"
