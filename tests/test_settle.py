"""When a comparison is decided: laws of paired samples, and how often the interval holds."""

from __future__ import annotations

import math
from statistics import median

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from anatune.measure.settle import (
    CONFIDENCE,
    MOST_TIED,
    TIE,
    Verdict,
    beside,
    choose,
    is_settled,
    lead,
)

COSTS = st.floats(1e-3, 1e3)
FEW = 6
"""Pairs from which on something can be said: 2 / 2**6 is below 5 %, 2 / 2**5 is not."""


@st.composite
def fields(draw, least: int = 1, most: int = 30, entrants: int = 4) -> list[list[float]]:
    """Costs of a few entrants in the same rounds, near enough to be of interest."""
    rounds = draw(st.integers(least, most))
    each = st.lists(st.floats(0.97, 1.05), min_size=rounds, max_size=rounds)
    return draw(st.lists(each, min_size=1, max_size=entrants))


@st.composite
def pairs(draw, least: int = 0) -> tuple[list[float], list[float]]:
    one, other = draw(fields(max(1, least)).filter(lambda f: len(f) > 1))[:2]
    return one, other


@given(pairs(), st.randoms(use_true_random=False))
def test_the_order_of_the_pairs_does_not_matter(pair, random):
    shuffled = list(zip(*pair))
    random.shuffle(shuffled)
    assert beside(*zip(*shuffled)) is beside(*pair)


@given(pairs(), st.sampled_from([0.25, 2.0, 1024.0]))
def test_the_unit_does_not_matter(pair, factor):
    scaled = [[factor * cost for cost in costs] for costs in pair]
    assert beside(*scaled) is beside(*pair)


@given(fields(), st.integers(0, 29), st.sampled_from([0.5, 4.0]))
def test_what_slows_a_whole_round_does_not_matter(field, place, factor):
    slowed = [[c * factor if i == place else c for i, c in enumerate(costs)] for costs in field]
    for one, other in zip(field, slowed):
        assert beside(other, slowed[0]) is beside(one, field[0])


@given(pairs())
def test_nobody_is_slower_than_who_is_slower(pair):
    one, other = pair
    if beside(one, other) is Verdict.SLOWER:
        assert beside(other, one) is not Verdict.SLOWER
    assert (beside(one, other) is Verdict.OPEN) or len(one) >= FEW


@given(st.lists(COSTS, min_size=1, max_size=30))
def test_equals_are_tied_once_enough_is_known(costs):
    assert beside(costs, costs) is (Verdict.TIED if len(costs) >= FEW else Verdict.OPEN)


@given(st.lists(COSTS, min_size=FEW, max_size=30), st.floats(1.0001, 3.0))
def test_who_is_always_slower_is_proven_so_beyond_a_tie(costs, factor):
    assume(abs(factor - (1 + TIE)) > 1e-6)
    verdict = beside(costs, [factor * cost for cost in costs])
    assert verdict is (Verdict.TIED if factor < 1 + TIE else Verdict.SLOWER)


def test_calls_that_take_no_time_are_equal():
    assert beside([0.0] * FEW, [0.0] * FEW) is Verdict.TIED
    assert beside([0.0] * FEW, [1.0] * FEW) is Verdict.SLOWER


@pytest.mark.parametrize("noise", ("normal", "exponential", "cauchy"))
@pytest.mark.parametrize("rounds", (6, 9, 15, 25))
def test_two_of_the_same_speed_are_seldom_told_apart(noise, rounds):
    """Whatever the noise is like: a pair is called slower in 2.5 % of comparisons at most."""
    draw = np.random.default_rng(rounds)
    trials, slower = 2000, 0
    for _ in range(trials):
        drawn = getattr(draw, f"standard_{noise}")((2, rounds))
        one, other = np.exp(0.02 * drawn.clip(-1000, 1000))
        slower += beside(one, other) is Verdict.SLOWER
    most = (1 - CONFIDENCE) / 2
    assert slower / trials <= most + 3 * math.sqrt(most / trials)


@pytest.mark.parametrize("slower", (0.02, 0.04))
def test_a_clear_difference_is_seen_in_time(slower):
    draw = np.random.default_rng(1)
    found = 0
    for _ in range(300):
        one, other = np.exp(draw.normal(0.0, 0.015, (2, 25)))
        found += beside(one, other * (1 + slower)) is Verdict.SLOWER
    assert found >= 285


@given(fields())
def test_the_one_taken_was_not_proven_slower_and_does_not_trail_far(field):
    place, best = choose(field), lead(field)
    assert place == best or beside(field[best], field[place]) is not Verdict.SLOWER
    assert median(field[place]) <= median(field[best]) * (1 + MOST_TIED)


@given(fields())
def test_ties_go_to_the_first(field):
    doubled = [*field, *field]
    assert choose(doubled) < len(field)
    first = field[0]
    if beside(field[lead(field)], first) is Verdict.TIED:
        assert choose(field) == 0


@given(fields())
def test_one_alone_is_settled_and_taken(field):
    assert is_settled(field[:1]) and choose(field[:1]) == lead(field[:1]) == 0


@given(fields(), st.floats(1.06, 3.0))
def test_who_is_far_behind_changes_nothing(field, factor):
    """A straggler of the leader's noise is settled with it, and never taken."""
    straggler = [factor * cost for cost in field[lead(field)]]
    wider = [*field, straggler]
    assert choose(wider) == choose(field)
    assert is_settled(wider) == (is_settled(field) and len(straggler) >= FEW)
