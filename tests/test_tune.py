"""The whole way, on small products and this machine: tuned, called, explained, exported, loaded."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm")

import anatune as at  # noqa: E402
from anatune.codegen.target import runs_here  # noqa: E402
from anatune.errors import BuildError, OperandError, OptionError, VerificationError, WorkerError  # noqa: E402
from anatune.hwprofile import Profile, load_profile, profiles  # noqa: E402
from anatune.measure.outcome import Measurement, Outcome  # noqa: E402
from anatune.measure.runner import LocalRunner  # noqa: E402
from anatune.plan import CodeTarget  # noqa: E402
from anatune.result import Result  # noqa: E402
from anatune.tune import FALL_BACK  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
M, N, K = 37, 50, 29
SHAPES = {"a": (M, K), "b": (K, N), "out": (M, N)}


@pytest.fixture(scope="module")
def here() -> Profile:
    """A shipped profile whose code runs on this machine: the widest vectors win."""
    able = [p for p in map(load_profile, profiles()) if p.cores and runs_here(CodeTarget.of(p.target))]
    if not able:
        pytest.skip("no shipped profile's code runs here")
    return max(able, key=lambda p: (p.core.vector_bits, p.name))


@pytest.fixture(scope="module")
def away() -> str:
    """A shipped profile whose code does not run here."""
    return next(n for n in ("neoverse_n1", "haswell") if not runs_here(CodeTarget.of(load_profile(n).target)))


@pytest.fixture(scope="module")
def result(here) -> Result:
    return at.tune(at.matmul(M, N, K), here, budget=0, threads=1)


@pytest.fixture(scope="module")
def raced(here) -> Result:
    return at.tune(at.matmul(M, N, K), here, budget=2, threads=1)


def operands() -> dict[str, np.ndarray]:
    """Whole numbers, so that every order of the sum gives the same."""
    generator = np.random.default_rng(7)
    return {n: generator.integers(-9, 10, SHAPES[n]).astype(np.float32) for n in ("a", "b")}


def wanted() -> np.ndarray:
    a, b = operands().values()
    return (a.astype(float) @ b.astype(float)).astype(np.float32)


def test_the_model_alone(result, here):
    assert result.measured is None
    assert result.plan == at.plan(at.matmul(M, N, K), here, threads=1)
    assert result.predicted == at.predict(result.plan, result.workload, here)
    assert [c.measurement.outcome for c in result.candidates] == [Outcome.SKIPPED] * len(result.candidates)
    np.testing.assert_array_equal(result(*operands().values()), wanted())


def test_the_race(raced, here):
    assert [c.rank for c in raced.candidates] == [1, 2]
    assert raced.candidates[0].plan == at.plan(at.matmul(M, N, K), here, threads=1)
    predicted = [c.predicted.seconds for c in raced.candidates]
    assert predicted == sorted(predicted)
    chosen = next(c for c in raced.candidates if c.plan == raced.plan)
    assert raced.measured == chosen.measurement.timing
    assert all(s > 0 for s in raced.measured.samples_s)
    np.testing.assert_array_equal(raced(*operands().values()), wanted())


def test_several_threads(here):
    if here.usable_threads < 2:
        pytest.skip("the profile has one thread")
    w = at.matmul(200, 330, 70)
    tuned = at.tune(w, here, budget=1, threads=2)
    a, b = (np.ones(s, np.float32) for s in w.operands.values())
    np.testing.assert_array_equal(tuned(a, b), np.full(w.output, 70, np.float32))


def test_out_is_written_and_returned(result):
    c = np.full((M, N), np.nan, np.float32)
    assert result(*operands().values(), out=c) is c
    np.testing.assert_array_equal(c, wanted())


class Tensor:
    """A tensor of some other library: DLPack is all that it speaks."""

    def __init__(self, array: np.ndarray, device: tuple[int, int] = (1, 0)) -> None:
        self.array, self._device = array, device

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device


def test_dlpack_tensors(result):
    a, b = operands().values()
    c = Tensor(np.zeros((M, N), np.float32))
    assert result(Tensor(a), Tensor(b), out=c) is c
    np.testing.assert_array_equal(c.array, wanted())
    np.testing.assert_array_equal(result(Tensor(a), b), wanted())


def test_the_same_kind_comes_out(result, monkeypatch):
    """A library is known by the module of its tensors, and makes its own of what numpy holds."""
    monkeypatch.setattr(sys.modules[__name__], "from_dlpack", lambda x: Tensor(np.asarray(x)), raising=False)
    a, b = operands().values()
    c = result(Tensor(a), b)
    assert isinstance(c, Tensor)
    np.testing.assert_array_equal(c.array, wanted())
    assert isinstance(result(a, Tensor(b)), np.ndarray)


def test_read_only_inputs(result):
    inputs = operands()
    for array in inputs.values():
        array.flags.writeable = False
    np.testing.assert_array_equal(result(*inputs.values()), wanted())


def refused(result: Result, **changes) -> str:
    """The message for a call with operands changed; ``out`` where it is among them."""
    inputs = {**operands(), **changes}
    with pytest.raises(OperandError) as caught:
        result(inputs["a"], inputs["b"], out=inputs.get("out"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_wrong_operands(result):
    a, _ = operands().values()
    assert refused(result, a=a.T.copy()) == f"a: shape ({K}, {M}), ({M}, {K}) is needed"
    assert refused(result, b=np.float32(3) * np.ones(K, np.float32)) == f"b: shape ({K},), ({K}, {N}) is needed"
    assert refused(result, a=a.astype(float)) == "a: data type float64, float32 is needed"
    assert refused(result, a=a.astype(">f4")) == "a: data type >f4, float32 is needed"
    for strided in (np.asfortranarray(a), np.repeat(a, 2, axis=1)[:, ::2], a[::-1]):
        message = f"a: strides {strided.strides}; compact row-major memory is needed: pass numpy.ascontiguousarray(...)"
        assert refused(result, a=strided) == message
    assert refused(result, a=a.tolist()) == "a: list is no array; pass numpy or another DLPack tensor"
    assert refused(result, a=None) == "a: NoneType is no array; pass numpy or another DLPack tensor"
    assert refused(result, a=Tensor(a, (2, 0))) == "a: on DLPack device 2; the CPU's memory is needed"


def test_memory_between_elements_is_refused(result):
    raw = np.zeros(4 * M * K + 1, np.uint8)
    crooked = raw[1:].view(np.float32).reshape(M, K)
    assert refused(result, a=crooked).startswith("a: strides ")


@pytest.mark.parametrize("count", [0, 1, 3])
def test_wrong_number_of_operands(result, count):
    with pytest.raises(OperandError) as caught:
        result(*[operands()["a"]] * count)
    assert str(caught.value) == f"{count} operands: 2 are needed: a, b"


def test_wrong_out(result):
    c = np.zeros((M, N), np.float32)
    assert refused(result, out=c.T.copy()) == f"out: shape ({N}, {M}), ({M}, {N}) is needed"
    assert refused(result, out=c.astype(float)) == "out: data type float64, float32 is needed"
    c.flags.writeable = False
    assert refused(result, out=c) == "out: read-only; an array that can be written is needed"
    room = np.zeros(M * K + M * N, np.float32)
    overlapping = room[: M * K].reshape(M, K), room[M * K - 1 : M * K - 1 + M * N].reshape(M, N)
    message = refused(result, a=overlapping[0], out=overlapping[1])
    assert message == "out: overlaps a; give memory of its own"


def test_a_refused_call_writes_nothing(result):
    c = np.full((M, N), 3, np.float32)
    refused(result, a=np.zeros((M, K)), out=c)
    assert (c == 3).all()


LOAD = """
import sys, json, numpy as np, anatune as at
kernel = at.load(sys.argv[1])
a, b = np.load(sys.argv[2]), np.load(sys.argv[3])
np.save(sys.argv[4], kernel(a, b))
compilers = ("tvm", "anatune.tune", "anatune.model", "anatune.codegen.build", "anatune.codegen.gemm")
print(json.dumps([m for m in compilers if m in sys.modules]))
print(kernel.plan.to_json())
"""


def test_an_exported_kernel_needs_neither_tuner_nor_compiler(result, tmp_path):
    file = result.export(tmp_path / "kernel.so")
    assert file == tmp_path / "kernel.so" and [f.name for f in tmp_path.iterdir()] == ["kernel.so"]
    for name, array in operands().items():
        np.save(tmp_path / f"{name}.npy", array)
    files = [str(tmp_path / f) for f in ("kernel.so", "a.npy", "b.npy", "c.npy")]
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *files],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    imported, plan = done.stdout.splitlines()
    assert json.loads(imported) == []
    assert plan == result.plan.to_json()
    np.testing.assert_array_equal(np.load(tmp_path / "c.npy"), wanted())


def test_what_cannot_be_exported_or_loaded(result, tmp_path):
    (tmp_path / "text.so").write_text("not a library")
    for call, message in (
        (lambda: result.export(tmp_path / "kernel.o"), "the name must end in .so"),
        (lambda: result.export(tmp_path / "no" / "kernel.so"), "no such folder"),
        (lambda: at.load(tmp_path / "none.so"), "no such file"),
        (lambda: at.load(tmp_path), "no such file"),
        (lambda: at.load(tmp_path / "text.so"), "not a library of this machine"),
    ):
        with pytest.raises(BuildError, match=re.escape(message)) as caught:
            call()
        assert str(caught.value).startswith("path = ") and "\n" not in str(caught.value)


def test_a_library_of_somebody_else_is_refused(result, tmp_path):
    from anatune.codegen.link import write_loadable

    other = write_loadable(result._kernel.executable, tmp_path / "other")
    with pytest.raises(BuildError, match="not exported by anatune: no plan inside"):
        at.load(other)


def test_sources(result):
    assert "def main(" in result.source() and result.source() == result.source("tir")
    assert "define " in result.source("llvm")
    assert ".text" in result.source("asm")
    with pytest.raises(OptionError) as caught:
        result.source("cuda")
    assert str(caught.value) == "kind = 'cuda': one of 'tir', 'llvm', 'asm'"


def test_explanation(raced, result):
    text = raced.explain()
    for part in ("mr*nr >= Nvec*L*N", "mr*nv + nv + 1 <= R", "kc = ", "mc = ", "nc = ", "bound by "):
        assert part in text
    assert text.startswith(at.explain(raced.plan, raced.profile))
    for candidate in raced.candidates:
        assert f"  {candidate.rank}. {candidate.plan}: predicted " in text
    assert "  nothing: the plan is the model's alone" in result.explain()


def test_plain_values(raced):
    plain = json.loads(json.dumps(raced.as_dict()))
    assert plain["plan"] == str(raced.plan) and plain["measured_s"] == raced.measured.median_s
    assert [c["rank"] for c in plain["candidates"]] == [1, 2]
    assert repr(raced).startswith(f"<anatune result: matmul {M}x{N}x{K} float32; ")


def test_the_module_is_tvms(result):
    import tvm

    assert isinstance(result.module, tvm.IRModule)
    assert [g.name_hint for g in result.module.get_global_vars()] == ["main"]


class Sabotage:
    """Makes the first kernel of a run go wrong, in the worker or before it."""

    def __init__(self, monkeypatch, failure: Measurement) -> None:
        self.seen: list = []
        prepare = LocalRunner.prepare

        def first_fails(runner, plan, predicted_s):
            self.seen.append(plan)
            return failure if len(self.seen) == 1 else prepare(runner, plan, predicted_s)

        monkeypatch.setattr(LocalRunner, "prepare", first_fails)


@pytest.mark.parametrize("budget", [0, 2])
@pytest.mark.parametrize("outcome", [Outcome.WRONG_RESULT, Outcome.CRASHED, Outcome.COMPILE_ERROR])
def test_a_plan_that_fails_is_passed_over(here, monkeypatch, budget, outcome):
    failure = Measurement(outcome, note="as arranged")
    seen = Sabotage(monkeypatch, failure).seen
    tuned = at.tune(at.matmul(M, N, K), here, budget=budget, threads=1)
    assert tuned.plan == seen[1] == tuned.candidates[1].plan
    assert tuned.candidates[0].measurement == failure
    assert f"1. {seen[0]}: {outcome.value}: as arranged" in tuned.explain()
    np.testing.assert_array_equal(tuned(*operands().values()), wanted())


def test_a_kernel_that_computes_something_else_does_not_count(here, monkeypatch):
    """For real: the first plan's code forgets the last step along k; the worker finds it."""
    from anatune.codegen import gemm

    emit, hurt = gemm._Nest._emit_panel, []

    def forgetful(nest, rows, columns, k):
        if not hurt or hurt[0] == nest.plan:
            hurt.append(nest.plan)
            k = gemm._Span(k.start, k.stop - 1)
        emit(nest, rows, columns, k)

    monkeypatch.setattr(gemm._Nest, "_emit_panel", forgetful)
    tuned = at.tune(at.matmul(M, N, K), here, budget=2, threads=1)
    assert tuned.candidates[0].plan == hurt[0]
    assert tuned.candidates[0].measurement.outcome is Outcome.WRONG_RESULT
    assert "the float64 reference is" in tuned.candidates[0].measurement.note
    assert tuned.plan == tuned.candidates[1].plan


