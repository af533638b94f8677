"""Records for tests: drawn at random, or in few words."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import strategies as st
from sample_plans import plan, plans

from anatune.measure.entry import Entry
from anatune.measure.outcome import MEASURED, Measurement, Outcome, Timing
from anatune.plan import Estimate, GemmPlan
from anatune.records import Effort, Origin, Pass, ProfileId, Record, Verdict

ZEN4 = ProfileId("zen4", "a" * 64)
ELSEWHERE = Origin("0.0.1", "0.26.0", "0123456789abcdef", "Old Core 2")
"""Another machine with other versions than those of the tests."""

FOREIGN = (
    b'{"schema":2,"key":"0123456789abcdef","kind":"measurement","new":[1]}',
    b'{"schema":1,"key":"0123456789abcdef","kind":"dream","at":"now"}',
    b'{"key":"x","schema":1}',
)
"""Lines that other versions may have written."""

TORN = (b'{"schema":1,"key":"0123456789abcdef","kind":"measu', b"\x00\xff", b"[1]", b'{"a":1}')


def small_plan(m: int = 8, n: int = 16, k: int = 8) -> GemmPlan:
    return plan(m, n, k, 2, 8, 8)


def record(
    of: GemmPlan | None = None,
    *,
    outcome: Outcome = Outcome.OK,
    seconds: float = 1e-5,
    note: str = "",
    origin: Origin | None = None,
    profile: ProfileId = ZEN4,
    at: str | None = None,
    rank: int = 1,
    engine: str = "model",
    verdict: Verdict | None = None,
) -> Record:
    """A record of this machine, unless told otherwise."""
    of = of or small_plan()
    timing = Timing((seconds,) * 3) if outcome in MEASURED else None
    this = Pass(
        workload=of.workload, profile=profile, threads=1, origin=origin or Origin.here(), id="p"
    )
    entry = Entry(of, engine=engine)
    found = this.decided(entry, Measurement(outcome, timing, note), rank, verdict)
    return found if at is None else replace(found, at=at)


def verdict(complete: bool = True) -> Verdict:
    return Verdict(
        objective="time", search="model", budget=Effort(8, 2.5), spent=Effort(8, 1.25),
        complete=complete, kernel="f" * 64,
    )  # fmt: skip


def reformatted(line: bytes) -> bytes:
    """The same JSON with blanks and in another order, as other tools write it."""
    return json.dumps(json.loads(line), sort_keys=True).encode()


def short(low: float, high: float):
    """Numbers of no more digits than are written."""
    return st.floats(low, high).map(lambda value: float(f"{value:.4g}"))


TIMES = short(1e-9, 10.0)
TEXTS = st.text(max_size=12)


def tables(names):
    pairs = st.lists(st.tuples(names, short(0, 1e12)), unique_by=lambda p: p[0], min_size=1)
    return pairs.map(tuple)


ESTIMATES = st.builds(
    Estimate, seconds=TIMES, cycles=short(0, 1e12), peak_fraction=short(0, 1), joules=TIMES,
    terms=tables(TEXTS), bytes_moved=tables(st.sampled_from(["L2", "L3", "memory"])),
)  # fmt: skip


@st.composite
def timings(draw) -> Timing:
    samples = tuple(draw(st.lists(TIMES, min_size=1, max_size=5)))
    beside = draw(st.booleans())
    references = tuple(draw(TIMES) for _ in samples) if beside else ()
    return Timing(samples, references, draw(TIMES) if beside else 0.0, samples[:1])


EFFORTS = st.builds(Effort, st.integers(0, 10**6), st.none() | TIMES)
VERDICTS = st.builds(
    Verdict, objective=TEXTS, search=TEXTS, budget=EFFORTS, spent=EFFORTS,
    complete=st.booleans(), kernel=st.none() | TEXTS,
)  # fmt: skip
MEASUREMENTS = st.builds(
    Measurement, st.sampled_from(Outcome), st.none() | timings(), TEXTS, TIMES
)
ORIGINS = st.builds(Origin, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS)


@st.composite
def records(draw) -> Record:
    """Any record."""
    of = draw(plans())
    this = Pass(
        workload=of.workload, profile=ProfileId(draw(TEXTS), draw(TEXTS)),
        threads=draw(st.integers(1, 512)), origin=draw(ORIGINS), cache=draw(TEXTS),
    )  # fmt: skip
    entry = Entry(of, draw(st.none() | ESTIMATES), draw(TEXTS))
    rank = draw(st.integers(1, 9999))
    return this.decided(entry, draw(MEASUREMENTS), rank, draw(st.none() | VERDICTS))
