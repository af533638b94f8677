"""Independent operators in one parallel region, beside one region each; and what the model decides.

Two experiments of "Co-optimized kernel generation" (CMU 15-745, 2021) come first, M from 1 to 10:
two additions of M x N, and an addition of M x N beside sigmoid(exp(x)) of M x N^2. Theirs had rows
of 10^8 elements on 4 cores, which is memory's speed. Sizes are scaled here, so that operands stay
in the caches: N = 65536 for the first, N = 1000 for the second. The rest are operators of networks
that do not depend on each other: all ways are timed, and the model's pick is compared with the
fastest.

Ways take turns, and each one's fastest turn counts: whatever else runs can only slow it down.

    python benchmarks/fusion.py                 # minutes
    python benchmarks/fusion.py --quick         # M of 1, 2 and 5, no networks
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import common

import anatune as at
from anatune.codegen.build import build
from anatune.codegen.link import write_loadable
from anatune.measure.alone import alone
from anatune.measure.nursery import Nursery
from anatune.model.fusion import options
from anatune.plan import GemmPlan
from anatune.plan.fusion import Decision, FusionPlan, Member, Piece
from anatune.plan.fusion import alone as for_one
from anatune.units import TIME

THEIRS = {
    "balanced": (1.36, 0.95, 1.11, 0.98, 1.03, 0.98, 1.02, 0.94, 1.02, 0.99),
    "unbalanced": (1.00, 0.45, None, 0.47, None, 0.46, None, 0.51, None, 0.50),
}
"""Unfused time over fused time for M from 1 to 10, read off the report's charts and table."""

BALANCED_N, UNBALANCED_N = 65_536, 1000

ROUNDS = 15
PATIENCE_S = 300.0
WITHIN = 1.02
"""A pick that takes at most this many times the fastest way's time counts as right."""


def balanced(m: int) -> list[Any]:
    return [at.elementwise("x + y", (m, BALANCED_N))] * 2


def unbalanced(m: int) -> list[Any]:
    n = UNBALANCED_N
    return [at.elementwise("x + y", (m, n)), at.elementwise("sigmoid(exp(x))", (m, n * n))]


def _products(m: int, k: int, *widths: int, **of: Any) -> list[Any]:
    return [at.matmul(m, n, k, **of) for n in widths]


def networks() -> dict[str, at.Fused]:
    """Groups of independent operators by name."""
    add, gelu = at.elementwise("x + y", (128, 768)), at.elementwise("gelu(x + b[n])", (128, 3072))
    together = {
        "inception 3a, 1x1 branches": (_products(784, 192, 64, 96, 16), True),
        "inception 3b, 1x1 branches": (_products(784, 256, 128, 128, 32), True),
        "inception 4a, 1x1 branches": (_products(196, 480, 192, 96, 16), True),
        "inception 5a, 1x1 branches": (_products(49, 832, 256, 160, 32), True),
        "query, key, value of BERT, 128 tokens": (_products(128, 768, 768, 768, 768), True),
        "query, key, value of BERT, 16 tokens": (_products(16, 768, 768, 768, 768), True),
        "query, key, value, grouped, 32 tokens": (_products(32, 1024, 1024, 256, 256), True),
        "reduce and downsample, stage 1": (_products(3136, 64, 64, 256), True),
        "reduce and downsample, stage 2": (
            [at.matmul(3136, 128, 256), at.matmul(784, 512, 256)], False),
        "reduce and downsample, stage 4": (
            [at.matmul(196, 512, 1024), at.matmul(49, 2048, 1024)], False),
        "means and sums of rows": (
            [at.reduce("mean", (128, 768)), at.reduce("sum", (128, 768), "x * x")], False),
        "mean of channels beside a small product": (
            [at.reduce("mean", (49, 2048), axis=0), at.matmul(1, 1000, 512)], False),
        "small sums": ([at.reduce("sum", (64, 64)), at.reduce("max", (64, 64), axis=0)], False),
        "addition beside a product": ([add, at.matmul(128, 768, 768)], False),
        "gelu beside a product": ([gelu, at.matmul(128, 768, 768)], False),
        "softmax beside a product": ([at.softmax(1536, 128), at.matmul(128, 768, 768)], False),
        "softmax beside gelu": ([at.softmax(1536, 128), gelu], False),
        "relu of three branches": (
            [at.elementwise("relu(x + b[n])", (196, n)) for n in (192, 208, 48)], False),
        "two small products": ([at.matmul(49, 64, 128), at.matmul(49, 48, 96)], False),
        "int8 beside float32": ([at.matmul(64, 256, 256, dtype="int8"), at.matmul(64, 128, 256)],
                                False),
    }  # fmt: skip
    return {name: at.fused(group, same_a=same) for name, (group, same) in together.items()}


def ways_of(profile: Any, workload: Any, threads: int) -> dict[Decision, FusionPlan]:
    """A plan for each decision, the model's pick first; on one thread all are one piece each."""
    found = {plan.decision: plan for plan, _ in options(profile, workload, threads)}
    if Decision.FUSED not in found:
        members = tuple(_for_one(member) for member in found[Decision.ONE_BY_ONE].members)
        share = tuple(Piece(member=k, start=0, stop=m.units) for k, m in enumerate(members))
        found[Decision.FUSED] = FusionPlan(
            workload=workload, decision=Decision.FUSED, members=members, shares=(share,)
        )
    return found


def _for_one(member: Member) -> Member:
    if isinstance(member.plan, GemmPlan):
        return replace(member, plan=for_one(member.plan, member.along))
    return member


