"""Generated kernels against float64, on awkward shapes, and on memory that ends where they do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tvm")

import tvm_ffi  # noqa: E402
from sample_plans import host_lanes, host_target, plan, plans  # noqa: E402

from anatune.codegen.build import build  # noqa: E402
from anatune.codegen.call import PACK_ENTRY  # noqa: E402
from anatune.codegen.link import write_loadable  # noqa: E402
from anatune.codegen.vectors import Row  # noqa: E402
from anatune.plan import GemmPlan, Storage, ThreadGrid  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
TARGET, LANES = host_target(), host_lanes()
GUARD = 64
"""Elements of NaN before and after each operand: four cache lines."""

KEPT, PACKED, FRESH = Storage.IN_PLACE, Storage.PACKED, Storage.PACKED_ON_FIRST_USE
STORAGES = [(a, b) for a in (KEPT, PACKED) for b in Storage]


def sample(m: int, n: int, k: int, mr: int, vectors: int, **rest) -> GemmPlan:
    grid = ThreadGrid(rows=rest.pop("rows", 1), columns=rest.pop("columns", 1))
    return plan(m, n, k, mr, vectors * LANES, LANES, target=TARGET, grid=grid, **rest)


def surrounded(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A copy of ``values`` inside a field of NaN, and the whole field."""
    field = np.full(values.size + 2 * GUARD, np.nan, values.dtype)
    inside = field[GUARD:-GUARD].reshape(values.shape)
    inside[:] = values
    return inside, field


def untouched(field: np.ndarray) -> bool:
    return bool(np.isnan(field[:GUARD]).all() and np.isnan(field[-GUARD:]).all())


def assert_right(p: GemmPlan) -> None:
    """Right within rounding; NaN shows what is read outside, written outside, or not written."""
    w = p.workload
    generator = np.random.default_rng(w.m + w.n + w.k)
    given = [generator.standard_normal(shape).astype(w.dtype) for shape in w.operands.values()]
    (a, field_a), (b, field_b) = (surrounded(x) for x in given)
    c, field_c = surrounded(np.full(w.output, np.nan, w.dtype))
    kernel = build(p)
    if p.b is Storage.PACKED_AHEAD:
        packed, field_p = surrounded(np.zeros(p.packed_ahead_shape, w.dtype))
        kernel.function(PACK_ENTRY)(*(tvm_ffi.from_dlpack(x) for x in (b, packed)))
        assert untouched(field_p)
        kernel.function()(*(tvm_ffi.from_dlpack(x) for x in (a, packed, c)))
    else:
        kernel.function()(*(tvm_ffi.from_dlpack(x) for x in (a, b, c)))
    error = np.abs(c - w.reference(*given))
    assert (error <= w.error_bound(*given)).all(), str(p)
    np.testing.assert_array_equal(a, given[0])
    np.testing.assert_array_equal(b, given[1])
    assert all(untouched(field) for field in (field_a, field_b, field_c))


AWKWARD = {
    "one element": (1, 1, 1, 1, 1),
    "one element in a large tile": (1, 1, 1, 6, 2),
    "fewer rows than the tile": (3, 5 * LANES, 40, 6, 2),
    "fewer columns than a vector": (19, LANES - 1, 40, 6, 2),
    "one column": (23, 1, 31, 4, 1),
    "one row": (1, 3 * LANES + 1, 31, 4, 2),
    "one step": (13, 2 * LANES + 3, 1, 4, 2),
    "primes": (61, 53, 47, 7, 3),
    "whole tiles only": (24, 4 * LANES, 32, 6, 2),
}


