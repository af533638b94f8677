"""One pass and the store: what earlier runs of it left, and what this one adds (rank 7)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import inf

from anatune.measure.budget import Budget
from anatune.measure.entry import Entry
from anatune.measure.outcome import Measurement, Outcome
from anatune.records.kernels import Kernels
from anatune.records.record import Effort, Pass, Record, Verdict
from anatune.records.store import Store

Seen = tuple[tuple[Entry, Measurement], ...]


class Journal:
    """Reads and writes the records of one workload, measured in one way for one profile.

    Args:
        store: None where nothing is to be kept.
        this: what all records of the pass share.
        objective, search: what the pass makes small, and who proposes; part of its verdict.
    """

    def __init__(
        self, store: Store | None, kernels: Kernels, this: Pass, objective: str, search: str
    ) -> None:
        self._store, self._kernels, self._pass = store, kernels, this
        self._objective, self._search = objective, search

    @cached_property
    def seen(self) -> Seen:
        """Candidates that earlier runs measured here, each plan once, whoever proposed them.

        Not those that were unstable: they are to be measured again. In the order in which they
        were proposed, which is not that in which they were settled.
        """
        ranks: dict[Entry, int] = {}
        for record in self._mine:
            ranks.setdefault(record.entry, record.rank)
        steady = [r for r in self._mine if r.outcome is not Outcome.UNSTABLE]
        return tuple(sorted(each_once(steady), key=lambda found: ranks[found[0]]))

    @cached_property
    def uncounted(self) -> int:
        """How many of `seen` other searches or objectives measured: no part of this budget.

        A pass that was killed left no verdict to tell what was asked, and counts.
        """
        asked = {r.pass_id: _asked(r.verdict) for r in self._mine if r.verdict}
        this = self._objective, self._search
        counted = {r.plan_json for r in self._mine if asked.get(r.pass_id, this) == this}
        return sum(entry.plan.to_json() not in counted for entry, _ in self.seen)

    @cached_property
    def verdict(self) -> Record | None:
        """How the last run with this objective and this search ended."""
        asked = self._objective, self._search
        ends = [r for r in self._mine if r.verdict and _asked(r.verdict) == asked]
        return ends[-1] if ends else None

    @property
    def spent_s(self) -> float:
        """Seconds that earlier runs took."""
        verdict = self.verdict.verdict if self.verdict else None
        return (verdict.spent.seconds or 0.0) if verdict else 0.0

    def answers(self, budget: Budget) -> bool:
        """Whether earlier runs spent at least ``budget``, and what they chose was steady."""
        verdict = self.verdict.verdict if self.verdict else None
        if verdict is None or not verdict.complete or not budget.candidates:
            return False
        if self.verdict is not None and self.verdict.outcome is Outcome.UNSTABLE:
            return False
        allowed, spent = verdict.budget, verdict.spent
        as_much = allowed.candidates >= budget.candidates
        as_long = (inf if allowed.seconds is None else allowed.seconds) >= budget.seconds
        enough = spent.candidates >= budget.candidates or self.spent_s >= budget.seconds
        return (as_much and as_long) or enough

    def measured(self, entry: Entry, measurement: Measurement, rank: int) -> None:
        """Write down a candidate, again when more is known of it."""
        self._write(self._pass.measured(entry, measurement, rank))

    def decided(
        self,
        entry: Entry,
        measurement: Measurement,
        rank: int,
        budget: Budget,
        spent: Effort,
        complete: bool,
    ) -> None:
        """Write down how the run ended, and with which candidate."""
        verdict = Verdict(
            objective=self._objective,
            search=self._search,
            budget=Effort(budget.candidates, budget.seconds),
            spent=spent,
            complete=complete,
            kernel=self._kernels.id_of(entry.plan),
        )
        self._write(self._pass.decided(entry, measurement, rank, verdict))

    @cached_property
    def _mine(self) -> list[Record]:
        """Records of this workload and profile that this machine would measure the same way."""
        if self._store is None:
            return []
        this = self._pass
        found = self._store.find(this.workload, this.profile.hash)
        alike = [r for r in found if (r.threads, r.cache) == (this.threads, this.cache)]
        return [record for record in alike if record.is_own(this.origin)]

    def _write(self, record: Record) -> None:
        if self._store is not None:
            self._store.append([record])


def _asked(verdict: Verdict) -> tuple[str, str]:
    return verdict.objective, verdict.search


def each_once(records: Sequence[Record]) -> Seen:
    """Of each plan the record with most samples; of equally many, the last."""
    best: dict[str, Record] = {}
    for record in records:
        known = best.get(record.plan_json)
        if known is None or _samples(record) >= _samples(known):
            best[record.plan_json] = record
    return tuple((record.entry, record.measurement) for record in best.values())


def _samples(record: Record) -> int:
    return len(record.timing.samples_s) if record.timing else 0
