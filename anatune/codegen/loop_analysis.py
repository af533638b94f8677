"""A function's loops as nouns that the model can price: turns, work, accesses (rank 5).

Extents that depend on sizes are evaluated for the sizes asked for, those that depend on other loops
in the middle of these; so are conditions, whose other branch then counts for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tvm import tirx
from tvm.ir import Call
from tvm.ir.expr import TensorLoad

from anatune.codegen.loop_guards import BLOCK, thread_tag
from anatune.codegen.loop_numbers import number
from anatune.codegen.loop_terms import COMPARISONS, Terms, called, nodes
from anatune.plan.affine import Affine
from anatune.plan.loops import Access, Loop, LoopNest, Work

KINDS = {0: "serial", 1: "parallel", 2: "vectorized", 3: "unrolled", 4: "thread"}
"""TVM's kinds of loops by number."""

GROUPED = (tirx.Add, tirx.Sub, tirx.Mul, tirx.Div, tirx.Max, tirx.Min, Call)


def nest_of(func: Any, sizes: Mapping[str, int], default: int) -> LoopNest:
    """The loops of ``func``; a size that is not in ``sizes`` is ``default``."""
    values, used = _sizes(func, sizes, default)
    reader = _Reader(Terms(), values)
    return LoopNest(sizes=tuple(used.items()), body=tuple(reader.read(func.body)))


def noted_loops(
    func: Any, sizes: Mapping[str, int], default: int
) -> dict[int, tuple[Any, Loop]]:
    """TVM's loops that run for these sizes, each with its noun, by the loop's hash."""
    values, _ = _sizes(func, sizes, default)
    reader = _Reader(Terms(), values)
    tuple(reader.read(func.body))
    return reader.noted


def symbols(func: Any) -> dict[int, str]:
    """The size variables of a function's parameters, by hash."""
    found: dict[int, str] = {}
    for param in func.params:
        if tirx.is_buffer_var(param):
            for dim in (*param.shape, *param.strides):
                found.update({hash(var): str(var.name) for var in nodes(dim, tirx.Var)})
        elif str(getattr(param.ty, "dtype", "")).startswith("int"):
            found.setdefault(hash(param), str(param.name))
    return found


def _sizes(
    func: Any, sizes: Mapping[str, int], default: int
) -> tuple[dict[int, int], dict[str, int]]:
    names = symbols(func)
    values = {key: int(sizes.get(name, default)) for key, name in names.items()}
    return values, {name: values[key] for key, name in names.items()}


