"""Derivatives of the MAP: against closed forms, and against structures minimised again."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from molecules import quick
from oracles.gaussian import Gaussian

from jaxcg.backmap import differentiable_map_estimate
from jaxcg.energy import HarmonicAngle, HarmonicBond, PeriodicTorsion
from jaxcg.energy.base import AbstractEnergy
from jaxcg.errors import ResultError
from jaxcg.mapping import LinearMap
from jaxcg.mapping.rigid_bonds import RigidBonds
from jaxcg.posterior import Posterior
from jaxcg.sampling.estimators.map_sensitivity import differentiable_map, map_response, newton_map
from jaxcg.sampling.estimators.tangent_solver import TangentSolver
from jaxcg.typing import Array

N = 7
ITERATIVE = TangentSolver(dense=False, tolerance=1e-11)
BONDS = np.array([[0, 1], [1, 2], [2, 3], [3, 4], [4, 5], [2, 6]])
ANGLES = np.array([[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5], [1, 2, 6], [3, 2, 6]])
TORSIONS = np.array([[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5]])
START = np.zeros((N, 3))
START[:6] = [[0, 0, 0], [0.13, 0.06, 0], [0.26, -0.02, 0.03], [0.37, 0.06, -0.04], [0.5, 0, 0.02], [0.6, 0.1, 0.05]]
START[6] = START[2] + [0.01, -0.1, 0.09]


class Charges(AbstractEnergy):
    """Charges that repel."""

    charges: Array

    def __call__(self, x):
        i, j = np.triu_indices(N, 3)
        return jnp.sum(5.0 * self.charges[i] * self.charges[j] / jnp.linalg.norm(x[i] - x[j], axis=1))


def molecule_energy():
    """A branched chain of seven atoms whose bonds and angles are nearly at rest at `START`."""
    rng = np.random.default_rng(2)
    arms = START[ANGLES[:, [0, 2]]] - START[ANGLES[:, 1]][:, None]
    arms /= np.linalg.norm(arms, axis=2, keepdims=True)
    lengths = np.linalg.norm(START[BONDS[:, 0]] - START[BONDS[:, 1]], axis=1)
    return (
        HarmonicBond(BONDS, lengths * rng.uniform(0.99, 1.01, 6), rng.uniform(1e5, 3e5, 6), n_atoms=N)
        + HarmonicAngle(ANGLES, np.arccos(np.sum(arms[:, 0] * arms[:, 1], axis=1)), rng.uniform(300, 600, 6), n_atoms=N)
        + PeriodicTorsion(TORSIONS, [3, 3, 2], [3.3, 0.5, 2.5], [3.0, 2.0, 3.0], n_atoms=N)
        + Charges(jnp.asarray(rng.normal(size=N)))
    )


@pytest.fixture(
    scope="module", params=[pytest.param(kind, marks=pytest.mark.slow) for kind in ("exact", "soft", "rigid")]
)
def molecule(request):
    """A posterior and its MAP in double precision."""
    with jax.enable_x64(True):
        weights = [0, 0, 1, 1, 1, 2, 2], [0, 1, 1, 2, 3, 4, 5], [0.6, 0.4, 0.2, 0.5, 0.3, 0.5, 0.5]
        mapping = LinearMap.from_weights(*weights, 3, N)  # atom 1 is in two beads, atom 6 in none
        y = np.asarray(mapping(START)) + np.random.default_rng(1).normal(scale=0.002, size=(3, 3))
        rigid = RigidBonds.at(np.array([[0, 1], [2, 6]]), START) if request.param == "rigid" else None
        noise = 0.02 if request.param == "soft" else None
        posterior = Posterior(molecule_energy(), mapping, jnp.asarray(y), 300.0, noise, rigid)
        yield posterior, lowest(posterior)


def lowest(posterior):
    """The MAP near `START`: found by sequential quadratic programming, refined by Newton's method."""
    both = quick(lambda posterior, x: jax.value_and_grad(posterior.potential)(x))
    rigid = posterior.rigid_bonds

    def held(x):
        beads = (posterior.mapping(x) - posterior.y).ravel() if posterior.exact else jnp.zeros(0)
        return beads if rigid is None else jnp.concatenate([beads, rigid.residual(x)])

    slope = quick(jax.jacrev(held))
    found = scipy.optimize.minimize(
        lambda x: tuple(np.asarray(part, float).ravel() for part in both(posterior, x.reshape(N, 3))),
        START.ravel(),
        jac=True,
        method="SLSQP",
        constraints={
            "type": "eq",
            "fun": lambda x: np.asarray(held(x.reshape(N, 3))),
            "jac": lambda x: np.asarray(slope(x.reshape(N, 3))).reshape(-1, 3 * N),
        },
        options={"maxiter": 1000, "ftol": 1e-12},
    )
    x, gradient = newton_map(posterior, found.x.reshape(N, 3), steps=20)
    assert gradient < 1e-7
    return x


