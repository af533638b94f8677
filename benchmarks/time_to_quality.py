"""How good the best kernel is after how many seconds: the model alone, the short pass, evolve, and
TVM MetaSchedule, each from nothing and with the same time.

Four matrix products and two convolutions of 1x1, which are products: [h w, c_in] by [c_in, c_out].
Every search runs in a process of its own with an empty cache and an empty record store; the clock
starts when that process calls `tune`, loading of TVM included. MetaSchedule runs behind our
interface: the model's pick is its first candidate, and what it makes of the pick's tile its next.
All best kernels of all moments then take turns, so that one clock judges them all.

    python benchmarks/time_to_quality.py --json quality.json    # ten minutes
    python benchmarks/time_to_quality.py --plot quality.png
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import common

import anatune as at
from anatune.hwprofile.kept import CACHE_ENVIRONMENT
from anatune.measure.outcome import Measurement
from anatune.measure.stand import Stand
from anatune.plan import Plan, read_plan
from anatune.records import Kernels, Store
from anatune.report.turns import Entrant, take_turns
from anatune.units import FLOP_RATE, TIME

CASES = {
    "GEMM 512x512x512": (512, 512, 512),
    "GEMM 128x3072x768": (128, 3072, 768),
    "GEMM 49x512x4608": (49, 512, 4608),
    "GEMM 1000x1000x1000": (1000, 1000, 1000),
    "conv 1x1, 28x28, 512 to 128": (784, 128, 512),
    "conv 1x1, 14x14, 256 to 1024": (196, 1024, 256),
}

BUDGET_S = 30.0

SEARCHES = ("model", "short pass", "evolve", "metaschedule")

ROUNDS = 9

NEAR = 0.02
"""Share by which a kernel may be slower than the best of all searches, and count as good as it."""

ONE = """
import json, sys, time
import anatune as at
search, m, n, k, threads, seconds, store = sys.argv[1:]
start = time.time()
profile = at.load_profile("host")
w = at.matmul(int(m), int(n), int(k))
how = {"model": {"budget": 0}, "short pass": {}}.get(search, {"search": search, "budget": seconds})
r = at.tune(w, profile, threads=int(threads), database=store, **how)
print(json.dumps({"start": start, "end": time.time(), "plan": r.plan.to_json()}))
"""


@dataclass(frozen=True)
class Moment:
    """From ``after_s`` on the best kernel of a search is that of ``plan``."""

    after_s: float
    plan: Plan


def history(search: str, extents: Sequence[int], threads: int, seconds: float) -> list[Moment]:
    """How the best plan of a search changed with time, as its records tell."""
    with tempfile.TemporaryDirectory(prefix="anatune-") as folder:
        store = Path(folder) / "records.jsonl"
        words = [search, *map(str, extents), str(threads), f"{seconds}s", str(store)]
        common.keep_probed_hosts(Path(folder))
        done = subprocess.run(
            [sys.executable, "-c", ONE, *words], capture_output=True, text=True,
            env={**os.environ, CACHE_ENVIRONMENT: folder},
        )  # fmt: skip
        if done.returncode:
            raise click.ClickException(f"{search}: {done.stderr.strip().splitlines()[-1]}")
        told = json.loads(done.stdout.splitlines()[-1])
        moments, best_s = [], float("inf")
        for record in Store(store).all():
            timing = record.timing
            if record.verdict is None and timing is not None and timing.median_s < best_s:
                best_s = timing.median_s
                moments.append(Moment(record.when.timestamp() - told["start"], record.plan))
        moments.append(Moment(told["end"] - told["start"], read_plan(told["plan"])))
    return moments


def judged(histories: dict[str, list[Moment]]) -> dict[Plan, float]:
    """Seconds of every plan that was best at some moment, all taking turns."""
    plans = list(dict.fromkeys(m.plan for moments in histories.values() for m in moments))
    with Stand(plans, cache=Kernels()) as stand:
        entrants = {}
        for plan, batch in stand.ready(plans).items():
            if not isinstance(batch, Measurement):
                entrants[plan] = Entrant("", "", batch)
        take_turns(list(entrants.values()), ROUNDS, common.BATCH_S)
    return {plan: entrant.seconds or float("inf") for plan, entrant in entrants.items()}


def curve(moments: Sequence[Moment], seconds: dict[Plan, float]) -> list[tuple[float, float]]:
    """(seconds since the start, seconds per call of the plan that was best from then on)."""
    return [(m.after_s, seconds[m.plan]) for m in moments if m.plan in seconds]


@click.command()
@click.option("--threads", default=1, show_default=True)
@click.option("--seconds", default=BUDGET_S, show_default=True, help="Budget of the long searches.")
@click.option("--only", default="", help="Cases whose name contains this.")
@click.option("--json", "json_path", type=click.Path(), help="Write all curves to a file.")
@click.option("--plot", "plot_path", type=click.Path(), help="Draw them; needs matplotlib.")
def main(
    threads: int, seconds: float, only: str, json_path: str | None, plot_path: str | None
) -> None:
    """Best kernel so far against seconds of search."""
    facts = common.machine_facts(at.load_profile("host"))
    click.echo(common.facts_line(facts))
    curves = {}
    for name, extents in CASES.items():
        if only not in name:
            continue
        histories = {s: history(s, extents, threads, seconds) for s in SEARCHES}
        times = judged(histories)
        curves[name] = {s: curve(moments, times) for s, moments in histories.items()}
        _show(name, extents, curves[name])
    common.write_json(json_path, {"facts": facts, "threads": threads, "curves": curves})
    if plot_path:
        _draw(Path(plot_path), curves)


def _show(
    name: str, extents: Sequence[int], curves: dict[str, list[tuple[float, float]]]
) -> None:
    m, n, k = extents
    best_s = min(s for found in curves.values() for _, s in found)
    lines = []
    for search, found in curves.items():
        last_s = found[-1][1]
        near = next((at_s for at_s, s in found if s <= (1 + NEAR) * best_s), None)
        lines.append(
            (
                search,
                f"{found[0][0]:.2f} s",
                FLOP_RATE.show(2 * m * n * k / found[0][1]),
                f"{found[-1][0]:.1f} s",
                TIME.show(last_s),
                FLOP_RATE.show(2 * m * n * k / last_s),
                "never" if near is None else f"{near:.2f} s",
            )
        )
    columns = (
        "search", "first kernel", "its rate", "ended", "its kernel", "that one's rate",
        f"within {NEAR:.0%} of the best of all",
    )  # fmt: skip
    common.print_table(columns, lines, name)


def _draw(path: Path, curves: dict[str, dict[str, list[tuple[float, float]]]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(15, 8), layout="constrained")
    for axis, (name, found) in zip(axes.flat, curves.items()):
        for search, points in found.items():
            after, seconds = zip(*points)
            axis.step(after, [1e6 * s for s in seconds], where="post", marker="o", label=search)
        axis.set(title=name, xlabel="seconds since the start", xscale="log", yscale="log")
        axis.set_ylabel("best kernel so far, microseconds a call")
        axis.grid(True, which="both", alpha=0.3)
        axis.legend()
    figure.savefig(path)


if __name__ == "__main__":
    common.run(main)
