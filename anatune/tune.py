"""The pipeline, top to bottom: profile, workload, plans, kernels, measurements, result (rank 8)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anatune.errors import AnatuneError
from anatune.hwprofile import Profile
from anatune.machine import cpu_only, matmul_only
from anatune.measure.budget import Budget
from anatune.measure.memory import require_memory
from anatune.measure.outcome import Measurement, Outcome
from anatune.measure.race import race, winner
from anatune.measure.runner import LocalRunner
from anatune.model import candidates as model
from anatune.result import Candidate, Result
from anatune.workload import Matmul

FALL_BACK = 3
"""Plans that a model-only run tries before it gives up; the first one is expected to do."""

ELSEWHERE = Measurement(Outcome.SKIPPED, note="for another machine: compiled, not run")


def tune(
    workload: Matmul,
    target: Any = "host",
    *,
    budget: Any = None,
    threads: int | None = None,
    objective: str = "time",
    progress: Callable[[str], None] = lambda text: None,
) -> Result:
    """A verified kernel for ``workload`` on ``target``, with the reasons for every choice.

    Args:
        workload: what `matmul` returns.
        target: "host", a profile's name, the path of a profile file, or a Profile. A kernel for a
            machine whose vector instructions this one lacks is compiled from the model's pick, and
            not run; any other is measured here.
        budget: None for the default short pass; 0 for the model alone (the kernel is verified, not
            timed); a number of measured candidates; or a wall-clock time such as "5s".
        threads: threads to use, all usable ones by default.
        objective: "time", "energy" or "edp" (energy times time); energy is modelled.
        progress: called with a line of text now and then.

    Raises:
        WorkloadError, OptionError, ProfileError: an argument that cannot be used, named.
        BuildError, VerificationError, WorkerError: no plan led to a kernel that works.
    """
    workload = matmul_only(workload)
    limit = Budget.parse(budget)
    profile = cpu_only(target, progress)
    ranked = model.best(profile, workload, threads, objective)
    chosen = model.shortlist(ranked, max(limit.candidates, FALL_BACK))
    if not _is_this_machine(profile):
        return _compile_only(profile, chosen[0])
    require_memory(workload)
    if limit.candidates == 0:
        return _verify_only(profile, chosen[:FALL_BACK], progress)
    return _race(profile, chosen[: limit.candidates], limit, objective, progress)


def _race(
    profile: Profile,
    chosen: list[model.Ranked],
    limit: Budget,
    objective: str,
    progress: Callable[[str], None],
) -> Result:
    with LocalRunner(chosen[0][0]) as runner:
        plans = [(plan, estimate.seconds) for plan, estimate in chosen]
        measurements = race(plans, runner, limit, progress=progress)
        kernels = runner.kernels
    results = _candidates(chosen, measurements)
    place = winner(measurements, lambda i, s: model.measured_cost(chosen[i], s, objective))
    if place is None:
        raise _why_none(results)
    return Result(profile, kernels[chosen[place][0]], results, place)


def _verify_only(
    profile: Profile, chosen: list[model.Ranked], progress: Callable[[str], None]
) -> Result:
    measurements = [Measurement(Outcome.SKIPPED, note="model only")] * len(chosen)
    with LocalRunner(chosen[0][0]) as runner:
        for place, (plan, estimate) in enumerate(chosen):
            progress(f"verifying plan {place + 1}")
            outcome = runner.prepare(plan, estimate.seconds)
            if outcome.outcome is Outcome.OK:
                results = _candidates(chosen, measurements)
                return Result(profile, runner.kernels[plan], results, place)
            measurements[place] = outcome
    raise _why_none(_candidates(chosen, measurements))


def _compile_only(profile: Profile, pick: model.Ranked) -> Result:
    from anatune.codegen.build import build

    return Result(profile, build(pick[0]), _candidates([pick], [ELSEWHERE]), 0)


def _candidates(chosen: list[model.Ranked], measurements: list[Measurement]) -> list[Candidate]:
    pairs = enumerate(zip(chosen, measurements), 1)
    return [Candidate(rank, plan, estimate, m) for rank, ((plan, estimate), m) in pairs]


def _is_this_machine(profile: Profile) -> bool:
    from anatune.codegen.target import runs_here
    from anatune.plan import CodeTarget

    return runs_here(CodeTarget.of(profile.target))


def _why_none(results: list[Candidate]) -> AnatuneError:
    """The error for a run without a working kernel: the first plan's."""
    first = next(c.measurement for c in results if c.measurement.outcome is not Outcome.SKIPPED)
    why = f"none of {len(results)} plans gave a working kernel; the first: {first.note}"
    return first.outcome.error(why)
