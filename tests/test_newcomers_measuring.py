"""What first users of measuring and of the record store ran into."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from race_samples import PLANS

from anatune.errors import OptionError
from anatune.hwprofile import load_profile
from anatune.measure.budget import Budget
from anatune.measure.builder import FOLDER, sweep
from anatune.measure.entry import Entry
from anatune.measure.outcome import Measurement, Outcome, Timing
from anatune.measure.race import Race
from anatune.measure.replay import ReplayRunner
from anatune.records import Effort, Journal, Kernels, Origin, Pass, ProfileId, Store, open_store

HERE = Origin("0", "0", "host")
GOOD = Measurement(Outcome.OK, Timing((2e-3, 2e-3, 2e-3)))
DOUBTFUL = Measurement(Outcome.UNSTABLE, Timing((1e-3,) * 9), "others used the machine")
ENTRIES = [Entry(p) for p in PLANS[:4]]


def journal(store: Store, objective: str = "time", search: str = "shortlist") -> Journal:
    this = Pass(
        workload=PLANS[0].workload,
        profile=ProfileId.of(load_profile("zen4")),
        threads=1,
        origin=HERE,
    )
    return Journal(store, Kernels(), this, objective, search)


def decide(told: Journal, entry: Entry, found: Measurement, candidates: int = 1) -> None:
    budget = Budget(candidates, float("inf"))
    told.decided(entry, found, 1, budget, Effort(candidates, 1.0), True)


def test_an_unstable_time_does_not_win_but_is_taken_again():
    seen = [(ENTRIES[0], GOOD), (ENTRIES[1], DOUBTFUL)]
    for really_s, best in ((3e-3, ENTRIES[0]), (1e-3, ENTRIES[1])):
        runner = ReplayRunner({PLANS[0]: (2e-3,), PLANS[1]: (really_s,)})
        race = Race(runner, Budget(), seen=seen)
        assert race.best == ENTRIES[0]
        assert race.finish() == best
        assert Race(runner, Budget(), seen=seen[1:]).finish() == ENTRIES[1]


def test_unstable_candidates_are_measured_again_and_answer_nothing(tmp_path):
    store = Store(tmp_path / "records.jsonl")
    told = journal(store)
    told.measured(ENTRIES[0], GOOD, 1)
    told.measured(ENTRIES[1], DOUBTFUL, 2)
    decide(told, ENTRIES[1], DOUBTFUL)
    later = journal(store)
    assert [entry for entry, _ in later.seen] == [ENTRIES[0]]
    assert not later.answers(Budget(1, float("inf")))
    decide(later, ENTRIES[0], GOOD)
    assert journal(store).answers(Budget(1, float("inf")))


def test_noise_does_not_take_the_place_of_a_good_measurement(tmp_path):
    store = Store(tmp_path / "records.jsonl")
    journal(store).measured(ENTRIES[0], GOOD, 1)
    journal(store, search="evolve").measured(ENTRIES[0], DOUBTFUL, 1)
    assert journal(store).seen == ((ENTRIES[0], GOOD),)


@pytest.mark.parametrize("other", [{"objective": "energy"}, {"search": "evolve"}])
def test_a_budget_is_that_of_a_search_and_an_objective(tmp_path, other):
    store = Store(tmp_path / "records.jsonl")
    first = journal(store, **other)
    first.measured(ENTRIES[0], GOOD, 1)
    decide(first, ENTRIES[0], GOOD)
    second = journal(store)
    assert len(second.seen) == second.uncounted == 1
    second.measured(ENTRIES[1], GOOD, 2)
    decide(second, ENTRIES[1], GOOD)
    assert journal(store).uncounted == 1
    assert journal(store, **other).uncounted == 1


def test_no_time_is_no_measurement():
    assert Budget.parse("0s").candidates == 0
    assert Budget.parse("1ms").candidates > 0


def test_a_folder_is_no_record_store(tmp_path, monkeypatch):
    for database in (tmp_path, str(tmp_path), ""):
        with pytest.raises(OptionError, match="^database = .*: a folder; name a file"):
            open_store(database)
    monkeypatch.setenv("ANATUNE_DATABASE", str(tmp_path))
    with pytest.raises(OptionError, match="^ANATUNE_DATABASE = "):
        open_store(None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="folders are not swept here")
def test_folders_of_killed_runs_are_swept(tmp_path):
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    dead, alive = int(done.stdout), os.getpid()
    kept = [f"{FOLDER}-{alive}-x", f"{FOLDER}-odd-x", "anatune-of-somebody"]
    for name in (*kept, f"{FOLDER}-{dead}-x"):
        (tmp_path / name).mkdir()
    sweep(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(kept)
