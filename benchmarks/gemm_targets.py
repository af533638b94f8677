"""What the rows of gemm.py are held against, and their tables (nothing here measures)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import call_cost
import common
from gemm_rows import Kept, Row
from targets import Verdict, no_row_under, number, shares

from anatune.units import FLOP_RATE, TIME

LARGE = ("square2000", "square4096")
"""Products whose rate is held against the probed peak."""

PEAK_SHARES = {
    "float32": {1: 0.96, 2: 0.94},
    **dict.fromkeys(("bfloat16", *common.BYTES), {1: 0.93, 2: 0.93}),
}
"""Data type -> threads -> least share of the peak; for types that have dot products, of theirs."""

SQUARE = "square2000"

SQUARE_SHARES = {"float64": 0.93, "float16": 0.85, "int16": 0.85}
"""Data type -> least share of the peak for `SQUARE`; float16 is multiplied as float32, so that its
peak is float32's."""

FLOAT32_RATIOS = {False: (1.08, 0.97), True: (1.06, 0.98)}
"""Whether B is constant -> speed over the best library: least geometric mean, and of every row."""

NARROW_RATIO = 1.08
NARROW_RIVALS = ("torch", "onnxruntime")
"""Least geometric mean of the speed over the best of these for bfloat16 and bytes: PyTorch is where
oneDNN is installed."""

SEARCH_SPEED, SEARCH_TIME = 2.0, 50.0
"""Speed over the kernel that MetaSchedule finds, and its tuning time over ours."""

SEARCH_THREADS = 2

Group = tuple[str, bool, int]
"""Data type, whether B is constant, threads."""


def groups(rows: Iterable[Row]) -> dict[Group, list[Row]]:
    found: dict[Group, list[Row]] = {}
    for row in rows:
        key = row.case.dtype, row.case.constant_b, row.case.threads
        found.setdefault(key, []).append(row)
    return found


def verdicts(kept: Kept) -> list[Verdict]:
    """Every target that a row of the file has to do with; a failed row is a miss."""
    found: list[Verdict] = []
    for (dtype, constant_b, threads), rows in groups(kept.rows.values()).items():
        about = f"{dtype}, {rows[0].case.mode}, threads={threads}: "
        found += _peak_verdicts(about, rows, kept)
        if dtype == "float32":
            values = ratios(rows)
            mean, lowest = FLOAT32_RATIOS[constant_b]
            found += shares(about + "speed over the best library", values, mean, lowest)
        elif dtype in PEAK_SHARES:
            found.append(_narrow_verdict(about, rows))
    found += _search_verdicts(kept.rows.values())
    return [*found, *_call_verdicts(kept.rows.values())]


def ratios(rows: Iterable[Row], names: Sequence[str] | None = None) -> dict[str, float | None]:
    """Our speed over the best of the libraries ``names``, by product; None for a row that failed.

    A row that none of them could compute says nothing of either, and is left out. So is a tiny
    product: libraries are called from Python, which takes longer than they compute, while our
    kernel is called in a loop of C; two such rows would lift the mean of fifty by a tenth.
    """
    judged = (row for row in rows if not row.case.product.tiny)
    rivalled = (row for row in judged if not row.complete or row.best(names))
    return {str(row.case.product): row.ratio(names) for row in rivalled}


def _peak_verdicts(about: str, rows: Sequence[Row], kept: Kept) -> list[Verdict]:
    dtype, threads = rows[0].case.dtype, rows[0].case.threads
    if dtype in SQUARE_SHARES:
        names, limit = (SQUARE,), SQUARE_SHARES[dtype]
    else:
        names, limit = LARGE, PEAK_SHARES[dtype].get(threads)
    large = [row for row in rows if row.case.product.name in names]
    if not large or limit is None:
        return []
    values = {str(row.case.product): row.peak_share(kept.peaks_of(row)) for row in large}
    return [no_row_under(about + "large squares, of the probed peak", values, limit)]


def _narrow_verdict(about: str, rows: Sequence[Row]) -> Verdict:
    values = ratios(rows, NARROW_RIVALS)
    what = about + f"speed over the best of {' and '.join(NARROW_RIVALS)}"
    return shares(what, values, NARROW_RATIO, 0.0)[0]


