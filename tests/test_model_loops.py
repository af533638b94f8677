"""Laws of what is predicted of loops: conditions cost, tiles cover exactly, traffic has layers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anatune.errors import ProfileError
from anatune.hwprofile import load_profile
from anatune.model.loop_tiles import best_family, tile_cycles
from anatune.model.loop_traffic import footprint, moved
from anatune.model.loops import estimate, pieces, vectors
from anatune.model.machine import machine
from anatune.plan.loops import Access, Loop, LoopNest, TileChoice, Work

ZEN5, HASWELL, H100 = (load_profile(name) for name in ("zen5", "haswell", "nvidia_h100"))
HERE = machine(ZEN5, 1)


def access(buffer, strides, writes=False, offset=0):
    kept = tuple(strides.items())
    return Access(buffer=buffer, element_bytes=4, writes=writes, strides=kept, offset=offset)


def work(guards=0, **strides):
    both = (access("B", strides, writes=True), access("A", strides))
    return Work(dtype="float32", multiply_adds=1, guards=guards, accesses=both)


def row(turns, guards=0, **facts):
    body = (work(guards, j=1),)
    return Loop(name="j", turns=float(turns), independent=True, body=body, **facts)


def nest(*body):
    return LoopNest(sizes=(), body=body)


def seconds(profile, *body):
    return estimate(profile, nest(*body)).seconds


@given(st.integers(1, 5000), st.integers(0, 4), st.integers(1, 4))
def test_conditions_never_make_loops_faster(turns, guards, more):
    for profile in (ZEN5, HASWELL):
        fewer = seconds(profile, row(turns, guards))
        assert seconds(profile, row(turns, guards + more)) >= fewer


def test_conditions_cost_most_where_vectors_have_no_masks():
    ratios = [seconds(p, row(4000, 1)) / seconds(p, row(4000)) for p in (ZEN5, HASWELL)]
    assert ratios[0] < 2 < ratios[1]
    assert vectors((row(64, 1),), work(1, j=1), HERE, masks=True)[0] is not None
    assert vectors((row(64, 1),), work(1, j=1), HERE, masks=False) == (None, 1.0)


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_more_turns_take_longer(turns, more):
    assert seconds(ZEN5, row(turns + 64 * more)) > seconds(ZEN5, row(turns))


def test_loops_one_after_another_add_up():
    one, other = row(640), row(320)
    parts = seconds(ZEN5, one) + seconds(ZEN5, other)
    assert seconds(ZEN5, one, other) == pytest.approx(parts)


def test_far_strides_and_dependent_turns_are_no_vectors():
    far = Loop(name="j", turns=64.0, independent=True, body=(work(j=7),))
    assert vectors((far,), work(j=7), HERE) == (None, 1.0)
    chained = replace(row(64), independent=False)
    assert vectors((chained,), work(j=1), HERE) == (None, 1.0)
    assert vectors((row(64),), work(j=1), HERE) == (row(64), 4 / 64)


@given(st.integers(1, 200), st.sampled_from([4, 8, 16]))
def test_pieces_are_whole_vectors_and_powers_of_two(size, lanes):
    assert size / lanes <= pieces(size, lanes) <= size // lanes + lanes.bit_length() - 1 + 1
    assert pieces(lanes, lanes) == 1


def test_what_fits_a_cache_comes_out_of_no_level_beyond_it():
    assert moved(nest(row(1000)), HERE) == {"L2": 0.0, "L3": 0.0, "memory": 0.0}
    large = moved(nest(row(20_000)), HERE)
    assert large["L2"] == pytest.approx(20_000 * 4 * 3, rel=0.01)  # B is read and written
    assert large["L3"] == large["memory"] == 0


def stencil_rows(columns):
    """Three rows of A for each of B."""
    strides = {"i": columns, "d": columns, "j": 1}
    body = Work(
        dtype="float32",
        additions=1,
        accesses=(access("B", {"i": columns, "j": 1}, writes=True), access("A", strides)),
    )
    inner = Loop(name="j", turns=float(columns), independent=True, body=(body,))
    window = Loop(name="d", turns=3.0, fixed=True, body=(inner,))
    return nest(Loop(name="i", turns=500.0, body=(window,)))


def test_rows_that_stay_are_read_once():
    """The layer condition: three rows of A and one of B in L1, or not."""
    short, long = (moved(stencil_rows(columns), HERE)["L2"] for columns in (1000, 8000))
    of_b = 2 * 4 * 500
    assert short / 1000 == pytest.approx(4 * 502 + of_b, rel=0.01)
    assert long / 8000 == pytest.approx(3 * (4 * 500 + of_b), rel=0.01)


def test_loops_of_one_stride_share_elements():
    a = access("A", {"i": 1, "d": 1})
    loops = (Loop(name="i", turns=10.0), Loop(name="d", turns=3.0))
    assert footprint(a, loops, 64) == 12 * 4
    assert footprint(access("A", {"i": 100}), loops, 64) == 10 * 64


def choice(extent, likely=0.0):
    return TileChoice(loop="j", extent=extent, likely=likely, works=(((), work(j=1)),))


@given(st.integers(1, 400))
def test_tiles_of_a_known_extent_cover_it(extent):
    sizes = best_family(ZEN5, choice(extent, extent)).sizes
    assert sum(sizes) == extent and list(sizes) == sorted(sizes, reverse=True)


@given(st.integers(1, 3000))
def test_tiles_of_an_unknown_extent_end_in_single_turns(likely):
    sizes = best_family(ZEN5, choice(None, likely)).sizes
    assert sizes[-1] == 1 and list(sizes) == sorted(set(sizes), reverse=True)


def test_wide_tiles_cost_less_for_each_turn():
    costs = [tile_cycles(choice(None), size, HERE) / size for size in (1, 4, 16, 64)]
    assert costs == sorted(costs, reverse=True)


def test_threads_share_parallel_loops_and_pay_for_the_barrier():
    body = Loop(name="i", turns=400.0, kind="parallel", body=(row(4000),))
    alone, both = (estimate(ZEN5, nest(body), threads) for threads in (1, 2))
    assert both.cycles < alone.cycles
    assert dict(both.terms)["barriers"] > 0 == dict(alone.terms)["barriers"]


def test_energy_counts_operations_bytes_and_conditions():
    plain, guarded = (estimate(HASWELL, nest(row(50_000, g))) for g in (0, 1))
    assert guarded.joules > plain.joules > 0
    assert (plain.conditions, guarded.conditions) == (0, 50_000)


def test_a_gpu_is_bound_by_memory_where_work_is_small():
    threads = Loop(name="t", turns=256.0, kind="thread", body=(work(1, b=256, t=1),))
    blocks = Loop(name="b", turns=40_000.0, kind="block", body=(threads,))
    found = estimate(H100, nest(blocks))
    assert found.bound == "data" and dict(found.bytes_moved)["memory"] == 2 * 4 * 256 * 40_000
    few = estimate(H100, nest(replace(blocks, turns=4.0)))
    assert few.seconds < found.seconds


def test_a_profile_of_nothing_is_refused():
    with pytest.raises(ProfileError, match="no cores"):
        estimate(replace(ZEN5, cores=()), nest(row(1)))
