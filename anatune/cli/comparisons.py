"""``anatune compare``: our kernel beside the libraries that are installed (rank 9)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from anatune.cli.options import (
    WorkloadCommand,
    budget_option,
    read_budget,
)
from anatune.cli.plans import plan_fields
from anatune.cli.show import (
    NONE,
    NUMBERS,
    percent,
    plain,
    print_json,
    print_table,
    progress,
    rate,
    seconds,
)
from anatune.cli.workloads import product_options
from anatune.errors import OptionError

if TYPE_CHECKING:
    from anatune.report.compare import Comparison, Row
    from anatune.workload import Matmul

OURS_OVER = "our speed / its"
COLUMNS = (
    "library", "setting", "time", "+-", "rate", "of peak", OURS_OVER, "tuning", "note",
)  # fmt: skip


@click.command(cls=WorkloadCommand)
@product_options
@budget_option("our plan is the model's pick, and only the comparison is measured")
@click.option(
    "--libraries", metavar="NAME,NAME",
    help="Of numpy, mkl, blis, torch, onnxruntime, tvm.  [default: those that are installed]",
)  # fmt: skip
@click.option(
    "--metaschedule", metavar="N,N",
    help="TVM's own search too, with N trials; takes about a second for each.",
)  # fmt: skip
def compare(
    w: Matmul,
    target: str,
    threads: int | None,
    as_json: bool,
    budget: str | None,
    libraries: str | None,
    metaschedule: str | None,
) -> None:
    """A tuned kernel beside the installed libraries.

    All take turns; each library runs with the setting that suits it best for this shape."""
    limit = read_budget(budget)
    trials = read_trials(metaschedule)
    from anatune.machine import fixed_only
    from anatune.report.compare import compare as side_by_side
    from anatune.report.compare import runnable_here
    from anatune.report.competitors.registry import known_names
    from anatune.tune import tune

    names = None if libraries is None else known_names(libraries.split(","))
    fixed_only(w)
    with progress() as tell:
        profile = runnable_here(target, tell)
        start = time.perf_counter()
        result = tune(w, profile, budget=limit, threads=threads, progress=tell)
        tuning_s = time.perf_counter() - start
        found = side_by_side(
            result.plan, threads, tell,
            libraries=names, metaschedule=trials, profile=profile, tuning_s=tuning_s,
        )  # fmt: skip
    if as_json:
        return print_json(_fields(found))
    print_table(COLUMNS, [_line(found, r) for r in found.rows], numbers=(*NUMBERS, *COLUMNS[6:8]))
    for left_out in found.left_out:
        click.echo(f"without {left_out.library}: {left_out.why}")
    if found.ratio is not None:
        click.echo(f"{found.ratio:.2f} times the speed of the fastest other")


def read_trials(text: str | None) -> tuple[int, ...]:
    """``--metaschedule``: numbers of trials.

    Raises:
        OptionError: anything else.
    """
    words = [] if text is None else text.split(",")
    if not all(word.isascii() and word.isdecimal() and int(word) >= 1 for word in words):
        raise OptionError(f"metaschedule = {text!r}: numbers of trials above 0, such as 64,256")
    return tuple(dict.fromkeys(map(int, words)))


def _fields(found: Comparison) -> dict[str, object]:
    return {
        "plan": plan_fields(found.plan),
        "rows": [_row_fields(found, row) for row in found.rows],
        "tried": plain(found.tried),
        "left_out": plain(found.left_out),
        "peak_flops_per_s": found.peak_flops_per_s,
        "ratio": found.ratio,
    }


def _row_fields(found: Comparison, row: Row) -> dict[str, object]:
    return {
        **plain(row),
        "flops_per_s": found.flops_per_s(row),
        "peak_share": found.peak_share(row),
        "ratio": found.ratio_to(row),
    }


def _line(found: Comparison, row: Row) -> tuple[str, ...]:
    ratio = found.ratio_to(row) if row is not found.rows[0] else None
    return (
        row.library,
        row.setting,
        seconds(row.time_s),
        seconds(row.spread_s),
        rate(found.flops_per_s(row)),
        percent(found.peak_share(row)),
        NONE if ratio is None else f"{ratio:.2f}",
        seconds(row.tuning_s),
        row.note or NONE,
    )
