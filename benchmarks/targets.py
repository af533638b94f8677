"""The rows of first_slice.py and what they are held against (nothing here measures).

`Verdict` and its makers serve the targets of the other benchmarks too.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import common

from anatune.units import FLOP_RATE

PEAK_SHARE, TWO_THREADS_GAIN = 0.93, 1.9
"""Least share of the probed peak on one thread, and least speed-up of two, for 2000x2000x2000."""

MEAN_OF_TOLD, LEAST_OF_TOLD = 1.0, 0.9
"""Speed over OpenBLAS told the core type: geometric mean over the rows, and every row."""

MEAN_OF_MEASURED, LEAST_OF_MEASURED = 0.95, 0.85
"""Speed of the model's pick over that of the measured pass: geometric mean, and every row."""

TUNE_S, MODEL_ONLY_S, IMPORT_S = 5.0, 1.0, 0.3
"""Longest wall-clock of a default pass, of one with ``budget=0``, of the import; seconds."""


@dataclass
class Row:
    """One product on some threads; medians in seconds per call, None where ``note`` says why."""

    name: str
    threads: int
    flops: int
    tuned_s: float | None = None
    model_only_s: float | None = None
    installed_s: float | None = None
    told_s: float | None = None
    told: str = ""  # the setting that suited OpenBLAS best
    tune_wall_s: float | None = None
    model_only_wall_s: float | None = None
    tuned_plan: str = ""
    model_only_plan: str = ""
    samples_s: dict[str, list[float]] = field(default_factory=dict)
    note: str = ""

    @property
    def rate(self) -> float | None:
        return self.flops / self.tuned_s if self.tuned_s else None

    @property
    def of_told(self) -> float | None:
        """Our speed over OpenBLAS's at its best: told the core type, or as installed if faster."""
        known = [s for s in (self.told_s, self.installed_s) if s is not None]
        return ratio(min(known, default=None), self.tuned_s)

    @property
    def of_installed(self) -> float | None:
        return ratio(self.installed_s, self.tuned_s)

    @property
    def same_plan(self) -> bool:
        """Whether measuring confirmed the model's pick; both then are one kernel, timed once."""
        return bool(self.tuned_plan) and self.tuned_plan == self.model_only_plan

    @property
    def of_measured(self) -> float | None:
        """Speed of the model's pick over that of the measured pass."""
        return ratio(self.tuned_s, self.model_only_s)


def ratio(slower_s: float | None, faster_s: float | None) -> float | None:
    return slower_s / faster_s if slower_s and faster_s else None


@dataclass(frozen=True)
class Verdict:
    """One target: what was found, whether it was met (None: nothing to judge it by)."""

    target: str
    found: str
    met: bool | None

    @property
    def word(self) -> str:
        return "not measured" if self.met is None else "pass" if self.met else "SHORT"


def verdicts(
    rows: Sequence[Row], peaks: dict[int, float], start: dict[str, float]
) -> list[Verdict]:
    """Every target, for each number of threads where it is stated so; a failed row is a miss."""
    found = [*_peak_verdicts(rows, peaks)]
    for threads in sorted({row.threads for row in rows}):
        here = [row for row in rows if row.threads == threads]
        on = f"threads={threads}: "
        of_told = {row.name: row.of_told for row in here}
        found += shares(on + "speed over told OpenBLAS", of_told, MEAN_OF_TOLD, LEAST_OF_TOLD)
        about = on + "budget=0 over the default pass"
        of_measured = {row.name: row.of_measured for row in here}
        found += shares(about, of_measured, MEAN_OF_MEASURED, LEAST_OF_MEASURED)
    found.append(_longest("tune, default pass", rows, "tune_wall_s", TUNE_S))
    found.append(_longest("tune, budget=0", rows, "model_only_wall_s", MODEL_ONLY_S))
    for name, limit in (("import anatune", IMPORT_S), ("first tune, budget=0", MODEL_ONLY_S)):
        met = start[name] <= limit
        found.append(
            Verdict(f"{name}, in a new process: within {limit} s", f"{start[name]:.3f} s", met)
        )
    return found


