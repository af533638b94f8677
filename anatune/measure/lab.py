"""Where probes are built and run, and how long they take (rank 6)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from anatune.codegen.link import write_loadable
from anatune.codegen.probes import Probe, build_probe
from anatune.measure.worker import Worker
from anatune.plan import CodeTarget

SAMPLES = 5
"""Runs of each probe in a round; the fastest counts: whatever else runs can only slow it down."""

TARGET_S = 0.004
"""Length of one probe run, seconds: long against the timer, and all of them take but seconds."""

GUESSED_HZ = 2e9
"""Clock that run lengths are computed from; a real clock twice as high halves them: no harm."""

HANG_S = 60.0
"""A probe that has not answered after this many seconds is taken to hang."""


@dataclass
class Lab:
    """Builds each probe once, runs it in a worker, and remembers the fastest run of all rounds."""

    target: CodeTarget
    worker: Worker
    folder: Path
    paths: dict[Probe, str] = field(default_factory=dict)
    fastest: dict[Probe, float] = field(default_factory=dict)

    def seconds(self, probe: Probe, chase_step: int = 0) -> float:
        if probe not in self.paths:
            executable = build_probe(probe, self.target)
            self.paths[probe] = write_loadable(executable, self.folder / f"probe{len(self.paths)}")
        arguments = (self.paths[probe], probe.dtype, probe.data_elements, probe.out_elements)
        times = self.worker.call("times", *arguments, chase_step, SAMPLES, timeout_s=HANG_S)
        self.fastest[probe] = min(*times, self.fastest.get(probe, times[0]))
        return self.fastest[probe]


def digits(value: float, number: int = 4) -> float:
    """``value`` without digits that another run would not repeat."""
    return float(f"{value:.{number}g}")
