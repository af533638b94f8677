"""Loops of users' functions found by their structure and done by a registered micro-kernel."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from foreign_code import LLVM, MR, NR, has_tools, right

import anatune as at
from anatune.errors import OptionError, WorkloadError

tvm = pytest.importorskip("tvm")
from tvm import te, tirx  # noqa: E402

pytestmark = pytest.mark.skipif(not has_tools(), reason="needs a C compiler and binutils")

COST = at.ThroughputModel(cycles_per_step=1.0)


@pytest.fixture(scope="module")
def once(here):
    from anatune.codegen.external import code_file

    kernel = at.register_microkernel(
        name="tensorize", source=right(), symbol="tile", mr=MR, nr=NR, cost=COST, target=here
    )
    yield kernel, code_file(kernel).read_bytes()
    at.forget_microkernel("tensorize")


@pytest.fixture
def kernel(once):
    from anatune.codegen.external import keep_code

    keep_code(once[1], once[0].form)
    return once[0]


def whole(shape, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-4, 5, shape).astype("f4")


def run(func, *arrays) -> np.ndarray:
    """What ``func`` makes of ``arrays``, the last of which it writes."""
    target = tvm.target.Target.from_device("cpu")
    main = tvm.compile(tvm.IRModule({"main": func}), target=target)["main"]
    tensors = [tvm.runtime.tensor(x) for x in arrays]
    main(*tensors)
    return tensors[-1].numpy()


def calls(func) -> int:
    return func.script().count("anatune_tile")


def product_of(m, n, k, order, trans_a=False, trans_b=False, init=True):
    """Plain loops of a product, in any order, as a user writes them."""
    extents = {"r": m, "s": n, "t": k}
    head = f"""@T.prim_func
def main(P: T.Buffer({(k, m) if trans_a else (m, k)}, "float32"), Q: T.Buffer({(n, k) if trans_b else (k, n)}, "float32"), R: T.Buffer({(m, n)}, "float32")):
"""  # noqa: E501
    text, indent = head, "    "
    if init:
        text += f"    for r, s in T.grid({m}, {n}):\n        R[r, s] = T.float32(0)\n"
    for name in order:
        text += f"{indent}for {name} in range({extents[name]}):\n"
        indent += "    "
    p, q = "P[t, r]" if trans_a else "P[r, t]", "Q[s, t]" if trans_b else "Q[t, s]"
    text += f"{indent}R[r, s] = {q} * {p} + R[r, s]\n"
    return tvm.script.from_source(text)


@pytest.mark.parametrize("order", ["".join(o) for o in itertools.permutations("rst")])
def test_any_order_of_loops(kernel, order):
    func = at.tensorize(product_of(9, 37, 11, order), "tensorize")
    a, b = whole((9, 11)), whole((11, 37), 1)
    assert calls(func) == 4
    np.testing.assert_array_equal(run(func, a, b, np.full((9, 37), np.nan, "f4")), a @ b)


@pytest.mark.parametrize(("m", "n", "k"), [(4, 16, 1), (3, 5, 2), (8, 32, 7), (17, 33, 20)])
@pytest.mark.parametrize("trans", [(False, True), (True, False)])
def test_any_size_and_layout(kernel, m, n, k, trans):
    func = at.tensorize(product_of(m, n, k, "rst", *trans, init=False), kernel)
    a, b, c = whole((m, k)), whole((k, n), 1), whole((m, n), 2)
    stored = (x.T if turned else x for x, turned in zip((a, b), trans))
    out = run(func, *map(np.ascontiguousarray, stored), c)
    np.testing.assert_array_equal(out, a @ b + c)


def test_blocks_with_what_follows_them(kernel):
    m, n, k, batch = 9, 21, 13, 3
    a, b = te.placeholder((batch, m, k), "float32"), te.placeholder((batch, k, n), "float32")
    t = te.reduce_axis((0, k), "t")
    s = te.compute((batch, m, n), lambda g, i, j: te.sum(a[g, i, t.var] * b[g, t.var, j], axis=t))
    c = te.compute((batch, m, n), lambda *at_: s[at_] * s[at_])
    func = at.tensorize(te.create_prim_func([a, b, c]), kernel)
    x, y = whole((batch, m, k)), whole((batch, k, n), 1)
    out = run(func, x, y, np.zeros((batch, m, n), "f4"))
    np.testing.assert_array_equal(out, (x @ y) ** 2)
    assert calls(func) == 4


@pytest.mark.parametrize("source", ["C", "LLVM"])
def test_two_products_in_one_function(kernel, here, source):
    if source == "LLVM":
        kernel = at.register_microkernel(
            name="two", source=LLVM, symbol="two_rows", mr=2, nr=16, cost=COST, target=here
        )
        at.forget_microkernel("two")
    a, b, c = (te.placeholder(s, "float32") for s in ((9, 5), (5, 21), (21, 18)))
    t, s = te.reduce_axis((0, 5), "t"), te.reduce_axis((0, 21), "s")
    first = te.compute((9, 21), lambda i, j: te.sum(a[i, t.var] * b[t.var, j], axis=t))
    last = te.compute((9, 18), lambda i, j: te.sum(first[i, s.var] * c[s.var, j], axis=s))
    func = at.tensorize(te.create_prim_func([a, b, c, last]), kernel)
    x, y, z = whole((9, 5)), whole((5, 21), 1), whole((21, 18), 2)
    np.testing.assert_array_equal(run(func, x, y, z, np.zeros((9, 18), "f4")), x @ y @ z)


def test_a_convolution(kernel):
    """A sum over several loops, whose rows are two: packed as patches of the image."""
    shapes = (1, 9, 9, 5), (3, 3, 5, 18)
    image, weights = (te.placeholder(shape, "float32") for shape in shapes)
    y, x, c = (te.reduce_axis((0, e), name) for e, name in ((3, "y"), (3, "x"), (5, "c")))

    def element(n, i, j, o):
        patch = image[n, i * 2 + y.var, j * 2 + x.var, c.var]
        return te.sum(patch * weights[y.var, x.var, c.var, o], axis=[y, x, c])

    out = te.compute((1, 4, 4, 18), element)
    func = at.tensorize(te.create_prim_func([image, weights, out]), kernel)
    a, w = map(whole, shapes)
    corners = [(2 * i, 2 * j) for i in range(4) for j in range(4)]
    patches = [a[0, i : i + 3, j : j + 3].ravel() for i, j in corners]
    right_one = (np.stack(patches) @ w.reshape(45, 18)).reshape(1, 4, 4, 18)
    np.testing.assert_array_equal(run(func, a, w, np.zeros((1, 4, 4, 18), "f4")), right_one)


def test_rows_of_any_number(kernel):
    m = tirx.Var("m", "int64")
    n, k = (tirx.IntImm("int64", e) for e in (21, 13))
    a, b = te.placeholder((m, k), "float32"), te.placeholder((k, n), "float32")
    t = te.reduce_axis((0, k), "t")
    c = te.compute((m, n), lambda i, j: te.sum(a[i, t.var] * b[t.var, j], axis=t))
    func = at.tensorize(te.create_prim_func([a, b, c]), kernel)
    for rows in (1, 3, 4, 9):
        x, y = whole((rows, 13)), whole((13, 21), 1)
        np.testing.assert_array_equal(run(func, x, y, np.zeros((rows, 21), "f4")), x @ y)


def test_what_c_starts_at(kernel):
    text = """@T.prim_func
