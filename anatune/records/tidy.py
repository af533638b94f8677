"""What people do with stores: put several together, throw out, carry elsewhere (rank 7)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from anatune.errors import IllegalPlan
from anatune.records.line import Line, State
from anatune.records.lines_file import append_locked, locked, read_lines, rewrite_locked
from anatune.records.record import Record
from anatune.records.select import Selection


@dataclass(frozen=True)
class Merged:
    """Lines that a merge added, found already there, and left out because they were cut short."""

    added: int
    known: int
    torn: int


def merge(sources: Iterable[Path], destination: Path) -> Merged:
    """Append to ``destination`` what it lacks of ``sources``, lines of other versions included.

    Raises:
        CacheError: a file that cannot be read, or the destination that cannot be written.
    """
    with locked(destination):
        known = {sha256(line).digest() for line in read_lines(destination)}
        added: list[bytes] = []
        counts = {"known": 0, "torn": 0}
        for source in sources:
            for line in read_lines(source):
                digest = sha256(line).digest()
                if digest in known:
                    counts["known"] += 1
                elif Line(line).fields is None:
                    counts["torn"] += 1
                else:
                    known.add(digest)
                    added.append(line)
        if added:
            append_locked(destination, added)
    return Merged(len(added), **counts)


def prune(
    path: Path, selection: Selection, *, torn: bool = False, dry_run: bool = False
) -> list[Line]:
    """Remove the records that ``selection`` takes, and with ``torn`` what is no line; return them.

    A selection that states nothing takes nothing here. Lines of other versions always stay.

    Raises:
        CacheError: the file cannot be read or written; it is as it was.
    """
    with locked(path):
        removed = [raw for raw in read_lines(path) if _goes(Line(raw), selection, torn)]
        if removed and not dry_run:
            gone = set(removed)
            rewrite_locked(path, (raw for raw in read_lines(path) if raw not in gone))
    return [Line(raw) for raw in removed]


def _goes(line: Line, selection: Selection, torn: bool) -> bool:
    if line.record is None:
        return torn and line.state is State.TORN
    return selection.is_narrow and selection.takes(line.record)


def columns(line: Line, record: Record) -> dict[str, Any]:
    """A record as one row of a table: plain values, times in seconds."""
    timing, origin, verdict = record.timing, record.origin, record.verdict
    predicted = record.predicted
    return {
        "id": line.id,
        "at": record.at,
        "kind": record.kind,
        "pass": record.pass_id,
        "workload": record.workload,
        "profile": record.profile.name,
        "profile_hash": record.profile.hash,
        "threads": record.threads,
        "cache": record.cache,
        "engine": record.engine,
        "rank": record.rank,
        "plan": plan_text(record),
        "predicted_s": None if predicted is None else predicted.seconds,
        "predicted_bound": None if predicted is None else predicted.bound,
        "measured_s": None if timing is None else timing.median_s,
        "spread_s": None if timing is None else timing.spread_s,
        "samples": 0 if timing is None else len(timing.samples_s),
        "outcome": record.outcome.value,
        "note": record.measurement.note,
        "build_s": record.measurement.build_s,
        "anatune": origin.anatune,
        "tvm": origin.tvm,
        "host": origin.host,
        "cpu": origin.cpu,
        "device": origin.device,
        "objective": None if verdict is None else verdict.objective,
        "complete": None if verdict is None else verdict.complete,
    }


def plan_text(record: Record) -> str:
    """The plan in words, or why there are none."""
    try:
        return str(record.plan)
    except IllegalPlan:
        return "a plan of another version"


def as_csv(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Rows of `columns` as lines of a CSV file, the titles first."""
    out = io.StringIO(newline="")
    writer: Any = None
    for row in rows:
        if writer is None:
            # All text in quotes: a lone carriage return in a note would end the row otherwise.
            writer = csv.DictWriter(
                out, list(row), lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC
            )
            writer.writeheader()
        writer.writerow(row)
        yield out.getvalue()
        out.seek(0)
        out.truncate()


def as_json(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Rows of `columns` as one JSON document, a row to a line."""
    before = "[\n"
    for row in rows:
        yield f"{before}{json.dumps(row)}"
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"
