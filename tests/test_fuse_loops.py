"""Loops of a PrimFunc fused into one: the same results, or the dependence by name."""

# flake8: noqa: F821  (data types in TVMScript's annotations are no names)
from __future__ import annotations

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")

from tvm import te, tirx  # noqa: E402
from tvm.script import tirx as T  # noqa: E402

import anatune as at  # noqa: E402
from anatune.errors import OptionError, WorkloadError  # noqa: E402

SHAPES = ((6, 64), (6, 64), (6, 100), (6, 100), (6, 3))


@T.prim_func
def outer(
    A: T.Buffer((64, 32), "float32"), B: T.Buffer((64, 32), "float32"),
    C: T.Buffer((100,), "float32"), D: T.Buffer((100,), "float32"),
):  # fmt: skip
    for i in range(64):
        for j in range(32):
            B[i, j] = A[i, j] + T.float32(1)
    for p in range(100):
        D[p] = T.exp(C[p])


@T.prim_func
def inner(
    A: T.Buffer((6, 64), "float32"), B: T.Buffer((6, 64), "float32"),
    C: T.Buffer((6, 100), "float32"), D: T.Buffer((6, 100), "float32"),
    S: T.Buffer((6, 3), "float32"),
):  # fmt: skip
    for m in range(6):
        for i in range(64):
            B[m, i] = A[m, i] + T.float32(1)
        for p in range(2, 100):
            D[m, p] = T.exp(C[m, p])
        for r in range(3):
            S[m, r] = A[m, r] * C[m, r]


@T.prim_func
def dependent(
    A: T.Buffer((64,), "float32"), B: T.Buffer((64,), "float32"), C: T.Buffer((128,), "float32")
):
    for i in range(63):
        A[i + 1] = A[i] + T.float32(1)
    for j in range(64):
        C[j] = B[j]
    for k in range(64):
        C[64 + k] = B[k]
    for q in range(64):
        B[q] = T.float32(0)


def run(func, shapes):
    module = tvm.IRModule({"main": func.with_attr("global_symbol", "main")})
    generator = np.random.default_rng(0)
    arrays = [tvm.runtime.tensor(generator.random(s).astype("f4")) for s in shapes]
    tvm.compile(module, target="llvm")["main"](*arrays)
    return [x.numpy() for x in arrays]


def assert_same(func, fused, shapes):
    for was, now in zip(run(func, shapes), run(fused, shapes)):
        np.testing.assert_array_equal(was, now)


def loops_of(func):
    found = []
    tvm_ffi = pytest.importorskip("tvm_ffi")
    tvm_ffi.structural_walk(func.body, (tirx.For, found.append), order="pre")
    return found


@pytest.mark.parametrize("kind", ["parallel", "serial"])
@pytest.mark.parametrize("parts", [1, 2, 5])
def test_outer_loops(kind, parts):
    fused = at.fuse_loops(outer, ["i", "p"], kind=kind, parts=parts)
    assert_same(outer, fused, ((64, 32), (64, 32), (100,), (100,)))
    assert not [n for n in loops_of(fused) if n.loop_var.name == "if"]


@pytest.mark.parametrize("kind", ["parallel", "serial"])
def test_any_number_of_inner_loops_of_unequal_extents(kind):
    fused = at.fuse_loops(inner, ["i", "p", "r"], kind=kind, parts=4)
    assert_same(inner, fused, SHAPES)
    parallel = [n for n in loops_of(fused) if n.kind == tirx.ForKind.PARALLEL]
    assert len(parallel) == (kind == "parallel")
    assert "if " not in fused.script()  # nobody asks which loop a turn belongs to


@pytest.mark.parametrize("kind", ["parallel", "serial"])
def test_blocks(kind):
    x, w = te.placeholder((64, 32), "float32", "X"), te.placeholder((32, 16), "float32", "W")
    k = te.reduce_axis((0, 32), "k")
    y = te.compute((64, 32), lambda i, j: te.exp(x[i, j]), "Y")
    z = te.compute((64, 16), lambda i, j: te.sum(x[i, k] * w[k, j], axis=k), "Z")
    func = te.create_prim_func([x, w, y, z])
    fused = at.fuse_loops(func, ["i", "i"], kind=kind, parts=3)
    assert_same(func, fused, ((64, 32), (32, 16), (64, 32), (64, 16)))


def test_parts_are_divided_by_cost():
    """Of two parts the second has the cheap turns that are left and all the dear ones."""
    fused = at.fuse_loops(outer, ["i", "p"], parts=2, costs=[1, 10])
    text = fused.script()
    assert "T.Select(part <= 0, 64, 0)" in text  # all of i in part 0


def test_dependences_are_named():
    x = te.placeholder((64, 32), "float32", "X")
    y = te.compute((64, 32), lambda i, j: te.exp(x[i, j]), "Y")
    z = te.compute((64, 32), lambda i, j: y[i, j] * 2, "Z")
    func = te.create_prim_func([x, y, z])
    with pytest.raises(WorkloadError, match="i and i depend on each other through Y"):
        at.fuse_loops(func, ["i", "i"])
    with pytest.raises(WorkloadError, match="j and q depend on each other through B"):
        at.fuse_loops(dependent, ["j", "q"])


def test_turns_that_depend_on_each_other_cannot_be_parallel():
    with pytest.raises(WorkloadError, match="loop i: its turns .* through A"):
        at.fuse_loops(dependent, ["i", "j"])
    assert_same(dependent, at.fuse_loops(dependent, ["i", "j"], kind="serial"), (64, 64, 128))


def test_parts_of_one_buffer_are_apart():
    fused = at.fuse_loops(dependent, ["j", "k"], parts=2)
    assert_same(dependent, fused, (64, 64, 128))


def test_loops_do_not_pass_what_they_depend_on():
    with pytest.raises(WorkloadError, match="loop q depends on what stands before it through B"):
        at.fuse_loops(dependent, ["i", "q"], kind="serial")


@pytest.mark.parametrize(
    "loops, options, said",
    [
        (["i"], {}, "at least two"), (["i", "q"], {}, "no such loop"),
        (["i", "j"], {}, "beside"), (["i", "p"], {"kind": "x"}, "kind"),
        (["i", "p"], {"parts": 0}, "parts"), (["i", "p"], {"costs": [1], "parts": 2}, "costs"),
    ],
)  # fmt: skip
def test_what_cannot_be_fused_is_refused(loops, options, said):
    with pytest.raises(OptionError, match=said):
        at.fuse_loops(outer, loops, **options)
