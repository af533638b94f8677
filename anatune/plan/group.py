"""The plan of workloads that read each other's results: which regions, what each holds (rank 3)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import nan
from typing import Any

from anatune.errors import AnatuneError, IllegalPlan, require
from anatune.plan.fusion import Decision, FusionPlan, MemberPlan, member_plan
from anatune.plan.gemm import Estimate, GemmPlan
from anatune.plan.nouns import CodeTarget, Storage
from anatune.plan.plain import build, json_fields, plain
from anatune.units import TIME
from anatune.workload.absorb import absorbed
from anatune.workload.blocks import (
    RESULT,
    block_of,
    goes_in_place,
    halos,
    has_blocks,
    items_of,
    passes_rows,
    rows_of,
)
from anatune.workload.fused import Workload
from anatune.workload.group import Group, Step
from anatune.workload.maps import Map
from anatune.workload.matmul import Matmul


@dataclass(frozen=True, kw_only=True)
class AloneStage:
    """One step, as its own plan says."""

    step: str
    plan: MemberPlan

    @property
    def names(self) -> tuple[str, ...]:
        return (self.step,)

    @property
    def plans(self) -> tuple[MemberPlan, ...]:
        return (self.plan,)

    @property
    def threads(self) -> int:
        return self.plan.threads


@dataclass(frozen=True, kw_only=True)
class TogetherStage:
    """Steps that do not read each other, in one region divided by predicted cost."""

    names: tuple[str, ...]
    plan: FusionPlan

    def __post_init__(self) -> None:
        count, plans = len(self.names), len(self.plan.members)
        require(plans == count, f"plan: of {plans} workloads; there are {count} steps")
        require(self.plan.shares, "plan: one_by_one; stages of their own are that")

    @property
    def plans(self) -> tuple[MemberPlan, ...]:
        return self.plan.plans

    @property
    def threads(self) -> int:
        return self.plan.threads


@dataclass(frozen=True, kw_only=True)
class RowsStage:
    """Steps that compute a block of ``rows`` rows one after the other before the next block.

    Results on the way are in memory of the thread, of a block's size. ``plans`` are those of whole
    blocks, one thread each; workers share out the blocks evenly, in order. A step whose reader is a
    stencil computes rows beyond the block again.
    """

    names: tuple[str, ...]
    plans: tuple[MemberPlan, ...]
    rows: int
    threads: int

    def __post_init__(self) -> None:
        count, plans = len(self.names), len(self.plans)
        require(plans == count, f"plans: {plans}; one for each of {count} steps")
        for name, plan in zip(self.names, self.plans):
            require(plan.threads == 1, f"{name}: {plan.threads} threads; blocks are shared out")
        for name in ("rows", "threads"):
            value = getattr(self, name)
            whole = isinstance(value, int) and value >= 1
            require(whole, f"{name} = {value!r}: a whole number from 1 on")


Stage = AloneStage | TogetherStage | RowsStage


@dataclass(frozen=True)
class Blocks:
    """What a `RowsStage` makes of its steps: extents, what lies near, and each block's workload."""

    group: Group
    names: tuple[str, ...]

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        return tuple(self.group.by_name[name] for name in self.names)

    @cached_property
    def items(self) -> int:
        """Products of a batch with operands of their own."""
        return max(items_of(step.workload) for step in self.steps)

    @cached_property
    def rows_of_item(self) -> int:
        return rows_of(self.steps[-1].workload) // self.items

    @cached_property
    def near(self) -> frozenset[str]:
        """Results that no other stage and no caller needs."""
        mine = set(self.names)
        return frozenset(
            name for name in self.names
            if self.group.internal(name)
            and all(reader.name in mine for reader in self.group.readers(name))
        )  # fmt: skip

    @cached_property
    def owner(self) -> dict[str, str]:
        """In whose memory each near result lies: that of what it is computed from, element by
        element, where nothing else reads that any more, so that a block takes less of the cache."""
        found: dict[str, str] = {}
        for step in self.steps:
            if step.name in self.near:
                before = filter(None, (self._replaced(step, op, src) for op, src in step.sources))
                found[step.name] = found.get(next(before, ""), step.name)
        return found

    def _replaced(self, step: Step, operand: str, source: str) -> str:
        """``source`` where the result of ``step`` may be written over it, else ""."""
        beyond = self.halo[step.name] or self.halo.get(source)
        if source not in self.near or beyond or not goes_in_place(step.workload):
            return ""
        made, seen = step.workload.output, step.workload.operands[operand]
        readers = self.group.readers(source)
        last = max(readers, key=self.steps.index)
        alike = (made.shape, made.dtype) == (seen.shape, seen.dtype)
        once = sum(name == source for _, name in step.sources) == 1
        return source if last is step and alike and once else ""

    @cached_property
    def halo(self) -> dict[str, int]:
        """Rows beyond a block that each step computes for those that read it."""
        beyond = dict.fromkeys(self.names, 0)
        for step in reversed(self.steps):
            for operand, source in step.sources:
                if source in beyond:
                    needed = beyond[step.name] + halos(step.workload, operand)
                    beyond[source] = max(beyond[source], needed)
        return beyond

    def count(self, rows: int) -> int:
        """Blocks of an item."""
        return -(-self.rows_of_item // rows)

    def edge(self, rows: int) -> int:
        """Rows of the last block of an item where it is shorter, else 0."""
        return self.rows_of_item % rows

    def workload(self, step: Step, rows: int) -> Workload:
        """What ``step`` computes for a block of ``rows``."""
        near = {operand for operand, source in step.sources if source in self.near}
        if step.name in self.near:
            near.add(RESULT)
        return block_of(step.workload, rows + self.halo[step.name], near)

    @cached_property
    def why_not(self) -> str:
        """Why these steps cannot be computed block by block; "" where they can."""
        total = {rows_of(s.workload) - self.halo[s.name] for s in self.steps}
        if len(total) > 1:
            return f"rows of results differ: {sorted(total)}"
        items = {items_of(s.workload) for s in self.steps} - {1}
        if len(items) > 1:
            return f"batches differ: {sorted(items)}"
        for step in self.steps:
            why = self._why_not(step)
            if why:
                return f"{step.name}: {why}"
        return ""

    def _why_not(self, step: Step) -> str:
        w = step.workload
        if not has_blocks(w):
            return "is no matter of rows"
        if self.halo[step.name] and (self.items > 1 or step.name not in self.near):
            return "rows beyond a block are computed twice, so it must be one's own"
        for operand, source in step.sources:
            if source in self.names and not passes_rows(w, operand):
                return f"{operand} needs all rows of {source}"
            if source in self.names and self._views(step, operand, source):
                return f"{operand} sees {source} as another array"
        return ""

    def _views(self, step: Step, operand: str, source: str) -> bool:
        """Whether rows of what is read are not those of what was made, where that can be seen."""
        made = self.group.by_name[source].workload.output
        seen = step.workload.operands[operand]
        columns = bool(seen.shape) and (made.shape or (1,))[-1] != seen.shape[-1]
        return not made.compact or columns and source not in self.near


@dataclass(frozen=True, kw_only=True)
class GroupPlan:
    """Stages in order, each one parallel region that ends before the next begins.

    ``absorbed`` are the results of ``workload`` that are in no array, as one step computes what two
    did (`workload.absorb`); the stages are those of what is left, `steps`.
    """

    workload: Group
    absorbed: tuple[str, ...]
    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        done = [name for stage in self.stages for name in stage.names]
        left = [step.name for step in self.steps.steps]
        why = f"stages: {', '.join(done)}: each of {', '.join(left)} is needed once"
        require(sorted(done) == sorted(left), why)
        made: set[str] = set()
        for stage in self.stages:
            self._check_stage(stage, made)
            made |= set(stage.names)

    def _check_stage(self, stage: Stage, made: set[str]) -> None:
        here: set[str] = set()
        for name in stage.names:
            step = self.steps.by_name[name]
            for read in step.reads:
                late = read in self.steps.by_name and read not in made | here
                require(not late, f"{name}: reads {read}, which comes later")
            if isinstance(stage, RowsStage):
                here.add(name)
        if isinstance(stage, RowsStage):
            blocks = self.blocks(stage)
            require(not blocks.why_not, f"rows of {', '.join(stage.names)}: {blocks.why_not}")
            for step, plan in zip(blocks.steps, stage.plans):
                _check_block_plan(blocks.workload(step, stage.rows), plan, step.name)
            return
        for name, plan in zip(stage.names, stage.plans):
            right = plan.workload == self.steps.by_name[name].workload
            require(right, f"{name}: its plan is of {plan.workload}")

    @cached_property
    def steps(self) -> Group:
        """What is computed: the workload, but for what is absorbed."""
        return absorbed(self.workload, self.absorbed)

    def blocks(self, stage: RowsStage) -> Blocks:
        return Blocks(self.steps, stage.names)

    @property
    def plans(self) -> tuple[MemberPlan, ...]:
        """Those of all steps."""
        return tuple(plan for stage in self.stages for plan in stage.plans)

    @property
    def target(self) -> CodeTarget:
        return self.plans[0].target

    @property
    def threads(self) -> int:
        return max(stage.threads for stage in self.stages)

    @property
    def decision(self) -> Decision:
        alone = all(isinstance(stage, AloneStage) for stage in self.stages)
        return Decision.ONE_BY_ONE if alone and not self.absorbed else Decision.FUSED

    @property
    def decided(self) -> str:
        """The decision, for people."""
        return str(self)

    def to_json(self) -> str:
        """The plan as one line of JSON that `from_json` reads back."""
        fields = {
            "kind": "group",
            "steps": [_step_fields(step) for step in self.workload.steps],
            "outputs": list(self.workload.outputs),
            "absorbed": list(self.absorbed),
            "stages": [_stage_fields(stage) for stage in self.stages],
        }
        return json.dumps(fields, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> GroupPlan:
        """The plan that `to_json` wrote. Raises IllegalPlan as `GemmPlan.from_json` does."""
        fields = json_fields(text, "group")
        try:
            steps = tuple(_step(*step) for step in fields["steps"])
            workload = Group(steps, tuple(fields["outputs"]))
            stages = tuple(_stage(*stage) for stage in fields["stages"])
            return cls(workload=workload, absorbed=tuple(fields["absorbed"]), stages=stages)
        except AnatuneError as error:  # that of a workload is no other
            raise IllegalPlan(str(error)) from None
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise IllegalPlan(f"plan: {error!r}; give what to_json returned") from None

    def __str__(self) -> str:
        words = ["; ".join(_said(stage) for stage in self.stages)]
        if self.absorbed:
            words.append(f"{', '.join(self.absorbed)} in no array")
        return "; ".join(words)


@dataclass(frozen=True, kw_only=True)
class StageEstimate:
    """What the model predicts of a stage; ``steps`` are cycles of each, with what binds it."""

    cycles: float
    barrier_cycles: float
    steps: tuple[tuple[float, str], ...]


@dataclass(frozen=True, kw_only=True)
class GroupEstimate(Estimate):
    """What the model predicts of a `GroupPlan`; ``terms`` are the cycles of its steps.

    Bytes and energy are not modelled yet: no bytes, and no numbers.
    """

    stages: tuple[StageEstimate, ...]
    peak_fraction: float = field(default=nan, compare=False)  # nan differs from itself
    joules: float = field(default=nan, compare=False)
    bytes_moved: tuple[tuple[str, float], ...] = ()

    @property
    def barriers(self) -> int:
        return sum(stage.barrier_cycles > 0 for stage in self.stages)

    def __str__(self) -> str:
        return f"{TIME.show(self.seconds)}, {self.barriers} barrier(s)"


def _said(stage: Stage) -> str:
    names = ", ".join(stage.names)
    if isinstance(stage, AloneStage):
        return names
    if isinstance(stage, TogetherStage):
        return f"{{{names}}} {stage.plan.decision.value.replace('_', ' ')}"
    return f"[{names}] in blocks of {stage.rows} rows"


def _step_fields(step: Step) -> list[Any]:
    kind = "matmul" if isinstance(step.workload, Matmul) else "map"
    return [step.name, kind, plain(step.workload), list(map(list, step.sources))]


def _step(name: str, kind: str, fields: dict[str, Any], sources: list[list[str]]) -> Step:
    kinds: dict[str, type] = {"matmul": Matmul, "map": Map}
    require(kind in kinds, f"steps: kind = {kind!r}: 'matmul' or 'map'")
    workload = build(kinds[kind], fields, name)
    return Step(name, workload, tuple((operand, source) for operand, source in sources))


def _stage_fields(stage: Stage) -> list[Any]:
    """Its kind, the steps, the plans, and for blocks their rows and threads."""
    if isinstance(stage, TogetherStage):
        return ["together", list(stage.names), [json.loads(stage.plan.to_json())], 0, 0]
    plans = [json.loads(plan.to_json()) for plan in stage.plans]
    if isinstance(stage, AloneStage):
        return ["alone", list(stage.names), plans, 0, 0]
    return ["rows", list(stage.names), plans, stage.rows, stage.threads]


def _stage(
    kind: str, names: list[str], plans: list[dict[str, Any]], rows: int, threads: int
) -> Stage:
    if kind == "together":
        plan = FusionPlan.from_json(json.dumps(plans[0]))
        return TogetherStage(names=tuple(names), plan=plan)
    members = tuple(map(member_plan, plans))
    if kind == "alone":
        return AloneStage(step=names[0], plan=members[0])
    require(kind == "rows", f"stages: kind = {kind!r}: 'alone', 'together' or 'rows'")
    return RowsStage(names=tuple(names), plans=members, rows=rows, threads=threads)


def _check_block_plan(workload: Workload, plan: MemberPlan, name: str) -> None:
    """A B that is packed once for all blocks of an item counts as constant."""
    given = plan.workload
    if isinstance(plan, GemmPlan) and plan.b is Storage.PACKED_AHEAD:
        given = replace(plan.workload, constant_b=False)
    require(given == workload, f"{name}: its plan is of {given}, {workload} is needed")
