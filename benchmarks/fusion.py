"""Independent operators in one parallel region, beside one region each; and what the model decides.

The experiments of "Co-optimized kernel generation" (CMU 15-745, 2021) come first, M from 1 to 10:
two additions of M x N, an addition and a product of M x N element by element, and an addition of
M x N beside sigmoid(exp(x)) of M x N^2. Theirs had rows of 10^8 elements on 4 cores, which is
memory's speed. Sizes are scaled here, so that operands stay in the caches: N = 65536 for the first
two, N = 1000 for the third. The rest are operators of networks that do not depend on each other:
all ways are timed, and the model's pick is compared with the fastest.

Ways take turns, and each one's fastest turn counts: whatever else runs can only slow it down.

    python benchmarks/fusion.py --plot fusion.png                   # minutes
    python benchmarks/fusion.py --json fusion.jsonl --resume
    python benchmarks/fusion.py --rows "unbalanced;networks" --threads 2
"""

from __future__ import annotations

from pathlib import Path

import click
import common
from fusion_groups import BALANCED_N, ROWS, THEIRS, UNBALANCED_N, experiment, networks
from fusion_rows import UNFUSED, Case, Log, Row, chosen
from fusion_targets import draw, show, verdicts
from fusion_turns import ROUNDS, measure_all, timed
from fusion_ways import FUSED, ways_of
from targets import show_verdicts

import anatune as at
from anatune.errors import AnatuneError
from anatune.hwprofile.profile import Profile
from anatune.workload.fused import Fused
from anatune.workload.group import Group

NETWORKS = "networks"

FINER = 3
"""Times as many turns for the experiments, whose targets are a percent away."""


def every_case(threads: list[int]) -> dict[Case, Fused | Group]:
    """Experiments on any number of threads; groups of networks where there is a choice."""
    found = {
        Case(kind, f"M={m}", count): experiment(kind, m)
        for kind in THEIRS for count in threads for m in ROWS
    }  # fmt: skip
    for count in threads:
        if count > 1:
            for name, workload in networks().items():
                found[Case(NETWORKS, name, count)] = workload
    return found


def measure(
    profile: Profile, case: Case, workload: Fused | Group, run: str, rounds: int
) -> Row:
    """An experiment fused and unfused, a group of a network by all ways."""
    row = Row(case, run)
    try:
        ways = ways_of(profile, workload, case.threads)
        if case.kind == NETWORKS:
            row.expect(ways.plans, ways.predicted_s, ways.pick)
            row.samples_s = timed(workload, ways.plans, case.threads, rounds)
        else:
            plans = {way: ways.plans[way] for way in (FUSED, UNFUSED)}
            row.expect(plans, ways.predicted_s, FUSED)
            row.samples_s = timed(workload, plans, case.threads, FINER * rounds, twice=UNFUSED)
    except AnatuneError as error:
        row.note = common.in_one_line(error)
    return row


def one_line(row: Row) -> str:
    times = ", ".join(f"{way} {seconds * 1e6:.4g} us" for way, seconds in row.seconds.items())
    return f"{times}; pick: {row.pick}"


@click.command()
@click.option("--rows", metavar="NAME;NAME", help='Kinds or names, such as "balanced;M=2".')
@click.option("--threads", default="1,2", show_default=True, metavar="N,N",
              help="Numbers of threads.")
@click.option("--rounds", default=ROUNDS, show_default=True, type=click.IntRange(min=1),
              help="Turns of each; the fastest counts.")
@click.option("--json", "json_path", type=click.Path(path_type=Path),
              help="Append every row with all samples to a file of JSON lines.")
@click.option("--resume", is_flag=True, help="Skip the rows that the file has; judge all of them.")
@click.option("--plot", type=click.Path(path_type=Path),
              help="Draw the experiments beside the published figures; needs matplotlib.")
def main(
    rows: str | None, threads: str, rounds: int, json_path: Path | None, resume: bool,
    plot: Path | None,
) -> None:  # fmt: skip
    """Fused against unfused, alternating; the model's decision against the fastest way."""
    log = Log("fusion.py", json_path, resume)
    every = every_case(common.thread_counts(threads))
    profile = at.load_profile("host")
    facts = common.machine_facts(profile)
    click.echo(common.facts_line(facts))
    click.echo(f"N = {BALANCED_N} (balanced) and {UNBALANCED_N} (unbalanced); theirs: 10^8")
    wanted = log.missing(chosen(list(every), rows))
    measure_all(
        wanted, log, facts,
        lambda case, run: measure(profile, case, every[case], run, rounds), one_line,
    )  # fmt: skip
    found = list(log.rows.values())
    show(found)
    show_verdicts(verdicts(found))
    if plot is not None:
        draw(found, plot)


if __name__ == "__main__":
    common.run(main)
