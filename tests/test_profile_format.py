"""The profile format: what is read, what is refused and why, and the way back to text."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from anatune.errors import ProfileError
from anatune.hwprofile import (
    Profile,
    check_file,
    content_hash,
    dump_profile,
    json_schema,
    load_profile,
    parse_profile,
    places,
    profiles,
    strict_yaml,
)
from anatune.hwprofile.schema import FORMAT, facts

SHIPPED = Path(__file__).parents[1] / "hwprofiles"
CPU = """\
schema: 1
name: small
title: A small core
target: {isa: x86_64, mcpu: haswell, features: [+avx2, +fma]}
sources:
  manual: {kind: document, where: "manual, table 1", date: 2026-01-31}
  guess: {kind: assumed, where: why not}
cores:
  - name: big
    count: 4
    threads_each: 2
    clock: {one_core: 3 GHz, all_cores: {value: 2.4 GHz, source: guess, note: warm}}
    vector: {width: 256 bit, registers: 16}
    fma: {per_cycle: 2, latency: 5 cycles}
    loads_per_cycle: 2
    stores_per_cycle: 1
    caches:
      - {level: 1, sets: 64, ways: 8, line: 64 B, size: 32 KiB, cores: 1}
      - {level: 2, sets: 1024, ways: 16, line: 64 B, size: 1 MiB, cores: 4, holds: own}
    tlb: {entries: 64, second_entries: 1536, page: 4 KiB, miss: 7 cycles}
    source: manual
memory: {read_one: 12 GB/s, read_all: null, source: manual}
probes:
  barrier: {value: 3 us, source: guess}
  peak: {float32: {value: 90 GFLOP/s, source: guess}}
check: {f32_flops_per_cycle: {value: 32, source: manual}, hardware_threads: {value: 8, source: manual}}
"""
GPU = """\
schema: 1
name: card
title: A card
target: {isa: nvptx, mcpu: sm_80}
sources: {sheet: {kind: document, where: data sheet}}
gpu:
  sms: 108
  clock: 1.41 GHz
  warp_threads: 32
  registers_per_sm: 65536
  registers_per_thread: 255
  threads_per_sm: 2048
  blocks_per_sm: 32
  shared_per_sm: 164 KiB
  shared_per_block: 163 KiB
  shared_read: 128 B/cycle
  l2: 40 MiB
  l2_read: null
  memory_read: 1555 GB/s
  fp32_per_cycle: 128 FLOP/cycle
  tensor: {float16: {value: 2048 FLOP/cycle, source: sheet}}
  source: sheet
check:
  f32_flops: {value: 19.5 TFLOP/s, source: sheet}
  f16_tensor_flops: {value: 312 TFLOP/s, source: sheet}
