"""What gemm.py measures and keeps: cases, rows, and the JSON lines that a run is resumed from.

Nothing here measures.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import common
from common import Peaks, Product

import anatune as at

OURS = "anatune"

SEARCHED = "square1000"
"""The product for which TVM's own search is run, in float32 with a B known at run time."""


@dataclass(frozen=True)
class Case:
    """One product in one data type, on some threads, with a B that may be packed ahead or not."""

    product: Product
    dtype: str  # of `common.OPERANDS`
    constant_b: bool
    threads: int
    trials: tuple[int, ...] = ()  # of MetaSchedule, each number a competitor

    @property
    def workload(self) -> at.Matmul:
        return self.product.of(self.dtype, self.constant_b)

    @property
    def mode(self) -> str:
        return "constant B" if self.constant_b else "B at run time"

    @property
    def key(self) -> Case:
        """What two measurements of the same thing have in common."""
        return replace(self, trials=())

    def __str__(self) -> str:
        return f"{self.product}, {self.dtype}, {self.mode}, threads={self.threads}"


def cases(
    products: Sequence[Product],
    dtypes: Sequence[str],
    modes: Sequence[bool],
    threads: Sequence[int],
    trials: Sequence[int] = (),
) -> list[Case]:
    """All combinations, the float32 ones first; MetaSchedule's trials where it is `SEARCHED`."""

    def searched(product: Product, dtype: str, constant_b: bool) -> tuple[int, ...]:
        wanted = product.name == SEARCHED and dtype == "float32" and not constant_b
        return tuple(trials) if wanted else ()

    return [
        Case(product, dtype, constant_b, count, searched(product, dtype, constant_b))
        for dtype in dtypes
        for constant_b in modes
        for count in threads
        for product in products
    ]


@dataclass(frozen=True)
class Runner:
    """One who took turns: all samples, in seconds per call and in the order of the turns."""

    name: str  # as `registry.LIBRARIES` has it
    library: str  # with its version
    setting: str
    samples_s: tuple[float, ...] = ()
    note: str = ""
    tuning_s: float | None = None  # before the first call, where it was a search
    final: bool = True  # False: another setting of this library was faster in the heats

    @property
    def seconds(self) -> float | None:
        return statistics.median(self.samples_s) if self.samples_s else None


@dataclass
class Row:
    """What came out of a case; where ``note`` says why, there is no time."""

    case: Case
    run: str  # which run of the file it belongs to, and so which peaks
    plan: str = ""
    predicted_s: float | None = None
    runners: list[Runner] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)  # library -> why
    unreached: list[str] = field(default_factory=list)  # libraries for which no time was left
    call_s: dict[str, float] = field(default_factory=dict)  # way to call -> seconds
    wall_s: float = 0.0
    note: str = ""

    @property
    def ours(self) -> Runner | None:
        return next((r for r in self.runners if r.name == OURS and r.samples_s), None)

    @property
    def seconds(self) -> float | None:
        return self.ours.seconds if self.ours else None

    @property
    def complete(self) -> bool:
        """Whether everybody had a turn; a row that is not is measured again by ``--resume``."""
        return self.ours is not None and not self.unreached

    def best(self, names: Sequence[str] | None = None) -> Runner | None:
        """The fastest of the libraries ``names``; of all but TVM's own search if None."""

        def counts(runner: Runner) -> bool:
            asked = not runner.name.startswith("metaschedule") if names is None else (
                runner.name in names
            )  # fmt: skip
            return runner.final and runner.name != OURS and asked and bool(runner.samples_s)

        return min(filter(counts, self.runners), key=lambda r: r.seconds or 0.0, default=None)

    def ratio(self, names: Sequence[str] | None = None) -> float | None:
        """Our speed over that of `best`; None where a time is missing or somebody had no turn."""
        best = self.best(names)
        if not (self.complete and best and best.seconds and self.seconds):
            return None
        return best.seconds / self.seconds

    def peak_share(self, peaks: Peaks | None) -> float | None:
        """Our rate as a fraction of the probed peak of the data type."""
        peak = peaks.flops(self.case.dtype) if peaks else None
        return self.case.workload.flops / self.seconds / peak if peak and self.seconds else None

    def memory_share(self, peaks: Peaks | None) -> float | None:
        """Bytes of all operands per second, as a fraction of what memory is probed to give; above
        1 where a cache keeps them from call to call."""
        most = peaks.read_bytes_per_s if peaks else None
        moved = self.case.workload.operand_bytes
        return moved / self.seconds / most if most and self.seconds else None


@dataclass(frozen=True)
class Kept:
    """The contents of a file: the last row of each case, and the peaks of each run."""

    rows: dict[Case, Row] = field(default_factory=dict)
    probed: dict[str, list[dict[int, Peaks]]] = field(default_factory=dict)

    def peaks(self, run: str) -> dict[int, Peaks]:
        """By number of threads, the highest that a run has probed: disturbances only lower them."""
        highest: dict[int, Peaks] = {}
        for probed in self.probed.get(run, []):
            for threads, peaks in probed.items():
                highest[threads] = _higher(highest.get(threads), peaks)
        return highest

    def peaks_of(self, row: Row) -> Peaks | None:
        return self.peaks(row.run).get(row.case.threads)

    def missing(self, wanted: Iterable[Case]) -> list[Case]:
        """Those that have no complete row, or one without the trials that are asked for."""
        return [case for case in wanted if not self._has(case)]

    def _has(self, case: Case) -> bool:
        row = self.rows.get(case.key)
        return row is not None and row.complete and set(case.trials) <= set(row.case.trials)


def _higher(one: Peaks | None, other: Peaks) -> Peaks:
    if one is None:
        return other
    rates = (one.read_bytes_per_s, other.read_bytes_per_s)
    flops = {
        dtype: max(rate, one.flops_per_s.get(dtype, 0.0))
        for dtype, rate in other.flops_per_s.items()
    }
    return Peaks(flops, max((r for r in rates if r is not None), default=None))


class Log(common.Log):
    """The rows of gemm.py, and the peaks of its runs."""

    benchmark, kinds = "gemm.py", ("run", "peaks", "row")

    def __init__(self, path: Path | None, resume: bool) -> None:
        self.kept = Kept()
        super().__init__(path, resume)

    def add_peaks(self, run: str, peaks: Mapping[int, Peaks]) -> None:
        by_threads = {str(threads): asdict(each) for threads, each in peaks.items()}
        self._add({"kind": "peaks", "run": run, "threads": by_threads})

    def add_row(self, row: Row) -> None:
        self._add({"kind": "row", **asdict(row)})

    def _take(self, line: dict[str, Any]) -> None:
        if line["kind"] == "row":
            row = _row(line)
            self.kept.rows[row.case.key] = row
        if line["kind"] == "peaks":
            peaks = {int(threads): Peaks(**each) for threads, each in line["threads"].items()}
            self.kept.probed.setdefault(line["run"], []).append(peaks)


def _row(line: Mapping[str, Any]) -> Row:
    given = {name: value for name, value in line.items() if name != "kind"}
    case = given["case"]
    given["case"] = Case(**{**case, "product": Product(**case["product"]),
                            "trials": tuple(case["trials"])})  # fmt: skip
    given["runners"] = [
        Runner(**{**runner, "samples_s": tuple(runner["samples_s"])}) for runner in line["runners"]
    ]
    return Row(**given)
