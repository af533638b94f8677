"""The plan of an element-wise workload, a reduction, a scan or a softmax (rank 3)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from anatune.errors import require
from anatune.plan.nouns import CodeTarget
from anatune.plan.plain import build, json_fields
from anatune.workload.maps import FOLDS, SCAN, SOFTMAX, Map


@dataclass(frozen=True, kw_only=True)
class MapPlan:
    """Everything that such a kernel depends on.

    Work is shared out in units: chunks of ``lanes * unroll`` neighbouring elements, row by row;
    whole rows where these are folded or normalised, ``lanes`` of them where they are scanned;
    columns of a chunk where columns are folded or scanned.
    Each thread has its share of the units, one after the other.
    """

    workload: Map
    target: CodeTarget
    lanes: int  # elements of a vector, of the type that is computed in
    unroll: int  # vectors that a turn of the inner loop works on; so many chains where it folds
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("lanes", "unroll", "threads"):
            value = getattr(self, name)
            whole = isinstance(value, int) and value >= 1
            require(whole, f"{name} = {value!r}: a whole number from 1 on")

    @property
    def chunk(self) -> int:
        """Elements of a whole turn of the inner loop."""
        return self.lanes * self.unroll

    @property
    def flat(self) -> bool:
        """Whether rows need not be told apart: every array has all elements, or is one number.

        One with columns around the result's has longer rows, which matters where it has several.
        """
        w = self.workload
        rows_alike = w.m == 1 or all(len(op.axes) != 1 for op in w.element.operands)
        arrays = [w.operands[op.name] for op in w.element.operands if op.axes == ("m", "n")]
        one_length = all(t.shape[-1] in (w.n, t.elements) for t in arrays)
        return not w.fold and rows_alike and one_length

    @property
    def extents(self) -> tuple[int, int]:
        """Rows and columns of the loops; one row where rows need not be told apart."""
        w = self.workload
        return (1, w.elements) if self.flat else (w.m, w.n)

    @property
    def chunks(self) -> int:
        """Chunks of a row; the last one may be partial."""
        return -(-self.extents[1] // self.chunk)

    @property
    def down(self) -> bool:
        """Whether a unit runs down all rows."""
        return self.workload.fold in (*FOLDS, SCAN) and self.workload.over == "m"

    @property
    def units(self) -> int:
        """What can be shared out."""
        w = self.workload
        if self.down:
            return self.chunks
        if w.fold == SCAN:
            return -(-w.m // self.lanes)
        return w.m if w.fold else self.extents[0] * self.chunks

    @property
    def unit(self) -> str:
        """What a unit is, for people."""
        w = self.workload
        if self.down:
            return f"{self.chunk} columns"
        if w.fold == SCAN:
            return f"{self.lanes} rows"
        return "row" if w.fold else f"{self.chunk} elements"

    @property
    def decided(self) -> str:
        """The plan, for people, beside others of the workload."""
        return str(self)

    def to_json(self) -> str:
        """The plan as one line of JSON that `from_json` reads back."""
        return json.dumps({"kind": "map", **asdict(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> MapPlan:
        """The plan that `to_json` wrote. Raises IllegalPlan as `GemmPlan.from_json` does."""
        plan: MapPlan = build(cls, json_fields(text, "map"), "plan")
        return plan

    def __str__(self) -> str:
        threads = f"{self.threads} threads" if self.threads > 1 else "1 thread"
        how = "rows" if self.workload.fold == SOFTMAX else "chunks"
        return f"{how} of {self.unroll} x {self.lanes} lanes, {threads}"
