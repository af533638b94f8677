"""What the rows of dynamic.py are held against, their tables and curves (nothing here measures)."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import common
from dynamic_rows import FAMILY, STATIC, TVM_DYNAMIC, Row
from targets import Verdict, number

from anatune.units import CAPACITY

STATIC_MEAN, STATIC_LEAST = 0.95, 0.85
"""Speed over the kernel tuned for the very shape: geometric mean, and at every value."""

LIBRARY_MEAN = 1.10
"""Speed over the best library at each value: geometric mean."""

MOST_EXCESS = 0.10
"""Most that the time of the next value may be outside of what its work explains."""

PUBLISHED_SHARES = {"lin_lu_1": 0.64, "lin_lu_2": 0.60, "lin_lu_3": 0.53}
"""Line -> share of OpenBLAS's rate at the largest value (Lin and Lu's report on loop partitioning,
figure 6)."""

PUBLISHED_LEAST = 0.97
"""Speed over the best library for these."""

BUILD_S, CODE_BYTES = 3.0, 1 << 20
"""Longest build, seconds; largest artefact."""

GIGA = 1e9

NAMED = 5
"""Misses that are named one by one."""

Ratios = Mapping[str, "float | None"]


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """Every target, for each number of threads; a failed row is a miss."""
    found: list[Verdict] = []
    for threads in sorted({row.case.threads for row in rows}):
        here = [row for row in rows if row.case.threads == threads]
        about = f"threads={threads}: "
        of_static, of_library = _all(here, STATIC), _all(here)
        found += [
            _mean(about + "speed over static kernels", of_static, STATIC_MEAN, here),
            _least(about + "speed over static kernels", of_static, STATIC_LEAST, here),
            _mean(about + "speed over the best library", of_library, LIBRARY_MEAN, here),
            _no_cliff(about, here),
        ]
        found += [_published(about, row) for row in here if row.case.line.name in PUBLISHED_SHARES]
        found += [_build_time(about, here), _size(about, here)]
    return found


def _all(rows: Sequence[Row], name: str | None = None) -> dict[str, float | None]:
    return {label: ratio for row in rows for label, ratio in row.ratios(name).items()}


def _mean(what: str, values: Ratios, least: float, rows: Sequence[Row]) -> Verdict:
    known = [value for value in values.values() if value is not None]
    target = f"{what}: geomean at least {least}"
    if not known:
        return Verdict(target, "-", None if _whole(rows) else False)
    mean, whole = common.geomean(known), len(known) == len(values) and _whole(rows)
    return Verdict(target, f"{mean:.3f} over {len(known)} values{_failed(rows)}",
                   mean >= least and whole)  # fmt: skip


def _least(what: str, values: Ratios, least: float, rows: Sequence[Row]) -> Verdict:
    known = {label: value for label, value in values.items() if value is not None}
    target = f"{what}: no value under {least}"
    if not known:
        return Verdict(target, "-", None if _whole(rows) else False)
    low = {label: value for label, value in known.items() if value < least}
    told = _worst(low or dict([min(known.items(), key=lambda item: item[1])]), min)
    whole = len(known) == len(values) and _whole(rows)
    return Verdict(target, told + _failed(rows), not low and whole)


def _worst(values: Mapping[str, float], worst: Callable[..., Any]) -> str:
    """The worst ones by name, and how many there are."""
    ordered = sorted(values.items(), key=lambda item: item[1], reverse=worst is max)
    more = f" and {len(ordered) - NAMED} more" if len(ordered) > NAMED else ""
    return ", ".join(f"{label} {value:.3f}" for label, value in ordered[:NAMED]) + more


def _no_cliff(about: str, rows: Sequence[Row]) -> Verdict:
    steps = {
        f"{row.case.line.name} {row.case.line.dim}={step.value}, {step.why}": step.excess
        for row in rows for step in row.steps
    }  # fmt: skip
    what = f"{about}one more value, outside of what its work explains: less than {MOST_EXCESS:.0%}"
    if not steps:
        return Verdict(what, "-", None if _whole(rows) else False)
    high = {label: excess for label, excess in steps.items() if excess >= MOST_EXCESS}
    shown = high or dict([max(steps.items(), key=lambda item: item[1])])
    found = f"{_worst(shown, max)}; of {len(steps)} steps{_failed(rows)}"
    return Verdict(what, found, not high and _whole(rows))


def _published(about: str, row: Row) -> Verdict:
    """At the largest value, which is the report's own."""
    name = row.case.line.name
    last = row.points[-1] if row.points else None
    ratio = last.ratio(last.best_library()) if last else None
    loops = last.ratio(TVM_DYNAMIC) if last else None
    what = f"{about}{name} {row.case.line.dim}={row.case.line.high}, of the best library: at least"
    found = (
        f"{number(ratio)}; published {PUBLISHED_SHARES[name]:.2f} of OpenBLAS; {number(loops, 1)} "
        "times TVM's dynamic default"
    )
    met = None if ratio is None and not row.note else bool(ratio and ratio >= PUBLISHED_LEAST)
    return Verdict(f"{what} {PUBLISHED_LEAST}", found, met)


