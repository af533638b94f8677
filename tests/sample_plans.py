"""Plans for tests: drawn at random, or for the machine that runs the tests."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from anatune.plan import (
    ARITHMETIC,
    VECTOR_FEATURES,
    Arithmetic,
    CacheBlocks,
    CodeTarget,
    GemmPlan,
    MicroTile,
    Order,
    Storage,
    ThreadGrid,
    arithmetics,
)
from anatune.workload import Matmul, matmul
from anatune.workload.dtypes import ELEMENT_BYTES

ANY_TARGET = CodeTarget(
    isa="x86_64", mcpu="sapphirerapids", features=("avx", "avx2", "avx512bf16", "avx512vnni", "fma")
)
"""Has the instructions of every arithmetic."""

VECTOR_BITS = {"avx512f": 512, "avx2": 256}
BASE_BITS = 128
"""Vectors that x86-64 and AArch64 always have."""

USUAL_PAIRS = (
    ("float32", "float32"), ("float64", "float64"), ("bfloat16", "bfloat16"), ("int8", "int8"),
    ("uint8", "int8"), ("int16", "int16"),
)  # fmt: skip
PAIRS = [(a, b) for a in ELEMENT_BYTES for b in ELEMENT_BYTES]

EPILOGUES = ("", "relu", "bias", "bias+relu", "scale_n", "residual", "clip", "c * row[m]")
CURVED = ("bias+gelu", "silu", "requantise")
"""Epilogues whose results are rounded."""


def plan(
    m: int, n: int, k: int, mr: int, nr: int, lanes: int, *, kr=1, mc=None, nc=None, kc=None,
    of=None, **rest,
) -> GemmPlan:  # fmt: skip
    """A plan in few words; blocks that are not given cover the product, ``of`` are options of the
    workload, and the arithmetic is the first that does."""
    blocks = CacheBlocks(mc=mc or m, nc=nc or n, kc=kc or k)
    tile = MicroTile(mr=mr, nr=nr, lanes=lanes, kr=kr)
    rest.setdefault("target", ANY_TARGET)
    constant_b = rest.get("b") is Storage.PACKED_AHEAD
    workload = matmul(m, n, k, constant_b=constant_b, **(of or {}))
    if "arithmetic" not in rest:
        able = able_for(workload, rest["target"], rest.get("order", Order.B3A2C0))
        rest["arithmetic"] = able[0].name
    return GemmPlan(workload=workload, tile=tile, blocks=blocks, **rest)


def able_for(workload: Matmul, target: CodeTarget, order: Order) -> list[Arithmetic]:
    """What computes ``workload`` in ``order``: the model's choices, then what else there is."""
    chosen = arithmetics(workload, target)
    every = [a for a in ARITHMETIC.values() if a.computes(workload) and a.runs_on(target)]
    in_order = [*chosen, *(a for a in every if a not in chosen)]
    return [a for a in in_order if a.group == 1 or order.in_registers == "C"]


def host_target() -> CodeTarget:
    """This machine's instruction set as LLVM sees it; needs TVM."""
    from anatune.hwprofile import Target
    from anatune.measure.host import llvm_facts

    facts = llvm_facts()
    isa = facts.triple.split("-")[0]
    return CodeTarget.of(
        Target(isa=isa, mcpu=facts.mcpu, triple=facts.triple, features=facts.features)
    )


def host_bits() -> int:
    """Bits of this machine's vectors."""
    features = VECTOR_FEATURES.intersection(host_target().features)
    return next((bits for name, bits in VECTOR_BITS.items() if name in features), BASE_BITS)


