"""The model against what the compiler made of it: multiply-adds, registers, the right vectors.

Everything is cross-compiled; what is run besides, is run where this machine can.
"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

pytest.importorskip("tvm")

from assembly import Loop, hot_loops, loops, mnemonics  # noqa: E402
from products import assert_right  # noqa: E402
from sample_plans import lanes_in, plan  # noqa: E402

import anatune as at  # noqa: E402
from anatune.codegen.build import Kernel, build  # noqa: E402
from anatune.codegen.target import runs_here  # noqa: E402
from anatune.hwprofile import load_profile  # noqa: E402
from anatune.model.registers import registers_needed, registers_of  # noqa: E402
from anatune.plan import ARITHMETIC, CodeTarget, GemmPlan, Order, Storage  # noqa: E402

PROFILES = ("zen5", "haswell", "neoverse_n1")
SHAPES = ((512, 512, 512), (197, 129, 300))
MOST_ADDRESSES = 2
"""One read from and one written to the stack in a step of a hot loop."""

CASES = [(name, shape, threads) for name in PROFILES for shape in SHAPES for threads in (1, 2)]
_built: dict[tuple, Kernel] = {}


def kernel(name: str, shape: tuple[int, int, int], threads: int) -> Kernel:
    """The model's plan, compiled once for all tests."""
    key = (name, shape, threads)
    if key not in _built:
        _built[key] = build(at.plan(at.matmul(*shape), name, threads=threads))
    return _built[key]


