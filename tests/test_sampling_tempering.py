"""Replica exchange against weights known by quadrature, ladders against the closed form of their swaps."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.gaussian import Gaussian
from scipy.special import betainc
from two_basins import Barrier, in_start, two_basins, weight_of_start

from jaxcg.energy import ScaledTerms
from jaxcg.run import run
from jaxcg.sampling import HMC, Chains, mean_effective_sample_size
from jaxcg.sampling.tempering.exchange import ReplicaExchange, _exchanged
from jaxcg.sampling.tempering.ladder import Ladder, exchange_lengths, place_rungs, round_trips
from jaxcg.sampling.tempering.tune import deal, tune_ladder

KEY = jax.random.key(0)
LADDERS, SWEEPS, WARMUP = 8, 1000, 100


def at_target(state):
    return state.rungs.position[:, 0]


def at_all(state):
    return state.position


def exchanged(ladder, path=None, dtype=np.float32, sweeps=SWEEPS):
    posterior, start = two_basins(dtype)
    kernel = HMC(posterior, np.ones(3), step_size=0.004, steps=8)
    exchange = ReplicaExchange(kernel, ladder, path, warmup=WARMUP, vectorized=True)
    positions = jnp.asarray(np.broadcast_to(start, (LADDERS, ladder.rungs, 3, 3)))
    return run(exchange, exchange.init(KEY, positions), KEY, sweeps, observe=at_target, chunk=1000)


@pytest.fixture(scope="module", params=["temperature", pytest.param("coupling", marks=pytest.mark.slow)])
def result(request):
    if request.param == "temperature":
        return exchanged(Ladder.geometric(300.0, 3000.0, rungs=6))
    return exchanged(Ladder.geometric(300.0, coupling=0.1, rungs=5), ScaledTerms((Barrier,)))


def test_the_weights_of_two_basins(result):
    draws = in_start(result.observations[WARMUP:]).T.astype(float)
    effective = mean_effective_sample_size(draws)
    error = draws.std() / np.sqrt(effective)
    assert effective > 100
    assert error < 0.045
    assert abs(draws.mean() - weight_of_start()) < 4 * error


def test_plain_sampling_misses_the_other_basin():
    posterior, start = two_basins()
    kernel = Chains(HMC(posterior, np.ones(3), step_size=0.004, steps=8), vectorized=True)
    state = kernel.init(KEY, jnp.asarray(np.repeat(start[None], LADDERS, axis=0)))
    draws = in_start(run(kernel, state, KEY, SWEEPS, observe=at_all, chunk=1000).observations)
    # It moves within the basin, all chains agree, and the weight is wrong.
    assert draws.mean() > 0.9
    assert weight_of_start() < 0.3


def test_what_a_sweep_tells(result):
    infos = result.infos
    rungs = infos.replica.shape[-1]
    # Replicas are always a permutation, and move as the swaps say.
    np.testing.assert_array_equal(
        np.sort(infos.replica, axis=-1), np.broadcast_to(np.arange(rungs), infos.replica.shape)
    )
    before = np.concatenate([np.broadcast_to(np.arange(rungs), (1, LADDERS, rungs)), infos.replica[:-1]])
    after = before.copy()
    for pair in range(rungs - 1):
        swapped = infos.swapped[..., pair]
        after[swapped, pair], after[swapped, pair + 1] = before[swapped, pair + 1], before[swapped, pair]
    np.testing.assert_array_equal(after, infos.replica)
    # Even pairs in even sweeps, odd ones in odd sweeps.
    np.testing.assert_array_equal(infos.proposed[:2, 0], [np.arange(rungs - 1) % 2 == 0, np.arange(rungs - 1) % 2 == 1])
    assert not np.any(infos.swapped & ~infos.proposed)
    assert np.all(round_trips(infos.replica) > 10)
    # Every rung has its own step size, tuned to the acceptance aimed at, then fixed.
    steps = infos.rungs.step_size
    np.testing.assert_array_equal(steps[WARMUP + 1 :], np.broadcast_to(steps[-1, :1], steps[WARMUP + 1 :].shape))
    np.testing.assert_allclose(infos.rungs.acceptance[WARMUP:].mean(axis=(0, 1)), 0.8, atol=0.1)


@pytest.mark.slow
def test_a_ladder_is_tuned_to_its_acceptance():
    problem = Gaussian()
    kernel = HMC(problem.posterior, problem.masses, step_size=0.05, steps=6)
    guess = Ladder.geometric(300.0, 1200.0, rungs=3)
    starts = jnp.asarray(problem.exact_draws(8, seed=1))
    tuned = tune_ladder(kernel, starts, KEY, guess, ladders=8, acceptance=0.45, rounds=2, sweeps=80, vectorized=True)
    temperatures = np.asarray(tuned.ladder.temperatures)
    assert tuned.on_target
    assert (temperatures[0], temperatures[-1]) == (300.0, 1200.0)
    # Energies are Gamma variables of shape d/2: the mean swap probability is twice a beta distribution function.
    half = problem.dimension / 2
    exact = 2 * betainc(half, half, temperatures[:-1] / (temperatures[:-1] + temperatures[1:]))
    np.testing.assert_allclose(exact, 0.45, atol=0.1)
    np.testing.assert_allclose(tuned.rounds[-1].swap_acceptance, exact, atol=0.05)
    assert f"{tuned.ladder.rungs} rungs" in tuned.report()


def test_rungs_are_placed_at_equal_lengths():
    # With swaps of the Gaussian law and lengths proportional to the logarithm of temperature, one round is enough.
    ladder = Ladder([300.0, 330.0, 500.0, 900.0])
    lengths = 6 * np.diff(np.log(np.asarray(ladder.temperatures)))
    acceptance = 1 - np.array([_rejection(s) for s in lengths])
    np.testing.assert_allclose(exchange_lengths(acceptance), lengths, rtol=1e-3)
    new = np.asarray(place_rungs(ladder, acceptance, 0.4).temperatures)
    np.testing.assert_allclose(np.diff(np.log(new)), np.log(3) / (len(new) - 1), rtol=0.05)
    assert 1 - _rejection(6 * np.log(new[1] / new[0])) == pytest.approx(0.4, abs=0.06)


def _rejection(s):
    draws = np.random.default_rng(0).normal(-(s**2) / 2, s, 1_000_000)
    return 1 - np.minimum(1, np.exp(draws)).mean()


def test_round_trips():
    # One ladder of three rungs: replica 0 goes up and comes back, replica 2 only comes down.
    replica = np.array([[0, 1, 2], [1, 0, 2], [1, 2, 0], [2, 1, 0], [2, 0, 1], [0, 2, 1], [0, 1, 2]])
    np.testing.assert_array_equal(round_trips(replica[:, None]), [1])


class Moving(NamedTuple):
    position: jax.Array
    velocity: jax.Array
    step_size: jax.Array


def test_velocities_are_scaled_to_the_new_temperature():
    temperatures = jnp.asarray([300.0, 1200.0])
    x = jnp.arange(2.0)[None, :, None, None] * jnp.ones((1, 2, 4, 3))
    state = Moving(x, 1 + x, jnp.asarray([[0.1, 0.2]]))
    source = jnp.asarray([[1, 0]])
    new = _exchanged(state, source, jnp.sqrt(temperatures / temperatures[source]))
    np.testing.assert_allclose(new.position[0, :, 0, 0], [1, 0])
    np.testing.assert_allclose(new.velocity[0, :, 0, 0], [2 * 0.5, 1 * 2.0])
    np.testing.assert_array_equal(new.step_size, state.step_size)


def test_starts_are_dealt_out():
    starts = jnp.arange(5.0)[:, None, None] * jnp.ones((5, 2, 3))
    dealt = np.asarray(deal(starts, 2, 3))[..., 0, 0]
    assert set(dealt.ravel()) == set(range(5))
    assert dealt[0, 0] != dealt[1, 0]


def test_clear_errors():
    posterior, _ = two_basins()
    kernel = HMC(posterior, np.ones(3))
    with pytest.raises(ValueError, match="give the path"):
        ReplicaExchange(kernel, Ladder([300.0, 300.0], [1.0, 0.5]))
    with pytest.raises(ValueError, match="not the target"):
        ReplicaExchange(kernel, Ladder([310.0, 400.0]))
    with pytest.raises(ValueError, match="3 positions per ladder for 2 rungs"):
        ReplicaExchange(kernel, Ladder([300.0, 400.0])).init(KEY, jnp.zeros((1, 3, 3, 3)))
    with pytest.raises(ValueError, match="finite and positive"):
        Ladder([300.0, -1.0])
    with pytest.raises(ValueError, match="between 0 and 1"):
        Ladder([300.0, 400.0], [1.0, 1.5])
    with pytest.raises(ValueError, match="between 0 and 1"):
        place_rungs(Ladder([300.0, 400.0]), np.array([0.5]), 1.0)
