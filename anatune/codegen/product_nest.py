"""Loops that add products up, found in any PrimFunc whatever their names and order (rank 5).

A nest matches by what its expressions depend on, not by what it is called or how it is indexed::

    for (all loops, in any order):  C[...] = C[...] + x * y

Loops that C and x see, but not y, run along rows; those that C and y see along columns; those that
C does not see are the sum's; those that all three see are products of a batch. x and y may be any
expressions of the kernel's type. The first product may find C set to a constant, in the same nest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir.expr import TensorLoad


class NoMatch(Exception):
    """Why a nest is none; the message says it."""


@dataclass(frozen=True)
class Loop:
    """A loop's variable and range."""

    var: Any
    start: Any
    extent: Any


@dataclass(frozen=True)
class ProductNest:
    """A nest that matches; ``x`` sees rows, ``y`` columns. ``init``: what C is set to, or None."""

    batch: tuple[Loop, ...]
    rows: tuple[Loop, ...]
    columns: tuple[Loop, ...]
    steps: tuple[Loop, ...]
    store: Any
    x: Any
    y: Any
    init: Any


def match(outermost: Any) -> ProductNest:
    """The nest of the loop ``outermost`` and all loops in it. Raises NoMatch."""
    loops: list[Loop] = []
    stmt, init, init_depth = _descend(outermost, loops), None, None
    if isinstance(stmt, tirx.SeqStmt):
        if len(stmt.seq) != 2:
            raise NoMatch(f"{len(stmt.seq)} statements in its innermost loop, not one sum")
        init, stmt = stmt.seq
        init_depth = len(loops)
        stmt = _descend(stmt, loops)
    if not isinstance(stmt, tirx.BufferStore):
        raise NoMatch(f"its body is {type(stmt).__name__}, not one store of a sum")
    x, y = _product(stmt)
    nest = _sorted(loops, stmt, x, y)
    value = None if init is None else _constant(init, init_depth or 0, loops, nest)
    return ProductNest(**{**vars(nest), "init": value})


def _descend(stmt: Any, loops: list[Loop]) -> Any:
    """What is inside of the loops that hold nothing but each other."""
    while isinstance(stmt, tirx.For):
        if stmt.thread_binding is not None:
            raise NoMatch(f"loop {stmt.loop_var.name} runs on threads of a GPU")
        if stmt.step is not None and not _is(stmt.step, 1):
            raise NoMatch(f"loop {stmt.loop_var.name} goes in steps of {stmt.step}")
        loops.append(Loop(stmt.loop_var, stmt.min, stmt.extent))
        stmt = stmt.body
    return stmt


def _product(store: Any) -> tuple[Any, Any]:
    """The factors of C[...] = C[...] + x * y."""
    total = store.value
    sides = (total.a, total.b) if isinstance(total, tirx.Add) else ()
    for old, new in (sides, sides[::-1]) if sides else ():
        if _reads(old, store) and isinstance(new, tirx.Mul):
            if _touches(new, store.buffer):
                raise NoMatch(f"its product reads {store.buffer.name}, which it writes")
            return new.a, new.b
    name = store.buffer.name
    raise NoMatch(f"it stores {total}, not a sum {name}[...] + x * y")


def _reads(value: Any, store: Any) -> bool:
    """Whether ``value`` is the very element that ``store`` writes."""
    same = isinstance(value, TensorLoad) and value.source.same_as(store.buffer)
    pairs = zip(value.indices, store.indices) if same else ()
    return same and all(tvm_ffi.structural_equal(a, b) for a, b in pairs)


def _touches(value: Any, buffer: Any) -> bool:
    found = []

    def look(load: Any) -> None:
        found.append(load.source.same_as(buffer))

    tvm_ffi.structural_walk(value, (TensorLoad, look))
    return any(found)


def seen_by(values: Iterable[Any], loops: Sequence[Loop]) -> list[Loop]:
    """Those of ``loops`` that ``values`` depend on."""
    used: list[Any] = []
    for value in values:
        tvm_ffi.structural_walk(value, (tirx.Var, used.append))
    return [loop for loop in loops if any(loop.var.same_as(var) for var in used)]


