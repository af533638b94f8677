"""What the benchmarks of fusion keep: workloads, ways to compute them, times, and their JSON lines.

Nothing here measures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import common

from anatune.errors import OptionError, require
from anatune.plan.fusion import Decision
from anatune.units import TIME

UNFUSED = "unfused"
"""The way that computes each workload by itself, one after the other."""

WITHIN = 1.02
"""A pick that takes at most this many times the fastest way's time counts as right."""


@dataclass(frozen=True)
class Case:
    """A workload on some threads; cases of one ``kind`` share a table and its targets."""

    kind: str
    name: str
    threads: int

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}, threads={self.threads}"


@dataclass
class Row:
    """What came out of a case; where ``note`` says why, it is not whole.

    Attributes:
        run: when it was measured.
        pick: the way that the model chose; `UNFUSED` where it left the workloads alone.
        plans: by way, for people.
        predicted_s: by way; those that the model did not cost are left out.
        samples_s: by way, seconds per call in the order of the turns.
        more: what only one benchmark knows.
    """

    case: Case
    run: str
    pick: str = ""
    plans: dict[str, str] = field(default_factory=dict)
    predicted_s: dict[str, float] = field(default_factory=dict)
    samples_s: dict[str, list[float]] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    def expect(
        self, plans: Mapping[str, Any], predicted_s: Mapping[str, float], pick: str
    ) -> None:
        """Take what the model said."""
        self.plans = {way: str(plan) for way, plan in plans.items()}
        self.predicted_s, self.pick = dict(predicted_s), pick

    @cached_property
    def seconds(self) -> dict[str, float]:
        """By way: its fastest turn, as whatever else runs can only slow it down."""
        return {way: min(samples) for way, samples in self.samples_s.items() if samples}

    def faster(self, way: str, than: str) -> float | None:
        """How many times faster one way is than another."""
        mine, other = self.seconds.get(way), self.seconds.get(than)
        return other / mine if mine and other else None

    @property
    def applied(self) -> bool:
        """Whether the model did not leave the workloads alone."""
        return self.pick not in ("", UNFUSED)

    @property
    def gain(self) -> float | None:
        """How many times faster the pick is than computing each by itself."""
        return self.faster(self.pick, UNFUSED)

    @property
    def predicted_gain(self) -> float | None:
        mine, other = self.predicted_s.get(self.pick), self.predicted_s.get(UNFUSED)
        return other / mine if mine and other else None

    @property
    def fastest(self) -> str | None:
        return min(self.seconds, key=lambda way: self.seconds[way], default=None)

    @property
    def behind(self) -> float | None:
        """Times the fastest way's time that the pick takes."""
        return self.faster(self.fastest, self.pick) if self.fastest else None

    def time(self, way: str) -> str:
        """Its time for people."""
        return TIME.show(self.seconds[way]) if way in self.seconds else "-"

    def off(self, way: str) -> float | None:
        """Predicted over measured time."""
        said, found = self.predicted_s.get(way), self.seconds.get(way)
        return said / found if said and found else None


class Log(common.Log):
    """The rows of one benchmark of fusion, by case."""

    kinds = ("run", "row")

    def __init__(self, benchmark: str, path: Path | None, resume: bool) -> None:
        require(path or not resume, "resume: needs --json FILE", OptionError)
        self.benchmark = benchmark
        self.rows: dict[Case, Row] = {}
        super().__init__(path, resume)

    def missing(self, wanted: Iterable[Case]) -> list[Case]:
        """Those without a row, or with one that failed."""
        return [case for case in wanted if case not in self.rows or self.rows[case].note]

    def add_row(self, row: Row) -> None:
        self._add({"kind": "row", **asdict(row)})

    def _take(self, line: dict[str, Any]) -> None:
        if line["kind"] == "row":
            row = read_row(line)
            self.rows[row.case] = row


def read_row(line: Mapping[str, Any]) -> Row:
    given = {name: value for name, value in line.items() if name != "kind"}
    return Row(**{**given, "case": Case(**line["case"])})


def chosen(cases: Sequence[Case], names: str | None) -> list[Case]:
    """The cases of the names or kinds given, all of them without. Raises OptionError for others."""
    if names is None:
        return list(cases)
    wanted = names.split(";")
    known = {case.name for case in cases} | {case.kind for case in cases}
    unknown = next((name for name in wanted if name not in known), None)
    require(unknown is None, f"rows = {unknown!r}: there are {'; '.join(sorted(known))}",
            OptionError)
    return [case for case in cases if case.name in wanted or case.kind in wanted]


def way_of(decision: Decision) -> str:
    """A decision as a way's name."""
    return UNFUSED if decision is Decision.ONE_BY_ONE else decision.value.replace("_", " ")
