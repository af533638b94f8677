"""A pass over again from its records, so that policies are compared without a device (rank 7)."""

from __future__ import annotations

from collections.abc import Iterable

from anatune.errors import IllegalPlan
from anatune.measure.outcome import MEASURED, Measurement
from anatune.measure.replay import ReplayRunner
from anatune.records.journal import each_once
from anatune.records.record import Record


def replay_of(records: Iterable[Record]) -> ReplayRunner:
    """Answers as was measured: of each plan the samples behind its median, or how it failed.

    Of a plan's records the one with most samples counts; one that this version cannot read does
    not. Give it records of one machine: `Store.find`, or what a `Selection` takes.
    """
    told = [record for record in records if _tells(record)]
    return ReplayRunner({entry.plan: _answer(found) for entry, found in each_once(told)})


def _tells(record: Record) -> bool:
    """Whether a record says how long its plan takes, or why it does not work."""
    try:
        record.plan
    except IllegalPlan:
        return False
    return record.timing is not None or record.outcome not in MEASURED


def _answer(found: Measurement) -> tuple[float, ...] | Measurement:
    return found if found.timing is None else found.timing.judged_s
