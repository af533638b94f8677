"""Predicted beside measured: every legal plan of a few products, built, verified and timed.

For each product: how far predictions are off, whether the model's order is the measured order
(Kendall's tau-b), which place its pick has, the plans that it misjudges most with their terms, and
the error by kind of plan. With ``--list`` the model's pick alone, for every product of a list. Each
plan is one line of the JSON file, with all terms, so that the model can be fitted to it.

    python benchmarks/model_accuracy.py --json plans.jsonl  # every plan of three products
    python benchmarks/model_accuracy.py --shape 256x256x256 --sample 40 --threads 2
    python benchmarks/model_accuracy.py --list                 # the pick of each row of gemm.csv
"""

from __future__ import annotations

import json
import math
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import click
import common
from accuracy import Trial, report

import anatune as at
from anatune.errors import AnatuneError
from anatune.measure.runner import LocalRunner
from anatune.report.turns import SETTLE_S, take_turns
from anatune.units import TIME

DEFAULT_SHAPES = ("256x256x256", "196x1024x256", "49x512x4608")

BATCH_S = 0.003
"""Length of a timed batch, seconds: as many as thousands of plans allow."""

BATCHES = 4
"""Batches of a plan, of which the fastest counts: whatever else runs only slows a plan down."""

PLANS_PER_WORKER = 100
"""Plans that are built before all of them are timed, in turns: a disturbance of the machine that
lasts less than such a turn spoils one batch of some plans, not their fastest one."""

LIST_BATCHES = 9
"""Batches of a pick of the list, with pauses between them: no other plan of it takes turns."""

LEADERS, LEADER_ROUNDS = 5, 9
"""Best measured plans that are timed again beside the model's pick, and in how many rounds: the
best of thousands was also lucky."""

SEED = 0

Place = tuple[int, at.GemmPlan, at.Estimate]
"""A place in the model's order, from 1, and who has it."""


def measure(
    ranked: Sequence[Place],
    batches: int = BATCHES,
    rest: Callable[[float], Any] = lambda seconds: None,
) -> Iterator[Trial]:
    """Build, verify and time plans of one workload."""
    widest = max((plan for _, plan, _ in ranked), key=lambda p: p.grid.threads)
    for start in range(0, len(ranked), PLANS_PER_WORKER):
        some = ranked[start : start + PLANS_PER_WORKER]
        with LocalRunner(widest) as runner:
            entrants = [common.kernel_entrant("", runner, p, e.seconds) for _, p, e in some]
            time.sleep(SETTLE_S)  # the last check's BLAS may still spin
            take_turns(entrants, batches, BATCH_S, rest)
        for (rank, plan, estimate), entrant in zip(some, entrants):
            yield Trial(rank, plan, estimate, min(entrant.samples, default=None), entrant.note)


def again(trials: Sequence[Trial]) -> list[float]:
    """Medians of a contest between plans of one workload, in their order; nan for a failure."""
    widest = max((t.plan for t in trials), key=lambda plan: plan.grid.threads)
    with LocalRunner(widest) as runner:
        entrants = [common.kernel_entrant("", runner, t.plan, t.predicted.seconds) for t in trials]
        take_turns(entrants, LEADER_ROUNDS, common.BATCH_S)
    return [entrant.seconds or math.nan for entrant in entrants]


def report_pick(timed: Sequence[Trial]) -> None:
    by_time = sorted(timed, key=lambda t: t.measured_s or math.inf)
    pick = min(timed, key=lambda t: t.rank)
    place = by_time.index(pick) + 1
    leaders = [pick, *[t for t in by_time if t is not pick][:LEADERS]]
    seconds = again(leaders)
    best = min(s for s in seconds if not math.isnan(s))
    name = (
        "the model's pick"
        if pick.rank == 1
        else f"the model's best in the sample, its {pick.rank}."
    )
    click.echo(
        f"{name} ({pick.plan}) is number {place} of {len(timed)} as measured; timed again beside "
        f"the best {len(leaders) - 1}, it has {best / seconds[0]:.1%} of the best's speed"
    )
    lines = [
        (
            str(t.plan),
            str(t.rank),
            TIME.show(t.predicted.seconds),
            TIME.show(t.measured_s or 0),
            TIME.show(s),
        )
        for t, s in sorted(zip(leaders, seconds), key=lambda pair: pair[1])
    ]
    common.print_table(("plan", "model's place", "predicted", "measured", "timed again"), lines)


