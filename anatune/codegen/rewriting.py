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
    needed = set(results)
    kept: list[Part] = []
    for part in reversed([_softmax(part, parts) or part for part in parts]):
        if part.output in needed:
            needed |= {source.array for source in part.sources.values()}
            kept.insert(0, part)
    return kept


def _softmax(part: Part, parts: Sequence[Part]) -> Part | None:
    """exp(x - M) / S with M the largest of a row's x and S the sum of a row's exp(x - M)."""
    w, share = part.workload, part.element
    if not isinstance(w, Map) or w.fold or share is None:
        return None
    quotient = _arguments(share, "div")
    powers = _expanded(quotient[0], part, parts) if quotient else None
    exponent = _arguments(powers, "exp")
    difference = _arguments(exponent[0], "sub") if exponent else ()
    if not quotient or not difference or powers is None:
        return None
    x, largest = difference
    sums = _fold_of(quotient[1], "sum", part, parts)
    tops = _fold_of(largest, "max", part, parts)
    if sums is None or tops is None or sums.element is None:
        return None
    if _expanded(sums.element, sums, parts) != powers or tops.element != x:
        return None
    try:
        made = replace(w, fold=SOFTMAX, each=array_text(x, w.dtype))
    except WorkloadError:  # such as a number in the place of x
        return None
    if made.element != x or made.held != w.held:
        return None
    sources = {op.name: _source(op, parts) for op in x.operands}
    return replace(part, workload=made, element=x, sources=sources)


def _arguments(node: Expression | None, function: str) -> tuple[Expression, ...]:
    """The arguments of ``function``, if that is what ``node`` is; else none."""
    is_it = isinstance(node, Apply) and node.function == function
    return node.parts if is_it and node is not None else ()


def _source(operand: Operand, parts: Sequence[Part]) -> Source:
    """What an operand sees: one name means one thing in all of a function."""
    return next(p.sources[operand.name] for p in parts if operand.name in p.sources)


def _expanded(node: Expression, part: Part, parts: Sequence[Part]) -> Expression:
    """What an operand with all elements holds, where a map of the same shape computes it."""
    if not isinstance(node, Operand) or node.axes != ARRAY:
        return node
    array = _source(node, parts).array
    for maker in parts:
        w = maker.workload
        if maker.output == array and isinstance(w, Map) and not w.fold and _alike(maker, part):
            return maker.element or node
    return node


def _alike(a: Part, b: Part) -> bool:
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
        if maker.output == array and isinstance(w, Map) and (w.fold, w.over) == (fold, "n"):
            return maker if w.finished == SUM and _alike(maker, part) else None
    return None