"""


def edited(*changes: tuple[str, str], text: str = CPU) -> str:
    for old, new in changes:
        assert text.count(old) >= 1, old
        text = text.replace(old, new, 1)
    return text


def small(*changes: tuple[str, str]) -> Profile:
    return parse_profile(edited(*changes), "small")


def refusal(text: str, name: str = "small") -> str:
    with pytest.raises(ProfileError) as caught:
        parse_profile(text, name)
    message = str(caught.value)
    assert message.startswith(f"{name}: ") and "\n" not in message
    return message


def test_facts_of_a_cpu() -> None:
    profile = small()
    core = profile.core
    assert (core.count, core.threads_each, core.clock_one_hz, core.clock_all_hz) == (4, 2, 3e9, 2.4e9)
    assert (core.vector_bits, core.vector_registers) == (256, 16)
    assert (core.fma_per_cycle, core.fma_latency_cycles) == (2, 5)
    assert [cache.size_bytes for cache in core.caches] == [32768, 2**20]
    assert [cache.holds for cache in core.caches] == ["copies", "own"]
    assert core.tlb is not None and (core.tlb.second_entries, core.tlb.page_bytes) == (1536, 4096)
    assert profile.memory.read_one_bytes_per_s == 12e9
    assert profile.barrier_s == 3e-6
    assert profile.peak_flops == (("float32", 90e9),)
    assert profile.target.features == ("+avx2", "+fma")
    assert profile.usable_threads == 8, "absent: all hardware threads"
    assert profile.sources[0].date == "2026-01-31"


def test_facts_of_a_gpu() -> None:
    profile = parse_profile(GPU, "card")
    assert profile.cores == () and profile.gpu is not None
    assert profile.gpu.shared_per_block_bytes == 163 * 1024
    assert profile.gpu.tensor_flops == (("float16", 2048),)
    assert profile.missing == ("gpu.l2_read",), "a GPU does not miss what only a CPU has"


def test_assumed_facts_are_counted_by_name() -> None:
    assert small().assumed == ("cores.big.clock.all_cores", "probes.barrier", "probes.peak.float32")


def test_each_number_is_cited() -> None:
    cited = {citation.fact: citation for citation in small().citations}
    assert cited["cores.big.count"].source == "manual"
    assert cited["cores.big.caches.2.ways"].source == "manual"
    assert (cited["cores.big.clock.all_cores"].source, cited["cores.big.clock.all_cores"].note) == ("guess", "warm")


def test_missing_facts_name_the_command() -> None:
    profile = small()
    assert "memory.read_all" in profile.missing and "memory.read_one" not in profile.missing
    assert "cores.big.caches.1.latency" in profile.missing
    assert profile.missing_note is not None
    assert profile.missing_note.endswith("run anatune profile measure")
    assert profile.missing_note.startswith(f"{len(profile.missing)} facts are missing: ")


def test_an_unknown_tlb_is_missing() -> None:
    assert "cores.big.tlb" in small(("tlb: {entries: 64, second_entries: 1536, page: 4 KiB, miss: 7 cycles}", "tlb: null")).missing


def test_nothing_missing_has_no_note() -> None:
    gpu = parse_profile(edited(("l2_read: null", "l2_read: 5 TB/s"), text=GPU), "card")
    assert gpu.missing == () and gpu.missing_note is None


REFUSED = {
    "unknown key": (("stores_per_cycle", "store_per_cycle"), "did you mean stores_per_cycle?"),
    "unknown top key": (("memory:", "memry:"), "did you mean memory?"),
    "unknown key in a block": (("latency: 5 cycles", "latncy: 5 cycles"), "cores.big.fma: unknown key 'latncy': did you mean latency?"),
    "unknown key beside a value": (("note: warm", "nte: warm"), "did you mean note?"),
    "unknown data type": (("float32: {value", "float31: {value"), "did you mean float32?"),
    "key twice": (("    count: 4\n", "    count: 4\n    count: 4\n"), "line 11: key 'count' is given twice"),
    "core twice": (("memory:", "  - {name: big}\nmemory:"), "cores: name big is given twice"),
    "level twice": (("level: 2", "level: 1"), "level 1 is given twice"),
    "unknown source": (("value: 3 us, source: guess", "value: 3 us, source: gues"), "probes.barrier.source: 'gues' is not in sources: did you mean guess?"),
    "no source": (("read_all: null, source: manual", "read_all: null"), "memory.read_one: has no source"),
    "unused source": (("  guess:", "  other: {kind: document, where: x}\n  guess:"), "sources.other: no number uses it"),
    "source kind": (("kind: assumed", "kind: guessed"), "'guessed' is not one of detected, measured, document, assumed"),
    "source without where": ((", where: why not", ""), "sources.guess: has no where"),
    "size": (("size: 32 KiB", "size: 31 KiB"), "caches.1.size: 31744 is stated, but the facts give 32768"),
    "kB": (("size: 32 KiB", "size: 32 kB"), "kB is read as 1000 and as 1024: write KiB"),
    "no unit": (("size: 32 KiB", "size: 32768"), "has no unit"),
    "zero": (("ways: 8", "ways: 0"), "caches.1.ways: 0 is not plausible: between 1 and 1024"),
    "negative": (("ways: 8", "ways: -8"), "not plausible"),
    "absurd clock": (("one_core: 3 GHz", "one_core: 300 GHz"), "clock.one_core: 300 GHz is not plausible: between 10 MHz and 20 GHz"),
    "fraction of a count": (("ways: 8", "ways: 8.5"), "8.5 is not a whole number"),
    "flag as count": (("ways: 8", "ways: true"), "True is not a whole number"),
    "flag as number": (("per_cycle: 2,", "per_cycle: true,"), "True is not a number"),
    "nan": (("per_cycle: 2,", "per_cycle: .nan,"), "'.nan' is not a number"),
    "inf": (("per_cycle: 2,", "per_cycle: .inf,"), "'.inf' is not a number"),
    "text for a number": (("count: 4", "count: '4'"), "'4' is not a whole number"),
    "line": (("line: 64 B, size: 32 KiB", "line: 96 B, size: 48 KiB"), "caches.1.line: 96 B is not a power of two"),
    "page": (("page: 4 KiB", "page: 5 KiB"), "5 KiB is not a power of two"),
    "second level of the TLB": (("second_entries: 1536", "second_entries: 15"), "less than the first level's 64"),
    "sizes fall": (("sets: 1024, ways: 16, line: 64 B, size: 1 MiB", "sets: 16, ways: 16, line: 64 B, size: 16 KiB"), "16 KiB is less than 32 KiB of level 1"),
    "cores fall": (("cores: 1}\n      - {level: 2, sets: 1024, ways: 16, line: 64 B, size: 1 MiB, cores: 4", "cores: 2}\n      - {level: 2, sets: 1024, ways: 16, line: 64 B, size: 1 MiB, cores: 1"), "1 is less than 2 of level 1"),
    "more sharers than cores": (("size: 1 MiB, cores: 4", "size: 1 MiB, cores: 5"), "5 is more than the 4 cores"),
    "level left out": (("level: 2", "level: 3"), "levels are [1, 3]"),
    "no caches": ((CPU[CPU.index("    caches:") : CPU.index("    tlb:")], ""), "caches: is missing"),
    "check": (("{value: 32,", "{value: 64,"), "check.f32_flops_per_cycle: 64 is stated, but the facts give 32"),
    "check of an unknown": (("per_cycle: 2,", "per_cycle: null,"), "check.f32_flops_per_cycle: cannot be computed"),
    "name": (("name: small", "name: big"), "'big' in a file called 'small'"),
    "name with a dot": (("- name: big", "- name: b.g"), "is not a name of a-z, 0-9 and _"),
    "required": (("    threads_each: 2\n", ""), "cores.big.threads_each: is missing"),
    "required null": (("registers: 16", "registers: null"), "vector.registers: is missing"),
    "target": (("target: {isa: x86_64, mcpu: haswell, features: [+avx2, +fma]}\n", ""), "target: is missing"),
    "isa": (("isa: x86_64", "isa: x86"), "'x86' is not one of"),
    "gpu isa": (("isa: x86_64", "isa: nvptx"), "nvptx does not go with cores"),
    "neither": ((CPU[CPU.index("cores:") : CPU.index("memory:")], ""), "cores: a profile has either cores or gpu"),
    "usable threads": (("sources:", "usable_threads: {value: 9, source: manual}\nsources:"), "9 is more than the 8 hardware threads"),
    "cpus": (("threads_each: 2", "threads_each: 2\n    cpus: [0, 1, 2, 3, 4, 5, 6, 7, 8]"), "9 are more than 4 x 2"),
    "cpu twice": (("threads_each: 2", "threads_each: 2\n    cpus: [1, 1]"), "a number is given twice"),
    "vector width": (("256 bit", "200 bit"), "not a multiple of 32 bit"),
    "holds": (("holds: own", "holds: nothing"), "'nothing' is not one of copies, victims, own"),
    "null inside": (("value: 3 us", "value: null"), "write null in place of the whole entry"),
    "list for a block": (("fma: {per_cycle: 2, latency: 5 cycles}", "fma: [1]"), "fma: [1] is not a mapping"),
    "block for a list": (("features: [+avx2, +fma]", "features: +avx2"), "'+avx2' is not a list"),
    "word with a space": (("+avx2", "a b"), "'a b' is not a word"),
    "two lines of text": (("title: A small core", 'title: "A\\nB"'), "is not one line"),
    "flag": (("sources:", "virtualized: 1\nsources:"), "virtualized: 1 is not true or false"),
    "anchor": (("title: A", "title: &a A"), "anchors and aliases"),
    "alias": (("title: A small core", "title: *a"), "anchors and aliases"),
    "tag": (("title: A", "title: !!str A"), "tags (!) are not read"),
    "python tag": (("title: A small core", "title: !!python/object/apply:os.system [ls]"), "tags (!) are not read"),
    "second document": (("memory:", "---\nmemory:"), "a second document"),
    "version": (("schema: 1", "schema: 2"), "schema: 2 is newer than this anatune reads (1)"),
    "old version": (("schema: 1", "schema: 0"), "0 is no longer read: change the file for 1: first version"),
    "no version": (("schema: 1\n", ""), "None is not a version: write schema: 1"),
    "flag for a version": (("schema: 1", "schema: true"), "True is not a version"),
    "not YAML": (("memory: {", "memory: ]{"), "not readable as YAML: line "),
    "unknown parent": (("sources:", "like: nobody\nsources:"), "profile 'nobody' is not found"),
    "parent by path": (("sources:", "like: ../x\nsources:"), "like: '../x' is not the name of a profile"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refuses(case: str) -> None:
    change, why = REFUSED[case]
    text = edited(change)
    if case == "unknown parent":
        with pytest.raises(ProfileError, match="'nobody' is not found"):
            parse_profile(text, "small")
    else:
        assert why in refusal(text)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("shared_per_block: 163 KiB", "shared_per_block: 165 KiB"), "is more than shared_per_sm"),
        (("warp_threads: 32", "warp_threads: 33"), "not a multiple of the warp's 33 threads"),
        (("19.5 TFLOP/s", "20 TFLOP/s"), "check.f32_flops"),
        (("isa: nvptx", "isa: x86_64"), "x86_64 does not go with gpu"),
        (("registers_per_thread: 255", "registers_per_thread: 4000\n  sources: x"), "unknown key 'sources'"),
    ],
)
def test_refuses_a_gpu(change: tuple[str, str], why: str) -> None:
    assert why in refusal(edited(change, text=GPU), "card")


def test_refuses_cores_beside_a_gpu() -> None:
    gpu = GPU[GPU.index("gpu:") : GPU.index("check:")].replace("sheet", "manual")
    assert "a profile has either cores or gpu" in refusal(edited(("check:", f"{gpu}check:")))


def test_totals_may_be_rounded_as_vendors_do() -> None:
    assert parse_profile(edited(("312 TFLOP/s", "310 TFLOP/s"), text=GPU), "card").gpu is not None


def test_every_problem_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(edited(("ways: 8", "ways: 0"), ("count: 4", "count: x"), ("holds: own", "hold: own")))
    problems = check_file(file)
    assert len(problems) == 3
    assert "(and 2 more: anatune profile check)" in refusal(file.read_text())


def test_order_of_keys_is_a_problem_for_check_alone(tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(edited(("per_cycle: 2, latency: 5 cycles", "latency: 5 cycles, per_cycle: 2")))
    assert check_file(file) == ["cores.big.fma: order of keys: write per_cycle, latency"]
    assert parse_profile(file.read_text(), "small") == small()


@pytest.mark.parametrize("name", ["no.yaml", "folder.yaml", "binary.yaml", "small.yml", "big.yaml"])
def test_check_file_answers_for_any_path(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "small.yml").write_text(CPU)
    (tmp_path / "big.yaml").write_text(CPU)
    assert len(check_file(tmp_path / name)) == 1


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
    same = small(("A small core", "Another title"), ("manual, table 1", "manual, table 2"), ("note: warm", "note: cold"))
    assert content_hash(same) == content_hash(small())
    assert len(content_hash(small())) == 64
    written_out = small(("cores: 1}", "cores: 1, holds: copies}"))
    assert content_hash(written_out) == content_hash(small()), "a default is the same fact when written"


def test_hash_sees_every_fact() -> None:
    texts = (("ways: 8, line: 64 B, size: 32 KiB", "ways: 16, line: 64 B, size: 64 KiB"), ("3 GHz", "3.1 GHz"),
             ("haswell", "skylake"), ("memory: {read_one: 12 GB/s", "memory: {read_one: 13 GB/s"),
             ("barrier: {value: 3 us", "barrier: {value: 4 us"), ("float32: {value: 90", "float64: {value: 90"),
             ("holds: own", "holds: copies"), ("sources:", "virtualized: true\nsources:"))  # fmt: skip
    hashes = {content_hash(small(change)) for change in texts} | {content_hash(small())}
    assert len(hashes) == len(texts) + 1


def parent_and_child(folder: Path, monkeypatch: pytest.MonkeyPatch, child: str) -> Path:
    (folder / "small.yaml").write_text(CPU)
    file = folder / "tiny.yaml"
    file.write_text(f"schema: 1\nname: tiny\ntitle: Tiny\nlike: small\n{child}")
    monkeypatch.setenv(places.ENVIRONMENT, str(folder))
    return file


def test_a_child_states_only_what_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = """\
sources: {sheet: {kind: assumed, where: sheet}}
cores:
  - name: big
    count: {value: 6, source: sheet}
    caches: [{level: 1, ways: 4, source: sheet}]
    tlb: null
