"""``anatune compare``: our kernel beside the libraries that are installed (rank 9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from anatune.cli.options import (
    WorkloadCommand,
    budget_option,
    read_budget,
    read_workload,
    workload_options,
)
from anatune.cli.plans import plan_fields
from anatune.cli.show import NONE, plain, print_json, print_table, progress, rate, seconds

if TYPE_CHECKING:
    from anatune.report.compare import Comparison, Row


@click.command(cls=WorkloadCommand)
@workload_options
@budget_option("our plan is the model's pick, and only the comparison is measured")
def compare(
    words: tuple[str, ...],
    dtype: str,
    target: str,
    threads: int | None,
    as_json: bool,
    budget: str | None,
) -> None:
    """A tuned kernel beside the installed libraries.

    All take turns; each library runs with the setting that suits it best for this shape."""
    w = read_workload(words, dtype)
    limit = read_budget(budget)
    from anatune.report.compare import compare as side_by_side
    from anatune.report.compare import runnable_here
    from anatune.tune import tune

    with progress() as tell:
        profile = runnable_here(target, tell)
        result = tune(w, profile, budget=limit, threads=threads, progress=tell)
        found = side_by_side(result.plan, result.predicted.seconds, threads, tell)
    if as_json:
        return print_json(_fields(found))
    print_table(
        ("library", "setting", "time", "+-", "rate", "note"),
        [_line(found, row) for row in found.rows],
    )
    if found.ratio is not None:
        click.echo(f"{found.ratio:.2f} times the speed of the fastest other")


def _fields(found: Comparison) -> dict[str, object]:
    rows = [{**plain(row), "flops_per_s": found.flops_per_s(row)} for row in found.rows]
    return {
        "plan": plan_fields(found.plan),
        "rows": rows,
        "tried": plain(found.tried),
        "ratio": found.ratio,
    }


def _line(found: Comparison, row: Row) -> tuple[str, ...]:
    return (
        row.library,
        row.setting,
        seconds(row.time_s),
        seconds(row.spread_s),
        rate(found.flops_per_s(row)),
        row.note or NONE,
    )