def _sorted(loops: list[Loop], store: Any, x: Any, y: Any) -> ProductNest:
    of_c = seen_by(store.indices, loops)
    of_x, of_y = seen_by([x], loops), seen_by([y], loops)
    for loop in loops:
        if seen_by([loop.extent, loop.start], loops):
            raise NoMatch(f"loop {loop.var.name}: its range depends on another loop")
    if of_c and of_c[-1:] and _along_last(store, of_c) in of_x:
        if _along_last(store, of_c) not in of_y:  # columns are what lies side by side in C
            x, y, of_x, of_y = y, x, of_y, of_x
    parts: dict[str, list[Loop]] = {"batch": [], "rows": [], "columns": [], "steps": []}
    for loop in loops:
        parts[_part(loop in of_c, loop in of_x, loop in of_y)].append(loop)
    _check_parts(parts, store, of_c)
    kinds = {name: tuple(part) for name, part in parts.items()}
    return ProductNest(**kinds, store=store, x=x, y=y, init=None)


def _part(in_c: bool, in_x: bool, in_y: bool) -> str:
    if not in_c:
        return "steps"
    if in_x and in_y:
        return "batch"
    return "rows" if in_x else "columns"


def _along_last(store: Any, of_c: list[Loop]) -> Loop | None:
    """The loop that runs along what lies side by side in C."""
    found = seen_by(store.indices[-1:], of_c)
    return found[0] if found else None


def _check_parts(parts: dict[str, list[Loop]], store: Any, of_c: list[Loop]) -> None:
    what = {"rows": "only one factor", "columns": "only the other factor", "steps": "only factors"}
    for name, sees in what.items():
        also = "" if name == "steps" else f" and {store.buffer.name}"
        if not parts[name]:
            raise NoMatch(f"no loop is seen by {sees}{also}, so there are no {name} of a product")
    for index in store.indices:
        loops = seen_by([index], of_c)
        if len(loops) > 1 or (loops and not _is_plain(index, loops[0])):
            raise NoMatch(f"{store.buffer.name}'s subscript {index} is not a loop's variable")
    for loop in of_c:
        if sum(bool(seen_by([index], [loop])) for index in store.indices) > 1:
            raise NoMatch(f"loop {loop.var.name} is in two subscripts of {store.buffer.name}")


def _is_plain(index: Any, loop: Loop) -> bool:
    """Whether ``index`` is the loop's variable, or that and something that does not change."""
    if isinstance(index, tirx.Var):
        return True
    if not isinstance(index, (tirx.Add, tirx.Sub)):
        return False
    first, second = (bool(seen_by([side], [loop])) for side in (index.a, index.b))
    if second and isinstance(index, tirx.Sub):
        return False
    return first != second and _is_plain(index.a if first else index.b, loop)


def _constant(init: Any, depth: int, loops: list[Loop], nest: ProductNest) -> Any:
    """What C is set to before its first product, once for each element. Raises NoMatch."""
    name = nest.store.buffer.name
    before, after = loops[:depth], loops[depth:]
    if isinstance(init, tirx.IfThenElse) and init.else_case is None:
        _check_first(init.condition, nest)
        init = init.then_case
    elif not all(loop in nest.steps for loop in after) or any(x in nest.steps for x in before):
        raise NoMatch(f"{name} is set within the loops of its sum, or not once for each element")
    if not isinstance(init, tirx.BufferStore) or not _reads(
        tirx.BufferLoad(init.buffer, init.indices), nest.store
    ):
        raise NoMatch(f"its first statement does not set the element of {name} that it adds to")
    if not isinstance(init.value, (tirx.FloatImm, tirx.IntImm)):
        raise NoMatch(f"{name} is set to {init.value}, not to a constant")
    return init.value


def _check_first(condition: Any, nest: ProductNest) -> None:
    """Raise NoMatch unless ``condition`` holds for the first step of the sum and no other."""
    left, terms = [condition], []
    while left:
        term = left.pop()
        left += [term.a, term.b] if isinstance(term, tirx.And) else []
        terms += [] if isinstance(term, tirx.And) else [term]
    first = [
        loop for loop in nest.steps for term in terms
        if isinstance(term, tirx.EQ) and loop.var.same_as(term.a)
        and tvm_ffi.structural_equal(term.b, loop.start)
    ]  # fmt: skip
    longer = [x for x in nest.steps if not _is(x.extent, 1)]
    if len(first) != len(terms) or not all(loop in first for loop in longer):
        raise NoMatch(f"{nest.store.buffer.name} is set where {condition}, not before its sum")


def _is(value: Any, number: int) -> bool:
    return isinstance(value, tirx.IntImm) and int(value.value) == number
