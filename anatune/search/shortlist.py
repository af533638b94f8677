"""The default search: the model's shortlist, then its order, in waves (rank 7.5)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

from anatune.hwprofile.profile import Profile
from anatune.measure.entry import Entry
from anatune.measure.outcome import Outcome
from anatune.model import candidates as model
from anatune.model.candidates import Ranked
from anatune.plan import Plan
from anatune.search.measurer import Measurer
from anatune.search.space import Space
from anatune.workload import Matmul

WAVE = 8
"""Candidates that are proposed together: all of the default budget, so that it builds at once and
is timed side by side; and few enough that a search which learns looks at results often."""

SHORTLIST = 16
"""Candidates that `model.candidates.shortlist` picks for what the model is least sure of, at most:
the upper end of what users of nvMatmulHeuristics measure. Beyond them the model's order decides."""


def search(
    race: Measurer, profile: Profile, workload: Matmul, threads: int | None, objective: str
) -> None:
    """Measure in the model's order, its pick first, until the budget is spent."""
    space = Space(profile, workload, threads, objective)
    in_order = chain(space.ranked, space.in_order())
    waiting = unknown(chain(of_shortlist(race, space), in_order), known(race))
    while not race.over and measure_wave(race, waiting, "model"):
        pass


def of_shortlist(race: Measurer, space: Space) -> list[Ranked]:
    """The model's shortlist for the whole budget, what was spent of it before included."""
    count = min(SHORTLIST, race.left + len(race.measured))
    return model.shortlist(space.ranked, count)


def known(race: Measurer) -> set[Plan]:
    """Plans that were measured or failed, now or before."""
    return {e.plan for e, m in race.measured if m.outcome is not Outcome.SKIPPED}


def unknown(ranked: Iterable[Ranked], seen: set[Plan]) -> Iterator[Ranked]:
    """Those of ``ranked`` that are not in ``seen``, which each of them is added to."""
    for item in ranked:
        if item[0] not in seen:
            seen.add(item[0])
            yield item


def measure_wave(race: Measurer, waiting: Iterator[Ranked], engine: str) -> bool:
    """Measure the next few; False where none was left, or the budget had no room."""
    wave = list(islice(waiting, min(WAVE, race.left)))
    if wave:
        race.measure(entries(wave, engine))
    return bool(wave)


def entries(wave: Sequence[Ranked], engine: str) -> list[Entry]:
    return [Entry(plan, estimate, engine) for plan, estimate in wave]
