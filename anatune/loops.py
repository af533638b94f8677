"""`fuse_loops`: independent loops of a PrimFunc made one, divided by predicted cost (rank 8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anatune.errors import OptionError, require
from anatune.machine import HOST, cpu_only
from anatune.model.division import Cost, divide
from anatune.workload.nodes import OPERATIONS

KINDS = ("parallel", "serial")

UNKNOWN_TURNS = 16
"""Turns that a loop of unknown extent is costed with."""


def fuse_loops(
    func: Any, loops: Sequence[str], *, kind: str = "parallel", parts: int | None = None,
    costs: Sequence[float] | None = None,
) -> Any:  # fmt: skip
    """``func`` with sibling loops fused into one, outer or inner ones, any number of them.

    "parallel" divides the turns of all loops over ``parts`` by what they are predicted to cost, so
    that all parts end together; each part runs its turns of one loop, then those of the next, and
    no turn asks which loop it belongs to. "serial" runs a turn of each loop in turn, as long as
    each has turns: what one waits for the other computes meanwhile.

    Args:
        func: a `tvm.tirx.PrimFunc`, of plain loops or of blocks.
        loops: names of loop variables, in order; a name given twice means two loops of that name.
        kind: "parallel" or "serial".
        parts: threads that share the parallel loop; this machine's by default.
        costs: what a turn of each loop costs, in any unit; counted in its body unless given.

    Raises:
        OptionError: loops that do not exist or do not stand beside each other.
        WorkloadError: a dependence, with the buffer and the loops that it is between.
    """
    from tvm import tirx

    from anatune.codegen.loops import (
        check_independent,
        find_siblings,
        fuse_parallel,
        fuse_serial,
        replaced,
    )

    require(isinstance(func, tirx.PrimFunc), f"func = {type(func).__name__}: a PrimFunc is needed",
            OptionError)
    require(kind in KINDS, f"kind = {kind!r}: 'parallel' or 'serial'", OptionError)
    siblings = find_siblings(func, loops)
    check_independent(siblings, kind)
    extents = siblings.extents()
    if kind == "serial":
        why = f"loops: {siblings.names}: extents must be known to run turn by turn"
        require(extents is not None, why, OptionError)
        assert extents is not None
        return replaced(func, siblings, fuse_serial(siblings, extents))
    count = parts if parts is not None else cpu_only(HOST).usable_threads
    require(isinstance(count, int) and count >= 1, f"parts = {parts!r}: 1 or more", OptionError)
    why = f"costs: {len(costs or ())}, one for each of {len(siblings.loops)} loops is needed"
    require(costs is None or len(costs) == len(siblings.loops), why, OptionError)
    bounds = None
    if extents is not None:
        each = costs if costs is not None else [cost_of(loop.body) for loop in siblings.loops]
        bounds = _bounds(each, extents, count)
    return replaced(func, siblings, fuse_parallel(siblings, bounds, count))


def _bounds(
    costs: Sequence[float], extents: Sequence[int], parts: int
) -> list[list[tuple[int, int]]]:
    """Of each loop, the turns of each part."""
    shares = divide([Cost(0.0, float(cost)) for cost in costs], extents, parts)
    bounds = [[(0, 0)] * parts for _ in extents]
    for part, share in enumerate(shares):
        for piece in share:
            bounds[piece.member][part] = piece.start, piece.stop
    return bounds


def cost_of(statement: Any) -> float:
    """Operations of a statement: loads, stores and functions, times the turns of loops around."""
    from tvm import tirx
    from tvm.s_tir import SBlockRealize

    if isinstance(statement, tirx.For):
        extent = statement.extent
        turns = int(extent) if isinstance(extent, tirx.IntImm) else UNKNOWN_TURNS
        return turns * cost_of(statement.body)
    if isinstance(statement, tirx.SeqStmt):
        return sum(cost_of(part) for part in statement.seq)
    if isinstance(statement, SBlockRealize):
        return cost_of(statement.block.body)
    parts = [getattr(statement, name, None) for name in ("body", "then_case", "else_case")]
    inner = [cost_of(part) for part in parts if isinstance(part, tirx.Stmt)]
    return max(inner) if inner else _operations(statement)


def _operations(statement: Any) -> float:
    """One for the statement and for each operation in it; more for functions such as exp."""
    import tvm_ffi
    from tvm import tirx
    from tvm.ir import Call, Op
    from tvm.ir.expr import TensorLoad

    weights = [1.0]

    def call(node: Any) -> None:
        name = node.op.name.rpartition(".")[2] if isinstance(node.op, Op) else ""
        weights.append(float(OPERATIONS.get(name, 1)))

    def one(_: Any) -> None:
        weights.append(1.0)

    value = getattr(statement, "value", None)
    if value is not None:
        counted = (TensorLoad, tirx.Add, tirx.Sub, tirx.Mul, tirx.Div, tirx.Max, tirx.Min)
        tvm_ffi.structural_walk(value, [(Call, call), (counted, one)])
    return sum(weights)
