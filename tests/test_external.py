"""Foreign micro-kernels: verified on registration, called in plans, chosen by their cost."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import replace
from glob import glob

import numpy as np
import pytest
from foreign_code import LLVM, MR, NR, WRONG, has_tools, right

import anatune as at
from anatune.errors import AnatuneError, BuildError, IllegalPlan, OptionError, VerificationError
from anatune.plan import CacheBlocks, CodeTarget, GemmPlan, MicroTile, Storage, ThreadGrid
from anatune.plan.registered import remember

pytest.importorskip("tvm")
pytestmark = pytest.mark.skipif(not has_tools(), reason="needs a C compiler and binutils")

CHEAP = at.ThroughputModel(cycles_per_step=0.01)
DEAR = at.ThroughputModel(cycles_per_step=1e4)

BLIS = glob("/usr/lib/*/blis-*/libblis.a") + glob("/usr/lib/*/libblis.a")

BLIS_ADAPTER = """
#include <blis.h>
void blis_tile(int64_t k, const float *a, const float *b, float *c, int64_t ldc, int32_t more) {
  float one = 1, beta = more ? 1 : 0;
  auxinfo_t next = {0};
  bli_auxinfo_set_next_a((void *)a, &next);
  bli_auxinfo_set_next_b((void *)b, &next);
  bli_sgemm_haswell_asm_6x16(6, 16, k, &one, (void *)a, (void *)b, &beta, c, ldc, 1, &next, 0);
}
"""


@pytest.fixture(autouse=True)
def nobody_else():
    """Registered kernels do not outlive their test."""
    yield
    for kernel in at.microkernels():
        at.forget_microkernel(kernel.name)


@pytest.fixture
def register(here):
    def registered(**changes):
        given = dict(
            name="mine", source=right(), symbol="tile", mr=MR, nr=NR, cost=CHEAP, target=here
        )
        return at.register_microkernel(**{**given, **changes})

    return registered


@pytest.fixture(scope="module")
def once(here):
    """The usual kernel, verified once for all tests, and its code."""
    from anatune.codegen.external import code_file

    kernel = at.register_microkernel(
        name="mine", source=right(), symbol="tile", mr=MR, nr=NR, cost=CHEAP, target=here
    )
    return kernel, code_file(kernel).read_bytes()


@pytest.fixture
def mine(once):
    """Has the usual kernel compete, in this test's own cache."""
    from anatune.codegen.external import keep_code

    kernel, code = once

    def known(cost=CHEAP):
        keep_code(code, kernel.form)
        remember(replace(kernel, cost=cost.cost))
        return replace(kernel, cost=cost.cost)

    return known


def plan_with(kernel, here, w, **changes) -> GemmPlan:
    lanes = min(16, here.core.lanes(4))
    given = dict(
        workload=w, target=CodeTarget.of(here.target), micro_kernel=kernel,
        tile=MicroTile(mr=kernel.mr, nr=kernel.nr, lanes=lanes), a=Storage.PACKED,
        b=Storage.PACKED_AHEAD if w.constant_b else Storage.PACKED,
        blocks=CacheBlocks(mc=3 * kernel.mr, nc=2 * kernel.nr, kc=40),
    )  # fmt: skip
    return GemmPlan(**{**given, **changes})


def check_plan(plan: GemmPlan) -> None:
    from products import assert_close, is_exact, run, tensors, whole_numbers

    from anatune.codegen.build import build
    from anatune.codegen.operands import Slot, packed_b

    kernel, values = build(plan), whole_numbers(plan.workload)
    arrays = {n: np.zeros(t.shape or (1,), t.dtype) for n, t in tensors(plan.workload).items()}
    for name, array in arrays.items():
        array[...] = np.reshape(values[name], array.shape)
    packed = None
    if plan.b is Storage.PACKED_AHEAD:
        packed = Slot("packed_b", packed_b(plan)).new()
    run(plan, kernel.function, arrays, packed)
    assert_close(plan, values, arrays["out"], is_exact(plan.workload))


