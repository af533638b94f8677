"""The tile engine of the simulation: operations one after another, added to sums (rank 4)."""

from __future__ import annotations

from dataclasses import dataclass, field

from anatune.model.accelerator.machine import Machine


@dataclass(frozen=True)
class Pass:
    """A block of operations, cycles from its first operation on."""

    issued: float  # the last operation has read its operands
    done: float  # all sums are in the scratchpad
    ready: tuple[float, ...]  # when each tile of sums may be added to again


@dataclass
class Operator:
    """Issues operations in order: slice by slice along k, and in a slice tile by tile.

    An operation waits for the one before it and for the sums that it adds to.
    """

    here: Machine
    known: dict[object, Pass] = field(default_factory=dict)

    def run(
        self, sizes: tuple[int, int, int], interval: float, ready: tuple[float, ...] = ()
    ) -> Pass:
        """A block of ``sizes``; ``ready``: when each tile's sums are, if they are continued."""
        key = sizes, interval, ready
        if key not in self.known:
            self.known[key] = self._run(sizes, interval, list(ready))
        return self.known[key]

    def _run(self, sizes: tuple[int, int, int], interval: float, ready: list[float]) -> Pass:
        m, n, k = (self.here.units(dim, size) for dim, size in zip("mnk", sizes))
        ready = ready or [0.0] * (m * n)
        issue = -interval
        for _ in range(k):
            for tile in range(m * n):
                issue = max(issue + interval, ready[tile])
                ready[tile] = issue + self.here.found.accumulate_cycles
        done = issue + max(interval, self.here.pipeline)
        return Pass(issue + interval, done, tuple(ready))
