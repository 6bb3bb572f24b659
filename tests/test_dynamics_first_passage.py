"""First passages: what counts as one, what those cut off are worth, and an exact mean."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxcg.dynamics import (
    first_passage_distribution,
    first_passage_times,
    overdamped_passage_time,
    passages,
    survival_function,
)
from jaxcg.dynamics.observables.first_passage import passage_ends
from jaxcg.energy import DoubleWell, HarmonicPotential
from jaxcg.units import GAS_CONSTANT

#: kT = 1.
TEMPERATURE = 1 / GAS_CONSTANT
WAY = np.array([0, 0.5, -0.5, 1.0, 2, 1, 0.2, -1, 0.5, 2, 0, 0.5])


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("clock", "durations", "completed"),
    [
        # From frame 0 to 4; from the return at frame 7 to 9; from 10 on, cut off.
        ("first", [4, 2, 1], [True, True, False]),
        # Crossings of zero at frames 1, 2, 3, 7, 8, 10 and 11.
        ("all", [3, 2, 1, 2, 1, 1, 0], [True] * 5 + [False] * 2),
        # Last at or below zero in frames 2 and 7.
        ("transition path", [2, 2], [True, True]),
    ],
)
def test_three_clocks(sign, clock, durations, completed):
    found = passages(sign * WAY, 0.0, sign * 1.5, 0.1, clock=clock)
    np.testing.assert_allclose(found.durations, 0.1 * np.array(durations))
    np.testing.assert_array_equal(found.completed, completed)
    assert not found.trajectories.any()


def test_the_compiled_count():
    x = jnp.array([[0, 0.5, 1.0, 2, 1, 0, -1, 0, 2, 0], [2, 2, 1, 1, 1, 1, 1, 1, 1, 1.0]])
    times, number = first_passage_times(x, 0.0, 1.5)
    # From frame 0 to frame 3, and from the first return at frame 5 to frame 8.
    np.testing.assert_array_equal(np.asarray(times)[0], [0, 0, 0, 3, 0, 0, 0, 0, 3, 0])
    np.testing.assert_array_equal(number, [2, 0])


def test_completed_passages_are_those_of_the_compiled_count():
    x = np.cumsum(np.random.default_rng(0).standard_normal((5, 4000)), axis=1) % 40 - 20
    found = passages(x, -3.0, 7.0, 1.0)
    times, number = first_passage_times(jnp.asarray(x), -3.0, 7.0)
    times = np.asarray(times)
    np.testing.assert_array_equal(found.durations[found.completed], times[times > 0])
    np.testing.assert_array_equal(np.bincount(found.trajectories[found.completed]), number)


def test_survival_by_hand():
    # The textbook case: at risk 6, 5, 3, 1.
    found = survival_function([1, 2, 2.5, 3, 3.5, 4], [True, True, False, True, False, True])
    np.testing.assert_allclose(found.times, [1, 2, 2.5, 3, 3.5, 4])
    np.testing.assert_allclose(found.values, [5 / 6, 4 / 6, 4 / 6, 4 / 9, 4 / 9, 0])
    assert found.mean == pytest.approx(1 + 5 / 6 + 4 / 6 + 4 / 9)
    weighted = survival_function(
        [1, 2, 2.5, 3, 3.5, 4], [True, True, False, True, False, True], np.array([[1.0] * 6, [2, 0, 1, 1, 1, 1]])
    )
    np.testing.assert_allclose(weighted.values[:, 0], found.values)
    assert weighted.mean.shape == (2,)
    assert weighted.mean[1] < weighted.mean[0]


def test_short_trajectories_do_not_shorten_the_mean():
    # Passages of mean 5 in trajectories of length 4.
    rng = np.random.default_rng(1)
    true, seen, count = 5.0, 4.0, 4000
    durations = rng.exponential(true, count)
    completed = durations < seen
    found = survival_function(np.minimum(durations, seen), completed)
    naive = durations[completed].mean()
    assert naive < 0.4 * true
    error = true / np.sqrt(completed.sum())
    assert abs(found.mean - true) < 4 * error
    assert 1 / found.tail_rate == pytest.approx(true, rel=0.15)
    # The same by way of trajectories, with the error that the bootstrap finds.
    x = (0.1 * np.arange(40)[None] >= durations[:, None]).astype(float)
    whole = first_passage_distribution(x, 0.0, 1.0, 0.1)
    assert whole.completed + whole.cut_off == count
    assert abs(whole.mean - true - 0.05) < 4 * whole.mean_error
    assert whole.mean_error == pytest.approx(error, rel=0.4)


def test_the_distribution_of_an_exponential():
    rng = np.random.default_rng(2)
    durations = np.ceil(rng.exponential(200.0, (40, 120))).astype(int)
    x = np.zeros((40, 12000))
    for row, times in zip(x, np.cumsum(durations, axis=1), strict=True):
        row[times[times < 12000]] = 1.0
    found = first_passage_distribution(x, 0.0, 1.0, 0.01, bins=20)
    assert abs(found.mean - 2.0) < 4 * found.mean_error + 0.02
    assert abs(found.tail_rate - 0.5) < 4 * found.tail_rate_error
    exact = np.exp(-found.times / 2)
    inside = found.times < 8
    assert np.all(abs(found.survival - exact)[inside] < 4.5 * found.survival_error[inside] + 0.01)
    assert found.survival[0] == 1
    assert np.sum(found.density) * found.edges[1] == pytest.approx(1, abs=1e-9)
    share = np.abs(found.density - np.exp(-found.edges[:-1] / 2) * (1 - np.exp(-found.edges[1] / 2)) / found.edges[1])
    assert np.all(share[:8] < 4.5 * found.density_error[:8] + 0.01)


def test_overdamped_motion_has_its_exact_mean(x64):
    # Brownian walkers in a harmonic trap, from its middle to 1.2: D = 1, kT = 1, k = 1.
    rng, step, walkers, end = np.random.default_rng(3), 2e-3, 600, 1.2
    noise = np.sqrt(2 * step)
    x, way = np.zeros(walkers), np.empty((walkers, 9001))
    way[:, 0] = x
    for i in range(1, way.shape[1]):
        x = x - step * x + noise * rng.standard_normal(walkers)
        way[:, i] = x
    # A walker that has been past the end may be anywhere: only its first passage begins at the middle.
    first = passages(way, 0.0, end, step)
    _, index = np.unique(first.trajectories, return_index=True)
    found = survival_function(first.durations[index], first.completed[index])
    error = found.mean / np.sqrt(walkers)
    # Steps jump across the end; that moves it by ζ(½)/√(2π) standard deviations of one (Siegmund's correction).
    exact = overdamped_passage_time(HarmonicPotential(1.0), 1.0, TEMPERATURE, start=0.0, end=end + 0.5826 * noise)
    assert abs(found.mean - exact) < 4 * error
    assert error < 0.05 * exact


def test_where_to_ask(x64):
    x = np.concatenate([np.full((1, 500, 1), 1.0), np.linspace(-1.3, 1.3, 500)[None, :, None]])
    low, high = passage_ends(DoubleWell(3.0, 0.5, 0.1), x, TEMPERATURE)[0]
    assert (low, high) == (pytest.approx(-0.4, abs=1e-4), pytest.approx(0.6, abs=1e-4))
    one = passage_ends(HarmonicPotential(1.0), x, TEMPERATURE)
    assert one[0] == tuple(np.quantile(x, [0.1, 0.9]))
    assert one[1] == one[0][::-1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: passages(WAY, 1.0, 1.0, 0.1), "both 1"),
        (lambda: passages(WAY * np.nan, 0.0, 1.0, 0.1), "all finite"),
        (lambda: first_passage_distribution(WAY, 0.0, 5.0, 0.1), "too few"),
    ],
)
def test_what_is_no_passage(call, message):
    with pytest.raises(ValueError, match=message):
        call()
