"""Element-wise steps taken into the step before or after them: no array lies between (rank 2)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

from anatune.errors import WorkloadError, require
from anatune.workload.expression import RESERVED, SUM, Apply, Expression, Operand, parse
from anatune.workload.group import Group, Step
from anatune.workload.maps import FOLDS, SCAN, Map
from anatune.workload.matmul import Matmul

REPEATED = 2
"""Vector operations that may be computed at each place where a result is read: a load each."""


def absorbable(group: Group, besides: Collection[str] = ()) -> tuple[str, ...]:
    """Results on the way, but for ``besides``, that need be in no array, as one step can compute
    what two did; some only because others before them are absorbed."""
    found = []
    names = [step.name for step in group.steps if group.internal(step.name)]
    for name in (name for name in names if name not in besides):
        smaller = _without(group, name)
        if smaller is not None:
            found.append(name)
            group = smaller
    return tuple(found)


def absorbed(group: Group, names: Collection[str]) -> Group:
    """``group`` without the arrays of these results.

    Raises:
        WorkloadError: a result whose reader cannot compute it as well.
    """
    unknown = ", ".join(sorted(set(names) - group.by_name.keys()))
    require(not unknown, f"absorbed: {unknown}: no such step", WorkloadError)
    for name in [step.name for step in group.steps if step.name in names]:
        smaller = _without(group, name)
        if smaller is None:
            raise WorkloadError(f"absorbed: {name}: its reader cannot compute it as well")
        group = smaller
    return group


def _without(group: Group, name: str) -> Group | None:
    readers = group.readers(name)
    if len(readers) != 1 or not group.internal(name):
        return None
    producer, (reader,) = group.by_name[name], readers
    try:
        merged = _merged(producer, reader)
    except WorkloadError:  # too long an expression, or one name with two meanings
        return None
    if merged is None:
        return None
    steps = [merged if step is reader else step for step in group.steps if step is not producer]
    return Group(tuple(steps), group.outputs)


def _merged(producer: Step, reader: Step) -> Step | None:
    """Both as one step with the reader's name; None where that cannot be."""
    p, q = producer.workload, reader.workload
    operands = [operand for operand, source in reader.sources if source == producer.name]
    if not isinstance(q, Map) or len(operands) != 1:
        return None
    names = _Names(producer, reader, operands[0])
    if isinstance(p, Matmul):
        return _epilogue(p, q, names)
    if p.fold == SCAN:
        return _carried(p, q, names)
    return _finish(p, q, names) if p.fold in FOLDS else _element(p, q, names)


@dataclass
class _Names:
    """Operands of two steps under names that differ, with the sources of the whole."""

    producer: Step
    reader: Step
    between: str  # the reader's operand that the producer makes
    sources: dict[str, str] = field(default_factory=dict)

    def keep(self, step: Step, operand: str) -> str:
        """The name of ``operand`` in the merged step; those that see the same array share one."""
        name, source = operand, step.source(operand)
        while name in RESERVED or self.sources.get(name, source) != source:
            name += "_"
        self.sources[name] = source
        return name

    def read_by_producer(self, op: Operand) -> Expression:
        return _renamed(self.producer, op, self.keep(self.producer, op.name), op.axes)

    def step(self, workload: Map | Matmul) -> Step:
        sources = tuple((name, self.sources[name]) for name in workload.operands)
        return Step(self.reader.name, workload, sources)


def _epilogue(p: Matmul, q: Map, names: _Names) -> Step | None:
    """A product whose result is read element by element."""
    sums = parse(p.epilogue or "c", p.accumulator, str(p.out_dtype))
    whole = (q.m, q.n, q.rank) == (p.batch * p.m, p.n, 2) or (p.m * p.batch, q.m, q.n) == (
        1, 1, p.n)
    if q.fold or not whole or not p.output.compact or p.out_dtype != sums.computed:
        return None
    for name in ("a", "b"):
        names.sources[name] = names.producer.source(name)
    if p.batch > 1 and any(op.axes == ("m",) for op in q.element.operands):
        return None
    mine = _mapped(sums, names.read_by_producer)
    meant = _of(q.element, mine, names, lambda op: op.axes)
    merged = replace(p, epilogue=_printed(meant, ""), out_dtype=q.out_dtype)
    same = parse(merged.epilogue, p.accumulator, str(q.out_dtype)) == meant
    return names.step(merged) if same else None


