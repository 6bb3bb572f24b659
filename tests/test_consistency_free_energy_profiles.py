"""Potentials of mean force from mean forces against closed forms, and how profiles are compared."""

import importlib.util

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.gaussian import Gaussian, Quadratic

from jaxcg.consistency.free_energy import (
    FreeEnergyProfile,
    HarmonicUmbrella,
    harmonic_biases,
    integrated_profile,
    integration_matrix,
    mean_force_profile,
    normalised_free_energy_difference,
    path_profile,
    posterior_free_energy_difference,
    profile_deviation,
)
from jaxcg.consistency.statistics import Estimate
from jaxcg.energy.base import AbstractEnergy
from jaxcg.mapping import LinearMap
from jaxcg.posterior import Posterior
from jaxcg.sampling import CurvedLift, mean_force
from jaxcg.units import GAS_CONSTANT

T = 300.0
KT = GAS_CONSTANT * T
DRAWS = (2, 300)
needs_pymbar = pytest.mark.skipif(importlib.util.find_spec("pymbar") is None, reason="pymbar is not installed")


@pytest.fixture(scope="module")
def problem():
    with jax.enable_x64(True):
        yield Gaussian(dtype=np.float64)


def bead_stiffness(problem):
    """K_CG = (M H⁻¹ Mᵀ)⁻¹, and with soft beads the noise besides: W = ½ (y − Mc)ᵀ K (y − Mc)."""
    covariance = problem.matrix @ np.linalg.inv(problem.hessian) @ problem.matrix.T
    if problem.noise is not None:
        covariance = covariance + problem.noise**2 / problem.kT * np.eye(len(covariance))
    return np.linalg.inv(covariance)


def closed_form(problem, y):
    away = y.reshape(-1) - problem.matrix @ problem.centre
    return 0.5 * away @ bead_stiffness(problem) @ away


def at(problem, y, seed):
    """The posterior with beads y, and exact draws of it: those of another y, moved along."""
    inverse = np.linalg.inv(problem.hessian)
    shift = inverse @ problem.matrix.T @ bead_stiffness(problem) @ (y - problem.y).ravel()
    draws = problem.exact_draws(DRAWS[0] * DRAWS[1], seed=seed, dtype=np.float64) + shift.reshape(-1, 3)
    posterior = eqx.tree_at(lambda p: p.y, problem.posterior, jnp.asarray(y))
    return posterior, draws.reshape(*DRAWS, -1, 3)


def circle(problem):
    """A closed path of beads: nine points, the last the first."""
    angle = np.linspace(0, 2 * np.pi, 9)[:, None, None]
    rng = np.random.default_rng(1)
    one, two = 0.15 * rng.normal(size=(2, *problem.y.shape))
    return problem.y + np.cos(angle) * one + np.sin(angle) * two


def test_the_mean_force_of_a_gaussian_integrates_to_the_closed_form(x64, problem):
    path = np.linspace(problem.y, circle(problem)[2], 5)
    forces = []
    for number, y in enumerate(path):
        posterior, draws = at(problem, y, number)
        forces.append(mean_force(draws, posterior))
    found = path_profile(path, forces, T)
    exact = np.array([closed_form(problem, y) for y in path])
    apart = found.value - exact + exact[0]
    assert (np.abs(apart[1:]) < 4 * found.error[1:]).all()
    assert abs(exact[-1] - exact[0]) > 20 * found.error[-1]
    assert found.positions[-1] == pytest.approx(np.linalg.norm(path[-1] - path[0]))


def test_exact_forces_give_exact_profiles(problem):
    # Along a closed path through many coordinates W comes back to where it was; a spline of 65 points misses little.
    angle = np.linspace(0, 2 * np.pi, 65)
    rng = np.random.default_rng(1)
    one, two = 0.15 * rng.normal(size=(2, *problem.y.shape))
    path = problem.y + np.cos(angle)[:, None, None] * one + np.sin(angle)[:, None, None] * two

    class Force:
        def __init__(self, y):
            away = y.ravel() - problem.matrix @ problem.centre
            self.value = -(bead_stiffness(problem) @ away).reshape(y.shape)
            self.covariance = np.zeros((*y.shape, *y.shape))

    found = path_profile(path, [Force(y) for y in path], T)
    exact = np.array([closed_form(problem, y) for y in path])
    scale = np.ptp(exact)
    np.testing.assert_allclose(found.value, exact - exact[0], atol=2e-5 * scale)
    assert abs(found.value[-1]) < 2e-5 * scale


