import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.gaussian import Gaussian, Quadratic

from jaxcg.energy.base import SumEnergy
from jaxcg.mapping import LinearMap
from jaxcg.posterior import Posterior
from jaxcg.run import run
from jaxcg.sampling import HMC, Chains, mean_effective_sample_size
from jaxcg.sampling.kernels.differences import compensated_sum, energy_difference, potential_terms
from jaxcg.sampling.kernels.hmc import jittered_steps

KEY = jax.random.key(0)


def observe_position(state):
    return state.position


def standard_error(draws):
    """Of the mean of (chains, draws), from the effective sample size."""
    return draws.std() / np.sqrt(mean_effective_sample_size(draws))


def check_moments(problem, draws, potentials, sigma=4.5):
    """Mean and covariance of (draws, chains, atoms, 3) and the mean energy against the closed form."""
    z = problem.whiten(draws).transpose(2, 1, 0)  # (dimension, chains, draws)
    for coordinate in z:
        assert abs(coordinate.mean()) < sigma * standard_error(coordinate)
        assert abs((coordinate**2).mean() - 1) < sigma * standard_error(coordinate**2)
    for i, first in enumerate(z):
        product = first * z[i - 1]
        assert abs(product.mean()) < sigma * standard_error(product)
    # Draws that alternate about the mean count for more than they are there, not so for a covariance: squares count.
    count = min(mean_effective_sample_size(coordinate**2) for coordinate in z)
    spread = 2.5 * np.sqrt(problem.dimension / count)  # Marchenko-Pastur: 1 ± 2 √(d/n)
    eigenvalues = np.linalg.eigvalsh(np.cov(z.reshape(len(z), -1)))
    assert spread < 0.25
    assert 1 - spread < eigenvalues.min() <= eigenvalues.max() < 1 + spread
    lowest = float(problem.posterior.potential(jnp.asarray(problem.mode, draws.dtype)))
    excess = (potentials.T - lowest) / problem.kT
    assert abs(excess.mean() - problem.dimension / 2) < sigma * standard_error(excess)


def sample(problem, masses, step_size, steps, chains=32, draws=500, discard=40):
    kernel = Chains(HMC(problem.posterior, masses, step_size=step_size, steps=steps))
    dtype = problem.posterior.y.dtype
    start = jnp.asarray(np.repeat(problem.mode[None], chains, axis=0), dtype)  # from the mode, no typical point
    result = run(kernel, kernel.init(KEY, start), KEY, draws, observe=observe_position)
    infos = jax.tree.map(lambda leaf: leaf[discard:], result.infos)
    return result.observations[discard:], infos


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_fibre_gaussian_where_double_precision_is_enabled(dtype):
    with jax.enable_x64(True):
        problem = Gaussian(dtype=dtype)
        draws, infos = sample(problem, problem.masses, 0.06, steps=6)
        assert draws.dtype == dtype
        # Neither all accepted nor nearly all rejected: a missing Metropolis test would be seen.
        assert 0.6 < infos.acceptance.mean() < 0.95
        check_moments(problem, draws, infos.potential)
        residual = np.einsum("ij,scj->sci", problem.matrix, draws.reshape(*draws.shape[:2], -1).astype(np.float64))
        residual -= np.asarray(problem.posterior.y, np.float64).ravel()
        assert np.abs(residual).max() < (2e-6 if dtype == np.float32 else 1e-12)


def test_soft_posterior_tends_to_the_fibre():
    with jax.enable_x64(True):
        exact = Gaussian(dtype=np.float64)
        soft = Gaussian(dtype=np.float64, noise=2e-3)
        draws, _ = sample(soft, soft.masses, 0.003, steps=60, chains=16, draws=160)
        z = exact.whiten(draws).transpose(2, 1, 0)
        for coordinate in z:
            assert abs(coordinate.mean()) < 4.5 * standard_error(coordinate) + 0.02
            assert abs((coordinate**2).mean() - 1) < 4.5 * standard_error(coordinate**2) + 0.02
        residual = (draws.reshape(*draws.shape[:2], -1) @ exact.matrix.T - exact.y.ravel()) / 2e-3
        assert np.sqrt((residual**2).mean()) == pytest.approx(1, abs=0.1)


def trajectory(problem, step_size, steps, masses=None):
    kernel = HMC(problem.posterior, problem.masses if masses is None else masses, step_size=step_size)
    state = kernel.init(KEY, jnp.asarray(problem.exact_draws(1, seed=2)[0]))
    velocity = kernel.geometry.thermal_velocities(KEY, problem.posterior.thermal_energy, state.position)
    end = eqx.filter_jit(kernel.trajectory)(
        state.position, velocity, jnp.asarray(step_size, velocity.dtype), jnp.asarray(steps)
    )
    return kernel, state, velocity, end


