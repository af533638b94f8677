"""Where loops settle linear conditions: against every value that the loops take."""

from __future__ import annotations

import itertools

from hypothesis import assume, given
from hypothesis import strategies as st

from anatune.plan.affine import Affine, Bound, cut, decide, least, negated, pinned

SMALL = st.integers(-6, 6)
I, J, N = (Affine.name(name) for name in "ijn")


def conditions(*names):
    """c0 + c1*name + ..."""
    return st.tuples(st.integers(-20, 20), *(SMALL for _ in names)).map(
        lambda c: Affine.of(dict(zip(names, c[1:], strict=True)), c[0])
    )


@given(conditions("i", "j", "n"), SMALL, st.integers(0, 5), st.integers(-9, 9))
def test_a_cut_says_where_a_condition_is_settled(condition, low, width, n):
    at = cut(condition, "i", [Bound("j", Affine((), low), Affine((), low + width))])
    assume(at is not None)
    settled, opened = at.settled.value({"n": n}), at.open.value({"n": n})
    for i in range(-30, 31):
        truths = [
            condition.value({"i": i, "j": j, "n": n}) >= 0 for j in range(low, low + width + 1)
        ]
        assert all(truths) == (i >= settled if at.rising else i < settled)
        assert any(truths) == (i >= opened if at.rising else i < opened)
        assert all(truths) == (at.always.value({"i": i, "n": n}) >= 0)
        assert any(truths) == (at.never.value({"i": i, "n": n}) < 0)


@given(conditions("i", "j", "n"))
def test_a_condition_without_inner_loops_has_one_cut(condition):
    at = cut(condition, "i", [])
    assert (at is None) == (condition.coefficient("i") == 0)
    assert at is None or at.exact


@given(conditions("i", "n"), st.lists(conditions("i", "n"), max_size=3), SMALL, st.integers(0, 6))
def test_what_is_decided_is_so_wherever_the_facts_hold(condition, facts, low, width):
    bound = Bound("i", Affine((), low), Affine((), low + width))
    said = decide(condition, iter([bound]), facts)
    for i, n in itertools.product(range(low, low + width + 1), range(-8, 9)):
        here = {"i": i, "n": n}
        if said is not None and all(fact.value(here) >= 0 for fact in facts):
            assert (condition.value(here) >= 0) is said


def test_decide_knows_the_loop_and_the_fact():
    loop = [Bound("j", Affine((), 0), Affine((), 7)), Bound("i", Affine(), N - 1)]
    tile = N - I * 8 - J - 1
    assert decide(tile, loop, []) is None
    assert decide(tile, loop, [N - I * 8 - 8]) is True
    assert decide(tile, loop, [I * 8 - N]) is False
    assert decide(I + 1, loop, []) is True


@given(st.integers(1, 4), st.integers(1, 4), st.integers(-5, 5), st.integers(0, 2), SMALL)
def test_a_pinned_name_has_no_other_value(a, b, low, more, slack):
    facts = [I * a - a * low + abs(slack) % a, I * -b + b * (low + more) + abs(slack) % b]
    values = [i for i in range(-30, 31) if all(fact.value({"i": i}) >= 0 for fact in facts)]
    assert values == list(range(low, low + more + 1))
    assert pinned("i", facts) == (Affine((), low) if more == 0 else None)


def test_pinned_by_two_ends():
    assert pinned("i", [I - N + 1, N - I - 1]) == N - 1
    assert pinned("i", [I - N, N - I - 1]) is None
    assert pinned("i", [I]) is None


@given(conditions("i", "n"), SMALL, SMALL)
def test_negation_and_tightening_keep_the_meaning(condition, i, n):
    here = {"i": i, "n": n}
    holds = condition.value(here) >= 0
    assert (negated(condition).value(here) >= 0) is not holds
    assert (condition.tightened.value(here) >= 0) is holds


def test_an_unknown_end_gives_no_least_value():
    assert least(I - J, [Bound("j", Affine(), None)]) is None
    assert least(I + J, [Bound("j", Affine((), 2), None)]) == I + 2
