"""Generated kernels against the reference: awkward shapes, any plan, memory that ends there too."""

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

from products import assert_right, normal  # noqa: E402
from sample_plans import (  # noqa: E402
    host_bits,
    host_lanes,
    host_target,
    plan,
    plans,
)

from anatune.codegen.build import build  # noqa: E402
from anatune.codegen.link import write_loadable  # noqa: E402
from anatune.codegen.vectors import Row  # noqa: E402
from anatune.plan import GemmPlan, Order, Storage, ThreadGrid  # noqa: E402
from anatune.workload.dtypes import ELEMENT_BYTES  # noqa: E402

TESTS = Path(__file__).resolve().parent
TARGET, LANES = host_target(), host_lanes()

KEPT, PACKED = Storage.IN_PLACE, Storage.PACKED
FRESH, AHEAD = Storage.PACKED_ON_FIRST_USE, Storage.PACKED_AHEAD
STORAGES = [(a, b) for a in (KEPT, PACKED) for b in Storage]


def sample(m: int, n: int, k: int, mr: int, vectors: int, **rest) -> GemmPlan:
    """A plan for this machine in float32, or in the types that ``of`` has."""
    grid = ThreadGrid(rows=rest.pop("rows", 1), columns=rest.pop("columns", 1))
    return plan(m, n, k, mr, vectors * LANES, LANES, target=TARGET, grid=grid, **rest)


