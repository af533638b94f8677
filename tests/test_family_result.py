"""What tuning a workload with dims leaves behind: it is called, bound, kept, moved, explained."""

from __future__ import annotations

import json
import pickle
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm")

import anatune as at  # noqa: E402
from anatune import family  # noqa: E402
from anatune.codegen import family_call  # noqa: E402
from anatune.errors import (  # noqa: E402
    BuildError,
    IllegalPlan,
    OperandError,
    OptionError,
    VerificationError,
    WorkloadError,
)
from anatune.family import FamilyResult  # noqa: E402
from anatune.measure import builder as builder_module  # noqa: E402
from anatune.plan import DynamicPlan  # noqa: E402

N, K = 37, 29
ROWS = at.Dim("m", 1, 64)
WORKLOAD = at.matmul(ROWS, N, K)
WEIGHTS = at.matmul(ROWS, N, K, constant_b=True, epilogue="(c + bias[n]) * scale")
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def result(here) -> FamilyResult:
    return at.tune(WORKLOAD, here, threads=1)


@pytest.fixture(scope="module")
def weights(here) -> FamilyResult:
    return at.tune(WEIGHTS, here, threads=1)


def operands(m: int) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers, so that every order of the sum gives the same."""
    draw = np.random.default_rng(7)
    a, b = (draw.integers(-9, 10, shape).astype("f4") for shape in ((m, K), (K, N)))
    return a, b


BIAS, SCALE = np.arange(N, dtype="f4"), 2.0


def biased(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a @ b + BIAS) * SCALE


@pytest.mark.parametrize("m", [1, 2, 13, 64])
def test_any_member_is_called(result, m):
    a, b = operands(m)
    np.testing.assert_array_equal(result(a, b), a @ b)
    c = np.full((m, N), np.nan, "f4")
    assert result(a, b, out=c) is c
    np.testing.assert_array_equal(c, a @ b)


def test_prepared_calls_read_anew(result):
    a, b = operands(5)
    run = result.prepare(a, b)
    kept = run()
    np.testing.assert_array_equal(kept, a @ b)
    a *= 2
    assert run() is kept
    np.testing.assert_array_equal(kept, a @ b)


def test_tensors_without_a_shape(result):
    """DLPack is all that some tensors speak."""

    class Tensor:
        def __init__(self, array: np.ndarray) -> None:
            self.array = array

        def __dlpack__(self, **options):
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

    a, b = operands(6)
    np.testing.assert_array_equal(result(Tensor(a), Tensor(b)), a @ b)


ZEROS = np.zeros((4, K), "f4"), np.zeros((K, N), "f4")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ((np.zeros((65, K), "f4"), ZEROS[1]), "m = 65: a whole number, m from 1 to 64"),
        ((np.zeros((0, K), "f4"), ZEROS[1]), "m = 0: a whole number, m from 1 to 64"),
        ((np.zeros((4, K + 1), "f4"), ZEROS[1]),
         "a: shape (4, 30), (m, 29) is needed, (4, 29) with m = 4"),
        ((np.zeros(K, "f4"), ZEROS[1]), "a: shape (29,), (m, 29) is needed"),
        ((ZEROS[0], np.zeros((K, 1), "f4")),
         "b: shape (29, 1), (29, 37) is needed, (29, 37) with m = 4"),
        ((ZEROS[0],), "1 operands: 2 are needed: a, b"),
        ((*ZEROS, ZEROS[0]), "3 operands: 2 are needed: a, b"),
        ((), "0 operands: 2 are needed: a, b"),
        (([1.0], ZEROS[1]), "a: list is no array; pass numpy or another DLPack tensor"),
        ((1.0, ZEROS[1]), "a: shape (), (m, 29) is needed"),
        ((ZEROS[0].astype("f8"), ZEROS[1]), "a: data type float64, float32 is needed"),
    ],
)  # fmt: skip
def test_operands_that_are_no_members(result, given, why):
    for _ in range(2):  # what was refused once is not remembered as good
        with pytest.raises(OperandError) as caught:
            result(*given)
        assert str(caught.value) == why
        with pytest.raises(OperandError):
            result.prepare(*given)


def test_an_out_of_another_member(result):
    with pytest.raises(OperandError, match=r"^out: shape \(5, 37\), \(4, 37\) is needed$"):
        result(*ZEROS, out=np.zeros((5, N), "f4"))


def test_expressions_that_operands_contradict():
    """No kernel is needed to refuse: rows of no whole image, and none at all."""
    b, s = at.Dim("b", 1, 4), at.Dim("s", 1, 9)
    plan = at.plan(at.matmul(49 * b, b * s, 8), "zen5", threads=1)
    call = family_call.FamilyCall(plan, lambda name: pytest.fail("called"))
    for rows, why in (
        (50, r"^a: shape \(50, 8\), \(49\*b, 8\) is needed, \(49, 8\) with b = 1, s = 6$"),
        (48, r"^a: shape \(48, 8\), \(49\*b, 8\) is needed, \(0, 8\) with b = 0, s = 1$"),
    ):
        with pytest.raises(OperandError, match=why):
            call(np.zeros((rows, 8), "f4"), np.zeros((8, 6), "f4"))


def test_a_call_is_made_once_for_each_member(weights, monkeypatch):
    """Also where an operand is a number, which has no shape."""
    a, b = operands(9)
    weights(a, b, BIAS, SCALE)
    monkeypatch.setattr(family_call, "CheckedCall", lambda *_: pytest.fail("made again"))
    np.testing.assert_array_equal(weights(a, b, BIAS, SCALE), biased(a, b))
    np.testing.assert_array_equal(weights(a, b, BIAS, np.array(SCALE, "f4")), biased(a, b))


def test_members_are_forgotten_where_they_are_many(result, monkeypatch):
    monkeypatch.setattr(family_call, "MOST_MEMBERS", 3)
    fresh = pickle.loads(pickle.dumps(result))
    for m in (*range(1, 9), 1):
        a, b = operands(m)
        np.testing.assert_array_equal(fresh(a, b), a @ b)
        assert len(fresh._members._ready) <= 3


def test_a_constant_b_is_packed_once_for_all(weights, tmp_path):
    _, b = operands(1)
    bound = weights.bind(b=b)
    assert bound.packed_bytes >= b.nbytes
    file = bound.save(tmp_path / "b.npz")
    again = weights.load_bound(file)
    for m in (1, 7, 64):
        a, _ = operands(m)
        for call in (bound, again):
            np.testing.assert_array_equal(call(a, BIAS, SCALE), biased(a, b))
            np.testing.assert_array_equal(call.prepare(a, BIAS, SCALE)(), biased(a, b))
    with pytest.raises(OperandError, match="^m = 65: a whole number, m from 1 to 64$"):
        bound(np.zeros((65, K), "f4"), BIAS, SCALE)
    with pytest.raises(OperandError, match="^2 operands: 3 are needed: a, bias, scale$"):
        bound(np.zeros((6, K), "f4"), BIAS)
    with pytest.raises(OperandError, match="no B that save wrote"):
        weights.load_bound(tmp_path / "none.npz")


def test_a_b_that_varies_is_not_bound(result):
    with pytest.raises(OperandError, match="^bind: b is not constant; make the workload with "):
        result.bind(b=operands(1)[1])


def test_the_b_of_another_plan_is_refused(result, weights, tmp_path, here):
    file = weights.bind(b=operands(1)[1]).save(tmp_path / "b.npz")
    with pytest.raises(OperandError, match="packed for another plan; bind b anew$|bind: b is"):
        other = FamilyResult(here, at.plan(at.matmul(ROWS, N, K, constant_b=True), here), None, ())
        other.load_bound(file)


def test_an_exported_kernel_is_loaded_without_tuning(weights, tmp_path):
    a, b = operands(11)
    file = weights.export(tmp_path / "kernel.so")
    loaded = at.load(file)
    assert loaded.plan == weights.plan and isinstance(loaded.plan, DynamicPlan)
    np.testing.assert_array_equal(loaded(a, b, BIAS, SCALE), biased(a, b))
    np.testing.assert_array_equal(loaded.bind(b=b)(a, BIAS, SCALE), biased(a, b))
    with pytest.raises(OperandError, match="^m = 99: "):
        loaded(np.zeros((99, K), "f4"), b, BIAS, SCALE)
    with pytest.raises(BuildError, match="no such file"):
        at.load(tmp_path / "none.so")


def test_a_pickled_result_runs_in_another_process(result, tmp_path):
    a, b = operands(13)
    file = tmp_path / "result.pickle"
    file.write_bytes(pickle.dumps((result, a, b)))
    code = (
        "import pickle, sys, numpy as np\n"
        "result, a, b = pickle.load(open(sys.argv[1], 'rb'))\n"
        "assert np.array_equal(result(a, b), a @ b) and result.checked"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_what_it_says_of_itself(result):
    text = result.explain()
    for region in result.plan.regions:
        assert f"  {region}: variant {region.variant}, " in text
    for number in range(1, len(result.plan.variants) + 1):
        assert f"variant {number}, as it is made for matmul " in text
    for values in result.checked:
        assert f"  m = {values['m']}\n" in text
    assert "code: " in text and result.measured is None
    said = result.as_dict()
    assert json.loads(json.dumps(said))["regions"][0]["variant"] == 1
    assert said["workload"] == str(WORKLOAD) and said["code_bytes"] == result.code_bytes > 0
    assert repr(result).startswith(f"<anatune kernel: {WORKLOAD}; ")


def test_what_was_checked(result):
    """Both ends of the range, and something between for every variant."""
    checked = [values["m"] for values in result.checked]
    assert {1, 64} <= set(checked) and len(checked) > 2
    served = {result.plan.variants.index(result.plan.variant_at(m=m)) for m in checked}
    assert served == set(range(len(result.plan.variants)))


def test_predictions(result):
    assert 0 < result.predicted(m=1).seconds < result.predicted(m=64).seconds
    assert result.predicted(m=5) == at.predict(result.plan, WORKLOAD, result.profile, m=5)
    with pytest.raises(WorkloadError, match="^m = 65: a whole number, m from 1 to 64$"):
        result.predicted(m=65)
    with pytest.raises(WorkloadError, match="^m: missing; m from 1 to 64$"):
        result.predicted()


def test_sources(result):
    assert "T.prim_func" in result.source()
    assert [name.name_hint for name in result.module.functions] == ["main"]
    with pytest.raises(OptionError, match="^kind = 'ptx': one of 'tir', 'llvm', 'asm'$"):
        result.source("ptx")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"budget": 4}, "budget = 4: a workload with dims is planned by the model alone: "),
        ({"budget": "2s"}, "budget = '2s': a workload with dims is planned by the model alone: "),
        ({"search": "evolve"}, "search, cache, remote: nothing is measured of a workload with "),
        ({"cache": "cold"}, "search, cache, remote: nothing is measured of a workload with dims"),
        ({"remote": "localhost:9190/k"}, "search, cache, remote: nothing is measured of a "),
        ({"objective": "speed"}, "objective = 'speed': "),
        ({"threads": 10**6}, "threads = 1000000: "),
        ({"code_bytes": 0}, "code_bytes = 0: a number of bytes above 0"),
        ({"code_bytes": "1M"}, "code_bytes = '1M': a number of bytes above 0"),
    ],
)
def test_options_that_are_refused(here, options, why):
    with pytest.raises(OptionError) as caught:
        at.tune(WORKLOAD, here, **options)
    assert str(caught.value).startswith(why)


def test_code_bytes_are_of_families(here):
    with pytest.raises(OptionError, match="^code_bytes = 9: for workloads with dims$"):
        at.tune(at.matmul(3, 4, 5), here, code_bytes=9)


def test_a_budget_of_nothing_is_what_a_family_has(here, monkeypatch):
    asked = []
    monkeypatch.setattr(family, "plan_family", lambda *given: asked.append(given) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        at.tune(WORKLOAD, here, budget=0, code_bytes=4096, threads=1)
    assert asked == [(here, WORKLOAD, 1, "time", 4096)]


def test_a_kernel_that_was_built_is_not_built_again(here, cache_folder, monkeypatch):
    small = at.matmul(at.Dim("m", 1, 9), 8, 8)
    first = at.tune(small, here, threads=1)
    assert list((cache_folder / "kernels").glob("*.so"))
    monkeypatch.setattr(
        builder_module.Builder, "_compile", lambda *_: pytest.fail("compiled again")
    )
    again = at.tune(small, here, threads=1)
    assert again.plan == first.plan and again.checked == first.checked
    a = np.ones((9, 8), "f4")
    np.testing.assert_array_equal(again(a, np.ones((8, 8), "f4")), np.full((9, 8), 8, "f4"))


def test_a_kernel_for_another_machine_is_compiled_and_not_run(tmp_path):
    other = "zen5" if platform.machine().lower() in ("aarch64", "arm64") else "neoverse_n1"
    made = at.tune(at.matmul(at.Dim("m", 1, 9), 8, 8), other, threads=1)
    assert made.checked == () and made.code_bytes == 0
    assert "nothing: compiled for another machine" in made.explain()
    with pytest.raises(OperandError, match="this machine cannot run its code; export the kernel$"):
        made(np.ones((9, 8), "f4"), np.ones((8, 8), "f4"))


def test_a_kernel_that_is_wrong_is_no_result(here, monkeypatch):
    monkeypatch.setattr(family, "CHECKER", "faulty_family:Doubtful")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    with pytest.raises(VerificationError, match="m from 1 to 64: m = 1: wrong by design$"):
        at.tune(WORKLOAD, here, threads=1)


def test_plans_are_data_without_tvm():
    made = at.plan(WORKLOAD, "zen5", threads=1)
    assert isinstance(made, DynamicPlan) and DynamicPlan.from_json(made.to_json()) == made
    assert at.explain(made, "zen5").splitlines()[1] == "regions (modelled)"
    with pytest.raises(IllegalPlan, match="^plan: is of "):
        at.predict(made, at.matmul(ROWS, N, K + 1), "zen5", m=3)
    with pytest.raises(WorkloadError, match="numbers for extents are needed here"):
        at.rank(WORKLOAD, "zen5")
    with pytest.raises(WorkloadError, match="numbers for extents are needed here"):
        at.why_not("8x48", WORKLOAD, "zen5")


def test_code_above_what_was_asked_for_is_said_and_what_packing_saves():
    r = at.tune(at.matmul(at.Dim("m", 1, 40), 33, 20, constant_b=True), threads=1, code_bytes=100)
    assert ", above the 100 B asked for" in r.explain()
    assert r.packed_ahead is not None and pickle.loads(pickle.dumps(r)).explain() == r.explain()