def _search_verdicts(rows: Iterable[Row]) -> list[Verdict]:
    found = []
    for row in rows:
        ours = row.ours
        for runner in row.runners:
            searched = runner.name.startswith("metaschedule") and runner.seconds
            if not searched or row.case.threads != SEARCH_THREADS or ours is None:
                continue
            about = f"{row.case.product}, threads={row.case.threads}: {runner.name}"
            speed, time = _over(runner.seconds, ours.seconds), _over(runner.tuning_s, ours.tuning_s)
            found += [
                _at_least(f"{about}: speed over its kernel's", speed, SEARCH_SPEED),
                _at_least(f"{about}: its tuning time over ours", time, SEARCH_TIME),
            ]
    return found


def _at_least(what: str, value: float | None, limit: float) -> Verdict:
    met = None if value is None else value >= limit
    return Verdict(f"{what}: at least {limit:g}", number(value, 2), met)


def _over(one: float | None, other: float | None) -> float | None:
    return one / other if one and other else None


def _call_verdicts(rows: Iterable[Row]) -> list[Verdict]:
    """What calling adds to a tiny kernel; see `call_cost` for a product of one by one."""
    found = []
    for row in rows:
        for way, seconds in row.call_s.items():
            if way != call_cost.LOOP:
                cost_s, most_s = seconds - row.call_s[call_cost.LOOP], call_cost.MOST_S[way]
                what = f"{row.case.product}, threads={row.case.threads}: {way}, beyond the kernel"
                target = f"{what}: within {TIME.show(most_s)}"
                found.append(Verdict(target, call_cost.in_ns(cost_s), cost_s <= most_s))
    return found


COLUMNS: dict[str, Callable[[Row, Kept], str]] = {
    "product": lambda row, kept: str(row.case.product),
    "best library": lambda row, kept: _best(row),
    "time": lambda row, kept: _time(row),
    "rate": lambda row, kept: _rate(row),
    "of peak": lambda row, kept: number(row.peak_share(kept.peaks_of(row))),
    "of bandwidth": lambda row, kept: _bandwidth(row, kept),
    "ours / its speed": lambda row, kept: number(row.ratio()),
    "tuned in": lambda row, kept: _tuned(row),
    "note": lambda row, kept: _note(row),
}


def show(kept: Kept) -> None:
    """A table for each data type, mode and number of threads, and its summary."""
    for (dtype, _, threads), rows in groups(kept.rows.values()).items():
        lines = [[cell(row, kept) for cell in COLUMNS.values()] for row in rows]
        title = f"{dtype}, {rows[0].case.mode}, threads={threads}; {summary(rows)}"
        common.print_table(tuple(COLUMNS), lines, title, left=2)


def summary(rows: Sequence[Row]) -> str:
    """Geometric mean and lowest ratio to the best library, in one line."""
    known = {name: ratio for name, ratio in ratios(rows).items() if ratio is not None}
    if not known:
        return "beside no library"
    worst = min(known, key=known.__getitem__)
    return (
        f"{common.geomean(known.values()):.3f} times the best library's speed over {len(known)} of "
        f"{len(rows)} rows, tiny ones apart; lowest {known[worst]:.3f} ({worst})"
    )


def _best(row: Row) -> str:
    best = row.best()
    return f"{best.library}, {best.setting}" if best else "-"


def _time(row: Row) -> str:
    if not row.seconds:
        return "-"
    return call_cost.in_ns(row.seconds) if row.case.product.tiny else TIME.show(row.seconds)


def _rate(row: Row) -> str:
    return FLOP_RATE.show(row.case.workload.flops / row.seconds) if row.seconds else "-"


def _bandwidth(row: Row, kept: Kept) -> str:
    """Of rows that read all of B for one row of C, which memory bounds."""
    return number(row.memory_share(kept.peaks_of(row))) if row.case.product.m == 1 else "-"


def _tuned(row: Row) -> str:
    tuning_s = row.ours.tuning_s if row.ours else None
    return TIME.show(tuning_s) if tuning_s else "-"


def _note(row: Row) -> str:
    best = row.best()
    notes = [row.note, f"{best.name}: {best.note}" if best and best.note else ""]
    if row.unreached:
        notes.append(f"time limit before {', '.join(row.unreached)}")
    notes += [f"{way}: {call_cost.in_ns(seconds)}" for way, seconds in row.call_s.items()]
    return "; ".join(filter(None, notes))


def one_line(row: Row) -> str:
    """A finished row, for the terminal of whoever waits."""
    if row.seconds is None:
        return row.note
    ratio = row.ratio()
    beside = f", {ratio:.2f} times {_best(row)}" if ratio else ""
    return f"{_time(row)}, {_rate(row)}{beside} ({row.wall_s:.0f} s)"
