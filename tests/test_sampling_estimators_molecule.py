"""Estimators on alanine dipeptide: mean forces by several lifts and from free energies, gradients from new runs."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from alanine_fibre import alanine_fibre, phi_psi

from jaxcg.posterior import Posterior
from jaxcg.run import run
from jaxcg.sampling import HMC, Chains, expectation, heavy_hydrogen_masses, mean_force, parameter_gradient
from jaxcg.sampling.estimators.lifts import CurvedLift
from jaxcg.sampling.estimators.monte_carlo import series_mean
from jaxcg.typing import Array

pytestmark = pytest.mark.slow

KEY = jax.random.key(0)
CHAINS, DRAWS, WARM = 8, 400, 60
#: How far the outer beads are pulled apart for a perturbation, nm; 15 times as far puts a strain on the molecule.
SHIFT = np.array([[-1.0, 0, 0], [0, 0, 0], [1.0, 0, 0]]) * 0.002


class Problem(eqx.Module):
    """A posterior of alanine dipeptide in vacuum whose torsion terms may be scaled, and whose beads may be moved."""

    base: Posterior
    start: np.ndarray
    masses: np.ndarray

    def posterior(self, scale=1.0, shift: Array | np.ndarray | None = None) -> Posterior:
        energy = scaled(self.base.energy, jnp.asarray(scale, jnp.float32))
        y = self.base.y if shift is None else self.base.y + jnp.asarray(shift, jnp.float32)
        return eqx.tree_at(lambda p: (p.energy, p.y), self.base, (energy, y))

    def draws(self, posterior, seed):
        """(chains, draws, 22, 3) by short HMC from the minimum."""
        kernel = Chains(HMC(posterior, self.masses, step_size=0.0015, steps=10))
        start = jnp.asarray(np.repeat(self.start[None], CHAINS, axis=0), jnp.float32)
        key = jax.random.key(seed)
        result = run(kernel, kernel.init(key, start), key, WARM + DRAWS, observe=position, chunk=WARM + DRAWS)
        assert result.infos.acceptance[WARM:].mean() > 0.6
        return np.swapaxes(result.observations[WARM:], 0, 1)


def position(state):
    return state.position


def scaled(energy, scale):
    """The energy with all torsion terms times ``scale``."""
    torsions = [i for i, part in enumerate(energy.parts) if type(part).__name__ == "PeriodicTorsion"]
    where = lambda e: [e.parts[i].stiffness for i in torsions]  # noqa: E731
    return eqx.tree_at(where, energy, [stiffness * scale for stiffness in where(energy)])


@pytest.fixture(scope="module")
def problem():
    fibre = alanine_fibre(solvent=False)
    relaxed = fibre.posterior()
    strained = eqx.tree_at(lambda p: p.y, relaxed, relaxed.y + jnp.asarray(15 * SHIFT, jnp.float32))
    return Problem(strained, fibre.minimum, heavy_hydrogen_masses(fibre.system))


@pytest.fixture(scope="module")
def centre(problem):
    return problem.draws(problem.posterior(), 0)


def test_mean_forces_of_three_lifts_agree(problem, centre):
    plain = mean_force(centre, problem.base)
    optimal = mean_force(centre, problem.base, optimal=True, l2=1.0)
    # The lift of least squares in the masses, with its divergence, by differentiation.
    curved = mean_force(centre[:, ::8], problem.base, CurvedLift(problem.base.mapping, problem.masses))
    for other in (optimal, curved):
        z = (plain.value - other.value) / np.hypot(plain.error, other.error)
        assert np.abs(z).max() < 4
    # A free molecule pushes itself nowhere.
    total = plain.value.sum(axis=0)
    assert np.all(np.abs(total) < 4 * np.sqrt(np.sum(plain.error**2, axis=0)) + 0.05)
    assert np.abs(plain.value).max() > 6 * np.median(plain.error)


def test_mean_force_is_the_slope_of_the_free_energy(problem, centre):
    """W(y + δ) − W(y) by free-energy perturbation, one run at either end: atoms carried along by the lift."""
    moved = problem.posterior(shift=SHIFT)
    there = problem.draws(moved, 1)
    kT = float(problem.base.thermal_energy)
    carry = np.asarray(problem.base.mapping.fibre(problem.masses).lift(jnp.asarray(SHIFT, jnp.float32)))
    energy = jax.jit(jax.vmap(jax.vmap(problem.base.energy)))
    slopes = []
    for draws, step, sign in ((centre, carry, 1), (there, -carry, -1)):
        work = np.asarray(energy(jnp.asarray(draws + step)) - energy(jnp.asarray(draws)), np.float64)
        weight = np.exp(-work / kT)
        value, error, _ = series_mean(weight)
        slopes.append((-sign * kT * np.log(value), kT * error / value))
    forces = [mean_force(draws, posterior) for draws, posterior in ((centre, problem.base), (there, moved))]
    # The mean of both ends times the way.
    trapezoid = -0.5 * sum(np.sum(force.value * SHIFT) for force in forces)
    flat = SHIFT.ravel()
    error = 0.5 * np.sqrt(sum(flat @ force.covariance.reshape(9, 9) @ flat for force in forces))
    for value, own in slopes:
        assert abs(value - trapezoid) < 4 * np.hypot(own, error)
    assert abs(trapezoid) > 5 * error


def observables(x):
    phi, psi = phi_psi(x)
    return {"phi": jnp.cos(phi), "psi": jnp.cos(psi)}


def torsion_energy(x, parts):
    return sum(part(x) for part in parts)


def test_gradient_by_the_torsion_terms_against_new_runs(problem, centre):
    parts = [part for part in problem.base.energy.parts if type(part).__name__ == "PeriodicTorsion"]

    def observable(x):
        return observables(x) | {"torsions": torsion_energy(x, parts)}

    found = parameter_gradient(
        observable, centre, problem.base, jnp.asarray(1.0), lambda scale: scaled(problem.base.energy, scale)
    )
    h = 0.15
    ends = [expectation(observable, problem.draws(problem.posterior(1 + s * h), 3 + s)) for s in (1, -1)]
    for name in found.value:
        change = (ends[0].value[name] - ends[1].value[name]) / (2 * h)
        error = np.hypot(found.error[name], np.hypot(ends[0].error[name], ends[1].error[name]) / (2 * h))
        assert abs(found.value[name] - change) < 4 * error
    # The torsion energy falls as its terms grow, and this is seen.
    assert found.value["torsions"] < -5 * found.error["torsions"]
