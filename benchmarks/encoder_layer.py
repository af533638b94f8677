"""One layer of BERT-base's encoder as one group of workloads: fused, unfused, and in libraries.

The group has 26 steps: query, key and value, attention of 12 heads that are read in place, the
output's product, feed-forward with gelu, and after each half the residual and a layer norm in four
steps; biases are steps of their own. The unfused version computes each step as the model plans it
alone. PyTorch runs its own fused attention, ONNX Runtime a graph whose weights are constants that
its session packs ahead of time, where ours come with each call.

All take turns, each library in a process of its own; the fastest turn counts.

    python benchmarks/encoder_layer.py                        # minutes
    python benchmarks/encoder_layer.py --tokens 128,512 --json layer.jsonl
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import click
import common
from encoder import encoder
from fusion_rows import UNFUSED, Case, Log, Row
from fusion_turns import PATIENCE_S, ROUNDS, Turn, measure_all, timed
from fusion_ways import PLANNED, planned_together
from targets import Verdict, no_row_under, number, show_verdicts

import anatune as at
from anatune.errors import AnatuneError, VerificationError, WorkerError
from anatune.hwprofile.profile import Profile
from anatune.measure.group_bench import drawn_inputs
from anatune.measure.group_reference import check_group
from anatune.measure.worker import Worker

LAYER = "encoder layer"

LIBRARIES = {"PyTorch": ("torch", "encoder:Torch"), "ONNX Runtime": ("onnx", "encoder:Onnx")}
"""Library -> the module that must be there, and what its process serves."""

LEAST = 0.98
"""Speed over the unfused version."""


def measure(profile: Profile, case: Case, run: str, rounds: int) -> Row:
    """The layer's row; a library that fails is left out, and the note says so."""
    workload = encoder(tokens_of(case))
    row = Row(case, run)
    try:
        start = time.perf_counter()
        ways = planned_together(profile, workload, case.threads)
        row.more["decided_s"] = time.perf_counter() - start
        row.expect(ways.plans, ways.predicted_s, ways.pick)
        with libraries(case, row) as others:
            row.samples_s = timed(workload, ways.plans, case.threads, rounds, others)
    except AnatuneError as error:
        row.note = common.in_one_line(error)
    return row


def tokens_of(case: Case) -> int:
    return int(case.name.split()[0])


@contextmanager
def libraries(case: Case, row: Row) -> Iterator[dict[str, Turn]]:
    """Those that are installed and compute what is right, each in a process."""
    tokens, threads = tokens_of(case), case.threads
    workload, found = encoder(tokens), {}
    given = drawn_inputs(workload)
    with ExitStack() as stack:
        for name, (module, factory) in LIBRARIES.items():
            if find_spec(module) is None:
                continue
            worker = stack.enter_context(Worker(factory, (tokens, threads), threads))
            try:
                result = worker.call("result", timeout_s=PATIENCE_S)
                check_group(workload, given, {"y": result})
            except (WorkerError, VerificationError) as error:
                row.more[name] = common.in_one_line(error)
                continue
            found[name] = partial(_sample, worker)
        yield found


def _sample(worker: Worker, calls: int) -> float:
    seconds: float = worker.call("sample", calls, timeout_s=PATIENCE_S)
    return seconds


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    found = []
    for threads in sorted({row.case.threads for row in rows}):
        here = [row for row in rows if row.case.threads == threads]
        gains = {row.case.name: row.gain for row in here}
        found.append(no_row_under(f"threads={threads}: fused over unfused", gains, LEAST))
    return found


def show(rows: Sequence[Row]) -> None:
    for threads in sorted({row.case.threads for row in rows}):
        lines = [
            (row.case.name, row.time(PLANNED), row.time(UNFUSED), number(row.gain),
             number(row.predicted_gain), number(row.off(PLANNED), 2),
             *(f"{row.time(name)} {number(row.faster(PLANNED, name))}" for name in LIBRARIES),
             f"{row.more.get('decided_s', 0.0):.1f} s",
             row.note or "; ".join(f"{n}: {row.more[n]}" for n in LIBRARIES if n in row.more))
            for row in rows if row.case.threads == threads
        ]  # fmt: skip
        header = ("layer", "fused", "unfused", "gain", "predicted", "said/found",
                  *(f"{name}, ours over it" for name in LIBRARIES), "decided in", "note")
        common.print_table(header, lines, f"threads={threads}")


def one_line(row: Row) -> str:
    times = ", ".join(f"{way} {row.time(way)}" for way in row.seconds)
    return f"gain {number(row.gain)}; {times}; {row.plans.get(PLANNED, 'left alone')}"


@click.command()
@click.option("--tokens", default="128", show_default=True, metavar="N,N", help="Rows.")
@click.option("--threads", default="1,2", show_default=True, metavar="N,N",
              help="Numbers of threads.")
@click.option("--rounds", default=ROUNDS, show_default=True, type=click.IntRange(min=1),
              help="Turns of each; the fastest counts.")
@click.option("--json", "json_path", type=click.Path(path_type=Path),
              help="Append every row with all samples to a file of JSON lines.")
@click.option("--resume", is_flag=True, help="Skip the rows that the file has; judge all of them.")
def main(
    tokens: str, threads: str, rounds: int, json_path: Path | None, resume: bool
) -> None:
    """One encoder layer fused, unfused and in libraries, alternating."""
    common.workers_look_here()
    log = Log("encoder_layer.py", json_path, resume)
    every = [
        Case(LAYER, f"{rows} tokens", count)
        for count in common.thread_counts(threads) for rows in common.thread_counts(tokens)
    ]  # fmt: skip
    profile = at.load_profile("host")
    facts = {**common.machine_facts(profile), **common.versions(("torch", "onnxruntime"))}
    click.echo(common.facts_line(facts))
    measure_all(
        log.missing(every), log, facts,
        lambda case, run: measure(profile, case, run, rounds), one_line,
    )  # fmt: skip
    found = list(log.rows.values())
    show(found)
    show_verdicts(verdicts(found))


if __name__ == "__main__":
    common.run(main)
