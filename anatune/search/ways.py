"""The search over what is no single product: all the ways that its model lists (rank 7.5)."""

from __future__ import annotations

from typing import Any

from anatune.errors import OptionError, require
from anatune.hwprofile.profile import Profile
from anatune.model import joint
from anatune.search.measurer import Measurer
from anatune.search.shortlist import known, measure_wave, unknown

USUAL = "shortlist"
"""The only search by name: there is no space beyond the list."""


def search(
    race: Measurer, profile: Profile, workload: Any, threads: int | None, objective: str
) -> None:
    """Measure in the model's order, its pick first, until the budget is spent."""
    ways = unknown(joint.rank(profile, workload, threads, objective), known(race))
    while not race.over and measure_wave(race, ways, "model"):
        pass


def check_search(name: str) -> None:
    """Raise OptionError for the name of a search that has nothing to look for here."""
    why = (
        f"search = {name!r}: is for single matrix products; of other workloads all ways are "
        f"measured, as far as the budget goes: leave it out, or {USUAL!r}"
    )
    require(name == USUAL, why, OptionError)