def test_energy_error_is_of_second_order():
    with jax.enable_x64(True):
        problem = Gaussian(dtype=np.float64)
        errors = []
        for halvings in (0, 1, 2):
            kernel, state, velocity, (x, v, _) = trajectory(problem, 0.02 / 2**halvings, 10 * 2**halvings)
            terms = potential_terms(problem.posterior, kernel.geometry, state.position)
            new_terms = potential_terms(problem.posterior, kernel.geometry, x)
            errors.append(float(energy_difference(kernel.geometry, terms, new_terms, velocity, v)))
        ratios = np.array(errors[:-1]) / np.array(errors[1:])
        np.testing.assert_allclose(ratios, 4, rtol=0.1)


def test_trajectory_is_reversible_and_stays_on_the_fibre():
    with jax.enable_x64(True):
        problem = Gaussian(dtype=np.float64)
        kernel, state, velocity, (x, v, _) = trajectory(problem, 0.05, 37)
        assert np.abs(x - state.position).max() > 0.01
        np.testing.assert_allclose(problem.mapping(x), problem.posterior.y, atol=1e-13)
        np.testing.assert_allclose(problem.mapping(v), 0, atol=1e-13)
        back = kernel.trajectory(x, -v, jnp.asarray(0.05), jnp.asarray(37))
        np.testing.assert_allclose(back[0], state.position, atol=1e-12)
        np.testing.assert_allclose(back[1], -velocity, atol=1e-10)


def test_velocities_have_the_constrained_maxwell_law():
    with jax.enable_x64(True):
        problem = Gaussian(dtype=np.float64)
        move = HMC(problem.posterior, problem.masses).geometry
        like = jnp.zeros((8, 3))
        draw = jax.jit(jax.vmap(lambda key: move.thermal_velocities(key, problem.kT, like)))
        v = np.asarray(draw(jax.random.split(KEY, 20000))).reshape(20000, -1)
        inverse = np.repeat(1 / problem.masses, 3)
        a = problem.matrix
        exact = np.diag(inverse) - inverse[:, None] * a.T @ np.linalg.solve(a * inverse @ a.T, a * inverse)
        scale = np.sqrt(np.diag(exact) + 1e-300)
        error = (np.cov(v.T) / problem.kT - exact) / np.outer(scale, scale)
        assert np.abs(error).max() < 5 / np.sqrt(20000)


def test_fibre_is_held_far_from_the_origin_in_float32():
    # A protein sits at some nm from the origin: float32 positions are 2e-7 to 5e-7 nm apart there.
    rng = np.random.default_rng(0)
    n = 300
    groups = [list(range(i, i + 12)) for i in range(0, n - 12, 10)]
    masses = rng.uniform(1, 16, n)
    mapping = LinearMap.center_of_mass(groups, masses)
    centre = rng.uniform(0, 6, (n, 3))
    energy = Quadratic(jnp.eye(3 * n, dtype=jnp.float32) * 500, jnp.asarray(centre.ravel(), jnp.float32))
    y = jnp.asarray(mapping(jnp.asarray(centre)), jnp.float32)
    kernel = Chains(HMC(Posterior(energy, mapping, y), masses, step_size=0.03, steps=20))
    state = kernel.init(KEY, jnp.asarray(centre + rng.normal(scale=0.05, size=(2, n, 3)), jnp.float32))
    result = run(kernel, state, KEY, 100, observe=observe_position)
    assert result.infos.acceptance.mean() > 0.5
    weights = mapping.matrix().toarray()
    drift = np.abs(weights @ result.observations.astype(np.float64) - np.asarray(y, np.float64)).max()
    assert drift < 2e-6


def test_acceptance_falls_with_the_step_size_and_wild_steps_diverge():
    problem = Gaussian()
    kernel = Chains(HMC(problem.posterior, problem.masses))
    state = kernel.init(KEY, jnp.asarray(problem.exact_draws(8)))
    means = []
    for step_size in (0.005, 0.06, 0.5):
        started = state._replace(step_size=jnp.full(8, step_size, jnp.float32))
        result = run(kernel, started, KEY, 20, chunk=20)
        infos = result.infos
        means.append(infos.acceptance.mean())
        expected = np.exp(np.minimum(-infos.energy_error.astype(np.float64) / problem.kT, 0))
        np.testing.assert_allclose(infos.acceptance, np.where(infos.divergent, 0, expected), rtol=1e-4, atol=1e-6)
    assert means[0] > 0.99
    assert 0.3 < means[1] < 0.98
    assert means[2] == 0
    assert infos.divergent.mean() > 0.9
    np.testing.assert_array_equal(result.state.position, state.position)  # nothing was moved


