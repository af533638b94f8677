"""Whether records outlive their writers: two at a time append to one store and are killed -9.

A writer says which records it has appended after each call that returned; whoever is killed is
followed by another. In the end all that was said must be there.

    python benchmarks/kill_writers.py       # 200 kills, under a minute
"""

from __future__ import annotations

import json
import os
import random
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import click
import common
from targets import Verdict, show_verdicts

import anatune as at
from anatune.measure.entry import Entry
from anatune.measure.outcome import Measurement, Outcome, Timing
from anatune.records import Origin, Pass, ProfileId, Record, Store
from anatune.records.line import State

WRITERS = 2

LONGEST_LIFE_S = 0.04
"""Longest time until the next kill, seconds: some appends long, so that many meet one halfway."""

MOST_AT_ONCE = 300
"""Records of the largest append: half a megabyte takes the system long enough to be killed in."""


def sample() -> Record:
    """A record of usual size; its note will be its name."""
    workload = at.matmul(784, 512, 128)
    plan = at.plan(workload, "zen4")
    of = Pass(
        workload=workload, profile=ProfileId("zen4", "0" * 64), threads=1, origin=Origin.here()
    )
    measurement = Measurement(Outcome.OK, Timing((1.2346e-5,) * 9, (1.0235e-4,) * 9, 1.0123e-4))
    return of.measured(Entry(plan, at.predict(plan, workload, "zen4")), measurement, 1)


def named(record: Record, name: str) -> Record:
    return replace(record, measurement=replace(record.measurement, note=name))


@dataclass
class Writer:
    """A process that appends until it is killed, and the pipe by which it says what it did."""

    process: int
    pipe: int

    @classmethod
    def start(cls, path: Path, record: Record, name: str) -> Writer:
        pipe, its_end = os.pipe()
        process = os.fork()
        if process == 0:
            try:
                write_on(path, record, name, its_end)
            finally:
                os._exit(1)  # unreached, unless appending raised
        os.close(its_end)
        return cls(process, pipe)

    def kill(self) -> Iterator[str]:
        """End it; names of the records that it had appended by then."""
        os.kill(self.process, signal.SIGKILL)
        _, status = os.waitpid(self.process, 0)
        assert os.WIFSIGNALED(status), "a writer ended by itself"
        with open(self.pipe, "rb") as pipe:
            said = pipe.read().decode()
        for line in said.splitlines():
            first, count = map(int, line.split()[1:])
            yield from (f"{line.split()[0]} {number}" for number in range(first, first + count))


def write_on(path: Path, record: Record, name: str, pipe: int) -> None:
    store, draw, first = Store(path), random.Random(name), 0
    while True:
        count = draw.choice((1, 1, 1, draw.randint(1, MOST_AT_ONCE)))
        store.append([named(record, f"{name} {first + i}") for i in range(count)])
        os.write(pipe, f"{name} {first} {count}\n".encode())
        first += count


@dataclass
class Trial:
    """What the writers said, and what is in the file."""

    kills: int
    said: set[str] = field(default_factory=set)
    found: set[str] = field(default_factory=set)
    torn: int = 0
    loads: bool = False

    @property
    def lost(self) -> int:
        return len(self.said - self.found)


def run_trial(path: Path, kills: int, seed: int) -> Trial:
    trial, draw, record = Trial(kills), random.Random(seed), sample()
    writers = [Writer.start(path, record, f"writer{number}") for number in range(WRITERS)]
    for number in range(kills):
        time.sleep(draw.uniform(0, LONGEST_LIFE_S))
        place = draw.randrange(WRITERS)
        trial.said.update(writers[place].kill())
        writers[place] = Writer.start(path, record, f"writer{number + WRITERS}")
    for writer in writers:
        trial.said.update(writer.kill())
    store = Store(path)
    store.append([named(record, "the last")])
    trial.said.add("the last")
    trial.found.update(one.measurement.note for one in store.all())
    trial.torn = store.count()[State.TORN]
    by_key = store.find(record.plan.workload, record.profile.hash)
    trial.loads = {one.measurement.note for one in by_key} == trial.found
    return trial


@click.command()
@click.option("--kills", default=200, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def main(kills: int, seed: int, as_json: bool) -> None:
    """Two writers on one file, killed at random instants."""
    with tempfile.TemporaryDirectory(prefix="anatune-") as folder:
        trial = run_trial(Path(folder) / "records.jsonl", kills, seed)
    if as_json:
        found = {"appended": len(trial.said), "lost": trial.lost, "torn": trial.torn}
        return click.echo(json.dumps({"kills": trial.kills, **found, "loads": trial.loads}))
    click.echo(
        f"{trial.kills} kills, {len(trial.said)} records appended, {len(trial.found)} in the file, "
        f"{trial.torn} lines cut short"
    )
    show_verdicts(
        [
            Verdict("every appended record is there", f"{trial.lost} lost", not trial.lost),
            Verdict("all are found by their key", "yes" if trial.loads else "no", trial.loads),
        ]
    )


if __name__ == "__main__":
    common.run(main)