def tiles(p: GemmPlan) -> set[tuple[int, int]]:
    """(rows, vectors) of every register tile that the plan's kernel holds."""
    edge_vectors = -(-p.edge_columns // p.tile.lanes)
    rows = {p.tile.mr, p.edge_rows} - {0}
    return {(r, v) for r in rows for v in {p.tile.vectors, edge_vectors} - {0}}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_tile_has_its_loop(case):
    """Unrolled by LLVM or not, a loop does the multiply-adds of whole steps of one tile."""
    p = kernel(*case).plan
    assert p.order.in_registers == "C"  # as the tests below take for granted
    counts = [loop.multiply_adds for loop in hot_loops(kernel(*case).source("asm"))]
    sizes = {rows * vectors for rows, vectors in tiles(p)}
    assert counts
    assert not [n for n in counts if not any(n % size == 0 for size in sizes)], (counts, sizes)
    assert any(n % p.tile.accumulators == 0 for n in counts)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_hot_loops_keep_their_vectors_off_the_stack(case):
    """Addresses may lie there: LLVM reloads one a step, beside dozens of multiply-adds."""
    for loop in hot_loops(kernel(*case).source("asm")):
        assert not loop.spilled_vectors
        assert len(loop.stack_lines) <= MOST_ADDRESSES


@pytest.mark.parametrize("case", CASES, ids=str)
def test_accumulators_are_in_registers(case):
    """A loop uses at least a register an accumulator, and no more than the machine has."""
    p = kernel(*case).plan
    core = load_profile(case[0]).core
    least = min(rows * vectors for rows, vectors in tiles(p))
    largest = max(
        hot_loops(kernel(*case).source("asm")), key=lambda loop: len(loop.vector_registers)
    )
    assert registers_needed(p.tile.mr, p.tile.vectors) <= core.vector_registers
    for loop in hot_loops(kernel(*case).source("asm")):
        assert least < len(loop.vector_registers) <= core.vector_registers
    assert len(largest.vector_registers) > p.tile.accumulators


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_vectors_are_those_of_the_profile(shape):
    assert "%zmm" in kernel("zen5", shape, 1).source("asm")
    haswell = kernel("haswell", shape, 1).source("asm")
    assert "%ymm" in haswell and "%zmm" not in haswell and "%ymm16" not in haswell
    arm = kernel("neoverse_n1", shape, 1).source("asm")
    assert "fmla\tv" in arm and "%" not in hot_loops(arm)[0].lines[0]


def test_a_tile_that_does_not_fit_spills():
    """28 accumulators, 4 of B and 1 of A: 33 of 32 registers, so the test above can fail."""
    target = CodeTarget.of(load_profile("zen5").target)

    def spills(mr: int) -> bool:
        text = build(plan(448, 448, 300, mr, 64, 16, target=target, b=Storage.PACKED)).source("asm")
        return any(loop.spilled_vectors for loop in hot_loops(text))

    assert spills(7) and not spills(6)


# The other arithmetics.

FEATURES = ("avx", "avx2", "avx512bf16", "avx512bw", "avx512dq", "avx512f", "avx512vl",
            "avx512vnni", "f16c", "fma")  # fmt: skip
AVX512 = CodeTarget(isa="x86_64", mcpu="znver4", features=FEATURES)
AVX2 = CodeTarget(isa="x86_64", mcpu="haswell", features=("avx", "avx2", "f16c", "fma"))
AVX_VNNI = replace(AVX2, mcpu="alderlake", features=(*AVX2.features, "avxvnni"))
BASELINE = CodeTarget(isa="x86_64", mcpu="x86-64")

TYPES = {
    "fma64": "float64", "fma32": "float32", "bf16 pairs": "bfloat16", "int8 quads": "uint8",
    "int16 pairs": "int16", "int16 pairs and add": "int16", "int32": "int32",
}  # fmt: skip
INSTRUCTIONS = {
    "fma64": {"vfmadd231pd"},
    "fma32": {"vfmadd231ps"},
    "bf16 pairs": {"vdpbf16ps"},
    "int8 quads": {"vpdpbusd"},
    # LLVM takes the one of these two that is fast on the processor, whichever it was given.
    "int16 pairs": {"vpdpwssd", "vpmaddwd"},
    "int16 pairs and add": {"vpdpwssd", "vpmaddwd"},
    "int32": {"vpmulld"},
}

WIDTHS = {AVX512: (512, 8, 3), AVX_VNNI: (256, 4, 2), AVX2: (256, 4, 2)}
"""Bits of a vector, and rows and vectors of a tile that fills the registers but for a few."""

DOTS = [
    (target, name, a)
    for target in WIDTHS
    for name in ARITHMETIC
    if ARITHMETIC[name].runs_on(target)
    for a in (Storage.IN_PLACE, Storage.PACKED)
]


def dot(target: CodeTarget, name: str, a: Storage, **rest) -> GemmPlan:
    """Whole tiles of an arithmetic, several blocks of each extent."""
    bits, rows, vectors = WIDTHS[target]
    lanes = lanes_in(bits, ARITHMETIC[name].accumulator)
    of = {"dtype": TYPES[name], **rest.pop("of", {})}
    return plan(
        4 * rows, 6 * vectors * lanes, 512, rows, vectors * lanes, lanes, mc=2 * rows, kc=256,
        target=target, a=a, b=Storage.PACKED, arithmetic=name, of=of, **rest,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("target", "name", "a"), DOTS, ids=lambda x: getattr(x, "mcpu", getattr(x, "value", x))
)
def test_arithmetic_is_its_instruction_and_no_other(target, name, a):
    p = dot(target, name, a)
    found = hot_loops(build(p).source("asm"))
    assert found
    for loop in found:
        assert set(loop.multiplies) <= INSTRUCTIONS[name], loop.multiplies
        assert loop.multiply_adds % p.tile.accumulators == 0
        assert_stays_in_registers(loop, p)


def assert_stays_in_registers(loop: Loop, p: GemmPlan) -> None:
    assert not loop.spilled_vectors and not loop.calls
    assert len(loop.vector_registers) >= p.tile.accumulators


@pytest.mark.parametrize("target", [AVX512, AVX_VNNI], ids=lambda t: t.mcpu)
def test_an_offset_costs_the_loop_no_multiply(target):
    """What mends it is in other loops, which have a row's sums and no more."""
    p = dot(target, "int8 quads", Storage.PACKED, of={"dtype": "int8"})
    assert p.offset_a
    found = hot_loops(build(p).source("asm"))
    largest = max(found, key=lambda loop: len(loop.vector_registers))
    assert largest.multiply_adds % p.tile.accumulators == 0
    for loop in found:
        assert not loop.spilled_vectors and set(loop.multiplies) == {"vpdpbusd"}
    assert_stays_in_registers(largest, p)


STREAMS = [
    ("zen5", Order.B3C2A0, (6, 2, 3)), ("zen5", Order.C3B2A0, (3, 2, 8)),
    ("zen5", Order.B3C2A0, (4, 4, 3)), ("zen5", Order.C3A2B0, (4, 3, 6)),
    ("zen5", Order.A3C2B0, (2, 3, 8)), ("haswell", Order.B3C2A0, (2, 2, 5)),
    ("haswell", Order.C3B2A0, (1, 4, 8)), ("haswell", Order.C3A2B0, (4, 2, 3)),
    ("haswell", Order.A3C2B0, (2, 1, 12)),
]  # fmt: skip
"""Tiles that keep A or B and leave one register free, or none: rows, vectors, steps."""


@pytest.mark.parametrize(("name", "order", "extents"), STREAMS, ids=str)
def test_tiles_that_keep_a_or_b_keep_it_off_the_stack(name, order, extents):
    (mr, vectors, kr), profile = extents, load_profile(name)
    lanes = profile.core.lanes(4)
    p = plan(
        40 * mr, 41 * vectors * lanes, 8 * kr, mr, vectors * lanes, lanes, kr=kr, order=order,
        target=CodeTarget.of(profile.target), a=Storage.PACKED, b=Storage.PACKED,
    )  # fmt: skip
    needed, _ = registers_of(p.tile, order)
    assert profile.core.vector_registers - 1 <= needed <= profile.core.vector_registers
    found = hot_loops(build(p).source("asm"))
    assert found
    for loop in found:
        assert loop.multiply_adds % (p.tile.accumulators * kr) == 0
        assert not loop.spilled_vectors and not loop.calls


@pytest.mark.parametrize("epilogue", ["bias+gelu", "silu+residual", "bias+tanh"])
@pytest.mark.parametrize("target", [AVX512, AVX2], ids=lambda t: t.mcpu)
def test_epilogues_leave_the_hot_loop_alone(target, epilogue):
    """No call takes the sums out of their registers, and the loop is that of the bare product."""
    bare = hot_loops(build(dot(target, "fma32", Storage.PACKED)).source("asm"))
    p = dot(target, "fma32", Storage.PACKED, of={"epilogue": epilogue})
    found = [x for x in loops(build(p).source("asm")) if x.multiply_adds]
    assert not [loop for loop in found if loop.calls]
    counts = {loop.multiply_adds for loop in found if not loop.spilled_vectors}
    assert {loop.multiply_adds for loop in bare} & counts


@pytest.mark.parametrize("target", [AVX512, AVX_VNNI], ids=lambda t: t.mcpu)
def test_requantising_leaves_the_hot_loop_alone(target):
    of = {"epilogue": "requantise", "out_dtype": "int8"}
    p = dot(target, "int8 quads", Storage.PACKED, of=of)
    found = [x for x in hot_loops(build(p).source("asm")) if "vpdpbusd" in x.multiplies]
    assert found
    for loop in found:
        assert set(loop.multiplies) == {"vpdpbusd"}
        assert_stays_in_registers(loop, p)


# Instruction sets.

AVX512_ONLY = re.compile(r"%zmm|%k[0-7]|%[xy]mm(?:1[6-9]|2\d|3[01])\b")
AVX = re.compile(r"%[yz]mm|%k[0-7]")
LATER_THAN_SSE2 = re.compile(
    r"v[a-z]\w*|p(?:mulld|blend\w*|shufb|alignr|min[su][dw]|mov[sz]x\w+|insr[bdq]|extr[bdq]|test"
    r"|abs\w)|blendv?p[sd]|round[ps][sd]|h(?:add|sub)p[sd]|dpp[sd]|insertps|extractps|packusdw"
)
NOT_VECTORS = {"verr", "verw"}

OLD_PROFILES = ("haswell", "zen3", "alder_lake", "generic_x86_64")
PRODUCTS = {
    "float32": {}, "float64": {"dtype": "float64"}, "int8": {"dtype": "int8"},
    "bfloat16": {"dtype": "bfloat16"}, "transposed": {"trans_a": True, "trans_b": True},
    "epilogue": {"epilogue": "bias+gelu", "out_dtype": "bfloat16"},
    "requantised": {"dtype": "uint8", "epilogue": "requantise", "out_dtype": "int8"},
}  # fmt: skip


@pytest.mark.parametrize("name", OLD_PROFILES)
@pytest.mark.parametrize("of", PRODUCTS.values(), ids=PRODUCTS.keys())
def test_avx2_machines_get_no_avx512(name, of):
    """The pick for the profile holds none of its instructions, and is right where it runs."""
    p = at.plan(at.matmul(37, 41, 29, **of), name, threads=1)
    built = build(p)
    assert "%ymm" in built.source("asm")
    assert not AVX512_ONLY.search(built.source("asm"))
    if runs_here(p.target):
        assert_right(p, kernel=built)


@pytest.mark.parametrize("of", PRODUCTS.values(), ids=PRODUCTS.keys())
def test_plain_x86_64_gets_sse2(of):
    """What every x86-64 processor has: no AVX, and no later SSE."""
    workload = at.matmul(13, 19, 29, **of)
    lanes = lanes_in(128, workload.accumulator)
    built = build(
        plan(13, 19, 29, 3, 2 * lanes, lanes, target=BASELINE, a=Storage.PACKED, b=Storage.PACKED,
             kc=12, of=of)
    )  # fmt: skip
    text = built.source("asm")
    assert "%xmm" in text and not AVX.search(text)
    assert not {m for m in mnemonics(text) if LATER_THAN_SSE2.fullmatch(m)} - NOT_VECTORS
    if runs_here(BASELINE):
        assert_right(built.plan, kernel=built)


@pytest.mark.parametrize("target", [AVX512, AVX_VNNI, AVX2], ids=lambda t: t.mcpu)
@pytest.mark.parametrize("name", ARITHMETIC)
def test_arithmetic_of_other_targets_is_right_here(target, name):
    if not (ARITHMETIC[name].runs_on(target) and runs_here(target)):
        pytest.skip(f"no {name} on {target.mcpu}, or it does not run here")
    bits, rows, vectors = WIDTHS[target]
    lanes = lanes_in(bits, ARITHMETIC[name].accumulator)
    assert_right(
        plan(2 * rows + 1, vectors * lanes + 3, 21, rows, vectors * lanes, lanes, target=target,
             a=Storage.PACKED, b=Storage.PACKED, arithmetic=name, of={"dtype": TYPES[name]})
    )  # fmt: skip


X86 = """
.LBB0_1:
\tvbroadcastss\t(%rax), %zmm0
\tvfmadd231ps\t%zmm0, %zmm1, %zmm17
\tvfmadd231ps\t(%rsp,%rcx), %zmm1, %zmm18
\tjne\t.LBB0_1
.LBB0_2:
\taddq\t$1, %rax
\tjne\t.LBB0_1
.LBB0_3:
\tdecq\t%rax
\tjne\t.LBB0_3
"""
ARM = """
.LBB0_1:                                // =>This Inner Loop Header
\tldr\tq2, [sp, #16]
\tfmla\tv1.4s, v2.4s, v3.s[0]
\tb.ne\t.LBB0_1
"""


def test_the_reader_reads():
    (hot,) = hot_loops(X86)
    assert (len(loops(X86)), hot.multiply_adds, hot.vector_registers) == (2, 2, {0, 1, 17, 18})
    assert len(hot.spilled_vectors) == 1
    (hot,) = hot_loops(ARM)
    assert (hot.multiply_adds, hot.vector_registers, len(hot.stack_lines)) == (1, {1, 2, 3}, 1)


DOT_PRODUCTS = """
.LBB0_1:
\tvpdpbusd\t(%rax){1to16}, %zmm0, %zmm1
\t{vex}\tvpdpbusd\t%ymm0, %ymm1, %ymm2
\tvpaddd\t%ymm0, %ymm1, %ymm2
\tcallq\texpf
\tjne\t.LBB0_1
"""


def test_the_reader_reads_dot_products_and_calls():
    (hot,) = hot_loops(DOT_PRODUCTS)
    assert hot.multiplies == {"vpdpbusd": 2} and len(hot.calls) == 1
    assert mnemonics(DOT_PRODUCTS) == {"vpdpbusd", "vpaddd", "callq", "jne"}
