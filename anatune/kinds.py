"""What the pipeline does differently for products and for all else: plans, search, result (rank 8).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from anatune.codegen.library import Code
from anatune.errors import OptionError, require
from anatune.group_result import GroupResult
from anatune.hwprofile import Profile
from anatune.machine import matmul_only
from anatune.measure.budget import Budget
from anatune.measure.entry import Entry
from anatune.measure.outcome import Measurement, Outcome
from anatune.model import candidates as model
from anatune.model import joint
from anatune.model.estimate import peak_seconds
from anatune.result import Candidate, Result
from anatune.search import Search, find_search, ways

FALL_BACK = 3
"""Plans that a model-only run tries before it gives up; the first one is expected to do."""

ALL_WAYS = Budget(seconds=20.0)
"""The default pass over the ways of what is no single product: they are few, but code of many steps
takes seconds to compile, and one that is not timed cannot win."""

UNASKED = Measurement(Outcome.SKIPPED, note="outside the budget")

Seen = Sequence[tuple[Entry, Measurement]]


@dataclass(frozen=True)
class Asked:
    """What is to be planned."""

    profile: Profile
    workload: Any
    threads: int
    objective: str


class Kind(Protocol):
    """What differs."""

    find: Search

    def budget(self, value: Any) -> Budget:
        """What a user asked for. Raises OptionError for what is no budget."""
        ...

    def picks(self, asked: Asked) -> list[Entry]:
        """The model's first choices."""
        ...

    def within(self, limit: Budget, asked: Asked) -> Budget:
        """No more candidates than there are, where these are counted in milliseconds."""
        ...

    def least_s(self, asked: Asked) -> float:
        """What no plan can be faster than, seconds; 0: not known."""
        ...

    def result(
        self, asked: Asked, seen: Seen, chosen: Entry, library: Path | None
    ) -> Result | GroupResult:
        """What is handed out; ``library``: None where it is for another machine."""
        ...


def kind_of(workload: Any, search: str, remote: str | None) -> Kind:
    """Which of them a workload is.

    Raises:
        WorkloadError: none of them.
        OptionError: an option that there is not for it.
    """
    found = find_search(search)
    if not joint.is_joint(workload):
        matmul_only(workload)
        return Products(found)
    ways.check_search(search)
    why = f"remote = {remote!r}: is for single matrix products; others are measured here: " \
        "leave it out"
    require(remote is None, why, OptionError)
    return Joint()


class Products:
    """Matrix products of numbers for extents."""

    def __init__(self, find: Search) -> None:
        self.find = find

    def budget(self, value: Any) -> Budget:
        return Budget.parse(value)

    def picks(self, asked: Asked) -> list[Entry]:
        ranked = model.best(asked.profile, asked.workload, asked.threads, asked.objective)
        return [Entry(*pick) for pick in model.shortlist(ranked, FALL_BACK)]

    def within(self, limit: Budget, asked: Asked) -> Budget:
        return limit

    def least_s(self, asked: Asked) -> float:
        return peak_seconds(asked.profile, asked.workload, asked.threads)

    def result(self, asked: Asked, seen: Seen, chosen: Entry, library: Path | None) -> Result:
        code = None if library is None else Code.of(library)
        candidates = [Candidate(i, e.plan, e.predicted, m) for i, (e, m) in enumerate(seen, 1)]
        place = [entry for entry, _ in seen].index(chosen)
        return Result(asked.profile, code, candidates, place)


class Joint:
    """What `model.joint` plans: a few ways, all of them candidates."""

    def __init__(self) -> None:
        self.find: Search = ways.search

    def budget(self, value: Any) -> Budget:
        return ALL_WAYS if value is None else Budget.parse(value)

    def picks(self, asked: Asked) -> list[Entry]:
        return [Entry(*pick) for pick in _ranked(asked)[:FALL_BACK]]

    def within(self, limit: Budget, asked: Asked) -> Budget:
        return replace(limit, candidates=min(limit.candidates, len(_ranked(asked))))

    def least_s(self, asked: Asked) -> float:
        return 0.0

    def result(self, asked: Asked, seen: Seen, chosen: Entry, library: Path | None) -> GroupResult:
        """All ways, also those that were not measured; estimates anew, as records shorten them."""
        found = {entry.plan: measurement for entry, measurement in seen}
        listed = dict(_ranked(asked))
        others = {p: joint.predict(asked.profile, p) for p in found if p not in listed}
        candidates = [
            Candidate(i, plan, estimate, found.get(plan, UNASKED))
            for i, (plan, estimate) in enumerate([*listed.items(), *others.items()], 1)
        ]
        code = None if library is None else Code.of(library)
        place = [candidate.plan for candidate in candidates].index(chosen.plan)
        return GroupResult(asked.profile, code, candidates, place)


@lru_cache(maxsize=8)
def _ranked(asked: Asked) -> tuple[joint.Way, ...]:
    """Once for each call of `tune`: plans of a group take tenths of a second."""
    return tuple(joint.rank(asked.profile, asked.workload, asked.threads, asked.objective))
