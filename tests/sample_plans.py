"""Plans for tests: drawn at random, or for the machine that runs the tests."""

from __future__ import annotations

from hypothesis import strategies as st

from anatune.plan import CacheBlocks, CodeTarget, GemmPlan, MicroTile, Storage, ThreadGrid
from anatune.workload import Matmul, matmul
from anatune.workload.matmul import ELEMENT_BYTES

ANY_TARGET = CodeTarget(isa="x86_64", mcpu="haswell")
FLOAT_BITS = 32
VECTOR_BITS = {"avx512f": 512, "avx2": 256}
BASE_BITS = 128
"""Vectors that x86-64 and AArch64 always have."""


def plan(
    m: int, n: int, k: int, mr: int, nr: int, lanes: int, *, mc=None, nc=None, kc=None, **rest
) -> GemmPlan:
    """A plan in few words; blocks that are not given cover the product."""
    blocks = CacheBlocks(mc=mc or m, nc=nc or n, kc=kc or k)
    tile = MicroTile(mr=mr, nr=nr, lanes=lanes)
    rest.setdefault("target", ANY_TARGET)
    constant_b = rest.get("b") is Storage.PACKED_AHEAD
    workload = matmul(m, n, k, constant_b=constant_b)
    return GemmPlan(workload=workload, tile=tile, blocks=blocks, **rest)


def host_target() -> CodeTarget:
    """This machine's instruction set as LLVM sees it; needs TVM."""
    from anatune.hwprofile import Target
    from anatune.measure.host import llvm_facts

    facts = llvm_facts()
    isa = facts.triple.split("-")[0]
    return CodeTarget.of(
        Target(isa=isa, mcpu=facts.mcpu, triple=facts.triple, features=facts.features)
    )


def host_lanes() -> int:
    """Elements of float32 in one vector of this machine."""
    features = set(host_target().features)
    bits = next((bits for name, bits in VECTOR_BITS.items() if name in features), BASE_BITS)
    return bits // FLOAT_BITS


@st.composite
def plans(
    draw, target: CodeTarget = ANY_TARGET, lanes=st.sampled_from([1, 4, 8, 16]), most: int = 5000
) -> GemmPlan:
    """Any plan, extents up to ``most``: blocks are multiples of the tile, or cover the thread."""
    extents = {e: draw(st.integers(1, most)) for e in ("m", "n", "k")}
    b = draw(st.sampled_from(list(Storage)))
    constant_b = b is Storage.PACKED_AHEAD or draw(st.booleans())
    dtype = draw(st.sampled_from(sorted(ELEMENT_BYTES)))
    workload = Matmul(dtype=dtype, constant_b=constant_b, **extents)
    width = draw(lanes)
    tile = MicroTile(mr=draw(st.integers(1, 9)), nr=width * draw(st.integers(1, 3)), lanes=width)
    blocks = CacheBlocks(
        mc=draw(st.integers(1, 4)) * tile.mr if draw(st.booleans()) else workload.m,
        nc=draw(st.integers(1, 4)) * tile.nr if draw(st.booleans()) else workload.n,
        kc=draw(st.integers(1, workload.k)),
    )
    return GemmPlan(
        workload=workload,
        target=target,
        tile=tile,
        blocks=blocks,
        a=draw(st.sampled_from([Storage.IN_PLACE, Storage.PACKED])),
        b=b,
        prefetch_c=draw(st.booleans()),
        grid=ThreadGrid(rows=draw(st.integers(1, 4)), columns=draw(st.integers(1, 3))),
    )
