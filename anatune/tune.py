"""The pipeline, top to bottom: profile, workload, plans, kernels, measurements, result (rank 8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from anatune.errors import AnatuneError, OptionError, require
from anatune.family import tune_family
from anatune.hwprofile import Profile
from anatune.kinds import Asked, kind_of
from anatune.machine import HOST, cpu_only
from anatune.measure.alone import alone
from anatune.measure.budget import Budget
from anatune.measure.builder import Builder
from anatune.measure.entry import Entry
from anatune.measure.flush import flushed_bytes
from anatune.measure.memory import available_bytes, require_memory
from anatune.measure.outcome import Measurement, Outcome
from anatune.measure.pinning import processors
from anatune.measure.race import Race
from anatune.measure.runner import LocalRunner, Runner
from anatune.measure.tracker import Remote
from anatune.model import candidates as model
from anatune.plan import CodeTarget
from anatune.primfunc import is_tvm, recognise
from anatune.primfunc_result import PrimFuncResult
from anatune.records import Effort, Journal, Kernels, Origin, Pass, ProfileId, open_store
from anatune.records.record import COLD, WARM
from anatune.search import Search

MEMORY_SHARE = 0.8
"""Share of the free memory that one candidate may take; the rest keeps the machine alive."""

ELSEWHERE = Measurement(Outcome.SKIPPED, note="for another machine: compiled, not run")
MODEL_ONLY = Measurement(Outcome.SKIPPED, note="model only")

Tell = Callable[[str], None]


def tune(
    workload: Any,
    target: Any = HOST,
    *,
    budget: Any = None,
    threads: int | None = None,
    objective: str = "time",
    database: Any = None,
    search: str = "shortlist",
    cache: str = WARM,
    remote: str | None = None,
    code_bytes: int | None = None,
    progress: Tell = lambda text: None,
) -> Any:
    """A verified kernel for ``workload`` on ``target``, with the reasons for every choice.

    What is measured is kept in the record store. The same call returns what it decided; one that
    was interrupted, by Ctrl-C or a kill, goes on where it stopped; one with a larger budget too.

    A TVM PrimFunc, or a module with one, is tuned as the workload that it computes; it gives a
    `PrimFuncResult`, which takes the function's own arrays.

    Args:
        workload: what `matmul`, `elementwise`, `stencil`, `reduce`, `scan`, `softmax`, `fused`,
            `group` or `chain` returns; a `Result` for the first, a `GroupResult` for the others, of
            which all ways that the model lists are candidates, and which are measured here: no
            ``search`` and no ``remote``.
        target: "host", a profile's name, the path of a profile file, or a Profile. A kernel for a
            machine whose vector instructions this one lacks is compiled from the model's pick, and
            not run; any other is measured here.
        budget: None for the default pass (seconds; over all ways of what is no single product); 0
            for the model alone (the kernel is verified, not timed); a number of measured
            candidates; or a wall-clock time such as "5s".
        threads: threads to use, all usable ones by default.
        objective: "time", "energy" or "edp" (energy times time); energy is modelled.
        database: file of the record store, a `Store`, or False for none; None: the user's own.
        search: "shortlist", the model's first choices; "evolve", which goes on from its ranking
            over all legal plans and learns from what is measured; "metaschedule", TVM's own.
        cache: "warm", operands in use just before, or "cold", all caches emptied before each call.
        remote: "HOST:PORT/KEY" of a TVM RPC tracker whose devices measure instead of this machine.
        code_bytes: for a workload with dims, what the code of all variants may take; 1 MiB by
            default. Such a workload is planned by the model alone, and gives a `FamilyResult`; what
            is said here of measuring does not apply to it.
        progress: called with a line of text now and then.

    Raises:
        WorkloadError, OptionError, ProfileError: an argument that cannot be used, named.
        BuildError, VerificationError, WorkerError: no plan led to a kernel that works.
    """
    if is_tvm(workload):
        function = recognise(workload)
        result = tune(
            function.workload, target, budget=budget, threads=threads, objective=objective,
            database=database, search=search, cache=cache, remote=remote, code_bytes=code_bytes,
            progress=progress,
        )  # fmt: skip
        return PrimFuncResult(function, result)
    kind = kind_of(workload, search, remote)
    limit = kind.budget(budget)
    model.check_objective(objective)
    require(cache in (WARM, COLD), f"cache = {cache!r}: {WARM!r} or {COLD!r}", OptionError)
    store = open_store(database)
    elsewhere = None if remote is None else Remote.parse(remote)
    profile = cpu_only(target, progress)
    here = target == HOST or _runs_here(profile)
    if getattr(workload, "dims", ()):
        unmoved = search == "shortlist" and cache == WARM and remote is None
        require(unmoved, "search, cache, remote: nothing is measured of a workload with dims",
                OptionError)
        return tune_family(
            workload, profile, threads, objective, budget, code_bytes, here, progress
        )
    require(code_bytes is None, f"code_bytes = {code_bytes!r}: for workloads with dims",
            OptionError)
    kernels = Kernels()
    this = Pass(
        workload=workload,
        profile=ProfileId.of(profile),
        threads=model.thread_count(profile, threads),
        origin=Origin.here(remote or ""),
        cache=cache,
    )
    asked = Asked(profile, workload, this.threads, objective)
    journal = Journal(store, kernels, this, objective, search)
    verdict = journal.verdict if journal.answers(kind.within(limit, asked)) else None
    if verdict is not None:
        kept = kernels.get(verdict.plan)
        if kept is not None or not here:
            return kind.result(asked, journal.seen, verdict.entry, kept)
    with Builder(processors(), kernels, _memory_bytes()) as builder:
        builder.warm_up()
        if not here and elsewhere is None:
            pick = kind.picks(asked)[0]
            return kind.result(asked, [_compiled(builder, pick)], pick, None)
        require_memory(workload)
        with _runner(this, profile, builder, elsewhere) as runner:
            if not limit.candidates:
                seen, chosen = _verified(runner, kind.picks(asked), progress)
            else:

                def note(entry: Entry, found: Measurement) -> None:
                    journal.measured(entry, found, race.rank(entry))

                allowed = replace(limit, candidates=limit.candidates + journal.uncounted)
                race = Race(
                    runner, allowed, tell=progress, journal=note, alone=alone,
                    seen=journal.seen, spent_s=journal.spent_s,
                    least_s=kind.least_s(asked),
                )  # fmt: skip
                chosen = _raced(race, kind.find, journal, limit, asked)
                seen = race.measured
            if chosen is None:
                raise _why_none(seen)
            library = builder.path(chosen.plan) if here else None
            return kind.result(asked, seen, chosen, library)


def _raced(
    race: Race, find: Search, journal: Journal, limit: Budget, asked: Asked
) -> Entry | None:
    """Measure until the budget is spent, and write down how it ended, also where it was ended."""

    def cost(entry: Entry, seconds: float) -> float:
        if entry.predicted is None:
            return seconds
        return model.measured_cost((entry.plan, entry.predicted), seconds, asked.objective)

    complete = False
    chosen = None
    try:
        find(race, asked.profile, asked.workload, asked.threads, asked.objective)
        chosen = race.finish(cost)
        complete = True
    finally:
        best = chosen or race.best
        if best is not None:
            spent = Effort(len(race.measured) - journal.uncounted, race.spent_s)
            found, rank = dict(race.measured)[best], race.rank(best)
            journal.decided(best, found, rank, limit, spent, complete)
    return chosen


def _verified(
    runner: Runner, picks: list[Entry], progress: Tell
) -> tuple[list[tuple[Entry, Measurement]], Entry | None]:
    """The first of ``picks`` that computes what it should, and what became of all of them."""
    seen = dict.fromkeys(picks, MODEL_ONLY)
    for number, pick in enumerate(picks, 1):
        progress(f"verifying plan {number}")
        ((_, found),) = runner.prepare([pick])
        if found.outcome is Outcome.OK:
            return list(seen.items()), pick
        seen[pick] = found
    return list(seen.items()), None


def _compiled(builder: Builder, pick: Entry) -> tuple[Entry, Measurement]:
    """Compile a plan for another machine. Raises BuildError where that fails."""
    ((_, built),) = builder.build([pick])
    if isinstance(built, Measurement):
        raise built.outcome.error(f"{pick.plan}: {built.note}")
    return pick, ELSEWHERE


def _runner(
    this: Pass, profile: Profile, builder: Builder, remote: Remote | None
) -> AbstractContextManager[Runner]:
    if remote is not None:
        from anatune.measure.remote import RemoteRunner

        flush_bytes = flushed_bytes(profile) if this.cache == COLD else 0
        return RemoteRunner(this.workload, remote, this.threads, builder, flush_bytes=flush_bytes)
    with alone():
        flush = builder.flush(profile, this.threads) if this.cache == COLD else None
    return LocalRunner(this.workload, this.threads, builder, flush, _memory_bytes())


def _memory_bytes() -> float | None:
    free = available_bytes()
    return None if free is None else MEMORY_SHARE * free


def _runs_here(profile: Profile) -> bool:
    from anatune.codegen.target import runs_here

    return runs_here(CodeTarget.of(profile.target))


def _why_none(seen: Sequence[tuple[Entry, Measurement]]) -> AnatuneError:
    """The error for a run without a working kernel: the first plan's."""
    first = next(m for _, m in seen if m.outcome is not Outcome.SKIPPED)
    why = f"none of {len(seen)} plans gave a working kernel; the first: {first.note}"
    return first.outcome.error(why)
