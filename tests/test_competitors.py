"""The other libraries: what each is asked for, with which settings, and what it then computes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from anatune.errors import OptionError
from anatune.measure.worker import Worker
from anatune.plan import CodeTarget
from anatune.report.competitors import base, registry, settings
from anatune.report.competitors.cblas import blis_file, mkl_file
from anatune.report.competitors.entries import Request, epilogue_name
from anatune.workload import matmul

ROOT = Path(__file__).resolve().parents[1]
TARGET = CodeTarget(isa="x86_64", mcpu="x86-64-v3")
SMALL = {"m": 7, "n": 9, "k": 5}


def request(threads: int = 1, **options) -> Request:
    return Request(workload=matmul(**{**SMALL, **options}), target=TARGET, threads=threads)


@pytest.fixture
def everything_installed(monkeypatch):
    monkeypatch.setattr(registry, "find_spec", lambda name: True)
    monkeypatch.setattr(registry, "mkl_file", lambda: Path("libmkl_rt.so.3"))
    monkeypatch.setattr(registry, "blis_file", lambda: "libblis.so.4")


def settings_of(found, name: str) -> list[str]:
    return [choice.setting for choice in found[name]]


# Who is asked


def test_all_libraries_compute_a_plain_product(everything_installed):
    found, left_out = registry.find(request())
    assert list(found) == ["numpy", "mkl", "blis", "torch", "onnxruntime", "tvm"] == list(
        registry.LIBRARIES
    )
    assert left_out == {}


def test_what_is_not_installed_says_what_to_install(monkeypatch):
    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    monkeypatch.setattr(registry, "mkl_file", lambda: None)
    monkeypatch.setattr(registry, "blis_file", lambda: None)
    found, left_out = registry.find(request(), None, (4,))
    assert found == {}
    assert left_out == {
        "numpy": "not installed: pip install numpy",
        "mkl": "not installed: pip install mkl",
        "blis": "not installed: the system's package libblis4",
        "torch": "not installed: pip install torch",
        "onnxruntime": "not installed: pip install onnxruntime",
        "tvm": "not installed: pip install apache-tvm",
        "metaschedule 4": "not installed: pip install apache-tvm",
    }


@pytest.mark.parametrize(
    ("options", "able", "name", "why"),
    [
        ({"dtype": "bfloat16"}, "mkl torch", "onnxruntime", "no product of bfloat16"),
        ({"dtype": "int8"}, "torch onnxruntime tvm", "mkl", "no product of int8"),
        ({"dtype": "uint8"}, "mkl torch onnxruntime tvm", "numpy", "no product of uint8 x int8"),
        ({"batch": 3}, "numpy mkl torch onnxruntime tvm", "blis", "no batches"),
        ({"lda": 8}, "numpy mkl blis torch", "tvm", "no rows that lie apart"),
        ({"alpha": 2}, "mkl blis torch onnxruntime", "numpy", "no factor alpha"),
        ({"beta": 1}, "mkl blis torch", "onnxruntime", "does not add to C in place"),
        ({"epilogue": "bias+relu"}, "torch onnxruntime", "numpy", "no such epilogue: "),
        ({"epilogue": "tanh"}, "", "torch", "no such epilogue: tanh(c)"),
        (
            {"dtype": "int8", "trans_b": True}, "torch tvm", "onnxruntime",
            "has no one call for this product",
        ),
        (
            {"dtype": "int8", "trans_b": True, "constant_b": True}, "torch onnxruntime tvm",
            "blis", "no product of int8",
        ),
        ({"epilogue": "bias", "batch": 2}, "onnxruntime", "torch", "has no one call"),
        (
            {"m": 4096, "n": 4096, "k": 4096}, "numpy mkl blis torch onnxruntime", "tvm",
            "more than 2e+10 operations would take long",
        ),
    ],
)  # fmt: skip
def test_who_cannot_compute_it_is_left_out_with_the_reason(
    everything_installed, options, able, name, why
):
    found, left_out = registry.find(request(**options))
    assert " ".join(found) == able
    assert left_out[name].startswith(why)
    assert set(found) | set(left_out) == set(registry.LIBRARIES)


def test_only_those_asked_for(everything_installed):
    found, left_out = registry.find(request(), ("torch", "mkl", "torch"))
    assert list(found) == ["torch", "mkl"] and left_out == {}
    with pytest.raises(OptionError, match=r"^libraries = 'eigen': there are numpy, mkl, blis,"):
        registry.find(request(), ("numpy", "eigen"))


def test_each_number_of_trials_is_a_competitor_of_its_own(everything_installed):
    found, _ = registry.find(request(), (), (64, 256))
    assert list(found) == ["metaschedule 64", "metaschedule 256"]
    few, many = (choices[0] for choices in found.values())
    assert (few.how, many.how) == ((TARGET, 64), (TARGET, 256))
    assert many.patience_s > few.patience_s > 64
    with pytest.raises(OptionError, match="1 trial or more"):
        registry.find(request(), (), (0,))


# Their settings


def test_openblas_is_told_core_types_and_no_other_blas_is(everything_installed, monkeypatch):
    from anatune.report.competitors import numpy_blas

    monkeypatch.setattr(numpy_blas, "blas_name", lambda: "scipy-openblas")
    told = registry.find(request())[0]["numpy"]
    assert told[0].setting == "as installed" and told[0].environment == ()
    assert [c.environment for c in told[1:]] == [
        (("OPENBLAS_CORETYPE", core),) for core in settings.TOLD_CORE_TYPES["x86_64"]
    ]
    monkeypatch.setattr(numpy_blas, "blas_name", lambda: "accelerate")
    assert settings_of(registry.find(request())[0], "numpy") == ["as installed"]


def test_a_constant_b_is_packed_ahead_where_a_library_can(everything_installed):
    found, _ = registry.find(request(constant_b=True))
    ahead = {name: [s for s in settings_of(found, name) if "packed ahead" in s] for name in found}
    assert {name: len(some) for name, some in ahead.items()} == {
        "numpy": 0, "mkl": 3, "blis": 0, "torch": 2, "onnxruntime": 1, "tvm": 0,
    }  # fmt: skip
    assert len(ahead["onnxruntime"]) == len(found["onnxruntime"])  # an initializer: no other way
    plain, _ = registry.find(request())
    assert not any("packed" in s for name in plain for s in settings_of(plain, name))


def test_threads_have_settings_only_where_there_are_some(everything_installed):
    one, two = (registry.find(request(threads=n))[0] for n in (1, 2))
    assert settings_of(one, "onnxruntime") == ["as installed"]
    assert settings_of(two, "onnxruntime") == ["threads spin", "threads sleep"]
    assert ("MKL_THREADING_LAYER", "SEQUENTIAL") in one["mkl"][-1].environment
    assert ("MKL_THREADING_LAYER", "GNU") in two["mkl"][-1].environment


def test_a_library_with_another_type_of_c_computes_that(everything_installed):
    found, _ = registry.find(request(dtype="bfloat16", out_dtype="float32"))
    assert {c.workload.out_dtype for c in found["mkl"]} == {"float32"}
    assert {c.workload.out_dtype for c in found["torch"]} == {"bfloat16"}
    quantised = registry.find(request(dtype="uint8", constant_b=True))[0]["torch"][-1]
    assert quantised.workload.out_dtype == "float32"


@pytest.mark.parametrize(
    ("epilogue", "name"),
    [("max(c + bias[n], 0)", ""), ("relu(c + bias[n])", "bias+relu"), ("bias+gelu", "bias+gelu"),
     ("gelu(c)", "gelu"), ("bias+silu", ""), ("", "")],
)  # fmt: skip
def test_an_epilogue_is_known_by_what_it_computes(epilogue, name):
    assert epilogue_name(matmul(2, 2, 2, epilogue=epilogue)) == name


# What they compute


def missing(name: str) -> bool:
    found = {"mkl": mkl_file, "blis": blis_file}.get(name)
    needed = {"torch": ["torch"], "onnxruntime": ["onnxruntime", "onnx"], "numpy": []}
    return not found() if found else not all(map(find_spec, needed[name]))


WORKLOADS = [
    {},
    {"dtype": "float64", "trans_b": True},
    {"trans_a": True},
    {"constant_b": True, "trans_b": True},
    {"batch": 3, "broadcast_b": True},
    {"batch": 2, "trans_a": True, "trans_b": True},
    {"lda": 8, "ldb": 12, "ldc": 16},
    {"batch": 2, "lda": 20, "stride_a": 10, "ldc": 40, "stride_c": 20},
    {"alpha": 2.0, "beta": 1.0},
    {"dtype": "bfloat16", "constant_b": True},
    {"dtype": "float16"},
    {"dtype": "int8"},
    {"dtype": "uint8", "constant_b": True},
    {"dtype": "uint8", "constant_b": True, "trans_b": True},
    {"epilogue": "bias+relu", "constant_b": True},
    {"epilogue": "bias+gelu"},
]


NOT_ON_EVERY_CPU = ("fp16", "primitive descriptor")
"""What oneDNN says of float16 where the processor has no instructions for it."""


def run_all(name: str) -> dict[str, str]:
    """Each way of ``name`` to compute each of `WORKLOADS` -> "" or what went wrong."""
    outcome = {}
    for options in WORKLOADS:
        found, _ = registry.find(request(**options), (name,))
        for choice in {c.how: c for c in found.get(name, [])}.values():
            module, factory = choice.factory.split(":")
            made = getattr(import_module(module), factory)
            title = f"{choice.workload}: {choice.setting}"
            try:
                competitor = made(choice.workload, 1, dict(choice.environment), *choice.how)
                outcome[title] = competitor.check()
                assert competitor.sample(2) > 0 and competitor.about().library
            except RuntimeError as error:
                outcome[title] = str(error)
    return outcome


PRODUCTS = [("numpy", 8), ("mkl", 13), ("blis", 6), ("torch", 18), ("onnxruntime", 12)]
"""How many of `WORKLOADS` each computes; in two types of C counts twice."""


@pytest.mark.parametrize(("name", "able"), PRODUCTS)
def test_every_way_to_compute_is_right(name, able):
    if missing(name):
        pytest.skip(f"{name} is not installed")
    code = f"import json, test_competitors as t; print(json.dumps(t.run_all({name!r})))"
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    outcome = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else done.stderr
    assert len({title.split(":")[0] for title in outcome}) == able, outcome
    wrong = {title: why for title, why in outcome.items() if why}
    assert all(any(said in why for said in NOT_ON_EVERY_CPU) for why in wrong.values()), wrong


@pytest.mark.parametrize("environment", [{}, {"OPENBLAS_CORETYPE": "Haswell"}])
def test_numpy_runs_in_its_own_process_and_is_checked(environment):
    served = "anatune.report.competitors.numpy_blas:NumpyMatmul"
    with Worker(served, (matmul(7, 9, 5), 1, environment), threads=1) as worker:
        assert worker.call("check", timeout_s=60) == ""
        assert worker.call("about", timeout_s=60).library.startswith("numpy (")
        assert worker.call("sample", 3, timeout_s=60) > 0


def test_a_wrong_result_is_found():
    class Forgetful(base.Competitor):
        def prepare(self):
            return lambda: None

    found = Forgetful(matmul(3, 4, 5), 1, {}).check()
    assert found.startswith("c[") and "not written" in found


def test_an_approximate_gelu_is_forgiven_and_named_and_no_other_function_is():
    from anatune.workload.reference import reference

    class Nearly(base.Competitor):
        def prepare(self):
            want = reference(self.workload, self.inputs)
            return lambda: self.c.__setitem__(..., want + 5e-6)

    workload = matmul(3, 4, 5, epilogue="gelu")
    gelu = Nearly(workload, 1, {})
    assert gelu.check() == "" and gelu.note == "its gelu is approximate: off by 5.0e-06"
    assert Nearly(replace(workload, epilogue="relu"), 1, {}).check() != ""


def test_idle_is_waited_for_and_not_for_ever(monkeypatch):
    used = iter([0.0, 0.01, 0.01, 0.0102])  # busy in the first step, asleep in the second
    slept: list[float] = []
    monkeypatch.setattr(base.time, "process_time", lambda: next(used))
    monkeypatch.setattr(base.time, "sleep", slept.append)
    base.wait_until_idle()
    assert slept == [base.IDLE_STEP_S] * 2
    busy = iter(range(1000))
    monkeypatch.setattr(base.time, "process_time", lambda: next(busy))
    monkeypatch.setattr(base.time, "perf_counter", lambda: slept.append(0.0) or 0.1 * len(slept))
    base.wait_until_idle()
    assert len(slept) < 40


def test_settings_are_written_before_a_library_is_loaded(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import os\n"
        "from anatune.report.competitors import cblas, numpy_blas, onnx_runtime, pytorch\n"
        "from anatune.report.competitors import registry, tvm_metaschedule, tvm_untuned\n"
        "from anatune.workload import matmul\n"
        "heavy = {'numpy', 'torch', 'onnxruntime', 'onnx', 'tvm'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "numpy_blas.NumpyMatmul(matmul(2, 2, 2), 1, {'OPENBLAS_CORETYPE': 'Haswell'})\n"
        "print(os.environ['OPENBLAS_CORETYPE'], os.environ['OPENBLAS_NUM_THREADS'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.stdout.split(), done.stderr) == (["Haswell", "1"], "")
