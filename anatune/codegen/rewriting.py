"""Parts of a function that together are a softmax (rank 5)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from anatune.codegen.arrays import Source
from anatune.codegen.frames import ARRAY
from anatune.codegen.parts import Part, array_text
from anatune.errors import WorkloadError
from anatune.workload.expression import SUM, Apply, Expression, Operand
from anatune.workload.maps import SOFTMAX, Map


def simplified(parts: Sequence[Part], results: Collection[str]) -> list[Part]:
    """``parts`` with softmax for what is one, without those whose results nothing needs."""
    found = [_softmax(part, parts) or part for part in parts]
    return _needed(found, results)


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
    sources = {op.name: _source(op, parts) for op in x.operands}
    return replace(part, workload=made, element=x, sources=sources)


def _is(node: Expression | None, function: str) -> bool:
    return isinstance(node, Apply) and node.function == function


def _source(operand: Operand, parts: Sequence[Part]) -> Source:
    """What an operand sees: one name means one thing in all of a function."""
    return next(p.sources[operand.name] for p in parts if operand.name in p.sources)


def _expanded(node: Expression, part: Part, parts: Sequence[Part]) -> Expression:
    """What an operand with all elements holds, where a map of the same shape computes it."""
    if not isinstance(node, Operand) or node.axes != ARRAY:
        return node
    array = _source(node, parts).array
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
    array = _source(node, parts).array
    for maker in parts:
        w = maker.workload
        if maker.output == array and isinstance(w, Map) and w.fold == fold and w.over == "n":
            return maker if w.finished == SUM and _same_shape(maker, part) else None
    return None
