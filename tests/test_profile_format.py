"""The profile format: what is read, the way back to text, the hash, and the published schema."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from profile_samples import CPU, GPU, edited, small

from anatune.errors import ProfileError
from anatune.hwprofile import (
    Dot,
    check_file,
    content_hash,
    dump_profile,
    json_schema,
    load_profile,
    parse_profile,
    profiles,
    strict_yaml,
)
from anatune.hwprofile.profile import MULTIPLY_ADDS
from anatune.hwprofile.schema import DOTS, FORMAT, facts
from anatune.plan import ARITHMETIC

SHIPPED = Path(__file__).parents[1] / "hwprofiles"


def test_facts_of_a_cpu() -> None:
    profile = small()
    core = profile.core
    assert (core.count, core.threads_each, core.clock_one_hz, core.clock_all_hz) == (
        4,
        2,
        3e9,
        2.4e9,
    )
    assert (core.vector_bits, core.vector_registers) == (256, 16)
    assert (core.fma_per_cycle, core.fma_latency_cycles) == (2, 5)
    assert [cache.size_bytes for cache in core.caches] == [32768, 2**20]
    assert [cache.holds for cache in core.caches] == ["copies", "own"]
    assert core.tlb is not None and (core.tlb.second_entries, core.tlb.page_bytes) == (1536, 4096)
    assert core.dots == (
        Dot(name="int16 pairs and add", per_cycle=1, latency_cycles=2),
        Dot(name="int32", per_cycle=0.5, latency_cycles=None),
    )
    assert profile.memory.read_one_bytes_per_s == 12e9
    assert profile.barrier_s == 3e-6
    assert profile.peak_flops == (("float32", 90e9),)
    assert profile.target.features == ("+avx2", "+fma")
    assert profile.usable_threads == 8, "absent: all hardware threads"
    assert profile.sources[0].date == "2026-01-31"


def test_arithmetics_are_found_by_name() -> None:
    core = small().core
    assert core.dot("int16 pairs and add") == core.dots[0]
    assert core.dot("fma32") == Dot(name="fma32", per_cycle=2, latency_cycles=5)
    assert core.dot("int8 quads") is None, "not listed: unknown"


def test_the_format_knows_every_arithmetic_of_the_planner() -> None:
    assert (*MULTIPLY_ADDS, *DOTS) == tuple(ARITHMETIC)


def test_facts_of_a_gpu() -> None:
    profile = parse_profile(GPU, "card")
    assert profile.cores == () and profile.gpu is not None
    assert profile.gpu.shared_per_block_bytes == 163 * 1024
    assert profile.gpu.tensor_flops == (("float16", 2048),)
    assert profile.missing == ("gpu.l2_read",), "a GPU does not miss what only a CPU has"


def test_assumed_facts_are_counted_by_name() -> None:
    assert small().assumed == (
        "cores.big.clock.all_cores",
        "cores.big.dots.int32.per_cycle",
        "probes.barrier",
        "probes.peak.float32",
    )


def test_each_number_is_cited() -> None:
    cited = {citation.fact: citation for citation in small().citations}
    assert cited["cores.big.count"].source == "manual"
    assert cited["cores.big.caches.2.ways"].source == "manual"
    assert (cited["cores.big.clock.all_cores"].source, cited["cores.big.clock.all_cores"].note) == (
        "guess",
        "warm",
    )


def test_missing_facts_name_the_command() -> None:
    profile = small()
    assert "memory.read_all" in profile.missing and "memory.read_one" not in profile.missing
    assert "cores.big.caches.1.latency" in profile.missing
    assert profile.missing_note is not None
    assert profile.missing_note.endswith("run anatune profile measure")
    assert profile.missing_note.startswith(f"{len(profile.missing)} facts are missing: ")


def test_an_unknown_tlb_is_missing() -> None:
    assert (
        "cores.big.tlb"
        in small(
            ("tlb: {entries: 64, second_entries: 1536, page: 4 KiB, miss: 7 cycles}", "tlb: null")
        ).missing
    )


def test_nothing_missing_has_no_note() -> None:
    gpu = parse_profile(edited(("l2_read: null", "l2_read: 5 TB/s"), text=GPU), "card")
    assert gpu.missing == () and gpu.missing_note is None


@pytest.mark.parametrize("name", profiles())
def test_shipped_profiles_are_in_order(name: str) -> None:
    assert check_file(SHIPPED / f"{name}.yaml") == []


@pytest.mark.parametrize("text", [CPU, GPU], ids=["cpu", "gpu"])
def test_round_trip(text: str) -> None:
    name = "small" if text is CPU else "card"
    profile = parse_profile(text, name)
    written = dump_profile(profile)
    assert parse_profile(written, name) == profile
    assert dump_profile(parse_profile(written, name)) == written


@pytest.mark.parametrize("name", profiles())
def test_round_trip_of_shipped_profiles(name: str, tmp_path: Path) -> None:
    profile = load_profile(name)
    file = tmp_path / f"{name}.yaml"
    file.write_text(dump_profile(profile))
    assert load_profile(file) == profile
    assert check_file(file) == [], "canonical text has its keys in order"


def test_a_number_without_citation_is_not_written() -> None:
    uncited = dataclasses.replace(small(), citations=())
    with pytest.raises(ProfileError, match="cores.big.count has no citation"):
        dump_profile(uncited)


def test_hash_ignores_title_and_sources_only() -> None:
    same = small(
        ("A small core", "Another title"),
        ("manual, table 1", "manual, table 2"),
        ("note: warm", "note: cold"),
    )
    assert content_hash(same) == content_hash(small())
    assert len(content_hash(small())) == 64
    written_out = small(("cores: 1}", "cores: 1, holds: copies}"))
    assert content_hash(written_out) == content_hash(
        small()
    ), "a default is the same fact when written"


def test_hash_sees_every_fact() -> None:
    texts = (
        ("ways: 8, line: 64 B, size: 32 KiB", "ways: 16, line: 64 B, size: 64 KiB"),
        ("3 GHz", "3.1 GHz"),
        ("haswell", "skylake"),
        ("memory: {read_one: 12 GB/s", "memory: {read_one: 13 GB/s"),
        ("barrier: {value: 3 us", "barrier: {value: 4 us"),
        ("float32: {value: 90", "float64: {value: 90"),
        ("holds: own", "holds: copies"),
        ("name: int32", "name: int8 quads"),
        ("sources:", "virtualized: true\nsources:"),
    )
    hashes = {content_hash(small(change)) for change in texts} | {content_hash(small())}
    assert len(hashes) == len(texts) + 1


def test_dates_and_words_of_yaml_stay_text() -> None:
    assert strict_yaml.parse("[2026-01-31, on, yes, 1:30, 0x10, 1e5, 017]", "x") == [
        "2026-01-31",
        "on",
        "yes",
        "1:30",
        "0x10",
        "1e5",
        17,
    ]


def test_limits_of_a_document() -> None:
    with pytest.raises(ProfileError, match="more than 64 KiB"):
        strict_yaml.parse("#" * (strict_yaml.MAX_BYTES + 1), "x")
    with pytest.raises(ProfileError, match="nested more than 12 deep"):
        strict_yaml.parse("[" * 20000, "x")
    assert strict_yaml.parse("[" * 12 + "]" * 12, "x") is not None


def test_committed_json_schema_is_that_of_the_loader() -> None:
    assert (
        json.loads((SHIPPED / "schema.json").read_text()) == json_schema()
    ), "write hwprofiles/schema.json anew: json.dumps(json_schema(), indent=1)"


@pytest.mark.parametrize("name", profiles())
def test_json_schema_accepts_shipped_profiles(name: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    tree = strict_yaml.parse((SHIPPED / f"{name}.yaml").read_text(), name)
    jsonschema.Draft202012Validator(json_schema()).validate(tree)


def test_readme_names_every_key() -> None:
    readme = (SHIPPED / "README.md").read_text()
    profiles_of_both_kinds = (small(), parse_profile(GPU, "card"))
    keys = {item.key for item in FORMAT.items}
    for profile in profiles_of_both_kinds:
        keys |= {path[-1] for path, _, _ in facts(profile)}
    assert {key for key in keys if key not in readme} == set()
