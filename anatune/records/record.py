"""One measured candidate, or what a pass decided, as one line of JSON (rank 7)."""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from typing import Any

from anatune.hwprofile import Profile
from anatune.hwprofile.dump import content_hash
from anatune.measure.entry import Entry
from anatune.measure.outcome import Measurement, Outcome, Timing
from anatune.plan import CodeTarget, Estimate
from anatune.plan.plain import plain
from anatune.plan.read import AnyPlan, read_any
from anatune.plan.registered import with_kernels
from anatune.records.origin import Origin

SCHEMA = 1
"""Version of the lines written here. 1: first one."""

MEASUREMENT, VERDICT = "measurement", "verdict"
"""Kinds of records: a candidate, and the end of a pass."""

WARM, COLD = "warm", "cold"
"""States of the caches before a call: operands in use just before, or in memory."""

KEY_DIGITS = 16
"""Hex digits of a key: 64 bits, so that a store of millions of lines has no two alike by chance."""

DIGITS = 5
"""Significant digits of what was measured or predicted: ten times what the best timer repeats."""


@dataclass(frozen=True)
class ProfileId:
    """The profile that a pass planned for: its name for people, the hash of its facts for us.

    Where external micro-kernels compete they are among the facts.
    """

    name: str
    hash: str

    @classmethod
    def of(cls, profile: Profile) -> ProfileId:
        target = CodeTarget.of(profile.target)
        return cls(profile.name, with_kernels(content_hash(profile), target))


@dataclass(frozen=True)
class Effort:
    """Candidates and wall-clock that a pass may take, or took; None: without limit."""

    candidates: int
    seconds: float | None

    def __post_init__(self) -> None:
        if self.seconds is not None and math.isinf(self.seconds):  # which JSON does not have
            object.__setattr__(self, "seconds", None)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a pass ended; the record's plan is the one that it chose.

    Attributes:
        objective: what was made small: "time", "energy" or "edp".
        search: the search that was asked for; the chosen plan may come from another engine.
        complete: whether the budget was spent or nothing was left to try; False: interrupted.
        kernel: id of the chosen plan's kernel in `Kernels`, if it was put there.
    """

    objective: str
    search: str
    budget: Effort
    spent: Effort
    complete: bool
    kernel: str | None = None


def key_of(workload: Any, profile_hash: str) -> str:
    """What a record is found by: what was computed and for which machine; never by candidates."""
    kind = type(workload).__name__.lower()
    stated = json.dumps({"kind": kind, **plain(workload)}, sort_keys=True)
    return hashlib.sha256(f"{stated}\n{profile_hash}".encode()).hexdigest()[:KEY_DIGITS]


@dataclass(frozen=True, kw_only=True)
class Record:
    """A line of the store; of a measurement, or with a ``verdict`` of a pass.

    Attributes:
        at: when it was written, UTC, in ISO 8601.
        pass_id: the same for all records of one pass.
        engine: who proposed the plan.
        workload: for people; the plan holds the workload itself.
        threads: that the pass might use; a plan may take fewer.
        plan_json: what ``to_json`` of the plan wrote.
        rank: place in the order in which the engine proposed it, from 1 on.
    """

    key: str
    at: str
    pass_id: str
    engine: str
    workload: str
    profile: ProfileId
    threads: int
    cache: str
    origin: Origin
    plan_json: str
    rank: int
    predicted: Estimate | None
    measurement: Measurement
    verdict: Verdict | None = None

    @property
    def kind(self) -> str:
        return MEASUREMENT if self.verdict is None else VERDICT

    @property
    def outcome(self) -> Outcome:
        return self.measurement.outcome

    @property
    def timing(self) -> Timing | None:
        return self.measurement.timing

    @cached_property
    def when(self) -> datetime:
        return datetime.fromisoformat(self.at).astimezone(timezone.utc)

    @cached_property
    def plan(self) -> AnyPlan:
        """The plan, read when asked for. Raises IllegalPlan where another version wrote it."""
        return read_any(self.plan_json)

    @property
    def entry(self) -> Entry:
        """The candidate as it went into the race."""
        return Entry(self.plan, self.predicted, self.engine)

    def is_own(self, here: Origin) -> bool:
        """Whether ``here`` would measure the same; other records are kept, and not used."""
        return self.origin == here

    def line(self) -> bytes:
        """The record as one line without its end; `key` stands where it is found unparsed."""
        fields: dict[str, Any] = {
            "schema": SCHEMA,
            "key": self.key,
            "kind": self.kind,
            "at": self.at,
            "pass_id": self.pass_id,
            "engine": self.engine,
            "workload": self.workload,
            "profile": asdict(self.profile),
            "threads": self.threads,
            "cache": self.cache,
            "origin": asdict(self.origin),
            "plan": json.loads(self.plan_json),
            "rank": self.rank,
            "predicted": _estimate_fields(self.predicted),
            "outcome": self.outcome.value,
            "note": self.measurement.note,
            "timing": None if self.timing is None else _short(asdict(self.timing)),
            "build_s": _short(self.measurement.build_s),
        }
        if self.verdict is not None:
            fields["verdict"] = _short(asdict(self.verdict))
        return json.dumps(fields, separators=(",", ":"), allow_nan=False).encode()

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Record:
        """The record in a parsed line; what else the line states is left alone.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: not a record of this schema.
        """
        kind = fields["kind"]
        if fields["schema"] != SCHEMA or kind not in (MEASUREMENT, VERDICT):
            raise ValueError("a record of another version")
        record = cls(
            key=str(fields["key"]),
            at=str(fields["at"]),
            pass_id=str(fields["pass_id"]),
            engine=str(fields["engine"]),
            workload=str(fields["workload"]),
            profile=_build(ProfileId, fields["profile"]),
            threads=int(fields["threads"]),
            cache=str(fields["cache"]),
            origin=_build(Origin, fields["origin"]),
            plan_json=json.dumps(fields["plan"], sort_keys=True),
            rank=int(fields["rank"]),
            predicted=_estimate(fields["predicted"]),
            measurement=Measurement(
                outcome=Outcome(fields["outcome"]),
                timing=_timing(fields["timing"]),
                note=str(fields["note"]),
                build_s=float(fields["build_s"]),
            ),
            verdict=_verdict(fields["verdict"]) if kind == VERDICT else None,
        )
        record.when  # a date that cannot be read makes it no record
        return record


@dataclass(frozen=True, kw_only=True)
class Pass:
    """What all records of one pass over a workload share; it makes them."""

    workload: Any  # a frozen dataclass of plain values
    profile: ProfileId
    threads: int
    origin: Origin
    cache: str = WARM
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def measured(self, entry: Entry, measurement: Measurement, rank: int) -> Record:
        """The record of a candidate."""
        return self.decided(entry, measurement, rank, None)

    def decided(
        self, entry: Entry, measurement: Measurement, rank: int, verdict: Verdict | None
    ) -> Record:
        """The record of how the pass ended; ``entry`` is the candidate that it chose."""
        return Record(
            key=key_of(self.workload, self.profile.hash),
            at=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            pass_id=self.id,
            engine=entry.engine,
            workload=str(self.workload),
            profile=self.profile,
            threads=self.threads,
            cache=self.cache,
            origin=self.origin,
            plan_json=entry.plan.to_json(),
            rank=rank,
            predicted=entry.predicted,
            measurement=measurement,
            verdict=verdict,
        )


def _short(value: Any) -> Any:
    """``value`` with numbers in `DIGITS` digits; those that JSON lacks become None."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _short(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_short(item) for item in value]
    return value