def lanes_in(bits: int, accumulator: str) -> int:
    """Sums of a type in a vector of ``bits``."""
    return max(1, bits // (8 * ELEMENT_BYTES[accumulator]))


def host_lanes(accumulator: str = "float32") -> int:
    """Sums of a type in one vector of this machine."""
    return lanes_in(host_bits(), accumulator)


@st.composite
def workloads(draw, most: int = 5000, epilogues=EPILOGUES) -> Matmul:
    """Any workload, extents up to ``most``: types, layouts, batches, factors, epilogues."""
    sometimes = st.sampled_from([False, False, True])
    dtype, dtype_b = draw(st.sampled_from(USUAL_PAIRS) | st.sampled_from(PAIRS))
    extents = {e: draw(st.integers(1, most)) for e in ("m", "n", "k")}
    options = {name: draw(sometimes) for name in ("trans_a", "trans_b", "constant_b")}
    batch = draw(st.sampled_from([1, 1, 1, 2, 3]))
    if batch > 1:
        options |= {name: draw(sometimes) for name in ("broadcast_a", "broadcast_b")}
    if draw(sometimes):
        m, n, k = extents.values()
        stored = {"lda": m if options["trans_a"] else k, "ldb": k if options["trans_b"] else n}
        stored["ldc"] = n
        options |= {name: row + draw(st.integers(0, 5)) for name, row in stored.items()}
    if draw(sometimes):
        options["alpha"] = draw(st.sampled_from([-1, 2]))
        options["beta"] = draw(st.sampled_from([0, 1, -3]))
    if draw(sometimes):
        options["out_dtype"] = draw(st.sampled_from(sorted(ELEMENT_BYTES)))
    epilogue = draw(st.sampled_from(epilogues))
    return matmul(
        dtype=dtype, dtype_b=dtype_b, batch=batch, epilogue=epilogue, **extents, **options
    )


@st.composite
def plans(
    draw,
    target: CodeTarget = ANY_TARGET,
    bits=st.sampled_from([32, 128, 256, 512]),
    most: int = 5000,
    epilogues=EPILOGUES,
    tallest: int = 9,
) -> GemmPlan:
    """Any plan of any workload: blocks are multiples of the tile, or cover the thread.

    ``tallest``: most rows of a tile; LLVM takes long for large ones.
    """
    workload = draw(workloads(most, epilogues))
    order = draw(st.sampled_from(list(Order)))
    arithmetic = draw(st.sampled_from(able_for(workload, target, order)))
    width = draw(bits) if arithmetic.group == 1 else max(BASE_BITS, draw(bits))
    tile = draw(tiles(order, lanes_in(width, arithmetic.accumulator), tallest))
    blocks = draw(cache_blocks(workload, tile, max(tile.kr, arithmetic.group)))
    grid = ThreadGrid(
        rows=draw(st.integers(1, 3)),
        columns=draw(st.integers(1, 3)),
        depth=draw(st.sampled_from([1, 1, 2, 3])) if order.in_registers == "C" else 1,
        batch=draw(st.integers(1, min(2, workload.batch))),
    )
    packed = GemmPlan(
        workload=workload, target=target, tile=tile, blocks=blocks, arithmetic=arithmetic.name,
        order=order, a=Storage.PACKED, b=Storage.PACKED, prefetch_c=draw(st.booleans()), grid=grid,
    )  # fmt: skip
    a, b = draw(st.sampled_from(storages(packed)))
    return replace(packed, a=a, b=b)


@st.composite
def tiles(draw, order: Order, lanes: int, tallest: int) -> MicroTile:
    steps = 1 if order.in_registers == "C" else draw(st.integers(1, 6))
    vectors = draw(st.integers(1, 3))
    rows = draw(st.integers(1, tallest))
    return MicroTile(mr=rows, nr=lanes * vectors, lanes=lanes, kr=steps)


@st.composite
def cache_blocks(draw, workload: Matmul, tile: MicroTile, k_unit: int) -> CacheBlocks:
    def block(unit: int, extent: int) -> int:
        return draw(st.integers(1, 4)) * unit if draw(st.booleans()) else extent

    return CacheBlocks(
        mc=block(tile.mr, workload.m),
        nc=block(tile.nr, workload.n),
        kc=block(k_unit, workload.k),
    )


def storages(p: GemmPlan) -> list[tuple[Storage, Storage]]:
    """All pairs of storages that ``p`` would be legal with."""
    return [(a, b) for a in Storage for b in Storage if p.may_store(a, b)]