@needs_pymbar
@pytest.mark.parametrize("noise", [None, 0.05])
def test_acceptance_ratio_between_beads(x64, noise):
    problem = Gaussian(dtype=np.float64, noise=noise)
    other = problem.y + (0.04 if noise is None else 0.06) * np.random.default_rng(2).normal(size=problem.y.shape)
    (first, here), (second, there) = at(problem, problem.y, 0), at(problem, other, 1)
    found = posterior_free_energy_difference(here, there, first, second)
    exact = closed_form(problem, other) - closed_form(problem, problem.y)
    assert found.value == pytest.approx(exact, abs=4 * found.error + 1e-9)
    assert abs(exact) > 4 * found.error
    if noise is None:
        with pytest.raises(ValueError, match="different maps"):
            posterior_free_energy_difference(
                here, there, first, eqx.tree_at(lambda p: p.mapping, second, LinearMap.slice([0, 1, 2], 8))
            )
    with pytest.raises(ValueError, match="one temperature"):
        posterior_free_energy_difference(
            here, there, first, eqx.tree_at(lambda p: p.temperature, second, jnp.asarray(310.0))
        )


@needs_pymbar
def test_acceptance_ratio_between_energies_and_noises(x64):
    # ∫ exp(−U/kT) N(y; M x, σ²) dx of two quadratics: determinants and all.
    problem = Gaussian(dtype=np.float64, noise=0.05)
    stiffer = Quadratic(problem.posterior.energy.hessian * 1.05, problem.posterior.energy.centre, 0.7)
    second = Posterior(stiffer, problem.mapping, problem.posterior.y, T, 0.06)
    other = Gaussian(dtype=np.float64, noise=0.06)
    other.hessian = problem.hessian * 1.05
    inverse = np.linalg.inv(other.hessian)
    gain = inverse @ other.matrix.T @ bead_stiffness(other)
    other.mean = other.centre + gain @ (other.y.ravel() - other.matrix @ other.centre)
    other.covariance = other.kT * (inverse - gain @ other.matrix @ inverse)
    here = problem.exact_draws(1200, seed=0, dtype=np.float64).reshape(2, 600, 8, 3)
    there = other.exact_draws(1200, seed=1, dtype=np.float64).reshape(2, 600, 8, 3)

    def free_energy(p, constant):
        logs = np.linalg.slogdet(p.hessian)[1] - np.linalg.slogdet(bead_stiffness(p))[1]
        return closed_form(p, p.y) + constant + 0.5 * KT * logs

    found = posterior_free_energy_difference(here, there, problem.posterior, second)
    exact = free_energy(other, 0.7) - free_energy(problem, 0.0)
    assert found.value == pytest.approx(exact, abs=4 * found.error)
    assert abs(exact) > 10 * found.error


class Diatomic(AbstractEnergy):
    """½ k (r − r₀)² between two atoms, the first held near the origin."""

    def __call__(self, x):
        return 0.5 * 500.0 * (distance(x) - 0.3) ** 2 + 0.5 * 40.0 * jnp.sum(x[0] ** 2)


def distance(x):
    return jnp.linalg.norm(x[1] - x[0])


@pytest.mark.slow
def test_the_distance_of_two_atoms(x64):
    # W(r) = U(r) − 2 kT ln r: the Jacobian of the sphere is in the density.
    rng = np.random.default_rng(4)
    positions = np.linspace(0.2, 0.4, 11)
    posterior = Posterior(Diatomic(), LinearMap.slice([0], 2), jnp.zeros((1, 3)), T)
    lift = CurvedLift(distance, np.array([1.0, 3.0]))
    forces = []
    for r in positions:
        first = np.sqrt(KT / 40.0) * rng.normal(size=(2, 100, 1, 3))
        axis = rng.normal(size=first.shape)
        axis /= np.linalg.norm(axis, axis=-1, keepdims=True)
        forces.append(mean_force(np.concatenate([first, first + r * axis], axis=2), posterior, lift))
    found = mean_force_profile(positions, forces, T)
    exact = 250.0 * (positions - 0.3) ** 2 - 2 * KT * np.log(positions)
    apart = found.value - exact + exact[0]
    assert (np.abs(apart[1:]) < 4 * found.error[1:] + 1e-3).all()
    assert 0 < found.error[-1] < 0.3
    with pytest.raises(ValueError, match="as many forces"):
        mean_force_profile(positions[:-1], forces, T)


def test_quadrature():
    x = np.array([0.0, 0.3, 0.5, 1.1, 1.2, 2.0])
    matrix = integration_matrix(x)
    np.testing.assert_allclose(matrix @ (4 * x**3 - x), x**4 - x**2 / 2, atol=1e-12)  # cubics are exact
    assert (matrix[0] == 0).all()
    np.testing.assert_allclose(integration_matrix(x[:2]) @ [1.0, 3.0], [0, 0.6])
    gradient = jax.grad(lambda f: integrated_profile(x, f)[-1])(jnp.ones(6))
    np.testing.assert_allclose(gradient, -matrix[-1], rtol=1e-6)
    with pytest.raises(ValueError, match="ascend"):
        integration_matrix(x[::-1])


