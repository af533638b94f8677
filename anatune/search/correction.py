"""What measurements say of the model: a factor for each of its terms, with how sure (rank 7.5).

    log(measured / predicted) = log(T(f) / T(1)) + g + g_resident + nearby + noise

T(f) puts the model's terms together again, each times its factor; g is a factor on everything,
g_resident one of the operand in registers. What these leave is shared by plans that lie near each
other: of similar tiles, of the same order and storages, of similar blocks. All logarithms are drawn
towards 0 by how far the model was seen to be off, so that without data it stands as it is; this is
regularised least squares, written as a Gaussian process, which also says how sure it is (Rasmussen
and Williams, "Gaussian Processes for Machine Learning", 2006, algorithm 2.1 and section 2.7).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

import numpy as np

from anatune.model.candidates import Ranked
from anatune.model.work import OVERLAP
from anatune.search.features import DATA, PORTS, RESIDENT, TERMS, Array, Table, squares_apart

TERM_SD, ALL_SD, RESIDENT_SD = 0.4, 0.5, 0.15
"""How far a term's factor, that on everything, and that of an operand in registers are expected
from 1, as standard deviations of logarithms. Assumed: a probed rate may be half of what a loop
gets; a clock may be any."""

OFF_BY = {"C": 0.06, "A": 0.2, "B": 0.2}
"""Standard deviation of the logarithm that plans of one operand in registers were off by: 4 to 5 %
with C there, 14 to 26 % with A or B, in the median over plans drawn at random (README)."""

NEARBY_SHARES = {"tiles": 0.4, "ways": 0.3, "blocks": 0.3}
"""Parts of that variance that plans share which are near in their tile, in order and storages too,
and in blocks as well. Assumed."""

NOISE = 0.01
"""Least standard deviation of a measurement's logarithm: what two timings of one kernel differ by
though each spreads less."""

HUBER = 2.0
"""Standard deviations from what the others say beyond which a measurement pulls no harder (Huber,
"Robust Estimation of a Location Parameter", 1964): one in twenty, were all of them normal."""

ROUNDS = 6
"""Times that the terms' shares are worked out anew from the factors, and outliers from the fit;
more change no factor by a hundredth."""

AT_ONCE = 4096
"""Plans that are corrected together: a hundred measurements take 3 MB of each matrix."""

MATTERS = 0.01
"""Share of a plan's time from which a term counts as seen in it."""


@dataclass(frozen=True)
class Observation:
    """A plan that was timed.

    Attributes:
        noise: standard deviation over median of its samples.
    """

    plan: Ranked
    seconds: float
    noise: float = 0.0