def test_plans_with_it_compute_what_they_should(mine, here):
    kernel = mine()
    for w, changes in (
        (at.matmul(37, 77, 101), {}),
        (at.matmul(4, 16, 1), {}),
        (at.matmul(3, 15, 5), {}),
        (at.matmul(37, 77, 101, epilogue="bias+relu"), {}),
        (at.matmul(20, 48, 30, beta=1.0, batch=3), {}),
        (at.matmul(37, 77, 101, constant_b=True), {}),
        (at.matmul(37, 77, 101, trans_a=True, trans_b=True), {}),
        (at.matmul(37, 77, 101, dtype="float16"), {}),
        (at.matmul(37, 77, 101), {"grid": ThreadGrid(rows=2)}),
        (at.matmul(37, 77, 101), {"grid": ThreadGrid(depth=2)}),
    ):
        plan = plan_with(kernel, here, w, **changes)
        assert GemmPlan.from_json(plan.to_json()) == plan
        assert "micro-kernel mine" in str(plan)
        check_plan(plan)


def test_llvm_text_is_compiled_in(register, here):
    kernel = register(name="two", source=LLVM, symbol="two_rows", mr=2, nr=16)
    assert kernel.form == "llvm"
    check_plan(plan_with(kernel, here, at.matmul(37, 77, 101)))


def test_objects_and_archives_are_linked(register, here, tmp_path):
    source, made, archive = (tmp_path / name for name in ("k.c", "k.o", "k.a"))
    source.write_text(right())
    subprocess.run(["cc", "-O1", "-fPIC", "-c", str(source), "-o", str(made)], check=True)
    subprocess.run(["ar", "rc", str(archive), str(made)], check=True)
    by_object, by_archive = (register(source=file) for file in (made, archive))
    assert by_object.form == by_archive.form == "object"
    check_plan(plan_with(by_object, here, at.matmul(9, 33, 7)))


@pytest.mark.parametrize("dtype", ["float64", "int32"])
def test_other_types(register, here, dtype):
    kernel = register(source=right(t={"float64": "double", "int32": "int"}[dtype]), dtype=dtype)
    lanes = min(16, here.core.lanes(8 if dtype == "float64" else 4))
    tile = MicroTile(mr=MR, nr=NR, lanes=lanes)
    arithmetic = kernel.arithmetic
    w = at.matmul(9, 33, 7, dtype=dtype)
    check_plan(plan_with(kernel, here, w, tile=tile, arithmetic=arithmetic))


@pytest.mark.parametrize("told", WRONG)
def test_wrong_kernels_are_refused(register, told, monkeypatch):
    monkeypatch.setattr("anatune.measure.external.CALL_S", 2.0)
    with pytest.raises(VerificationError) as refused:
        register(source=right(WRONG[told]))
    assert told in str(refused.value)
    assert "\n" not in str(refused.value) and str(refused.value).startswith("micro-kernel 'mine': ")
    assert not at.microkernels()


def test_what_reads_ahead_may_say_so(register, here):
    kernel = register(source=right("volatile float x = b[k * 16];"), reads_ahead_steps=1)
    plan = plan_with(kernel, here, at.matmul(37, 77, 101))
    assert plan.panel_rows == 41
    check_plan(plan)


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"source": "void tile( {"}, BuildError, "error"),
        ({"source": LLVM.replace("mul", "mull"), "symbol": "two_rows"}, VerificationError, "built"),
        ({"symbol": "tiles"}, VerificationError, "tiles"),
        ({"isa": "sparc"}, OptionError, "isa = 'sparc': this machine is"),
        ({"features": ("no-such",)}, OptionError, "this machine lacks no-such"),
        ({"source": "no.so"}, OptionError, "give its archive"),
        ({"source": "no.o"}, OptionError, "no such file"),
        ({"dtype": "float16"}, IllegalPlan, "dtype = 'float16': one of"),
        ({"nr": 15}, IllegalPlan, "nr = 15"),
        ({"cost": {}}, OptionError, "cost = {}"),
        ({"cost": {4: -1.0}}, IllegalPlan, "numbers above 0"),
        ({"symbol": "a b"}, OptionError, "symbol = 'a b'"),
    ],
)
def test_refusals_name_what_is_wrong(register, changes, error, told):
    with pytest.raises(error) as refused:
        register(**changes)
    assert told in str(refused.value) and "\n" not in str(refused.value)


def test_it_is_for_no_other_machine(mine, here):
    kernel = mine()
    other = CodeTarget(isa="riscv64", mcpu="generic-rv64", features=kernel.features)
    plan = plan_with(kernel, here, at.matmul(9, 33, 7))
    with pytest.raises(IllegalPlan, match="the target is riscv64"):
        replace(plan, target=other)
    with pytest.raises(IllegalPlan, match="takes packed panels; pack A"):
        replace(plan, a=Storage.IN_PLACE)
    with pytest.raises(IllegalPlan, match=r"computes tiles of 4x16"):
        replace(plan, tile=replace(plan.tile, mr=5))


