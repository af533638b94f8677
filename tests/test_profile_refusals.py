"""What the profile loader refuses, each rule with the message that names the mend."""

from __future__ import annotations

from pathlib import Path

import pytest
from profile_samples import CPU, GPU, edited, small

from anatune.errors import ProfileError
from anatune.hwprofile import check_file, json_schema, load_profile, parse_profile, strict_yaml


def refusal(text: str, name: str = "small") -> str:
    with pytest.raises(ProfileError) as caught:
        parse_profile(text, name)
    message = str(caught.value)
    assert message.startswith(f"{name}: ") and "\n" not in message
    return message


REFUSED = {
    "unknown key": (("stores_per_cycle", "store_per_cycle"), "did you mean stores_per_cycle?"),
    "unknown top key": (("memory:", "memry:"), "did you mean memory?"),
    "unknown key in a block": (
        ("latency: 5 cycles", "latncy: 5 cycles"),
        "cores.big.fma: unknown key 'latncy': did you mean latency?",
    ),
    "unknown key beside a value": (("note: warm", "nte: warm"), "did you mean note?"),
    "unknown data type": (("float32: {value", "float31: {value"), "did you mean float32?"),
    "key twice": (
        ("    count: 4\n", "    count: 4\n    count: 4\n"),
        "line 11: key 'count' is given twice",
    ),
    "core twice": (("memory:", "  - {name: big}\nmemory:"), "cores: name big is given twice"),
    "level twice": (("level: 2", "level: 1"), "level 1 is given twice"),
    "unknown source": (
        ("value: 3 us, source: guess", "value: 3 us, source: gues"),
        "probes.barrier.source: 'gues' is not in sources: did you mean guess?",
    ),
    "no source": (
        ("read_all: null, source: manual", "read_all: null"),
        "memory.read_one: has no source",
    ),
    "unused source": (
        ("  guess:", "  other: {kind: document, where: x}\n  guess:"),
        "sources.other: no number uses it",
    ),
    "source kind": (
        ("kind: assumed", "kind: guessed"),
        "'guessed' is not one of detected, measured, document, assumed",
    ),
    "source without where": ((", where: why not", ""), "sources.guess: has no where"),
    "size": (
        ("size: 32 KiB", "size: 31 KiB"),
        "caches.1.size: 31744 is stated, but the facts give 32768",
    ),
    "kB": (("size: 32 KiB", "size: 32 kB"), "kB is read as 1000 and as 1024: write KiB"),
    "no unit": (("size: 32 KiB", "size: 32768"), "has no unit"),
    "zero": (("ways: 8", "ways: 0"), "caches.1.ways: 0 is not plausible: between 1 and 1024"),
    "negative": (("ways: 8", "ways: -8"), "not plausible"),
    "absurd clock": (
        ("one_core: 3 GHz", "one_core: 300 GHz"),
        "clock.one_core: 300 GHz is not plausible: between 10 MHz and 20 GHz",
    ),
    "fraction of a count": (("ways: 8", "ways: 8.5"), "8.5 is not a whole number"),
    "flag as count": (("ways: 8", "ways: true"), "True is not a whole number"),
    "flag as number": (("per_cycle: 2,", "per_cycle: true,"), "True is not a number"),
    "nan": (("per_cycle: 2,", "per_cycle: .nan,"), "'.nan' is not a number"),
    "inf": (("per_cycle: 2,", "per_cycle: .inf,"), "'.inf' is not a number"),
    "text for a number": (("count: 4", "count: '4'"), "'4' is not a whole number"),
    "line": (
        ("line: 64 B, size: 32 KiB", "line: 96 B, size: 48 KiB"),
        "caches.1.line: 96 B is not a power of two",
    ),
    "page": (("page: 4 KiB", "page: 5 KiB"), "5 KiB is not a power of two"),
    "second level of the TLB": (
        ("second_entries: 1536", "second_entries: 15"),
        "less than the first level's 64",
    ),
    "sizes fall": (
        (
            "sets: 1024, ways: 16, line: 64 B, size: 1 MiB",
            "sets: 16, ways: 16, line: 64 B, size: 16 KiB",
        ),
        "16 KiB is less than 32 KiB of level 1",
    ),
    "cores fall": (
        (
            "cores: 1}\n      - {level: 2, sets: 1024, ways: 16, line: 64 B, size: 1 MiB, cores: 4",
            "cores: 2}\n      - {level: 2, sets: 1024, ways: 16, line: 64 B, size: 1 MiB, cores: 1",
        ),
        "1 is less than 2 of level 1",
    ),
    "more sharers than cores": (
        ("size: 1 MiB, cores: 4", "size: 1 MiB, cores: 5"),
        "5 is more than the 4 cores",
    ),
    "level left out": (("level: 2", "level: 3"), "levels are [1, 3]"),
    "no caches": (
        (CPU[CPU.index("    caches:") : CPU.index("    tlb:")], ""),
        "caches: is missing",
    ),
    "check": (
        ("{value: 32,", "{value: 64,"),
        "check.f32_flops_per_cycle: 64 is stated, but the facts give 32",
    ),
    "check of an unknown": (
        ("per_cycle: 2,", "per_cycle: null,"),
        "check.f32_flops_per_cycle: cannot be computed",
    ),
    "name": (("name: small", "name: big"), "'big' in a file called 'small'"),
    "name with a dot": (("- name: big", "- name: b.g"), "is not a name of a-z, 0-9 and _"),
    "required": (("    threads_each: 2\n", ""), "cores.big.threads_each: is missing"),
    "required null": (("registers: 16", "registers: null"), "vector.registers: is missing"),
    "target": (
        ("target: {isa: x86_64, mcpu: haswell, features: [+avx2, +fma]}\n", ""),
        "target: is missing",
    ),
    "isa": (("isa: x86_64", "isa: x86"), "'x86' is not one of"),
    "gpu isa": (("isa: x86_64", "isa: nvptx"), "nvptx does not go with cores"),
    "neither": (
        (CPU[CPU.index("cores:") : CPU.index("memory:")], ""),
        "cores: a profile has either cores or gpu",
    ),
    "usable threads": (
        ("sources:", "usable_threads: {value: 9, source: manual}\nsources:"),
        "9 is more than the 8 hardware threads",
    ),
    "cpus": (
        ("threads_each: 2", "threads_each: 2\n    cpus: [0, 1, 2, 3, 4, 5, 6, 7, 8]"),
        "9 are more than 4 x 2",
    ),
    "cpu twice": (
        ("threads_each: 2", "threads_each: 2\n    cpus: [1, 1]"),
        "a number is given twice",
    ),
    "vector width": (("256 bit", "200 bit"), "not a multiple of 32 bit"),
    "holds": (("holds: own", "holds: nothing"), "'nothing' is not one of copies, victims, own"),
    "null inside": (("value: 3 us", "value: null"), "write null in place of the whole entry"),
    "list for a block": (
        ("fma: {per_cycle: 2, latency: 5 cycles}", "fma: [1]"),
        "fma: [1] is not a mapping",
    ),
    "block for a list": (("features: [+avx2, +fma]", "features: +avx2"), "'+avx2' is not a list"),
    "word with a space": (("+avx2", "a b"), "'a b' is not a word"),
    "two lines of text": (("title: A small core", 'title: "A\\nB"'), "is not one line"),
    "flag": (("sources:", "virtualized: 1\nsources:"), "virtualized: 1 is not true or false"),
    "anchor": (("title: A", "title: &a A"), "anchors and aliases"),
    "alias": (("title: A small core", "title: *a"), "anchors and aliases"),
    "tag": (("title: A", "title: !!str A"), "tags (!) are not read"),
    "python tag": (
        ("title: A small core", "title: !!python/object/apply:os.system [ls]"),
        "tags (!) are not read",
    ),
    "second document": (("memory:", "---\nmemory:"), "a second document"),
    "version": (("schema: 1", "schema: 2"), "schema: 2 is newer than this anatune reads (1)"),
    "old version": (
        ("schema: 1", "schema: 0"),
        "0 is no longer read: change the file for 1: first version",
    ),
    "no version": (("schema: 1\n", ""), "None is not a version: write schema: 1"),
    "flag for a version": (("schema: 1", "schema: true"), "True is not a version"),
    "not YAML": (("memory: {", "memory: ]{"), "not readable as YAML: line "),
    "sources as a list": (("sources:\n", "sources: [x]\nx:\n"), "sources: write a mapping"),
    "name of a source": (("  guess:", "  Guess: {}\n  guess:"), "sources: 'Guess' is not a name"),
    "source as text": (("  guess:", "  other: x\n  guess:"), "sources.other: write {kind: "),
    "mapping for a list": (
        (CPU[CPU.index("cores:") : CPU.index("memory:")], "cores: {}\n"),
        "cores: {} is not a list: start each entry with '- name:'",
    ),
    "entry without identity": (
        ("memory:", "  - {count: 1}\nmemory:"),
        "cores.(2): an entry starts with 'name:'",
    ),
    "entry as text": (("memory:", "  - x\nmemory:"), "cores.(2): an entry starts with 'name:'"),
    "number for text": (("title: A small core", "title: 4"), "title: 4 is not text: quote it"),
    "empty text": (("title: A small core", "title: ''"), "title: '' is not text"),
    "key that is no word": (("memory:", "? [a]\n: b\nmemory:"), "a key must be a word"),
    "unknown parent": (("sources:", "like: nobody\nsources:"), "profile 'nobody' is not found"),
    "parent by path": (
        ("sources:", "like: ../x\nsources:"),
        "like: '../x' is not the name of a profile",
    ),
}


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
        (("registers_per_sm: 65536", "registers_per_sm: 128"), "is more than registers_per_sm"),
    ],
)
def test_refuses_a_gpu(change: tuple[str, str], why: str) -> None:
    assert why in refusal(edited(change, text=GPU), "card")


