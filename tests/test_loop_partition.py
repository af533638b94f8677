"""Partitioned loops: the same numbers, an interior without conditions, reasons for what stays."""

from __future__ import annotations

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")

import loop_samples as samples  # noqa: E402
from hypothesis import example, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from tvm import s_tir, te, tirx  # noqa: E402

import anatune as at  # noqa: E402
from anatune.codegen.loop_cover import coverable, covered  # noqa: E402
from anatune.codegen.loop_function import partitioned  # noqa: E402
from anatune.codegen.loop_guards import Scope, open_tests  # noqa: E402
from anatune.codegen.loop_partition import INTERIOR  # noqa: E402
from anatune.codegen.loop_terms import Terms, nodes  # noqa: E402
from anatune.errors import OptionError, WorkloadError  # noqa: E402
from anatune.plan.loops import PartitionStrategy, TileFamily  # noqa: E402

LLVM = tvm.target.Target({"kind": "llvm"})

ONE = [(n,) for n in (1, 2, 3, 7, 8, 9, 15, 16, 17, 33, 130)]
TWO = [(n, m) for n in (1, 2, 3, 16, 17) for m in (1, 2, 5, 16, 67)]
CASES = {
    "shifted": ONE, "saved_rows": ONE, "chosen": ONE,
    "stencil": TWO, "unrolled_stencil": TWO, "parallel_rows": TWO,
    "with_sums": TWO, "left_early": ONE, "fixed": [(100, 37)],
}  # fmt: skip


def compiled(func):
    return tvm.compile(tvm.IRModule({"main": func}), target=LLVM)["main"]


def outputs(functions, shape, seed=0):
    """What each function leaves in its last buffer, given the same ones; outside it, too."""
    a = np.random.default_rng(seed).random(shape, "float32")
    found = []
    for function in functions:
        b = tvm.runtime.tensor(np.full(shape, 7, "float32"))
        function(tvm.runtime.tensor(a), b)
        found.append(b.numpy())
    return found


def tiled(func, sizes=(64, 8, 4, 1)):
    """``func`` with every loop of unknown extent that can be covered cut into these tiles."""
    loops = coverable(func)
    unknown = [k for k, loop in enumerate(loops) if not isinstance(loop.extent, tirx.IntImm)]
    return covered(func, {k: TileFamily(sizes=sizes) for k in unknown})


@pytest.mark.parametrize("name", CASES)
def test_same_numbers_for_all_sizes(name):
    func = getattr(samples, name)
    peeled = partitioned(func)[0]
    functions = [compiled(f) for f in (func, peeled, tiled(peeled))]
    for shape in CASES[name]:
        want, *others = outputs(functions, shape)
        for got in others:
            np.testing.assert_array_equal(got, want, err_msg=str(shape))


@pytest.mark.parametrize("name", ["shifted", "stencil", "unrolled_stencil", "saved_rows"])
def test_empty_extents_do_nothing(name):
    func = getattr(samples, name)
    dimensions = len(CASES[name][0])
    for f in (partitioned(func)[0], tiled(partitioned(func)[0])):
        assert outputs([compiled(f)], (0,) * dimensions)[0].size == 0


def interior(func):
    """The body of the innermost loop, always taking the range that was marked or is alone."""
    body = func.body
    while True:
        loops = [part for part in nodes(body, tirx.For) if not part.body.same_as(body)]
        marked = [loop for loop in loops if INTERIOR in dict(loop.annotations)]
        if not loops:
            return body
        body = (marked or loops)[0].body


@pytest.mark.parametrize(
    "name", ["shifted", "stencil", "unrolled_stencil", "saved_rows", "parallel_rows", "fixed"]
)
def test_no_condition_is_left_in_the_interior(name):
    func, cuts, left = partitioned(getattr(samples, name))
    assert cuts and not left
    body = interior(func)
    assert not nodes(body, tirx.IfThenElse, tirx.Select)
    assert nodes(body, tirx.BufferStore)


@pytest.mark.parametrize("name", ["shifted", "stencil", "unrolled_stencil", "fixed"])
def test_no_innermost_loop_tests_anything(name):
    """Edges included: what they choose is chosen outside their innermost loops."""
    func = partitioned(getattr(samples, name))[0]
    innermost = [loop for loop in nodes(func.body, tirx.For) if not nodes(loop.body, tirx.For)]
    assert innermost
    for loop in innermost:
        assert not nodes(loop.body, tirx.IfThenElse, tirx.Select)
        assert not list(open_tests(loop.body, Scope(Terms())))


