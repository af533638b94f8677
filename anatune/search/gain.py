"""What measuring a plan is expected to gain, and which plans gain most together (rank 7.5)."""

from __future__ import annotations

from dataclasses import dataclass
from math import erf, pi, sqrt

import numpy as np
from numpy.typing import NDArray

from anatune.search.features import Array

_erf = np.vectorize(erf, otypes=[np.float64])

NO_DOUBT = 1e-6
"""Least standard deviation of a cost: a millionth, far below what is ever known."""


def expected_gain(best: float, costs: Array, sd: Array) -> Array:
    """By how much each plan is expected to undercut ``best``; 0 where it cannot.

    E[max(0, best - X)] of a normal X (Jones, Schonlau and Welch, "Efficient Global Optimization of
    Expensive Black-Box Functions", 1998, equation 15); of costs that are logarithms, as a share.
    """
    sd = np.maximum(sd, NO_DOUBT)
    ahead = (best - costs) / sd
    density = np.exp(-(ahead**2) / 2) / sqrt(2 * pi)
    gain: Array = sd * (ahead * (1 + _erf(ahead / sqrt(2))) / 2 + density)
    return np.maximum(gain, 0.0)


@dataclass
class Together:
    """Picks plans one after the other, as if each had been measured and found to cost as expected.

    A plan near one that was picked has little left to tell, so that a wave spreads (the kriging
    believer of Ginsbourger, Le Riche and Carraro, "Kriging Is Well-Suited to Parallelize
    Optimization", 2010).
    """

    best: float
    costs: Array
    covariance: Array
    chances: Array  # that a plan gives a time at all
    noise: float  # standard deviation of a measured cost

    def __post_init__(self) -> None:
        self.left = np.ones(len(self.costs), dtype=bool)

    def pick(self, among: NDArray[np.bool_]) -> int:
        """The place of the plan with most to gain; at least one ``among`` them must be left."""
        sd = np.sqrt(np.maximum(np.diag(self.covariance), 0.0))
        gains = expected_gain(self.best, self.costs, sd) * self.chances
        place = int(np.argmax(np.where(among & self.left, gains, -1.0)))
        row = self.covariance[place]
        self.covariance = self.covariance - np.outer(row, row) / (row[place] + self.noise**2)
        self.best = min(self.best, self.costs[place])
        self.left[place] = False
        return place