def test_refuses_what_is_no_mapping() -> None:
    assert refusal("- a") == "small: a profile is a mapping of keys: see hwprofiles/README.md"
    assert "a profile is a mapping of keys" in refusal("")


def test_a_mend_of_the_loader_is_not_taken_for_an_error_of_yaml() -> None:
    assert refusal("a: 1\na: 2") == "small: line 2: key 'a' is given twice"


def test_sources_may_be_null_where_nothing_is_cited() -> None:
    assert "sources" not in refusal("schema: 1\nname: small\nsources: null").split("target")[0]


def test_a_null_total_states_nothing() -> None:
    assert small(("hardware_threads: {value: 8, source: manual}", "hardware_threads: null")).name


def test_one_cpu_belongs_to_one_kind_of_core() -> None:
    core = CPU[CPU.index("  - name: big") : CPU.index("memory:")]
    core = core.replace("threads_each: 2", "threads_each: 2\n    cpus: [0, 1]")
    two = edited((CPU[CPU.index("  - name: big") : CPU.index("memory:")], core + core))
    little = "name: little".join(two.rsplit("name: big", 1))
    assert "two kinds of core claim one of the cpus" in refusal(little)


def test_refuses_cores_beside_a_gpu() -> None:
    gpu = GPU[GPU.index("gpu:") : GPU.index("check:")].replace("sheet", "manual")
    assert "a profile has either cores or gpu" in refusal(edited(("check:", f"{gpu}check:")))


def test_totals_may_be_rounded_as_vendors_do() -> None:
    assert parse_profile(edited(("312 TFLOP/s", "310 TFLOP/s"), text=GPU), "card").gpu is not None


def test_every_problem_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(
        edited(("ways: 8", "ways: 0"), ("count: 4", "count: x"), ("holds: own", "hold: own"))
    )
    problems = check_file(file)
    assert len(problems) == 3
    assert "(and 2 more: anatune profile check small.yaml)" in refusal(file.read_text())
    with pytest.raises(ProfileError, match=f"2 more: anatune profile check {file}\\)"):
        load_profile(file)


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


@pytest.mark.parametrize(
    "case",
    ["unknown key", "unknown top key", "kB", "no unit", "zero", "holds", "source kind", "version"],
)
def test_json_schema_refuses(case: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(json_schema())
    assert validator.is_valid(strict_yaml.parse(CPU, "small"))
    assert not validator.is_valid(strict_yaml.parse(edited(REFUSED[case][0]), "small"))