def _build_time(about: str, rows: Sequence[Row]) -> Verdict:
    known = {row.case.line.name: row.build_s for row in rows if row.build_s is not None}
    target = f"{about}build in a new process: within {BUILD_S:g} s"
    if not known:
        return Verdict(target, "-", False)
    worst = max(known, key=lambda name: known[name])
    middle = statistics.median(known.values())
    found = f"{known[worst]:.2f} s ({worst}); median {middle:.2f} s"
    return Verdict(target, found, known[worst] <= BUILD_S and len(known) == len(rows))


def _size(about: str, rows: Sequence[Row]) -> Verdict:
    known = {row.case.line.name: row.code_bytes for row in rows if row.code_bytes is not None}
    target = f"{about}artefact: under {CAPACITY.show(CODE_BYTES)}"
    if not known:
        return Verdict(target, "-", False)
    worst = max(known, key=lambda name: known[name])
    found = f"{CAPACITY.show(known[worst])} ({worst})"
    return Verdict(target, found, known[worst] < CODE_BYTES and len(known) == len(rows))


def _whole(rows: Sequence[Row]) -> bool:
    return not any(row.note for row in rows)


def _failed(rows: Sequence[Row]) -> str:
    failed = [row.case.line.name for row in rows if row.note]
    return f"; failed: {', '.join(failed)}" if failed else ""


COLUMNS: dict[str, Callable[[Row], str]] = {
    "row": lambda row: row.case.line.name,
    "values": lambda row: str(len(row.points)),
    "variants": lambda row: f"{len(row.plans)}, {len(row.cuts)} regions",
    "of static": lambda row: _mean_of(row.ratios(STATIC)),
    "least": lambda row: _least_of(row.ratios(STATIC)),
    "of the best library": lambda row: _mean_of(row.ratios()),
    "least ": lambda row: _least_of(row.ratios()),
    "best library": lambda row: _most_often(row),
    "worst step": lambda row: _worst_step(row),
    "built in": lambda row: f"{number(row.build_s, 2)} s",
    "artefact": lambda row: CAPACITY.show(row.code_bytes) if row.code_bytes else "-",
    "note": lambda row: row.note,
}


def show(rows: Sequence[Row]) -> None:
    """A table for each number of threads, and for each budget of static kernels if it differs."""
    for threads, budget in sorted({(row.case.threads, row.budget) for row in rows}):
        here = [row for row in rows if (row.case.threads, row.budget) == (threads, budget)]
        lines = [[cell(row) for cell in COLUMNS.values()] for row in here]
        title = f"threads={threads}; static kernels tuned with budget {budget}"
        common.print_table(tuple(COLUMNS), lines, title)


def _mean_of(values: Ratios) -> str:
    known = [value for value in values.values() if value is not None]
    return number(common.geomean(known)) if known else "-"


def _least_of(values: Ratios) -> str:
    known = {label: value for label, value in values.items() if value is not None}
    worst = min(known, key=lambda label: known[label], default=None)
    return f"{known[worst]:.3f} {worst.split()[-1]}" if worst else "-"


def _most_often(row: Row) -> str:
    names = [name for point in row.points if (name := point.best_library())]
    return statistics.mode(names) if names else "-"


def _worst_step(row: Row) -> str:
    worst = max(row.steps, key=lambda step: step.excess, default=None)
    return f"{worst.excess:.1%} {row.case.line.dim}={worst.value} {worst.why}" if worst else "-"


def one_line(row: Row) -> str:
    """A finished row, for the terminal of whoever waits."""
    said = (
        f"{_mean_of(row.ratios(STATIC))} of static (least {_least_of(row.ratios(STATIC))}), "
        f"{_mean_of(row.ratios())} of the best library ({row.wall_s:.0f} s)"
    )
    return f"{row.note}; {said}" if row.note else said


def draw(row: Row, folder: Path) -> None:
    """Rates over the range, the cuts as lines with the numbers of the variants."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(11, 6), layout="constrained")
    for name, rates in curves(row).items():
        ours = name == FAMILY
        axis.plot(*zip(*rates), label=name, marker=".", linewidth=2 if ours else 1,
                  zorder=3 if ours else 2)  # fmt: skip
    for first, variant in row.cuts:
        axis.axvline(first, color="grey", linestyle=":")
        axis.text(first, 1.0, f" {variant}", transform=axis.get_xaxis_transform(), va="bottom")
    plans = "\n".join(f"{place}: {plan}" for place, plan in enumerate(row.plans, 1))
    axis.set_xscale("log", base=2)
    axis.set_xlabel(f"{row.case.line.dim}; cuts carry the number of the variant from there on")
    figure.supxlabel(plans, fontsize="x-small")
    axis.set_ylabel("GFLOP/s")
    axis.set_title(str(row.case), pad=18)
    axis.grid(True, which="both", alpha=0.3)
    axis.legend(fontsize="small")
    figure.savefig(folder / f"{row.case.line.name}_threads{row.case.threads}.png", dpi=120)
    plt.close(figure)


def curves(row: Row) -> dict[str, list[tuple[int, float]]]:
    """(value, GFLOP/s) of our two kernels, of TVM's, and of each library at its best."""
    found: dict[str, list[tuple[int, float]]] = {}
    for point in row.points:
        best: dict[str, float] = {}
        for name in point.samples_s:
            seconds = point.seconds(name)
            if seconds:
                who = name.partition(",")[0]
                best[who] = max(best.get(who, 0.0), point.flops / seconds / GIGA)
        for who, rate in best.items():
            found.setdefault(who, []).append((point.value, rate))
    return found
