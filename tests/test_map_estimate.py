"""The MAP against closed forms, by any optax optimiser, and its ways of ending."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from oracles.gaussian import Gaussian, Quadratic

from jaxcg.backmap import map_estimate
from jaxcg.backmap.map_estimate import _ADVANCE, map_search
from jaxcg.errors import ResultError
from jaxcg.lockstep import together
from jaxcg.posterior import Posterior
from jaxcg.typing import Array


def start(problem, dtype=np.float32):
    rng = np.random.default_rng(1)
    return jnp.asarray(rng.normal(scale=0.3, size=(problem.mapping.n_atoms, 3)), dtype)


def test_exact_beads_give_the_conditional_mean(x64):
    problem = Gaussian(dtype=np.float64)
    found = map_estimate(problem.posterior, start(problem, np.float64), steps=2000, tolerance=1e-7)
    assert found.status == "converged"
    np.testing.assert_allclose(found.x.ravel(), problem.mean, atol=1e-7)
    np.testing.assert_allclose(problem.mapping(found.x), problem.y, atol=1e-12)


def test_soft_beads_give_the_product_of_gaussians(x64):
    problem = Gaussian(dtype=np.float64, noise=0.05)
    found = map_estimate(problem.posterior, start(problem, np.float64), steps=2000, tolerance=1e-7)
    np.testing.assert_allclose(found.x.ravel(), problem.mean, atol=1e-7)
    assert np.abs(problem.mapping(found.x) - problem.y).max() > 1e-3


def test_single_precision_stays_on_the_fibre():
    problem = Gaussian()
    found = map_estimate(problem.posterior, start(problem), steps=500, tolerance=0.05)
    np.testing.assert_allclose(found.x.ravel(), problem.mean, atol=2e-3)
    assert np.abs(problem.mapping(found.x) - problem.y).max() < 2e-6


@pytest.mark.parametrize("optimizer", [optax.adam(0.01), optax.sgd(4e-4, momentum=0.9)], ids=["adam", "momentum"])
def test_any_optax_optimiser_serves(x64, optimizer):
    problem = Gaussian(dtype=np.float64)
    found = map_estimate(problem.posterior, start(problem, np.float64), optimizer, steps=4000, tolerance=1e-2)
    assert found.status == "converged"
    np.testing.assert_allclose(found.x.ravel(), problem.mean, atol=1e-3)
    np.testing.assert_allclose(problem.mapping(found.x), problem.y, atol=1e-12)


def test_running_out_of_steps_is_said_and_the_best_point_kept():
    problem = Gaussian()
    found = map_estimate(problem.posterior, start(problem), steps=3, tolerance=1e-6)
    assert found.status == "steps exhausted"
    assert found.steps == 3
    assert found.potential == pytest.approx(float(problem.posterior.potential(found.x)), rel=1e-5)


def test_potential_falls_along_the_history(x64):
    problem = Gaussian(dtype=np.float64)
    found = map_estimate(problem.posterior, start(problem, np.float64), optax.adam(1e-3), steps=400, tolerance=1e-9)
    values = [value for _, value, _ in found.history]
    assert len(values) == 8
    assert values == sorted(values, reverse=True)


def test_an_energy_that_is_not_finite_raises_or_is_reported():
    problem = Gaussian()
    broken = Quadratic(problem.posterior.energy.hessian, problem.posterior.energy.centre, float("nan"))
    posterior = Posterior(broken, problem.mapping, problem.posterior.y)
    with pytest.raises(ResultError, match="not finite"):
        map_estimate(posterior, start(problem))
    assert map_estimate(posterior, start(problem), throw=False).status == "not finite"


class Listed(Quadratic):
    """Known only within 0.02 nm of where its list was made."""

    reference: Array = eqx.field(kw_only=True)

    def __call__(self, x):
        return jnp.where(self.stale(x), jnp.nan, super().__call__(x))

    def stale(self, x):
        return jnp.any(jnp.linalg.norm(x - self.reference, axis=-1) > 0.02)

    def rebuild(self, x):
        return eqx.tree_at(lambda e: e.reference, self, x)


def test_pair_lists_are_made_anew_before_they_are_stale(x64):
    problem = Gaussian(dtype=np.float64)
    plain = problem.posterior
    x0 = problem.mapping.fibre().retract(start(problem, np.float64), plain.y)
    energy = Listed(plain.energy.hessian, plain.energy.centre, reference=jnp.zeros_like(x0))
    posterior = Posterior(energy, problem.mapping, plain.y)
    # So short a step that a chunk between two lists holds many.
    found = map_estimate(posterior, x0, optax.sgd(1e-4), steps=6000, tolerance=1e-2)
    unlisted = map_estimate(plain, x0, optax.sgd(1e-4), steps=6000, tolerance=1e-2)
    assert found.status == unlisted.status == "converged"
    assert found.steps == unlisted.steps
    np.testing.assert_allclose(found.x, unlisted.x, atol=1e-12)
    assert len(found.history) > len(unlisted.history)


class Cliff(Quadratic):
    """Has no energy below a level."""

    level: float = eqx.field(kw_only=True)

    def __call__(self, x):
        value = super().__call__(x)
        return jnp.where(value < self.level, jnp.nan, value)


def test_an_energy_lost_on_the_way_ends_the_search(x64):
    problem = Gaussian(dtype=np.float64)
    plain, x0 = problem.posterior, start(problem, np.float64)
    highest = float(plain.energy(problem.mapping.fibre().retract(x0, plain.y)))
    lowest = map_estimate(plain, x0, steps=2000, tolerance=1e-7).potential
    energy = Cliff(plain.energy.hessian, plain.energy.centre, level=0.5 * (highest + lowest))
    posterior = Posterior(energy, problem.mapping, plain.y)
    found = map_estimate(posterior, x0, steps=500, throw=False)
    assert found.status == "not finite"
    assert energy.level <= found.potential <= highest
    assert np.isfinite(found.x).all()
    with pytest.raises(ResultError):
        map_estimate(posterior, x0, steps=500)


class Roomy(Quadratic):
    """Has a list that is too small at first, and NaN for an energy as long as it is."""

    room: Array = eqx.field(kw_only=True)

    def __call__(self, x):
        return jnp.where(self.room.size < 4, jnp.nan, super().__call__(x))

    def rebuild(self, x):
        if isinstance(x, jax.core.Tracer) or self.room.size >= 4:
            return self
        return eqx.tree_at(lambda e: e.room, self, jnp.zeros(2 * self.room.size))


def test_a_pair_list_gets_the_room_it_lacks(x64):
    problem = Gaussian(dtype=np.float64)
    plain, x0 = problem.posterior, start(problem, np.float64)
    energy = Roomy(plain.energy.hessian, plain.energy.centre, room=jnp.zeros(1))
    found = map_estimate(Posterior(energy, problem.mapping, plain.y), x0, steps=2000, tolerance=1e-7)
    assert found.status == "converged"
    np.testing.assert_allclose(found.x, map_estimate(plain, x0, steps=2000, tolerance=1e-7).x, atol=1e-9)


def test_another_y_does_not_compile_again():
    problem = Gaussian()
    map_estimate(problem.posterior, start(problem), steps=20)
    before = _ADVANCE.one._cached._cache_size()
    other = Posterior(problem.posterior.energy, problem.mapping, problem.posterior.y + 0.1)
    map_estimate(other, start(problem), steps=40)
    assert _ADVANCE.one._cached._cache_size() == before


def test_many_searches_at_once_find_what_each_finds_alone(x64):
    problem = Gaussian()
    fibre = problem.mapping.fibre()
    starts = [start(problem, np.float64) + 0.1 * k for k in range(3)]
    beads = [problem.posterior.y + 0.1 * k for k in range(3)]

    def search(x0, y):
        posterior = eqx.tree_at(lambda p: p.y, problem.posterior, y)
        own = eqx.tree_at(lambda p: p.y, jax.tree.map(lambda leaf: False, posterior), True)
        return map_search(posterior, own, x0, steps=2000, tolerance=1e-7, fibre=fibre)

    together_ = list(together((search(x0, y) for x0, y in zip(starts, beads, strict=True)), width=2))
    for found, x0, y in zip(together_, starts, beads, strict=True):
        assert found.status == "converged"
        one = map_estimate(eqx.tree_at(lambda p: p.y, problem.posterior, y), x0, steps=2000, tolerance=1e-7)
        np.testing.assert_allclose(found.x, one.x, atol=1e-9)
        assert found.steps == one.steps
    assert np.ptp([found.potential for found in together_]) > 0
