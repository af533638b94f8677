"""Tuned kernels beside the machine's peak, OpenBLAS, and what the model picks unmeasured.

For every product of the list and every number of threads: `anatune.tune` with the default pass and
with ``budget=0``, numpy's OpenBLAS as installed and told the core type that suits it best for that
product. All of them take turns in one loop, each in a process that sleeps while others run; medians
count. The peak is probed at the start and at the end, and the higher one is the measure.

    python benchmarks/first_slice.py                      # about ten minutes on two cores
    python benchmarks/first_slice.py --quick              # three products, few rounds: a minute
    python benchmarks/first_slice.py --rows square --threads 1 --json squares.json
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import common
from common import Product
from targets import Row, show, show_verdicts, verdicts

import anatune as at
from anatune.errors import AnatuneError, OptionError, require
from anatune.hwprofile import Profile
from anatune.measure.stand import Stand
from anatune.report.compare import start
from anatune.report.competitors.entries import Request
from anatune.report.competitors.settings import numpy_choices
from anatune.report.turns import Entrant, fastest, take_turns
from anatune.units import FLOP_RATE

DEFAULT_ROWS = r"square|resnet50_\d"
FULLY_CONNECTED_TOO = DEFAULT_ROWS + "|resnet50_fc"
QUICK_ROWS = r"square256|resnet50_13|resnet50_17"

HEAT_ROUNDS, FINAL_ROUNDS = 3, 9
QUICK_HEAT_ROUNDS, QUICK_FINAL_ROUNDS = 1, 3

FRESH_STARTS = 5
"""New processes whose median start-up time counts."""


def measure_row(product: Product, threads: int, heats: int, rounds: int) -> Row:
    """Tune twice, then race everybody. A failure becomes the row's note."""
    workload = product.workload
    row = Row(str(product), threads, workload.flops)
    try:
        tuned, row.tune_wall_s = timed(lambda: at.tune(workload, threads=threads, database=False))
        model, row.model_only_wall_s = timed(lambda: at.tune(workload, threads=threads, budget=0))
        row.tuned_plan, row.model_only_plan = tuned.plan.to_json(), model.plan.to_json()
        with ExitStack() as stack:
            ours = our_entrants({"tuned": tuned, "model only": model}, stack)
            installed, told = numpy_entrants(tuned.plan, threads, heats, stack)
            final = [*ours, installed, *told]
            take_turns(final, rounds, common.BATCH_S)
    except AnatuneError as error:
        row.note = common.in_one_line(error)
        return row
    row.tuned_s, row.model_only_s = ours[0].seconds, ours[-1].seconds
    row.installed_s = installed.seconds
    if told:
        row.told, row.told_s = told[0].setting, told[0].seconds
    row.samples_s = {entrant.setting: entrant.samples for entrant in final}
    row.note = "; ".join(f"{e.setting}: {e.note}" for e in final if e.note)
    return row


def our_entrants(results: dict[str, Any], stack: ExitStack) -> list[Entrant]:
    """One entrant per different plan, sharing operands, in a worker with threads for the widest."""
    names: dict[Any, str] = {}
    for name, result in results.items():  # the same plan is the same code: its time is known
        names.setdefault(result.plan, name)
    longest_s = max(result.predicted.seconds for result in results.values())
    stand = stack.enter_context(Stand(list(names), longest_s))
    ready = stand.ready(list(names))
    return [common.kernel_entrant(name, ready[plan]) for plan, name in names.items()]


def numpy_entrants(
    plan: at.GemmPlan, threads: int, heats: int, stack: ExitStack
) -> tuple[Entrant, list[Entrant]]:
    """numpy as installed; told the core type that suits its OpenBLAS best, [] if none does."""
    request = Request(workload=plan.workload, target=plan.target, threads=threads)
    installed, *told = [start(choice, request, stack) for choice in numpy_choices(request)]
    take_turns(told, heats, common.BATCH_S)
    best = fastest(told)
    for entrant in told:
        if entrant is not best:
            entrant.end()
    if best is None:
        return installed, []
    best.samples.clear()
    return installed, [best]


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    value = work()
    return value, time.perf_counter() - start


