"""What a call costs: checked, prepared, and from the exported library in a loop of C.

The kernels are so small that the call is most of it: a product of one by one, which computes next
to nothing, and one of 32x32x32. All ways take turns in one loop; medians count.

    python benchmarks/call_cost.py      # seconds
"""

from __future__ import annotations

import tempfile
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import common
from targets import Verdict, show_verdicts

import anatune as at
from anatune.report.turns import Entrant, take_turns
from anatune.units import TIME

SHAPES = ("1x1x1", "32x32x32")

ROUNDS = 9

CALL, PREPARED, LOOP = "a call with out=", "a prepared call", "the exported library, in C"

MOST_S = {CALL: 3e-6, PREPARED: 300e-9, LOOP: 300e-9}
"""Longest time of each way to call what computes next to nothing, seconds."""


def costs(result: at.Result) -> dict[str, float]:
    """Seconds per call, by way; of a workload in float32 whose B is known at run time."""
    with tempfile.TemporaryDirectory(prefix="anatune-") as folder:
        loaded = at.load(result.export(Path(folder) / "kernel.so"))
        entrants = [Entrant("", name, batch) for name, batch in _ways(result, loaded).items()]
        for entrant in entrants:
            assert entrant.batch is not None
            entrant.batch(1)  # the first call looks things up
        take_turns(entrants, ROUNDS, common.BATCH_S)
    return {entrant.setting: entrant.seconds or 0.0 for entrant in entrants}


def _ways(result: at.Result, loaded: Any) -> dict[str, Callable[[int], float]]:
    """Way to call -> seconds per call over a number of calls."""
    import numpy as np

    from anatune.measure.bench import time_batches

    tensors = (*result.workload.operands.values(), result.workload.output)
    a, b, c = (np.ones(tensor.shape, tensor.dtype) for tensor in tensors)
    names = {"call": result, "a": a, "b": b, "c": c, "prepared": result.prepare(a, b, out=c)}

    def timed(statement: str) -> Callable[[int], float]:
        timer = timeit.Timer(statement, globals=names)
        return lambda calls: timer.timeit(calls) / calls

    def looped(calls: int) -> float:
        return time_batches(loaded.module, (a, b, c), calls=calls, batches=1)[0]

    return {CALL: timed("call(a, b, out=c)"), PREPARED: timed("prepared()"), LOOP: looped}


def verdicts(found: dict[str, dict[str, float]]) -> list[Verdict]:
    """A call of the first shape, and what calling adds to the loop's time for every other one."""
    lines = []
    for place, (shape, seconds) in enumerate(found.items()):
        for way, most_s in MOST_S.items():
            if place == 0:
                what, cost_s = f"{shape}, {way}", seconds[way]
            elif way != LOOP:
                what, cost_s = f"{shape}, {way}, beyond the kernel itself", (
                    seconds[way] - seconds[LOOP]
                )  # fmt: skip
            else:
                continue
            target = f"{what}: within {TIME.show(most_s)}"
            lines.append(Verdict(target, in_ns(cost_s), cost_s <= most_s))
    return lines


def in_ns(seconds: float) -> str:
    return f"{1e9 * seconds:.0f} ns"


@click.command()
@click.option("--json", "json_path", type=click.Path(), help="Write the times to a file.")
def main(json_path: str | None) -> None:
    """What a call of a small kernel on one thread costs, however it is called."""
    facts = common.machine_facts(at.load_profile("host"))
    click.echo(common.facts_line(facts))
    found = {
        shape: costs(at.tune(common.read_shape(shape).workload, threads=1, budget=0))
        for shape in SHAPES
    }
    lines = [(shape, *(in_ns(seconds[way]) for way in MOST_S)) for shape, seconds in found.items()]
    common.print_table(("product", *MOST_S), lines, "float32, one thread")
    show_verdicts(verdicts(found))
    common.write_json(json_path, {"facts": facts, "seconds": found})


if __name__ == "__main__":
    common.run(main)