class Correction:
    """The model corrected by observations; without any, the model as it is."""

    def __init__(self, observations: Sequence[Observation] = ()) -> None:
        self._seen = Table.of([o.plan for o in observations])
        self._at = np.zeros(len(_PRIOR_SD))  # logarithms of factors, about which T(f) is linear
        measured = np.array([o.seconds for o in observations])
        off_by = np.log(measured / self._seen.seconds)
        noise = np.array([max(NOISE, o.noise) ** 2 for o in observations])
        self._fit(off_by, noise)

    def _fit(self, off_by: Array, noise: Array) -> None:
        """Factors and weights in turns: T(f) is linear in the logarithms of factors near a guess.

        A measurement that the others speak against has its variance raised until it pulls as hard
        as one `HUBER` standard deviations off; what they say without it, and how surely, follows
        from the inverse (Rasmussen and Williams, section 5.4.2).
        """
        doubt = np.zeros_like(noise)
        factors = self._at
        for _ in range(ROUNDS):
            self._at = factors
            start, slopes = self._linear(self._seen)
            kernel = _covariance(slopes, self._seen, slopes, self._seen)
            inverse = np.linalg.inv(kernel + np.diag(noise + doubt))
            pull = inverse @ (off_by - start)
            factors = _PRIOR_SD**2 * (slopes.T @ pull)
            alone = 1.0 / np.diag(inverse)  # variance of what the others say, its own noise with it
            surprise = np.abs(pull) * alone / np.sqrt(alone - doubt)
            doubt = np.maximum(0.0, surprise / HUBER - 1.0) * (alone - doubt)
        self._slopes, self._inverse, self._pull = slopes, inverse, pull

    def seconds(self, ranked: Sequence[Ranked]) -> Array:
        """Corrected times; never 0 or less."""
        table = Table.of(ranked)
        corrected: Array = table.seconds * np.exp(self.mean_and_sd(table)[0])
        return corrected

    def mean_and_sd(self, table: Table) -> tuple[Array, Array]:
        """Of the logarithm of true over predicted seconds, for each plan."""
        parts = [
            self._mean_and_variance(table.take(slice(at, at + AT_ONCE)))
            for at in range(0, len(table), AT_ONCE)
        ]
        if not parts:
            return np.zeros(0), np.zeros(0)
        mean, variance = (np.concatenate(both) for both in zip(*parts))
        return mean, np.sqrt(np.maximum(variance, 0.0))

    def covariance(self, table: Table) -> Array:
        """Of the same logarithms, between plans: what measuring one would say of another."""
        _, slopes = self._linear(table)
        to_seen = _covariance(slopes, table, self._slopes, self._seen)
        before = _covariance(slopes, table, slopes, table)
        after: Array = before - to_seen @ self._inverse @ to_seen.T
        return after

    def explain(self) -> list[str]:
        """A line for each factor that some observation tells of, the operands' last."""
        shares = self._seen.terms / self._seen.terms.sum(axis=1, keepdims=True)
        told = [*(shares > MATTERS).sum(axis=0), len(self._seen), *self._seen.resident.sum(axis=0)]
        prior = np.diag(_PRIOR_SD**2)
        known = prior @ self._slopes.T
        sd = np.sqrt(np.diag(prior - known @ self._inverse @ known.T))
        return [
            f"{name}: times {exp(at):.2f}, {exp(at - s):.2f} to {exp(at + s):.2f} "
            f"(from {int(count)} plans)"
            for name, at, s, count in zip(_FACTORS, self._at, sd, told)
            if count
        ]

    def _mean_and_variance(self, table: Table) -> tuple[Array, Array]:
        start, slopes = self._linear(table)
        to_seen = _covariance(slopes, table, self._slopes, self._seen)
        known = np.einsum("ij,jk,ik->i", to_seen, self._inverse, to_seen, optimize=True)
        before = np.square(slopes * _PRIOR_SD).sum(axis=1) + np.square(_off_by(table))
        return start + to_seen @ self._pull, before - known

    def _linear(self, table: Table) -> tuple[Array, Array]:
        """log(T(f) / T(1)) + g near the present factors: its value where all are 0, its slopes."""
        at = self._at[: len(TERMS)]
        now, shares = _put_together(table.terms * np.exp(at))
        before, _ = _put_together(table.terms)
        slopes = np.hstack([shares, np.ones((len(table), 1)), table.resident])
        return np.log(now / before) - shares @ at, slopes


_FACTORS = (*TERMS, "everything", *(f"{operand} in registers" for operand in RESIDENT))
_PRIOR_SD = np.array([*[TERM_SD] * len(TERMS), ALL_SD, *[RESIDENT_SD] * len(RESIDENT)])
_IS_PORT = np.array([name in PORTS for name in TERMS])
_IS_DATA = np.array([name in DATA for name in TERMS])
_IS_ADDED = ~(_IS_PORT | _IS_DATA)


def _put_together(terms: Array) -> tuple[Array, Array]:
    """T of each row as `model.estimate.predict` has it, but over all tiles at once, and shares.

    A term's share is d log T / d log term: a percent more of it is so many percent more of T.
    """
    data = terms[:, _IS_DATA].sum(axis=1, keepdims=True)
    powers = (terms[:, _IS_PORT] ** OVERLAP).sum(axis=1, keepdims=True) + data**OVERLAP
    loops = powers ** (1 / OVERLAP)
    total = loops + terms[:, _IS_ADDED].sum(axis=1, keepdims=True)
    beside = loops / powers
    slopes = np.where(_IS_PORT, beside * terms ** (OVERLAP - 1), 1.0)
    slopes = np.where(_IS_DATA, beside * data ** (OVERLAP - 1), slopes)
    return total[:, 0], terms * slopes / total


def _off_by(table: Table) -> Array:
    off_by: Array = table.resident @ np.array([OFF_BY[operand] for operand in RESIDENT])
    return off_by


def _covariance(slopes: Array, table: Table, others: Array, other: Table) -> Array:
    """Between rows of two tables, of how far the model is off, before any data."""
    by_factors: Array = (slopes * _PRIOR_SD**2) @ others.T
    scale = np.outer(_off_by(table), _off_by(other))
    by_factors += scale * _nearness(table, other)
    return by_factors


def _nearness(table: Table, other: Table) -> Array:
    """1 for a plan and itself, 0 for plans that have nothing in common."""
    apart = np.zeros((len(table), len(other)))
    near = np.zeros_like(apart)
    for name, share in NEARBY_SHARES.items():
        apart += squares_apart(getattr(table, name), getattr(other, name))
        near += share * np.exp(-apart / 2)
    return near
