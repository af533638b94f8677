"""What planning workloads together adds to the time until there is a kernel.

For each group the seconds of three parts: the model's decision, lowering to TVM's loops, and TVM
with LLVM. Unfused are the same steps in one function, each planned by itself; what fusing takes
beyond that is told per step and as a share of the whole. Each time is of a process of its own, in
which nothing of the group was planned before; medians of some processes count.

    python benchmarks/fusion_compile.py          # minutes
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import common
from chain_groups import CHAINS
from encoder import encoder
from fusion_groups import networks

import anatune as at
from anatune.hwprofile.profile import Profile
from anatune.measure.alone import alone
from anatune.measure.worker import Worker
from anatune.workload.fused import Fused
from anatune.workload.group import Group

PATIENCE_S = 600.0

DECIDED, LOWERED, COMPILED = "decided", "lowered", "compiled"
PARTS = (DECIDED, LOWERED, COMPILED)

LAYER = "encoder layer, 128 tokens"

COMPARED = (
    "inception 3a, 1x1 branches", "query, key, value of BERT, 128 tokens",
    "gelu beside a product", "1x1 of 64, 64, 256", "1x1 of 24, 144, 24, as in MobileNetV2",
    "feed-forward, 128x768x3072x768", "attention, 128 tokens", "layer norm, 128x768",
    "softmax in parts, 1536x128", LAYER,
)  # fmt: skip

Times = dict[str, float]


def workloads() -> dict[str, Any]:
    """All groups of the benchmarks of fusion, by name."""
    chains = {name: make() for group in CHAINS.values() for name, make in group.items()}
    return {**networks(), **chains, LAYER: encoder(128)}


class Timer:
    """Inside a process: the parts of making one kernel, in seconds."""

    def __init__(self, name: str, threads: int) -> None:
        self.workload, self.threads = workloads()[name], threads
        self.profile = at.load_profile("host")
        self._parts(at.group({"y": at.elementwise("x + y", (2, 3))}), True)  # which loads TVM

    def times(self, together: bool) -> Times:
        return self._parts(self.workload, together)

    def _parts(self, workload: Any, together: bool) -> Times:
        from anatune.codegen.build import build
        from anatune.codegen.fusion import lower_fusion
        from anatune.codegen.groups import lower_group

        clock = time.perf_counter
        start = clock()
        plan = decide(self.profile, workload, self.threads, together)
        decided = clock()
        if not together:
            plan = one_by_one(self.profile, workload, self.threads)
        planned = clock()
        lower_group(plan) if isinstance(workload, Group) else lower_fusion(plan)
        lowered = clock()
        build(plan)
        lowering = lowered - planned
        return {DECIDED: decided - start, LOWERED: lowering,
                COMPILED: clock() - lowered - lowering}  # fmt: skip


def decide(profile: Profile, workload: Group | Fused, threads: int, together: bool) -> Any:
    """The model's plan for all steps together, or just a plan for each."""
    from anatune.model.fusion import best_member, options
    from anatune.model.groups import group_options

    if together:
        find = group_options if isinstance(workload, Group) else options
        return find(profile, workload, threads)[0][0]  # type: ignore[operator]
    each = (
        [step.workload for step in workload.steps] if isinstance(workload, Group)
        else workload.members
    )  # fmt: skip
    return [best_member(profile, one, threads, workload.operand_bytes) for one in each]


def one_by_one(profile: Profile, workload: Group | Fused, threads: int) -> Any:
    from anatune.model.fusion import options
    from anatune.model.groups import group_options
    from anatune.plan.fusion import Decision

    find = group_options if isinstance(workload, Group) else options
    found = find(profile, workload, threads)  # type: ignore[operator]
    return next(plan for plan, _ in found if plan.decision is Decision.ONE_BY_ONE)


def timed(name: str, threads: int, together: bool, processes: int) -> Times:
    """The median of each part."""
    found = []
    for _ in range(processes):
        with alone(), Worker("fusion_compile:Timer", (name, threads), threads) as worker:
            found.append(worker.call("times", together, timeout_s=PATIENCE_S))
    return {part: statistics.median(times[part] for times in found) for part in PARTS}


def compared(name: str, threads: int, processes: int) -> dict[str, Any]:
    workload = workloads()[name]
    steps = len(workload.steps if isinstance(workload, Group) else workload.members)
    unfused, fused = (timed(name, threads, how, processes) for how in (False, True))
    added = sum(fused.values()) - sum(unfused.values())
    return {
        "group": name, "threads": threads, "steps": steps, "unfused_s": unfused, "fused_s": fused,
        "added_s": added, "added_per_step_s": added / steps,
        "decision_added_s": fused[DECIDED] - unfused[DECIDED],
        "share": added / sum(fused.values()),
    }  # fmt: skip


def show(found: Sequence[dict[str, Any]]) -> None:
    for threads in dict.fromkeys(f["threads"] for f in found):
        lines = [
            (f["group"], str(f["steps"]),
             *(f"{f[way][part]:.2f}" for part in PARTS for way in ("unfused_s", "fused_s")),
             f"{f['added_s']:+.2f}", f"{f['added_per_step_s'] * 1e3:+.0f}", f"{f['share']:.0%}")
            for f in found if f["threads"] == threads
        ]  # fmt: skip
        header = ("group", "steps",
                  *(f"{part} {way}, s" for part in PARTS for way in ("unfused", "fused")),
                  "added, s", "a step, ms", "of the whole")
        common.print_table(header, lines, f"threads={threads}")


@click.command()
@click.option("--rows", metavar="NAME;NAME", help="Names of groups of the benchmarks of fusion.")
@click.option("--threads", default="2", show_default=True, metavar="N,N",
              help="Numbers of threads.")
@click.option("--processes", default=3, show_default=True, type=click.IntRange(min=1),
              help="Times that each is planned and compiled anew.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write to a file.")
def main(rows: str | None, threads: str, processes: int, json_path: Path | None) -> None:
    """Seconds of deciding, lowering and compiling, fused beside unfused."""
    common.workers_look_here()
    profile = at.load_profile("host")
    facts = common.machine_facts(profile)
    click.echo(common.facts_line(facts))
    found = []
    for count in common.thread_counts(threads):
        for name in rows.split(";") if rows else COMPARED:
            click.echo(name, err=True)
            found.append(compared(name, count, processes))
    show(found)
    parts = {part: sum(f["fused_s"][part] for f in found) for part in PARTS}
    whole = sum(parts.values())
    said = ", ".join(f"{part} {seconds / whole:.0%}" for part, seconds in parts.items())
    click.echo(f"of all that is fused: {said}")
    common.write_json(json_path, {"facts": facts, "groups": found})


if __name__ == "__main__":
    common.run(main)
