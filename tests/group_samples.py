"""Groups for tests: drawn at random, and what they should give, by numpy alone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import numpy as np

import anatune as at
from anatune.errors import WorkloadError
from anatune.model.candidates import best
from anatune.model.maps import best_map
from anatune.plan import Storage
from anatune.plan.group import AloneStage, Blocks, GroupPlan, RowsStage
from anatune.workload.dtypes import is_float, numpy_dtype
from anatune.workload.group import Group, Step
from anatune.workload.maps_reference import map_reference
from anatune.workload.matmul import Matmul
from anatune.workload.reference import reference, stored_as
from anatune.workload.tensor import Tensor

EXPRESSIONS = (
    "relu(x)", "x * 0.5 + y", "x + bias[n]", "x * row[m]", "sigmoid(x) * y", "x - s[0]",
    "x * gain[n] + bias[n]", "tanh(x)", "max(x, y)", "abs(x) + 1", "x + a", "x * k - c",
)  # fmt: skip
"""`a`, `b`, `c` and `k` are names like others here; in an epilogue they are not."""

EPILOGUES = (
    "", "", "bias+relu", "c * 0.25", "c + r[m, n]", "c * row[m]", "tanh(c) + s", "c + x[m, n] + x2"
)

STENCILS = (
    ("x[m-1, n] + x[m+1, n]", 2, 0), ("x[m, n+1] - x[m, n]", 0, 1), ("x[m+1, n] * 2", 0, 0),
    ("x[m, n] + x[m+1, n-1] * y[m, n+1] + y[m, n] + bias[n+1]", 1, 1), ("x + y[m+1, n] - y", 0, 0),
)  # fmt: skip
"""With how many rows and columns more x has than the result."""

FINISHES = ("", "c * 0.125", "sqrt(abs(c) + 1)", "c * w[m]")


@dataclass
class Draft:
    """A group in the making: steps so far, and what later ones may read."""

    random: Random
    most: int
    dtypes: tuple[str, ...]
    steps: dict[str, Any] = field(default_factory=dict)
    made: dict[str, Tensor] = field(default_factory=dict)

    def add(self, workload: Any, sources: dict[str, str]) -> None:
        name = f"s{len(self.steps)}"
        self.steps[name] = (workload, sources)
        self.made[name] = workload.output

    def like(self, tensor: Tensor) -> list[str]:
        """What could stand for an operand."""
        return [
            name for name, t in self.made.items()
            if (t.dtype, t.elements) == (tensor.dtype, tensor.elements)
        ]  # fmt: skip

    def wire(self, workload: Any, sources: dict[str, str], likely: float = 0.6) -> None:
        """Add it; operands that fit an earlier result are often that."""
        found = dict(sources)
        for operand, tensor in workload.operands.items():
            able = self.like(tensor)
            if operand not in found and able and self.random.random() < likely:
                found[operand] = self.random.choice(able)
        self.add(workload, found)


def random_group(random: Random, steps: int = 4, most: int = 40, dtypes=("float32",)) -> Group:
    """Some steps that read each other's results wherever these fit."""
    draft = Draft(random, most, dtypes)
    while len(draft.steps) < steps:
        try:
            _grow(draft)
        except WorkloadError:  # an expression that does not go with the type
            continue
    read = {source for _, sources in draft.steps.values() for source in sources.values()}
    outputs = [name for name in draft.steps if name not in read or random.random() < 0.15]
    return at.group(draft.steps, outputs=outputs)


def _grow(draft: Draft) -> None:
    random = draft.random
    if not draft.made:
        _first(draft)
        return
    name = random.choice([*draft.made][-2:])
    kinds = [_product, _product, _element, _element, _element, _fold, _softmax, _right_factor,
             _heads, _stencil, _scan]  # fmt: skip
    random.choice(kinds)(draft, name, draft.made[name])


def _first(draft: Draft) -> None:
    random = draft.random
    m, n, k = (random.randint(1, draft.most) for _ in "mnk")
    dtype = random.choice(draft.dtypes)
    if random.random() < 0.3:
        draft.add(at.elementwise(random.choice(EXPRESSIONS), (m, n), dtype=dtype), {})
        return
    batch = random.choice((1, 1, 2, 3))
    draft.add(at.matmul(m, n, k, dtype=dtype, batch=batch, **_layout(random, batch)), {})


def _layout(random: Random, batch: int) -> dict[str, Any]:
    names = ["trans_a", "trans_b"] + (["broadcast_a", "broadcast_b"] if batch > 1 else [])
    chosen = {name: random.random() < 0.3 for name in names}
    if random.random() < 0.3:
        chosen["alpha"] = random.choice((2, -1))
    return chosen


