"""Predicted beside measured: every legal plan of a few products, built, verified and timed.

For each product: how far predictions are off, whether the model's order is the measured order
(Kendall's tau-b), which place its pick has, the plans that it misjudges most with their terms, and
the error by kind of plan. The best plans, the model's pick and that of the default pass are timed
again side by side: what is lost by not measuring, or by measuring few. With ``--list`` the model's
pick alone, for every product of a list. Each plan is one line of the JSON file, with all terms, so
that the model can be fitted to it.

    python benchmarks/model_accuracy.py --json plans.jsonl  # every plan of twelve products: hours
    python benchmarks/model_accuracy.py --sample 150         # of each, drawn at random
    python benchmarks/model_accuracy.py --shape 256x256x256 --dtype bfloat16,int8 --threads 2
    python benchmarks/model_accuracy.py --list                 # the pick of each row of gemm.csv
"""

from __future__ import annotations

import itertools
import json
import math
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

import click
import common
from accuracy import Sweep, Trial, report, show_sweeps, summary, sweep_of
from targets import show_verdicts

import anatune as at
from anatune.errors import AnatuneError
from anatune.measure.stand import Stand
from anatune.report.turns import SETTLE_S, take_turns
from anatune.units import TIME

DEFAULT_SHAPES = (
    "256x256x256", "1000x1000x1000", "777x333x555", "3136x64x576", "784x128x1152", "196x1024x256",
    "49x512x4608", "1x1000x2048", "16x2304x768", "128x3072x768", "8x4096x4096", "1000x16x16",
)  # fmt: skip
"""Squares and odd ones, convolutions, layers of few rows: each is bound by something else."""

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
"""Of the random sample of plans."""

Place = tuple[int, at.GemmPlan, at.Estimate]
"""A place in the model's order, from 1, and who has it."""


def measure(
    ranked: Sequence[Place],
    batches: int = BATCHES,
    rest: Callable[[float], Any] = lambda seconds: None,
) -> Iterator[Trial]:
    """Build, verify and time plans of one workload."""
    longest_s = max(estimate.seconds for _, _, estimate in ranked)
    for start in range(0, len(ranked), PLANS_PER_WORKER):
        some = ranked[start : start + PLANS_PER_WORKER]
        plans = [plan for _, plan, _ in some]
        with Stand(plans, longest_s) as stand:
            ready = stand.ready(plans)
            entrants = [common.kernel_entrant("", ready[plan]) for plan in plans]
            time.sleep(SETTLE_S)  # the last check's BLAS may still spin
            take_turns(entrants, batches, BATCH_S, rest)
        for (rank, plan, estimate), entrant in zip(some, entrants):
            yield Trial(rank, plan, estimate, min(entrant.samples, default=None), entrant.note)


def again(trials: Sequence[Trial]) -> list[float]:
    """Medians of a contest between plans of one workload, in their order; nan for a failure."""
    plans = [trial.plan for trial in trials]
    with Stand(plans, max(trial.predicted.seconds for trial in trials)) as stand:
        ready = stand.ready(plans)
        entrants = [common.kernel_entrant("", ready[plan]) for plan in plans]
        take_turns(entrants, LEADER_ROUNDS, common.BATCH_S)
    return [entrant.seconds or math.nan for entrant in entrants]


def report_pick(timed: Sequence[Trial], default: Trial | None) -> list[float | None]:
    """Time the best again beside the pick and the default pass's plan; both as shares of the
    best one's speed."""
    by_time = sorted(timed, key=lambda t: t.measured_s or math.inf)
    pick = min(timed, key=lambda t: t.rank)
    place = by_time.index(pick) + 1
    leaders = [pick, *[t for t in by_time if t is not pick][:LEADERS]]
    if default is not None and all(t.plan != default.plan for t in leaders):
        leaders.append(default)
    seconds = again(leaders)
    best = min(s for s in seconds if not math.isnan(s))
    name = (
        "the model's pick"
        if pick.rank == 1
        else f"the model's best in the sample, its {pick.rank}."
    )
    click.echo(
        f"{name} ({pick.plan}) is number {place} of {len(timed)} as measured; timed again beside "
        f"the best {min(LEADERS, len(timed) - 1)}, it has {best / seconds[0]:.1%} of the best's "
        "speed"
    )
    show_leaders(leaders, seconds)
    shares = {t.plan: best / s for t, s in zip(leaders, seconds) if not math.isnan(s)}
    return [shares.get(trial.plan) if trial else None for trial in (pick, default)]


