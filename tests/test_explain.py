"""What a plan says of itself, and of what was not taken; no figure is a law."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anatune import api
from anatune.hwprofile import Profile, load_profile, profiles
from anatune.model.cache_blocks import levels
from anatune.model.candidates import best
from anatune.model.constant_b import packed_ahead
from anatune.model.explain import ADDED, NAMED_FACTS
from anatune.model.reasons import INSTRUCTION
from anatune.model.registers import registers_of
from anatune.plan import ARITHMETIC, GemmPlan, Order, Storage, ThreadGrid
from anatune.workload import Matmul, matmul

CPUS = [name for name in profiles() if load_profile(name).cores]
EXTENTS = st.one_of(st.integers(1, 40), st.integers(1, 3000))
WORKLOADS = st.builds(
    matmul, EXTENTS, EXTENTS, EXTENTS,
    dtype=st.sampled_from(["float64", "float32", "bfloat16", "float16", "int8", "uint8", "int16"]),
    out_dtype=st.sampled_from([None, "float32", "int8", "bfloat16"]),
    trans_a=st.booleans(), trans_b=st.booleans(), constant_b=st.booleans(),
    batch=st.integers(1, 3), epilogue=st.sampled_from(["", "bias+gelu", "c * scale.float32"]),
)  # fmt: skip
few = settings(max_examples=15)


@cache
def machine(name: str) -> Profile:
    return load_profile(name)


def pick(w: Matmul, name: str = "zen5", threads: int | None = None) -> GemmPlan:
    return best(machine(name), w, threads)[0][0]


def said(plan: GemmPlan, name: str = "zen5") -> str:
    return api.explain(plan, name)


def of_order(w: Matmul, order: Order) -> GemmPlan:
    """The best plan with that order, on one thread."""
    found = best(machine("zen5"), w, 1, keep=lambda shape: shape.order is order)
    return found[0][0]


@few
@given(WORKLOADS, st.sampled_from(CPUS))
def test_every_plan_explains_itself(w, name):
    plan, estimate = best(machine(name), w)[0]
    text = said(plan, name)
    for section in ("arithmetic", "order", "registers", "cache blocks", "sums"):
        assert f"\n{section}\n  " in text
    for equation in (" <= R: ", "kc = ", "mc = ", "nc = ", "bound by "):
        assert equation in text
    for term, _ in estimate.terms:
        assert f"  {term}: " in text
        assert (f"+ {term} " in text) == (term in ADDED)
    for level, _ in estimate.bytes_moved:
        assert f"out of {level}: " in text
    assert ("\nconstant B\n" in text) == w.constant_b


def test_every_arithmetic_has_its_instruction():
    assert INSTRUCTION.keys() == ARITHMETIC.keys()


def test_the_arithmetic_says_what_the_others_would_do():
    text = said(pick(matmul(96, 96, 96, dtype="int8")))
    assert "int8 quads (vpdpbusd): 4 steps along k at once, sums in int32; 2 a cycle, 4 " in text
    assert "computes int8 x int8: int8 quads 128, int16 pairs 64, int32 32\n" in text
    assert "A: int8 + 128 is uint8; sums start at what mends that" in text
    mixed = said(pick(matmul(96, 96, 96, dtype="float16", dtype_b="bfloat16")))
    assert "A: float16 becomes float32 as it is " in mixed


def test_a_rate_that_nobody_knows_is_called_assumed():
    blind = replace(machine("zen5"), cores=(replace(machine("zen5").core, dots=()),))
    plan = best(blind, matmul(96, 96, 96, dtype="int8"))[0][0]
    assert "a cycle (assumed), " in api.explain(plan, blind)


@pytest.mark.parametrize("order", list(Order))
def test_the_order_and_the_rules_that_size_its_blocks(order):
    plan = of_order(matmul(900, 1000, 1100), order)
    x, y, z = order.in_l3, order.in_l2, order.in_registers
    first, last = order.inner
    lines = said(plan).splitlines()
    assert f"  {order.value}: {x} in L3, {y} in L2, {z} in registers; " in "\n".join(lines)
    of_caches = lines[lines.index("cache blocks") + 1 :][:3]
    kept = ((order.along, f"{x}_r"), (last, f"{y}_c"), (first, f"{x}_c"))
    for line, (dim, panel), level in zip(of_caches, kept, levels(machine("zen5"), 1)):
        assert line.startswith(f"  {dim}c = ") and f": {panel} " in line
        assert f"L{level.level} of {level.ways} ways" in line
    needed, parts = registers_of(plan.tile, order)
    assert f"{parts} = {needed} of 32 registers" in "\n".join(lines)


def test_the_other_ways_to_store_an_operand_have_their_price():
    w = matmul(784, 512, 1280)
    plan, estimate = next(r for r in best(machine("zen5"), w, 1) if r[0].a is Storage.IN_PLACE)
    packed = api.predict(replace(plan, a=Storage.PACKED), w, "zen5")
    factor = f"{packed.seconds / estimate.seconds:.3g}"
    assert f"  A read in place; packed before use: {factor} times the time\n" in said(plan)
    pairs = said(pick(replace(w, dtype="bfloat16", dtype_b=None, out_dtype=None)))
    assert "not read in place: rows along n, one step along k at a time, are needed" in pairs


def test_threads_that_share_k_and_batches():
    w = matmul(16, 16, 100_000)
    deep = best(machine("zen5"), w, 2, keep=lambda shape: shape.grid == ThreadGrid(depth=2))[0][0]
    text = said(deep)
    assert "2 threads share k, at most 50000 steps each: C has only " in text
    assert "sums that are not complete lie apart, in float32: each thread has its own" in text
    many = pick(matmul(64, 64, 64, batch=9), threads=2)
    assert f"batch of 9: {many.grid.batch} thread(s), at most {many.thread_batch} " in said(many)


def test_sums_and_what_is_stored():
    w = matmul(64, 64, 64, dtype="int8", out_dtype="int8", epilogue="requantise")
    stored = "c * scale.float32[n] + zero_point.float32, as int8, rounded half to even, saturated"
    assert f"stored when complete: {stored}\n" in said(pick(w))
    assert "stored when complete" not in said(pick(matmul(64, 64, 64)))
    half = of_order(matmul(64, 640, 640, dtype="float16"), Order.C3B2A0)
    assert "lie apart, in float32: C cannot hold them" in said(half)


@few
@given(WORKLOADS, st.sampled_from(["zen5", "haswell", "neoverse_v1"]))
def test_a_constant_b_costs_once_what_calls_save(w, name):
    plan = pick(replace(w, constant_b=True), name)
    cost = packed_ahead(machine(name), plan)
    assert (cost.packed_bytes > 0) == (cost.packing_s > 0) == (plan.b is Storage.PACKED_AHEAD)
    calls = cost.pays_after_calls
    assert (calls is None) == (cost.packed_bytes > 0 and cost.given_s <= cost.call_s)
    if calls:
        assert (calls - 1) * (cost.given_s - cost.call_s) < cost.packing_s


def doubts(profile: Profile) -> list[str]:
    plan = best(profile, matmul(64, 64, 64), 1)[0][0]
    return [line for line in api.explain(plan, profile).splitlines() if " facts are " in line]


@pytest.mark.parametrize("name", CPUS)
def test_doubts_are_counted_and_the_first_are_named(name):
    profile = machine(name)
    for facts, what in ((profile.assumed, "assumed"), (profile.missing, "missing")):
        told = [x for x in doubts(profile) if x.startswith(f"{len(facts)} facts are {what}")]
        assert len(told) == bool(facts)
        for line in told:
            named = line.split(": ", 1)[1].split(" and " + str(len(facts) - NAMED_FACTS))[0]
            assert named.split(", ") == list(facts[:NAMED_FACTS])
            more = len(facts) - NAMED_FACTS
            assert more <= 0 or line.endswith(f" and {more} more: anatune profile show {name}")


def test_few_doubts_are_all_named():
    facts = ("cores.zen5.count", "memory.read_one", "probes.barrier")
    assert doubts(replace(machine("zen5"), assumed=facts))[0] == (
        "3 facts are assumed: cores.zen5.count, memory.read_one, probes.barrier"
    )


@settings(max_examples=10)
@given(WORKLOADS, st.sampled_from(["zen5", "haswell"]), st.integers(1, 40), st.integers(1, 40))
def test_why_not_is_one_line_about_any_tile(w, name, rows, columns):
    text = api.why_not(f"{rows}x{columns}", w, name, threads=1)
    assert text.startswith(f"{rows}x{columns} tile") and "\n" not in text


KINDS = [*Order.__members__, *ARITHMETIC, *(f"a={s.value}" for s in Storage)]
KINDS += [f"b={s.value}" for s in Storage] + ["1x32x13", "8x16x4"]


@settings(max_examples=12)
@given(WORKLOADS, st.sampled_from(["zen5", "haswell", "neoverse_v1"]), st.sampled_from(KINDS))
def test_why_not_is_one_line_about_any_choice(w, name, choice):
    text = api.why_not(choice, w, name, threads=1)
    assert text.startswith(choice) and "\n" not in text


def test_why_not_of_what_the_plan_is():
    w = matmul(784, 512, 128)
    plan = pick(w, threads=1)
    for choice in (
        str(plan.tile), plan.order.value, plan.arithmetic, f"a={plan.a.value}", f"b={plan.b.value}"
    ):  # fmt: skip
        assert api.why_not(choice, w, "zen5", threads=1).endswith(": it is the model's choice")


INT8 = matmul(784, 512, 128, dtype="int8")


@pytest.mark.parametrize(
    ("choice", "w", "name", "why"),
    [
        ("fma64", INT8, "zen5", "does not compute matmul 784x512x128 int8"),
        ("int8 quads", INT8, "haswell", "needs avx512vnni or avxvnni, which the target lacks"),
        ("int8 quads", INT8, "neoverse_v1", "instructions of x86_64, the target is aarch64"),
        ("int16 pairs and add", INT8, "zen5", "int16 pairs does the same in fewer instructions"),
        ("b=packed_ahead", INT8, "zen5", "only of a workload with constant_b=True"),
        ("a=packed_ahead", INT8, "zen5", "A is read in place or packed"),
    ],
)
def test_why_not_what_is_impossible(choice, w, name, why):
    assert api.why_not(choice, w, name, threads=1) == f"{choice}: {why}"


def test_why_not_names_the_best_of_its_kind_and_what_it_pays():
    text = api.why_not("int32", INT8, "zen5", threads=1)
    assert text.startswith("int32: legal, predicted ") and "; at best: " in text
    assert "multiply-add units" in text and "int32, " in text.split("at best: ")[1]
    steady = replace(INT8, constant_b=True)
    assert api.why_not("b=packed", steady, "zen5", threads=1).startswith("b=packed: legal, predict")