@dataclass
class _Reader:
    terms: Terms
    values: dict[int, int]
    inside: list[str] = field(default_factory=list)
    noted: dict[int, tuple[Any, Loop]] = field(default_factory=dict)

    def read(self, stmt: Any) -> Iterator[Loop | Work]:
        if isinstance(stmt, tirx.SeqStmt):
            for part in stmt.seq:
                yield from self.read(part)
        elif isinstance(stmt, tirx.Bind):
            self.terms.bind(stmt.var, stmt.value)
            value = number(stmt.value, self.values)
            if value is not None:
                self.values[hash(stmt.var)] = value
        elif isinstance(stmt, (tirx.AttrStmt, tirx.While)):
            yield from self.read(stmt.body)
        elif isinstance(stmt, tirx.IfThenElse):
            yield from self._branch(stmt)
        elif isinstance(stmt, tirx.For):
            yield from self._loop(stmt)
        elif isinstance(stmt, tirx.BufferStore):
            yield self._work(stmt)

    def _branch(self, stmt: Any) -> Iterator[Loop | Work]:
        yield Work(dtype="int32", guards=comparisons(stmt.condition))
        taken = number(stmt.condition, self.values)
        if taken is None or taken:
            yield from self.read(stmt.then_case)
        elif stmt.else_case is not None:
            yield from self.read(stmt.else_case)

    def _loop(self, stmt: Any) -> Iterator[Loop]:
        low, turns = number(stmt.min, self.values), number(stmt.extent, self.values)
        low, turns = low or 0, 1 if turns is None else turns
        if turns <= 0:
            return
        name = self.terms.name(stmt.loop_var)
        self.values[hash(stmt.loop_var)] = low + (turns - 1) // 2
        self.inside.append(name)
        body = tuple(self.read(stmt.body))
        self.inside.pop()
        kind = "block" if thread_tag(stmt).startswith(BLOCK) else KINDS[int(stmt.kind)]
        loop = Loop(
            name=name,
            turns=float(turns),
            kind=kind,
            independent=independent(stmt, self.terms),
            fixed=isinstance(stmt.extent, tirx.IntImm),
            body=body,
        )
        self.noted[hash(stmt)] = stmt, loop
        yield loop

    def _work(self, store: Any) -> Work:
        counts = {"multiply_adds": 0, "additions": 0, "multiplications": 0, "guards": 0}
        loads: list[Any] = []
        _count(store.value, counts, loads, self.values)
        written = self._access(store.buffer, store.indices, True)
        read = tuple(dict.fromkeys(self._access(b, i, False) for b, i in loads))
        last = self.inside[-1] if self.inside else ""
        same = any(replace(each, writes=True) == written for each in read)
        return Work(
            dtype=str(store.value.ty.dtype).split("x")[0],
            accesses=(written, *read),
            carried=same and written.stride(last) == 0,
            **counts,
        )

    def _access(self, buffer: Any, indices: Any, writes: bool) -> Access:
        places = affine_indices(indices, self.terms)
        scale = [number(s, self.values) for s in strides_of(buffer)]
        strides: dict[str, int] = {}
        offset, affine = 0, True
        for place, step in zip(places, scale, strict=True):
            if place is None or step is None:
                affine = False
                break
            offset += place.constant * step
            for name in self.inside:
                strides[name] = strides.get(name, 0) + place.coefficient(name) * step
        kept = tuple((n, s) for n, s in strides.items() if s) if affine else None
        size = max(1, int(tirx.const(0, str(buffer.dtype)).ty.dtype.bits) // 8)
        return Access(
            buffer=str(buffer.name),
            element_bytes=size,
            writes=writes,
            strides=kept,
            offset=offset,
        )


def affine_indices(indices: Any, terms: Terms) -> list[Affine | None]:
    """Of a vector access, the first element's."""
    firsts = [index.base if isinstance(index, tirx.Ramp) else index for index in indices]
    return [terms.affine(index) for index in firsts]


def strides_of(buffer: Any) -> list[Any]:
    """Elements between neighbours of each dimension."""
    if len(buffer.strides):
        return list(buffer.strides)
    found: list[Any] = [1]
    for dim in list(buffer.shape)[:0:-1]:
        found.insert(0, dim * found[0])
    return found


def comparisons(condition: Any) -> int:
    return len(nodes(condition, *COMPARISONS))


def _count(expr: Any, counts: dict[str, int], loads: list[Any], values: dict[int, int]) -> None:
    """Operations, conditions and loads of a value; indices are left to the address units."""
    if isinstance(expr, TensorLoad):
        loads.append((expr.source, tuple(expr.indices)))
    elif called(expr, "if_then_else") or isinstance(expr, tirx.Select):
        test, yes, no = expr.args if isinstance(expr, Call) else _parts(expr)
        counts["guards"] += comparisons(test)
        taken = number(test, values)
        _count(yes if taken is None or taken else no, counts, loads, values)
    elif isinstance(expr, (tirx.Add, tirx.Sub)) and isinstance(expr.b, tirx.Mul):
        counts["multiply_adds"] += 1
        for part in (expr.a, expr.b.a, expr.b.b):
            _count(part, counts, loads, values)
    elif isinstance(expr, (tirx.Mul, tirx.Div)):
        counts["multiplications"] += 1
        _count(expr.a, counts, loads, values)
        _count(expr.b, counts, loads, values)
    elif isinstance(expr, GROUPED) and not isinstance(expr, Call):
        counts["additions"] += 1
        _count(expr.a, counts, loads, values)
        _count(expr.b, counts, loads, values)
    elif isinstance(expr, Call):
        counts["multiplications"] += 1
        for part in expr.args:
            _count(part, counts, loads, values)
    elif isinstance(expr, (tirx.Cast, tirx.Broadcast)):
        _count(expr.value, counts, loads, values)


def _parts(select: Any) -> tuple[Any, Any, Any]:
    return select.condition, select.true_value, select.false_value


def independent(loop: Any, terms: Terms) -> bool:
    """Whether no turn of ``loop`` writes where another one writes or reads.

    Of each buffer that is written, all accesses must agree in one index, which changes with the
    loop and, of what changes inside it, with the loop alone.
    """
    accesses = accesses_in(loop.body)
    if accesses is None:
        return False
    name = terms.name(loop.loop_var)
    inner = {terms.name(each.loop_var) for each in nodes(loop.body, tirx.For)}
    for buffer in {hash(b) for b, _, writes in accesses if writes}:
        places = [affine_indices(i, terms) for b, i, _ in accesses if hash(b) == buffer]
        if not any(_apart(column, name, inner, terms) for column in zip(*places, strict=True)):
            return False
    return True


def _apart(column: tuple[Affine | None, ...], name: str, inner: set[str], terms: Terms) -> bool:
    first = column[0]
    if first is None or any(place != first for place in column):
        return False
    others = terms.depends(first.without(name))
    return first.coefficient(name) != 0 and not others & {*inner, name}


def accesses_in(stmt: Any) -> list[tuple[Any, Any, bool]] | None:
    """(buffer, indices, whether written) of all accesses; None where others may be made."""
    unclear = (tirx.While, tirx.AllocBuffer, tirx.DeclBuffer, tirx.Bind)
    if nodes(stmt, *unclear) or not all(_computes(call) for call in nodes(stmt, Call)):
        return None
    writes = [(each.buffer, each.indices, True) for each in nodes(stmt, tirx.BufferStore)]
    return writes + [(each.source, each.indices, False) for each in nodes(stmt, TensorLoad)]


COMPUTED = ("if_then_else", "likely", "exp", "sqrt", "tanh", "fabs", "floor", "ceil", "nearbyint",
            "log", "isnan", "erf", "sigmoid", "fma", "pow", "rsqrt", "round", "abs")  # fmt: skip
"""Operators of TVM whose value is all they give."""


def _computes(call: Any) -> bool:
    return any(called(call, name) for name in COMPUTED)
