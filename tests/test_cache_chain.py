"""Cache geometry from several readings: what adds up is kept, what does not falls through."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anatune.hwprofile.detect.cache_chain import clean, is_complete, settle
from anatune.hwprofile.detect.facts import RawCache, Reading, parse_cpu_list, parse_int, parse_size
from anatune.hwprofile.profile import Source

KIB, MIB = 1 << 10, 1 << 20
SYSTEM = Source(name="system", kind="detected", where="test")
TABLE = Source(name="table", kind="document", where="test")


def reading(source: Source, *caches: RawCache) -> Reading:
    return Reading(source=source, caches=caches)


def l1(**facts: int) -> RawCache:
    return RawCache(level=1, **facts)


NUMBER = st.none() | st.integers(-(2**70), 2**70) | st.sampled_from([0, 1, 8, 64, 32 * KIB, MIB])
CACHE = st.builds(
    RawCache,
    level=st.integers(-1, 6),
    size_bytes=NUMBER,
    ways=NUMBER,
    sets=NUMBER,
    line_bytes=NUMBER,
    cores=NUMBER,
)
READINGS = st.lists(
    st.builds(reading, st.sampled_from([SYSTEM, TABLE]), CACHE, CACHE, CACHE), max_size=3
)


@given(READINGS)
def test_any_readings_settle_to_a_lawful_hierarchy(readings):
    levels = [settled.level for settled in settle(readings)]
    assert [level.level for level in levels] == list(range(1, len(levels) + 1)) != []
    for level in levels:
        assert KIB <= level.size_bytes and level.ways >= 1 and level.sets >= 1
        assert level.line_bytes & (level.line_bytes - 1) == 0
    for near, far in pairwise(levels):
        assert near.size_bytes <= far.size_bytes and near.cores <= far.cores


@given(
    line=st.sampled_from([32, 64, 128]),
    ways=st.integers(1, 24),
    sets=st.integers(16, 64),
    missing=st.sampled_from(["line_bytes", "ways", "sets", "size_bytes"]),
)
def test_three_of_four_numbers_give_the_fourth(line, ways, sets, missing):
    facts = {"line_bytes": line, "ways": ways, "sets": sets, "size_bytes": line * ways * sets}
    level = settle([reading(SYSTEM, l1(**{k: v for k, v in facts.items() if k != missing}))])[0]
    if facts["size_bytes"] >= KIB:
        assert (level.level.line_bytes, level.level.ways, level.level.sets) == (line, ways, sets)
        assert {source.name for fact, source in level.sources if fact != "cores"} == {"system"}


def test_ways_come_from_the_table_and_only_they_and_what_follows_are_the_table_s():
    settled = settle(
        [
            reading(SYSTEM, l1(size_bytes=48 * KIB, line_bytes=64, cores=1)),
            reading(TABLE, l1(size_bytes=32 * KIB, line_bytes=64, ways=12, cores=1)),
        ]
    )[0]
    assert (settled.level.size_bytes, settled.level.ways) == (48 * KIB, 12)
    names = {fact: source.name for fact, source in settled.sources}
    assert names == {"sets": "table", "ways": "table", "line": "system", "cores": "system"}


def test_ways_of_the_table_that_do_not_divide_the_size_are_not_taken():
    settled = settle(
        [
            reading(SYSTEM, l1(size_bytes=32 * KIB, line_bytes=64)),
            reading(TABLE, l1(size_bytes=48 * KIB, line_bytes=64, ways=12)),
        ]
    )[0]
    assert (settled.level.size_bytes, settled.level.ways) == (32 * KIB, 8)
    assert dict(settled.sources)["ways"].kind == "assumed"


def test_a_line_that_follows_must_be_a_power_of_two():
    settled = settle([reading(SYSTEM, l1(size_bytes=48 * KIB, ways=8, sets=64))])[0]
    assert (settled.level.line_bytes, settled.level.size_bytes) == (64, 48 * KIB)


def test_the_table_adds_no_level_to_a_machine_that_tells_its_own():
    table = reading(TABLE, *(RawCache(level=n, size_bytes=n * MIB, ways=16) for n in (2, 3)))
    own = reading(SYSTEM, l1(size_bytes=32 * KIB, ways=8, line_bytes=64))
    assert len(settle([own, table])) == 1
    assert len(settle([table])) == 3


@pytest.mark.parametrize(
    ("facts", "kept"),
    [
        ({"line_bytes": 48}, {}),
        ({"line_bytes": 0}, {}),
        ({"line_bytes": 64}, {"line_bytes": 64}),
        ({"size_bytes": 512 * KIB}, {}),
        ({"size_bytes": -1}, {}),
        ({"ways": 0, "sets": 0}, {}),
        (
            {"size_bytes": 32 * KIB, "line_bytes": 64, "ways": 8, "sets": 128},
            {"size_bytes": 32 * KIB, "line_bytes": 64},
        ),
    ],
)
def test_clean_drops_what_no_machine_has(facts, kept):
    assert clean(l1(**facts)) == l1(**kept)


def test_complete_needs_a_first_level_that_adds_up():
    whole = l1(size_bytes=32 * KIB, ways=8, line_bytes=64)
    assert is_complete([whole])
    assert not is_complete([]) and not is_complete([l1(size_bytes=32 * KIB, line_bytes=64)])
    assert not is_complete([RawCache(level=2, size_bytes=MIB, ways=8, line_bytes=64)])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("48K", 49152), ("1M", MIB), ("1.3M", 1363148), ("512", 512), ("2G", 2 << 30),
     ("", None), (None, None), ("K", None), ("-1K", None), ("1KB", None), ("9" * 30 + "K", None)],
)  # fmt: skip
def test_sizes(text, expected):
    assert parse_size(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0-2,5", (0, 1, 2, 5)), ("7\n", (7,)), ("", ()), (None, ()), ("3-1", ()), ("0-", ()),
     ("0-99999999999", ()), ("a", ()), ("-1", ())],
)  # fmt: skip
def test_cpu_lists(text, expected):
    assert parse_cpu_list(text) == expected


@pytest.mark.parametrize("text", [None, "", "x", "1.5", "9" * 30, "٣", "1 2"])
def test_what_is_no_number_is_none(text):
    assert parse_int(text) is None
