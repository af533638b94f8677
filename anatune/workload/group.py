"""Workloads of which some read the results of others, in one call (rank 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from anatune.errors import WorkloadError, require
from anatune.workload.expression import OUT
from anatune.workload.fused import Fused, Workload, require_fusable
from anatune.workload.matmul import Matmul
from anatune.workload.tensor import Tensor

MAX_STEPS = 64
"""Steps of a group: each is code of its own."""


@dataclass(frozen=True)
class Step:
    """One workload of a group: the name of its result, and what each of its operands is.

    ``sources``: (operand, name) for all operands in their order; the name is that of an earlier
    step's result, or of an input of the group.
    """

    name: str
    workload: Workload
    sources: tuple[tuple[str, str], ...]

    def source(self, operand: str) -> str:
        return dict(self.sources)[operand]

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of what it reads, each once."""
        return tuple(dict.fromkeys(name for _, name in self.sources))

    def __str__(self) -> str:
        read = ", ".join(f"{operand} = {name}" for operand, name in self.sources)
        return f"{self.name}: {self.workload} of {read}"


@dataclass(frozen=True)
class Group:
    """Steps in an order in which each comes after those whose results it reads.

    An operand sees the memory of the result that it reads: data types and the places that elements
    take are equal; shapes and strides may differ, as those of [batch, m, n] and [batch * m, n] do.
    ``outputs`` are the results that a call returns; the others exist only on the way.
    """

    steps: tuple[Step, ...]
    outputs: tuple[str, ...]

    def __post_init__(self) -> None:
        count = len(self.steps)
        why = f"group: {count} steps; from 1 to {MAX_STEPS} are possible"
        require(1 <= count <= MAX_STEPS, why, WorkloadError)
        made: dict[str, Step] = {}
        inputs: dict[str, tuple[Step, str]] = {}
        names = [step.name for step in self.steps]
        for step in self.steps:
            _check_name(step.name, "the name of a step")
            why = f"{step.name}: two steps of this name"
            require(names.count(step.name) == 1, why, WorkloadError)
            require_fusable(step.workload, f"group: {step.name}")
            self._check_sources(step, made, inputs, names)
            made[step.name] = step
        for name in self.outputs:
            _check_name(name, "one of the outputs")
            why = f"outputs: {name!r}: no such step; there are {', '.join(names)}"
            require(name in made, why, WorkloadError)
        require(self.outputs, "outputs: none; name the steps whose results are wanted",
                WorkloadError)
        twice = len(set(self.outputs)) < len(self.outputs)
        require(not twice, f"outputs = {self.outputs}: one of them twice", WorkloadError)
        for step in self.steps:
            used = step.name in self.outputs or self.readers(step.name)
            why = f"{step.name}: nothing reads its result; add it to the outputs, or leave it out"
            require(used, why, WorkloadError)

    def _check_sources(
        self, step: Step, made: Mapping[str, Step], inputs: dict[str, tuple[Step, str]],
        names: Sequence[str],
    ) -> None:
        operands = step.workload.operands
        stated = [operand for operand, _ in step.sources]
        why = f"{step.name}: sources of {', '.join(stated)}: of {', '.join(operands)} in this order"
        require(stated == list(operands), why, WorkloadError)
        for operand, name in step.sources:
            _check_name(name, f"{step.name}: source of {operand}")
            tensor = operands[operand]
            if name in made:
                given, whose = made[name].workload.output, f"the result of {name}"
            else:
                why = f"{step.name}: {operand} = {name}: its own result; name another source"
                require(name != step.name, why, WorkloadError)
                why = f"{step.name}: {operand} = {name}: comes later; put {name} before it"
                require(name not in names, why, WorkloadError)
                why = f"{step.name}: {operand} = {name}: calls name their results so; take another"
                require(name != OUT, why, WorkloadError)
                first, theirs = inputs.setdefault(name, (step, operand))
                given = first.workload.operands[theirs]
                whose = f"{name} as {theirs} of {first.name}"
            why = f"{step.name}: {operand} = {name}: {_shown(tensor)} is read, {whose} is " \
                f"{_shown(given)}"
            require(_memory(given) == _memory(tensor), why, WorkloadError)

    @cached_property
    def by_name(self) -> dict[str, Step]:
        return {step.name: step for step in self.steps}

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        """What a call takes, by name, in the order in which it is first read."""
        found: dict[str, Tensor] = {}
        for step in self.steps:
            for operand, name in step.sources:
                if name not in self.by_name:
                    found.setdefault(name, step.workload.operands[operand])
        return found

    @property
    def arguments(self) -> dict[str, Tensor]:
        """`inputs`, by the word that all workloads have for them."""
        return self.inputs

    @property
    def one_result(self) -> bool:
        """Whether a call gives back a result by itself; else a tuple."""
        return len(self.outputs) == 1

    @property
    def results(self) -> dict[str, Tensor]:
        """What a call returns, by name."""
        return {name: self.by_name[name].workload.output for name in self.outputs}

    def readers(self, name: str) -> tuple[Step, ...]:
        """The steps that read a result or an input."""
        return tuple(step for step in self.steps if name in step.reads)

    def internal(self, name: str) -> bool:
        """Whether a result exists only on the way."""
        return name in self.by_name and name not in self.outputs

    @property
    def flops(self) -> int:
        return sum(step.workload.flops for step in self.steps)

    @property
    def operand_bytes(self) -> int:
        """Bytes of all inputs and all results, those on the way included."""
        inputs = sum(tensor.size_bytes for tensor in self.inputs.values())
        return inputs + sum(step.workload.output.size_bytes for step in self.steps)

    def __str__(self) -> str:
        return f"group({'; '.join(map(str, self.steps))}; gives {', '.join(self.outputs)})"


