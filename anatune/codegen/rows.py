"""Steps block of rows by block of rows, what lies between them in the thread's memory (rank 5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from anatune.codegen import gemm
from anatune.codegen.convert import stored
from anatune.codegen.fusion import emit_alone
from anatune.codegen.maps import OUT
from anatune.codegen.sizes import Sizes
from anatune.codegen.vectors import index
from anatune.codegen.views import as_planned, view
from anatune.plan.fusion import MemberPlan
from anatune.plan.gemm import GemmPlan
from anatune.plan.group import Blocks, RowsStage
from anatune.plan.nouns import Storage
from anatune.workload.blocks import RESULT, has_own_b, place_of
from anatune.workload.group import Step
from anatune.workload.tensor import Tensor


def emit_rows(stage: RowsStage, blocks: Blocks, memory: Mapping[str, Any]) -> None:
    """All blocks of ``stage``, shared out to its threads; ``memory`` by the name of the array."""
    units = blocks.items * blocks.count(stage.rows)
    if stage.threads == 1:
        _Worker(stage, blocks, memory).run(index(0), index(units))
        return
    with T.parallel(0, index(stage.threads)) as thread:
        start = T.bind(tirx.floordiv(thread * units, stage.threads))
        stop = T.bind(tirx.floordiv((thread + 1) * units, stage.threads))
        _Worker(stage, blocks, memory).run(start, stop)


@dataclass
class _Worker:
    """One thread: its memory, what it packs, its blocks."""

    stage: RowsStage
    blocks: Blocks
    memory: Mapping[str, Any]
    own: dict[str, Any] = field(default_factory=dict)  # memory of results that lie near
    packed: dict[str, Any] = field(default_factory=dict)  # B by step, for all blocks of an item

    def run(self, start: Any, stop: Any) -> None:
        """Blocks ``start`` to ``stop``, counted through all items."""
        self._allocate()
        blocks, rows = self.blocks, self.stage.rows
        count, edge = blocks.count(rows), blocks.edge(rows)
        self._pack(index(0), lambda workload: not has_own_b(workload))
        first = tirx.floordiv(start, count)
        with T.serial(0, tirx.floordiv(stop - 1, count) + 1 - first) as number:
            item = T.bind(first + number)
            begin = T.bind(T.max(start - item * count, index(0)))
            end = T.bind(T.min(stop - item * count, index(count)))
            self._pack(item, has_own_b)
            whole = count - (1 if edge else 0)
            with T.serial(0, T.max(T.min(end, index(whole)) - begin, index(0))) as place:
                self._block(item, T.bind((begin + place) * rows), rows)
            if edge:
                with T.If(end == count), T.Then():
                    self._block(item, index(whole * rows), edge)

    def _steps(self) -> list[tuple[Step, MemberPlan]]:
        return list(zip(self.blocks.steps, self.stage.plans))

    def _allocate(self) -> None:
        for step, plan in self._steps():
            owner = self.blocks.owner.get(step.name)
            if owner == step.name:
                result = plan.workload.output
                self.own[owner] = T.alloc_buffer((result.elements,), stored(result.dtype))
            elif owner is not None:
                self.own[step.name] = self.own[owner]
            if _packs_once(plan):
                assert isinstance(plan, GemmPlan)
                shape = plan.packed_ahead_shape
                self.packed[step.name] = T.alloc_buffer(shape, stored(plan.multiply.b))

    def _pack(self, item: Any, these: Callable[[Any], bool]) -> None:
        """B of one item, of the steps whose workloads are among ``these``."""
        for step, plan in self._steps():
            if _packs_once(plan) and these(step.workload):
                b = self._operand(step, plan.workload.operands["b"], "b", item, index(0))
                buffers = {"b": b, "packed_b": self.packed[step.name]}
                gemm.emit_pack_ahead(Sizes(plan), buffers)  # type: ignore[arg-type]

    def _block(self, item: Any, row: Any, rows: int) -> None:
        """``rows`` rows from ``row`` on, by all steps in turn."""
        for step, whole in self._steps():
            plan = whole
            if rows != self.stage.rows:
                plan = shorter(whole, self.blocks.workload(step, rows))
            tensors = plan.workload.operands
            buffers = {
                name: self._operand(step, tensors[name], name, item, row) for name in tensors
                if not (name == "b" and _packs_once(plan))
            }
            if _packs_once(plan):
                buffers["packed_b"] = self.packed[step.name]
            key = "c" if isinstance(plan, GemmPlan) else OUT
            buffers[key] = self._operand(step, plan.workload.output, RESULT, item, row)
            emit_alone(plan, as_planned(plan, buffers))

    def _operand(self, step: Step, tensor: Tensor, operand: str, item: Any, row: Any) -> Any:
        """A block's operand, or its result, where it lies."""
        name = step.source(operand) if operand else step.name
        if name in self.own:
            return view(self.own[name], tensor)
        place = place_of(step.workload, operand, self.blocks.rows_of_item)
        return view(self.memory[name], tensor, item * place.item + row * place.row)


def shorter(plan: MemberPlan, workload: Any) -> MemberPlan:
    """``plan`` for a block of fewer rows."""
    if _packs_once(plan):
        workload = replace(workload, constant_b=True)
    return replace(plan, workload=workload)


def _packs_once(plan: MemberPlan) -> bool:
    """Whether B is packed for all blocks of an item at once."""
    return isinstance(plan, GemmPlan) and plan.b is Storage.PACKED_AHEAD
