import jax
import jax.numpy as jnp
import numpy as np
import pytest
from alanine_fibre import alanine_fibre
from oracles.gaussian import Gaussian

from jaxcg.mapping import LinearMap
from jaxcg.sampling import (
    AtomBlocks,
    BlockGeometry,
    LinearGeometry,
    Moments,
    bonded_stiffness,
    covariance_geometry,
    mean_hessian,
    stiffness_geometry,
    variance_geometry,
)
from jaxcg.sampling.adaptation.metric import RANGE, VIBRATION, length_bounds

KEY = jax.random.key(3)
# Beads {0 1 2} {2 3} {3 4 5} hang together; atoms 6 and 7 are in none.
GROUP = np.array([0, 0, 0, 0, 0, 0, 1, 1])


def moments_of(problem, split, dense, count=400):
    draws = jax.vmap(split)(jnp.asarray(problem.exact_draws(count, seed=1)))
    return Moments.start(draws.shape[1:], draws.dtype, dense=dense).update(draws)


def geometry_of(problem, kind):
    """A geometry with each way to masses, for a Gaussian problem."""
    posterior = problem.posterior
    blocks = AtomBlocks(posterior.mapping, GROUP if kind == "blocks" else None)
    draws = moments_of(problem, blocks.split, dense=True)
    hessian = mean_hessian(posterior, blocks, jnp.asarray(problem.exact_draws(4)), KEY)
    if kind == "variance":
        start = LinearGeometry(posterior, problem.masses)
        return variance_geometry(posterior, start, moments_of(problem, lambda x: x, dense=False))
    if kind == "diagonal hessian":
        diagonal = np.diag(problem.hessian).reshape(-1, 3).mean(axis=1)
        return LinearGeometry(posterior, VIBRATION**2 * diagonal)
    if kind == "covariance":
        return covariance_geometry(posterior, BlockGeometry(posterior, blocks, blocks.diagonal(problem.masses)), draws)
    if kind == "random":
        raw = np.random.default_rng(4).normal(size=blocks.shape)
        return BlockGeometry(posterior, blocks, raw @ raw.transpose(0, 2, 1) + blocks.diagonal(problem.masses))
    return stiffness_geometry(posterior, blocks, hessian, draws)


def test_the_mass_matrix_is_exact(x64):
    problem = Gaussian(dtype=np.float64)
    geometry = geometry_of(problem, "random")
    draw = jax.jit(jax.vmap(lambda key: geometry.thermal_velocities(key, problem.kT, jnp.zeros((8, 3)))))
    v = np.asarray(draw(jax.random.split(KEY, 20000))).reshape(20000, -1)
    raw = np.random.default_rng(4).normal(size=(1, 24, 24))
    matrix = (raw @ raw.transpose(0, 2, 1))[0] + np.diag(np.repeat(problem.masses, 3))
    basis = problem.basis
    exact = basis @ np.linalg.inv(basis.T @ matrix @ basis) @ basis.T
    scale = np.sqrt(np.diag(exact))
    assert np.abs((np.cov(v.T) / problem.kT - exact) / np.outer(scale, scale)).max() < 5 / np.sqrt(20000)
    np.testing.assert_allclose(problem.matrix @ v[0], 0, atol=1e-12)
    v, w = v[0].reshape(8, 3), v[1].reshape(8, 3)
    gradient = np.random.default_rng(0).normal(size=(8, 3))
    np.testing.assert_allclose(geometry.acceleration(gradient).ravel(), -exact @ gradient.ravel(), rtol=1e-9)
    assert float(geometry.kinetic_energy(v)) == pytest.approx(0.5 * v.ravel() @ matrix @ v.ravel(), rel=1e-10)
    change = 0.5 * (w.ravel() @ matrix @ w.ravel() - v.ravel() @ matrix @ v.ravel())
    assert float(jnp.sum(geometry.kinetic_differences(v, w))) == pytest.approx(change, rel=1e-10)
    np.testing.assert_allclose(geometry.project(v, v), v, atol=1e-13)


def test_kinetic_differences_in_single_precision():
    problem = Gaussian()
    geometry = geometry_of(problem, "hessian")
    velocity = geometry.thermal_velocities(KEY, problem.kT, jnp.zeros((8, 3), jnp.float32))
    nearly = velocity * (1 + 1e-4)
    exact = 1.00005e-4 * 2 * float(geometry.kinetic_energy(velocity))
    difference = float(jnp.sum(geometry.kinetic_differences(velocity, nearly)))
    assert difference == pytest.approx(exact, rel=3e-3)  # the velocities' own rounding


