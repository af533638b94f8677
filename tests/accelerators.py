"""Descriptions of accelerators for tests: any that could be, and the shipped ones by file."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

from anatune.hwprofile import Profile, Target, load_profile
from anatune.hwprofile.accelerator import Accelerator, DmaEngine, Scratchpad, TileOperation

FOLDER = Path(__file__).parents[1] / "hwprofiles"
NPU = load_profile(FOLDER / "described_npu.yaml")
GEMMINI = load_profile(FOLDER / "gemmini.yaml")


def profile_of(found: Accelerator) -> Profile:
    target = Target(isa="none", mcpu="none")
    return Profile(name="tried", title="A description of a test", target=target, accelerator=found)


@st.composite
def descriptions(draw: st.DrawFn) -> Profile:
    """Small machines: one, two or three scratchpads, one to three DMA engines, any rates."""
    rows, columns = draw(st.sampled_from([1, 2, 4, 8])), draw(st.sampled_from([1, 2, 4, 8]))
    interval = float(draw(st.integers(1, 12)))
    pipeline = interval + draw(st.integers(0, 30))
    operation = TileOperation(
        dtype="int8", rows=rows, columns=columns, depth=draw(st.sampled_from([1, 2, 4, 8])),
        interval_cycles=interval,
    )  # fmt: skip
    held = draw(st.sampled_from([("abc",), ("ab", "c"), ("a", "bc"), ("a", "b", "c")]))
    pads = tuple(
        Scratchpad(
            name=f"pad_{names}", holds=tuple(names), size_bytes=2 ** draw(st.integers(11, 14)),
            banks=draw(st.sampled_from([1, 2, 4, 8])),
            bank_bytes_per_cycle=float(draw(st.sampled_from([8, 16, 64, 256]))),
        )
        for names in held
    )  # fmt: skip
    moves = draw(st.sampled_from([("both",), ("in", "out"), ("both", "both"), ("in", "in", "out")]))
    engines = tuple(
        DmaEngine(
            name=f"dma_{i}", moves=way, bytes_per_cycle=float(draw(st.sampled_from([1, 2, 4, 16]))),
            start_cycles=float(draw(st.integers(0, 40))),
            burst_bytes=draw(st.sampled_from([1, 4, 16, 64])),
        )
        for i, way in enumerate(moves)
    )  # fmt: skip
    return profile_of(
        Accelerator(
            clock_hz=1e9, pipeline_cycles=pipeline,
            accumulate_cycles=float(draw(st.integers(1, int(pipeline)))),
            operations=(operation,), scratchpads=pads, dma=engines,
        )
    )  # fmt: skip
