import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.gaussian import Gaussian

from jaxcg.energy.base import AbstractEnergy
from jaxcg.mapping import LinearMap, RigidBonds
from jaxcg.posterior import Posterior
from jaxcg.run import run
from jaxcg.sampling import Chains, Heating, Langevin, burn_in, mean_effective_sample_size

KEY = jax.random.key(1)


def observe_position(state):
    return state.position


def within(draws, exact, sigma=4.5):
    """Whether the mean of (chains, draws) agrees with ``exact`` within its standard error."""
    return abs(draws.mean() - exact) < sigma * draws.std() / np.sqrt(mean_effective_sample_size(draws))


@pytest.mark.parametrize(("noise", "dtype"), [(0.05, np.float32), (None, np.float64)])
def test_positions_have_no_bias_in_a_harmonic_well(noise, dtype):
    # BAOAB is exact there for any stable step; half the steps below would show a bias of 10 % with other splittings.
    with jax.enable_x64(dtype == np.float64):
        problem = Gaussian(noise=noise, dtype=dtype)
        kernel = Chains(Langevin(problem.posterior, problem.masses, step_size=0.06, friction=8.0))
        state = kernel.init(KEY, jnp.asarray(problem.exact_draws(32)))
        result = run(kernel, state, KEY, 1600, every=4, observe=observe_position, chunk=400)
        assert result.observations.dtype == dtype
        z = problem.whiten(result.observations).transpose(2, 1, 0)
        for coordinate in z:
            assert within(coordinate, 0.0)
            assert within(coordinate**2, 1.0)
        lowest = float(problem.posterior.potential(jnp.asarray(problem.mode, dtype)))
        assert within((result.infos.potential.T - lowest) / problem.kT, problem.dimension / 2)
        if noise is None:
            flat = result.observations.reshape(-1, 24).astype(np.float64)
            drift = np.abs(flat @ problem.matrix.T - np.asarray(problem.posterior.y, np.float64).ravel()).max()
            assert drift < (2e-6 if dtype == np.float32 else 1e-12)


def test_kinetic_temperature_without_friction_noise_bias():
    problem = Gaussian()
    kernel = Chains(Langevin(problem.posterior, problem.masses, step_size=0.005, friction=20.0, temperature=150.0))
    result = run(kernel, kernel.init(KEY, jnp.asarray(problem.exact_draws(32))), KEY, 1000, chunk=500)
    assert within(result.infos.temperature[300:].T, 150.0)


def test_heating_ramps_temperature_and_step_size():
    problem = Gaussian()
    langevin = Langevin(problem.posterior, problem.masses, step_size=0.02, friction=20.0)
    heating = Heating(langevin, ramp=100, start_temperature=9.0, start_step_size=0.005)
    result = run(heating, heating.init(KEY, jnp.asarray(problem.mode, jnp.float32)), KEY, 200)
    np.testing.assert_allclose(result.infos.step_size[[0, 50, 100, 150]], [0.005, 0.0125, 0.02, 0.02], rtol=1e-5)
    assert result.infos.temperature[:10].mean() < 60 < result.infos.temperature[100:].mean()


def test_burn_in_from_the_mode_reaches_the_typical_set():
    problem = Gaussian(n_atoms=40)
    start = jnp.asarray(np.repeat(problem.mode[None], 6, axis=0), jnp.float32)
    result = burn_in(problem.posterior, start, KEY, masses=problem.masses, heat=300, hold=300, step_size=0.02)
    d = problem.dimension
    lowest = float(problem.posterior.potential(start[0]))
    np.testing.assert_allclose(result.potential[0], lowest, rtol=1e-5)  # the first row is the start
    assert result.temperature.shape == (6,)
    assert result.temperature.mean() == pytest.approx(300, rel=0.1)
    excess = (result.potential[-100:].mean() - lowest) / problem.kT
    assert excess == pytest.approx(d / 2, rel=0.15)
    np.testing.assert_allclose(
        jax.vmap(problem.mapping)(result.positions), np.broadcast_to(problem.posterior.y, (6, 3, 3)), atol=2e-6
    )


class Nothing(AbstractEnergy):
    """Zero."""

    def __call__(self, x):
        return jnp.zeros((), x.dtype)


@pytest.mark.slow
def test_the_measure_of_rigid_bonds_has_the_temperature_of_the_bath():
    """Without an energy what is sampled does not depend on the temperature that the posterior has."""
    x = jnp.asarray([[0.1, 0, 0], [0, 0, 0], [0.03, 0.09, 0]])
    bonds = RigidBonds.at([[0, 1], [1, 2]], x)

    def positions(temperature):
        posterior = Posterior(Nothing(), LinearMap.slice([1], 3), jnp.zeros((1, 3)), temperature, None, bonds)
        kernel = Langevin(posterior, np.array([10.0, 1.0, 10.0]), step_size=0.005, temperature=900.0)
        return run(kernel, kernel.init(KEY, x), KEY, 20).state.position

    np.testing.assert_allclose(positions(300.0), positions(900.0), atol=1e-6)


def test_bad_settings_are_refused():
    problem = Gaussian()
    with pytest.raises(ValueError, match="temperature"):
        Langevin(problem.posterior, problem.masses, temperature=0.0)
    with pytest.raises(ValueError, match="friction"):
        Langevin(problem.posterior, problem.masses, friction=-1.0)
