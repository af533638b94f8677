"""Every unit that anatune reads, every text that it refuses, and the way back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anatune import units
from anatune.errors import AnatuneError, UnitError

READ = [
    (units.CAPACITY, "0 B", 0),
    (units.CAPACITY, "64 B", 64),
    (units.CAPACITY, "48 KiB", 48 * 1024),
    (units.CAPACITY, "48KiB", 48 * 1024),
    (units.CAPACITY, "  48 KiB ", 48 * 1024),
    (units.CAPACITY, "+1 MiB", 2**20),
    (units.CAPACITY, "27.5 MiB", 28835840),
    (units.CAPACITY, "1.5 KiB", 1536),
    (units.CAPACITY, "2 GiB", 2**31),
    (units.CAPACITY, "1 TiB", 2**40),
    (units.CAPACITY, "1e3 B", 1000),
    (units.BANDWIDTH, "1 B/s", 1.0),
    (units.BANDWIDTH, "2 kB/s", 2e3),
    (units.BANDWIDTH, "900 MB/s", 9e8),
    (units.BANDWIDTH, "110 GB/s", 110e9),
    (units.BANDWIDTH, "3.35 TB/s", 3.35e12),
    (units.BYTES_PER_CYCLE, "64 B/cycle", 64.0),
    (units.FLOP_PER_CYCLE, "4096 FLOP/cycle", 4096),
    (units.CLOCK, "50 Hz", 50.0),
    (units.CLOCK, "1 kHz", 1e3),
    (units.CLOCK, "1410 MHz", 1.41e9),
    (units.CLOCK, "2.4 GHz", 2.4e9),
    (units.TIME, "1 s", 1.0),
    (units.TIME, "5 ms", 5e-3),
    (units.TIME, "3 us", 3e-6),
    (units.TIME, "80 ns", 80e-9),
    (units.TIME, "250 ps", 250e-12),
    (units.CYCLES, "4 cycles", 4.0),
    (units.CYCLES, "1 cycle", 1.0),
    (units.BITS, "512 bit", 512),
    (units.BITS, "128 bits", 128),
    (units.FLOP_RATE, "10 FLOP/s", 10.0),
    (units.FLOP_RATE, "10 MFLOP/s", 1e7),
    (units.FLOP_RATE, "272 GFLOP/s", 272e9),
    (units.FLOP_RATE, "1.5 TFLOP/s", 1.5e12),
    (units.FLOP_RATE, "2 PFLOP/s", 2e15),
    (units.ENERGY, "12 mJ", 0.012),
    (units.ENERGY, "1 J", 1.0),
    (units.ENERGY, "7 uJ", 7e-6),
    (units.ENERGY, "7 nJ", 7e-9),
    (units.ENERGY, "7 pJ", 7e-12),
    (units.ENERGY, "7 kJ", 7e3),
    (units.POWER, "71.8 W", 71.8),
    (units.POWER, "2 kW", 2e3),
    (units.POWER, "5 mW", 5e-3),
    (units.POWER, "5 uW", 5e-6),
    (units.POWER, "5 nW", 5e-9),
    (units.ENERGY_PER_BYTE, "162 pJ/B", 162.0),
    (units.ENERGY_PER_BYTE, "0.162 nJ/B", 162.0),
    (units.ENERGY_PER_FLOP, "1.31 pJ/FLOP", 1.31),
    (units.ENERGY_PER_FLOP, "1 nJ/FLOP", 1000.0),
]

REFUSED = [
    (units.CAPACITY, "48 kB", "kB is read as 1000 and as 1024: write KiB"),
    (units.CAPACITY, "48 KB", "write KiB"),
    (units.CAPACITY, "1 MB", "write MiB"),
    (units.CAPACITY, "1 GB", "write GiB"),
    (units.CAPACITY, "1 TB", "write TiB"),
    (units.CAPACITY, "48K", "write KiB"),
    (units.CAPACITY, "1 M", "write MiB"),
    (units.CAPACITY, "1 G", "write GiB"),
    (units.CAPACITY, "48 kib", "did you mean KiB?"),
    (units.CAPACITY, "1 MIB", "did you mean MiB?"),
    (units.CAPACITY, "1.3 B", "not a whole number of B"),
    (units.CAPACITY, "48", "has no unit: write for example '48 KiB'"),
    (units.CAPACITY, 48, "has no unit"),
    (units.CAPACITY, None, "has no unit"),
    (units.CAPACITY, True, "has no unit"),
    (units.CAPACITY, "-4 KiB", "is negative"),
    (units.CAPACITY, "1_0 KiB", "not known"),
    (units.CAPACITY, "KiB", "not a number with a unit"),
    (units.CAPACITY, "", "not a number with a unit"),
    (units.CAPACITY, "4 KiB MiB", "not known"),
    (units.CAPACITY, "٤ KiB", "not a number"),
    (units.CAPACITY, "9" * 30 + " B", "not known"),
    (units.CAPACITY, "1" + " " * 80 + "B", "not a number with a unit"),
    (units.BANDWIDTH, "50 GiB/s", "rates are decimal: write GB/s"),
    (units.BANDWIDTH, "50 KiB/s", "write kB/s"),
    (units.BANDWIDTH, "50 GB", "did you mean GB/s?"),
    (units.BANDWIDTH, "64 B/cycle", "not known"),
    (units.BYTES_PER_CYCLE, "64 B/s", "not known"),
    (units.CLOCK, "2.4 Ghz", "did you mean GHz?"),
    (units.CLOCK, "nan GHz", "not a number"),
    (units.CLOCK, "inf GHz", "not a number"),
    (units.CLOCK, "1e999 GHz", "not known"),
    (units.TIME, "3 µs", "not known"),
    (units.TIME, "1:30 s", "not known"),
    (units.CYCLES, "4", "has no unit"),
    (units.CYCLES, 4, "has no unit"),
    (units.BITS, "0.5 bit", "not a whole number of bit"),
    (units.FLOP_RATE, "2 GFLOPS", "did you mean GFLOP/s?"),
]


@pytest.mark.parametrize(("quantity", "text", "value"), READ)
def test_reads(quantity: units.Quantity, text: str, value: float) -> None:
    parsed = quantity.parse(text)
    assert parsed == value
    assert isinstance(parsed, int if quantity.whole else float)


def test_the_table_reads_every_unit() -> None:
    tried = {(quantity, text.lstrip(" +-0123456789.").rstrip()) for quantity, text, _ in READ}
    tried.add((units.CAPACITY, "B"))  # the lines with an exponent hide it
    expected = {(quantity, unit) for quantity in units.QUANTITIES for unit in quantity.units}
    assert expected - tried == set()


@pytest.mark.parametrize(("quantity", "text", "why"), REFUSED)
def test_refuses_with_the_mend(quantity: units.Quantity, text: object, why: str) -> None:
    with pytest.raises(UnitError) as caught:
        quantity.parse(text)
    message = str(caught.value)
    assert why in message
    assert message.startswith(quantity.name)
    assert "\n" not in message and len(message) < 200


def test_a_giant_is_named_without_its_digits() -> None:
    with pytest.raises(UnitError, match="a number with more than 30 digits"):
        units.CAPACITY.parse(10**5000)


def test_unit_errors_belong_to_the_tree() -> None:
    assert issubclass(UnitError, AnatuneError) and issubclass(UnitError, ValueError)


@pytest.mark.parametrize(
    ("quantity", "value", "text"),
    [
        (units.CAPACITY, 49152, "48 KiB"),
        (units.CAPACITY, 28835840, "27.5 MiB"),
        (units.CAPACITY, 49153, "49153 B"),
        (units.CAPACITY, 0, "0 B"),
        (units.CLOCK, 4.25e9, "4.25 GHz"),
        (units.CLOCK, 4, "4 Hz"),
        (units.TIME, 3e-6, "3 us"),
        (units.TIME, 0.0, "0.0 s"),
        (units.BITS, 512, "512 bit"),
        (units.CYCLES, 4.0, "4 cycles"),
        (units.FLOP_RATE, 272e9, "272 GFLOP/s"),
    ],
)
def test_writes_exact_text(quantity: units.Quantity, value: float, text: str) -> None:
    assert quantity.text(value) == text


@pytest.mark.parametrize(
    ("quantity", "value", "text"),
    [
        (units.CAPACITY, 1000, "1000 B"),
        (units.CAPACITY, 49152, "48 KiB"),
        (units.CAPACITY, 28835840, "27.5 MiB"),
        (units.CAPACITY, 2**50, "1024 TiB"),
        (units.BANDWIDTH, 112.345e9, "112 GB/s"),
        (units.TIME, 12.3456e-6, "12.3 us"),
        (units.TIME, 4e-13, "0.4 ps"),
        (units.TIME, 0.0, "0 s"),
        (units.TIME, 3600.0, "3600 s"),
        (units.TIME, 999.9e-6, "1 ms"),
        (units.CAPACITY, 2**20 - 1, "1 MiB"),
    ],
)
def test_shows_three_digits(quantity: units.Quantity, value: float, text: str) -> None:
    assert quantity.show(value) == text


@given(st.sampled_from(units.QUANTITIES), st.floats(0, 1e90), st.integers(0, 2**63))
def test_text_parses_back_equal(quantity: units.Quantity, real: float, whole: int) -> None:
    value = whole if quantity.whole else real
    if 0 < value < 1e-90:
        value = 0.0
    assert quantity.parse(quantity.text(value)) == value


@given(st.sampled_from(units.QUANTITIES), st.floats(1e-12, 1e18))
def test_shown_value_is_near(quantity: units.Quantity, value: float) -> None:
    number, unit = quantity.show(value).split(" ")
    assert math.isclose(float(number) * float(quantity.units[unit]), value, rel_tol=0.005)


@given(st.sampled_from(units.QUANTITIES), st.text() | st.integers() | st.floats() | st.none())
def test_anything_else_is_refused_not_crashed_on(quantity: units.Quantity, text: object) -> None:
    try:
        value = quantity.parse(text)
    except UnitError as error:
        assert "\n" not in str(error)
    else:
        assert math.isfinite(value) and value >= 0
