"""Checks of a simulated schedule: no buffer is read unfilled, or overwritten in use (rank 4)."""

from __future__ import annotations

from dataclasses import dataclass, field

from anatune.errors import require
from anatune.model.accelerator.layout import Buffer
from anatune.model.accelerator.machine import Machine
from anatune.model.accelerator.stream import Compute, Move, Region


@dataclass
class _State:
    """What is in a buffer."""

    region: Region | None = None  # whole, and of this block
    moving: bool = False
    held: Region | None = None  # the same, or on its way
    in_use: bool = False  # by the engine
    unsaved: bool = False  # sums that no store has taken


@dataclass
class Checks:
    """Watches all buffers. Knows nothing of what commands wait for: it sees only what they do."""

    here: Machine
    states: dict[Buffer, _State] = field(default_factory=dict)

    def move_begins(self, move: Move) -> None:
        state, name = self._state(move.buffer), _name(move.buffer)
        require(not state.in_use, f"{name}: a transfer while the engine works on it")
        require(not state.moving, f"{name}: two transfers at once")
        if move.out:
            require(state.region == move.region, f"{name}: stored, but holds another block")
        else:
            require(not state.unsaved, f"{name}: overwritten before its sums were stored")
            state.region, state.held = None, move.region
        state.moving = True

    def move_ends(self, move: Move) -> None:
        state = self._state(move.buffer)
        state.moving = False
        state.region = state.held = None if move.out else move.region
        state.unsaved = False if move.out else state.unsaved

    def compute_begins(self, command: Compute) -> None:
        for buffer, region in zip(command.used, command.regions):
            state, name = self._state(buffer), _name(buffer)
            require(not state.moving, f"{name}: used while a transfer is under way")
            if buffer[0] == "c" and command.first:
                require(not state.unsaved, f"{name}: begun anew before its sums were stored")
                state.region = state.held = region
            require(state.region == region, f"{name}: read before its block was filled")
            state.in_use = True

    def compute_issued(self, command: Compute) -> None:
        for buffer in command.used[:2]:
            self._state(buffer).in_use = False

    def compute_ends(self, command: Compute, next_uses: bool) -> None:
        """``next_uses``: the engine works on the same sums already."""
        state = self._state(command.used[2])
        state.in_use, state.unsaved = next_uses, True

    def finish(self) -> None:
        left = [_name(buffer) for buffer, state in self.states.items() if state.unsaved]
        require(not left, f"{', '.join(left)}: sums that were never stored")

    def occupied_bytes(self) -> dict[str, int]:
        """Of each scratchpad: blocks that lie in it or are on their way, as whole operations."""
        taken = {pad.name: 0 for pad in self.here.found.scratchpads}
        for (operand, _), state in self.states.items():
            if state.held is not None:
                sizes = state.held[0][1], state.held[1][1]
                taken[self.here.pads[operand].name] += self.here.buffer_bytes(operand, sizes)
        return taken

    def _state(self, buffer: Buffer) -> _State:
        return self.states.setdefault(buffer, _State())


def _name(buffer: Buffer) -> str:
    return f"stream: buffer {buffer[1]} of {buffer[0]}"