@pytest.mark.slow
def test_stiffness_of_a_molecule_against_finite_differences(x64):
    case = alanine_fibre(solvent=False)
    posterior = case.posterior(np.float64)
    bonded = posterior.energy.terms()
    blocks = AtomBlocks(posterior.mapping)
    x = jnp.asarray(case.minimum)
    ours = np.asarray(mean_hessian(posterior, blocks, x[None], KEY))[0]
    slope = jax.jit(jax.grad(posterior.potential))
    order = np.asarray(blocks.atoms[0])
    step = 1e-5
    for k in (0, 10, 31, 65):
        moved = np.zeros((22, 3))
        moved[order[k // 3], k % 3] = step
        column = (slope(x + moved) - slope(x - moved))[order].ravel() / (2 * step)
        np.testing.assert_allclose(ours[:, k], column, atol=2e-3 * np.abs(ours).max() * 1e-2)
    # With bonds and angles at rest the Gauss-Newton Hessian of those terms is the Hessian.
    stretched = {"HarmonicBond": "length", "HarmonicAngle": "angle"}
    for term in bonded:
        if type(term).__name__ in stretched:
            alone = posterior.__class__(_at_rest(term, x), posterior.mapping, posterior.y)
            exact = np.asarray(mean_hessian(alone, blocks, x[None], KEY))[0]
            gauss = np.asarray(bonded_stiffness(alone, blocks, x[None]))[0]
            np.testing.assert_allclose(gauss, exact, atol=1e-6 * np.abs(exact).max())
    total = np.asarray(bonded_stiffness(posterior, blocks, jnp.stack([x, x + 0.001])))[0]
    assert np.linalg.eigvalsh(total)[0] > -1e-6 * np.abs(total).max()
    np.testing.assert_allclose(total, total.T, rtol=1e-10, atol=1e-6)


def _at_rest(term, x):
    """The same term with its rest values at ``x``."""
    import equinox as eqx

    points = np.asarray(x)[np.asarray(term.atoms)]
    a, b = points[:, 0] - points[:, 1], points[:, -1] - points[:, 1]
    if term.atoms.shape[1] == 2:
        return eqx.tree_at(lambda t: t.length, term, jnp.asarray(np.linalg.norm(a, axis=1)))
    cosine = np.sum(a * b, axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return eqx.tree_at(lambda t: t.angle, term, jnp.asarray(np.arccos(cosine)))


@pytest.mark.slow
def test_blocks_of_stiffness_are_those_of_the_whole(x64):
    case = alanine_fibre(solvent=False)
    posterior = case.posterior(np.float64, noise=0.05)
    x = jnp.asarray(case.minimum)[None]
    whole = AtomBlocks(posterior.mapping)
    residues = AtomBlocks(posterior.mapping, np.asarray(case.system.atom_residue))
    assert residues.shape == (3, 30, 30)
    full = np.asarray(bonded_stiffness(posterior, whole, x))[0].reshape(22, 3, 22, 3)
    parts = np.asarray(bonded_stiffness(posterior, residues, x)).reshape(3, 10, 3, 10, 3)
    for block, atoms in enumerate(np.asarray(residues.atoms)):
        there = np.flatnonzero(atoms < 22)
        inner = full[atoms[there]][:, :, atoms[there]]
        np.testing.assert_allclose(parts[block][there][:, :, there], inner, rtol=1e-9, atol=1e-6)
    # The bead restraint is one of the terms.
    exact = np.asarray(bonded_stiffness(case.posterior(np.float64), whole, x))[0]
    matrix = posterior.mapping.matrix().toarray()
    restraint = np.kron(matrix.T @ matrix, np.eye(3)) * float(posterior.thermal_energy) / 0.05**2
    order = np.asarray(whole.atoms[0])
    np.testing.assert_allclose(
        full.reshape(66, 66) - exact, restraint.reshape(22, 3, 22, 3)[order][:, :, order].reshape(66, 66), atol=1e-5
    )


def test_floor_is_the_one_that_makes_draws_most_likely(x64):
    problem = Gaussian(dtype=np.float64)
    posterior = problem.posterior
    blocks = AtomBlocks(posterior.mapping)
    draws = moments_of(problem, blocks.split, dense=True, count=4000)
    # Stiffness short of 300 kJ/mol/nm² in all directions: the floor must find them.
    short = problem.hessian - 300 * np.eye(24)
    values, axes = np.linalg.eigh(problem.basis.T @ short @ problem.basis)
    short = problem.basis @ (axes * np.maximum(values, 0)) @ axes.T @ problem.basis.T
    geometry = stiffness_geometry(posterior, blocks, short[None], draws)
    whitened = np.asarray(geometry.whitener)[0] @ problem.covariance @ np.asarray(geometry.whitener)[0].T
    spread = np.linalg.eigvalsh(whitened) / (problem.kT * VIBRATION**2)
    real = spread[spread > 1e-6]
    assert len(real) == problem.dimension
    assert 0.3 < real.min() <= real.max() < 4
    perfect = stiffness_geometry(posterior, blocks, problem.hessian[None], draws)
    whitened = np.asarray(perfect.whitener)[0] @ problem.covariance @ np.asarray(perfect.whitener)[0].T
    real = np.linalg.eigvalsh(whitened)[-problem.dimension :] / (problem.kT * VIBRATION**2)
    assert 0.8 < real.min() <= real.max() < 3.5  # nothing is taken for freer than 0.2 nm: λ is 62 kJ/mol/nm² at least


def test_lengths_are_bounded_by_the_slowest_direction_that_can_be_told():
    problem = Gaussian()
    geometry = geometry_of(problem, "hessian")
    # The last two have turned over and do not count.
    spread = VIBRATION * np.append(np.linspace(0.5, 2.5, problem.dimension - 2), [9.0, 30.0])
    root = np.asarray(geometry.root, np.float64)
    scale = np.zeros(root.shape[2])
    scale[np.square(root[0]).sum(axis=0) > 0] = spread
    covariance = problem.kT * (root * scale**2) @ np.swapaxes(root, 1, 2)

    def bounds(count):
        scatter = jnp.asarray(covariance * (count - 1), jnp.float32)
        return length_bounds(problem.posterior, geometry, Moments(jnp.float32(count), jnp.zeros((1, 24)), scatter))

    quarter = 0.5 * np.pi * 2.5 * VIBRATION
    np.testing.assert_allclose(bounds(1e9), [quarter, RANGE * quarter], rtol=1e-3)
    # Of as many draws as directions half of the widest spread is feigned; 9 becomes 4.5, which has turned over still.
    np.testing.assert_allclose(bounds(problem.dimension)[0], quarter / 2, rtol=1e-3)
    # One mass per atom: the median coordinate, and no longest.
    atoms = LinearGeometry(problem.posterior, problem.masses)
    moments = moments_of(problem, lambda x: x, dense=False, count=4000)
    shortest, longest = length_bounds(problem.posterior, atoms, moments)
    exact = np.median(np.sqrt(np.repeat(problem.masses, 3) * problem.covariance.diagonal() / problem.kT))
    assert shortest == pytest.approx(0.5 * np.pi * exact, rel=0.05)
    assert longest == np.inf


def test_moments_of_a_stream():
    rng = np.random.default_rng(0)
    draws = (100 + rng.normal(size=(60, 2, 4)) @ rng.normal(size=(4, 4))).astype(np.float32)
    for dense in (True, False):
        moments = Moments.start((2, 4), jnp.float32, dense=dense)
        for part in np.split(draws, [7, 8, 30]):
            moments = jax.jit(Moments.update)(moments, jnp.asarray(part))
        for block in range(2):
            exact = np.cov(draws[:, block].astype(np.float64).T)
            exact = exact if dense else np.diag(exact)
            np.testing.assert_allclose(moments.covariance()[block], exact, rtol=2e-3, atol=2e-3)
        assert float(moments.count) == 60


def test_masses_of_another_frame_do_not_compile_again():
    problem = Gaussian()
    traces = []

    @jax.jit
    def accelerate(geometry, gradient):
        traces.append(1)
        return geometry.acceleration(gradient)

    for kind in ("random", "covariance", "hessian"):
        accelerate(geometry_of(problem, kind), jnp.ones((8, 3), jnp.float32))
    assert len(traces) == 1


def test_bad_blocks_are_refused():
    problem = Gaussian()
    blocks = AtomBlocks(problem.mapping)
    with pytest.raises(ValueError, match="expected \\(1, 24, 24\\)"):
        BlockGeometry(problem.posterior, blocks, np.ones((1, 3, 3)))
    with pytest.raises(ValueError, match="eigenvalue"):
        BlockGeometry(problem.posterior, blocks, -blocks.diagonal(np.ones(8)))
    with pytest.raises(ValueError, match="eigenvalue"):
        BlockGeometry(problem.posterior, blocks, blocks.diagonal(np.full(8, np.nan)))
    with pytest.raises(ValueError, match="expected \\(8,\\)"):
        AtomBlocks(problem.mapping, np.zeros(7))
    chain = LinearMap.center_of_geometry([range(i, i + 3) for i in range(0, 28, 2)], 30)
    with pytest.raises(ValueError, match="hang together"):
        AtomBlocks(chain, np.arange(30), largest=20)
    # Atoms of one bead stay together whatever their group.
    assert AtomBlocks(chain, np.arange(30)).shape[1] == 3 * 29
