"""What first users ran into: a hang, a crash, a silent mistake or a wrong mend, each of these."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm")

from sample_plans import host_lanes, host_target, plan  # noqa: E402

import anatune as at  # noqa: E402
from anatune.codegen import build as building  # noqa: E402
from anatune.codegen.build import build  # noqa: E402
from anatune.codegen.call import CheckedCall  # noqa: E402
from anatune.errors import BuildError, IllegalPlan, OperandError, OptionError  # noqa: E402
from anatune.errors import WorkloadError  # noqa: E402

LANES = host_lanes()
ROOT = Path(__file__).resolve().parents[1]


def small(m: int = 5, mr: int = 3):
    return plan(m, LANES, 7, mr, LANES, LANES, target=host_target())


@pytest.fixture(scope="module")
def kernel():
    return build(small())


def test_ctrl_c_during_a_compilation_is_an_interrupt(monkeypatch):
    """TVM makes an error without a message of it; the run must not go on with the next plan."""
    compile_ = building.tvm.compile

    def slow(*given, **named):
        os.kill(os.getpid(), signal.SIGINT)
        return compile_(*given, **named)

    monkeypatch.setattr(building.tvm, "compile", slow)
    with pytest.raises(KeyboardInterrupt):
        build(small())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_compilation_in_another_thread_leaves_signals_alone():
    done = []
    thread = threading.Thread(target=lambda: done.append(build(small())))
    thread.start()
    thread.join()
    assert done


def test_a_newer_library_at_the_same_path_is_the_one_that_is_loaded(tmp_path):
    path = tmp_path / "kernel.so"
    for m in (5, 6):
        build(small(m)).export(path)
        assert at.load(path).plan.workload.m == m


def test_a_loaded_kernel_outlives_its_file(tmp_path, kernel):
    path = kernel.export(tmp_path / "kernel.so")
    loaded = at.load(path)
    path.write_bytes(b"")
    a, b = np.ones((5, 7), np.float32), np.ones((7, LANES), np.float32)
    assert (loaded(a, b) == 7).all()


def test_a_cut_library_is_refused_not_mapped(tmp_path, kernel):
    whole = kernel.export(tmp_path / "kernel.so").read_bytes()
    for size in (1, 63, 64, 2000, len(whole) - 1):
        cut = tmp_path / f"cut{size}.so"
        cut.write_bytes(whole[:size])
        with pytest.raises(BuildError, match=r"not a (whole shared )?library"):
            at.load(cut)


def test_a_library_for_another_instruction_set_names_the_compiler_that_is_missing(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("PATH", str(tmp_path))
    plan_for_arm = at.plan(at.matmul(8, 8, 8), "neoverse_n1", threads=1)
    with pytest.raises(BuildError, match="linking code for aarch64 needs one of"):
        build(plan_for_arm).export(tmp_path / "kernel.so")


def call() -> CheckedCall:
    return CheckedCall(small(), lambda name: None)


def refusal(a, **named) -> str:
    b = np.ones((7, LANES), np.float32)
    with pytest.raises(OperandError) as caught:
        call()(a, b, **named)
    return str(caught.value)


def test_a_wrong_out_is_not_mended_by_a_copy_that_nobody_sees():
    said = refusal(np.ones((5, 7), np.float32), out=np.ones((5, LANES), np.float32, order="F"))
    assert said.endswith("compact row-major memory is needed: make out with numpy.empty")


def test_unaligned_memory_is_called_unaligned():
    a = np.zeros(4 * 35 + 1, np.uint8)[1:].view(np.float32).reshape(5, 7)
    assert refusal(a) == "a: begins within an element; aligned memory is needed"


def test_a_mask_is_not_ignored():
    a = np.ma.masked_array(np.ones((5, 7), np.float32), mask=np.eye(5, 7))
    assert refusal(a) == "a: a masked array; its mask would be ignored: pass x.filled(...)"


def test_the_worker_runs_no_code_of_the_current_folder(tmp_path):
    (tmp_path / "pickle.py").write_text("raise RuntimeError('shadowed')")
    code = (
        "import sys; sys.path[:] = [p for p in sys.path if p];"
        f"sys.path.insert(0, {str(ROOT)!r});"
        "from anatune.measure.worker import Worker\n"
        "with Worker('collections:Counter', ('ab',), 1) as w:"
        " print(w.call('total' if sys.version_info >= (3, 10) else 'elements', timeout_s=30))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "2", done.stderr


@pytest.mark.parametrize("given", ["f4", np.float32, np.dtype("float32"), "single"])
def test_dtypes_that_numpy_takes(given):
    assert at.matmul(1, 1, 1, dtype=given).dtype == "float32"


@pytest.mark.parametrize("given", [None, "c8", 3, object(), [], "float33", "int64", ">f4"])
def test_dtypes_that_no_kernel_has(given):
    with pytest.raises(WorkloadError, match="kernels are generated for float64, float32, "):
        at.matmul(1, 1, 1, dtype=given)


def test_operands_of_the_model_in_the_wrong_place():
    w, zen = at.matmul(8, 8, 8), "zen5"
    chosen = at.plan(w, zen, threads=1)
    with pytest.raises(IllegalPlan, match="plan = Matmul: what anatune.plan"):
        at.explain(w, zen)
    with pytest.raises(IllegalPlan, match="plan = Matmul: what anatune.plan"):
        at.predict(w, chosen, zen)
    with pytest.raises(WorkloadError, match="workload = str: use anatune.matmul"):
        at.predict(chosen, zen, zen)
    with pytest.raises(OptionError, match="a tile such as"):
        at.why_not((8, 16), w, zen)


def test_estimates_and_timings_read_well():
    w = at.matmul(64, 64, 64)
    estimate = at.predict(at.plan(w, "zen5", threads=1), w, "zen5")
    assert str(estimate).count(", ") == 2 and "of peak, bound by " in str(estimate)


def test_plans_for_accelerators_of_varying_extents_name_what_is_missing():
    family = at.matmul(at.Dim("m", 1, 64), 32, 16, dtype="int8")
    plan = at.plan(family, "gemmini")
    for ask in (at.simulate, lambda p, t, **v: at.predict(p, family, t, **v)):
        with pytest.raises(WorkloadError, match="^m: missing; m from 1 to 64$"):
            ask(plan, "gemmini")
        assert ask(plan, "gemmini", m=37).cycles > 0
    with pytest.raises(OptionError, match="^target: name the accelerator that the plan is for$"):
        at.explain(plan)


def test_extents_that_vary_are_refused_where_several_are_fused():
    with pytest.raises(WorkloadError, match="numbers for extents are needed here"):
        at.fused([at.matmul(at.Dim("m", 1, 9), 65, 17), at.softmax(3, 4)])
