"""Whether the pass crowns the right plan while another process comes and goes.

First, on the machine as it is left alone, all candidates of a product take turns for long: their
medians are what counts. Then passes run while a process loads a core on and off, at random, and the
plan that each crowns is held against the fastest of those. Beside it stand the plans that five
plain batches of each candidate, one after the other, would have crowned: by their least, their
mean, their median.

    python benchmarks/noise.py          # three minutes
"""

from __future__ import annotations

import math
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import click
import common
from targets import Verdict, show_verdicts

import anatune as at
from anatune.measure.budget import Budget
from anatune.measure.builder import Builder
from anatune.measure.entry import Entry
from anatune.measure.outcome import Measurement
from anatune.measure.race import Race
from anatune.measure.runner import LocalRunner
from anatune.measure.stand import Batch, Stand
from anatune.measure.track import BATCH_S
from anatune.model import candidates as model
from anatune.plan import Plan
from anatune.records import Kernels
from anatune.report.turns import Entrant, take_turns
from anatune.units import TIME

CASES = (("196x256x1024", 1), ("196x256x1024", 2), ("512x512x512", 2))
"""Products and threads: one whose threads leave a core to the other process, two who do not."""

CANDIDATES = 8

RUNS = 20

QUIET_STANDS, QUIET_ROUNDS = 5, 15
"""Turns of each candidate on the quiet machine, in so many processes: what a kernel takes differs
by one or two percent from one process to the next, as its pages fall into other sets of caches."""

RIGHT = 0.02
"""Share by which a crowned plan may be slower than the fastest, and still be right."""

LEAST_RIGHT = 19
"""Passes of `RUNS` that must be right."""

PLAIN_BATCHES = 5

PLAIN: dict[str, Callable[[Sequence[float]], float]] = {
    "least of five": min,
    "mean of five": statistics.mean,
    "median of five": statistics.median,
}

PASS = "anatune's pass"

BUSY = """
import random, sys, time
draw, least, most = random.Random(int(sys.argv[1])), float(sys.argv[2]), float(sys.argv[3])
while True:
    end = time.monotonic() + draw.uniform(least, most)
    while time.monotonic() < end:
        sum(range(10_000))
    time.sleep(draw.uniform(least, most))
"""

LEAST_S, MOST_S = 0.1, 1.0
"""Length of the other process's work and of its pauses, seconds."""


@contextmanager
def neighbour(seed: int) -> Iterator[None]:
    """Another process that loads a core on and off."""
    command = [sys.executable, "-c", BUSY, str(seed), str(LEAST_S), str(MOST_S)]
    process = subprocess.Popen(command)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def quiet_times(entries: Sequence[Entry]) -> dict[Plan, float]:
    """Seconds of every candidate on the machine as it is, all taking turns."""
    plans = [entry.plan for entry in entries]
    medians: dict[Plan, list[float]] = {plan: [] for plan in plans}
    for _ in range(QUIET_STANDS):
        with Stand(plans, cache=Kernels()) as stand:
            ready = stand.ready(plans)
            entrants = {plan: Entrant("", "", _working(batch)) for plan, batch in ready.items()}
            take_turns(list(entrants.values()), QUIET_ROUNDS, BATCH_S)
        for plan, entrant in entrants.items():
            medians[plan].append(entrant.timing.median_s)
    return {plan: statistics.median(found) for plan, found in medians.items()}


def crowned(entries: Sequence[Entry], threads: int) -> dict[str, Plan]:
    """The plan that the pass takes, and those that plain batches would have taken."""
    workload = entries[0].plan.workload
    with Builder(threads, Kernels()) as builder, LocalRunner(workload, threads, builder) as runner:
        race = Race(runner, Budget(CANDIDATES, math.inf))
        race.measure(entries)
        best = race.finish()
    assert best is not None
    return {PASS: best.plan, **plain_choices(entries)}


def plain_choices(entries: Sequence[Entry]) -> dict[str, Plan]:
    """What five batches of each candidate, one candidate after the other, say is the best."""
    plans = [entry.plan for entry in entries]
    with Stand(plans, cache=Kernels()) as stand:
        samples = {}
        for plan, batch in stand.ready(plans).items():
            run = _working(batch)
            calls = max(1, round(BATCH_S / run(1)))
            samples[plan] = [run(calls) for _ in range(PLAIN_BATCHES)]
    return {
        name: min(samples, key=lambda plan: value(samples[plan])) for name, value in PLAIN.items()
    }


def _working(batch: Batch | Measurement) -> Batch:
    assert not isinstance(batch, Measurement), batch.note
    return batch


def lost(choices: Sequence[dict[str, Plan]], times: dict[Plan, float]) -> dict[str, list[float]]:
    """By way to choose, how much slower than the fastest each chosen plan is, as a share."""
    best_s = min(times.values())
    ways = choices[0]
    return {way: [times[chosen[way]] / best_s - 1 for chosen in choices] for way in ways}


def right(shares: Sequence[float]) -> int:
    return sum(share <= RIGHT for share in shares)


@click.command()
@click.option("--runs", default=RUNS, show_default=True, help="Passes of each case.")
@click.option("--seed", default=0, show_default=True, help="Of the other process.")
@click.option("--json", "json_path", type=click.Path(), help="Write all figures to a file.")
def main(runs: int, seed: int, json_path: str | None) -> None:
    """Which plan is crowned while another process loads a core on and off."""
    profile = at.load_profile("host")
    facts = common.machine_facts(profile)
    click.echo(common.facts_line(facts))
    draw, verdicts, kept = random.Random(seed), [], []
    for shape, threads in CASES:
        workload = common.read_shape(shape).workload
        ranked = model.best(profile, workload, threads)
        entries = [Entry(*item) for item in model.shortlist(ranked, CANDIDATES)]
        times = quiet_times(entries)
        choices = []
        for _ in range(runs):
            with neighbour(draw.randrange(2**32)):
                choices.append(crowned(entries, threads))
        shares = lost(choices, times)
        title = f"{shape} float32, {threads} threads, {len(entries)} candidates of "
        title += f"{TIME.show(min(times.values()))} to {TIME.show(max(times.values()))}"
        lines = [
            (way, f"{right(of)} of {runs}", f"{statistics.median(of):.1%}", f"{max(of):.1%}")
            for way, of in shares.items()
        ]
        columns = ("chosen by", f"within {RIGHT:.0%} of the best", "median loss", "worst")
        common.print_table(columns, lines, title)
        needed = -(-LEAST_RIGHT * runs // RUNS)
        what = f"{shape}, {threads} threads: right in at least {needed} of {runs}"
        verdicts.append(Verdict(what, str(right(shares[PASS])), right(shares[PASS]) >= needed))
        kept.append({"case": title, "lost": shares, "seconds": sorted(times.values())})
    show_verdicts(verdicts)
    common.write_json(json_path, {"facts": facts, "cases": kept})


if __name__ == "__main__":
    common.run(main)
