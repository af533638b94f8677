"""How much measuring a tuning run may do: candidates, seconds, or both (rank 6)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from anatune.errors import OptionError, UnitError, require
from anatune.units import TIME

DEFAULT_CANDIDATES = 8
"""Candidates of the default pass: the lower end of what nvMatmulHeuristics users measure (8-16)."""

DEFAULT_SECONDS = 4.0
"""Wall-clock of the default pass, seconds: twice what it takes where nobody disturbs, and a call of
`tune` stays under 5 s in all."""

NO_LIMIT = 10**6
"""More candidates than any workload has plans."""


@dataclass(frozen=True)
class Budget:
    """At most ``candidates`` plans, and no new work after ``seconds``; 0 plans: the model only."""

    candidates: int = DEFAULT_CANDIDATES
    seconds: float = DEFAULT_SECONDS

    @classmethod
    def parse(cls, value: Any) -> Budget:
        """The budget that a user asked for: None, a number of candidates, or a time such as "5s".

        Raises:
            OptionError: anything else.
        """
        if value is None:
            return cls()
        wanted = f'budget = {value!r}: None, a number of candidates, or a time such as "5s"'
        require(not isinstance(value, bool), wanted, OptionError)
        if isinstance(value, Integral):
            count = int(value)
            why = f"budget = {count}: a number of candidates is 0 or more"
            require(count >= 0, why, OptionError)
            return cls(candidates=count, seconds=math.inf)
        require(isinstance(value, str), wanted, OptionError)
        try:
            seconds = TIME.parse(value)
        except UnitError:
            raise OptionError(wanted) from None
        return cls(candidates=NO_LIMIT if seconds else 0, seconds=seconds)