_TABLES = ("terms", "bytes_moved")
"""Fields of an estimate that hold numbers by name, in an order that says something."""


def _estimate_fields(estimate: Estimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    fields = {**asdict(estimate), **{name: dict(getattr(estimate, name)) for name in _TABLES}}
    return {name: _short(value) for name, value in fields.items()}


def _estimate(fields: Any) -> Estimate | None:
    """What all estimates have; nan for numbers that a kind of plan has no model of."""
    if fields is None:
        return None
    fields = {name: math.nan if value is None else value for name, value in fields.items()}
    tables = {name: tuple((k, float(v)) for k, v in fields[name].items()) for name in _TABLES}
    estimate: Estimate = _build(Estimate, {**fields, **tables})
    return estimate


def _timing(fields: Any) -> Timing | None:
    if fields is None:
        return None
    series = {n: tuple(map(float, v)) for n, v in fields.items() if isinstance(v, list)}
    timing: Timing = _build(Timing, {**fields, **series})
    if not timing.samples_s:
        raise ValueError("a timing without samples")
    return timing


def _verdict(fields: Any) -> Verdict:
    efforts = {name: _build(Effort, fields[name]) for name in ("budget", "spent")}
    verdict: Verdict = _build(Verdict, {**fields, **efforts})
    return verdict


def _build(cls: Any, fields: Any) -> Any:
    """An instance of a dataclass from its fields; others, of a later version, are left out."""
    return cls(**{name: fields[name] for name in cls.__dataclass_fields__ if name in fields})
