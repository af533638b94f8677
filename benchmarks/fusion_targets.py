"""What the rows of fusion.py are held against; their tables and their plot (nothing here measures).

Targets: fused never slower than 0.99 of unfused where operators take alike, never slower where they
do not; for operators of networks a mean gain of 1.10, and a right decision in nine of ten.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import common
from fusion_groups import THEIRS, UNBALANCED
from fusion_rows import UNFUSED, WITHIN, Row
from fusion_turns import AGAIN
from fusion_ways import FUSED, PLANNED
from targets import Verdict, no_row_under, number

LEAST = {**dict.fromkeys(THEIRS, 0.99), UNBALANCED: 1.0}
"""Speed of the fused way over the unfused one, for each M, by experiment."""

MEAN_GAIN, RIGHT_SHARE = 1.10, 0.9
"""Of groups of networks: geometric mean of the gain, and share of picks that are right."""


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    found = []
    for threads in sorted({row.case.threads for row in rows}):
        here = [row for row in rows if row.case.threads == threads]
        on = f"threads={threads}: "
        for kind, least in LEAST.items():
            mine = [row for row in here if row.case.kind == kind]
            if mine:
                found.append(_no_slower(f"{on}{kind}, fused over unfused", mine, least))
        groups = [row for row in here if row.case.kind not in LEAST]
        if groups:
            found += _decisions(on, groups)
    return found


def _no_slower(what: str, rows: Sequence[Row], least: float) -> Verdict:
    """Judged to within what the same kernel was seen to differ from itself."""
    same = [row.faster(UNFUSED, AGAIN) or 1.0 for row in rows]
    noise = max(max(gain, 1 / gain) for gain in same) - 1
    gains = {row.case.name: row.gain for row in rows}
    plain = no_row_under(what, gains, least)
    judged = no_row_under(what, gains, least - noise)
    target = f"{plain.target}, to within what a kernel differs from itself"
    return Verdict(target, f"{plain.found}; that is {min(same):.3f} to "
                   f"{max(same):.3f}", judged.met)  # fmt: skip


def _decisions(on: str, rows: Sequence[Row]) -> list[Verdict]:
    known = [row for row in rows if row.behind is not None]
    gain = common.geomean(row.gain or 1.0 for row in known)
    right = [row for row in known if (row.behind or 0.0) <= WITHIN]
    wrong = [f"{row.case.name} {row.behind:.3f}" for row in known if row not in right]
    said = f"{len(right)} of {len(rows)}" + (f" (not: {', '.join(wrong)})" if wrong else "")
    return [
        Verdict(f"{on}networks, pick over unfused: geomean at least {MEAN_GAIN}",
                number(gain), gain >= MEAN_GAIN and len(known) == len(rows)),
        Verdict(f"{on}networks, pick within {WITHIN - 1:.0%} of the fastest: "
                f"at least {RIGHT_SHARE:.0%}", said, len(right) >= RIGHT_SHARE * len(rows)),
    ]  # fmt: skip


def show(rows: Sequence[Row]) -> None:
    """A table for each kind and number of threads."""
    for kind, threads in dict.fromkeys((row.case.kind, row.case.threads) for row in rows):
        here = [row for row in rows if (row.case.kind, row.case.threads) == (kind, threads)]
        title = f"{kind}, threads={threads}"
        if kind in THEIRS:
            _show_experiment(here, title)
        else:
            _show_decisions(here, title)


def _show_experiment(rows: Sequence[Row], title: str) -> None:
    lines = [
        (row.case.name, *map(row.time, (FUSED, UNFUSED)), number(row.gain),
         number(_theirs(row), 2), row.note)
        for row in rows
    ]  # fmt: skip
    common.print_table(("M", "fused", "unfused", "gain", "theirs", "note"), lines, title)


def _theirs(row: Row) -> float | None:
    return THEIRS[row.case.kind][int(row.case.name.removeprefix("M=")) - 1]


def _show_decisions(rows: Sequence[Row], title: str) -> None:
    ways = (FUSED, "side by side", PLANNED, UNFUSED)
    lines = [
        (row.case.name, *map(row.time, ways), row.pick, number(row.behind), number(row.gain),
         number(row.predicted_gain), row.note)
        for row in rows
    ]  # fmt: skip
    header = ("group", *ways, "pick", "behind", "gain", "predicted", "note")
    common.print_table(header, lines, title)


def draw(rows: Sequence[Row], path: Path) -> None:
    """Gain by M, a panel for each experiment, the published figures beside ours."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    kinds = [kind for kind in THEIRS if any(row.case.kind == kind for row in rows)]
    if not kinds:
        return
    figure, axes = plt.subplots(
        1, len(kinds), figsize=(5 * len(kinds), 4), sharey=True, layout="constrained",
        squeeze=False,
    )  # fmt: skip
    for axis, kind in zip(axes[0], kinds):
        for label, points in curves(rows, kind).items():
            dashes = "--" if label == "published" else "-"
            axis.plot(*zip(*points), dashes, marker=".", label=label)
        axis.axhline(1.0, color="grey", linewidth=0.8)
        axis.set_title(kind)
        axis.set_xlabel("M")
        axis.grid(True, alpha=0.3)
        axis.legend(fontsize="small")
    axes[0][0].set_ylabel("unfused time / fused time")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def curves(rows: Sequence[Row], kind: str) -> dict[str, list[tuple[int, float]]]:
    """(M, gain) by number of threads, and as published."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        if row.case.kind == kind and row.gain is not None:
            m = int(row.case.name.removeprefix("M="))
            found.setdefault(f"threads={row.case.threads}", []).append((m, row.gain))
    theirs = [(m, gain) for m, gain in enumerate(THEIRS[kind], 1) if gain is not None]
    if theirs:
        found["published"] = theirs
    return {label: sorted(points) for label, points in found.items()}
