"""The model's plan for a group of workloads beside the best of a bounded space, all of it measured.

The space: what is absorbed, every division of the steps into stages, every height of blocks, the
best few plans of each step in all combinations. Where it is too large, half of what is measured are
the plans that the model thinks best, and half are drawn at random from the others. All are compared
with the reference and timed in a few short turns; the fastest of these, the model's plan and each
step by itself then take turns in a final.

    python benchmarks/joint_search.py                             # an hour or two
    python benchmarks/joint_search.py --rows "attention, 128 tokens" --threads 1 --limit 60
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import common
from chain_groups import CHAINS
from fusion_rows import UNFUSED, WITHIN, Case, Log, Row, chosen
from fusion_turns import (
    BATCH_S,
    ROUNDS,
    check,
    measure_all,
    nursery_of,
    sample,
    take_turns,
    timed,
    written,
)
from fusion_ways import PLANNED, left_alone
from targets import Verdict, number, show_verdicts

import anatune as at
from anatune.errors import AnatuneError
from anatune.hwprofile.profile import Profile
from anatune.measure.alone import alone
from anatune.model.groups import exhaustive_options, group_options
from anatune.plan.group import GroupPlan
from anatune.workload.group import Group

SEARCHED = (
    "1x1 of 64, 64, 256", "1x1 of 24, 144, 24, as in MobileNetV2", "1x1 of 16, 96, 24, 112 x 112",
    "perceptron, 256 rows of 64, 64, 64, 16", "attention, 128 tokens", "attention, 512 tokens",
    "layer norm, 128x768", "softmax in parts, 1536x128", "softmax in parts, 6144x512",
)  # fmt: skip
"""Chains of few steps."""

HEATS, FINALISTS = 3, 6
"""Turns of every plan, and how many plans of the fastest go to the final."""

SEED = 1

Options = dict[GroupPlan, float]
"""Predicted seconds by plan."""


def space(profile: Profile, workload: Group, threads: int) -> tuple[Options, GroupPlan]:
    """Every plan of the space with the model's own, and its pick; each step by itself is among
    them."""
    own = group_options(profile, workload, threads)
    found = {plan: estimate.seconds for plan, estimate in own}
    for plan, estimate in exhaustive_options(profile, workload, threads):
        found.setdefault(plan, estimate.seconds)
    return found, own[0][0]


def drawn(found: Options, always: Sequence[GroupPlan], limit: int) -> list[GroupPlan]:
    """At most ``limit`` plans: those wanted, half of the others best first, half at random."""
    others = sorted((plan for plan in found if plan not in always), key=lambda plan: found[plan])
    room = max(0, limit - len(always))
    if len(others) <= room:
        return [*always, *others]
    first = others[: room // 2]
    rest = random.Random(SEED).sample(others[room // 2 :], room - len(first))
    return [*always, *first, *rest]


def measure(
    profile: Profile, case: Case, workload: Group, run: str, limit: int, rounds: int
) -> Row:
    row = Row(case, run, PLANNED)
    try:
        start = time.perf_counter()
        found, pick = space(profile, workload, case.threads)
        row.more.update(options=len(found), planned_s=time.perf_counter() - start)
        plain = next(plan for plan in found if left_alone(plan))
        wanted = drawn(found, list(dict.fromkeys((pick, plain))), limit)
        _contest(row, workload, found, wanted, {PLANNED: pick, UNFUSED: plain}, rounds)
    except AnatuneError as error:
        row.note = common.in_one_line(error)
    return row


def _contest(
    row: Row, workload: Group, found: Options, wanted: Sequence[GroupPlan],
    named: Mapping[str, GroupPlan], rounds: int,
) -> None:  # fmt: skip
    """Heats of all plans, then the final; what came out is put into ``row``."""
    plans = {str(number): plan for number, plan in enumerate(wanted)}
    with tempfile.TemporaryDirectory(prefix="anatune-") as folder:
        paths = written(plans, Path(folder))
        with nursery_of(workload, row.case.threads) as nursery:
            wrong = check(nursery, paths)
            with alone(), nursery.cell() as cell:
                turns = {
                    name: partial(sample, cell, path)
                    for path, name in {path: name for name, path in paths.items()}.items()
                    if name not in wrong
                }  # fmt: skip
                heats = take_turns(turns, HEATS, batch_s=BATCH_S / 5)
    order = sorted(heats, key=lambda name: min(heats[name]))
    row.more["heats"] = [[found[plans[n]], min(heats[n]), str(plans[n])] for n in order]
    row.more["wrong"] = [f"{plans[name]}: {said}" for name, said in wrong.items()]
    others = {name: plans[name] for name in order[:FINALISTS] if plans[name] not in named.values()}
    final = {**named, **others}
    row.expect(final, {way: found[plan] for way, plan in final.items()}, PLANNED)
    row.samples_s = timed(workload, final, row.case.threads, rounds)


def tau(row: Row) -> float:
    """Whether the model orders plans as the clock does."""
    heats = row.more.get("heats", [])
    return common.kendall_tau([h[0] for h in heats], [h[1] for h in heats])


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    found = []
    for threads in sorted({row.case.threads for row in rows}):
        here = [row for row in rows if row.case.threads == threads]
        right = [row for row in here if (row.behind or 9.0) <= WITHIN]
        behind = common.geomean(row.behind for row in here if row.behind)
        said = f"{len(right)} of {len(here)}; geomean of pick's time over the best's {behind:.3f}"
        what = f"threads={threads}: the model's pick within {WITHIN - 1:.0%} of the best measured"
        found.append(Verdict(what, said, len(right) == len(here)))
    wrong = sum(len(row.more.get("wrong", [])) for row in rows)
    measured = sum(len(row.more.get("heats", [])) for row in rows) + wrong
    found.append(Verdict("plans that compute what is right", f"{measured - wrong} of {measured}",
                         not wrong))  # fmt: skip
    return found


def show(rows: Sequence[Row]) -> None:
    for threads in sorted({row.case.threads for row in rows}):
        lines = [
            (row.case.name, str(row.more.get("options", "-")),
             str(len(row.more.get("heats", []))), row.time(PLANNED), row.time(row.fastest or ""),
             number(row.behind), row.time(UNFUSED), f"{tau(row):.2f}",
             f"{row.more.get('planned_s', 0.0):.1f} s", row.note or _best(row))
            for row in rows if row.case.threads == threads
        ]  # fmt: skip
        header = ("chain", "plans", "measured", "pick", "best", "behind", "unfused", "tau",
                  "planned in", "pick; best")
        common.print_table(header, lines, f"threads={threads}")


def _best(row: Row) -> str:
    pick, best = row.plans.get(PLANNED, ""), row.plans.get(row.fastest or "", "")
    return pick if pick == best else f"{pick}; best: {best}"


def one_line(row: Row) -> str:
    found: Any = row.more.get("options")
    said = f"{found} plans; pick {row.time(PLANNED)}, {number(row.behind)} of the best"
    return f"{said}; {_best(row)}"


@click.command()
@click.option("--rows", metavar="NAME;NAME", help="Names of chains.")
@click.option("--threads", default="1,2", show_default=True, metavar="N,N",
              help="Numbers of threads.")
@click.option("--limit", default=400, show_default=True, type=click.IntRange(min=2),
              help="Plans that are measured at most.")
@click.option("--rounds", default=ROUNDS, show_default=True, type=click.IntRange(min=1),
              help="Turns of each in the final.")
@click.option("--json", "json_path", type=click.Path(path_type=Path),
              help="Append every row to a file of JSON lines.")
@click.option("--resume", is_flag=True, help="Skip the rows that the file has; judge all of them.")
def main(
    rows: str | None, threads: str, limit: int, rounds: int, json_path: Path | None, resume: bool
) -> None:
    """The model's plan beside the best of all plans of a bounded space."""
    log = Log("joint_search.py", json_path, resume)
    made = {name: make for group in CHAINS.values() for name, make in group.items()}
    every = [
        Case("joint search", name, count)
        for count in common.thread_counts(threads) for name in (made if rows else SEARCHED)
    ]  # fmt: skip
    profile = at.load_profile("host")
    facts = common.machine_facts(profile)
    click.echo(common.facts_line(facts))
    measure_all(
        log.missing(chosen(every, rows)), log, facts,
        lambda case, run: measure(profile, case, made[case.name](), run, limit, rounds), one_line,
    )  # fmt: skip
    found = list(log.rows.values())
    show(found)
    show_verdicts(verdicts(found))


if __name__ == "__main__":
    common.run(main)
