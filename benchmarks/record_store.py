"""How long a full record store takes to open and to answer.

Writes records of real size to a file of its own, then asks a fresh process for some of them, as the
next run of a tuner would. The first answer holds the opening; the others come from an open store.

    python benchmarks/record_store.py       # seconds; needs 200 MB of disk for a while
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import common
from targets import Verdict, show_verdicts

import anatune as at
from anatune.hwprofile import load_profile
from anatune.measure.entry import Entry
from anatune.measure.outcome import Measurement, Outcome, Timing
from anatune.model import candidates as model
from anatune.records import Origin, Pass, ProfileId, Record, Store
from anatune.units import CAPACITY, TIME

OPEN_S, ANSWER_S = 0.5, 0.010
"""Longest time until a store is open, and from a question to its answer, seconds."""

PROFILE = "zen4"

PER_WORKLOAD = 20
"""Records of each workload: a default pass or two, with their verdicts."""

QUESTIONS = 50

ANSWER = """
import json, sys, time
import anatune as at
from anatune.records import Store
questions = json.loads(sys.stdin.read())
started = time.perf_counter()
store = Store(sys.argv[1])
seconds, found = [], []
for m, n, k, profile_hash in questions:
    workload = at.matmul(m, n, k)
    asked = time.perf_counter()
    found.append(len(store.find(workload, profile_hash)))
    seconds.append(time.perf_counter() - asked)
    if len(seconds) == 1:
        opened = time.perf_counter() - started
print(json.dumps({"open_s": opened, "answers_s": seconds[1:], "found": found}))
"""


def extents(count: int) -> list[tuple[int, int, int]]:
    """Products of as many different sizes, always the same."""
    draw = random.Random(1)
    found: dict[tuple[int, int, int], None] = {}
    while len(found) < count:
        found[draw.randint(1, 4096), draw.randint(1, 4096), draw.randint(1, 4096)] = None
    return list(found)


def records(count: int) -> Iterator[Record]:
    """As many records as a default pass writes, of one planned product moved to all sizes."""
    profile, origin = load_profile(PROFILE), Origin.here()
    workload = at.matmul(784, 512, 128)
    ranked = model.best(profile, workload, 1, "time")
    chosen = model.shortlist(ranked, PER_WORKLOAD)
    timing = Timing((1.2346e-5,) * 9, (1.0235e-4,) * 9, 1.0123e-4, (2.3456e-5,) * 3)
    for m, n, k in extents(-(-count // PER_WORKLOAD)):
        moved = at.matmul(m, n, k)
        of = Pass(workload=moved, profile=ProfileId.of(profile), threads=1, origin=origin)
        for place in range(PER_WORKLOAD):
            plan, estimate = chosen[place % len(chosen)]
            blocks = replace(plan.blocks, mc=m, nc=n, kc=k)
            entry = Entry(replace(plan, workload=moved, blocks=blocks), estimate)
            yield of.measured(entry, Measurement(Outcome.OK, timing, build_s=0.0567), place + 1)


def ask(path: Path, count: int) -> dict[str, object]:
    """Times of a process that knows nothing of the store yet."""
    profile_hash = ProfileId.of(load_profile(PROFILE)).hash
    known = extents(-(-count // PER_WORKLOAD))
    asked = random.Random(2).choices(known, k=QUESTIONS)
    questions = json.dumps([(*shape, profile_hash) for shape in asked])
    command = (sys.executable, "-c", ANSWER, str(path))
    done = subprocess.run(command, input=questions, capture_output=True, text=True, check=True)
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


@click.command()
@click.option("--records", "count", default=100_000, show_default=True, help="Size of the store.")
@click.option("--json", "json_path", type=click.Path(), help="Write the times to a file.")
def main(count: int, json_path: str | None) -> None:
    """Opening a store of many records, and asking it."""
    with tempfile.TemporaryDirectory(prefix="anatune-") as folder:
        path = Path(folder) / "records.jsonl"
        started = time.perf_counter()
        Store(path).append(records(count))
        written_s, size = time.perf_counter() - started, path.stat().st_size
        found = ask(path, count)
    answers = sorted(found["answers_s"])  # type: ignore[type-var]
    click.echo(
        f"{count} records, {CAPACITY.show(size)}, {size / count:.0f} B each, made and written in "
        f"{TIME.show(written_s)}; {min(found['found'])} to {max(found['found'])} per answer"
    )
    click.echo(f"an answer: median {TIME.show(statistics.median(answers))}")
    lines = [
        (f"opened within {TIME.show(OPEN_S)}", found["open_s"], OPEN_S),
        (f"every answer within {TIME.show(ANSWER_S)}", answers[-1], ANSWER_S),
    ]
    show_verdicts([Verdict(text, TIME.show(took), took <= most) for text, took, most in lines])
    common.write_json(json_path, {"records": count, "bytes": size, **found})


if __name__ == "__main__":
    common.run(main)
