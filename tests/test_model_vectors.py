"""Published and computed check values of the register and cache steps, one row of a table each."""

from __future__ import annotations

import csv
from math import floor
from pathlib import Path

import pytest

from anatune.hwprofile.profile import CacheLevel
from anatune.model.cache_blocks import (
    kc_half_l1,
    kc_integer_program,
    kc_ratio,
    mc_occupied,
    nc_occupied,
    round_down,
)
from anatune.model.registers import near_square_tile, port_bound, registers_needed
from anatune.plan import MicroTile

Row = dict[str, str]

TABLE = Path(__file__).parent / "data" / "low2016.csv"
LEVEL_COLUMNS = ("l1", "l2", "l3")


def read_rows() -> list[Row]:
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def rows_with(*columns: str) -> list:
    rows = [row for row in read_rows() if all(row[column] for column in columns)]
    return [pytest.param(row, id=f"{row['case']}-{row['tile']}") for row in rows]


def tile_of(row: Row) -> MicroTile:
    mr, nr = map(int, row["tile"].split("x"))
    return MicroTile(mr=mr, nr=nr, lanes=int(row["lanes"] or 1))


def by_rows(row: Row) -> tuple[int, int]:
    """Broadcast elements and vectors of one step along k, whichever way the vectors lie."""
    tile = tile_of(row)
    if row["along"] == "m":
        return tile.nr, -(-tile.mr // tile.lanes)
    return tile.mr, tile.vectors


def level_of(row: Row, column: str) -> CacheLevel:
    ways, sets, line_bytes = map(int, row[column].split(";"))
    return CacheLevel(
        level=1 + LEVEL_COLUMNS.index(column), ways=ways, sets=sets, line_bytes=line_bytes, cores=1
    )


def kc_of(row: Row, rule=kc_ratio) -> int:
    return rule(level_of(row, "l1"), tile_of(row), int(row["element_bytes"]))


def mc_of(row: Row) -> int:
    return mc_occupied(level_of(row, "l2"), tile_of(row), kc_of(row), int(row["element_bytes"]))


def nc_of(row: Row, mc: int) -> int:
    return nc_occupied(level_of(row, "l3"), mc, kc_of(row), int(row["element_bytes"]))


def near_square(row: Row) -> str:
    along, other = near_square_tile(
        int(row["lanes"]), float(row["latency"]), float(row["per_cycle"])
    )
    return f"{along}x{other}"


@pytest.mark.parametrize("row", rows_with("latency"))
def test_near_square_tile(row: Row) -> None:
    assert near_square(row) == row["tile"]


@pytest.mark.parametrize("row", rows_with("registers"))
def test_register_and_port_columns(row: Row) -> None:
    mr, vectors = by_rows(row)
    per_cycle = float(row["per_cycle"])
    fma_cycles, load_cycles = mr * vectors / per_cycle, (mr + vectors) / 2
    assert mr * vectors == int(row["accumulators"])
    assert registers_needed(mr, vectors) == int(row["registers"])
    assert (fma_cycles, load_cycles) == (float(row["fma_cycles"]), float(row["load_cycles"]))
    bound = port_bound(mr, vectors, per_cycle, 2)
    if row["bound"] == "1":
        assert bound == 1
    else:
        assert f"{bound:.0%}".replace("%", " %") == row["bound"]


@pytest.mark.parametrize("row", rows_with("kc"))
def test_kc_by_ratio(row: Row) -> None:
    assert kc_of(row) == int(row["kc"])


@pytest.mark.parametrize("row", rows_with("kc_ip"))
def test_kc_by_integer_program(row: Row) -> None:
    assert kc_of(row, kc_integer_program) == int(row["kc_ip"])


@pytest.mark.parametrize("row", rows_with("kc_half"))
def test_kc_by_half_of_l1(row: Row) -> None:
    assert kc_of(row, kc_half_l1) == int(row["kc_half"])


@pytest.mark.parametrize("row", rows_with("mc"))
def test_mc_before_rounding(row: Row) -> None:
    assert mc_of(row) == int(row["mc"])


@pytest.mark.parametrize("row", rows_with("mc", "nc"))
def test_nc_before_rounding(row: Row) -> None:
    assert nc_of(row, mc_of(row)) == int(row["nc"])


@pytest.mark.parametrize("row", rows_with("mc_rounded"))
def test_mc_rounded_and_the_nc_that_follows(row: Row) -> None:
    mc = round_down(mc_of(row), tile_of(row).mr)
    assert mc == int(row["mc_rounded"])
    assert f"{nc_of(row, mc) / 1000:.1f}k" == row["nc"]


@pytest.mark.parametrize("row", rows_with("published"))
def test_published_values_match_where_expected(row: Row) -> None:
    """A row that is said to differ and does not is as wrong as one that should match."""
    for name, value in (item.split("=") for item in row["published"].split()):
        if row["expect"] == "equal":
            ours = {"kc": kc_of, "mc": mc_of}[name](row)
            assert ours == floor(float(value)), name
        else:
            assert row["expect"].startswith("differs, because "), row["expect"]
            ours = near_square(row) if name == "tile" else row[name]
            assert ours and ours != value, name


def test_every_row_says_what_to_expect() -> None:
    for row in read_rows():
        kind = row["expect"].split(",")[0]
        assert (kind == "computed") == (not row["published"]), row
        assert kind in ("computed", "equal", "differs"), row
        assert row["source"], row
