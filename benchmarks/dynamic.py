"""One kernel for a range of extents beside kernels tuned for each value, and the best library.

For each line of the list and number of threads: `anatune.tune` with a dim gives one artefact. At
values over the whole range, and on both sides of all of its cuts, it takes turns with a kernel
tuned for that very shape and with the libraries' best settings; medians count.

    python benchmarks/dynamic.py --json dynamic.jsonl --plot curves
    python benchmarks/dynamic.py --json dynamic.jsonl --resume
    python benchmarks/dynamic.py --rows bert_qkv --threads 1 --points 24 --libraries numpy
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click
import common
from dynamic_contest import LIBRARIES, Terms, measure
from dynamic_rows import LIST, Case, Log, chosen, read_lines
from dynamic_targets import PUBLISHED_SHARES, draw, one_line, show, verdicts
from targets import show_verdicts

import anatune as at
from anatune.cli.options import read_budget
from anatune.errors import OptionError, require
from anatune.report.competitors.registry import known_names

DISTRIBUTIONS = ("apache-tvm", "torch", "onnxruntime", "mkl")
"""Packages whose versions are part of what the figures hold for."""


@click.command()
@click.option("--list", "path", default=str(LIST),
              help="CSV file: name, dim, low, high, m, n, k, batch, note.")
@click.option("--rows", metavar="NAME,NAME", help="Rows of the list, by name.")
@click.option(
    "--threads", default="1,2", show_default=True, metavar="N,N", help="Numbers of threads."
)
@click.option("--points", default=64, show_default=True, type=click.IntRange(min=2),
              help="Values of each range, besides the sides of its cuts.")
@click.option("--rounds", default=7, show_default=True, type=click.IntRange(min=1),
              help="Turns of each at each value; their median counts.")
@click.option("--budget", default="4", show_default=True,
              help="Of tuning a static kernel, as of `anatune tune`: 0 is the model alone.")
@click.option("--libraries", metavar="NAME,NAME", default=",".join(LIBRARIES), show_default=True,
              help='Who runs beside; "" for none.')
@click.option("--json", "json_path", type=click.Path(path_type=Path),
              help="Append every row with all samples to a file of JSON lines.")
@click.option("--resume", is_flag=True, help="Skip the rows that the file has; judge all of them.")
@click.option("--plot", type=click.Path(path_type=Path),
              help="Draw every row into this folder; needs matplotlib.")
def main(
    path: str, rows: str | None, threads: str, points: int, rounds: int, budget: str,
    libraries: str, json_path: Path | None, resume: bool, plot: Path | None,
) -> None:  # fmt: skip
    """One kernel for a range beside kernels for each value and libraries, judged by its targets."""
    require(json_path or not resume, "resume: needs --json FILE", OptionError)
    counts, lines = common.thread_counts(threads), chosen(read_lines(path), rows)
    names = known_names(libraries.split(",")) if libraries else ()
    limit = read_budget(budget)
    log = Log(json_path, resume)
    every = [Case(line, count) for count in counts for line in lines]
    wanted = log.missing(every)
    profile = at.load_profile("host")
    facts = {**common.machine_facts(profile), **common.versions(DISTRIBUTIONS)}
    click.echo(common.facts_line(facts))
    click.echo(f"static kernels: budget {budget}; {len(wanted)} rows to measure", err=True)
    if wanted:
        run = datetime.now().isoformat(timespec="milliseconds")
        log.add_run(run, facts=facts, budget=limit, points=points, rounds=rounds, libraries=names)
        terms = Terms(run, limit, points, rounds, names, tuple(PUBLISHED_SHARES), _tell)
        _measure_all(wanted, log, terms)
    found = list(log.rows.values())
    show(found)
    show_verdicts(verdicts(found))
    if plot is not None:
        plot.mkdir(parents=True, exist_ok=True)
        for row in found:
            draw(row, plot)


def _measure_all(wanted: Sequence[Case], log: Log, terms: Terms) -> None:
    for place, case in enumerate(wanted, 1):
        click.echo(f"[{place}/{len(wanted)}] {case}", err=True)
        row = measure(case, terms)
        log.add_row(row)
        click.echo(f"    {one_line(row)}", err=True)


def _tell(text: str) -> None:
    click.echo(f"    {text}", err=True)


if __name__ == "__main__":
    common.run(main)
