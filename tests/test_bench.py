"""The worker's side of measuring: kernels run on operands of their workload, and are checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tvm")

from sample_plans import host_lanes, host_target, plan  # noqa: E402

from anatune.codegen.build import build  # noqa: E402
from anatune.codegen.link import write_loadable  # noqa: E402
from anatune.codegen.operands import packed_b  # noqa: E402
from anatune.codegen.library import PROBE_ALIGN_BYTES  # noqa: E402
from anatune.measure.bench import Bench, Loadable  # noqa: E402
from anatune.measure.calibrate import COLD_CALLS  # noqa: E402
from anatune.measure.builder import Compiler  # noqa: E402
from anatune.measure.memory import needed_bytes  # noqa: E402
from anatune.plan import GemmPlan, Storage  # noqa: E402
from anatune.workload import Tensor, matmul  # noqa: E402

LANES = host_lanes()
CASES: dict[str, dict[str, Any]] = {
    "float32": {},
    "bfloat16, packed ahead": {"dtype": "bfloat16", "constant_b": True},
    "int8, packed ahead": {"dtype": "int8", "constant_b": True, "batch": 2},
    "added to C": {"beta": 1.0, "ldc": 50},
    "epilogue": {"epilogue": "(c + bias[n]) * scale + residual[m, n]"},
}


def sample(constant_b: bool = False, **of: Any) -> GemmPlan:
    b = Storage.PACKED_AHEAD if constant_b else Storage.PACKED
    return plan(11, 37, 23, 4, LANES, LANES, target=host_target(), a=Storage.PACKED, b=b, of=of)


def loadable(p: GemmPlan, folder: Path) -> Loadable:
    return write_loadable(build(p).executable, folder / "kernel"), packed_b(p)


@pytest.mark.parametrize("case", CASES)
def test_kernels_are_checked_and_timed(tmp_path, case):
    p = sample(**CASES[case])
    bench, kernel = Bench(p.workload), loadable(p, tmp_path)
    for _ in range(2):  # what the first run left in C must not matter to the second
        assert bench.check(kernel) == ""
        assert bench.sample(kernel, 1) > 0 and bench.sample(kernel, 3) > 0


@pytest.mark.parametrize("number", range(3))
def test_cold_times(tmp_path, number):
    """Memory as the probe assumes it, which the allocator gives or not as it likes."""
    size = 4096 * (number + 1)
    p, stem = sample(), str(tmp_path / "flush")
    flush = Compiler().compile_flush(p.target, host_lanes(), 1, size, stem)
    data, out = flush.arrays()
    assert data.nbytes >= size and data.all()
    assert data.ctypes.data % PROBE_ALIGN_BYTES == out.ctypes.data % PROBE_ALIGN_BYTES == 0
    bench, kernel = Bench(p.workload, flush), loadable(p, tmp_path)
    assert bench.check(kernel) == ""
    assert 1 <= bench.calibrate(kernel, 1e-3) <= COLD_CALLS
    assert bench.sample(kernel, 2) > 0


def test_a_wrong_kernel_is_told(tmp_path):
    """One that adds up where it should not."""
    kernel = loadable(sample(beta=1.0), tmp_path)
    assert "not written or not finite" in Bench(sample().workload).check(kernel)


class Stand:
    """In the place of a module: writes what is right, and a byte beside it if told to."""

    def __init__(self, bench: Bench, beside: bool) -> None:
        self.bench, self.beside = bench, beside

    def __getitem__(self, name: str):
        return self.main

    def main(self) -> None:
        c = self.bench.c
        c[...] = self.bench.inputs["a"] @ self.bench.inputs["b"]
        end_of_row = c.ctypes.data - c.base.ctypes.data + c.shape[1] * c.itemsize
        if self.beside:
            c.base[end_of_row] = 0


@pytest.mark.parametrize("beside", [False, True])
def test_a_write_beside_c_is_told(beside):
    bench, kernel = Bench(matmul(3, 4, 5, ldc=6)), ("", None)
    bench.ready[kernel] = Stand(bench, beside), []
    assert bench.check(kernel) == ("c: written outside of its elements" if beside else "")


def test_room_for_checking_narrow_types():
    """A reference widens B to eight bytes an element, whatever its type."""
    n = 1000
    assert needed_bytes(matmul(n, n, n)) == 3 * 3 * 4 * n * n
    assert needed_bytes(matmul(1, n, n, dtype="int8")) > 8 * n * n
    assert needed_bytes(matmul(n, n, n, lda=2 * n)) > needed_bytes(matmul(n, n, n))
    assert packed_b(sample()) is None and isinstance(packed_b(sample(True)), Tensor)
