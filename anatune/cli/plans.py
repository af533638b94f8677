"""``anatune plan``, ``explain``, ``why-not`` and ``tune``: one workload on one machine (rank 9)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from anatune.cli.families import family_fields, print_family, print_family_result
from anatune.cli.options import (
    WorkloadCommand,
    budget_option,
    cache_option,
    objective_option,
    read_budget,
    read_database,
    remote_option,
    search_option,
    tune_database_option,
)
from anatune.cli.show import plain, print_json, print_table, progress, rate, seconds
from anatune.cli.workloads import WORKLOADS_HELP, product_options, workload_options

if TYPE_CHECKING:
    from anatune.hwprofile import Profile
    from anatune.measure.outcome import Measurement
    from anatune.plan import Estimate
    from anatune.plan.accelerator import Simulation
    from anatune.result import Candidate, Raced
    from anatune.workload import Matmul


@click.command(cls=WorkloadCommand, epilog=WORKLOADS_HELP)
@workload_options
@objective_option
def plan(w: Any, target: str, threads: int | None, objective: str, as_json: bool) -> None:
    """The plan for a workload, and its predicted time."""
    from anatune import api
    from anatune.machine import resolve
    from anatune.model.accelerator.ranges import TileFamily
    from anatune.model.joint import is_joint
    from anatune.plan import DynamicPlan

    profile = resolve(target)
    if is_joint(w):
        return _print_ways(w, api.rank(w, profile, threads=threads, objective=objective), as_json)
    chosen = api.plan(w, profile, threads=threads, objective=objective)
    if isinstance(chosen, TileFamily):
        return print_json({"plan": plan_fields(chosen)}) if as_json else click.echo(str(chosen))
    if isinstance(chosen, DynamicPlan):
        if as_json:
            ends = family_fields(profile, chosen)
            return print_json({"plan": plan_fields(chosen), "predicted": ends})
        return print_family(profile, chosen)
    estimate = api.predict(chosen, w, profile)
    found = _simulated(chosen, profile)
    if as_json:
        fields = {"plan": plan_fields(chosen), "predicted": estimate_fields(estimate)}
        return print_json({**fields, **({"simulated": found} if found else {})})
    click.echo(f"{w}: {chosen}")
    click.echo(f"predicted {_time_and_rate(w, estimate.seconds)}, bound by {estimate.bound}")
    if found:
        click.echo(f"simulated {_time_and_rate(w, found.seconds)}, {found.cycles:.6g} cycles")


def _print_ways(w: Any, ways: list[tuple[Any, Estimate]], as_json: bool) -> None:
    """The best of the ways to compute what is no single product, then all of them."""
    chosen, estimate = ways[0]
    if as_json:
        listed = [
            {"way": way.decided, "predicted_s": e.seconds, "bound": e.bound} for way, e in ways
        ]
        fields = {"plan": plan_fields(chosen), "predicted": estimate_fields(estimate)}
        return print_json({**fields, "ways": listed})
    click.echo(f"{w}: {chosen}")
    click.echo(f"predicted {_time_and_rate(w, estimate.seconds)}, bound by {estimate.bound}")
    rows = [(way.decided, seconds(e.seconds), e.bound) for way, e in ways]
    print_table(("way", "predicted", "bound by"), rows)


def _simulated(chosen: Any, profile: Profile) -> Simulation | None:
    """What came of a plan for an accelerator; None where there is nothing to simulate."""
    from anatune import api
    from anatune.model.accelerator.simulate import MOST_STEPS
    from anatune.plan.accelerator import TilePlan

    if not isinstance(chosen, TilePlan) or chosen.steps > MOST_STEPS:
        return None
    return api.simulate(chosen, profile, numbers=False)


@click.command(cls=WorkloadCommand, epilog=WORKLOADS_HELP)
@workload_options
@objective_option
def explain(w: Any, target: str, threads: int | None, objective: str, as_json: bool) -> None:
    """The equations behind a plan, with their numbers."""
    from anatune import api

    chosen = api.plan(w, target, threads=threads, objective=objective)
    text = api.explain(chosen, target)
    if as_json:
        return print_json({"plan": plan_fields(chosen), "explanation": text.splitlines()})
    click.echo(text)


@click.command("why-not", cls=WorkloadCommand)
@click.argument("choice", metavar="CHOICE")
@product_options
def why_not(choice: str, w: Matmul, target: str, threads: int | None, as_json: bool) -> None:
    """Why CHOICE is not taken.

    It is a register tile such as 8x48, an order such as C3B2A0, an arithmetic such as
    "int16 pairs", or how an operand is stored, such as b=in_place."""
    from anatune import api

    text = api.why_not(choice, w, target, threads=threads)
    if as_json:
        return print_json({"choice": choice, "why_not": text.splitlines()})
    click.echo(text)


def _library_file(
    _context: click.Context, _parameter: click.Parameter, file: Path | None
) -> Path | None:
    """Refuse a file that `Result.export` would not write, before seconds are spent on tuning."""
    if file is not None and file.suffix != ".so":
        raise click.BadParameter(f"{file.name!r}: name it such as kernel.so")
    if file is not None and not file.parent.is_dir():
        raise click.BadParameter(f"{str(file.parent)!r}: no such folder")
    return file


@click.command(cls=WorkloadCommand, epilog=WORKLOADS_HELP)
@workload_options
@objective_option
@budget_option()
@click.option(
    "--export", type=click.Path(path_type=Path, dir_okay=False), callback=_library_file,
    metavar="FILE.so", help="Write the kernel to a shared library.",
)  # fmt: skip
@search_option
@cache_option
@tune_database_option
@remote_option
def tune(
    w: Any,
    target: str,
    threads: int | None,
    objective: str,
    as_json: bool,
    budget: str | None,
    export: Path | None,
    search: str,
    cache: str,
    database: str | None,
    remote: str | None,
) -> None:
    """Generate, check and measure a kernel.

    What is measured is kept: the same command answers from the store, goes on where it was
    interrupted, and with a larger budget continues. Nothing is measured where extents vary: the
    model plans, and the kernel is checked."""
    from anatune.family import FamilyResult
    from anatune.tune import tune as tune_workload

    limit = read_budget(budget)
    with progress() as tell:
        result = tune_workload(
            w, target, budget=limit, threads=threads, objective=objective, search=search,
            cache=cache, database=read_database(database), remote=remote, progress=tell,
        )  # fmt: skip
    written = {} if export is None else {"written_to": result.export(export)}
    if isinstance(result, FamilyResult) and not as_json:
        return print_family_result(result, written.get("written_to"))
    if as_json:
        return print_json({**result.as_dict(), "plan": plan_fields(result.plan), **written})
    assert not isinstance(result, FamilyResult)
    _print_result(result)
    for file in written.values():
        click.echo(f"written to {file}")


def plan_fields(chosen: Any) -> dict[str, Any]:
    """The plan as `anatune.plan.read.read_any` takes it."""
    fields: dict[str, Any] = json.loads(chosen.to_json())
    return fields


def estimate_fields(estimate: Estimate) -> dict[str, Any]:
    """An estimate as a JSON object; times in seconds, terms in cycles."""
    named = {"terms": dict(estimate.terms), "bytes_moved": dict(estimate.bytes_moved)}
    return {**plain(estimate), **named, "bound": estimate.bound}


def _print_result(result: Raced) -> None:
    """Candidates that were timed; the pick: what was said of it, what came true; who failed."""
    from anatune.result import Result

    w, timing = result.workload, result.measured
    timed = [c for c in result.candidates if c.measurement.timing is not None]
    if timed:
        columns = ("proposed", "plan", "predicted", "measured", "+-", "outcome")
        print_table(columns, [_line(c) for c in timed])
    click.echo(f"{w}: {result.plan}")
    if result.predicted is not None:
        click.echo(f"predicted {_time_and_rate(w, result.predicted.seconds)}")
    if timing is not None:
        click.echo(f"measured  {_time_and_rate(w, timing.median_s)}")
    else:
        click.echo("measured  nothing: the plan is the model's alone")
    if isinstance(result, Result) and result.packed_ahead is not None:
        click.echo(f"constant B: {result.packed_ahead}")
    if result.advice:
        click.echo(f"unstable: {result.advice}")
    if result.failed:
        click.echo(f"failed, of {len(result.candidates)} candidates:")
    for failed in result.failed:
        found = failed.measurement
        click.echo(f"  {failed.rank}. {failed.plan}: {found.outcome.value}: {found.note}")


def _line(candidate: Candidate) -> tuple[str, ...]:
    measurement = candidate.measurement
    return (
        str(candidate.rank),
        str(candidate.plan),
        seconds(None if candidate.predicted is None else candidate.predicted.seconds),
        seconds(candidate.seconds),
        seconds(_spread_s(measurement)),
        measurement.outcome.value,
    )


def _spread_s(measurement: Measurement) -> float | None:
    """None where one sample tells nothing of it."""
    timing = measurement.timing
    return None if timing is None or len(timing.samples_s) < 2 else timing.spread_s


def _time_and_rate(w: Any, time_s: float) -> str:
    return f"{seconds(time_s)}, {rate(w.flops / time_s)}"