def assert_rounds_right(p: GemmPlan) -> None:
    """Right within rounding, for numbers with every bit of their type in use."""
    assert_right(p, normal(p.workload))


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
    assert_rounds_right(sample(*shape, b=FRESH))
    assert_rounds_right(sample(*shape, a=PACKED, b=PACKED, kc=max(1, shape[2] // 3)))


@pytest.mark.parametrize(("a", "b"), STORAGES, ids=lambda s: s.value)
def test_storages_and_grids(a, b):
    """Edges on both sides, several blocks along each extent, a last thread with less to do."""
    blocks = {"mc": 10, "nc": 2 * LANES, "kc": 17}
    assert_rounds_right(
        sample(43, 7 * LANES + 5, 60, 5, 1, a=a, b=b, rows=2, columns=2, **blocks)
    )


@pytest.mark.parametrize("b", Storage, ids=lambda s: s.value)
@pytest.mark.parametrize("kc", [9, 4])
def test_a_last_thread_with_only_an_edge_tile(b, kc):
    p = sample(4 * 3 + 1, 2 * LANES + 1, 9, 4, 1, b=b, rows=4, kc=kc)
    assert p.last_thread_has_only_an_edge
    assert_rounds_right(p)


@pytest.mark.parametrize(("a", "b"), STORAGES, ids=lambda s: s.value)
def test_threads_with_nothing_to_do(a, b):
    """Five tiles on four threads are two each: the last thread's rows begin beyond the matrix."""
    p = sample(5 * 4 - 1, 5 * LANES - 1, 9, 4, 1, a=a, b=b, rows=4, columns=4, kc=4)
    assert 3 * p.thread_rows >= p.workload.m and 3 * p.thread_columns >= p.workload.n
    assert_rounds_right(p)


@settings(max_examples=15)
@given(plans(TARGET, bits=st.just(host_bits()), most=40, tallest=4))
def test_any_plan(drawn):
    assert_right(drawn)


@settings(max_examples=6)
@given(plans(TARGET, bits=st.sampled_from([64, 128, 256, 512]), most=30, tallest=4))
def test_vectors_that_are_not_the_machines(drawn):
    """LLVM splits or widens them; the kernel stays right."""
    assert_right(drawn)


@pytest.mark.parametrize("narrow", [d for d, size in ELEMENT_BYTES.items() if size < 4])
def test_a_last_vector_of_one_element(narrow):
    """The one lane is read and written as what it is, not as the wider type of the sums."""
    assert_right(sample(3, LANES + 1, 5, 3, 2, of={"out_dtype": narrow}))
    assert_right(sample(3, LANES + 1, 5, 3, 2, arithmetic="fma32", of={"dtype_b": narrow}))


def edges() -> list[GemmPlan]:
    """Plans with partial vectors, tiles and groups: each storage, order, arithmetic and layout."""
    shape = (11, 2 * LANES + LANES // 2 + 1, 13, 4, 1)
    single = [sample(*shape, a=a, b=b, kc=6) for a, b in STORAGES]
    narrow = [sample(3, max(1, LANES - 1), 5, 4, 1, b=b) for b in Storage]
    orders = [
        sample(*shape, order=order, kr=1 if order.in_registers == "C" else 3, kc=6)
        for order in Order
    ]
    layouts = [
        sample(*shape, a=a, b=PACKED, kc=6, of={"trans_a": True, "trans_b": True, "ldc": 99})
        for a in (KEPT, PACKED)
    ]
    laid = {"lda": 15, "ldb": 60, "batch": 2, "epilogue": "bias+residual"}
    more = [sample(*shape, kc=6, of=laid), sample(*shape, of={"epilogue": "c * s + row[m]"})]
    grid = [sample(*shape, b=FRESH, rows=2, columns=2), sample(1, 1, 1, 4, 1)]
    return [*single, *narrow, *orders, *layouts, *more, *grid, *groups(shape)]


def groups(shape: tuple[int, ...]) -> list[GemmPlan]:
    """Narrow types, whose last group along k is incomplete: each remainder that there can be."""
    found = []
    for dtype, dtype_b in (("bfloat16", "bfloat16"), ("int8", "int8"), ("uint8", "int8"),
                           ("int16", "int16"), ("int8", "int16"), ("float16", "float16")):
        for k in (13, 14, 15) if dtype.endswith("int8") else (13,):
            extents = (*shape[:2], k, *shape[3:])
            of = {"dtype": dtype, "dtype_b": dtype_b}
            whole = sample(*extents, a=PACKED, b=PACKED, of=of)
            a = KEPT if whole.may_store(KEPT, PACKED) else PACKED
            found.append(sample(*extents, a=a, b=AHEAD if k == 15 else PACKED, of=of))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="mprotect through the C library of Linux")
def test_no_access_outside_the_operands(tmp_path):
    cases = []
    for number, p in enumerate(edges()):
        path = write_loadable(build(p).executable, tmp_path / f"kernel{number}")
        cases += [(path, p.to_json(), at_end) for at_end in (True, False)]
    done = run_guarded(cases)
    assert done.returncode == 0, (done.stdout.splitlines()[-1:], done.stderr[-2000:])
    assert done.stdout.splitlines() == [json.dumps(case) for case in cases]


@pytest.mark.skipif(sys.platform != "linux", reason="mprotect through the C library of Linux")
def test_a_kernel_that_reads_outside_is_killed(tmp_path, monkeypatch):
    """Without its masks the last vector of a row steps over: the test above can fail."""
    monkeypatch.setattr(Row, "_mask", lambda row, vector: None)
    p = sample(4, 2 * LANES - 1, 3, 4, 2)
    path = write_loadable(build(p).executable, tmp_path / "kernel")
    assert run_guarded([(path, p.to_json(), True)]).returncode == -signal.SIGSEGV


def run_guarded(cases: list) -> subprocess.CompletedProcess:
    paths = os.pathsep.join((str(TESTS.parent), str(TESTS)))
    return subprocess.run(
        [sys.executable, str(TESTS / "guarded_pages.py")],
        input="".join(json.dumps(case) + "\n" for case in cases),
        env={**os.environ, "PYTHONPATH": paths, "TVM_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
    )


def test_poison_is_seen():
    """A row that is not masked at its end writes over what lies behind: tests above can fail."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Row, "_mask", lambda row, vector: None)
        with pytest.raises(AssertionError, match="out: written around"):
            assert_right(sample(2, LANES - 1, 3, 2, 1))


def test_a_result_that_is_off_by_one_bit_is_seen():
    p = sample(2, LANES, 3, 2, 1)
    right = build(p)

    class Wrong:
        def function(self, name: str = "main"):
            def call(a, b, c):
                right.function(name)(a, b, c)
                wrong = np.from_dlpack(c)
                wrong[1, 1] = np.nextafter(wrong[1, 1], np.float32(np.inf))

            return call

    with pytest.raises(AssertionError, match="not equal"):
        assert_right(p, kernel=Wrong())