def _peak_verdicts(rows: Sequence[Row], peaks: dict[int, float]) -> list[Verdict]:
    rates = {row.threads: row.rate for row in rows if row.name.startswith("square2000 ")}
    one, two = rates.get(1), rates.get(2)
    share, gain = one and one / peaks[1], one and two and two / one
    return [
        least("square2000, threads=1, of the probed peak", share, PEAK_SHARE),
        least("square2000, threads=2 over threads=1", gain, TWO_THREADS_GAIN),
    ]


def least(what: str, value: float | None, limit: float) -> Verdict:
    met = None if value is None else value >= limit
    return Verdict(f"{what}: at least {limit}", "-" if value is None else f"{value:.3f}", met)


def shares(
    what: str, values: Mapping[str, float | None], mean: float, lowest: float
) -> list[Verdict]:
    """The geomean of a ratio by row, and its smallest value; rows without one are misses."""
    known, missing = _known(values)
    if not known:
        return [Verdict(f"{what}: geomean and least", "-" + missing, False)]
    middle = common.geomean(known.values())
    met = middle >= mean and len(known) == len(values)
    of_all = Verdict(f"{what}: geomean at least {mean}", f"{middle:.3f}{missing}", met)
    return [of_all, no_row_under(what, values, lowest)]


def no_row_under(what: str, values: Mapping[str, float | None], limit: float) -> Verdict:
    """The smallest value by row, with the names of all that are too small; None is a miss."""
    known, missing = _known(values)
    if not known:
        return Verdict(f"{what}: no row under {limit}", "-" + missing, False)
    worst = min(known, key=known.__getitem__)
    low = ", ".join(f"{row} {value:.3f}" for row, value in known.items() if value < limit)
    found = f"{known[worst]:.3f} ({low or worst}){missing}"
    met = not low and len(known) == len(values)
    return Verdict(f"{what}: no row under {limit}", found, met)


def _known(values: Mapping[str, float | None]) -> tuple[dict[str, float], str]:
    """The rows with a value, and the others as the end of a sentence."""
    known = {row: value for row, value in values.items() if value is not None}
    failed = [row for row in values if row not in known]
    return known, f"; without a value: {', '.join(failed)}" if failed else ""


def _longest(what: str, rows: Sequence[Row], name: str, limit: float) -> Verdict:
    known = [(getattr(row, name), row) for row in rows if getattr(row, name) is not None]
    if not known:
        return Verdict(f"{what}: within {limit} s", "-", None)
    longest, row = max(known, key=lambda item: item[0])
    middle = statistics.median(seconds for seconds, _ in known)
    found = f"{longest:.2f} s ({row.name}, threads={row.threads}); median {middle:.2f} s"
    return Verdict(f"{what}: within {limit} s", found, longest <= limit and len(known) == len(rows))


def show(rows: Sequence[Row], peaks: dict[int, float]) -> None:
    columns = (
        "product", "rate", "of peak", "of told", "best setting", "of installed",
        "budget=0 of default", "tune s", "budget=0 s", "note",
    )  # fmt: skip
    for threads in sorted({row.threads for row in rows}):
        here = [row for row in rows if row.threads == threads]
        lines = [
            (
                row.name,
                FLOP_RATE.show(row.rate) if row.rate else "-",
                number(row.rate and row.rate / peaks[threads]),
                number(row.of_told),
                row.told or "-",
                number(row.of_installed),
                "same plan" if row.same_plan else number(row.of_measured),
                number(row.tune_wall_s, 2),
                number(row.model_only_wall_s, 2),
                row.note,
            )
            for row in here
        ]
        common.print_table(
            columns, lines, f"threads={threads}, peak {FLOP_RATE.show(peaks[threads])}"
        )


def show_verdicts(found: Sequence[Verdict]) -> None:
    lines = [(v.word, v.target, v.found) for v in found]
    common.print_table(("", "target", "found"), lines, "targets", left=3)


def number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
