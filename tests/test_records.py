"""One record as a line and back, its key, and what becomes of lines that are no records."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_samples import ELSEWHERE, FOREIGN, TORN, record, records, reformatted, small_plan
from sample_plans import workloads

from anatune.errors import IllegalPlan
from anatune.hwprofile import load_profile
from anatune.measure.outcome import Outcome, Timing
from anatune.records import Effort, Origin, ProfileId
from anatune.records.line import Line, State
from anatune.records.record import MEASUREMENT, VERDICT, key_of


@given(records())
def test_a_record_is_read_back_as_it_was(one):
    line = Line(one.line())
    assert line.record == one
    assert line.record.plan == one.plan and line.record.entry == one.entry
    assert line.record.line() == one.line()
    assert line.state is State.RECORD


@given(records())
def test_a_line_is_one_and_shows_its_key_and_kind_unparsed(one):
    raw = one.line()
    assert raw.isascii() and b"\n" not in raw
    assert raw.startswith(b'{"schema":1,"key":"%s","kind":"' % one.key.encode())
    assert len(one.key) == 16 and int(one.key, 16) >= 0
    assert Line(raw).key == one.key.encode() == Line(reformatted(raw)).key
    other = MEASUREMENT if one.kind == VERDICT else VERDICT
    assert Line(raw).may_be(one.kind) and Line(raw).may_be(None)
    assert not Line(raw).may_be(other)


@given(records(), records())
def test_the_key_is_of_workload_and_profile_alone(one, two):
    same = (one.plan.workload, one.profile.hash) == (two.plan.workload, two.profile.hash)
    assert (one.key == two.key) == same


@given(workloads(), workloads(), st.sampled_from("ab"), st.sampled_from("ab"))
def test_keys_are_equal_where_both_are(w, v, of_w, of_v):
    assert (key_of(w, of_w) == key_of(v, of_v)) == ((w, of_w) == (v, of_v))


def test_plans_of_one_workload_share_their_key():
    one, two = small_plan(), replace(small_plan(), prefetch_c=True)
    assert one != two
    assert record(one).key == record(two, engine="evolve", rank=7).key


def test_a_profile_goes_by_its_facts():
    zen4 = load_profile("zen4")
    renamed = replace(zen4, title="another title")
    assert ProfileId.of(zen4) == ProfileId.of(renamed)
    assert ProfileId.of(zen4).hash != ProfileId.of(load_profile("zen3")).hash


def test_what_was_measured_has_five_digits():
    one = record(seconds=1.23456789e-5)
    read = Line(one.line()).record
    assert read.timing == Timing((1.2346e-05,) * 3)
    assert read.plan.to_json() == one.plan.to_json()


def test_a_record_holds_for_its_origin_alone():
    here = Origin.here()
    assert record().is_own(here) and not record(origin=ELSEWHERE).is_own(here)
    for name in ("anatune", "tvm", "host", "device"):
        assert not record(origin=replace(here, **{name: "another"})).is_own(here)
    assert record(origin=replace(here, cpu="the same chip, renamed")).is_own(here)


def test_no_limit_is_none():
    assert Effort(3, math.inf) == Effort(3, None)


@pytest.mark.parametrize("raw", FOREIGN)
def test_lines_of_other_versions_are_foreign(raw):
    assert Line(raw).state is State.FOREIGN and Line(raw).record is None


@pytest.mark.parametrize("raw", TORN)
def test_what_is_no_line_of_a_store_is_torn(raw):
    assert Line(raw).state is State.TORN and Line(raw).record is None


@given(records(), st.data())
def test_a_line_that_is_cut_anywhere_is_torn(one, data):
    raw = one.line()
    assert Line(raw[: data.draw(st.integers(1, len(raw) - 1))]).state is State.TORN


WRONG = {
    "at": "yesterday", "outcome": "great", "threads": "many", "rank": None, "profile": "zen4",
    "origin": {"anatune": "1"}, "predicted": [1], "predicted ": {}, "timing": {"samples_s": []},
    "timing ": {"samples_s": ["x"]}, "timing  ": 3, "build_s": "long",
}  # fmt: skip
"""Field, with blanks that tell repeated ones apart -> a value of another version's meaning."""


@pytest.mark.parametrize("field", WRONG)
def test_a_field_of_another_meaning_makes_a_line_foreign(field):
    fields = json.loads(record().line())
    fields[field.strip()] = WRONG[field]
    assert Line(json.dumps(fields).encode()).state is State.FOREIGN


@pytest.mark.parametrize("field", list(json.loads(record().line())))
def test_a_field_that_lacks_makes_no_record(field):
    fields = json.loads(record().line())
    del fields[field]
    wanted = State.TORN if field == "schema" else State.FOREIGN
    assert Line(json.dumps(fields).encode()).state is wanted


def test_what_a_later_version_adds_is_left_alone():
    fields = json.loads(record(outcome=Outcome.OK).line())
    fields["moon"] = "full"
    fields["timing"]["temperature_c"] = [40.0]
    fields["origin"]["kernel"] = "6.1"
    assert Line(json.dumps(fields).encode()).record == replace(record(), at=fields["at"])


def test_a_plan_of_another_version_is_refused_when_it_is_asked_for():
    fields = json.loads(record().line())
    fields["plan"]["kind"] = "poem"
    found = Line(json.dumps(fields).encode()).record
    with pytest.raises(IllegalPlan, match="poem"):
        found.plan
