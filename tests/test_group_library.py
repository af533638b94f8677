"""Kernels of what is no single product in a shared library: the same call, the same refusals."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm")

import anatune as at  # noqa: E402
from anatune.codegen.link import export_library  # noqa: E402
from anatune.errors import BuildError, IllegalPlan, OperandError  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]

WORKLOADS = {
    "map": at.reduce("mean", (13, 40), "x * x", finish="sqrt(c) + bias[m]"),
    "fused": at.fused([at.matmul(24, 32, 16), at.softmax(24, 64)]),
    "same a": at.fused([at.matmul(24, n, 16) for n in (8, 40)], same_a=True),
    "one of one": at.fused([at.elementwise("x + y", 100)]),
    "group": at.chain([at.matmul(24, 32, 16, epilogue="relu"), at.matmul(24, 16, 32)]),
    "two results": at.group({"h": at.matmul(24, 32, 16), "y": (at.softmax(24, 32), {"x": "h"})},
                            outputs=["h", "y"]),
}  # fmt: skip


def operands(workload):
    generator = np.random.default_rng(0)
    return [generator.random(t.shape, np.float32) for t in workload.arguments.values()]


@pytest.fixture(scope="module", params=WORKLOADS)
def kernel(request, here, tmp_path_factory):
    """A result, and the library that it exported."""
    r = at.tune(WORKLOADS[request.param], here, budget=0, database=False)
    return r, r.export(tmp_path_factory.mktemp("library") / "k.so")


def as_tuple(results):
    return results if isinstance(results, tuple) else (results,)


def test_a_loaded_kernel_is_called_like_the_result(kernel):
    r, file = kernel
    f = at.load(file)
    assert (f.workload, f.plan) == (r.workload, r.plan)
    inputs = operands(r.workload)
    mine, theirs = r(*inputs), f(*inputs)
    assert isinstance(mine, tuple) is isinstance(theirs, tuple) is not r.workload.one_result
    for x, y in zip(as_tuple(mine), as_tuple(theirs), strict=True):
        np.testing.assert_array_equal(x, y)
    out = tuple(np.empty_like(x) for x in as_tuple(mine))
    given = out[0] if r.workload.one_result else out
    assert f(*inputs, out=given) is given
    np.testing.assert_array_equal(out[-1], as_tuple(mine)[-1])
    np.testing.assert_array_equal(as_tuple(f.prepare(*inputs)())[-1], out[-1])
    assert str(r.workload) in repr(f)


def test_a_loaded_kernel_checks_what_the_result_checks(kernel):
    r, file = kernel
    f, inputs = at.load(file), operands(r.workload)
    wrong = [inputs[:-1], [*inputs, inputs[0]], [inputs[0][:-1], *inputs[1:]],
             [inputs[0].astype("f8"), *inputs[1:]]]  # fmt: skip
    for given in wrong:
        lines = []
        for call in (r, f):
            with pytest.raises(OperandError) as caught:
                call(*given)
            lines.append(str(caught.value))
        assert lines[0] == lines[1] and "\n" not in lines[0]


def test_a_result_survives_pickling(kernel):
    r, _ = kernel
    again = pickle.loads(pickle.dumps(r))
    assert (again.plan, again.workload, again.candidates) == (r.plan, r.workload, r.candidates)
    inputs = operands(r.workload)
    for x, y in zip(as_tuple(again(*inputs)), as_tuple(r(*inputs)), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_torn_files_are_refused(kernel, tmp_path, share):
    raw = kernel[1].read_bytes()
    torn = tmp_path / "torn.so"
    torn.write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(BuildError, match="^path = '.*torn.so': not a"):
        at.load(torn)


@pytest.mark.parametrize(
    ("note", "error", "line"),
    [
        ('{"kind": "dream"}', IllegalPlan, "kind = 'dream': this version reads"),
        ('{"kind": "fusion"}', IllegalPlan, "plan: KeyError"),
        ('{"kind": "group", "steps": 3}', IllegalPlan, "plan: TypeError"),
        ('{"kind": "map"}', IllegalPlan, "plan"),
    ],
)
def test_a_description_that_cannot_be_read_is_refused(here, tmp_path, note, error, line):
    r = at.tune(WORKLOADS["map"], here, budget=0, database=False)
    file = tmp_path / "k.so"
    export_library(r._kernel.executable, file, here.target.isa, "anatune_plan", note, ())
    with pytest.raises(error, match=f"^{line}"):
        at.load(file)


def test_loading_needs_no_compiler(kernel):
    r, file = kernel
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import anatune as at
import numpy as np
f = at.load({str(file)!r})
f(*(np.ones(t.shape, "f4") for t in f.workload.arguments.values()))
print("tvm" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_operands_of_a_group_may_be_given_by_name(here):
    w = WORKLOADS["group"]
    r = at.tune(w, here, budget=0, database=False)
    inputs = operands(w)
    named = dict(zip(w.arguments, inputs))
    np.testing.assert_array_equal(r(**named), r(*inputs))
    with pytest.raises(OperandError, match="missing"):
        r(inputs[0], **{list(named)[1]: inputs[1]})
