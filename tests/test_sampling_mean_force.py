"""The mean force on the beads against closed forms: linear, soft and curved, with errors that cover."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.gaussian import Gaussian

from jaxcg.energy.base import AbstractEnergy
from jaxcg.mapping import LinearMap
from jaxcg.mapping.force_maps import aggregating_force_map
from jaxcg.posterior import Posterior
from jaxcg.sampling.estimators.lifts import CurvedLift, LinearLift
from jaxcg.sampling.estimators.mean_force import mean_force
from jaxcg.typing import Array

DRAWS = (4, 500)


def closed_form(problem):
    """−∂W/∂y of the Gaussian problem: W is quadratic with the covariance of the beads, kT A H⁻¹ Aᵀ + σ²."""
    covariance = problem.kT * problem.matrix @ np.linalg.inv(problem.hessian) @ problem.matrix.T
    if problem.noise is not None:
        covariance = covariance + problem.noise**2 * np.eye(len(covariance))
    away = problem.y.ravel() - problem.matrix @ problem.centre
    return -problem.kT * np.linalg.solve(covariance, away).reshape(-1, 3)


def draws_of(problem, seed=0):
    return problem.exact_draws(DRAWS[0] * DRAWS[1], seed=seed, dtype=np.float64).reshape(*DRAWS, -1, 3)


@pytest.fixture(scope="module")
def problem():
    with jax.enable_x64(True):
        yield Gaussian(dtype=np.float64)


def metric_lift(problem):
    return aggregating_force_map(problem.mapping, masses=problem.masses)


@pytest.mark.parametrize("how", ["default", "masses", "optimal", pytest.param("curved", marks=pytest.mark.slow)])
def test_linear_beads(x64, problem, how):
    draws, exact = draws_of(problem), closed_form(problem)
    lifts = {"masses": metric_lift, "curved": lambda p: CurvedLift(p.mapping, p.masses)}
    lift = lifts[how](problem) if how in lifts else None
    found = mean_force(draws, problem.posterior, lift, optimal=how == "optimal")
    assert found.value.shape == found.error.shape == (3, 3)
    z = (found.value - exact) / found.error
    assert np.abs(z).max() < 4
    assert np.abs(exact).max() > 20 * found.error.max()  # the sign and size are seen
    # χ² with the covariance of the errors.
    apart = (found.value - exact).ravel()
    assert 0.5 < apart @ np.linalg.solve(found.covariance.reshape(9, 9), apart) < 30
    np.testing.assert_allclose(np.diag(found.covariance.reshape(9, 9)), found.error.ravel() ** 2, rtol=1e-12)
    if how == "optimal":
        plain = mean_force(draws, problem.posterior)
        assert np.mean(found.error**2) < 0.9 * np.mean(plain.error**2)
    if how == "curved":  # the same lift, found by differentiation
        linear = mean_force(draws, problem.posterior, metric_lift(problem))
        np.testing.assert_allclose(found.value, linear.value, rtol=1e-9, atol=1e-9)


def test_soft_beads(x64):
    problem = Gaussian(dtype=np.float64, noise=0.05)
    found = mean_force(draws_of(problem), problem.posterior)
    assert np.abs((found.value - closed_form(problem)) / found.error).max() < 4
    with pytest.raises(ValueError, match="soft"):
        mean_force(draws_of(problem), problem.posterior, metric_lift(problem))


def test_errors_cover(x64, problem):
    exact = closed_form(problem)
    z = []
    for seed in range(40):
        found = mean_force(draws_of(problem, seed)[:, :60], problem.posterior)
        z.append((found.value - exact) / found.error)
    assert np.sqrt(np.mean(np.square(z))) == pytest.approx(1, abs=0.15)
    assert np.mean(np.abs(z) < 2) == pytest.approx(0.954, abs=0.04)


class Distance(AbstractEnergy):
    """A chain of three atoms; U of r₀₁, of r₁₂ and of r₀₂."""

    stiffness: Array

    def __call__(self, x):
        k = self.stiffness.astype(x.dtype)
        r, s, t = (jnp.linalg.norm(x[i] - x[j]) for i, j in ((0, 1), (1, 2), (0, 2)))
        return 0.5 * (k[0] * (r - 0.3) ** 2 + k[1] * (s - 0.2) ** 2 + k[2] * (t - 0.4) ** 2 + k[3] * jnp.sum(x[1] ** 2))


STIFFNESS = np.array([200.0, 600.0, 150.0, 30.0])
KT = 8.31446261815324e-3 * 300.0


def end_to_end(x):
    return jnp.linalg.norm(x[0] - x[1])


def chain_draws(r, rng, count, rigid=None):
    """Exact draws of the chain at r₀₁ = r (and r₁₂ = rigid): by weights on a fine grid of (s, cos θ)."""
    s = np.linspace(1e-3, 0.6, 600) if rigid is None else np.array([rigid])
    cosine = np.linspace(-1, 1, 801)
    weight = np.exp(-reduced(r, s[:, None], cosine) / KT) * s[:, None] ** 2
    cell = rng.choice(weight.size, size=count, p=(weight / weight.sum()).ravel())
    s, cosine = s[cell // len(cosine)], cosine[cell % len(cosine)]
    middle = rng.normal(size=(count, 3)) * np.sqrt(KT / STIFFNESS[3])
    axes = np.linalg.qr(rng.normal(size=(count, 3, 3)))[0]
    first, side = axes[:, 0], axes[:, 1]
    last = cosine[:, None] * first + np.sqrt(1 - cosine**2)[:, None] * side
    return np.stack([middle + r * first, middle, middle + s[:, None] * last], axis=1).reshape(4, -1, 3, 3)


def reduced(r, s, cosine):
    t = np.sqrt(r**2 + s**2 - 2 * r * s * cosine)
    k = STIFFNESS
    return 0.5 * (k[0] * (r - 0.3) ** 2 + k[1] * (s - 0.2) ** 2 + k[2] * (t - 0.4) ** 2)


def potential_of_mean_force(r, rigid=None):
    """W(r) = −kT ln ∫ δ(r − r₀₁) exp(−U/kT) dx with δ(s − rigid) if rigid: r² s² from the two spheres."""
    s = np.linspace(1e-4, 0.7, 1500)[:, None] if rigid is None else np.array([[rigid]])
    weight = np.exp(-reduced(r, s, np.linspace(-1, 1, 2001)) / KT) * (s * r) ** 2
    return -KT * np.log(weight.sum())


class Second(eqx.Module):
    """The bond of atoms 1 and 2."""

    def __call__(self, x):
        return jnp.linalg.norm(x[1] - x[2])[None]


@pytest.mark.parametrize(
    ("rigid", "masses"),
    [(0.25, (1.0, 12.0, 3.0)), pytest.param(None, (1.0, 1.0, 1.0), marks=pytest.mark.slow)],
    ids=["rigid bond", "free"],
)
def test_a_distance_held(x64, rigid, masses):
    rng = np.random.default_rng(3)
    r = 0.15
    posterior = Posterior(Distance(jnp.asarray(STIFFNESS)), LinearMap.slice([1], 3), jnp.zeros((1, 3)))
    lift = CurvedLift(end_to_end, np.array(masses), None if rigid is None else Second())
    found = mean_force(chain_draws(r, rng, 4000, rigid), posterior, lift)
    step = 1e-4
    exact = -(potential_of_mean_force(r + step, rigid) - potential_of_mean_force(r - step, rigid)) / (2 * step)
    assert found.value.shape == ()
    assert abs(found.value - exact) < 4 * found.error
    assert found.error < 0.08 * abs(exact)
    assert 2 * KT / r > 12 * found.error  # the entropic force is in it


def test_a_lift_moves_what_it_should(x64):
    x = np.random.default_rng(0).normal(size=(3, 3)) * 0.3
    lift = CurvedLift(end_to_end, np.array([1.0, 2.0, 3.0]), Second())
    change = jax.jvp(lambda at: (end_to_end(at), Second()(at)), (x,), (lift.spread(x, jnp.asarray(0.7)),))[1]
    np.testing.assert_allclose(change[0], 0.7, rtol=1e-12)
    np.testing.assert_allclose(change[1], 0, atol=1e-12)
    force = np.random.default_rng(1).normal(size=(3, 3))
    assert float(lift.gather(x, force)) == pytest.approx(float(jnp.vdot(lift.spread(x, jnp.asarray(1.0)), force)))
    # The divergence is the trace of the derivative of the field.
    field = jax.jit(jax.jacfwd(lambda at: lift.spread(at, jnp.ones(()))))(x).reshape(9, 9)
    assert float(jax.jit(lambda at: lift.divergence(at))(x)) == pytest.approx(np.trace(field), rel=1e-9)
    linear = LinearLift(aggregating_force_map(LinearMap.center_of_geometry([[0, 1]], 3)))
    np.testing.assert_allclose(linear.spread(x, np.ones((1, 3))), [[1] * 3, [1] * 3, [0] * 3])


def test_single_precision(problem):
    draws = draws_of(problem).astype(np.float32)[:, :50]
    single = mean_force(draws, Gaussian().posterior)
    assert np.abs(single.value - closed_form(problem)).max() < 5 * single.error.max()
