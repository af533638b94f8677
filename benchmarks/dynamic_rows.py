"""What dynamic.py measures and keeps: lines of its list, cases, points, rows, and their JSON lines.

Nothing here measures.
"""

from __future__ import annotations

import csv
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import common

import anatune as at
from anatune.errors import AnatuneError, OptionError, require

LIST = Path(__file__).resolve().parent / "dynamic.csv"
"""Products one extent of which is a range."""

COLUMNS = ("name", "dim", "low", "high", "m", "n", "k", "batch", "note")

FAMILY, STATIC, TVM_DYNAMIC = "family", "static", "tvm dynamic"
"""Who takes turns besides the libraries: the kernel for the whole range, the one tuned for the very
shape, and what TVM compiles for a symbolic extent without a schedule."""


@dataclass(frozen=True)
class Line:
    """C[m, n] = A[m, k] B[k, n], ``batch`` times, with ``dim`` from ``low`` to ``high``.

    Extents are numbers, the dim, or products of both such as "49*b".
    """

    name: str
    dim: str
    low: int
    high: int
    m: str
    n: str
    k: str
    batch: int = 1
    note: str = ""

    @property
    def family(self) -> at.Matmul:
        dim = at.Dim(self.dim, self.low, self.high)
        m, n, k = (_extent(text, dim) for text in (self.m, self.n, self.k))
        return at.matmul(m, n, k, batch=self.batch)

    def member(self, value: int) -> at.Matmul:
        return self.family.at(**{self.dim: value})

    def __str__(self) -> str:
        many = f"{self.batch} times " if self.batch > 1 else ""
        span = f"{self.dim} from {self.low} to {self.high}"
        return f"{self.name} {many}{self.m}x{self.n}x{self.k}, {span}"


def _extent(text: str, dim: at.Dim) -> Any:
    found: Any = 1
    for factor in text.split("*"):
        found = found * (dim if factor.strip() == dim.name else int(factor))
    return found


def read_lines(path: str | Path = LIST) -> list[Line]:
    """The lines of a CSV file with the columns `COLUMNS`; ``batch`` may be missing.

    Raises:
        OptionError: another column is missing, or a line is no family of products.
    """
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        header = tuple(reader.fieldnames or ())
        missing = set(COLUMNS) - set(header) - {"batch"}
        require(not missing, f"{path}: columns {header}, not {COLUMNS}", OptionError)
        return [_line(fields, f"{path}:{reader.line_num}") for fields in reader]


def _line(fields: Mapping[str, Any], where: str) -> Line:
    try:
        texts = (fields[name] for name in ("name", "dim"))
        low, high, batch = (int(fields.get(name, 1)) for name in ("low", "high", "batch"))
        extents = (fields[name].strip() for name in "mnk")
        line = Line(*texts, low, high, *extents, batch, fields["note"] or "")
        require(bool(line.family.dims), f"{where}: no extent has {line.dim} in it", OptionError)
    except (TypeError, ValueError, AttributeError, AnatuneError) as error:
        raise OptionError(f"{where}: {error}") from None
    return line


@dataclass(frozen=True)
class Case:
    """One line on some threads."""

    line: Line
    threads: int

    def __str__(self) -> str:
        return f"{self.line}, threads={self.threads}"


