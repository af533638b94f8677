"""The learned correction: the model where nothing is known, its order where much is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_plans import workloads

from anatune.hwprofile import load_profile
from anatune.model import candidates as model
from anatune.model.estimate import predict
from anatune.plan import CacheBlocks
from anatune.search.correction import OFF_BY, Correction, Observation
from anatune.search.features import DATA, PORTS, RESIDENT, TERMS, Table
from anatune.workload import matmul

FACTORS = st.floats(-1.0, 1.0)
"""Logarithms of what a term is off by: up to 2.7 times."""

LEARN = 40
"""Plans that a distortion is learnt from."""


@pytest.fixture(scope="module")
def ranked() -> list[model.Ranked]:
    return model.rank(load_profile("haswell"), matmul(49, 512, 1200), 1)


def distorted(ranked, factors: dict[str, float]) -> np.ndarray:
    """Seconds with each term times its factor, put together as documented."""
    seconds = []
    for _, e in ranked:
        terms = dict.fromkeys(TERMS, 0.0) | {n: c * factors.get(n, 1.0) for n, c in e.terms}
        overlapping = [terms[n] for n in PORTS] + [sum(terms[n] for n in DATA)]
        added = sum(c for n, c in terms.items() if n not in (*PORTS, *DATA))
        cycles = sum(c**4 for c in overlapping) ** 0.25 + added
        seconds.append(e.seconds * cycles / e.cycles)
    return np.array(seconds)


def observed(ranked, seconds) -> list[Observation]:
    return [Observation(plan, float(s)) for plan, s in zip(ranked, seconds)]


def tau(one, other) -> float:
    """Kendall's rank correlation."""
    pairs = np.sign(np.subtract.outer(one, one)) * np.sign(np.subtract.outer(other, other))
    return float(pairs.sum()) / (len(one) * (len(one) - 1))


def some(ranked, count, seed=0) -> list:
    places = np.random.default_rng(seed).permutation(len(ranked))[:count]
    return [ranked[place] for place in places]


def test_terms_put_together_are_the_models_time():
    """Where all tiles are whole; else the model overlaps each kind of tile by itself."""
    ranked = model.rank(load_profile("haswell"), matmul(96, 192, 96), 1)
    whole = [
        (p, e) for p, e in ranked
        if not p.edge_rows and not p.edge_columns and 96 % p.tile.kr == 0
    ]  # fmt: skip
    assert len(whole) > 50
    assert distorted(whole, {}) == pytest.approx([e.seconds for _, e in whole])


@settings(max_examples=25)
@given(workloads(most=400), st.sampled_from(["zen5", "neoverse_v1"]))
def test_every_term_has_a_column_and_no_data_changes_nothing(workload, name):
    ranked = model.best(load_profile(name), workload, 2)
    assert {term for _, e in ranked for term, _ in e.terms} <= set(TERMS)
    assert list(Correction().seconds(ranked)) == [e.seconds for _, e in ranked]
    assert not Correction().explain()


def test_without_data_the_doubt_is_the_models():
    ranked = model.rank(load_profile("zen5"), matmul(64, 64, 64), 1)
    _, sd = Correction().mean_and_sd(Table.of(ranked))
    assert sd.min() > max(OFF_BY.values())


@settings(max_examples=15)
@given(st.fixed_dictionaries({name: FACTORS for name in TERMS}))
def test_a_known_distortion_is_recovered(ranked, logarithms):
    factors = {name: float(np.exp(at)) for name, at in logarithms.items()}
    learnt = some(ranked, LEARN)
    asked = some(ranked, 300, seed=1)
    true = distorted(asked, factors)
    corrected = Correction(observed(learnt, distorted(learnt, factors))).seconds(asked)
    as_it_was = np.array([e.seconds for _, e in asked])
    assert (corrected > 0).all() and np.isfinite(corrected).all()
    assert tau(corrected, true) >= min(0.9, tau(as_it_was, true))
    off_by, was = (np.median(abs(np.log(s / true))) for s in (corrected, as_it_was))
    assert off_by < max(0.05, was)


@settings(max_examples=25)
@given(st.lists(st.floats(1e-12, 1e6), min_size=1, max_size=20), st.integers(0, 5))
def test_corrected_times_are_times_whatever_was_measured(ranked, seconds, seed):
    corrected = Correction(observed(some(ranked, len(seconds), seed), seconds))
    times = corrected.seconds(ranked[:50])
    _, sd = corrected.mean_and_sd(Table.of(ranked[:50]))
    assert (times > 0).all() and np.isfinite(times).all()
    assert np.isfinite(sd).all()


def test_one_wild_measurement_moves_little():
    ranked = model.rank(load_profile("haswell"), matmul(49, 512, 1200), 1)
    learnt, asked = some(ranked, LEARN), some(ranked, 300, seed=1)
    factors = {"L2 bandwidth": 1.6, "load ports": 1.3}
    seconds = distorted(learnt, factors)
    right = Correction(observed(learnt, seconds)).seconds(asked)
    for place, wild in ((3, 10.0), (17, 0.1)):
        disturbed = seconds.copy()
        disturbed[place] *= wild
        moved = Correction(observed(learnt, disturbed)).seconds(asked)
        assert np.median(abs(np.log(moved / right))) < 0.03
        assert tau(moved, right) > 0.9


def test_a_measured_plan_and_its_neighbours_are_surer(ranked):
    seen = some(ranked, 20)
    correction = Correction(observed(seen, [e.seconds for _, e in seen]))
    strangers = [item for item in ranked if item not in seen]
    (_, known), (_, unknown) = (
        correction.mean_and_sd(Table.of(items)) for items in (seen, strangers)
    )
    assert known.max() < unknown.mean()
    table = Table.of(strangers[:30])
    variances = np.diag(correction.covariance(table))
    assert np.sqrt(variances) == pytest.approx(correction.mean_and_sd(table)[1])


def test_what_one_tile_is_off_by_is_expected_of_the_same_tile(ranked):
    profile = load_profile("haswell")
    (plan, estimate), kin = ranked[0], None
    near = replace(plan, blocks=CacheBlocks(mc=plan.tile.mr, nc=plan.blocks.nc, kc=plan.blocks.kc))
    kin = (near, predict(profile, near))
    others = [item for item in some(ranked, 30) if item[0].tile != plan.tile]
    fine = observed(others, [e.seconds for _, e in others])
    slow = Observation((plan, estimate), 1.15 * estimate.seconds)
    without, beside = (Correction(o).seconds([kin])[0] for o in (fine, [*fine, slow]))
    assert beside > 1.02 * without


def test_explains_itself(ranked):
    learnt = some(ranked, LEARN)
    correction = Correction(observed(learnt, 2 * distorted(learnt, {"load ports": 1.5})))
    lines = dict(line.split(": ") for line in correction.explain())
    factor = {name: float(text.split()[1].rstrip(",")) for name, text in lines.items()}
    assert factor["load ports"] > 1.2 and factor["everything"] > 1.4
    assert lines["everything"].endswith(f"(from {LEARN} plans)")
    assert "shared lines of C" not in lines  # one thread: nothing tells of it
    assert {f"{operand} in registers" for operand in RESIDENT} <= set(lines)
