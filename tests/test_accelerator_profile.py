"""Descriptions of accelerators: read, written back, refused where they contradict themselves."""

from __future__ import annotations

import pytest
from accelerators import FOLDER, GEMMINI, NPU

from anatune.errors import ProfileError
from anatune.hwprofile import dump_profile, parse_profile

TEXT = (FOLDER / "described_npu.yaml").read_text()


@pytest.mark.parametrize("profile", [GEMMINI, NPU], ids=lambda p: p.name)
def test_round_trip(profile):
    assert parse_profile(dump_profile(profile), profile.name) == profile


def test_facts_of_gemmini():
    found = GEMMINI.accelerator
    assert found is not None and GEMMINI.cores == () and GEMMINI.gpu is None
    (operation,) = found.operations
    assert (operation.rows, operation.columns, operation.depth) == (16, 16, 16)
    assert found.holder("a") is found.holder("b") is found.scratchpads[0]
    assert (found.holder("a").size_bytes, found.holder("c").size_bytes) == (262144, 65536)
    assert [engine.moves for engine in found.dma] == ["in", "out"]


def test_unknown_energies_are_missing_and_no_probe_finds_them():
    assert "accelerator.dma.reader.energy" in GEMMINI.missing
    assert GEMMINI.missing_note.endswith("add them to the file")
    assert NPU.missing == ()


REFUSED = {
    "isa": ("isa: none", "isa: x86_64", "x86_64 does not go with accelerator"),
    "held twice": ("holds: [c]", "holds: [b, c]", "each of a, b and c is held by one scratchpad"),
    "held by none": ("holds: [a, b]", "holds: [a]", "each of a, b and c is held by one scratchpad"),
    "banks": ("banks: 16", "banks: 24", "1 MiB does not divide into 24 banks"),
    "no way out": ("moves: both", "moves: in", "none moves out"),
    "slow sums": ("value: 8 cycles", "value: 65 cycles", "accumulate: is more than pipeline"),
    "interval": ("interval: 32 cycles", "interval: 99 cycles", "interval: is more than pipeline"),
    "unknown way": ("moves: both", "moves: sideways", "not one of in, out, both"),
    "total": ("value: 1024", "value: 1000", "the facts give 1024"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses(case):
    old, new, why = REFUSED[case]
    assert old in TEXT
    with pytest.raises(ProfileError) as caught:
        parse_profile(TEXT.replace(old, new), "described_npu")
    everything = " ".join([str(caught.value)])
    assert why in everything
