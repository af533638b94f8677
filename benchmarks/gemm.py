"""Every product of the list beside the machine's peak and the best of all installed libraries.

For each product, data type, number of threads, with a B known at run time and with a constant one
that may be packed ahead: `anatune.tune`, then our kernel and each library with the setting that
suits it best, in turns in one loop, each in a process that sleeps while others run; medians count.
The peaks are probed at the start and at the end, and the higher ones are the measure.

    python benchmarks/gemm.py --json gemm.jsonl             # hours; every finished row is kept
    python benchmarks/gemm.py --json gemm.jsonl --resume    # goes on where that one was stopped
    python benchmarks/gemm.py --only '^resnet50' --dtype float32 --threads 1
    python benchmarks/gemm.py --rows square1000 --dtype float32 --metaschedule 64
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click
import common
from contest import Terms, measure
from gemm_rows import Case, Log, cases
from gemm_targets import SQUARE, SQUARE_SHARES, one_line, show, verdicts
from targets import show_verdicts

import anatune as at
from anatune.cli.comparisons import read_trials
from anatune.cli.options import read_budget
from anatune.errors import OptionError, require
from anatune.hwprofile import Profile
from anatune.report.compare import FINAL_ROUNDS
from anatune.report.competitors.registry import known_names
from anatune.units import BANDWIDTH, FLOP_RATE

DEFAULT_DTYPES = ",".join(("float32", "bfloat16", "int8", *SQUARE_SHARES))

DISTRIBUTIONS = ("apache-tvm", "torch", "onnxruntime", "mkl", "xgboost")
"""Packages whose versions are part of what the figures hold for."""


def chosen(
    products: Sequence[common.Product], rows: str | None, only: str | None
) -> list[common.Product]:
    """The products named in ``rows``, or those whose name the expression ``only`` finds.

    Raises:
        OptionError: a name that is not in the list, an expression that is none or finds nothing.
    """
    names = [product.name for product in products]
    wanted = names if rows is None else rows.split(",")
    unknown = next((name for name in wanted if name not in names), None)
    require(unknown is None, f"rows = {unknown!r}: not in the list", OptionError)
    try:
        found = [p for p in products if p.name in wanted and re.search(only or "", p.name)]
    except re.error as error:
        raise OptionError(f"only = {only!r}: {error}") from None
    require(bool(found), f"only = {only!r}: finds no name of the list", OptionError)
    return found


def planned(
    products: Sequence[common.Product],
    dtypes: Sequence[str],
    modes: Sequence[bool],
    threads: Sequence[int],
    trials: Sequence[int],
    named: bool,
) -> list[Case]:
    """The cases of a run: unless products are ``named``, types of `SQUARE_SHARES` have one only."""
    every = cases(products, dtypes, modes, threads, trials)

    def sparse(case: Case) -> bool:
        return not named and case.dtype in SQUARE_SHARES and (
            case.product.name != SQUARE or case.constant_b
        )  # fmt: skip

    return [case for case in every if not sparse(case)]


def measure_all(wanted: Sequence[Case], log: Log, terms: Terms, profile: Profile) -> None:
    """Every case, between two probes of the peaks of the same run."""
    counts = sorted({case.threads for case in wanted})
    click.echo("probing the peaks", err=True)
    log.add_peaks(terms.run, common.probed_peaks(profile, counts))
    for place, case in enumerate(wanted, 1):
        click.echo(f"[{place}/{len(wanted)}] {case}", err=True)
        row = measure(case, terms)
        log.add_row(row)
        click.echo(f"    {one_line(row)}", err=True)
    click.echo("probing the peaks again", err=True)
    log.add_peaks(terms.run, common.probed_peaks(profile, counts))


def show_peaks(log: Log, run: str) -> None:
    lines = [
        (str(threads), dtype, FLOP_RATE.show(rate), BANDWIDTH.show(peaks.read_bytes_per_s or 0))
        for threads, peaks in log.kept.peaks(run).items()
        for dtype, rate in peaks.flops_per_s.items()
    ]
    common.print_table(("threads", "dtype", "probed peak", "memory read"), lines, left=2)


@click.command()
@click.option("--list", "path", default=str(common.LIST), help="CSV file: name, m, n, k, count.")
@click.option("--rows", metavar="NAME,NAME", help="Rows of the list, by name.")
@click.option("--only", metavar="REGEX", help="Rows in whose name the expression is found.")
@click.option(
    "--threads", default="1,2", show_default=True, metavar="N,N", help="Numbers of threads."
)
@click.option(
    "--dtype", "dtypes", default=DEFAULT_DTYPES, show_default=True, metavar="TYPE,TYPE",
    help=f"Data types. int8 stands for {' and '.join(common.BYTES)}, which are types as well. "
    f"{', '.join(SQUARE_SHARES)}: for {SQUARE} alone, unless rows are asked for.",
)
@click.option("--constant-b/--run-time-b", default=None,
              help="B constant and packed ahead, or known at run time only; default: both.")
@click.option("--budget", help="Of our own tuning, as of `anatune tune`: 0, 20 or 5s, for example.")
@click.option("--rounds", default=FINAL_ROUNDS, show_default=True, type=click.IntRange(min=1),
              help="Turns of each in the final; their median counts.")
@click.option("--libraries", metavar="NAME,NAME", help="Some libraries; default: all installed.")
@click.option("--metaschedule", metavar="N,N",
              help="TVM's own search with N trials too, on square1000 in float32: minutes.")
@click.option("--time-limit", default=300.0, show_default=True, type=click.FloatRange(min=0),
              help="Seconds after which a row takes no further library.")
@click.option("--json", "json_path", type=click.Path(path_type=Path),
              help="Append every row with all samples to a file of JSON lines.")
@click.option("--resume", is_flag=True, help="Skip the rows that the file has; judge all of them.")
def main(
    path: str, rows: str | None, only: str | None, threads: str, dtypes: str,
    constant_b: bool | None, budget: str | None, rounds: int, libraries: str | None,
    metaschedule: str | None, time_limit: float, json_path: Path | None, resume: bool,
) -> None:  # fmt: skip
    """Tuned kernels beside the peak and the best library, judged by the targets of the family."""
    require(json_path or not resume, "resume: needs --json FILE", OptionError)
    counts, types = common.thread_counts(threads), common.data_types(dtypes)
    products = chosen(common.read_products(path), rows, only)
    modes = (False, True) if constant_b is None else (constant_b,)
    trials, named = read_trials(metaschedule), bool(rows or only)
    limit = read_budget(budget)
    names = None if libraries is None else known_names(libraries.split(","))
    every = planned(products, types, modes, counts, trials, named)
    log = Log(json_path, resume)
    wanted = log.kept.missing(every)
    profile = at.load_profile("host")
    facts = {**common.machine_facts(profile), **common.versions(DISTRIBUTIONS)}
    click.echo(common.facts_line(facts))
    click.echo(f"{len(wanted)} rows to measure, {len(every) - len(wanted)} are there", err=True)
    if wanted:
        run = datetime.now().isoformat(timespec="milliseconds")
        terms = Terms(run, limit, rounds, names, time_limit, _tell)
        log.add_run(run, facts=facts, budget=limit, rounds=rounds, libraries=names)
        measure_all(wanted, log, terms, profile)
        show_peaks(log, run)
    show(log.kept)
    show_verdicts(verdicts(log.kept))


def _tell(text: str) -> None:
    click.echo(f"    {text}", err=True)


if __name__ == "__main__":
    common.run(main)
