"""Workloads that read each other's results: the model's plan for them, beside each by itself.

Feed-forward layers, products of 1x1 convolutions, small perceptrons, attention, layer norms,
softmax and element-wise chains. The unfused version has every step as the model plans it alone,
with an array for each result. Both are compared with the reference, then take turns; each one's
fastest turn counts. Where the model leaves the steps alone there is nothing to compare.

    python benchmarks/chains.py                                 # minutes
    python benchmarks/chains.py --json chains.jsonl --resume
    python benchmarks/chains.py --rows "attention;layer norm, 128x768" --threads 1
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import common
from chain_groups import CHAINS, MAPS
from fusion_rows import UNFUSED, Case, Log, Row, chosen
from fusion_turns import ROUNDS, measure_all, measure_group
from fusion_ways import PLANNED
from targets import Verdict, no_row_under, number, show_verdicts

import anatune as at
from anatune.units import TIME

PAYS = 1.2
"""Gain from which the model is held to its word; and what must then be found."""

LEAST = 0.98
"""Speed over the unfused version of whatever is not left alone."""


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """Products and attention apart from steps that are all element-wise."""
    found = []
    for threads in sorted({row.case.threads for row in rows}):
        for which, maps in (("products and attention", False), ("element-wise", True)):
            here = [
                row for row in rows
                if row.case.threads == threads and (row.case.kind == MAPS) is maps
            ]  # fmt: skip
            if here:
                found += _judged(f"threads={threads}: {which}", here)
    return found


def _judged(about: str, rows: Sequence[Row]) -> list[Verdict]:
    applied = {row.case.name: row.gain for row in rows if row.applied or row.note}
    pays = {
        row.case.name: row.gain for row in rows if (row.predicted_gain or 0) >= PAYS or row.note
    }  # fmt: skip
    known = [gain for gain in applied.values() if gain]
    mean = common.geomean(known)
    verdict = Verdict(f"{about}, geomean where applied ({len(applied)} of {len(rows)})",
                      number(mean), None if not known else mean >= 1.0)  # fmt: skip
    said = f"{about}, where a gain of {PAYS} is predicted ({len(pays)})"
    found = [verdict]
    if pays:
        found.append(no_row_under(said, pays, PAYS))
    if applied:
        found.append(no_row_under(f"{about}, where applied", applied, LEAST))
    return found


def show(rows: Sequence[Row]) -> None:
    for threads in sorted({row.case.threads for row in rows}):
        lines = [
            (row.case.name, row.time(PLANNED), row.time(UNFUSED), number(row.gain),
             number(row.predicted_gain), number(row.off(PLANNED), 2), number(row.off(UNFUSED), 2),
             row.note or row.plans.get(PLANNED, "left alone"))
            for row in rows if row.case.threads == threads
        ]  # fmt: skip
        header = ("chain", "fused", "unfused", "gain", "predicted", "said/found", "unfused's", "")
        common.print_table(header, lines, f"threads={threads}")


def one_line(row: Row) -> str:
    times = ", ".join(f"{way} {TIME.show(seconds)}" for way, seconds in row.seconds.items())
    said = f"gain {number(row.gain)}, predicted {number(row.predicted_gain)}; {times}"
    return f"{said}; {row.plans.get(PLANNED, 'left alone')}"


@click.command()
@click.option("--rows", metavar="NAME;NAME", help="Kinds or names of chains.")
@click.option("--threads", default="1,2", show_default=True, metavar="N,N",
              help="Numbers of threads.")
@click.option("--rounds", default=ROUNDS, show_default=True, type=click.IntRange(min=1),
              help="Turns of each; the fastest counts.")
@click.option("--json", "json_path", type=click.Path(path_type=Path),
              help="Append every row with all samples to a file of JSON lines.")
@click.option("--resume", is_flag=True, help="Skip the rows that the file has; judge all of them.")
def main(
    rows: str | None, threads: str, rounds: int, json_path: Path | None, resume: bool
) -> None:
    """Chains as the model plans them, beside each step by itself, alternating."""
    log = Log("chains.py", json_path, resume)
    counts = common.thread_counts(threads)
    every = {
        Case(kind, name, count): make
        for count in counts for kind, group in CHAINS.items() for name, make in group.items()
    }  # fmt: skip
    profile = at.load_profile("host")
    facts = common.machine_facts(profile)
    click.echo(common.facts_line(facts))
    wanted = log.missing(chosen(list(every), rows))
    measure_all(
        wanted, log, facts,
        lambda case, run: measure_group(profile, case, every[case](), run, rounds), one_line,
    )  # fmt: skip
    found = list(log.rows.values())
    show(found)
    show_verdicts(verdicts(found))


if __name__ == "__main__":
    common.run(main)