def test_a_kernel_that_kills_its_worker_does_not_count(here, monkeypatch):
    """As where a kernel crashes: the worker is gone when the first plan's check should be answered."""
    from anatune.measure.worker import Worker

    call, killed = Worker.call, []

    def deadly(worker, method, *arguments, timeout_s):
        if method == "check" and not killed:
            killed.append(worker._process.pid)
            worker._process.kill()
        return call(worker, method, *arguments, timeout_s=timeout_s)

    monkeypatch.setattr(Worker, "call", deadly)
    tuned = at.tune(at.matmul(M, N, K), here, budget=2, threads=1)
    assert killed and tuned.candidates[0].measurement.outcome is Outcome.CRASHED
    assert tuned.candidates[0].measurement.note == "worker died: exit status -9"
    assert tuned.plan == tuned.candidates[1].plan


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (Outcome.WRONG_RESULT, VerificationError),
        (Outcome.COMPILE_ERROR, BuildError),
        (Outcome.CRASHED, WorkerError),
        (Outcome.TIMEOUT, WorkerError),
        (Outcome.RUN_ERROR, WorkerError),
    ],
)
@pytest.mark.parametrize(("budget", "count"), [(0, FALL_BACK), (2, 2)])
def test_no_plan_that_works_is_an_error(here, monkeypatch, outcome, error, budget, count):
    monkeypatch.setattr(LocalRunner, "prepare", lambda *_: Measurement(outcome, note="as arranged"))
    with pytest.raises(error) as caught:
        at.tune(at.matmul(M, N, K), here, budget=budget, threads=1)
    want = f"none of {count} plans gave a working kernel; the first: as arranged"
    assert str(caught.value) == want


def test_another_machines_kernel_is_compiled_and_says_so(away, tmp_path):
    tuned = at.tune(at.matmul(M, N, K), away, threads=1)
    (only,) = tuned.candidates
    assert only.measurement == Measurement(Outcome.SKIPPED, note="for another machine: compiled, not run")
    assert tuned.measured is None and tuned.source("asm")
    mcpu = load_profile(away).target.mcpu
    with pytest.raises(OperandError) as caught:
        tuned(*operands().values())
    assert str(caught.value) == f"target = {mcpu!r}: this machine cannot run its code; export the kernel"


def test_another_machines_kernel_is_not_linked_with_this_ones_compiler(away, tmp_path):
    tuned = at.tune(at.matmul(M, N, K), away, threads=1)
    try:
        file = tuned.export(tmp_path / "kernel.so")
    except BuildError as error:
        assert "\n" not in str(error)
        assert list(tmp_path.iterdir()) == []
    else:
        with pytest.raises(BuildError, match="not a library of this machine"):
            at.load(file)