def test_conditions_that_stay_say_why():
    _, cuts, left = partitioned(samples.chosen)
    assert [guard.condition for guard in left] == ["A[i] > T.float32(0.5)"]
    assert "reads memory" in left[0].reason
    assert {cut.at for cut in cuts} == {"before the loop"}  # of n > 9, and of i*i < 40 in j


def test_a_loop_that_may_be_left_early_stays_whole():
    _, cuts, left = partitioned(samples.left_early)
    assert not cuts
    assert [guard.reason for guard in left] == ["a turn or the loop may be left early"]


def test_buffers_that_may_be_one_are_not_covered():
    peeled = partitioned(samples.shifted)[0]
    assert coverable(peeled)
    assert not coverable(peeled.without_attr("tirx.noalias"))


def test_gpu_blocks_choose_and_threads_keep_their_condition():
    func, cuts, left = partitioned(samples.blocks)
    (block,) = [loop for loop in nodes(func.body, tirx.For) if str(loop.loop_var.name) == "i"]
    choice = nodes(block.body, tirx.IfThenElse)[0]
    assert not nodes(choice.then_case, tirx.IfThenElse)
    assert nodes(choice.else_case, tirx.IfThenElse)
    assert [str(cut) for cut in cuts] == ["i: -256*i +n -256 >= 0 below (n) // 256"]
    assert "threads of a block" in left[0].reason


def test_gpu_code_is_generated():
    func = partitioned(samples.blocks)[0]
    target = tvm.target.Target({"kind": "cuda", "arch": "sm_90", "host": {"kind": "llvm"}})
    code = tvm.compile(tvm.IRModule({"main": func}), target=target).mod.imports[0].inspect_source()
    assert "blockIdx.x" in code and "else" in code


def test_gpu_blocks_give_the_same_numbers_run_one_after_another():
    def serial(loop):
        extent = loop.extent
        return tirx.For(loop.loop_var, loop.min, extent, tirx.ForKind.SERIAL, loop.body)

    def on_cpu(func):
        import tvm_ffi

        return func.with_body(tvm_ffi.structural_map(func.body, (tirx.For, serial)))

    functions = [compiled(on_cpu(f)) for f in (samples.blocks, partitioned(samples.blocks)[0])]
    for n in (1, 255, 256, 257, 1000):
        want, got = outputs(functions, (n,))
        np.testing.assert_array_equal(got, want)


PARTS = st.tuples(
    st.sampled_from("<= < >= > == !=".split()), st.integers(-3, 3), st.integers(-3, 3),
    st.integers(-12, 12), st.booleans(),
)  # fmt: skip


def guarded(extents, parts, joined, symbolic):
    """for i, j: B[i, j] += A[i, j], else B[i, j] -= 1, where conditions on i, j and n join."""
    n = tirx.Var("n", "int64")
    rows = n if symbolic else tirx.IntImm("int64", extents[0])
    shape = (rows, tirx.IntImm("int64", extents[1]))
    a, b = (tirx.decl_buffer(shape, "float32", name, data_alignment=4) for name in "AB")
    i, j = tirx.Var("i", "int64"), tirx.Var("j", "int64")
    tests = []
    for sign, ci, cj, constant, with_n in parts:
        left, right = ci * i + cj * j + constant, rows if with_n else tirx.IntImm("int64", 0)
        comparison = {
            "<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right,
            "==": tirx.EQ(left, right), "!=": tirx.NE(left, right),
        }[sign]  # fmt: skip
        tests.append(comparison)
    condition = tests[0]
    for test in tests[1:]:
        condition = tirx.And(condition, test) if joined else tirx.Or(condition, test)
    value = tirx.if_then_else(tests[-1], a[i, j], b[i, j])
    yes = tirx.BufferStore(b, b[i, j] + value, [i, j])
    no = tirx.BufferStore(b, b[i, j] - tirx.const(1, "float32"), [i, j])
    body = tirx.IfThenElse(condition, yes, no)
    zero = tirx.IntImm("int64", 0)
    for var, extent in ((j, shape[1]), (i, rows)):
        body = tirx.For(var, zero, extent, tirx.ForKind.SERIAL, body)
    attrs = {"global_symbol": "main", "tirx.noalias": True}
    return tirx.PrimFunc([a, b], body, attrs=tvm.ir.make_node("ir.DictAttrs", **attrs))


