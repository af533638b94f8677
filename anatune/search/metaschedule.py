"""TVM MetaSchedule as a search of ours: it proposes, our race measures and records (rank 7.5).

Its design space, evolutionary search and cost model are TVM's, with TVM's settings. Its builders
and runners are not used: each candidate is a `SchedulePlan`, which is built in our workers, checked
and timed beside the plans of other searches, and goes into the same store.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from anatune.hwprofile import Profile
from anatune.measure.entry import Entry
from anatune.measure.outcome import Measurement, Outcome
from anatune.model.candidates import best, thread_count
from anatune.plan import GemmPlan, SchedulePlan
from anatune.search.measurer import Measurer
from anatune.search.seeds import seeded
from anatune.search.shortlist import known
from anatune.search.tvm_tuner import import_metaschedule, learns, search_target
from anatune.workload import Matmul

ENGINE = "metaschedule"

WAVE = 16
"""Candidates between two looks at what was measured. TVM takes 64, which would leave a budget of 64
with none; a generation takes a second or two, as long as it takes to measure so many."""

POPULATION = 512
"""Schedules of a generation: TVM's default."""

LEAST_POPULATION = 1
"""Schedules that have not been measured from which it goes on. TVM gives up below 50, and so on
every product that is too small to be cut in 50 ways."""

ENDLESS = 2**31 - 1
"""Trials that TVM is told of: the race says when it is over."""

WITHOUT_XGBOOST = (
    "metaschedule: xgboost is not installed, so candidates are drawn at random; "
    "pip install 'anatune[search]'"
)

OUTSIDE = Measurement(Outcome.SKIPPED, note="outside the budget")


def search(
    race: Measurer, profile: Profile, workload: Matmul, threads: int | None, objective: str
) -> None:
    """Measure the model's pick, then what MetaSchedule proposes, until the budget is spent.

    Its search starts from a schedule with the pick's tile and blocks, and from all schedules in
    ``race.measured``. It knows of time alone: ``objective`` only decides what the pick is.

    Raises:
        WorkloadError: a workload whose plain loops it cannot schedule.
    """
    from anatune.codegen.scheduled import plain_loops

    loops = plain_loops(workload)
    if not learns():
        warnings.warn(WITHOUT_XGBOOST, stacklevel=2)
    threads = thread_count(profile, threads)
    pick, estimate = best(profile, workload, threads, objective)[0]
    if pick not in known(race) and not race.over:
        race.measure([Entry(pick, estimate)])
    if not race.over:
        _Tuner(race, loops, pick, threads, thread_count(profile, None)).run()


