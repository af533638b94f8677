"""Ways to compute one workload, checked and then timed turn and turn about: a row for each case."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import click
import common
from fusion_rows import Case, Log, Row
from fusion_ways import Plan, planned_together

from anatune.codegen.build import build
from anatune.codegen.link import write_loadable
from anatune.errors import AnatuneError, VerificationError
from anatune.measure.alone import alone
from anatune.measure.calibrate import calls_of_batch
from anatune.measure.nursery import Nursery
from anatune.report.turns import SETTLE_S
from anatune.workload.group import Group

ROUNDS = 25

BATCH_S = common.BATCH_S / 4
"""Length of a batch, seconds; the median of several is a turn's sample."""

PATIENCE_S = 300.0

Samples = dict[str, list[float]]


Turn = Callable[[int], float]
"""Seconds per call, of so many calls."""


def timed(
    workload: Any, plans: Mapping[str, Plan], threads: int, rounds: int = ROUNDS,
    others: Mapping[str, Turn] | None = None,
) -> Samples:  # fmt: skip
    """Seconds of each turn, by way; the ways take turns, every second round backwards.

    Each kernel has been compared with the reference before. ``others`` take turns beside them.
    """
    with tempfile.TemporaryDirectory(prefix="anatune-") as folder:
        stems = {way: Path(folder) / str(number) for number, way in enumerate(plans)}
        paths = {way: write_loadable(build(p).executable, stems[way]) for way, p in plans.items()}
        nursery = Nursery(bench_of(workload), (workload,), threads)
        with alone(), nursery as held, held.cell() as cell:
            for way, path in paths.items():
                wrong = cell.call("check", (path, None), timeout_s=PATIENCE_S)
                if wrong:
                    raise VerificationError(f"{way}: {wrong}")
            ours = {way: partial(sample, cell, path) for way, path in paths.items()}
            return take_turns({**ours, **(others or {})}, rounds, SETTLE_S if others else 0.0)


def sample(cell: Any, path: str, calls: int) -> float:
    seconds: float = cell.call("sample", (path, None), calls, timeout_s=PATIENCE_S)
    return seconds


def take_turns(
    players: Mapping[str, Turn], rounds: int, rest_s: float = 0.0, batch_s: float = BATCH_S
) -> Samples:
    """A sample of each in every round, after a pause in which others' idle threads go to sleep."""
    calls = {way: calls_of_batch(turn, batch_s, False) for way, turn in players.items()}
    samples: Samples = {way: [] for way in players}
    for number in range(rounds):
        for way in list(players) if number % 2 else list(reversed(players)):
            time.sleep(rest_s)
            samples[way].append(players[way](calls[way]))
    return samples


def bench_of(workload: Any) -> str:
    name = "DependentBench" if isinstance(workload, Group) else "GroupBench"
    return f"anatune.measure.group_bench:{name}"


def measure_group(
    profile: Any, case: Case, workload: Group, run: str, rounds: int = ROUNDS
) -> Row:
    """The row of a group: its pick beside each step by itself; alone where they are the same."""
    row = Row(case, run)
    try:
        ways = planned_together(profile, workload, case.threads)
        row.expect(ways.plans, ways.predicted_s, ways.pick)
        row.samples_s = timed(workload, ways.plans, case.threads, rounds)
    except AnatuneError as error:
        row.note = common.in_one_line(error)
    return row


def measure_all(
    wanted: Sequence[Case], log: Log, facts: Mapping[str, str],
    measure: Callable[[Case, str], Row], tell: Callable[[Row], str],
) -> None:  # fmt: skip
    """Measure and keep a row for each case."""
    if not wanted:
        return
    run = datetime.now().isoformat(timespec="milliseconds")
    log.add_run(run, facts=facts)
    for place, case in enumerate(wanted, 1):
        click.echo(f"[{place}/{len(wanted)}] {case}", err=True)
        row = measure(case, run)
        log.add_row(row)
        click.echo(f"    {row.note or tell(row)}", err=True)


def mean(values: Iterable[float | None]) -> float:
    """Geometric mean of those that are known."""
    known = [value for value in values if value]
    return common.geomean(known) if known else math.nan