@settings(max_examples=60)
@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.lists(PARTS, min_size=1, max_size=3),
    st.booleans(),
    st.booleans(),
)
@example((5, 5), [("<=", 1, 0, 0, False), (">=", 0, 1, -9, False)], True, False)
def test_any_conditions_give_the_same_numbers(extents, parts, joined, symbolic):
    func = guarded(extents, parts, joined, symbolic)
    peeled = partitioned(func)[0]
    functions = [compiled(f) for f in (func, peeled, tiled(peeled, (4, 1)))]
    for rows in (1, 2, 8) if symbolic else (extents[0],):
        want, *others = outputs(functions, (rows, extents[1]))
        for got in others:
            np.testing.assert_array_equal(got, want)


def padded_sum():
    """Of schedulable blocks: a padded array, inlined, summed over 3x3, its columns in tiles."""
    n = tirx.Var("n", "int64")
    a = te.placeholder((n, n), "float32", "A")
    di, dj = te.reduce_axis((0, 3), "di"), te.reduce_axis((0, 3), "dj")

    def pad(i, j):
        inside = tirx.all(i >= 1, i < n + 1, j >= 1, j < n + 1)
        return tirx.if_then_else(inside, a[i - 1, j - 1], tirx.const(0, "float32"))

    padded = te.compute((n + 2, n + 2), pad, name="P")
    c = te.compute((n, n), lambda i, j: te.sum(padded[i + di, j + dj], axis=[di, dj]), name="C")
    s = s_tir.Schedule(te.create_prim_func([a, c]))
    s.compute_inline("P")
    s.split(s.get_loops("C")[1], [None, 16])
    return s.mod["main"]


def test_schedulable_blocks_are_lowered_and_cut():
    result = at.partition(padded_sum(), "zen5", strategy="peel")
    assert not nodes(interior(result.func), tirx.IfThenElse, tirx.Select)
    assert all(guard.reason.startswith("in an edge") for guard in result.left)
    functions = [compiled(padded_sum()), compiled(result.func)]
    for n in (1, 2, 15, 16, 17, 40):
        want, got = outputs(functions, (n, n))
        np.testing.assert_array_equal(got, want)


def test_every_strategy_is_reported():
    result = at.partition(samples.stencil, "zen5", sizes={"n": 300, "m": 200})
    assert set(result.estimates) == set(PartitionStrategy)
    best = min(result.estimates.values(), key=lambda e: e.seconds)
    assert result.estimates[result.strategy] is best
    for estimate in result.estimates.values():
        assert estimate.cycles > 0 and estimate.joules > 0
        assert {name for name, _ in estimate.bytes_moved} == {"L2", "L3", "memory"}
    assert "chosen: " in result.explain() and "n = 300, m = 200" in result.explain()


def test_a_strategy_can_be_asked_for():
    for name in ("none", "peel", "cover"):
        result = at.partition(samples.shifted, "zen5", strategy=name)
        assert result.strategy.value == name
        want, got = outputs([compiled(samples.shifted), compiled(result.func)], (50,))
        np.testing.assert_array_equal(got, want)


def test_a_gpu_profile_has_no_cover():
    result = at.partition(samples.blocks, "nvidia_h100", sizes={"n": 10**7})
    assert result.strategy is PartitionStrategy.PEEL
    assert set(result.estimates) == {PartitionStrategy.NONE, PartitionStrategy.PEEL}


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"strategy": "best"}, OptionError, "strategy = 'best'"),
        ({"sizes": {"k": 3}}, OptionError, "sizes['k']"),
        ({"sizes": {"n": 0}}, OptionError, "sizes['n'] = 0"),
    ],
)
def test_refusals_name_field_and_value(arguments, error, said):
    with pytest.raises(error, match=said.replace("[", r"\[").replace("]", r"\]")):
        at.partition(samples.shifted, "zen5", **arguments)


def test_what_is_no_function_is_refused():
    with pytest.raises(WorkloadError, match="PrimFunc"):
        at.partition(3, "zen5")
    with pytest.raises(OptionError, match="GPU"):
        at.partition(samples.blocks, "nvidia_h100", strategy="cover")
