"""The model against what the compiler made of it: multiply-adds, registers, the right vectors.

Everything is cross-compiled: no test here needs the machine that it compiles for.
"""

from __future__ import annotations

import pytest

pytest.importorskip("tvm")

from assembly import hot_loops, loops  # noqa: E402
from sample_plans import plan  # noqa: E402

import anatune as at  # noqa: E402
from anatune.codegen.build import Kernel, build  # noqa: E402
from anatune.hwprofile import load_profile  # noqa: E402
from anatune.model.registers import registers_needed  # noqa: E402
from anatune.plan import CodeTarget, GemmPlan, Storage  # noqa: E402

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