"""
    profile = load_profile(parent_and_child(tmp_path, monkeypatch, child))
    assert (profile.name, profile.title, profile.core.count, profile.core.threads_each) == ("tiny", "Tiny", 6, 2)
    assert [cache.ways for cache in profile.core.caches] == [4, 16]
    assert profile.core.tlb is None
    sources = {citation.fact: citation.source for citation in profile.citations}
    assert (sources["cores.big.count"], sources["cores.big.threads_each"]) == ("sheet", "manual")
    assert (sources["cores.big.caches.1.ways"], sources["cores.big.caches.1.sets"]) == ("sheet", "manual")
    assert "cores.big.count" in profile.assumed and "probes.barrier" in profile.assumed
    assert parse_profile(dump_profile(profile), "tiny") == profile, "written out without its parent"


def test_a_parents_source_never_covers_the_childs_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = parent_and_child(tmp_path, monkeypatch, "cores: [{name: big, count: 6}]\n")
    assert check_file(file) == ["cores.big.count: has no source: add source: here or to the block"]


def test_one_name_means_one_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = "usable_threads: {value: 2, source: guess}\nsources: {guess: {kind: assumed, where: other}}\n"
    file = parent_and_child(tmp_path, monkeypatch, child)
    assert check_file(file) == ["sources.guess: means something else in the parent: choose another name"]


def test_parents_in_a_circle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = parent_and_child(tmp_path, monkeypatch, "")
    (tmp_path / "small.yaml").write_text(file.read_text().replace("tiny", "small").replace("like: small", "like: tiny"))
    assert check_file(file)[0].startswith("like: 'tiny' leads back or too far: tiny > small")


def test_a_broken_parent_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = parent_and_child(tmp_path, monkeypatch, "")
    (tmp_path / "small.yaml").write_text(edited(("ways: 8", "ways: 0")))
    assert check_file(file)[0].startswith("like: 'small' is refused: cores.big.caches.1.ways: 0 is not plausible")


def test_dates_and_words_of_yaml_stay_text() -> None:
    assert strict_yaml.parse("[2026-01-31, on, yes, 1:30, 0x10, 1e5, 017]", "x") == [
        "2026-01-31", "on", "yes", "1:30", "0x10", "1e5", 17,
    ]  # fmt: skip


def test_limits_of_a_document() -> None:
    with pytest.raises(ProfileError, match="more than 64 KiB"):
        strict_yaml.parse("#" * (strict_yaml.MAX_BYTES + 1), "x")
    with pytest.raises(ProfileError, match="nested more than 12 deep"):
        strict_yaml.parse("[" * 20000, "x")
    assert strict_yaml.parse("[" * 12 + "]" * 12, "x") is not None


def test_committed_json_schema_is_that_of_the_loader() -> None:
    assert json.loads((SHIPPED / "schema.json").read_text()) == json_schema(), (
        "write hwprofiles/schema.json anew: json.dumps(json_schema(), indent=1)"
    )


@pytest.mark.parametrize("name", profiles())
def test_json_schema_accepts_shipped_profiles(name: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    tree = strict_yaml.parse((SHIPPED / f"{name}.yaml").read_text(), name)
    jsonschema.Draft202012Validator(json_schema()).validate(tree)


@pytest.mark.parametrize(
    "case", ["unknown key", "unknown top key", "kB", "no unit", "zero", "holds", "source kind", "version"]
)
def test_json_schema_refuses(case: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(json_schema())
    assert validator.is_valid(strict_yaml.parse(CPU, "small"))
    assert not validator.is_valid(strict_yaml.parse(edited(REFUSED[case][0]), "small"))


def test_readme_names_every_key() -> None:
    readme = (SHIPPED / "README.md").read_text()
    profiles_of_both_kinds = (small(), parse_profile(GPU, "card"))
    keys = {item.key for item in FORMAT.items}
    for profile in profiles_of_both_kinds:
        keys |= {path[-1] for path, _, _ in facts(profile)}
    assert {key for key in keys if key not in readme} == set()