def _rows(tensor: Tensor) -> tuple[int, int]:
    """Of the array as rows of its last axis."""
    columns = tensor.shape[-1] if tensor.shape else 1
    return tensor.elements // columns, columns


def _product(draft: Draft, name: str, tensor: Tensor) -> None:
    """A product whose A is the result, as one or as a batch."""
    random = draft.random
    rows, k = _rows(tensor)
    batch = random.choice([b for b in (1, 1, 1, 2, 3, 4) if rows % b == 0])
    options = {**_layout(random, batch), "broadcast_a": False, "epilogue": _epilogue(random)}
    if random.random() < 0.8:
        options["trans_a"] = False
    m, k = (k, rows // batch) if options["trans_a"] else (rows // batch, k)
    n = random.choice((k, random.randint(1, draft.most)))
    if batch > 1 and random.random() < 0.3:
        options |= {"ldc": batch * n, "stride_c": n}  # heads side by side
    draft.wire(at.matmul(m, n, k, dtype=tensor.dtype, batch=batch, **options), {"a": name})


def _heads(draft: Draft, name: str, tensor: Tensor) -> None:
    """Products of parts of the rows, which lie side by side."""
    random = draft.random
    rows, columns = _rows(tensor)
    heads = random.choice([h for h in (1, 2, 3, 4, 5) if columns % h == 0])
    n, k = random.randint(1, draft.most), columns // heads
    laid = {"lda": columns, "stride_a": k, "ldc": heads * n, "stride_c": n} if heads > 1 else {}
    w = at.matmul(rows, n, k, batch=heads, dtype=tensor.dtype, trans_b=True, **laid)
    draft.wire(w, {"a": name})


def _right_factor(draft: Draft, name: str, tensor: Tensor) -> None:
    """A product whose B is the result."""
    random = draft.random
    k, n = _rows(tensor)
    trans_b = random.random() < 0.5
    k, n = (n, k) if trans_b else (k, n)
    m = random.randint(1, draft.most)
    dtype = "uint8" if tensor.dtype == "int8" and random.random() < 0.3 else tensor.dtype
    w = at.matmul(m, n, k, dtype=dtype, dtype_b=tensor.dtype, trans_b=trans_b)
    draft.wire(w, {"b": name})


def _element(draft: Draft, name: str, tensor: Tensor) -> None:
    random = draft.random
    shape = _rows(tensor) if random.random() < 0.8 else tensor.elements
    out = random.choice((None, None, None, "float32", *draft.dtypes))
    w = at.elementwise(random.choice(EXPRESSIONS), shape, dtype=tensor.dtype, out_dtype=out)
    first = next(op for op, t in w.operands.items() if t.elements == tensor.elements)
    draft.wire(w, {first: name})


def _fold(draft: Draft, name: str, tensor: Tensor) -> None:
    random = draft.random
    function = random.choice(("sum", "max", "min", "mean"))
    finish = random.choice(FINISHES) if tensor.dtype != "float64" else ""
    each = random.choice(("x", "x * x", "x * y"))
    axis = random.choice((-1, -1, -1, 0))
    if axis == 0:
        finish = finish.replace("[m]", "[n]")
    w = at.reduce(function, _rows(tensor), each, axis=axis, finish=finish, dtype=tensor.dtype)
    draft.wire(w, {"x": name})


def _softmax(draft: Draft, name: str, tensor: Tensor) -> None:
    text = draft.random.choice(("x", "x * 0.5", "x + mask[n]"))
    draft.wire(at.softmax(*_rows(tensor), text, dtype=tensor.dtype), {"x": name})


def _stencil(draft: Draft, name: str, tensor: Tensor) -> None:
    rows, columns = _rows(tensor)
    text, down, right = draft.random.choice(STENCILS)
    shape = (rows - down, columns - right)
    draft.wire(at.stencil(text, shape, dtype=tensor.dtype), {"x": name})


def _scan(draft: Draft, name: str, tensor: Tensor) -> None:
    random = draft.random
    step = random.choice(("sum", "max", "c * 0.5 + x", "c * 0.5 + x * a"))
    finish = random.choice(("", "", "c * 0.25 + bias[n]", "c - r[m]"))
    axis = random.choice((0, -1, -1))
    w = at.scan(step, _rows(tensor), axis=axis, finish=finish, dtype=tensor.dtype)
    draft.wire(w, {"x": name})


def _epilogue(random: Random) -> str:
    return random.choice(EPILOGUES)


def drawn_by_name(group: Group, seed: int = 0) -> dict[str, np.ndarray]:
    """Inputs around 1 in size, whole numbers among integers."""
    generator = np.random.default_rng(seed)
    drawn = {}
    for name, tensor in group.inputs.items():
        dtype = numpy_dtype(tensor.dtype)
        if is_float(tensor.dtype):
            values = generator.uniform(-1, 1, tensor.shape)
        else:
            values = generator.integers(0 if tensor.dtype == "uint8" else -9, 10, tensor.shape)
        drawn[name] = np.asarray(values).astype(dtype)
    return drawn


def computed(group: Group, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every result in float64, stored as its type wherever that is not float32 or wider."""
    made: dict[str, np.ndarray] = {}
    memory = {name: laid_out(inputs[name], tensor) for name, tensor in group.inputs.items()}
    for step in group.steps:
        w = step.workload
        operands = {name: view(memory[source], w.operands[name]) for name, source in step.sources}
        value = reference(w, operands) if isinstance(w, Matmul) else map_reference(w, operands)
        wide = w.out_dtype in ("float32", "float64")
        made[step.name] = value if wide else stored_as(str(w.out_dtype), value)
        memory[step.name] = laid_out(made[step.name], w.output)
    return made


def laid_out(array: np.ndarray, tensor: Tensor) -> np.ndarray:
    """Memory in which ``tensor`` is ``array``."""
    memory = np.zeros(tensor.span, array.dtype)
    view(memory, tensor)[...] = array.reshape(tensor.shape)
    return memory


def view(memory: np.ndarray, tensor: Tensor, offset: int = 0) -> np.ndarray:
    """``tensor`` in ``memory``, so many elements behind its beginning."""
    strides = [step * memory.itemsize for step in tensor.strides]
    return np.lib.stride_tricks.as_strided(memory[offset:], tensor.shape, strides)


def with_step(group: Group, name: str, workload: Any) -> Group:
    """``group`` but for what one of its steps computes."""
    steps = (
        Step(s.name, workload, s.sources) if s.name == name else s for s in group.steps
    )
    return Group(tuple(steps), group.outputs)


def longest_blocks(group: Group) -> Blocks | None:
    """The most neighbours that can be computed block by block."""
    names = [step.name for step in group.steps]
    runs = [
        Blocks(group, tuple(names[a:b])) for b in range(len(names), 0, -1) for a in range(b)
    ]  # fmt: skip
    able = [run for run in runs if not run.why_not]
    return max(able, key=lambda run: len(run.names), default=None)


def blocked(
    profile: Any, group: Group, random: Random, threads: int, rows: int | None = None,
    b: Storage | None = None,
) -> GroupPlan:  # fmt: skip
    """A plan in which whatever can be computed block by block is, of any height; any storages."""
    stages: list[Any] = []
    rest = list(group.steps)
    while rest:
        count = next(
            n for n in range(len(rest), 0, -1)
            if n == 1 or not Blocks(group, tuple(s.name for s in rest[:n])).why_not
        )  # fmt: skip
        run, rest = rest[:count], rest[count:]
        blocks = Blocks(group, tuple(step.name for step in run))
        if blocks.why_not:
            stages.append(AloneStage(step=run[0].name, plan=plan_of(profile, run[0].workload)))
        else:
            stages.append(rows_stage(profile, blocks, random, threads, rows, b))
    return GroupPlan(workload=group, absorbed=(), stages=tuple(stages))


def rows_stage(
    profile: Any, blocks: Blocks, random: Random, threads: int, rows: int | None = None,
    b: Storage | None = None,
) -> RowsStage:  # fmt: skip
    anyhow = (1, random.randint(1, blocks.rows_of_item), blocks.rows_of_item)
    high = min(rows or random.choice(anyhow), blocks.rows_of_item)
    plans = tuple(
        plan_of(profile, blocks.workload(step, high), b or random.choice(list(Storage)))
        for step in blocks.steps
    )  # fmt: skip
    return RowsStage(names=blocks.names, plans=plans, rows=high, threads=threads)


def plan_of(profile: Any, workload: Any, b: Storage | None = None) -> Any:
    """A plan of one thread, the best of those that store B so, or at all."""
    if not isinstance(workload, Matmul):
        return best_map(profile, workload, 1, 0.0)[0]
    ahead = b is Storage.PACKED_AHEAD
    ranked = [plan for plan, _ in best(profile, replace(workload, constant_b=ahead), 1)]
    able = [plan for plan in ranked if plan.may_store(plan.a, b)] if b else []
    return replace(able[0], b=b) if able else plan_of(profile, workload) if b else ranked[0]
