"""Parts of a function that together say something simpler: softmax, and maps of maps (rank 5)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from anatune.codegen.frames import ARRAY
from anatune.codegen.parts import Part, array_text
from anatune.codegen.tir_expression import replaced
from anatune.errors import WorkloadError
from anatune.workload.dtypes import is_float
from anatune.workload.expression import SUM, Apply, Expression, Operand
from anatune.workload.maps import SOFTMAX, Map


def simplified(parts: Sequence[Part], results: Collection[str]) -> list[Part]:
    """``parts`` with softmax for what is one, without those whose results nothing needs."""
    found = [_softmax(part, parts) or part for part in parts]
    found = _needed(found, results)
    for part in list(found):
        readers = _readers(part.output, found)
        if part.output in results or len(readers) != 1:
            continue
        (reader,) = readers
        merged = _merged(part, reader)
        if merged is not None:
            found[found.index(reader)] = merged
            found.remove(part)
    return found


def _readers(array: str, parts: Sequence[Part]) -> list[Part]:
    return [p for p in parts if any(source.array == array for source in p.sources.values())]


def _needed(parts: Sequence[Part], results: Collection[str]) -> list[Part]:
    """Parts that a result depends on."""
    needed = set(results)
    kept: list[Part] = []
    for part in reversed(parts):
        if part.output in needed:
            needed |= {source.array for source in part.sources.values()}
            kept.insert(0, part)
    return kept


def _softmax(part: Part, parts: Sequence[Part]) -> Part | None:
    """exp(x - M) / S with M the largest of a row's x and S the sum of a row's exp(x - M)."""
    w, share = part.workload, part.element
    if not (isinstance(w, Map) and not w.fold and _is(share, "div")):
        return None
    powers, total = _expanded(share.arguments[0], part, parts), share.arguments[1]
    if not _is(powers, "exp") or not _is(powers.arguments[0], "sub"):
        return None
    x, largest = powers.arguments[0].arguments
    sums, tops = _fold_of(total, "sum", part, parts), _fold_of(largest, "max", part, parts)
    if sums is None or tops is None or sums.element is None:
        return None
    if _expanded(sums.element, sums, parts) != powers or tops.element != x:
        return None
    try:
        made = replace(w, fold=SOFTMAX, each=array_text(x, w.dtype))
    except WorkloadError:
        return None
    if made.element != x or made.held != w.held:
        return None
    sources = {op.name: _source(op, (part, sums, tops, *parts)) for op in x.operands}
    return replace(part, workload=made, element=x, sources=sources)


def _is(node: Expression | None, function: str) -> bool:
    return isinstance(node, Apply) and node.function == function


def _source(operand: Operand, parts: Sequence[Part]):
    return next(p.sources[operand.name] for p in parts if operand.name in p.sources)


def _expanded(node: Expression, part: Part, parts: Sequence[Part]) -> Expression:
    """What an operand with all elements holds, where a map of the same shape computes it."""
    if not isinstance(node, Operand) or node.axes != ARRAY:
        return node
    array = part.sources[node.name].array
    for maker in parts:
        if maker.output == array and _same_shape(maker, part) and maker.element is not None:
            return maker.element if not maker.workload.fold else node
    return node


def _same_shape(a: Part, b: Part) -> bool:
    return (a.workload.m, a.workload.n) == (b.workload.m, b.workload.n)


def _fold_of(
    node: Expression, fold: str, part: Part, parts: Sequence[Part]
) -> Part | None:
    """The part whose fold of each row, as it is, an operand along rows holds."""
    if not isinstance(node, Operand) or node.axes != ("m",):
        return None
    array = part.sources[node.name].array
    for maker in parts:
        w = maker.workload
        if maker.output == array and isinstance(w, Map) and w.fold == fold and w.over == "n":
            return maker if w.finished == SUM and _same_shape(maker, part) else None
    return None


def _merged(part: Part, reader: Part) -> Part | None:
    """``reader`` computing what ``part`` does as it goes, where no number comes out otherwise."""
    inner, outer = part.workload, reader.workload
    if not (isinstance(inner, Map) and isinstance(outer, Map) and not inner.fold):
        return None
    assert part.element is not None and reader.element is not None
    read = [op for op in reader.element.operands if reader.sources[op.name].array == part.output]
    flat = all(op.axes in (ARRAY, ()) for op in part.element.operands)
    fits = _same_shape(part, reader) or (flat and inner.elements == outer.elements)
    kept = inner.element.computed == inner.out_dtype or (
        is_float(inner.element.computed) and is_float(str(inner.out_dtype))
    )
    if len(read) != 1 or read[0].axes != ARRAY or not fits or not kept:
        return None
    element = replaced(reader.element, read[0], part.element)
    try:
        made = replace(outer, each=array_text(element, outer.dtype))
    except WorkloadError:
        return None
    if made.element != element or made.held != outer.held:
        return None
    sources = {k: v for k, v in (part.sources | reader.sources).items() if v.array != part.output}
    return replace(reader, workload=made, element=element, sources=sources)


