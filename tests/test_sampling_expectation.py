"""Averages over draws: their errors, and their derivatives by the covariance formula against closed forms."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.gaussian import Gaussian, Quadratic

from jaxcg.posterior import Posterior
from jaxcg.sampling.estimators.expectation import expectation
from jaxcg.sampling.estimators.gradients import bead_gradient, parameter_gradient, temperature_gradient
from jaxcg.sampling.estimators.map_sensitivity import differentiable_map
from jaxcg.sampling.estimators.monte_carlo import series_mean
from jaxcg.sampling.estimators.reweighting import differentiable_expectation, reweight

CHAINS, DRAWS = 4, 700
DIRECTION = np.random.default_rng(5).normal(size=24)


def correlated(problem, seed=0, chains=CHAINS, draws=DRAWS, memory=0.7):
    """Draws of the exact posterior whose whitened coordinates are AR(1) chains: (chains, draws, atoms, 3)."""
    rng = np.random.default_rng(seed)
    z = autoregressive(rng, (chains, draws, problem.dimension), memory)
    reduced = problem.basis.T @ problem.covariance @ problem.basis
    x = problem.mean + z @ np.linalg.cholesky(reduced).T @ problem.basis.T
    return x.reshape(chains, draws, -1, 3)


def autoregressive(rng, shape, memory):
    """AR(1) chains of unit variance along the second axis, started in equilibrium."""
    z = rng.normal(size=shape)
    for i in range(1, shape[1]):
        z[:, i] = memory * z[:, i - 1] + np.sqrt(1 - memory**2) * z[:, i]
    return z


def linear_and_square(x):
    flat = x.ravel()
    return {"mean": x[:2], "square": (flat @ jnp.asarray(DIRECTION, x.dtype)) ** 2}


def closed_form(hessian, centre, matrix, y, kT, noise):
    """E of `linear_and_square` as a differentiable function of everything (flat arrays)."""
    inverse = jnp.linalg.inv(hessian)
    gram = matrix @ inverse @ matrix.T
    if noise is not None:
        gram = gram + noise**2 / kT * jnp.eye(len(gram))
    gain = inverse @ matrix.T @ jnp.linalg.inv(gram)
    mean = centre + gain @ (y - matrix @ centre)
    covariance = kT * (inverse - gain @ matrix @ inverse)
    return {"mean": mean[:6].reshape(2, 3), "square": (mean @ DIRECTION) ** 2 + DIRECTION @ covariance @ DIRECTION}


def exact_of(problem):
    inputs = problem.hessian, problem.centre, problem.matrix, problem.y.ravel(), problem.kT, problem.noise
    return [None if v is None else jnp.asarray(v) for v in inputs]


def agrees(found, exact, sigma=4.5):
    """All values within ``sigma`` errors, and the errors about as large as the deviations."""
    for value, error, size, truth in zip(*(jax.tree.leaves(t) for t in (*found, exact)), strict=True):
        assert np.shape(value) == np.shape(error) == np.shape(size) == np.shape(truth)
        z = (value - np.asarray(truth)) / np.where(error > 0, error, 1e-9 + 1e-6 * np.abs(truth))
        assert np.abs(z).max() < sigma
        if z.size > 20:
            assert 0.4 < np.sqrt(np.mean(z**2)) < 1.8


@pytest.fixture(scope="module", params=[None, pytest.param(0.05, marks=pytest.mark.slow)], ids=["exact", "soft"])
def case(request):
    with jax.enable_x64(True):
        problem = Gaussian(dtype=np.float64, noise=request.param)
        yield problem, correlated(problem)


@pytest.mark.parametrize(("memory", "chains", "draws"), [(0.0, 4, 100), (0.9, 4, 600), (0.9, 1, 2400), (-0.5, 2, 300)])
def test_errors_cover_as_they_should(memory, chains, draws):
    rng = np.random.default_rng(1)
    series = autoregressive(rng, (chains, draws, 1000), memory)
    value, error, effective = series_mean(series)
    inside = np.mean(np.abs(value) < error)
    assert inside == pytest.approx(0.683, abs=0.06)
    assert np.mean(np.abs(value) < 2 * error) == pytest.approx(0.954, abs=0.04)
    exact = chains * draws * (1 - memory) / (1 + memory)
    assert np.median(effective) == pytest.approx(exact, rel=0.15)


def test_chains_that_disagree_have_large_errors():
    rng = np.random.default_rng(1)
    series = rng.normal(size=(4, 500, 1)) * 0.01 + np.array([0.0, 0.0, 1.0, 1.0])[:, None, None]
    assert series_mean(series)[1][0] > 0.15  # four chains, two of each kind: not 2000 draws


def test_short_chains_and_constants():
    rng = np.random.default_rng(1)
    value, error, effective = series_mean(rng.normal(size=(400, 3)))
    assert effective == 400
    assert error == pytest.approx(1 / np.sqrt(1200), rel=0.15)
    assert abs(value) < 4 * error
    assert np.isnan(series_mean(rng.normal(size=(1, 3)))[1])
    constant = series_mean(np.full((2, 50), 3.0))
    assert constant[:2] == (3, 0)
    assert np.isnan(constant[2])


def test_expectation(x64, case):
    problem, draws = case
    found = expectation(linear_and_square, draws)
    agrees(found, closed_form(*exact_of(problem)))
    assert (
        500 < found.effective_samples["square"] < 1500
    )  # linear in the mean of it: AR(1) 0.7, a sixth of 2800, or square: a third


def test_expectation_in_blocks_is_the_same(x64, case, monkeypatch):
    _, draws = case
    whole = expectation(linear_and_square, draws[:2, :50])
    monkeypatch.setattr("jaxcg.sampling.estimators.monte_carlo._CPU_DRAWS", 36)
    parts = expectation(linear_and_square, draws[:2, :50])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), whole, parts)


def test_gradient_by_parameters(x64, case):
    problem, draws = case
    inputs = exact_of(problem)

    def exact(parameters):
        return closed_form(parameters.hessian, parameters.centre, *inputs[2:])["square"]

    found = parameter_gradient(lambda x: linear_and_square(x)["square"], draws, problem.posterior)
    truth = jax.jacrev(exact)(eqx.filter(problem.posterior.energy, eqx.is_inexact_array))
    # U depends on the symmetric part of the Hessian alone.
    truth = jax.tree.map(lambda t: (t + jnp.swapaxes(t, -1, -2)) / 2 if t.shape[-2:] == (24, 24) else t, truth)
    agrees(found, truth)


def test_gradient_by_a_users_parameters(x64, case):
    problem, draws = case
    inputs = exact_of(problem)

    def energy_of(scale):
        return Quadratic(problem.posterior.energy.hessian * scale["k"], problem.posterior.energy.centre)

    def observable(x, scale):
        return scale["k"] ** 2 * linear_and_square(x)["square"]

    scale = {"k": jnp.asarray(1.0)}
    found = parameter_gradient(observable, draws, problem.posterior, scale, energy_of, explicit=True)
    truth = jax.grad(lambda s: s["k"] ** 2 * closed_form(inputs[0] * s["k"], *inputs[1:])["square"])(scale)
    agrees(found, truth)
    implicit = parameter_gradient(lambda x: observable(x, {"k": 1.0}), draws, problem.posterior, scale, energy_of)
    assert abs(found.value["k"] - implicit.value["k"]) > 10 * found.error["k"]  # the explicit part is seen


def test_gradient_by_temperature(x64, case):
    problem, draws = case
    inputs = exact_of(problem)
    found = temperature_gradient(linear_and_square, draws, problem.posterior)
    per_kelvin = problem.kT / 300.0
    truth = jax.jacrev(lambda kT: closed_form(*inputs[:4], kT, inputs[5]))(inputs[4])
    agrees(found, jax.tree.map(lambda t: t * per_kelvin, truth))


def test_gradient_by_beads(x64, case):
    problem, draws = case
    inputs = exact_of(problem)
    found = bead_gradient(linear_and_square, draws, problem.posterior)
    truth = jax.jacrev(lambda y: closed_form(*inputs[:3], y, *inputs[4:]))(inputs[3])
    truth = jax.tree.map(lambda t: t.reshape(*t.shape[:-1], 3, 3), truth)
    agrees(found, truth)
    for leaf, error in zip(jax.tree.leaves(truth), jax.tree.leaves(found.error), strict=True):
        assert np.median(error) < 0.2 * np.abs(leaf).max()  # small enough to show a sign


@pytest.mark.slow
def test_differentiable_expectation_has_the_same_derivatives(x64, case):
    problem, draws = case
    posterior, draws = problem.posterior, draws[:2, :100]

    def average(posterior):
        return differentiable_expectation(linear_and_square, draws, posterior, fibre=problem.mapping.fibre())

    arrays, static = eqx.partition(posterior, eqx.is_inexact_array)
    numbers = {"energy": arrays.energy, "temperature": arrays.temperature, "y": arrays.y}

    def of(numbers):
        where = lambda p: (p.energy, p.temperature, p.y)  # noqa: E731
        return average(eqx.combine(eqx.tree_at(where, arrays, tuple(numbers.values())), static))

    value, slope = of(numbers), jax.jit(jax.jacrev(of))(numbers)
    whole = expectation(linear_and_square, draws).value
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), value, whole)
    unbiased = 200 / 199  # the estimators divide by one draw less
    by_energy = parameter_gradient(linear_and_square, draws, posterior).value
    by_temperature = temperature_gradient(linear_and_square, draws, posterior).value
    for name in ("mean", "square"):
        scale = np.abs(by_energy[name].hessian).max()
        np.testing.assert_allclose(
            unbiased * slope[name]["energy"].hessian, by_energy[name].hessian, rtol=1e-8, atol=1e-10 * scale
        )
        np.testing.assert_allclose(unbiased * slope[name]["temperature"], by_temperature[name], rtol=1e-8)
    if posterior.exact:
        # Another lift: the same average, for these draws only within the noise.
        lifted = bead_gradient(linear_and_square, draws, posterior)
        for name in ("mean", "square"):
            apart = (slope[name]["y"] - lifted.value[name]) / (lifted.error[name] + 1e-9)
            assert np.abs(apart).max() < 8
    else:
        by_beads = bead_gradient(linear_and_square, draws, posterior).value
        np.testing.assert_allclose(unbiased * slope["mean"]["y"], by_beads["mean"], rtol=1e-8, atol=1e-10)
    # Forward mode and second derivatives: those of the reweighted average.
    direction = jax.tree.map(jnp.zeros_like, numbers) | {"temperature": jnp.asarray(1.0)}
    forward = jax.jvp(of, (numbers,), (direction,))[1]
    np.testing.assert_allclose(forward["square"], slope["square"]["temperature"], rtol=1e-8)


@pytest.mark.slow
def test_moved_parameters_are_reweighted_to(x64):
    problem = Gaussian(dtype=np.float64)
    posterior, draws = problem.posterior, correlated(problem, draws=100)
    moved = Posterior(posterior.energy, problem.mapping, posterior.y, 320.0, problem.noise)

    def average(temperature):
        other = eqx.tree_at(lambda p: p.temperature, posterior, temperature)
        return differentiable_expectation(linear_and_square, draws, other, drawn_from=posterior)["square"]

    value, slope = jax.value_and_grad(average)(moved.temperature)
    found = reweight(linear_and_square, draws, posterior, moved)
    assert value == pytest.approx(found.value["square"], rel=1e-10)
    assert slope == pytest.approx(float(average(320.01) - average(319.99)) / 0.02, rel=1e-6)
    # At weights of one the curvature too is that of the reweighted average.
    second = jax.grad(
        jax.grad(
            lambda t: differentiable_expectation(
                linear_and_square, draws, eqx.tree_at(lambda p: p.temperature, posterior, t)
            )["square"]
        )
    )(posterior.temperature)
    assert second == pytest.approx(float(average(301.0) - 2 * average(300.0) + average(299.0)), rel=1e-3)


def test_reweighting(x64, case):
    problem, draws = case
    other = Gaussian(dtype=np.float64, noise=problem.noise, temperature=310.0)
    found = reweight(linear_and_square, draws, problem.posterior, other.posterior)
    assert found.status == "trusted"
    assert 0.3 < found.share < 0.999
    exact = closed_form(*exact_of(other))
    for name in ("mean", "square"):
        z = (found.value[name] - np.asarray(exact[name])) / found.error[name]
        assert np.abs(z).max() < 4.5
    assert np.isnan(found.free_energy)
    cold = Gaussian(dtype=np.float64, noise=problem.noise, temperature=60.0)
    lost = reweight(linear_and_square, draws, problem.posterior, cold.posterior)
    assert lost.status == "collapsed"
    assert lost.share < 0.01
    same = reweight(linear_and_square, draws, problem.posterior, problem.posterior)
    assert same.share == pytest.approx(1)
    assert same.free_energy == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(same.value["mean"], expectation(linear_and_square, draws).value["mean"], rtol=1e-12)


def test_free_energy_of_reweighting(x64, case):
    problem, draws = case
    shifted = Quadratic(problem.posterior.energy.hessian * 1.01, problem.posterior.energy.centre, 7.0)
    other = eqx.tree_at(lambda p: p.energy, problem.posterior, shifted)
    found = reweight(linear_and_square, draws, problem.posterior, other)
    energies = expectation(problem.posterior.energy, draws)
    # To first order 7 + ⟨0.01 U⟩, to second less half the variance of it.
    assert found.free_energy == pytest.approx(7 + 0.01 * float(energies.value), abs=0.05)


def test_bad_input_is_refused(x64):
    draws = np.arange(2 * 5 * 2 * 3, dtype=float).reshape(2, 5, 2, 3)
    with pytest.raises(ValueError, match="swap the first two axes"):
        expectation(linear_and_square, draws[0])
    marker = draws[1, 3, 0, 0]
    with pytest.raises(ValueError, match="not finite for draw 3 of chain 1"):
        expectation(lambda x: jnp.where(x[0, 0] == marker, jnp.nan, x[0, 0]), draws)
    problem = Gaussian(dtype=np.float64)
    other = eqx.tree_at(lambda p: p.y, problem.posterior, problem.posterior.y + 0.1)
    with pytest.raises(ValueError, match="other beads"):
        reweight(linear_and_square, problem.exact_draws(4)[None], problem.posterior, other)
    with pytest.raises(ValueError, match="give energy_of"):
        parameter_gradient(linear_and_square, problem.exact_draws(4)[None], problem.posterior, jnp.ones(2))


def test_beads_alone_are_traced_under_jit():
    """Only y is an argument of jit; the map is a constant, and its weights must stay one."""
    problem = Gaussian()
    draws = jnp.asarray(problem.exact_draws(4), jnp.float32)[None]
    x = draws[0, 0]

    def average(y):
        moved = eqx.tree_at(lambda p: p.y, problem.posterior, y)
        return differentiable_expectation(jnp.sum, draws, moved), jnp.sum(differentiable_map(moved, x))

    y = problem.posterior.y
    for plain, compiled in zip(jax.jacrev(average)(y), jax.jit(jax.jacrev(average))(y), strict=True):
        np.testing.assert_allclose(compiled, plain, rtol=1e-3, atol=1e-3)
