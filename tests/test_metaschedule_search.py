"""TVM's search behind our interface: the pick first, legal plans, no repeats, budgets, resuming."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from math import prod
from zlib import crc32

import pytest
from hypothesis import given

pytest.importorskip("tvm")

from products import assert_right  # noqa: E402
from sample_plans import plan, plans  # noqa: E402

from anatune.codegen.build import build  # noqa: E402
from anatune.codegen.scheduled import scheduled  # noqa: E402
from anatune.errors import WorkloadError  # noqa: E402
from anatune.measure.entry import Entry  # noqa: E402
from anatune.measure.outcome import Measurement, Outcome, Timing  # noqa: E402
from anatune.model.candidates import best  # noqa: E402
from anatune.plan import GemmPlan, SchedulePlan  # noqa: E402
from anatune.search import metaschedule  # noqa: E402
from anatune.search.seeds import factors  # noqa: E402
from anatune.workload import matmul  # noqa: E402

SMALL = matmul(32, 48, 64, epilogue="bias + relu")


class Fake:
    """A measurer that makes times up, the same ones for the same plan."""

    def __init__(self, budget: int, measured: Sequence[tuple[Entry, Measurement]] = ()) -> None:
        self.measured = list(measured)
        self.end = len(self.measured) + budget
        self.waves: list[list[Entry]] = []

    @property
    def left(self) -> int:
        return self.end - len(self.measured)

    @property
    def over(self) -> bool:
        return self.left <= 0

    @property
    def proposed(self) -> list[Entry]:
        return [entry for wave in self.waves for entry in wave]

    def measure(self, entries: Sequence[Entry]) -> list[Measurement]:
        assert 0 < len(entries) <= self.left
        self.waves.append(list(entries))
        results = [self.one(entry) for entry in entries]
        self.measured += zip(entries, results)
        return results

    def one(self, entry: Entry) -> Measurement:
        seconds = 1e-6 * (1 + crc32(entry.plan.to_json().encode()) % 100)
        return Measurement(Outcome.OK, Timing((seconds,)))


@pytest.fixture(autouse=True)
def small_generations(monkeypatch):
    monkeypatch.setattr(metaschedule, "POPULATION", 64)


def searched(race: Fake, profile, workload=SMALL, threads=1) -> Fake:
    metaschedule.search(race, profile, workload, threads, "time")
    return race


def loops(entries: Sequence[Entry]) -> list[str]:
    """What becomes of the loops, by the text that each plan proposes."""
    return [str(scheduled(entry.plan).mod) for entry in entries]


def test_the_pick_goes_first_and_the_budget_is_kept(here):
    race = searched(Fake(25), here)
    first, *others = race.proposed
    assert (first.plan, first.engine) == (best(here, SMALL, 1)[0][0], "model")
    assert first.predicted is not None
    assert len(others) == 24 and race.over
    for entry in others:
        assert isinstance(entry.plan, SchedulePlan)
        assert (entry.engine, entry.predicted) == ("metaschedule", None)
        assert (entry.plan.workload, entry.plan.target) == (SMALL, first.plan.target)
    assert max(map(len, race.waves)) <= metaschedule.WAVE


def test_nothing_is_measured_twice_and_all_can_be_replayed(here):
    race = searched(Fake(25), here)
    seen = loops(race.proposed[1:])
    assert len(set(seen)) == len(seen) == 24


def test_a_larger_budget_goes_on(here):
    first = searched(Fake(12), here)
    second = searched(Fake(20, first.measured), here)
    assert len(second.proposed) == 20
    assert all(entry.engine == "metaschedule" for entry in second.proposed)
    assert not set(loops(second.proposed)) & set(loops(first.proposed[1:]))


def test_what_was_measured_reaches_tvm(here, monkeypatch):
    """In this run or an earlier one: its database is where the next generation's parents are."""
    committed: list[int] = []
    tuner = metaschedule._Tuner
    learn = tuner._learn

    def spied(self, schedules, measurements):
        learn(self, schedules, measurements)
        committed.append(len(self.database.get_all_tuning_records()))

    monkeypatch.setattr(tuner, "_learn", spied)
    first = searched(Fake(8), here)
    assert committed[-1] == 7  # all but the pick, which is no schedule
    committed.clear()
    searched(Fake(3, first.measured), here)
    assert committed == [7, 10]