def ranked(shape: common.Product, threads: int, sample: int | None) -> list[Place]:
    """The legal plans of a product, best first; with ``sample`` the pick and random others."""
    order = at.rank(shape.workload, threads=threads)
    plans = [(place, *pair) for place, pair in enumerate(order, 1)]
    if sample is None or sample >= len(plans):
        return plans
    return [plans[0], *sorted(random.Random(SEED).sample(plans[1:], sample - 1))]


def pick_of_each(products: Iterable[common.Product], threads: int, file: TextIO | None) -> None:
    """The model's pick for every product, predicted beside measured."""
    lines, errors = [], []
    for product in products:
        click.echo(f"{product}, threads={threads}", err=True)
        try:
            (trial,) = measure(ranked(product, threads, 1), LIST_BATCHES, time.sleep)
        except AnatuneError as error:
            lines.append((str(product), "-", "-", "-", common.in_one_line(error)))
            continue
        write(file, trial, threads)
        measured_s = trial.measured_s
        shown = TIME.show(measured_s) if measured_s else "-"
        off = f"{trial.error:+.1%}" if measured_s else "-"
        errors += [abs(trial.error)] if measured_s else []
        why = trial.note or f"{trial.plan}; {trial.predicted.bound}"
        lines.append((str(product), TIME.show(trial.predicted.seconds), shown, off, why))
    common.print_table(("product", "predicted", "measured", "error", "plan; binding term"), lines)
    if errors:
        middle = statistics.median(errors)
        click.echo(f"threads={threads}: median |error| of {len(errors)} picks {middle:.1%}")


def write(file: TextIO | None, trial: Trial, threads: int) -> None:
    if file is not None:
        print(json.dumps(trial.as_dict(threads)), file=file, flush=True)


@click.command()
@click.option(
    "--shape", "shapes", multiple=True, metavar="MxNxK", help="A product; may be given repeatedly."
)
@click.option(
    "--threads", default="1", show_default=True, metavar="N,N", help="Numbers of threads."
)
@click.option(
    "--sample", type=click.IntRange(min=2), help="Measure so many random plans, the pick included."
)
@click.option(
    "--list", "of_list", is_flag=True, help="The pick of every product in gemm.csv instead."
)
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write one line of JSON per plan."
)
def main(
    shapes: tuple[str, ...], threads: str, sample: int | None, of_list: bool, json_path: Path | None
) -> None:
    """Predicted beside measured, over all legal plans of a few products."""
    from rich.console import Console
    from rich.progress import track

    profile = at.load_profile("host")
    click.echo(common.facts_line(common.machine_facts(profile)))
    wanted = [common.read_shape(text) for text in shapes or DEFAULT_SHAPES]
    file = json_path.open("w", encoding="utf-8") if json_path else None
    for count in common.thread_counts(threads):
        if of_list:
            pick_of_each(common.read_products(), count, file)
            continue
        for shape in wanted:
            trials = []
            plans = ranked(shape, count, sample)
            title = f"{shape}, threads={count}"
            for trial in track(measure(plans), title, len(plans), console=Console(stderr=True)):
                trials.append(trial)
                write(file, trial, count)
            report(title, trials)
            if any(trial.measured_s is not None for trial in trials):
                report_pick([trial for trial in trials if trial.measured_s is not None])
    if file is not None:
        file.close()


if __name__ == "__main__":
    common.run(main)
