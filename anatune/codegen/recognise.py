"""A TVM function as a workload of this project (rank 5).

    PrimFunc -> stages -> fewer, inlined -> parts: products, maps, folds -> softmax -> one workload

Everything is taken from what blocks compute; names of functions, blocks and arrays mean nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from anatune.codegen.arrays import Arrays, Source
from anatune.codegen.map_parts import map_part
from anatune.codegen.parts import Part
from anatune.codegen.product_parts import product_part
from anatune.codegen.rewriting import simplified
from anatune.codegen.stage_inlining import Anchor, anchors_of
from anatune.codegen.stages import stages_of
from anatune.errors import WorkloadError, require
from anatune.workload.absorb import absorbable, absorbed
from anatune.workload.fused import Fused
from anatune.workload.group import Group, Step
from anatune.workload.matmul import Matmul
from anatune.workload.recognised import Recognised, View
from anatune.workload.tensor import Tensor


def recognise(func: Any) -> Recognised:
    """What ``func`` computes.

    Raises:
        WorkloadError: what no workload says, with the block and the part of its expression.
    """
    arrays = Arrays(func)
    stages = stages_of(func)
    written = {hash(stage.buffer) for stage in stages}
    params = [(hash(param), arrays.name_of(param), arrays.tensor(param)) for param in func.params]
    outputs = tuple((name, tensor) for key, name, tensor in params if key in written)
    inputs = tuple((name, tensor) for key, name, tensor in params if key not in written)
    require(outputs, f"{_name(func)}: writes none of its parameters", WorkloadError)
    results = [name for name, _ in outputs]
    keys = {key for key, _, _ in params if key in written}
    parts = [part for anchor in anchors_of(stages, keys) for part in _parts(anchor, arrays)]
    parts = simplified(parts, results)
    workload, operands, order = _together(parts, results, arrays)
    return Recognised(_name(func), inputs, outputs, workload, operands, order)


def _parts(anchor: Anchor, arrays: Arrays) -> list[Part]:
    """One workload; or two, where what becomes of a result cannot be said along with it."""
    try:
        return [_part(anchor, arrays)]
    except WorkloadError as refusal:
        if anchor.tail is None:
            raise
        try:
            return [_part(each, arrays) for each in anchor.apart]
        except WorkloadError:
            raise refusal from None


def _part(anchor: Anchor, arrays: Arrays) -> Part:
    """Raises WorkloadError for what no workload says, with the block and the expression."""
    try:
        return product_part(anchor, arrays) or map_part(anchor, arrays)
    except WorkloadError as error:
        if str(error).startswith("block "):
            raise
        raise WorkloadError(f"block {anchor.last.name!r}: {error}") from None


def _together(
    parts: Sequence[Part], results: Collection[str], arrays: Arrays
) -> tuple[Any, tuple[View, ...], tuple[View, ...]]:
    """The parts as one workload, what a call of it takes, and what it gives."""
    made = {part.output for part in parts}
    gives = [part for part in parts if part.output in results]
    order = tuple(View(part.output, 0, part.workload.output) for part in gives)
    if any(source.array in made for part in parts for source in part.sources.values()) or _same_a(
        parts
    ):
        group, views = _group(parts, tuple(view.array for view in order))
        smaller = absorbed(group, absorbable(group))
        if len(smaller.steps) > 1:
            return group, views, order
        (step,) = smaller.steps
        seen = dict(zip(group.inputs, views, strict=True))
        return step.workload, tuple(seen[name] for _, name in step.sources), order
    if len(parts) == 1:
        (part,) = parts
        views = tuple(_view(part.sources[n], t) for n, t in part.workload.operands.items())
        return part.workload, views, order
    members = tuple(part.workload for part in parts)
    fused = Fused(members)
    views = tuple(_view(parts[number].sources[n], t) for number, n, t in fused.inputs())
    return fused, views, order


def _same_a(parts: Sequence[Part]) -> bool:
    """Whether all, and there are several, are products of one and the same A."""
    if len(parts) == 1 or not all(isinstance(part.workload, Matmul) for part in parts):
        return False
    first = parts[0].workload.operands["a"], parts[0].sources["a"]
    return all((p.workload.operands["a"], p.sources["a"]) == first for p in parts)


def _group(parts: Sequence[Part], outputs: tuple[str, ...]) -> tuple[Group, tuple[View, ...]]:
    made = {part.output for part in parts}
    names: dict[tuple[Source, str, int, int], str] = {}
    steps = []
    for part in parts:
        sources = []
        for operand, tensor in part.workload.operands.items():
            source = part.sources[operand]
            key = (source, tensor.dtype, tensor.elements, tensor.span)
            if source.array not in made and key not in names:
                names[key] = _free(source.array, made | set(names.values()))
            sources.append((operand, names.get(key, source.array)))
        steps.append(Step(part.output, part.workload, tuple(sources)))
    group = Group(tuple(steps), outputs)
    sources_of = {name: source for (source, *_), name in names.items()}
    return group, tuple(_view(sources_of[name], t) for name, t in group.inputs.items())


def _free(wanted: str, taken: Collection[str]) -> str:
    name, number = wanted, 0
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    return name


def _view(source: Source, tensor: Tensor) -> View:
    return View(source.array, source.offset, tensor)


def _name(func: Any) -> str:
    return str(dict(func.attrs or {}).get("global_symbol", "main"))
