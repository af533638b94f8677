"""Side by side with the installed libraries, each with its best setting (rank 9).

Every runner has a process of its own, and they take turns. The heats, one per library, find the
setting that suits it best for this very workload; the final is what counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from anatune.errors import OptionError, WorkerError, require
from anatune.hwprofile import Profile
from anatune.machine import cpu_only
from anatune.measure.outcome import Measurement
from anatune.measure.stand import Stand
from anatune.measure.worker import Worker
from anatune.plan import CodeTarget, Plan
from anatune.report.competitors.entries import Choice, Request
from anatune.report.competitors.registry import find
from anatune.report.turns import Entrant, fastest, take_turns

OURS = "anatune"

BATCH_S = 0.02
"""Length of a timed batch, seconds: long against the timer and against one thread's wake-up."""

HEAT_ROUNDS = 3
"""Rounds in which every setting of a library runs."""

FINAL_ROUNDS = 9
"""Rounds of the final, whose median counts."""

HOPELESS = 10.0
"""Times the fastest one's time: who takes longer stays with the time of its first turns."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """One runner's result: median seconds per call and their spread, or why there is none."""

    library: str
    setting: str
    time_s: float | None = None
    spread_s: float | None = None
    note: str = ""
    tuning_s: float | None = None  # what was spent before the first call, where it was a search

    @classmethod
    def of(cls, entrant: Entrant) -> Row:
        who = entrant.library, entrant.setting
        timing = entrant.timing
        if timing is None:
            return cls(*who, note=entrant.note or "not timed", tuning_s=entrant.tuning_s)
        return cls(*who, timing.median_s, timing.spread_s, entrant.note, entrant.tuning_s)


@dataclass(frozen=True)
class LeftOut:
    """A library that takes no part, and why."""

    library: str
    why: str


