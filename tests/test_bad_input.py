"""What users get wrong: one line each, the right class, nothing half-written, on it goes."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
from profile_samples import CPU, edited

import anatune as at
from anatune.errors import (
    AnatuneError,
    CacheError,
    IllegalPlan,
    OptionError,
    ProfileError,
    WorkloadError,
)
from anatune.hwprofile import kept, parse_profile
from anatune.measure import memory
from anatune.measure.budget import DEFAULT_CANDIDATES, DEFAULT_SECONDS, Budget

W = at.matmul(37, 50, 29)


def message(call, error: type[AnatuneError]) -> str:
    """The one line that ``call`` fails with; of exactly this class."""
    with pytest.raises(AnatuneError) as caught:
        call()
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)
    return str(caught.value)


def tune(*words, **options):
    pytest.importorskip("tvm")
    return at.tune(*words, **options)


@pytest.mark.parametrize("planner", [at.plan, at.rank, tune])
def test_a_gpu_is_no_target_yet(planner):
    want = "target = 'nvidia_a100': a CPU is needed, this is a GPU"
    assert message(lambda: planner(W, "nvidia_a100"), OptionError) == want


@pytest.mark.parametrize("target", [3, None, 1.5, ["zen5"], True, b"zen5"])
@pytest.mark.parametrize("planner", [at.plan, tune])
def test_targets_that_name_nothing(planner, target):
    want = f"target = {target!r}: 'host', the name of a profile, the path of a file, or a Profile"
    assert message(lambda: planner(W, target), OptionError) == want


def test_targets_that_are_not_found():
    assert message(lambda: at.plan(W, "zen55"), ProfileError).startswith(
        "profile 'zen55' is not found"
    )
    assert message(lambda: at.plan(W, Path("/no/such.yaml")), ProfileError).startswith(
        "profile file '/no/such.yaml' "
    )


IMPOSSIBLE = {
    "size": ("size: 32 KiB", "size: 48 KiB"),
    "level 2 smaller than level 1": (
        "{level: 2, sets: 1024, ways: 16, line: 64 B, size: 1 MiB",
        "{level: 2, sets: 16, ways: 16, line: 64 B, size: 16 KiB",
    ),
    "no ways": ("ways: 8", "ways: 0"),
    "line": ("line: 64 B, size: 32 KiB", "line: 48 B, size: 24 KiB"),
    "levels": ("level: 2", "level: 3"),
    "shared by more cores than there are": ("cores: 4, holds", "cores: 9, holds"),
}


@pytest.mark.parametrize("change", IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
@pytest.mark.parametrize("planner", [at.plan, tune])
def test_impossible_caches(planner, change, tmp_path):
    file = tmp_path / "small.yaml"
    file.write_text(edited(change))
    assert "cores.big.caches" in message(lambda: planner(W, file), ProfileError)
    assert "cores.big.caches" in message(lambda: planner(W, str(file)), ProfileError)


def test_caches_that_keep_no_tile(tmp_path):
    """Possible, and of no use: one line as well."""
    file = tmp_path / "small.yaml"
    tiny = "{level: 1, sets: 8, ways: 1, line: 64 B, size: 512 B, cores: 1}"
    file.write_text(
        edited(("{level: 1, sets: 64, ways: 8, line: 64 B, size: 32 KiB, cores: 1}", tiny))
    )
    assert message(lambda: at.plan(W, file), IllegalPlan).startswith("L1 of 1 ways cannot keep ")


@pytest.mark.parametrize("workload", [None, (37, 50, 29), "matmul", 3, at.matmul])
@pytest.mark.parametrize("planner", [at.plan, at.rank, tune])
def test_workloads_that_are_none(planner, workload):
    want = f"workload = {type(workload).__name__}: use anatune.matmul(m, n, k)"
    assert message(lambda: planner(workload, "zen5"), WorkloadError) == want


def test_the_largest_product_has_a_plan_but_no_room():
    huge = at.matmul(2**31 - 1, 2**31 - 1, 2**31 - 1)
    assert at.plan(huge, "zen5").workload == huge
    said = message(lambda: memory.require_memory(huge), WorkloadError)
    assert said.startswith(f"{huge}: operands need ")


@pytest.mark.parametrize("threads", [0, -1, 3, 1.0, "2", True, [1]])
@pytest.mark.parametrize("planner", [at.plan, at.rank, tune])
def test_threads(planner, threads):
    want = f"threads = {threads!r}: a whole number from 1 to 2, the usable threads of zen5"
    assert message(lambda: planner(W, "zen5", threads=threads), OptionError) == want


@pytest.mark.parametrize("threads", [np.int64(2), np.int32(1)])
def test_threads_counted_by_numpy(threads):
    assert at.plan(W, "zen5", threads=threads) == at.plan(W, "zen5", threads=int(threads))


@pytest.mark.parametrize("objective", ["speed", "", "TIME", None, 3, ["time"]])
@pytest.mark.parametrize("planner", [at.plan, at.rank, tune])
def test_objectives(planner, objective):
    want = f"objective = {objective!r}: one of 'time', 'energy', 'edp'"
    assert message(lambda: planner(W, "zen5", objective=objective), OptionError) == want


@pytest.mark.parametrize("objective", ["time", "energy", "edp"])
def test_objectives_that_there_are(objective):
    assert at.plan(W, "zen5", objective=objective).workload == W


BUDGETS = ["5", "s", "five seconds", "", "5 kg", "-5s", 1.5, True, [5], "nan s", {}]


@pytest.mark.parametrize("budget", BUDGETS, ids=repr)
def test_budgets(budget):
    want = f'budget = {budget!r}: None, a number of candidates, or a time such as "5s"'
    assert message(lambda: Budget.parse(budget), OptionError) == want
    assert message(lambda: tune(W, "zen5", budget=budget), OptionError) == want


def test_fewer_candidates_than_none():
    want = "budget = -1: a number of candidates is 0 or more"
    assert message(lambda: Budget.parse(-1), OptionError) == want


def test_budgets_that_there_are():
    assert Budget.parse(None) == Budget(candidates=DEFAULT_CANDIDATES, seconds=DEFAULT_SECONDS)
    assert Budget.parse(16) == Budget.parse(np.int64(16)) == Budget(candidates=16, seconds=math.inf)
    assert Budget.parse(0).candidates == 0
    assert Budget.parse("5s").seconds == Budget.parse("5000 ms").seconds == 5
    assert Budget.parse("5s").candidates > 10**5


@pytest.mark.parametrize(
    "choice",
    ["", "8", "8x", "x8", "8x48x2x1", "-8x48", "8.5x48", "axb", "99999x8", "A3B2", "int8",
     "c=packed", "b=copied", "b", None, 8, (8, 48)],
    ids=repr,
)  # fmt: skip
def test_choices_that_there_are_not(choice):
    want = (
        f"choice = {choice!r}: a tile such as '8x48', an order such as 'C3B2A0', an arithmetic "
        "such as 'int16 pairs', or a storage such as 'b=in_place'"
    )
    assert message(lambda: at.why_not(choice, W, "zen5"), OptionError) == want


def test_a_tile_of_nothing():
    want = "0x16 tile has no elements: both extents must be 1 or more"
    assert at.why_not("0x16", W, "zen5") == want


def test_too_little_memory(monkeypatch):
    from anatune.measure.worker import Worker

    monkeypatch.setattr(Worker, "_spawn", lambda worker: pytest.fail("a worker was started"))
    monkeypatch.setattr(memory, "available_bytes", lambda: 2**20)
    large = at.matmul(1024, 1024, 1024)
    want = (
        "matmul 1024x1024x1024 float32: operands need 36 MiB with room to check them, "
        "1 MiB are free; take smaller extents or a machine with more"
    )
    assert message(lambda: memory.require_memory(large), WorkloadError) == want
    generic = generic_profile()
    assert message(lambda: tune(large, generic, budget=0), WorkloadError) == want


def generic_profile() -> str:
    """A profile whose code runs on this machine."""
    pytest.importorskip("tvm")
    from anatune.codegen.target import runs_here
    from anatune.hwprofile import load_profile
    from anatune.plan import CodeTarget

    names = ("generic_x86_64", "generic_aarch64", "generic_riscv64")
    found = [n for n in names if runs_here(CodeTarget.of(load_profile(n).target))]
    return found[0] if found else pytest.skip("no generic profile runs here")


@pytest.mark.parametrize("free", [None, 36 * 2**20])
def test_enough_memory_or_none_that_is_known(monkeypatch, free):
    monkeypatch.setattr(memory, "available_bytes", lambda: free)
    memory.require_memory(at.matmul(1024, 1024, 1024))


def test_the_system_tells_its_memory():
    free = memory.available_bytes()
    assert free is None or free > 2**20


@pytest.fixture
def file_as_folder(tmp_path, monkeypatch) -> Path:
    """A cache folder that is a file: nobody, not even root, can write into it."""
    file = tmp_path / "occupied"
    file.write_text("something else")
    monkeypatch.setenv(kept.CACHE_ENVIRONMENT, str(file))
    return file


def test_an_unwritable_cache_costs_a_warning(file_as_folder):
    profile = parse_profile(CPU, "small")
    assert kept.kept_host() is None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert kept.keep_host(profile) is None
    (warning,) = caught
    text = str(warning.message)
    assert text.startswith(f"cache folder {file_as_folder}/") and text.endswith(
        "; the profile is not kept"
    )
    assert "ANATUNE_CACHE_DIR" in text and "\n" not in text
    assert file_as_folder.read_text() == "something else"
    assert [f.name for f in file_as_folder.parent.iterdir()] == ["occupied"]


def test_an_unwritable_cache_is_a_cache_error(file_as_folder):
    said = message(lambda: kept.write_whole(kept.host_file(), "text"), CacheError)
    assert said.startswith(f"cache folder {file_as_folder}/")
    assert said.endswith("to a folder that can be written")


def test_a_kept_host_that_was_cut_off_is_detected_anew(monkeypatch, cache_folder):
    text = CPU.replace("name: small", "name: host")
    file = kept.write_whole(kept.host_file(), text)
    assert file.is_relative_to(cache_folder)
    assert kept.kept_host() == parse_profile(text, "host")
    for size in range(0, len(text) - 200, 97):
        file.write_text(text[:size])
        assert kept.kept_host() is None
    monkeypatch.setattr("anatune.machine.detect", lambda progress: "detected")
    assert at.load_profile("host") == "detected"


def test_a_process_goes_on_after_each():
    for _ in range(3):
        message(lambda: at.matmul(0, 1, 1), WorkloadError)
        message(lambda: at.plan(W, "nvidia_a100"), OptionError)
        assert at.plan(W, "zen5").workload == W
