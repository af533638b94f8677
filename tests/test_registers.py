"""Register tiles: the floor, the ceiling, the load ports, and the texts of refusals."""

from __future__ import annotations

import pytest

from anatune.errors import IllegalPlan
from anatune.hwprofile.profile import CoreKind
from anatune.model import registers
from anatune.plan import MicroTile, Order


def core(vector_bits: int = 512, vector_registers: int = 32) -> CoreKind:
    return CoreKind(
        name="big", count=2, threads_each=1, clock_one_hz=None, clock_all_hz=None,
        vector_bits=vector_bits, vector_registers=vector_registers, fma_per_cycle=2,
        fma_latency_cycles=4, loads_per_cycle=2, stores_per_cycle=1, caches=(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("lanes", "latency", "per_cycle", "floor"),
    [(16, 4, 2, 128), (8, 4, 2, 64), (4, 4, 4, 64), (4, 5, 1, 20), (4, 4, 0.5, 8)],
)
def test_floor(lanes: int, latency: float, per_cycle: float, floor: int) -> None:
    assert registers.floor_accumulators(lanes, latency, per_cycle) == floor


def test_wide_tiles_are_bound_by_multiply_adds_and_narrow_ones_by_loads() -> None:
    assert registers.port_bound(14, 2, 2, 2) == 1.0
    assert registers.port_bound(14, 1, 2, 2) == pytest.approx(14 / 15)
    assert registers.port_bound(14, 1, 2, 3) == 1.0


def test_legal_tiles_of_sixteen_registers() -> None:
    tiles = registers.legal_tiles(core(256, 16), 4)
    assert tiles[0] == MicroTile(mr=1, nr=8, lanes=8)
    assert MicroTile(mr=6, nr=16, lanes=8) in tiles
    assert MicroTile(mr=7, nr=16, lanes=8) not in tiles
    assert tiles[-1] == MicroTile(mr=1, nr=56, lanes=8)


@pytest.mark.parametrize(
    ("tile", "message"),
    [
        (
            MicroTile(mr=9, nr=64, lanes=16),
            "9x64 tile needs 41 of 32 registers: 9*4 accumulators + 4 for a row of B + 1 for A;"
            " take a smaller one",
        ),
        (
            MicroTile(mr=4, nr=40, lanes=16),
            "4x40 tile is not whole vectors wide: nr must be a multiple of 16",
        ),
        (
            MicroTile(mr=4, nr=32, lanes=8),
            "4x32 tile assumes vectors of 8 elements, big has 16: set lanes",
        ),
        (
            MicroTile(mr=0, nr=32, lanes=16),
            "0x32 tile has no elements: both extents must be 1 or more",
        ),
    ],
)
def test_refusals_name_their_numbers(tile: MicroTile, message: str) -> None:
    with pytest.raises(IllegalPlan) as refusal:
        registers.check_tile(tile, core(), 4)
    assert str(refusal.value) == message


def test_the_tile_that_spilled_when_measured_is_refused() -> None:
    """7x64 needs 33 of 32 registers and lost two fifths of the peak where it was run."""
    registers.check_tile(MicroTile(mr=6, nr=64, lanes=16), core(), 4)
    with pytest.raises(IllegalPlan, match="33 of 32"):
        registers.check_tile(MicroTile(mr=7, nr=64, lanes=16), core(), 4)


STAYING = {
    "C": (registers.registers_needed(4, 2), "4*2 accumulators + 2 for a row of B + 1 for A"),
    "A": (4 * 3 + 4 * 2 + 2, "4*3 for A + 4*2 for C + 2 for a row of B"),
    "B": (3 * 2 + 4 * 2 + 1, "3*2 for B + 4*2 for C + 1 for A"),
}
"""Registers of a tile of 4 rows, 2 vectors and 3 steps, by what stays in them."""


@pytest.mark.parametrize("order", Order, ids=lambda order: order.value)
def test_registers_by_what_stays(order: Order) -> None:
    tile = MicroTile(mr=4, nr=32, lanes=16, kr=1 if order.in_registers == "C" else 3)
    assert registers.registers_of(tile, order) == STAYING[order.in_registers]


def test_refusals_name_what_stays() -> None:
    tile = MicroTile(mr=4, nr=32, lanes=16, kr=6)
    registers.check_tile(MicroTile(mr=4, nr=32, lanes=16, kr=5), core(), 4, Order.C3B2A0)
    with pytest.raises(IllegalPlan) as refusal:
        registers.check_tile(tile, core(), 4, Order.C3B2A0)
    assert str(refusal.value) == (
        "4x32x6 tile needs 34 of 32 registers: 4*6 for A + 4*2 for C + 2 for a row of B;"
        " take a smaller one"
    )
    registers.check_tile(tile, core(), 4, Order.C3A2B0)  # 6*2 + 4*2 + 1


def test_a_tile_without_steps_has_no_elements() -> None:
    with pytest.raises(IllegalPlan, match="^4x32 tile has no elements"):
        registers.check_tile(MicroTile(mr=4, nr=32, lanes=16, kr=0), core(), 4, Order.C3A2B0)