def minimised(posterior, x):
    """The MAP of a posterior near one whose MAP is x."""
    x, gradient = newton_map(posterior, x, steps=8)
    assert gradient < 1e-6
    return x


@pytest.mark.parametrize("solver", [None, pytest.param(ITERATIVE, marks=pytest.mark.slow)], ids=["dense", "iterated"])
def test_gaussian(x64, solver):
    problem = Gaussian(dtype=np.float64)
    inverse, a = np.linalg.inv(problem.hessian), problem.matrix
    gain = inverse @ a.T @ np.linalg.inv(a @ inverse @ a.T)
    x, gradient = newton_map(problem.posterior, jnp.zeros((8, 3)), steps=1)
    assert gradient < 1e-10
    np.testing.assert_allclose(x, problem.mode, atol=1e-11)

    def of(y, centre):
        posterior = eqx.tree_at(lambda p: (p.y, p.energy.centre), problem.posterior, (y, centre))
        return differentiable_map(posterior, x, solver=solver)

    inputs = problem.posterior.y, problem.posterior.energy.centre
    by_centre = np.eye(24) - gain @ a
    for derivative in (jax.jacrev, jax.jacfwd):
        by_y, by_c = derivative(of, argnums=(0, 1))(*inputs)
        np.testing.assert_allclose(by_y.reshape(24, 9), gain, atol=1e-9)
        np.testing.assert_allclose(by_c.reshape(24, 24), by_centre, atol=1e-9)


def value(x):
    return jnp.sum(x * jnp.asarray(np.random.default_rng(4).normal(size=(N, 3)))) + jnp.sum(x[3] ** 2)


def loss(posterior, x):
    return value(differentiable_map(posterior, x))


def test_against_minimising_again(x64, molecule):
    posterior, x = molecule
    arrays, rest = eqx.partition(posterior, eqx.is_inexact_array)
    slope = jax.grad(lambda arrays: loss(eqx.combine(arrays, rest), x))(arrays)
    rng = np.random.default_rng(0)
    wheres = {
        "beads": lambda p: p.y,
        "bond lengths": lambda p: p.energy.parts[0].length,
        "angle stiffness": lambda p: p.energy.parts[1].stiffness,
        "charges": lambda p: p.energy.parts[3].charges,
        "temperature": lambda p: p.temperature,
    }
    for name, where in wheres.items():
        leaf = where(posterior)
        direction = rng.normal(size=leaf.shape) * (0.01 + np.abs(leaf))

        def at(step, where=where, leaf=leaf, direction=direction):
            moved = eqx.tree_at(where, posterior, leaf + step * direction)
            return float(value(minimised(moved, x)))

        h = 1e-4
        expected = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
        found = float(np.vdot(where(slope), direction))
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-8), name
        if name == "temperature":
            assert (abs(found) > 1e-6) == (not posterior.exact)
        else:
            assert abs(found) > 1e-5, name


def test_response_reports(x64, molecule):
    posterior, x = molecule
    direction = np.random.default_rng(0).normal(size=(3, 3))
    found = map_response(posterior, x, beads=direction)
    assert found.status == "solved"
    assert found.residual < 1e-9
    assert found.gradient < 1e-6
    assert found.curvature > 0
    assert found.zero_modes == 0
    if posterior.exact:
        np.testing.assert_allclose(posterior.mapping(found.displacement), direction, atol=1e-10)
    if posterior.rigid_bonds is not None:
        stretch = jax.jvp(posterior.rigid_bonds.residual, (x,), (found.displacement,))[1]
        np.testing.assert_allclose(stretch, 0, atol=1e-12)


@pytest.mark.slow
def test_both_solvers_agree(x64, molecule):
    posterior, x = molecule
    if posterior.rigid_bonds is not None:
        pytest.skip("the iterated solution is for flat fibres")
    direction = np.random.default_rng(0).normal(size=(3, 3))
    found = map_response(posterior, x, beads=direction)
    iterated = map_response(posterior, x, beads=direction, solver=ITERATIVE)
    assert iterated.status == "solved"
    assert 5 < iterated.iterations < 200
    np.testing.assert_allclose(iterated.displacement, found.displacement, rtol=1e-6, atol=1e-8)


