"""Long epilogues of tiles that keep A: over blocks of C whose sums are complete."""

from __future__ import annotations

import pytest

pytest.importorskip("tvm")

import anatune as at  # noqa: E402
from anatune.codegen.build import build  # noqa: E402
from anatune.codegen.call import CheckedCall  # noqa: E402
from anatune.measure import verify  # noqa: E402
from anatune.measure.inputs import operands, untouched  # noqa: E402
from anatune.plan import (  # noqa: E402
    CacheBlocks,
    CodeTarget,
    GemmPlan,
    MicroTile,
    Order,
    ThreadGrid,
)

LANES = 4

LONG = "gelu(c * 0.1 + bias[n]) + res[m, n] * row[m]"

ORDERS = [order for order in Order if order.in_registers == "A"]


def plan(order, workload, **more):
    target = CodeTarget.of(at.load_profile("generic_x86_64").target)
    tile = MicroTile(mr=3, nr=8, lanes=LANES, kr=2)
    blocks = CacheBlocks(mc=6, nc=24, kc=8)
    return GemmPlan(
        workload=workload, target=target, tile=tile, blocks=blocks, order=order, **more
    )


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.value)
@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 33, 19), (13, 64, 8), (6, 24, 8), (20, 131, 17)])
@pytest.mark.parametrize("threads", [1, 2])
def test_results_are_right(order, shape, threads):
    w = at.matmul(*shape, epilogue=LONG, batch=2)
    grid = ThreadGrid(rows=threads) if shape[0] > 3 else ThreadGrid()
    made = plan(order, w, grid=grid)
    assert made.finishes_blocks and not made.keeps_sums_apart
    inputs, c = operands(w), untouched(w.output)
    CheckedCall(made, build(made).function)(*inputs.values(), out=c)
    verify.check(w, inputs, c)


def test_only_where_c_can_hold_the_sums():
    order = ORDERS[0]
    assert not plan(order, at.matmul(8, 8, 8, epilogue="relu")).finishes_blocks
    assert not plan(order, at.matmul(8, 8, 8, epilogue="gelu", beta=1.0)).finishes_blocks
    assert not plan(order, at.matmul(8, 8, 8, epilogue="gelu", out_dtype="float64")).finishes_blocks
