"""Reads what LLVM writes: loops that jump to their own head, multiply-adds, vectors, the stack."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

LABEL = re.compile(r"^(\.LBB[\w.]+):")  # others mark lines for the debugger
BRANCH = re.compile(r"^\s+(?:j\w+|b(?:\.\w+)?|cbn?z|tbn?z)\s.*?(\.?L[\w.$]+)\s*(?:[#/@;].*)?$")
MULTIPLY = re.compile(
    r"^\s+(?:\{vex\}\s+)?(vfn?m(?:add|sub)\d+p[sd]|f(?:ml[as]|n?m(?:add|sub))|v?mulp[sd]"
    r"|vdpbf16ps|vpdpbusd|vpdpwssd|v?pmaddwd|v?pmulld)\s"
)
"""Instructions that multiply, with the addition inside them or another one behind them."""

CALL = re.compile(r"^\s+(?:callq?|blr?)\s")
INSTRUCTION = re.compile(r"^\s+(?:\{\w+\}\s+)?([a-z][\w.]*)")
FUNCTION = re.compile(r"^[A-Za-z_][\w.$]*:")
FRAME = re.compile(r"^\s+(?:movq\s+%rsp, %rbp|mov\s+x29, sp|add\s+x29, sp)")
STACK = re.compile(r"\(%rsp[,)]|\[sp[],]")
FRAME_OR_STACK = re.compile(r"\(%r[sb]p[,)]|\[(?:sp|x29)[],]")
VECTOR = re.compile(r"%[xyz]mm(\d+)|\b[vqz](\d+)\b")


@dataclass(frozen=True)
class Loop:
    """A basic block that branches back to its own label."""

    lines: tuple[str, ...]
    framed: bool = False  # the function keeps a frame pointer: otherwise it is a register as any

    @property
    def multiply_adds(self) -> int:
        return sum(self.multiplies.values())

    @property
    def multiplies(self) -> Counter[str]:
        """How many of which instruction that multiplies."""
        found = map(MULTIPLY.match, self.lines)
        return Counter(match[1] for match in found if match)

    @property
    def calls(self) -> list[str]:
        return [line for line in self.lines if CALL.match(line)]

    @property
    def stack_lines(self) -> list[str]:
        """Lines that name the stack: spilled vectors, or an address that is kept there."""
        stack = FRAME_OR_STACK if self.framed else STACK
        return [line for line in self.lines if stack.search(line)]

    @property
    def spilled_vectors(self) -> list[str]:
        return [line for line in self.stack_lines if VECTOR.search(line)]

    @property
    def vector_registers(self) -> set[int]:
        found = VECTOR.findall("\n".join(self.lines))
        return {int(x86 or arm) for x86, arm in found}


def loops(text: str) -> list[Loop]:
    """All blocks that jump to their own head."""
    found: list[Loop] = []
    head, block, framed = "", [], False
    for line in text.splitlines():
        if FUNCTION.match(line):
            framed = False
        framed = framed or bool(FRAME.match(line))
        label = LABEL.match(line)
        if label:
            head, block = label[1], []
            continue
        block.append(line)
        jump = BRANCH.match(line)
        if jump and head and jump[1] == head:
            found.append(Loop(tuple(block), framed))
    return found


def hot_loops(text: str) -> list[Loop]:
    """The loops that multiply and add."""
    return [loop for loop in loops(text) if loop.multiply_adds]


def mnemonics(text: str) -> set[str]:
    """Names of all instructions of a listing."""
    return {match[1] for match in map(INSTRUCTION.match, text.splitlines()) if match}
