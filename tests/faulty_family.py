"""What stands in for the process that checks members of a family, and finds something wrong."""

from __future__ import annotations

from collections.abc import Mapping


class Doubtful:
    def __init__(self, plan: str) -> None:
        pass

    def check(self, path: str, values: Mapping[str, int]) -> str:
        told = ", ".join(f"{dim} = {value}" for dim, value in values.items())
        return f"{told}: wrong by design"