def test_the_bias_is_an_energy(x64):
    x = jnp.asarray(np.random.default_rng(5).normal(size=(2, 3)))
    umbrella = HarmonicUmbrella(distance, 0.2, 300.0)
    value = 150.0 * (float(distance(x)) - 0.2) ** 2
    assert float(umbrella(x)) == pytest.approx(value)
    assert float((umbrella + Diatomic())(x)) == pytest.approx(value + float(Diatomic()(x)))
    np.testing.assert_allclose(harmonic_biases(float(distance(x)), [0.2, 0.1], 300.0)[0], value)
    angle = HarmonicUmbrella(lambda x: x[0, 0], np.pi, 2.0, period=2 * np.pi)
    assert float(angle(jnp.full((1, 3), -np.pi + 0.5))) == pytest.approx(0.25)
    with pytest.raises(ValueError, match="negative"):
        HarmonicUmbrella(distance, 0.2, -1.0)
    with pytest.raises(ValueError, match="period"):
        HarmonicUmbrella(distance, 0.2, 1.0, period=0.0)


def test_normalised_differences():
    model, reference = Estimate(5.0, 0.3), Estimate(-4.0, 0.4)
    found = normalised_free_energy_difference(model, reference)
    assert found.value == pytest.approx(9 / 4)
    rng = np.random.default_rng(6)
    m, r = 5 + 0.003 * rng.normal(size=100000), -4 + 0.004 * rng.normal(size=100000)
    assert found.error / 100 == pytest.approx(np.std((m - r) / np.abs(r)), rel=0.02)
    with pytest.raises(ValueError, match="not to be told from zero"):
        normalised_free_energy_difference(model, Estimate(0.5, 0.2))
    thermal = normalised_free_energy_difference(model, Estimate(0.5, 0.2), temperature=T)
    assert thermal.value == pytest.approx(4.5 / KT)
    assert thermal.error == pytest.approx(np.hypot(0.3, 0.2) / KT)


def profile(value, error, rng):
    x = np.linspace(-0.5, 0.5, 21)
    return FreeEnergyProfile(x, value(x) + error * rng.normal(size=21), error**2 * np.eye(21), T)


def test_the_deviation_of_profiles_is_unbiased():
    rng = np.random.default_rng(7)

    def well(x):
        return 20 * x**2

    def tilted(x):
        return well(x) + 1.5 * x

    x = np.linspace(-0.5, 0.5, 21)
    p = np.exp(-well(x) / KT)
    p /= p.sum()
    exact = (p @ (1.5 * x / KT) ** 2) - (p @ (1.5 * x / KT)) ** 2
    for other, expected in ((tilted, exact), (well, 0.0)):
        found = [profile_deviation(profile(other, 0.2, rng), profile(well, 0.2, rng)) for _ in range(400)]
        values, errors = np.array([f.value for f in found]), np.array([f.error for f in found])
        assert values.mean() == pytest.approx(expected, abs=4 * values.std() / 20 + 0.02 * expected)
        # Near zero rather too large: the linear term is hidden in the scatter, and counts as zero at least.
        assert 0.85 < np.sqrt(np.mean(errors**2)) / values.std() < (1.15 if expected else 1.4)
    short = FreeEnergyProfile(x[1:], well(x[1:]), np.eye(20), T)
    with pytest.raises(ValueError, match="same positions"):
        profile_deviation(short, profile(well, 0.1, rng))


def test_profiles():
    rng = np.random.default_rng(8)
    found = profile(lambda x: 20 * x**2, 0.1, rng)
    moved = found.relative_to(0.25)
    assert moved.value[15] == 0 == moved.error[15]
    assert moved.error[0] == pytest.approx(0.1 * np.sqrt(2))
    for one in (found, moved):
        apart = one.difference(-0.5, 0.0)
        assert apart.value == pytest.approx(found.value[10] - found.value[0])
        assert apart.error == pytest.approx(0.1 * np.sqrt(2))
        basins = one.basin_difference((-0.52, -0.12), (0.12, 0.52))
        assert basins.value == pytest.approx(0, abs=4 * basins.error)
        assert 0.02 < basins.error < 0.15
    assert float(found.energy()(jnp.asarray([0.25]))) == pytest.approx(found.value[15], abs=1e-4)
    with pytest.raises(ValueError, match="no sample between"):
        found.basin_difference((2.0, 3.0), (0.0, 0.1))
