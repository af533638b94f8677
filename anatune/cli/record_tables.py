"""How ``anatune records`` prints records: by workload, one by one, one whole (rank 9)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from anatune.cli.show import NONE, print_json, print_table, seconds

if TYPE_CHECKING:
    from anatune.records.line import Line
    from anatune.records.origin import Origin
    from anatune.records.record import Record

Found = Iterable[tuple["Line", "Record"]]

GROUP_COLUMNS = (
    "workload", "profile", "threads", "measured by", "records", "best", "plan", "last (UTC)",
    "failed",
)  # fmt: skip
EACH_COLUMNS = (
    "id", "at (UTC)", "kind", "profile", "threads", "engine", "rank", "predicted", "measured",
    "+-", "outcome", "plan",
)  # fmt: skip
NUMBERS = ("threads", "records", "best", "rank", "predicted", "measured", "+-")


@dataclass
class Group:
    """All records of one workload that may be compared with each other."""

    first: Record
    records: int = 0
    best: Record | None = None
    last: str = ""
    failed: Counter[str] = field(default_factory=Counter)

    def add(self, record: Record) -> None:
        from anatune.measure.outcome import MEASURED

        self.records += 1
        self.last = max(self.last, record.at)
        if record.outcome not in MEASURED:
            self.failed[record.outcome.value] += 1
        elif record.timing is not None and record.timing.median_s < self.best_s:
            self.best = record

    @property
    def best_s(self) -> float:
        timing = None if self.best is None else self.best.timing
        return float("inf") if timing is None else timing.median_s


def _groups(found: Found) -> list[Group]:
    """By workload, profile, threads, caches and who measured; those written to last come last."""
    groups: dict[Any, Group] = {}
    for _, r in found:
        alike = (r.workload, r.profile.hash, r.threads, r.cache, r.origin)
        groups.setdefault(alike, Group(r)).add(r)
    return sorted(groups.values(), key=lambda group: group.last)


def print_groups(found: Found, as_json: bool) -> bool:
    """A row for each workload, profile and number of threads; whether there was any."""
    from anatune.records.origin import Origin

    groups, here = _groups(found), Origin.here()
    if as_json:
        print_json([_group_fields(group, here) for group in groups])
    elif groups:
        print_table(GROUP_COLUMNS, [_group_line(g, here) for g in groups], numbers=NUMBERS)
    return bool(groups)


def _group_fields(group: Group, here: Origin) -> dict[str, Any]:
    from anatune.records.tidy import plan_text

    one, best = group.first, group.best
    return {
        "workload": one.workload,
        "profile": one.profile,
        "threads": one.threads,
        "cache": one.cache,
        "origin": one.origin,
        "own": one.is_own(here),
        "records": group.records,
        "best_s": None if best is None else group.best_s,
        "plan": None if best is None else plan_text(best),
        "last": group.last,
        "failed": dict(group.failed),
    }


def _group_line(group: Group, here: Origin) -> tuple[str, ...]:
    from anatune.records.record import WARM
    from anatune.records.tidy import plan_text

    one, best = group.first, group.best
    return (
        one.workload + ("" if one.cache == WARM else f", {one.cache} caches"),
        one.profile.name,
        str(one.threads),
        _measured_by(one.origin, here),
        str(group.records),
        NONE if best is None else seconds(group.best_s),
        NONE if best is None else plan_text(best),
        _date(group.last),
        ", ".join(f"{count} {name}" for name, count in group.failed.items()) or NONE,
    )


def _measured_by(origin: Origin, here: Origin) -> str:
    """Whether records hold here, and else why not."""
    if origin == here:
        return "here"
    where = origin.device or ("here" if origin.host == here.host else origin.cpu)
    versions = f"anatune {origin.anatune}, TVM {origin.tvm}"
    same = (origin.anatune, origin.tvm) == (here.anatune, here.tvm)
    return where if same else f"{where}, {versions}"


def print_each(found: Found, as_json: bool) -> bool:
    """A row for each record, oldest first; whether there was any."""
    from anatune.records.tidy import columns

    rows = [columns(line, record) for line, record in found]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(EACH_COLUMNS, [_each_line(row) for row in rows], numbers=NUMBERS)
    return bool(rows)


def _each_line(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["id"],
        _date(row["at"]),
        row["kind"],
        row["profile"],
        str(row["threads"]),
        row["engine"],
        str(row["rank"]),
        seconds(row["predicted_s"]),
        seconds(row["measured_s"]),
        seconds(row["spread_s"]),
        row["outcome"] + (f": {row['note']}" if row["note"] else ""),
        row["plan"],
    )


def print_one(line: Line, as_json: bool) -> None:
    """A line whole; one that is no record as it stands."""
    from anatune.records.tidy import columns

    if as_json:
        return print_json({"id": line.id, "state": line.state, "record": line.fields})
    if line.record is None:
        click.echo(f"{line.id}: {line.state.value}, as it stands in the file:")
        return click.echo(line.raw.decode("utf-8", "backslashreplace"))
    stated = {**columns(line, line.record), **_more(line.record)}
    width = 2 + max(map(len, stated))
    for name, value in stated.items():
        if value not in (None, ""):
            click.echo(f"{name:<{width}}{_plain(name, value)}")


def _more(record: Record) -> dict[str, Any]:
    """What has no place in a row."""
    timing, predicted, verdict = record.timing, record.predicted, record.verdict
    series = {} if timing is None else {
        "samples": timing.samples_s, "references": timing.references_s, "warm_up": timing.warm_up_s
    }  # fmt: skip
    terms = {} if predicted is None else {
        "cycles": ", ".join(f"{name} {cycles:g}" for name, cycles in predicted.terms if cycles),
        "bytes_moved": ", ".join(f"{name} {moved:g}" for name, moved in predicted.bytes_moved),
    }  # fmt: skip
    end = {} if verdict is None else {
        "search": verdict.search, "budget": verdict.budget, "spent": verdict.spent,
        "kernel": verdict.kernel,
    }  # fmt: skip
    shown = {name: ", ".join(map(seconds, values)) for name, values in series.items()}
    return {**shown, **terms, **end}


def _plain(name: str, value: Any) -> str:
    if name.endswith("_s"):
        return seconds(value)
    if hasattr(value, "candidates"):
        limit = "" if value.seconds is None else f", {seconds(value.seconds)}"
        return f"{value.candidates} candidates{limit}"
    return str(value)


def _date(at: str) -> str:
    """A date and time of day from ISO 8601, to the minute."""
    return at[:16].replace("T", " ")
