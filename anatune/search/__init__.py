"""What to measure next: searches that propose plans to a race until its budget is spent (rank 7.5).

`shortlist` follows the model, `evolve` also learns from what was measured; `metaschedule` hands the
question to TVM's own search.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from anatune.errors import OptionError, require
from anatune.hwprofile import Profile
from anatune.search.measurer import Measurer
from anatune.workload import Matmul

Search = Callable[[Measurer, Profile, Matmul, int | None, str], None]
"""``search(race, profile, workload, threads, objective)`` measures until the race is over."""

SEARCHES = ("shortlist", "evolve", "metaschedule")


def find_search(name: str) -> Search:
    """The search of that name. Raises OptionError where there is none."""
    known = ", ".join(map(repr, SEARCHES))
    require(name in SEARCHES, f"search = {name!r}: one of {known}", OptionError)
    search: Search = import_module(f"anatune.search.{name}").search
    return search
