"""Excursions through softened energies: exact on a torsion whose law is known by quadrature, reversible, of use."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from butane import MASSES, TORSION, butane, weights
from molecules import quick

from jaxcg.run import run
from jaxcg.sampling import HMC, Chains, mean_effective_sample_size
from jaxcg.sampling.tempering.switching import SwitchingHMC

KEY = jax.random.key(0)
CHAINS = 16


def kernel(posterior, **settings):
    hmc = HMC(posterior, MASSES, step_size=0.011, steps=4)
    # Angles are weakened with the torsion: at λ = 0 the chain would crumple, and few would come back.
    return SwitchingHMC(hmc, np.ones((1, 4)), **{"excursion": 150, "coupling": 0.05, "hold": 0.6} | settings)


def positions(state):
    return state.position


@pytest.fixture(scope="module")
def result():
    posterior, start = butane()
    chains = Chains(kernel(posterior), vectorized=True)
    state = chains.init(KEY, jnp.asarray(np.repeat(start[None], CHAINS, axis=0)))
    return run(chains, state, KEY, 600, observe=positions, chunk=300)


def wells(result):
    angles = np.rad2deg(TORSION.along(result.observations[100:])[..., 0]) % 360
    return (angles // 120).astype(int).T


@pytest.mark.slow
def test_the_law_of_a_torsion(result):
    well = wells(result)
    for number, weight in enumerate(weights()):
        draws = (well == number).astype(float)
        effective = mean_effective_sample_size(draws)
        error = draws.std() / np.sqrt(effective)
        assert effective > 300
        assert abs(draws.mean() - weight) < 4 * error
    # The shape of the wells too, not their weights alone.
    angles = TORSION.along(result.observations[100:])[..., 0]
    phi = np.deg2rad((np.arange(36000) + 0.5) / 100)
    density = np.exp(-5 * (1 + np.cos(3 * phi)) - 0.8 * (1 + np.cos(phi - 2.0)))
    inside = np.cos(3 * angles).T
    error = inside.std() / np.sqrt(mean_effective_sample_size(inside))
    assert abs(inside.mean() - (np.cos(3 * phi) * density).sum() / density.sum()) < 4 * error


def test_only_excursions_change_wells(result):
    well, excursion = wells(result), result.infos.excursion[101:, 0]
    changes = np.diff(well, axis=1) != 0
    assert changes[:, excursion].mean() > 0.05
    assert changes[:, ~excursion].mean() < 0.002
    infos = result.infos
    # Work is done, and the test refuses some of it.
    assert 0.15 < infos.acceptance[infos.excursion].mean() < 0.95
    np.testing.assert_array_equal(infos.region, np.where(infos.excursion, 0, -1))
    assert 113 <= infos.steps[infos.excursion].min() < infos.steps[infos.excursion].max() <= 187


@pytest.mark.slow
def test_an_excursion_is_undone_by_turning_round(x64):
    posterior, start = butane(np.float64)
    switching = kernel(posterior, separation=0.0)
    move = quick(lambda *arguments: switching.trajectory(*arguments))
    x = switching.init(KEY, jnp.asarray(start)).position
    v = switching.hmc.geometry.thermal_velocities(KEY, posterior.thermal_energy, x)
    arguments = jnp.asarray(0.004), jnp.asarray(61), jnp.ones(4), jnp.asarray(0.9)
    there, velocity, _ = move(x, v, *arguments)
    back, turned, _ = move(there, -velocity, *arguments)
    assert float(jnp.abs(there - x).max()) > 0.05
    np.testing.assert_allclose(back, x, atol=1e-10)
    np.testing.assert_allclose(turned, -v, atol=1e-8)
    # Volumes are kept: the Jacobian of (position, velocity) on the fibre, along an orthonormal basis of it.
    basis = jnp.kron(jnp.asarray(np.linalg.svd(np.ones((1, 4)))[2][1:]), jnp.eye(3))

    def flow(z):
        d, w = (z.reshape(2, 9) @ basis).reshape(2, 4, 3)
        end, final, _ = switching.trajectory(x + d, v + w, *arguments)
        return jnp.concatenate([basis @ (end - x).ravel(), basis @ (final - v).ravel()])

    jacobian = quick(jax.jacfwd(flow))(jnp.zeros(18))
    assert abs(float(jnp.linalg.slogdet(jacobian)[1])) < 1e-6


def test_clear_errors():
    posterior, _ = butane()
    hmc = HMC(posterior, MASSES)
    with pytest.raises(ValueError, match="expected \\(regions, 4\\)"):
        SwitchingHMC(hmc, np.ones((1, 5)))
    with pytest.raises(ValueError, match="coupling"):
        SwitchingHMC(hmc, np.ones((1, 4)), coupling=1.5)