def test_what_is_cheap_wins_and_is_right(mine, here):
    w = at.matmul(61, 70, 33)
    before = at.plan(w, here, threads=1)
    kernel = mine(CHEAP)
    plan = at.plan(w, here, threads=1)
    assert plan.micro_kernel == kernel and before.micro_kernel is None
    assert at.rank(w, here, threads=1)[0][0].micro_kernel == kernel
    result = at.tune(w, here, threads=1, budget=0)
    assert result.plan.micro_kernel == kernel
    a, b = np.ones((61, 33), "f4"), np.arange(33 * 70, dtype="f4").reshape(33, 70) % 7
    np.testing.assert_array_equal(result(a, b), a @ b)
    assert "external micro-kernel mine (4x16 float32" in result.explain()


def test_what_is_dear_loses(mine, here):
    w = at.matmul(61, 70, 33)
    before = at.plan(w, here, threads=1)
    mine(DEAR)
    assert at.plan(w, here, threads=1) == before
    at.forget_microkernel("mine")
    mine(CHEAP)
    at.forget_microkernel("mine")
    assert at.plan(w, here, threads=1) == before


def test_it_is_timed_where_no_cost_is_given(register, here):
    clocked = replace(here, cores=(replace(here.core, clock_one_hz=3e9),))
    kernel = register(cost=None, target=clocked)
    assert kernel.cost.steps[0] == 1 and len(kernel.cost.cycles) == len(kernel.cost.steps) > 3
    assert kernel.cost.origin == "measurements at registration"


def test_exported_it_needs_nothing_else(mine, here, tmp_path, monkeypatch):
    w = at.matmul(61, 70, 33)
    mine(CHEAP)
    result = at.tune(w, here, threads=1, budget=0)
    file = result.export(tmp_path / "kernel.so")
    monkeypatch.setenv("ANATUNE_CACHE_DIR", str(tmp_path / "elsewhere"))
    at.forget_microkernel("mine")
    loaded = at.load(file)
    a, b = np.ones((61, 33), "f4"), np.ones((33, 70), "f4")
    np.testing.assert_array_equal(loaded(a, b), a @ b)
    assert loaded.plan.micro_kernel.name == "mine"


def test_code_that_is_gone_is_named(mine, here, tmp_path, monkeypatch):
    from anatune.codegen.build import build

    plan = plan_with(mine(), here, at.matmul(9, 33, 7))
    monkeypatch.setenv("ANATUNE_CACHE_DIR", str(tmp_path / "elsewhere"))
    with pytest.raises(BuildError, match="its code is not on this machine; register it here"):
        build(plan)


def test_records_know_who_competed(mine, here):
    from anatune.records import ProfileId

    alone = ProfileId.of(here)
    mine()
    both = ProfileId.of(here)
    mine(DEAR)
    assert len({alone.hash, both.hash, ProfileId.of(here).hash}) == 3
    at.forget_microkernel("mine")
    assert ProfileId.of(here) == alone


def test_forgetting_names_who_is_there(mine):
    mine()
    with pytest.raises(AnatuneError, match="registered are 'mine'"):
        at.forget_microkernel("yours")


def test_an_object_of_another_machine(register, tmp_path):
    import tvm
    from tvm import te

    other = "aarch64" if platform.machine() in ("x86_64", "AMD64") else "x86_64"
    x = te.placeholder((4,), "float32")
    func = te.create_prim_func([x, te.compute((4,), lambda i: x[i] + x[i])])
    target = {"kind": "llvm", "mtriple": f"{other}-unknown-linux-gnu"}
    made = tvm.compile(tvm.IRModule({"tile": func}), target=tvm.target.Target(target))
    made.mod.write_to_file(str(tmp_path / "k.o"), "o")
    with pytest.raises(BuildError, match="^ld: "):
        register(source=tmp_path / "k.o")


@pytest.mark.skipif(not BLIS, reason="needs BLIS's archive: libblis-openmp-dev")
@pytest.mark.isa("haswell")
def test_a_kernel_of_blis(register, here):
    include = [f"-I{folder}" for folder in glob("/usr/include/*/blis*")]
    kernel = register(
        source=BLIS_ADAPTER, symbol="blis_tile", mr=6, nr=16, link=BLIS[:1], flags=include,
        reads_ahead_steps=1,
    )  # fmt: skip
    check_plan(plan_with(kernel, here, at.matmul(37, 77, 101)))
    check_plan(plan_with(kernel, here, at.matmul(37, 77, 101, constant_b=True)))