def start_up() -> dict[str, float]:
    """Seconds in fresh processes: importing anatune, loading TVM, a first model-only tuning."""
    root = str(Path(at.__file__).resolve().parents[1])
    code = (
        f"import sys, time; sys.path[:0] = [{root!r}]; clock = time.perf_counter; t0 = clock()\n"
        "import anatune; t1 = clock()\n"
        "import tvm; t2 = clock()\n"
        "anatune.tune(anatune.matmul(256, 256, 256), threads=1, budget=0); t3 = clock()\n"
        "print(t1 - t0, t2 - t1, t3 - t2)"
    )
    runs = []
    for _ in range(FRESH_STARTS):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        runs.append([float(word) for word in done.stdout.split()])
    names = ("import anatune", "load TVM", "first tune, budget=0")
    return {name: statistics.median(run[i] for run in runs) for i, name in enumerate(names)}


@click.command()
@click.option("--list", "path", default=str(common.LIST), help="CSV file: name, m, n, k, count.")
@click.option(
    "--rows",
    default=None,
    metavar="REGEX",
    help=f"Rows whose name begins so; default: {DEFAULT_ROWS}",
)
@click.option("--fc", is_flag=True, help="With ResNet-50's fully connected layer, of one row.")
@click.option(
    "--threads", default="1,2", show_default=True, metavar="N,N", help="Numbers of threads."
)
@click.option(
    "--json", "json_path", type=click.Path(), help="Write everything, samples too, to a file."
)
@click.option("--quick", is_flag=True, help="Three rows and few rounds, to see that it works.")
def main(
    path: str, rows: str | None, fc: bool, threads: str, json_path: str | None, quick: bool
) -> None:
    """Tuned kernels beside peak and OpenBLAS; judged by the targets of the first release."""
    counts = common.thread_counts(threads)
    wanted = rows or (QUICK_ROWS if quick else FULLY_CONNECTED_TOO if fc else DEFAULT_ROWS)
    products = [p for p in common.read_products(path) if re.match(wanted, p.name)]
    require(bool(products), f"rows = {wanted!r}: begins no name in {path}", OptionError)
    rounds = (QUICK_HEAT_ROUNDS, QUICK_FINAL_ROUNDS) if quick else (HEAT_ROUNDS, FINAL_ROUNDS)
    profile = at.load_profile("host")
    report: dict[str, Any] = {"facts": common.machine_facts(profile)}
    click.echo(common.facts_line(report["facts"]))
    report["start_up_s"] = start_up()
    first = report["peak_at_start"] = float32_peaks(profile, counts)
    at.tune(at.matmul(64, 64, 64), threads=1, budget=0)  # loads TVM, whose time start_up has told
    done: list[Row] = []
    for count in counts:
        for product in products:
            click.echo(f"{product}, threads={count}", err=True)
            done.append(measure_row(product, count, *rounds))
            report["rows"] = [asdict(row) for row in done]
            common.write_json(json_path, report)
    last = report["peak_at_end"] = float32_peaks(profile, counts)
    peaks = {count: max(first[count], last[count]) for count in counts}
    show(done, peaks)
    show_peaks(first, last)
    found = verdicts(done, peaks, report["start_up_s"])
    show_verdicts(found)
    report["verdicts"] = [asdict(v) for v in found]
    common.write_json(json_path, report)


def float32_peaks(profile: Profile, threads: list[int]) -> dict[int, float]:
    probed = common.probed_peaks(profile, threads)
    return {count: peaks.flops_per_s["float32"] for count, peaks in probed.items()}


def show_peaks(first: dict[int, float], last: dict[int, float]) -> None:
    lines = [(str(t), FLOP_RATE.show(first[t]), FLOP_RATE.show(last[t])) for t in first]
    common.print_table(("threads", "peak at the start", "at the end"), lines)


if __name__ == "__main__":
    common.run(main)