def test_numbers_that_are_not_finite_are_rejected():
    class Cliff(Quadratic):
        def __call__(self, x):
            return jnp.where(jnp.sum(x**2) > 2.0, jnp.nan, 0.0)

    problem = Gaussian()
    posterior = eqx.tree_at(lambda p: p.energy, problem.posterior, Cliff(jnp.zeros(0), jnp.zeros(0)))
    kernel = HMC(posterior, np.ones(8), step_size=0.05, steps=5)
    start = problem.mapping.pseudoinverse(problem.posterior.y)
    result = run(kernel, kernel.init(KEY, start), KEY, 100)
    assert result.infos.divergent.any()
    assert result.infos.accepted.any()
    assert np.all(np.isfinite(result.infos.potential))


def test_jittered_lengths_are_uniform():
    lengths = np.asarray(jax.vmap(jittered_steps, (0, None))(jnp.arange(1900), jnp.asarray(10)))
    values, counts = np.unique(lengths, return_counts=True)
    np.testing.assert_array_equal(values, np.arange(1, 20))
    assert np.ptp(counts) <= 4
    late = np.asarray(jax.vmap(jittered_steps, (0, None))(2**30 + jnp.arange(1900), jnp.asarray(10)))
    assert late.mean() == pytest.approx(10, abs=0.05)
    assert np.asarray(jittered_steps(jnp.asarray(5), jnp.asarray(1))) == 1


class Wells(Quadratic):
    """Independent wells: ``hessian`` (atoms, 1)."""

    def __call__(self, x):
        return 0.5 * jnp.sum(self.hessian.astype(x.dtype) * x**2) + jnp.asarray(self.constant, x.dtype)


def big_posterior(n_terms=16, constant=6e4, n_atoms=2000):
    """Many particles, on top of 10⁶ kJ/mol spread over terms."""
    rng = np.random.default_rng(0)
    mapping = LinearMap.center_of_geometry([range(n_atoms)], n_atoms)
    none = jnp.zeros(0, jnp.float32)
    stiffness = [jnp.asarray(rng.uniform(1e1, 1e3, (n_atoms, 1)), jnp.float32) for _ in range(n_terms)]
    energy = SumEnergy(tuple(Wells(k, none, constant) for k in stiffness))
    return Posterior(energy, mapping, jnp.zeros((1, 3), jnp.float32)), rng.uniform(1, 16, n_atoms)


def exact_energy(posterior, masses, x, v):
    """In NumPy float64, of float32 parameters, positions and velocities."""
    x, v, masses = (np.asarray(a, np.float64) for a in (x, v, np.asarray(masses, np.float32)))
    potential = sum(t.constant + 0.5 * np.sum(np.asarray(t.hessian, np.float64) * x**2) for t in posterior.energy.parts)
    return potential + 0.5 * np.sum(masses[:, None] * v**2)


@pytest.mark.parametrize("x64", [True, False])
def test_energy_difference_is_right_in_float32(x64):
    with jax.enable_x64(x64):
        posterior, masses = big_posterior()
        kernel = HMC(posterior, masses)
        ends = eqx.filter_jit(lambda posterior, x: potential_terms(posterior, kernel.geometry, x))
        total = eqx.filter_jit(lambda p, x, v: p.potential(x) + kernel.geometry.kinetic_energy(v))
        ours, naive = [], []
        for seed in range(5):
            rng = np.random.default_rng(seed)
            old, v, new, w = (
                jnp.asarray(rng.normal(scale=s, size=(2000, 3)), jnp.float32) for s in (0.03, 0.5, 0.03, 0.5)
            )
            exact = exact_energy(posterior, masses, new, w) - exact_energy(posterior, masses, old, v)
            difference = energy_difference(kernel.geometry, ends(posterior, old), ends(posterior, new), v, w)
            ours.append(float(difference) - exact)
            naive.append(float(total(posterior, new, w)) - float(total(posterior, old, v)) - exact)
    error, plain = (float(np.sqrt(np.mean(np.square(e)))) for e in (ours, naive))
    print(error, plain)
    assert plain > 0.05  # float32 totals of 10⁶ kJ/mol: the problem is there
    assert error < (1e-7 if x64 else plain / 4)


def test_compensated_sum():
    values = np.random.default_rng(0).normal(size=10001).astype(np.float32) * 1e6
    values = np.concatenate([values, -values[::-1], np.float32([0.125])])
    np.random.default_rng(1).shuffle(values)
    assert float(jax.jit(compensated_sum)(jnp.asarray(values))) == pytest.approx(0.125, abs=1e-2)
    assert abs(float(np.cumsum(values)[-1]) - 0.125) > 0.5  # what a plain sum makes of it


def test_bad_settings_are_refused():
    problem = Gaussian()
    with pytest.raises(ValueError, match="expected \\(8,\\)"):
        HMC(problem.posterior, np.ones(7))
    with pytest.raises(ValueError, match="positive"):
        HMC(problem.posterior, np.zeros(8))
    for step_size in (0.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="step_size"):
            HMC(problem.posterior, np.ones(8), step_size=step_size)
