"""What measuring costs beside the kernels themselves: candidates, and answers from the store.

A product that takes about 200 us is tuned over 16 candidates, with no kernel at hand, in this
process; then the same call again, which the store answers; then that in processes of their own.

    python benchmarks/overhead.py       # half a minute
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click
import common
from targets import Verdict, show_verdicts

import anatune as at
from anatune.hwprofile.kept import CACHE_ENVIRONMENT
from anatune.units import TIME

SHAPE, CANDIDATES, THREADS = (304, 304, 304), 16, 1
"""56 MFLOP: 200 us at 280 GFLOP/s."""

RUNS = 5

MOST_S, ANSWER_S = 3.0, 0.050
"""Longest time of a pass over the candidates, and of an answer from the store, seconds."""

FRESH = """
import time
start = time.perf_counter()
import anatune as at
at.tune(at.matmul({}, {}, {}), threads={}, budget={})
print(time.perf_counter() - start)
"""


@contextmanager
def own_cache() -> Iterator[None]:
    """An empty cache folder and store, with the host's profile in it."""
    before = os.environ.get(CACHE_ENVIRONMENT)
    with tempfile.TemporaryDirectory(prefix="anatune-") as folder:
        common.keep_probed_hosts(Path(folder))
        os.environ[CACHE_ENVIRONMENT] = folder
        try:
            yield
        finally:
            del os.environ[CACHE_ENVIRONMENT]
            if before is not None:
                os.environ[CACHE_ENVIRONMENT] = before


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_a_new_process() -> float:
    """Seconds from the start of Python code to the answer, imports included."""
    code = FRESH.format(*SHAPE, THREADS, CANDIDATES)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


@click.command()
@click.option("--json", "json_path", type=click.Path(), help="Write the times to a file.")
def main(json_path: str | None) -> None:
    """What 16 candidates cost to measure, and an answer from the store."""
    facts = common.machine_facts(at.load_profile("host"))
    click.echo(common.facts_line(facts))
    w = at.matmul(*SHAPE)
    tune = partial(at.tune, w, budget=CANDIDATES, threads=THREADS)
    found: dict[str, list[float]] = {"pass": [], "answer": [], "answer, new process": []}
    for _ in range(RUNS):
        with own_cache():
            results = []
            found["pass"].append(seconds(lambda: results.append(tune())))
            again = [seconds(tune) for _ in range(RUNS)]
            found["answer"].append(statistics.median(again))
            found["answer, new process"].append(in_a_new_process())
    count, measured = len(results[0].candidates), results[0].measured
    click.echo(f"{w}: {count} candidates, the best takes {TIME.show(measured.median_s)}")
    for name, taken in found.items():
        shown = ", ".join(TIME.show(s) for s in sorted(taken))
        click.echo(f"{name}: median {TIME.show(statistics.median(taken))} of {shown}")
    limits = {"pass": MOST_S, "answer": ANSWER_S}
    show_verdicts(
        [
            Verdict(f"{name}: within {TIME.show(limit)}", TIME.show(took), took <= limit)
            for name, limit in limits.items()
            for took in [statistics.median(found[name])]
        ]
    )
    common.write_json(json_path, {"facts": facts, "seconds": found})


if __name__ == "__main__":
    common.run(main)