def main(P: T.Buffer((5, 6), "float32"), Q: T.Buffer((6, 17), "float32"), R: T.Buffer((5, 17), "float32")):
    for i in range(5):
        for j in range(17):
            R[i, j] = T.float32(2)
            for k in range(6):
                R[i, j] = R[i, j] + P[i, k] * Q[k, j]
"""  # noqa: E501
    func = at.tensorize(tvm.script.from_source(text), kernel)
    a, b = whole((5, 6)), whole((6, 17), 1)
    np.testing.assert_array_equal(run(func, a, b, np.zeros((5, 17), "f4")), a @ b + 2)


REFUSED = {
    "it stores": "R[i, j] = P[i, k] * Q[k, j]",
    "not a sum R[...] + x * y": "R[i, j] = R[i, j] + P[i, k] - Q[k, j]",
    "there are no rows of a product": "R[i, 0] = R[i, 0] + P[i, k] * P[i, k]",
    "R's subscript": "R[i, j // 2] = R[i, j // 2] + P[i, k] * Q[k, j]",
    "its product reads R": "R[i, j] = R[i, j] + R[i, 0] * Q[k, j]",
}


@pytest.mark.parametrize("told", REFUSED)
def test_why_nothing_matches(kernel, told):
    text = f"""@T.prim_func
def main(P: T.Buffer((5, 6), "float32"), Q: T.Buffer((6, 17), "float32"), R: T.Buffer((5, 17), "float32")):
    for i, j, k in T.grid(5, 17, 6):
        {REFUSED[told]}
"""  # noqa: E501
    with pytest.raises(WorkloadError) as refused:
        at.tensorize(tvm.script.from_source(text), kernel)
    assert told in str(refused.value) and "the loop over i: " in str(refused.value)


def test_types_must_be_the_kernels(kernel):
    a, b = te.placeholder((5, 6), "float64"), te.placeholder((6, 17), "float64")
    t = te.reduce_axis((0, 6), "t")
    c = te.compute((5, 17), lambda i, j: te.sum(a[i, t.var] * b[t.var, j], axis=t))
    with pytest.raises(WorkloadError, match="is of float64, tensorize computes float32"):
        at.tensorize(te.create_prim_func([a, b, c]), kernel)


def test_what_is_no_function_or_kernel(kernel):
    with pytest.raises(OptionError, match="func = int: a PrimFunc is needed"):
        at.tensorize(3, kernel)
    with pytest.raises(OptionError, match="kernel = 'nobody': registered are 'tensorize'"):
        at.tensorize(product_of(4, 16, 2, "rst"), "nobody")


def test_exported_with_the_kernels_object(kernel, tmp_path):
    func = at.tensorize(product_of(9, 37, 11, "rst"), kernel)
    target = tvm.target.Target.from_device("cpu")
    library = tvm.compile(tvm.IRModule({"main": func}), target=target)
    file = str(tmp_path / "k.so")
    library.export_library(file, addons=[str(at.kernel_object(kernel))])
    a, b = whole((9, 11)), whole((11, 37), 1)
    tensors = [tvm.runtime.tensor(x) for x in (a, b, np.zeros((9, 37), "f4"))]
    tvm.runtime.load_module(file)["main"](*tensors)
    np.testing.assert_array_equal(tensors[-1].numpy(), a @ b)