def _element(p: Map, q: Map, names: _Names) -> Step | None:
    """Values that are folded, normalised or computed with, element by element."""
    read = [op for op in q.element.operands if op.name == names.between]
    alike = (p.m, p.n, p.rank) == (q.m, q.n, q.rank) and not p.fold
    if not alike or not read or len(read[0].axes) != 2 or p.out_dtype != p.element.computed:
        return None
    times = _count(q.element, names.between)
    if times > 1 and p.element.operations > REPEATED:
        return None
    mine = _mapped(p.element, names.read_by_producer)
    each = _of(q.element, mine, names, lambda op: op.axes)
    finish = _of(q.finished, None, names, lambda op: op.axes)
    merged = _map_step(q, each, finish, names)
    return merged if merged is not None and _shapes_kept(merged, names) else None


def _shapes_kept(merged: Step, names: _Names) -> bool:
    """Whether arrays that both steps read around different places are still what they were."""
    seen = {source: step.workload.operands[operand].shape
            for step in (names.producer, names.reader) for operand, source in step.sources}
    tensors = merged.workload.operands
    return all(tensors[operand].shape == seen[source] for operand, source in merged.sources)


def _carried(p: Map, q: Map, names: _Names) -> Step | None:
    """What becomes of each value that a scan carries."""
    alike = (p.m, p.n, p.rank) == (q.m, q.n, q.rank) and not q.fold
    if not alike or p.out_dtype != p.result_dtype or _moved(q):
        return None
    each = _mapped(p.element, names.read_by_producer)
    mine = _mapped(p.finished, names.read_by_producer)
    finish = _of(q.element, mine, names, lambda op: op.axes)
    return _map_step(replace(p, out_dtype=q.out_dtype), each, finish, names)


def _moved(q: Map) -> bool:
    """Whether it reads neighbours, which only an expression of elements can."""
    return any(q.shift(op) != (0, 0) for op in q.element.reads)


def _finish(p: Map, q: Map, names: _Names) -> Step | None:
    """What becomes of each folded value."""
    kept = p.m if p.over == "n" else p.n
    axis = {"n": "m", "m": "n"}[p.over]
    if q.fold or q.rank != 1 or q.n != kept or p.rank != 2 or p.out_dtype != p.result_dtype:
        return None
    if _moved(q):
        return None
    each = _mapped(p.element, names.read_by_producer)
    mine = _mapped(p.finished, names.read_by_producer)
    along = lambda op: (axis,) if "n" in op.axes else ()  # noqa: E731
    finish = _of(q.element, mine, names, along)
    return _map_step(replace(p, out_dtype=q.out_dtype), each, finish, names)


def _map_step(w: Map, each: Expression, finish: Expression, names: _Names) -> Step | None:
    """``w`` with these expressions; None where their text would be read as another one, as numbers
    take the type of what is around them."""
    stated = "" if finish == SUM else _printed(finish, "")
    merged = replace(w, each=_printed(each, "[0]"), finish=stated)
    same = (merged.element, merged.finished) == (each, finish)
    return names.step(merged) if same else None


def _of(
    expression: Expression, mine: Expression | None, names: _Names,
    axes: Callable[[Operand], tuple[str, ...]],
) -> Expression:  # fmt: skip
    """The reader's expression with ``mine`` in the place of what it reads."""

    def leaf(op: Operand) -> Expression:
        if op.name == names.between:
            assert mine is not None
            return mine
        return _renamed(names.reader, op, names.keep(names.reader, op.name), axes(op))

    return _mapped(expression, leaf)


def _printed(expression: Expression, scalar: str) -> str:
    """Its text; ``scalar`` is the subscript of single numbers where there must be one."""

    def leaf(op: Operand) -> Expression:
        return replace(op, scalar=scalar)

    return str(_mapped(expression, leaf))


def _renamed(step: Step, op: Operand, name: str, axes: tuple[str, ...]) -> Operand:
    """Its type is stated: what goes without saying differs from one expression to the other.

    Offsets count from the array's first element, as another step may read around other places.
    """
    w = step.workload
    moved = w.shift(op) if isinstance(w, Map) else (0, 0)
    offsets = tuple(moved["mn".index(axis)] for axis in axes) if any(moved) else ()
    return replace(op, name=name, axes=axes, usual=False, offsets=offsets)


def _mapped(expression: Expression, leaf: Callable[[Operand], Expression]) -> Expression:
    """``expression`` with what ``leaf`` makes of each operand in its place."""
    if isinstance(expression, Operand):
        return leaf(expression)
    if isinstance(expression, Apply):
        return replace(
            expression, arguments=tuple(_mapped(a, leaf) for a in expression.arguments)
        )
    return expression


def _count(expression: Expression, name: str) -> int:
    if isinstance(expression, Operand):
        return int(expression.name == name)
    return sum(_count(part, name) for part in expression.parts)
