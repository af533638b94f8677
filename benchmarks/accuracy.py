"""The tables of model_accuracy.py: errors in all, by kind of plan, the worst. Measures nothing."""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click
import common
from targets import Verdict, number, shares

import anatune as at
from anatune.units import TIME

WORST = 10
"""Over- and under-predicted plans that are listed."""

ERROR_TARGET, TAU_TARGET = 0.10, 0.75
"""Largest median |error| and least rank correlation to aim for."""

PICK_TARGET, DEFAULT_TARGET = 0.97, 0.99
"""Least geometric mean, over the products, of the speed of the model's unmeasured pick and of the
default pass's kernel over that of the sweep's best plan."""


@dataclass(frozen=True)
class Trial:
    """One plan: place in the model's order, what was predicted, what came out (None: `note`)."""

    rank: int  # 1 is the model's pick
    plan: at.GemmPlan
    predicted: at.Estimate
    measured_s: float | None
    note: str = ""

    @property
    def error(self) -> float:
        """Predicted over measured, less 1: above 0 the model was too gloomy."""
        assert self.measured_s is not None
        return self.predicted.seconds / self.measured_s - 1

    def as_dict(self, threads: int) -> dict[str, Any]:
        return {
            "workload": str(self.plan.workload),
            "threads": threads,
            "rank": self.rank,
            "plan": json.loads(self.plan.to_json()),
            "predicted_s": self.predicted.seconds,
            "predicted_cycles": self.predicted.cycles,
            "terms_cycles": dict(self.predicted.terms),
            "bytes_moved": dict(self.predicted.bytes_moved),
            "measured_s": self.measured_s,
            "note": self.note,
        }


def _rows_of_tile(plan: at.GemmPlan) -> str:
    first = 4 * ((plan.tile.mr - 1) // 4) + 1
    return f"{first:2}-{first + 3}"


def _edges(plan: at.GemmPlan) -> str:
    found = (("rows", plan.edge_rows), ("columns", plan.edge_columns))
    return " and ".join(name for name, extent in found if extent) or "none"


@dataclass(frozen=True)
class Sweep:
    """What came of the plans of one product; shares are of the best plan's speed, timed again."""

    title: str
    plans: int
    legal: int  # plans there are; more than were measured where a sample was
    median_error: float
    tau: float
    pick_share: float | None = None
    default_share: float | None = None


def sweep_of(
    title: str, trials: Sequence[Trial], legal: int, of_best: Sequence[float | None]
) -> Sweep:
    timed = [t for t in trials if t.measured_s is not None]
    errors = [abs(t.error) for t in timed]
    tau = common.kendall_tau([t.predicted.seconds for t in timed], [t.measured_s for t in timed])
    return Sweep(title, len(timed), legal, statistics.median(errors), tau, *of_best)


def summary(sweeps: Sequence[Sweep]) -> list[Verdict]:
    """The targets over all products; of errors and correlations, the median counts."""
    error = statistics.median(sweep.median_error for sweep in sweeps)
    tau = statistics.median(sweep.tau for sweep in sweeps)
    picks = {sweep.title: sweep.pick_share for sweep in sweeps}
    defaults = {sweep.title: sweep.default_share for sweep in sweeps}
    best = "the sweep's best" if all(s.plans == s.legal for s in sweeps) else "the sample's best"
    return [
        Verdict(f"median |error|: below {ERROR_TARGET:.0%}", f"{error:.1%}", error < ERROR_TARGET),
        Verdict(f"Kendall's tau: above {TAU_TARGET}", f"{tau:.3f}", tau > TAU_TARGET),
        shares(f"budget=0, of the speed of {best}", picks, PICK_TARGET, 0.0)[0],
        shares(f"default pass, of the speed of {best}", defaults, DEFAULT_TARGET, 0.0)[0],
    ]


def show_sweeps(sweeps: Sequence[Sweep]) -> None:
    columns = ("product", "plans", "of", "median |error|", "tau", "budget=0", "default pass")
    lines = [
        (
            s.title, str(s.plans), str(s.legal), f"{s.median_error:.1%}", f"{s.tau:.3f}",
            number(s.pick_share), number(s.default_share),
        )
        for s in sweeps
    ]  # fmt: skip
    common.print_table(columns, lines, "all products; speeds of the best plan's")


KINDS: dict[str, Callable[[at.GemmPlan, at.Estimate], str]] = {
    "A": lambda plan, _: plan.a.value,
    "B": lambda plan, _: plan.b.value,
    "tile rows": lambda plan, _: _rows_of_tile(plan),
    "tile vectors": lambda plan, _: str(plan.tile.vectors),
    "k blocks": lambda plan, _: "one" if plan.k_blocks == 1 else "several",
    "threads": lambda plan, _: f"{plan.grid.rows}x{plan.grid.columns}",
    "edges": lambda plan, _: _edges(plan),
    "binding term": lambda _, estimate: estimate.bound,
}
"""Ways to sort plans into kinds, each with a median error of its own."""


def report(title: str, trials: Sequence[Trial]) -> None:
    """Everything about one product: the summary, the pick's place, errors by kind, the worst."""
    timed = [t for t in trials if t.measured_s is not None]
    click.echo(f"\n{title}: {len(timed)} of {len(trials)} plans ran")
    for trial in trials:
        if trial.measured_s is None:
            click.echo(f"  failed: {trial.plan}: {trial.note}")
    if not timed:
        return
    errors = [abs(t.error) for t in timed]
    tau = common.kendall_tau([t.predicted.seconds for t in timed], [t.measured_s for t in timed])
    middle = statistics.median(errors)
    common.print_table(("", "found", "target"), [
        ("median |error|", f"{middle:.1%}", f"{ERROR_TARGET:.0%}: {word(middle <= ERROR_TARGET)}"),
        ("Kendall's tau", f"{tau:.3f}", f"{TAU_TARGET}: {word(tau >= TAU_TARGET)}"),
        ("median error, signed", f"{statistics.median(t.error for t in timed):+.1%}", ""),
        ("90 % of errors within", f"{sorted(errors)[math.ceil(0.9 * len(errors)) - 1]:.1%}", ""),
    ])  # fmt: skip
    report_kinds(timed)
    by_error = sorted(timed, key=lambda t: t.error)
    report_worst("predicted too slow", by_error[::-1][:WORST])
    report_worst("predicted too fast", by_error[:WORST])


def word(met: bool) -> str:
    return "pass" if met else "SHORT"


def report_kinds(timed: Sequence[Trial]) -> None:
    lines = []
    for name, kind_of in KINDS.items():
        groups: dict[str, list[float]] = defaultdict(list)
        for trial in timed:
            groups[kind_of(trial.plan, trial.predicted)].append(trial.error)
        for kind, errors in sorted(groups.items()):
            spread = statistics.median(map(abs, errors))
            lines.append(
                (name, kind, str(len(errors)), f"{statistics.median(errors):+.1%}", f"{spread:.1%}")
            )
    common.print_table(("by", "kind", "plans", "median error", "median |error|"), lines, left=2)


def report_worst(title: str, trials: Sequence[Trial]) -> None:
    lines = [
        (
            str(t.plan),
            f"{t.error:+.0%}",
            TIME.show(t.predicted.seconds),
            TIME.show(t.measured_s or 0),
            ", ".join(
                f"{name} {cycles / t.predicted.cycles:.0%}"
                for name, cycles in t.predicted.terms[:4]
            ),
        )
        for t in trials
    ]
    common.print_table(
        (title, "error", "predicted", "measured", "largest terms, of all cycles"), lines
    )