def group(
    steps: Mapping[str, Any], outputs: Sequence[str] | str | None = None
) -> Group:
    """Workloads that read each other's results, as one: ``y = result(x, w1, w2)``.

    Args:
        steps: by the name of the result, in an order in which each comes after what it reads: a
            workload, or a workload and where its operands come from: ``{"h": at.matmul(...),
            "y": (at.matmul(...), {"a": "h", "b": "w2"})}``. A source is the name of a step, or of
            an input of the call; an operand that is not mentioned is an input of its own, called
            after the step and itself: ``h_a``.
        outputs: names of the results that a call returns; those that no step reads, unless given.

    Calls take the inputs in the order in which steps read them, or by name, and return the outputs:
    a tuple where there are several.

    Raises:
        WorkloadError: a step, an operand or a source that does not fit, named.
    """
    require(isinstance(steps, Mapping) and steps, "steps: a dict of workloads by the name of their "
            "results", WorkloadError)
    made = []
    for name, given in steps.items():
        workload, stated = given if isinstance(given, (tuple, list)) and len(given) == 2 else (
            given, {})
        require_fusable(workload, f"group: {name}")
        why = f"{name}: sources = {stated!r}: a dict of names by operand"
        require(isinstance(stated, Mapping), why, WorkloadError)
        for operand, source in stated.items():
            why = f"{name}: {operand}: no operand; there are {', '.join(workload.operands)}"
            require(operand in workload.operands, why, WorkloadError)
            why = f"{name}: {operand} = {source!r}: the name of a step or of an input"
            require(isinstance(source, str), why, WorkloadError)
        for own in (f"{name}_{op}" for op in workload.operands if op not in stated):
            why = f"{name}: its input {own} would be called as a step is; say where it comes from"
            require(own not in steps, why, WorkloadError)
        sources = tuple((op, stated.get(op, f"{name}_{op}")) for op in workload.operands)
        made.append(Step(name, workload, sources))
    if outputs is None:
        read = {source for step in made for _, source in step.sources}
        outputs = [step.name for step in made if step.name not in read]
    named = (outputs,) if isinstance(outputs, str) else outputs
    require(isinstance(named, (tuple, list)), f"outputs = {outputs!r}: names of steps",
            WorkloadError)
    return Group(tuple(made), tuple(named))


def chain(workloads: Sequence[Any]) -> Group:
    """Workloads of which each reads the result of the one before as its first operand.

    The results are called ``step0``, ``step1`` and so on; the last one is returned. Operands are
    inputs in their order: ``y = result(a, w1, bias1, w2)``.

    Raises:
        WorkloadError: a result that the next workload cannot read, named.
    """
    require(isinstance(workloads, (list, tuple)) and workloads, "chain: a list of workloads",
            WorkloadError)
    steps: dict[str, Any] = {}
    for number, workload in enumerate(workloads):
        require_fusable(workload, f"chain: step{number}")
        first = next(iter(workload.operands))
        sources = {first: f"step{number - 1}"} if number else {}
        steps[f"step{number}"] = (workload, sources)
    return group(steps)


def fused(workloads: Sequence[Any], *, same_a: bool = False) -> Fused | Group:
    """Independent workloads as one, computed by one call: ``c1, c2 = result(a1, b1, a2, b2)``.

    Args:
        workloads: what `matmul`, `elementwise`, `stencil`, `reduce`, `scan` and `softmax` return.
        same_a: they are matrix products of one A: query, key and value; reduce and downsample. A
            call then takes it once, first: ``q, k, v = result(x, wq, wk, wv)``. They are a `Group`
            whose steps, ``out0``, ``out1`` and so on, read the input ``a``.

    Raises:
        WorkloadError: an argument that cannot be computed, named.
    """
    members = tuple(workloads)
    if not same_a:
        return Fused(members)
    require(members, "fused: no workloads; from 1 on are possible", WorkloadError)
    for member in members:
        require_fusable(member, "fused")
        require(isinstance(member, Matmul), f"same_a: {member}: only of matrix products",
                WorkloadError)
        mine, theirs = member.operands["a"], members[0].operands["a"]
        why = f"same_a: {member}: its A is {_shown(mine)}, that of the first {_shown(theirs)}"
        require(mine == theirs, why, WorkloadError)
    return group({
        f"out{number}": (member, {
            name: name if name == "a" else f"{name}_{number}" for name in member.operands})
        for number, member in enumerate(members)
    })  # fmt: skip


def _check_name(name: Any, what: str) -> None:
    fine = isinstance(name, str) and name.isidentifier() and name.isascii()
    why = f"{name!r}: {what} is made of ASCII letters, digits and _"
    require(fine, why, WorkloadError)


def _memory(tensor: Tensor) -> tuple[Any, ...]:
    """What arrays share that may lie in one memory: the type, and which places they take. These
    are told as (step, extent), smallest step first, one where the next continues the last."""
    places = [(1, 1)]
    for step, extent in sorted(zip(tensor.strides, tensor.shape)):
        last, count = places[-1]
        if step == last * count:
            places[-1] = (last, count * extent)
        elif extent > 1:
            places.append((step, extent))
    return tensor.dtype, places


def _shown(tensor: Tensor) -> str:
    shape = f"{tensor.dtype} {list(tensor.shape)}"
    return shape if tensor.compact else f"{shape} with strides {list(tensor.strides)}"
