"""A result as a function: what it takes, what it refuses, where its kernel can be taken."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm")

from small_product import K, M, N, operands, wanted  # noqa: E402

import anatune as at  # noqa: E402
from anatune.errors import BuildError, OperandError, OptionError  # noqa: E402
from anatune.plan import Storage  # noqa: E402
from anatune.result import Result  # noqa: E402
from anatune.units import TIME  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def result(here) -> Result:
    return at.tune(at.matmul(M, N, K), here, budget=0, threads=1)


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
    monkeypatch.setattr(
        sys.modules[__name__], "from_dlpack", lambda x: Tensor(np.asarray(x)), raising=False
    )
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
    assert (
        refused(result, b=np.float32(3) * np.ones(K, np.float32))
        == f"b: shape ({K},), ({K}, {N}) is needed"
    )
    assert refused(result, a=a.astype(float)) == "a: data type float64, float32 is needed"
    assert refused(result, a=a.astype(">f4")) == "a: data type >f4, float32 is needed"
    for strided in (np.asfortranarray(a), np.repeat(a, 2, axis=1)[:, ::2], a[::-1]):
        why = "compact row-major memory is needed: pass numpy.ascontiguousarray(...)"
        assert refused(result, a=strided).startswith(f"a: strides {strided.strides}; {why}")
    assert (
        refused(result, a=a.tolist()) == "a: list is no array; pass numpy or another DLPack tensor"
    )
    assert refused(result, a=None) == "a: NoneType is no array; pass numpy or another DLPack tensor"
    assert (
        refused(result, a=Tensor(a, (2, 0))) == "a: on DLPack device 2; the CPU's memory is needed"
    )


def test_memory_between_elements_is_refused(result):
    raw = np.zeros(4 * M * K + 1, np.uint8)
    crooked = raw[1:].view(np.float32).reshape(M, K)
    assert refused(result, a=crooked).startswith("a: begins within an element")


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
compilers = ("tvm", "anatune.tune", "anatune.model", "anatune.codegen.build")
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


def test_a_pickled_result_brings_its_code_along(result, monkeypatch):
    from anatune.codegen import build

    monkeypatch.setattr(build, "build", lambda plan: pytest.fail("a kernel was built"))
    copy = pickle.loads(pickle.dumps(result))
    assert (copy.plan, copy.profile, copy.candidates) == (
        result.plan, result.profile, result.candidates,
    )  # fmt: skip
    assert "_loaded" not in vars(copy)
    np.testing.assert_array_equal(copy(*operands().values()), wanted())


CALL = """
import pickle, sys, numpy as np
result = pickle.load(open(sys.argv[1], "rb"))
np.save(sys.argv[4], result(np.load(sys.argv[2]), np.load(sys.argv[3])))
"""


def test_a_pickled_result_is_called_where_nothing_is_kept(result, tmp_path):
    """As in another process, with a cache folder of its own."""
    files = {name: str(tmp_path / name) for name in ("result", "a.npy", "b.npy", "c.npy")}
    Path(files["result"]).write_bytes(pickle.dumps(result))
    for name, array in operands().items():
        np.save(files[f"{name}.npy"], array)
    done = subprocess.run(
        [sys.executable, "-c", CALL, *files.values()],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(files["c.npy"]), wanted())


@pytest.fixture(scope="module")
def constant(here) -> Result:
    """B is wide, so that it is worth packing."""
    return at.tune(at.matmul(M, 600, 700, constant_b=True), here, budget=0, threads=1)


def test_what_a_constant_b_costs_and_saves(constant):
    assert constant.plan.b is Storage.PACKED_AHEAD
    said = constant.packed_ahead
    assert said.packed_bytes >= 4 * 600 * 700 and not said.packing_is_measured
    assert said.packing_s > 0 and said.call_s == constant.predicted.seconds < said.given_s
    calls = said.pays_after_calls
    assert calls * (said.given_s - said.call_s) >= said.packing_s > 0
    fields = constant.as_dict()["constant_b"]
    assert fields["pays_after_calls"] == calls and fields["packed_bytes"] == said.packed_bytes
    assert f"(modelled); a call is predicted to take {TIME.show(said.call_s)}" in constant.explain()


def test_what_packing_took_is_said_once_it_is_known(constant):
    bound = constant.bind(b=np.ones((700, 600), np.float32))
    said = constant.packed_ahead
    assert said.packing_s == bound.packing_s and said.packing_is_measured
    assert said.packed_bytes == bound.packed_bytes
    assert f"packed in {TIME.show(bound.packing_s)} (measured); " in constant.explain()


def test_a_b_that_changes_has_no_such_figures(result):
    assert result.packed_ahead is None and result.as_dict()["constant_b"] is None


def test_sources(result):
    assert "def main(" in result.source() and result.source() == result.source("tir")
    assert "define " in result.source("llvm")
    assert ".text" in result.source("asm")
    with pytest.raises(OptionError) as caught:
        result.source("cuda")
    assert str(caught.value) == "kind = 'cuda': one of 'tir', 'llvm', 'asm'"


def test_the_module_is_tvms(result):
    import tvm

    assert isinstance(result.module, tvm.IRModule)
    assert [g.name_hint for g in result.module.get_global_vars()] == ["main"]
