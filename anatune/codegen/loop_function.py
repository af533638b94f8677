"""Whole functions partitioned: blocks lowered first, and what is left reported last (rank 5)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import tvm
from tvm import s_tir, tirx

from anatune.codegen.loop_guards import Scope, open_tests, simplified
from anatune.codegen.loop_partition import NOT_AFFINE, Partitioner
from anatune.codegen.loop_terms import Terms, nodes
from anatune.plan.affine import Affine
from anatune.plan.loops import LeftGuard, LoopCut

NO_ROOM = "in an edge: no room for more copies of loops"

ENTRY = "main"

BLOCK_PASSES = (
    "LowerCrossThreadReduction", "LowerInitBlock", "PlanAndUpdateBufferAllocationLocation",
    "ConvertBlocksToOpaque", "UnifyThreadBinding", "CompactBufferAllocation", "LowerMatchBuffer",
    "LowerOpaqueBlock",
)  # fmt: skip
"""TVM's passes from schedulable blocks to plain loops, in the order of its own pipeline."""


def lowered(func: Any) -> Any:
    """``func`` as plain loops: its schedulable blocks, where it has any, are lowered first."""
    if not nodes(func.body, s_tir.SBlockRealize):
        return func
    module = tvm.IRModule({ENTRY: func})
    for each in BLOCK_PASSES:
        module = getattr(s_tir.transform, each)()(module)
    return module[ENTRY]


def partitioned(func: Any) -> tuple[Any, tuple[LoopCut, ...], tuple[LeftGuard, ...]]:
    """``func``, of plain loops, with its loops cut; the cuts; and the conditions that are left."""
    terms = Terms()
    work = Partitioner(terms)
    top = Scope(terms, facts=shape_facts(func, terms))
    body = simplified(func.body, top)
    body = None if body is None else work.visit(body, top)
    result = with_new_body(func, body)
    return result, tuple(work.cuts), tuple(
        each for each in left_guards(result, work.stuck) if each.condition not in work.made
    )


def shape_facts(func: Any, terms: Terms) -> tuple[Affine, ...]:
    """That no extent of a parameter is below 0."""
    shapes = [p.shape for p in func.params if tirx.is_buffer_var(p)]
    dims = [terms.affine(dim) for shape in shapes for dim in shape]
    return tuple(dim for dim in dims if dim is not None and dim.terms)


def left_guards(
    func: Any, stuck: Mapping[str, str] = MappingProxyType({})
) -> tuple[LeftGuard, ...]:
    """The conditions of ``func`` that no loop of it settles, each once, with the reason."""
    terms = Terms()
    left: dict[str, LeftGuard] = {}
    for found in open_tests(func.body, Scope(terms, facts=shape_facts(func, terms))):
        text = str(found.condition)
        why = stuck.get(text, NO_ROOM if found.test else NOT_AFFINE)
        left.setdefault(text, LeftGuard(condition=text, reason=why))
    return tuple(left.values())


def with_new_body(func: Any, body: Any | None) -> Any:
    """``func`` with ``body``, in which each copy of a loop has variables of its own."""
    body = tirx.Evaluate(tirx.IntImm("int32", 0)) if body is None else body
    module = tvm.IRModule({ENTRY: func.with_body(body)})
    return s_tir.transform.ConvertSSA()(module)[ENTRY]
