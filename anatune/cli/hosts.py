"""``anatune host``: what this machine is, and a first set of products tuned on it (rank 9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from anatune.cli.options import budget_option, json_option, read_budget
from anatune.cli.plans import plan_fields
from anatune.cli.show import percent, print_json, print_table, progress, rate, seconds
from anatune.units import CAPACITY, CLOCK

if TYPE_CHECKING:
    from anatune.hwprofile import CoreKind, Profile
    from anatune.plan import GemmPlan
    from anatune.workload import Matmul

FIRST_SET = (
    (256, 256, 256),
    (1000, 1000, 1000),
    (2000, 2000, 2000),
    (3136, 64, 576),  # ResNet-50, stage 2, its 3x3 convolutions as a product
    (784, 512, 128),  # ResNet-50, stage 3, the 1x1 convolutions that widen
)
"""m, n, k of what is tuned first: three squares, two layers of ResNet-50 (He et al., 2016)."""


BUSY_FACTOR = 1.5
"""Measured over predicted time from which the machine is taken to have been busy: half way between
a model that is right, 1, and a core that another program has every second time slice of, 2."""

BUSY_NOTE = (
    f"note: where a time is more than {BUSY_FACTOR:g} times the predicted one, the machine was "
    "probably busy; run anatune host again when it is idle"
)


@dataclass(frozen=True)
class Run:
    """One tuned product; ``measured_s`` is None where the budget lets nothing be measured."""

    plan: GemmPlan
    threads: int
    predicted_s: float
    measured_s: float | None
    peak_flops: float | None  # probed, of that many threads together, FLOP/s

    @property
    def workload(self) -> Matmul:
        return self.plan.workload

    @property
    def disturbed(self) -> bool:
        """Whether it took so much longer than predicted that the model is not to blame."""
        return bool(self.measured_s and self.measured_s > BUSY_FACTOR * self.predicted_s)

    @property
    def flops_per_s(self) -> float | None:
        return self.workload.flops / self.measured_s if self.measured_s else None

    @property
    def peak_share(self) -> float | None:
        reached, peak = self.flops_per_s, self.peak_flops
        return reached / peak if reached and peak else None


@click.command()
@budget_option()
@json_option
def host(budget: str | None, as_json: bool) -> None:
    """Detect and probe this machine, tune a first set.

    The profile is kept for the next time, and the table says what was reached.
    """
    limit = read_budget(budget)
    from anatune.machine import detect

    with progress() as tell:
        machine = detect(tell)
    if not as_json:
        click.echo(_describe(machine))
    runs = []
    with progress() as tell:
        for threads in sorted({1, machine.usable_threads}):
            for shape in FIRST_SET:
                tell(f"tuning {'x'.join(map(str, shape))}, threads: {threads}")
                runs.append(_tune(machine, shape, threads, limit))
    if as_json:
        return print_json({"profile": machine.name, "runs": [_fields(run) for run in runs]})
    columns = ("m x n x k", "tile", "threads", "predicted", "measured", "rate", "of peak")
    print_table(columns, [_line(run) for run in runs])
    if any(run.disturbed for run in runs):
        click.echo(BUSY_NOTE)


def _tune(
    machine: Profile, shape: tuple[int, int, int], threads: int, budget: int | str | None
) -> Run:
    from anatune.plan import GemmPlan
    from anatune.tune import tune
    from anatune.workload import matmul

    w = matmul(*shape)
    result = tune(w, machine, threads=threads, budget=budget)
    assert isinstance(result.plan, GemmPlan) and result.predicted  # the model's, by default
    peaks = machine.peak_flops if threads == 1 else machine.peak_all_flops
    return Run(
        plan=result.plan,
        threads=threads,
        predicted_s=result.predicted.seconds,
        measured_s=result.measured.median_s if result.measured else None,
        peak_flops=dict(peaks).get(w.dtype),
    )


def _line(run: Run) -> tuple[str, ...]:
    return (
        f"{run.workload.m}x{run.workload.n}x{run.workload.k}",
        f"{run.plan.tile.mr}x{run.plan.tile.nr}",
        str(run.threads),
        seconds(run.predicted_s),
        seconds(run.measured_s),
        rate(run.flops_per_s),
        percent(run.peak_share),
    )


def _fields(run: Run) -> dict[str, object]:
    return {
        "plan": plan_fields(run.plan),
        "threads": run.threads,
        "predicted_s": run.predicted_s,
        "measured_s": run.measured_s,
        "flops_per_s": run.flops_per_s,
        "peak_share": run.peak_share,
    }


def _describe(machine: Profile) -> str:
    """The machine in a few lines: its cores, its caches, its probed peaks."""
    guest = " (virtual machine)" if machine.virtualized else ""
    return "\n".join(
        (
            f"{machine.title}{guest}, usable threads: {machine.usable_threads}",
            *(_core(core) for core in machine.cores),
            *_peaks(machine),
        )
    )


def _peaks(machine: Profile) -> list[str]:
    """One line for all data types that have one peak."""
    together = dict(machine.peak_all_flops)
    groups: dict[tuple[str, str], list[str]] = {}
    for dtype, peak in machine.peak_flops:
        groups.setdefault((rate(peak), rate(together.get(dtype))), []).append(dtype)
    return [
        f"probed peak of {', '.join(dtypes)}: {one} on one thread, {every} on all"
        for (one, every), dtypes in groups.items()
    ]


def _core(core: CoreKind) -> str:
    caches = ", ".join(f"L{level.level} {CAPACITY.show(level.size_bytes)}" for level in core.caches)
    clock = f" at {CLOCK.show(core.clock_one_hz)}" if core.clock_one_hz else ""
    return f"{core.count} x {core.name}{clock}, {core.vector_bits} bit vectors, {caches}"