@dataclass
class _Tuner:
    """TVM's search over one workload, and what became of its schedules so far."""

    race: Measurer
    loops: Any
    pick: GemmPlan
    threads: int
    helpers: int  # threads of the search itself
    tried: dict[int, Measurement] = field(default_factory=dict)  # by the hash of a schedule's loops

    def __post_init__(self) -> None:
        self.ms = import_metaschedule()
        self.target = search_target(self.pick.target, self.threads)
        self.context = self._context()
        self.database = self.ms.database.MemoryDatabase()
        self.model = self._cost_model()

    def run(self) -> None:
        from anatune.codegen.build import interrupts_wait

        self._recall()
        spaces = self.context.generate_design_space()
        self._try(self._seeds(spaces))
        self.context.pre_tuning(ENDLESS, WAVE, spaces, self.database, self.model)
        while not self.race.over:
            with interrupts_wait():
                candidates = self.context.generate_measure_candidates()
            if not candidates:  # every schedule of a small product was tried
                break
            results = list(map(self._result, self._try([c.sch for c in candidates])))
            self.context.notify_runner_results(candidates, results)
        self.context.post_tuning()

    def _context(self) -> Any:
        """What TVM makes of the loops, with its rules for any processor that LLVM knows.

        Those for x86 with VNNI cut the loops to the measure of an intrinsic that LLVM 22 refuses.
        """
        rules = self.ms.ScheduleRule.create("llvm")
        return self.ms.TuneContext(
            self.loops,
            target=self.target,
            space_generator=self.ms.space_generator.PostOrderApply(sch_rules=rules),
            search_strategy=self.ms.search_strategy.EvolutionarySearch(
                population_size=POPULATION, init_min_unmeasured=LEAST_POPULATION
            ),
            rand_state=1 + len(self.race.measured),  # a run that goes on draws others
            num_threads=self.helpers,
        )

    def _cost_model(self) -> Any:
        if learns():
            # One thread: as fast on so little data, and nobody waits for one that lost its core.
            return self.ms.cost_model.XGBModel(num_tuning_cores=1)
        return self.ms.cost_model.RandomModel()

    def _recall(self) -> None:
        """Learn from schedules of this product that were measured before."""
        from anatune.codegen.scheduled import scheduled

        mine, schedules, measurements = self._plan(""), [], []
        for entry, measurement in self.race.measured:
            plan = entry.plan
            if isinstance(plan, SchedulePlan) and replace(plan, trace="") == mine:
                try:
                    schedules.append(scheduled(plan))
                except Exception:  # it failed to compile then, too: nothing to learn from
                    continue
                measurements.append(measurement)
        self._learn(schedules, measurements)

    def _seeds(self, spaces: Sequence[Any]) -> list[Any]:
        """The pick's tile and blocks in each design space that has a place for them."""
        traces = [seeded(space.trace, self.pick) for space in spaces]
        return [s for s in map(self._finished, filter(None, traces)) if s is not None]

    def _finished(self, trace: Any) -> Any | None:
        """The schedule that TVM's postprocessors make of ``trace``; None where one refuses."""
        from tvm.s_tir import Schedule

        schedule = Schedule(self.loops, error_render_level="fast")
        trace.apply_to_schedule(schedule, remove_postproc=True)
        schedule.enter_postproc()
        done = all(step.apply(schedule) for step in self.context.space_generator.postprocs)
        return schedule if done else None

    def _try(self, schedules: Sequence[Any]) -> list[Measurement]:
        """What became of each: measured now, unless it was before or the budget is spent."""
        from anatune.codegen.scheduled import trace_text

        new = {_hash(s): s for s in schedules if _hash(s) not in self.tried}
        wave = list(new.values())[: self.race.left]
        if wave and not self.race.over:
            plans = [self._plan(trace_text(s.trace)) for s in wave]
            self._learn(wave, self.race.measure([Entry(p, engine=ENGINE) for p in plans]))
        return [self.tried.get(_hash(s), OUTSIDE) for s in schedules]

    def _plan(self, trace: str) -> SchedulePlan:
        pick = self.pick
        return SchedulePlan(
            workload=pick.workload, target=pick.target, threads=self.threads, trace=trace
        )

    def _learn(self, schedules: Sequence[Any], measurements: Sequence[Measurement]) -> None:
        """Put what was measured into TVM's database, and train its cost model with it."""
        pairs = list(zip(schedules, measurements))
        pairs = [(s, m) for s, m in pairs if m.outcome is not Outcome.SKIPPED]
        if not pairs:
            return
        workload = self.database.commit_workload(self.loops)
        arguments = self.ms.arg_info.ArgInfo.from_entry_func(self.loops)
        results = [self._result(measurement) for _, measurement in pairs]
        for (schedule, measurement), result in zip(pairs, results):
            self.tried[_hash(schedule)] = measurement
            if result.run_secs:
                record = self.ms.database.TuningRecord(
                    schedule.trace, workload, result.run_secs, self.target, arguments
                )
                self.database.commit_tuning_record(record)
        candidates = [self.ms.MeasureCandidate(schedule, arguments) for schedule, _ in pairs]
        self.model.update(self.context, candidates, results)

    def _result(self, measurement: Measurement) -> Any:
        """``measurement`` as TVM's runners would report it."""
        if measurement.timing is None:
            why = measurement.note or measurement.outcome.value
            return self.ms.runner.RunnerResult(None, why)
        return self.ms.runner.RunnerResult([measurement.timing.median_s], None)


def _hash(schedule: Any) -> int:
    """The same number for schedules that come to the same loops, whatever led there."""
    import tvm_ffi

    return int(tvm_ffi.structural_hash(schedule.mod))