def test_plans_of_another_product_or_engine_are_not_mixed_in(here):
    other = searched(Fake(5), here, matmul(8, 16, 8)).measured
    race = searched(Fake(5, other), here)
    assert race.proposed[0].engine == "model"
    assert all(entry.plan.workload == SMALL for entry in race.proposed)


def test_failures_do_not_end_it(here):
    class Failing(Fake):
        def one(self, entry: Entry) -> Measurement:
            return Measurement(Outcome.COMPILE_ERROR, note="refused")

    race = searched(Failing(20), here)
    assert len(race.proposed) == 20
    again = searched(Failing(8, race.measured), here)
    assert not set(loops(again.proposed)) & set(loops(race.proposed[1:]))


def test_it_stops_when_the_time_is_up(here):
    class Timed(Fake):
        @property
        def over(self) -> bool:
            return len(self.waves) >= 2

    assert len(searched(Timed(10**6), here).waves) == 2


def test_a_product_with_few_schedules_is_exhausted(here):
    race = searched(Fake(50), here, matmul(1, 1, 1))
    assert 2 <= len(race.proposed) < 50


def test_more_threads_are_told(here):
    race = searched(Fake(6), here, threads=2)
    assert {entry.plan.threads for entry in race.proposed[1:]} == {2}


@pytest.mark.parametrize("missing", ["psutil", "cloudpickle"])
def test_it_needs_nothing_of_the_popen_workers(here, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    assert len(searched(Fake(6), here).proposed) == 6


def test_without_xgboost_it_says_so_and_draws_at_random(here, monkeypatch):
    monkeypatch.setattr(metaschedule, "learns", lambda: False)
    with pytest.warns(UserWarning, match="xgboost is not installed") as said:
        race = searched(Fake(25), here)
    assert len(race.proposed) == 25
    assert len(said) == 1 and said[0].filename == __file__


def test_a_workload_that_it_cannot_schedule_costs_nothing(here):
    race = Fake(5)
    with pytest.raises(WorkloadError, match="beta"):
        searched(race, here, matmul(8, 8, 8, beta=1))
    assert not race.waves


def test_what_is_real_computes(here):
    """A small run of the real build: every candidate, right."""
    race = searched(Fake(6), here)
    for entry in race.proposed[1:]:
        assert_right(entry.plan, kernel=build(entry.plan))


def test_it_starts_from_the_pick(here):
    w = matmul(256, 256, 256)
    race = searched(Fake(2), here, w)
    pick, seed = (entry.plan for entry in race.proposed)
    instructions, decisions = json.loads(seed.trace)
    cuts = [d for place, d in decisions if instructions[place][0] == "SamplePerfectTile"]
    assert isinstance(pick, GemmPlan) and cuts == factors(pick)
    assert cuts[0][-1] > 1 and cuts[1][-1] > 1


@given(plans())
def test_factors_multiply_to_the_extents_and_stay_below_the_plan(p):
    w = p.workload
    cuts = factors(p)
    extents = [w.batch] * (w.batch > 1) + [w.m, w.n, w.k]
    assert [prod(cut) for cut in cuts] == extents
    assert [len(cut) for cut in cuts] == [4] * (len(cuts) - 1) + [2]
    rows, columns, steps = cuts[-3:]
    assert rows[-1] <= p.tile.mr and columns[-1] <= p.tile.nr and steps[-1] <= p.blocks.kc
    assert columns[-1].bit_count() == 1
    assert prod(rows[-2:]) <= max(p.blocks.mc, p.tile.mr)


def test_factors_are_the_plans_own_where_they_divide():
    p = plan(240, 512, 768, 6, 32, 16, mc=60, nc=128, kc=256)
    assert factors(p) == [[1, 4, 10, 6], [1, 4, 4, 32], [3, 256]]
    prime = plan(37, 50, 29, 6, 32, 16)
    assert factors(prime) == [[1, 1, 37, 1], [1, 1, 25, 2], [1, 29]]