@dataclass(frozen=True)
class Point:
    """One value of the range: samples, in seconds per call and in the order of the turns.

    Attributes:
        samples_s: by `FAMILY`, `STATIC`, `TVM_DYNAMIC`, or "library, setting".
        notes: why somebody of these has none.
    """

    value: int
    flops: int
    static_plan: str = ""
    samples_s: dict[str, tuple[float, ...]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def seconds(self, name: str) -> float | None:
        """Median of the samples; None where there are none."""
        samples = self.samples_s.get(name)
        return statistics.median(samples) if samples else None

    def best_library(self) -> str | None:
        others = [name for name in self.samples_s if name not in (FAMILY, STATIC, TVM_DYNAMIC)]
        timed = [name for name in others if self.samples_s[name]]
        return min(timed, key=lambda name: self.seconds(name) or 0.0, default=None)

    def ratio(self, name: str | None) -> float | None:
        """Speed of the family's kernel over that of ``name``."""
        ours = self.seconds(FAMILY)
        other = self.seconds(name) if name else None
        return other / ours if ours and other else None


@dataclass(frozen=True)
class Step:
    """A value and the next one, timed in turns: what one more costs."""

    value: int
    why: str  # "cut", "tile" or "between"
    flops: tuple[int, int]
    samples_s: tuple[tuple[float, ...], tuple[float, ...]]

    @property
    def excess(self) -> float:
        """How far the time of the second is outside of what its work explains, as a factor less 1.

        Explained is all from no more time (memory and calls take the same) to time in proportion to
        the operations.
        """
        before, after = map(statistics.median, self.samples_s)
        grown, work = after / before, self.flops[1] / self.flops[0]
        return max(grown / work, 1 / grown, 1.0) - 1


@dataclass
class Row:
    """What came out of a case; where ``note`` says why, it is not whole.

    Attributes:
        budget: of the tuning of the static kernels.
        cuts: first value and variant of each region.
        plans: the variants, from number 1 on.
        build_s: wall-clock of `tune` in a new process that has no kernels.
        left_out: library -> why.
    """

    case: Case
    run: str
    budget: str = ""
    cuts: list[tuple[int, int]] = field(default_factory=list)
    plans: list[str] = field(default_factory=list)
    build_s: float | None = None
    code_bytes: int | None = None
    points: list[Point] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    wall_s: float = 0.0
    note: str = ""

    def ratios(self, name: str | None = None) -> dict[str, float | None]:
        """Speed over ``name``, over the best library if None, by value; values at which there is
        none are left out.

        So are tiny ones beside libraries: these are called from Python, which takes longer than
        they compute, and our kernel in a loop of C.
        """
        found = {}
        for point in self.points:
            other = name or point.best_library()
            judged = name is not None or point.flops > common.TINY_FLOPS
            if judged and other in point.samples_s:
                label = f"{self.case.line.name} {self.case.line.dim}={point.value}"
                found[label] = point.ratio(other)
        return found


class Log(common.Log):
    """The rows of dynamic.py."""

    benchmark, kinds = "dynamic.py", ("run", "row")

    def __init__(self, path: Path | None, resume: bool) -> None:
        self.rows: dict[Case, Row] = {}
        super().__init__(path, resume)

    def missing(self, wanted: Iterable[Case]) -> list[Case]:
        """Those without a row, or with one that failed."""
        return [case for case in wanted if case not in self.rows or self.rows[case].note]

    def add_row(self, row: Row) -> None:
        self._add({"kind": "row", **asdict(row)})

    def _take(self, line: dict[str, Any]) -> None:
        if line["kind"] == "row":
            row = _row(line)
            self.rows[row.case] = row


def _row(line: Mapping[str, Any]) -> Row:
    given = {name: value for name, value in line.items() if name != "kind"}
    case = given["case"]
    given["case"] = Case(Line(**case["line"]), case["threads"])
    given["cuts"] = [(first, variant) for first, variant in line["cuts"]]
    given["points"] = [
        Point(**{**p, "samples_s": {n: tuple(s) for n, s in p["samples_s"].items()}})
        for p in line["points"]
    ]
    given["steps"] = [
        Step(s["value"], s["why"], _two(s["flops"]), _two(map(tuple, s["samples_s"])))
        for s in line["steps"]
    ]
    return Row(**given)


def _two(values: Iterable[Any]) -> tuple[Any, Any]:
    first, second = values
    return first, second


def chosen(lines: Sequence[Line], names: str | None) -> list[Line]:
    """The lines named. Raises OptionError for a name that is not in the list."""
    known = {line.name: line for line in lines}
    wanted = list(known) if names is None else names.split(",")
    unknown = next((name for name in wanted if name not in known), None)
    require(unknown is None, f"rows = {unknown!r}: there are {', '.join(known)}", OptionError)
    return [known[name] for name in wanted]
