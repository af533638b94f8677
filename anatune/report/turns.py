"""Turn and turn about: whoever is compared runs in short batches, so a drift meets all (rank 9)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from anatune.errors import WorkerError
from anatune.measure.outcome import Timing

SETTLE_S = 0.03
"""Pause before a turn, seconds: idle threads of OpenBLAS spin for 2^26 cycles before they sleep,
those of TVM's pool for some milliseconds; two libraries must not spin at each other."""

LEAST_CALL_S = 1e-9
"""What a call is taken to last at least, seconds, when the length of a batch is computed."""

LONG_S = 0.5
"""A call that takes so many seconds is not slow by chance, and few can be waited for."""


@dataclass
class Entrant:
    """Somebody who takes turns: ``batch(calls)`` gives seconds per call over so many calls."""

    library: str
    setting: str
    batch: Callable[[int], float] | None = None  # None: it failed, and `note` says how
    note: str = ""
    calls: int = 0  # per batch; 0 as long as nobody knows
    samples: list[float] = field(default_factory=list)
    tuning_s: float | None = None
    end: Callable[[], Any] = lambda: None  # gives back what it holds, such as its process

    @property
    def timing(self) -> Timing | None:
        return Timing(tuple(self.samples)) if self.samples else None

    @property
    def seconds(self) -> float | None:
        """Median of the samples; None where there are none."""
        return self.timing.median_s if self.timing else None


def take_turns(
    entrants: Sequence[Entrant],
    rounds: int,
    batch_s: float,
    rest: Callable[[float], Any] = time.sleep,
    patience: float = math.inf,
) -> None:
    """``rounds`` batches of about ``batch_s`` of each entrant, every second round backwards.

    An entrant whose worker fails takes no further turn, nor does one whose turns take ``patience``
    times as long as the fastest; what it has taken counts.
    """
    playing = list(entrants)
    for number in range(rounds):
        for entrant in playing if number % 2 == 0 else reversed(playing):
            if entrant.batch is not None:
                rest(SETTLE_S)
                _take_turn(entrant, batch_s)
        best_s = min((min(e.samples) for e in playing if e.samples), default=math.inf)
        playing = [e for e in playing if not _hopeless(e, patience * best_s)]


def _hopeless(entrant: Entrant, limit_s: float) -> bool:
    """Whether its fastest turn was too slow; one disturbed turn is no proof, a long one is."""
    samples = entrant.samples
    return bool(samples) and min(samples) > limit_s and (len(samples) > 1 or samples[0] > LONG_S)


def _take_turn(entrant: Entrant, batch_s: float) -> None:
    assert entrant.batch is not None
    try:
        if not entrant.calls:
            call_s = max(entrant.batch(1), LEAST_CALL_S)
            entrant.calls = max(1, math.ceil(batch_s / call_s))
            if entrant.calls == 1:  # that was a batch
                entrant.samples.append(call_s)
                return
        entrant.samples.append(entrant.batch(entrant.calls))
    except WorkerError as error:
        entrant.note, entrant.batch = str(error), None


def fastest(entrants: Iterable[Entrant]) -> Entrant | None:
    """The entrant of the smallest median; None where nobody has a sample."""
    timed = (entrant for entrant in entrants if entrant.samples)
    return min(timed, key=lambda entrant: entrant.seconds or math.inf, default=None)
