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

ROUNDS = 27

AGAIN = "again"
"""The way of a kernel that also runs under another name."""

CELLS = 3
"""Processes that a row's rounds are divided over: pages that lie badly slow a kernel by percents,
and nobody else's turn brings that to light."""

BATCH_S = common.BATCH_S / 2
"""Length of a batch, seconds; the median of its parts is a turn's sample."""

PATIENCE_S = 300.0

Samples = dict[str, list[float]]


Turn = Callable[[int], float]
"""Seconds per call, of so many calls."""


def timed(
    workload: Any, plans: Mapping[str, Plan], threads: int, rounds: int = ROUNDS,
    others: Mapping[str, Turn] | None = None, twice: str = "",
) -> Samples:  # fmt: skip
    """Seconds of each turn, by way; the ways take turns, every second round backwards.

    The rounds are divided over `CELLS` processes, in which operands lie elsewhere. Each kernel has
    been compared with the reference before; ways of the same machine code are one kernel, timed
    once. ``others`` take turns beside them. The kernel of the way ``twice`` also runs as `AGAIN`:
    by how much a kernel differs from itself.
    """
    samples: Samples = {}
    with tempfile.TemporaryDirectory(prefix="anatune-") as folder:
        paths = written(plans, Path(folder))
        first_of = {path: way for way, path in reversed(paths.items())}
        with nursery_of(workload, threads) as nursery:
            for way, wrong in check(nursery, paths).items():
                raise VerificationError(f"{way}: {wrong}")
            with alone():
                for _ in range(min(CELLS, rounds)):
                    with nursery.cell() as cell:
                        turns = {way: partial(sample, cell, path) for path, way in first_of.items()}
                        if twice:
                            turns[AGAIN] = partial(sample, cell, paths[twice])
                        turns |= others or {}
                        rest_s = SETTLE_S if others else 0.0
                        for way, times in take_turns(turns, -(-rounds // CELLS), rest_s).items():
                            samples.setdefault(way, []).extend(times)
    return {**samples, **{way: samples[first_of[path]] for way, path in paths.items()}}


def written(plans: Mapping[str, Plan], folder: Path) -> dict[str, str]:
    """The kernels' files by way; those of the same machine code share one."""
    known: dict[str, str] = {}
    paths = {}
    for number, (way, plan) in enumerate(plans.items()):
        kernel = build(plan)
        code = kernel.source("asm")
        if code not in known:
            known[code] = write_loadable(kernel.executable, folder / str(number))
        paths[way] = known[code]
    return paths


def nursery_of(workload: Any, threads: int) -> Nursery:
    """Of processes that run kernels of ``workload``, all in the same memory."""
    common.workers_look_here()
    kind = "Dependent" if isinstance(workload, Group) else "Independent"
    return Nursery(f"fusion_served:{kind}", (workload,), threads)


def check(nursery: Nursery, paths: Mapping[str, str]) -> dict[str, str]:
    """What is wrong with results, by way: those that equal the reference are left out."""
    with nursery.cell() as cell:
        said = {
            way: cell.call("check", (path, None), timeout_s=PATIENCE_S)
            for way, path in paths.items()
        }
    return {way: wrong for way, wrong in said.items() if wrong}


def sample(cell: Any, path: str, calls: int) -> float:
    seconds: float = cell.call("sample", (path, None), calls, timeout_s=PATIENCE_S)
    return seconds


def take_turns(
    players: Mapping[str, Turn], rounds: int, rest_s: float = 0.0, batch_s: float = BATCH_S
) -> Samples:
    """A sample of each in every round, after a pause in which others' idle threads go to sleep."""
    for turn in players.values():
        turn(1)  # pages that are touched for the first time would make a batch seem long
    calls = {way: calls_of_batch(turn, batch_s, False) for way, turn in players.items()}
    samples: Samples = {way: [] for way in players}
    for number in range(rounds):
        for way in list(players) if number % 2 else list(reversed(players)):
            time.sleep(rest_s)
            samples[way].append(players[way](calls[way]))
    return samples


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
