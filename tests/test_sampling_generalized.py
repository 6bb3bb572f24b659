import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.gaussian import Gaussian
from test_sampling_constrained import KT, Ellipses, Slope, von_mises

from jaxcg.posterior import Posterior
from jaxcg.sampling import HMC, ConstrainedGeometry, GeneralizedHMC, GeneralizedHMCState

KEY = jax.random.key(5)


@pytest.mark.slow
def test_on_curved_constraints_positions_and_velocities_keep_their_joint_law(x64):
    """From exact draws on ellipses, steps so large that many are refused because they cannot be undone."""
    posterior = Posterior(Slope(), Ellipses(), jnp.ones((1, 3)))
    geometry = ConstrainedGeometry(posterior, np.full(2, KT))
    kernel = GeneralizedHMC(posterior, geometry, step_size=0.7, steps=2, persistence=0.8)
    _, x = von_mises(8000)

    @eqx.filter_jit
    def carried(kernel, x, flip):
        def chain(key, x):
            def body(state, key):
                new, info = kernel.step(key, state)
                turned = new._replace(velocity=jnp.where(info.accepted | flip, new.velocity, -new.velocity))
                return turned, (info.accepted, info.irreversible)

            return jax.lax.scan(body, kernel.init(key, x), jax.random.split(key, 12))

        return jax.vmap(chain)(jax.random.split(KEY, len(x)), x)

    grid = np.linspace(0, 2 * np.pi, 4001)[:-1]
    weight = np.exp(-np.cos(grid))
    off = []
    for flip in (True, False):
        state, (accepted, irreversible) = carried(kernel, jnp.asarray(x), jnp.asarray(flip))
        end, v = np.asarray(state.position), np.asarray(state.velocity)
        assert np.abs(end[:, 0] ** 2 + (end[:, 1] / 3) ** 2 - 1).max() < 1e-11
        assert np.abs(end[:, 0] * v[:, 0] + end[:, 1] * v[:, 1] / 9).max() < 1e-11
        t, speed = np.arctan2(end[:, 1] / 3, end[:, 0]), end[:, 0] * v[:, 1] / 3 - end[:, 1] * v[:, 0] / 3
        # Of a chain the three components are refused together: chains are independent, components are not.
        values = [f(t).mean(axis=1) - (weight * f(grid)).sum() / weight.sum() for f in (np.cos, np.sin)]
        values += [(0.5 * KT * (v**2).sum(axis=1) / KT - 0.5).mean(axis=1)]  # kT/2 in each of three directions
        values += [(np.sin(t) * speed).mean(axis=1)]  # a velocity does not know where it is
        off.append([value.mean() / (value.std() / np.sqrt(len(value))) for value in values])
        print(flip, off[-1], np.mean(accepted), np.mean(irreversible))
        assert 0.2 < np.mean(accepted) < 0.9
        assert np.mean(irreversible) > 0.05
    assert np.abs(off[0]).max() < 4
    assert np.abs(off[1]).max() > 6


@pytest.mark.slow
def test_without_persistence_it_is_hmc():
    problem = Gaussian()
    posterior, masses = problem.posterior, problem.masses
    general = GeneralizedHMC(posterior, masses, step_size=0.05, steps=4, persistence=0.0)
    plain = HMC(posterior, masses, step_size=0.05, steps=4)
    x = jnp.asarray(problem.exact_draws(1)[0])
    state, other = general.init(KEY, x), plain.init(KEY, x)
    step, plain_step = eqx.filter_jit(general.step), eqx.filter_jit(plain.step)
    for i in range(5):
        key = jax.random.fold_in(KEY, i)
        state, info = step(key, state)
        other, plain_info = plain_step(key, other)
        assert bool(info.accepted) == bool(plain_info.accepted)
        np.testing.assert_allclose(state.position, other.position, atol=2e-6)
    assert isinstance(state, GeneralizedHMCState)
    np.testing.assert_allclose(problem.mapping(state.velocity), 0, atol=1e-5)


@pytest.mark.parametrize("persistence", [1.0, -0.1])
def test_persistence_is_checked(persistence):
    problem = Gaussian()
    with pytest.raises(ValueError, match="persistence"):
        GeneralizedHMC(problem.posterior, problem.masses, persistence=persistence)