def test_too_few_iterations_give_no_number(x64):
    problem = Gaussian(dtype=np.float64)
    few = TangentSolver(dense=False, iterations=3)
    assert map_response(problem.posterior, problem.mode, beads=np.ones((3, 3)), solver=few).status == "not converged"
    failed = jax.grad(
        lambda y: jnp.sum(
            differentiable_map(eqx.tree_at(lambda p: p.y, problem.posterior, y), problem.mode, solver=few)
        )
    )(problem.posterior.y)
    assert np.isnan(failed).all()


@pytest.mark.slow
def test_second_derivative(x64, molecule):
    posterior, x = molecule
    if not posterior.linear or not posterior.exact:
        pytest.skip("one kind of posterior is enough")
    direction = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)))

    def slope(t):
        return jax.grad(lambda s: loss(eqx.tree_at(lambda p: p.y, posterior, posterior.y + s * direction), now))(t)

    now = x
    second = float(jax.grad(slope)(0.0))
    h = 1e-5
    ends = []
    for t in (h, -h):
        now = minimised(eqx.tree_at(lambda p: p.y, posterior, posterior.y + t * direction), x)
        ends.append(float(slope(t)))
    assert second == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("solver", [None, ITERATIVE], ids=["dense", "iterated"])
def test_rotations_that_no_bead_holds(x64, solver):
    posterior = Posterior(molecule_energy(), LinearMap.center_of_geometry([range(N)], N), jnp.zeros((1, 3)))
    x = lowest(posterior)
    lengths = eqx.tree_at(
        lambda p: p.parts[0].length,
        jax.tree.map(jnp.zeros_like, eqx.filter(posterior.energy, eqx.is_inexact_array)),
        jnp.ones(6),
    )
    found = map_response(posterior, x, energy=lengths, solver=solver)
    assert found.status == "solved"
    if solver is None:
        assert found.zero_modes == 3
    # Distances are unaffected by what rotations are left out.
    h = 1e-6
    ends = []
    for t in (h, -h):
        moved = eqx.tree_at(lambda p: p.energy.parts[0].length, posterior, posterior.energy.parts[0].length + t)
        ends.append(minimised(moved, x))

    def distance(x):
        return jnp.linalg.norm(x[0] - x[5])

    slope = jax.jvp(distance, (x,), (found.displacement,))[1]
    assert float(slope) == pytest.approx(float(distance(ends[0]) - distance(ends[1])) / (2 * h), rel=1e-5)
    spin = np.cross(np.random.default_rng(0).normal(size=3), x - x.mean(axis=0))
    assert abs(np.vdot(spin, found.displacement)) < 1e-6 * np.linalg.norm(spin) * np.linalg.norm(found.displacement)


@pytest.mark.parametrize("solver", [None, pytest.param(ITERATIVE, marks=pytest.mark.slow)], ids=["dense", "iterated"])
def test_a_saddle_is_told(x64, solver):
    problem = Gaussian(dtype=np.float64)
    bent = problem.hessian - 2100 * np.outer(problem.basis[:, 0], problem.basis[:, 0])
    posterior = eqx.tree_at(lambda p: p.energy.hessian, problem.posterior, jnp.asarray(bent))
    found = map_response(posterior, problem.mode, beads=np.ones((3, 3)), solver=solver)
    assert found.status == "not a minimum"
    with pytest.raises(ValueError, match="change of beads"):
        map_response(posterior, problem.mode)


def test_map_estimate_with_derivatives(x64):
    problem = Gaussian(dtype=np.float64)
    inverse, a = np.linalg.inv(problem.hessian), problem.matrix
    gain = inverse @ a.T @ np.linalg.inv(a @ inverse @ a.T)

    def of(y):
        posterior = eqx.tree_at(lambda p: p.y, problem.posterior, y)
        return jnp.sum(differentiable_map_estimate(posterior, jnp.zeros((8, 3)), steps=300, tolerance=1.0)[0])

    value, slope = jax.value_and_grad(of)(problem.posterior.y)
    assert float(value) == pytest.approx(problem.mode[0].sum(), rel=1e-9)
    np.testing.assert_allclose(slope.ravel(), gain[:3].sum(axis=0), atol=1e-9)
    with pytest.raises(ValueError, match=r"inside jax\.jit"):
        jax.jit(of)(problem.posterior.y)
    with pytest.raises(ResultError, match="more steps"):
        differentiable_map_estimate(problem.posterior, jnp.zeros((8, 3)), steps=1, tolerance=1e-30, newton=1)
