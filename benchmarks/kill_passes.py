"""Whether a pass survives its end: two tune at once into one store, killed -9 again and again.

A pass says which candidates it asks for and, when the call that wrote it down has returned, which
one is recorded. Whoever is killed is followed by the same call, which must go on where that one
stopped: nothing that was recorded is measured again, nothing is missing in the end. A pass that got
through is followed by one on another product.

    python benchmarks/kill_passes.py        # 200 kills, about six minutes
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import random
import signal
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import common
from targets import Verdict, show_verdicts

import tvm  # noqa: F401  # so that lives are spent on tuning and not on loading it

import anatune as at
import anatune.tune  # noqa: F401
from anatune.hwprofile.kept import CACHE_ENVIRONMENT
from anatune.measure.race import Race
from anatune.plan import Plan
from anatune.records import Journal, Store
from anatune.records.line import State
from anatune.search import shortlist

PASSES = 2

WAVE, CANDIDATES = 3, 12
"""Candidates that are measured together, and of a whole pass: so few, and in so many waves, that
records are written all the time."""

LONGEST_WAIT_S = 2.0
"""Longest time until the next kill, seconds: two processes share them, and a pass takes three."""

TARGETS = {"x86_64": "generic_x86_64", "amd64": "generic_x86_64", "aarch64": "generic_aarch64"}


def workload(number: int) -> at.Matmul:
    """Small products, no two of them alike."""
    return at.matmul(24, 40, 16 + number)


def name_of(plan: Plan) -> str:
    return hashlib.sha256(plan.to_json().encode()).hexdigest()[:16]


@dataclass
class Pass:
    """One product, tuned by one process after the other until one gets through."""

    number: int
    path: Path
    candidates: int
    process: int = 0
    pipe: int = 0
    recorded: set[str] = field(default_factory=set)
    lives: int = 0
    again: int = 0  # candidates that were asked for although they were recorded
    result: str = ""

    def start(self) -> None:
        self.lives += 1
        self.pipe, its_end = os.pipe()
        self.process = os.fork()
        if self.process == 0:
            try:
                tune(self, its_end)
            except BaseException:
                traceback.print_exc()
            os._exit(1)  # unreached, unless tuning raised
        os.close(its_end)

    def end(self, kill: bool) -> None:
        """Kill the process, or wait for its end, and hear what it has said."""
        if kill:
            os.kill(self.process, signal.SIGKILL)
        with open(self.pipe, "rb") as pipe:
            said = pipe.read().decode().splitlines()
        _, status = os.waitpid(self.process, 0)
        code = os.waitstatus_to_exitcode(status)
        assert code in (0, -signal.SIGKILL), f"a pass ended by itself: {code}"
        before = set(self.recorded)
        for what, name in map(str.split, said):
            if what == "asked":
                self.again += name in before
            elif what == "recorded":
                self.recorded.add(name)
            else:
                self.result = name


def tune(one: Pass, pipe: int) -> None:
    """A pass that says what it does; it ends the process."""
    measure, measured = Race.measure, Journal.measured

    def asking(race: Race, entries: Any) -> Any:
        for entry in entries:
            os.write(pipe, f"asked {name_of(entry.plan)}\n".encode())
        return measure(race, entries)

    def recording(journal: Journal, entry: Any, *found: Any) -> None:
        measured(journal, entry, *found)
        os.write(pipe, f"recorded {name_of(entry.plan)}\n".encode())

    Race.measure, Journal.measured = asking, recording  # type: ignore[method-assign]
    shortlist.WAVE = WAVE
    target = TARGETS[platform.machine().lower()]
    w = workload(one.number)
    result = at.tune(w, target, budget=one.candidates, threads=1, database=one.path)
    os.write(pipe, f"result {name_of(result.plan)}\n".encode())
    os._exit(0)


@dataclass
class Trial:
    """What the passes said, and what is in the file."""

    kills: int = 0
    passes: list[Pass] = field(default_factory=list)
    lost: int = 0
    torn: int = 0
    wrong_end: int = 0  # passes whose number of candidates or whose result is not what it should be

    @property
    def said(self) -> int:
        return sum(len(one.recorded) for one in self.passes)

    @property
    def again(self) -> int:
        return sum(one.again for one in self.passes)

    @property
    def resumed(self) -> int:
        return sum(one.lives - 1 for one in self.passes)


def run_trial(path: Path, kills: int, candidates: int, seed: int) -> Trial:
    trial, draw = Trial(), random.Random(seed)

    def begin() -> Pass:
        one = Pass(len(trial.passes), path, candidates)
        trial.passes.append(one)
        one.start()
        return one

    running = [begin() for _ in range(PASSES)]
    while trial.kills < kills:
        time.sleep(draw.uniform(0, LONGEST_WAIT_S))
        place = draw.randrange(PASSES)
        one = running[place]
        one.end(kill=True)
        if one.result:  # it got through before
            running[place] = begin()
        else:
            trial.kills += 1
            one.start()
    for one in running:
        one.end(kill=False)
    judge(trial, path)
    return trial


def judge(trial: Trial, path: Path) -> None:
    """Compare what was said with what the store has."""
    store = Store(path)
    trial.torn = store.count()[State.TORN]
    records = list(store.all())
    for one in trial.passes:
        mine = [record for record in records if record.plan.workload == workload(one.number)]
        found = {name_of(record.plan) for record in mine}
        trial.lost += len(one.recorded - found)
        ends = [name_of(record.plan) for record in mine if record.verdict]
        whole = len(found) == one.candidates and one.result in found and one.result in ends[-1:]
        trial.wrong_end += not whole


@click.command()
@click.option("--kills", default=200, show_default=True)
@click.option("--candidates", default=CANDIDATES, show_default=True, help="Of each pass.")
@click.option("--seed", default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def main(kills: int, candidates: int, seed: int, as_json: bool) -> None:
    """Two passes into one store, killed at random instants."""
    with tempfile.TemporaryDirectory(prefix="anatune-", ignore_cleanup_errors=True) as folder:
        os.environ[CACHE_ENVIRONMENT] = str(Path(folder) / "cache")
        os.environ["TMPDIR"] = tempfile.tempdir = folder  # where those who are killed leave things
        trial = run_trial(Path(folder) / "records.jsonl", kills, candidates, seed)
    figures = {
        "kills": trial.kills, "passes": len(trial.passes), "resumed": trial.resumed,
        "recorded": trial.said, "lost": trial.lost, "again": trial.again, "torn": trial.torn,
        "wrong_end": trial.wrong_end,
    }  # fmt: skip
    if as_json:
        return click.echo(json.dumps(figures))
    click.echo(
        f"{trial.kills} kills of {len(trial.passes)} passes, which went on {trial.resumed} times; "
        f"{trial.said} candidates recorded, {trial.torn} lines cut short"
    )
    show_verdicts(
        [
            Verdict("every record is there", f"{trial.lost} lost", not trial.lost),
            Verdict("none is measured again", f"{trial.again} asked for", not trial.again),
            Verdict("every pass got through", f"{trial.wrong_end} did not", not trial.wrong_end),
        ]
    )


if __name__ == "__main__":
    common.run(main)