def show_leaders(leaders: Sequence[Trial], seconds: Sequence[float]) -> None:
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


def default_pass(workload: at.Matmul, threads: int) -> Trial | None:
    """What `anatune.tune` chooses after its short race; None, with a word, where it fails."""
    try:
        result = at.tune(workload, threads=threads, database=False)
    except AnatuneError as error:
        click.echo(f"default pass: {common.in_one_line(error)}")
        return None
    rank = next(c.rank for c in result.candidates if c.plan == result.plan)
    timing = result.measured
    return Trial(rank, result.plan, result.predicted, timing and timing.median_s)


def ranked(workload: at.Matmul, threads: int) -> list[Place]:
    """The legal plans of a product, best first."""
    return [(place, *pair) for place, pair in enumerate(at.rank(workload, threads=threads), 1)]


def drawn(plans: list[Place], sample: int | None) -> list[Place]:
    """All plans; with ``sample`` the pick and so many random others, in the model's order."""
    if sample is None or sample >= len(plans):
        return plans
    places = random.Random(SEED).sample(range(1, len(plans)), sample - 1)
    return [plans[0], *(plans[place] for place in sorted(places))]


def sweep(
    title: str, workload: at.Matmul, threads: int, sample: int | None, file: TextIO | None
) -> list[Sweep]:
    """Measure the plans of one product and report them; [] where none ran."""
    from rich.console import Console
    from rich.progress import track

    legal = ranked(workload, threads)
    plans = drawn(legal, sample)
    if len(plans) < len(legal):
        title += f", {len(plans)} of {len(legal)} plans, drawn at random with seed {SEED}"
    trials = []
    for trial in track(measure(plans), title, len(plans), console=Console(stderr=True)):
        trials.append(trial)
        write(file, trial, threads)
    report(title, trials)
    timed = [trial for trial in trials if trial.measured_s is not None]
    if not timed:
        return []
    shares = report_pick(timed, default_pass(workload, threads))
    return [sweep_of(title, timed, len(legal), shares)]


def pick_of_each(
    products: Iterable[common.Product], dtype: str, threads: int, file: TextIO | None
) -> None:
    """The model's pick for every product, predicted beside measured."""
    lines, errors = [], []
    for product in products:
        click.echo(f"{product}, {dtype}, threads={threads}", err=True)
        try:
            pick = ranked(product.of(dtype), threads)[:1]
            (trial,) = measure(pick, LIST_BATCHES, time.sleep)
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
        about = f"{dtype}, threads={threads}"
        click.echo(f"{about}: median |error| of {len(errors)} picks {middle:.1%}")


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
    "--dtype", "dtypes", default="float32", show_default=True, metavar="TYPE,TYPE",
    help="Data types, such as float32,bfloat16,int8.",
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
    shapes: tuple[str, ...], threads: str, dtypes: str, sample: int | None, of_list: bool,
    json_path: Path | None,
) -> None:  # fmt: skip
    """Predicted beside measured, over all legal plans of a few products."""
    wanted = [common.read_shape(text) for text in shapes or DEFAULT_SHAPES]
    types, counts = common.data_types(dtypes), common.thread_counts(threads)
    profile = at.load_profile("host")
    click.echo(common.facts_line(common.machine_facts(profile)))
    sweeps: list[Sweep] = []
    with ExitStack() as stack:
        file = stack.enter_context(json_path.open("w", encoding="utf-8")) if json_path else None
        for dtype, count in itertools.product(types, counts):
            if of_list:
                pick_of_each(common.read_products(), dtype, count, file)
                continue
            for shape in wanted:
                title = f"{shape}, {dtype}, threads={count}"
                sweeps += sweep(title, shape.of(dtype), count, sample, file)
    if sweeps:
        show_sweeps(sweeps)
        show_verdicts(summary(sweeps))


if __name__ == "__main__":
    common.run(main)