def timed(workload: Any, plans: dict[Decision, FusionPlan], threads: int) -> dict[Decision, Any]:
    """Seconds of each turn, by way; the ways take turns."""
    samples: dict[Decision, list[float]] = {decision: [] for decision in plans}
    bench = Nursery("anatune.measure.group_bench:GroupBench", (workload,), threads)
    with tempfile.TemporaryDirectory() as folder, bench as nursery, nursery.cell() as cell:
        stems = {d: Path(folder) / d.value for d in plans}
        paths = {d: write_loadable(build(p).executable, stems[d]) for d, p in plans.items()}
        for decision, path in paths.items():
            wrong = cell.call("check", (path, None), timeout_s=PATIENCE_S)
            assert not wrong, f"{workload}, {decision.value}: {wrong}"
        with alone():
            calls = {
                d: cell.call("calibrate", (path, None), common.BATCH_S / 4, timeout_s=PATIENCE_S)
                for d, path in paths.items()
            }
            for turn in range(ROUNDS):
                order = list(paths) if turn % 2 else list(reversed(paths))
                for d in order:
                    kernel = paths[d], None
                    seconds = cell.call("sample", kernel, calls[d], timeout_s=PATIENCE_S)
                    samples[d].append(seconds)
    return samples


def gain(samples: dict[Decision, list[float]], of: Decision, over: Decision) -> float:
    """How many times faster one way is than another."""
    return min(samples[over]) / min(samples[of])


def experiment(profile: Any, name: str, rows: Sequence[int], threads: int) -> list[dict[str, Any]]:
    found = []
    for m in rows:
        workload = at.fused({"balanced": balanced, "unbalanced": unbalanced}[name](m))
        plans = ways_of(profile, workload, threads)
        plans = {d: plans[d] for d in (Decision.FUSED, Decision.ONE_BY_ONE)}
        samples = timed(workload, plans, threads)
        found.append({
            "experiment": name, "m": m, "threads": threads,
            "fused_s": min(samples[Decision.FUSED]),
            "unfused_s": min(samples[Decision.ONE_BY_ONE]),
            "gain": gain(samples, Decision.FUSED, Decision.ONE_BY_ONE),
            "theirs": THEIRS[name][m - 1],
        })  # fmt: skip
    return found


def decisions(profile: Any, threads: int) -> list[dict[str, Any]]:
    """Each group by all ways: the model's pick, the fastest, and what the pick gains."""
    found = []
    for name, workload in networks().items():
        plans = ways_of(profile, workload, threads)
        samples = timed(workload, plans, threads)
        seconds = {d: min(times) for d, times in samples.items()}
        pick, fastest = next(iter(plans)), min(seconds, key=lambda d: seconds[d])
        found.append({
            "group": name, "threads": threads, "pick": pick.value, "fastest": fastest.value,
            "behind": gain(samples, fastest, pick),
            "gain": gain(samples, pick, Decision.ONE_BY_ONE),
            "seconds": {d.value: s for d, s in seconds.items()},
        })  # fmt: skip
    return found


def show_experiment(found: list[dict[str, Any]]) -> None:
    lines = [
        (str(f["m"]), TIME.show(f["fused_s"]), TIME.show(f["unfused_s"]), f"{f['gain']:.2f}",
         "" if f["theirs"] is None else f"{f['theirs']:.2f}")
        for f in found
    ]  # fmt: skip
    title = f"{found[0]['experiment']}, {found[0]['threads']} thread(s)"
    common.print_table(("M", "fused", "unfused", "gain", "theirs"), lines, title)


def show_decisions(found: list[dict[str, Any]]) -> None:
    lines = [
        (f["group"], *(TIME.show(f["seconds"][d.value]) for d in Decision), f["pick"],
         f"{f['behind']:.2f}", f"{f['gain']:.2f}")
        for f in found
    ]  # fmt: skip
    header = ("group", *(d.value for d in Decision), "pick", "behind", "gain")
    common.print_table(header, lines, f"{found[0]['threads']} threads")
    right = sum(f["behind"] <= WITHIN for f in found)
    mean = math.exp(statistics.mean(math.log(f["gain"]) for f in found))
    click.echo(f"pick within {WITHIN - 1:.0%} of the fastest: {right} of {len(found)}; "
               f"gain over one after the other, geometric mean: {mean:.3f}")


@click.command()
@click.option("--quick", is_flag=True, help="M of 1, 2 and 5, and no networks.")
@click.option("--json", "json_path", type=click.Path(), help="Write the times to a file.")
def main(quick: bool, json_path: str | None) -> None:
    """Fused against unfused, alternating, on one thread and on all."""
    profile = at.load_profile("host")
    facts = common.machine_facts(profile)
    click.echo(common.facts_line(facts))
    click.echo(f"N = {BALANCED_N} (balanced) and {UNBALANCED_N} (unbalanced); theirs: 10^8")
    rows = (1, 2, 5) if quick else range(1, 11)
    counts = dict.fromkeys((1, profile.usable_threads))
    found = []
    for name in THEIRS:
        for threads in counts:
            found.append(experiment(profile, name, rows, threads))
            show_experiment(found[-1])
    groups: list[dict[str, Any]] = []
    if not quick and profile.usable_threads > 1:
        groups = decisions(profile, profile.usable_threads)
        show_decisions(groups)
    common.write_json(json_path, {"facts": facts, "experiments": found, "groups": groups})


if __name__ == "__main__":
    common.run(main)