@pytest.mark.parametrize("shape", AWKWARD.values(), ids=AWKWARD.keys())
def test_awkward_shapes(shape):
    assert_right(sample(*shape, b=FRESH))
    assert_right(sample(*shape, a=PACKED, b=PACKED, kc=max(1, shape[2] // 3)))


@pytest.mark.parametrize(("a", "b"), STORAGES, ids=lambda s: s.value)
@pytest.mark.parametrize("grid", [(1, 1), (2, 1), (1, 2), (2, 2)], ids="{0[0]}x{0[1]}".format)
def test_storages_and_grids(a, b, grid):
    """Edges on both sides, several blocks along each extent, a last thread with less to do."""
    rows, columns = grid
    blocks = {"mc": 10, "nc": 2 * LANES, "kc": 17}
    assert_right(
        sample(43, 7 * LANES + 5, 60, 5, 1, a=a, b=b, rows=rows, columns=columns, **blocks)
    )


@pytest.mark.parametrize(("a", "b"), STORAGES, ids=lambda s: s.value)
@pytest.mark.parametrize("kc", [9, 4])
def test_a_last_thread_with_only_an_edge_tile(a, b, kc):
    p = sample(4 * 3 + 1, 2 * LANES + 1, 9, 4, 1, a=a, b=b, rows=4, kc=kc)
    assert p.last_thread_has_only_an_edge
    assert_right(p)


@pytest.mark.parametrize(("a", "b"), STORAGES, ids=lambda s: s.value)
def test_threads_with_nothing_to_do(a, b):
    """Five tiles on four threads are two each: the last thread's rows begin beyond the matrix."""
    p = sample(5 * 4 - 1, 5 * LANES - 1, 9, 4, 1, a=a, b=b, rows=4, columns=4, kc=4)
    assert 3 * p.thread_rows >= p.workload.m and 3 * p.thread_columns >= p.workload.n
    assert_right(p)


@settings(max_examples=25)
@given(plans(TARGET, lanes=st.just(LANES), most=70))
def test_any_plan(drawn):
    assert_right(drawn)


@settings(max_examples=6)
@given(plans(TARGET, lanes=st.sampled_from([2, 4, 8, 16]), most=30))
def test_vectors_that_are_not_the_machines(drawn):
    """LLVM splits or widens them; the kernel stays right."""
    assert_right(drawn)


def edges() -> list[GemmPlan]:
    """Plans with partial vectors and partial tiles, each storage once."""
    shape = (11, 2 * LANES + LANES // 2 + 1, 13, 4, 2)
    single = [sample(*shape, a=a, b=b, kc=6) for a, b in STORAGES]
    narrow = [sample(3, max(1, LANES - 1), 5, 4, 1, a=a, b=b) for a, b in STORAGES]
    return [*single, *narrow, sample(*shape, b=FRESH, rows=2, columns=2), sample(1, 1, 1, 4, 1)]


@pytest.mark.skipif(sys.platform != "linux", reason="mprotect through the C library of Linux")
def test_no_access_outside_the_operands(tmp_path):
    cases = []
    for number, p in enumerate(edges()):
        path = write_loadable(build(p).executable, tmp_path / f"kernel{number}")
        extents = (p.workload.m, p.workload.n, p.workload.k)
        packed = p.packed_ahead_shape if p.b is Storage.PACKED_AHEAD else None
        cases += [(path, *extents, packed, at_end) for at_end in (True, False)]
    done = run_guarded(cases)
    assert done.returncode == 0, (done.stdout.splitlines()[-1:], done.stderr[-2000:])
    assert done.stdout.splitlines() == [json.dumps(case) for case in cases]


@pytest.mark.skipif(sys.platform != "linux", reason="mprotect through the C library of Linux")
def test_a_kernel_that_reads_outside_is_killed(tmp_path, monkeypatch):
    """Without its masks the last vector of a row steps over: the test above can fail."""
    monkeypatch.setattr(Row, "_mask", lambda row, vector: None)
    p = sample(4, 2 * LANES - 1, 3, 4, 2)
    path = write_loadable(build(p).executable, tmp_path / "kernel")
    assert run_guarded([(path, 4, 2 * LANES - 1, 3, None, True)]).returncode == -signal.SIGSEGV


def run_guarded(cases: list) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(Path(__file__).with_name("guarded_pages.py"))],
        input="".join(json.dumps(case) + "\n" for case in cases),
        env={**os.environ, "PYTHONPATH": str(ROOT), "TVM_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
    )