@dataclass(frozen=True)
class Comparison:
    """All rows for one plan; ours first. ``tried`` has the heats of the settings that lost."""

    plan: Plan
    rows: tuple[Row, ...]
    tried: tuple[Row, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    peak_flops_per_s: float | None = None  # probed, of as many threads as the libraries had

    @property
    def ratio(self) -> float | None:
        """Our speed over that of the fastest other runner; None where either has no time."""
        ratios = [self.ratio_to(row) for row in self.rows[1:]]
        return min((ratio for ratio in ratios if ratio is not None), default=None)

    def ratio_to(self, row: Row) -> float | None:
        """Our speed over that of ``row``."""
        ours = self.rows[0].time_s
        return row.time_s / ours if ours and row.time_s else None

    def flops_per_s(self, row: Row) -> float | None:
        return self.plan.workload.flops / row.time_s if row.time_s else None

    def peak_share(self, row: Row) -> float | None:
        """Fraction of the probed peak; None where the profile has none for these threads."""
        rate = self.flops_per_s(row)
        return rate / self.peak_flops_per_s if rate and self.peak_flops_per_s else None


def runnable_here(target: Any, progress: Tell = lambda text: None) -> Profile:
    """The profile of ``target``, whose kernels this machine can run.

    Raises:
        OptionError: it cannot, or they are not for a CPU.
        ProfileError: no such profile.
    """
    from anatune.codegen.target import runs_here

    profile = cpu_only(target, progress)
    code = CodeTarget.of(profile.target)
    why = f"target = {profile.name!r}: compare measures, and this machine cannot run code for it"
    require(runs_here(code), why, OptionError)
    return profile


def compare(
    plan: Plan,
    threads: int | None = None,
    progress: Tell = lambda text: None,
    rounds: int = FINAL_ROUNDS,
    *,
    libraries: Sequence[str] | None = None,
    metaschedule: Sequence[int] = (),
    profile: Profile | None = None,
    tuning_s: float | None = None,
) -> Comparison:
    """Time the kernel of ``plan`` beside the installed libraries, each with its best setting.

    Args:
        threads: threads of the libraries; None: as many as the plan, which may leave some idle.
        rounds: rounds of the final.
        libraries: names of `registry.LIBRARIES`; all by default.
        metaschedule: numbers of trials for which TVM's search is run as a competitor.
        profile: where the probed peak is found that rates are held against.
        tuning_s: what our own plan took to find, for its row.

    Raises:
        OptionError: fewer than one round, a library that is not known, or no trials.
        BuildError, VerificationError, WorkerError: our own kernel does not build, computes
            something else, or does not run.
    """
    require(rounds >= 1, f"rounds = {rounds}: at least 1", OptionError)
    threads = threads or plan.threads
    request = Request(workload=plan.workload, target=plan.target, threads=threads)
    found, refused = find(request, libraries, metaschedule)
    left_out = [LeftOut(name, why) for name, why in refused.items()]
    tried: list[Row] = []
    with ExitStack() as stack:
        ours = _start_ours(plan, stack)
        ours.tuning_s = tuning_s
        final = [ours]
        for name, choices in found.items():
            progress(f"{name}: finding the setting that suits it best")
            best, others = heat(ours, choices, request, stack)
            if best is None:
                left_out.append(LeftOut(name, others[0].note))
            else:
                final.append(best)
                tried += map(Row.of, others)
        progress(f"{rounds} rounds, turn and turn about")
        _play_final(final, rounds)
    rows = tuple(map(Row.of, final))
    return Comparison(plan, rows, tuple(tried), tuple(left_out), probed_peak(profile, request))


def heat(
    ours: Entrant, choices: Sequence[Choice], request: Request, stack: ExitStack
) -> tuple[Entrant | None, list[Entrant]]:
    """The fastest of one library's settings, still running; the others, whose processes ended.

    Ours runs too: who is hopeless beside it takes no second turn.
    """
    entrants = [start(choice, request, stack) for choice in choices]
    take_turns([ours, *entrants], HEAT_ROUNDS, BATCH_S, patience=HOPELESS)
    best = fastest(entrants)
    others = [entrant for entrant in entrants if entrant is not best]
    for entrant in others:
        entrant.end()
    return best, others


def start(choice: Choice, request: Request, stack: ExitStack) -> Entrant:
    """A competitor in a process of its own, checked. One that fails has no turns, and says why."""
    threads, patience_s = request.threads, choice.patience_s
    arguments = (choice.workload, threads, dict(choice.environment), *choice.how)
    worker = stack.enter_context(Worker(choice.factory, arguments, threads))
    entrant = Entrant(choice.library, choice.setting, end=worker.kill)
    try:
        wrong = worker.call("check", timeout_s=patience_s)
        about = worker.call("about", timeout_s=patience_s)
        entrant.library, entrant.tuning_s = about.library, about.tuning_s
    except WorkerError as error:
        wrong = str(error)
    if wrong:
        entrant.note = wrong
        worker.kill()
        return entrant
    produced = choice.workload.out_dtype
    other_type = f"C in {produced}" if produced != request.workload.out_dtype else ""
    entrant.note = "; ".join(filter(None, (other_type, about.note)))
    entrant.batch = lambda calls: float(worker.call("sample", calls, timeout_s=patience_s))
    return entrant


def probed_peak(profile: Profile | None, request: Request) -> float | None:
    """FLOP/s of the profile for the type of A: of one thread, or of all that can be used."""
    if profile is None or request.threads not in (1, profile.usable_threads):
        return None
    probed = profile.peak_flops if request.threads == 1 else profile.peak_all_flops
    return dict(probed).get(request.workload.dtype)


def _start_ours(plan: Plan, stack: ExitStack) -> Entrant:
    ready = stack.enter_context(Stand([plan])).ready([plan])[plan]
    if isinstance(ready, Measurement):
        raise ready.outcome.error(f"plan {plan}: {ready.outcome.value}: {ready.note}")
    return Entrant(OURS, "tuned", ready)


def _play_final(final: Sequence[Entrant], rounds: int) -> None:
    """Those within reach of the fastest run again; the others keep the times of their heats."""
    best = fastest(final)
    limit = HOPELESS * best.seconds if best is not None and best.seconds else 0.0
    playing = [entrant for entrant in final if (entrant.seconds or 0.0) <= limit]
    for entrant in final:
        if entrant in playing:
            entrant.samples.clear()
        else:
            entrant.note = "; ".join(filter(None, (entrant.note, "timed in the heats only")))
    take_turns(playing, rounds, BATCH_S)
