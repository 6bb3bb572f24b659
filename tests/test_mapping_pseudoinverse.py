"""Minimum-norm reconstructions of full-rank, dependent and noisy beads, against NumPy's dense pseudoinverse."""

import jax
import numpy as np
import pytest

from jaxcg.mapping import LinearMap
from jaxcg.mapping.pseudoinverse import MinimumNorm, minimum_norm

MASSES = np.random.default_rng(0).uniform(1, 16, size=12)
GROUPS = {
    "disjoint": [[0, 1, 2], [3, 4], [5], [6, 7, 8, 9]],
    "overlapping": [[0, 1, 2], [2, 3, 4], [4, 5, 0], [6, 7], [7, 8]],
    "duplicate beads": [[0, 1, 2], [0, 1, 2], [3, 4], [5, 6], [6, 7], [5, 6]],
    "dependent beads": [[0, 1], [0], [1], [5, 6, 7]],
}
EVERY_MAP = pytest.mark.parametrize("name", GROUPS)
METRICS = pytest.mark.parametrize("masses", [None, MASSES], ids=["plain", "masses"])


def build(name):
    return LinearMap.center_of_mass(GROUPS[name], MASSES)


def dense_inverse(mapping, masses):
    root = np.ones(12) if masses is None else 1 / np.sqrt(masses)
    return root[:, None] * np.linalg.pinv(mapping.matrix().toarray() * root, rcond=1e-8)


def test_three_atom_example_of_the_theory(x64):
    mapping = LinearMap.from_weights([0, 0, 1], [0, 1, 2], [0.5, 0.5, 1.0], 2, 3)
    solver = MinimumNorm.of(mapping)
    np.testing.assert_allclose(solver.matrix().toarray(), [[1, 0], [1, 0], [0, 1]], atol=1e-15)
    np.testing.assert_allclose(solver(np.array([2.0, 5.0])), [2, 2, 5], atol=1e-15)
    assert solver.rank == 6
    # B∘M is a projector and not the identity; M∘B is the identity.
    product = np.array([solver.project(column) for column in np.eye(3)]).T
    np.testing.assert_allclose(product, [[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]], atol=1e-15)
    np.testing.assert_allclose(mapping(solver(np.eye(2))), np.eye(2), atol=1e-15)


@EVERY_MAP
@METRICS
def test_matches_dense_pseudoinverse(x64, name, masses):
    mapping = build(name)
    solver = MinimumNorm.of(mapping, masses)
    expected = dense_inverse(mapping, masses)
    np.testing.assert_allclose(solver.matrix().toarray(), expected, atol=1e-13)
    y = np.random.default_rng(1).normal(size=(mapping.n_beads, 3))
    found = solver.solve(y)
    np.testing.assert_allclose(found.x, expected @ y, atol=1e-13)
    np.testing.assert_allclose(found.residual, y - mapping.matrix() @ expected @ y, atol=1e-13)
    assert found.rank == solver.rank == mapping.rank == found.effective_rank
    root = np.ones(12) if masses is None else 1 / np.sqrt(masses)
    spectrum = np.linalg.svd(mapping.matrix().toarray() * root, compute_uv=False)
    np.testing.assert_allclose(solver.singular_values, spectrum, atol=1e-14)


@EVERY_MAP
@METRICS
def test_map_and_reconstruction_make_a_projector(x64, name, masses):
    mapping = build(name)
    solver = MinimumNorm.of(mapping, masses)
    projector = np.asarray(solver.project(np.eye(12)))
    metric = np.diag(np.ones(12) if masses is None else masses)
    np.testing.assert_allclose(projector @ projector, projector, atol=1e-13)
    np.testing.assert_allclose(metric @ projector, (metric @ projector).T, atol=1e-12)
    np.testing.assert_allclose(3 * np.trace(projector), mapping.rank, atol=1e-12)
    assert np.abs(projector - np.eye(12)).max() > 0.1
    consistent = mapping(np.random.default_rng(2).normal(size=(12, 3)))
    np.testing.assert_allclose(mapping(solver(consistent)), consistent, atol=1e-13)


def test_duplicate_beads_with_noise_take_the_mean(x64):
    mapping = LinearMap.center_of_mass([[0, 1], [0, 1], [2]], np.ones(3))
    found = minimum_norm(mapping, np.array([[1.0, 0, 0], [3.0, 0, 0], [5.0, 0, 0]]))
    np.testing.assert_allclose(found.x[:, 0], [2, 2, 5], atol=1e-14)
    np.testing.assert_allclose(found.residual[:, 0], [-1, 1, 0], atol=1e-14)
    assert found.rank == 6


def test_nearly_equal_beads_are_truncated_or_regularised(x64):
    # The second bead differs from the first by a hair, which noise in y would blow up.
    mapping = LinearMap.from_weights([0, 0, 1, 1], [0, 1, 0, 1], [0.5, 0.5, 0.5 + 1e-4, 0.5 - 1e-4], 2, 2)
    y = np.array([[1.0], [1.01]])
    full, cut = minimum_norm(mapping, y), minimum_norm(mapping, y, truncation=1e-3)
    assert (full.rank, cut.rank) == (6, 3)
    assert np.abs(full.x).max() > 10
    np.testing.assert_allclose(cut.x, 1.005, atol=1e-3)
    soft = minimum_norm(mapping, y, tikhonov=1e-4)
    np.testing.assert_allclose(soft.x, 1.005, atol=1e-2)
    assert 3 < soft.effective_rank + 1e-3 < 3.01
    assert soft.rank == 6


def test_tikhonov_is_the_posterior_mean(x64):
    mapping, weight = build("overlapping"), build("overlapping").matrix().toarray()
    strength = 0.03
    solver = MinimumNorm.of(mapping, MASSES, tikhonov=strength)
    y = np.random.default_rng(3).normal(size=(5, 3))
    precision = weight.T @ weight / strength + np.diag(MASSES)
    np.testing.assert_allclose(solver(y), np.linalg.solve(precision, weight.T @ y / strength), atol=1e-12)
    x = np.random.default_rng(4).normal(size=(12, 3))
    moved = x + np.linalg.solve(precision, weight.T @ (y - weight @ x) / strength)
    np.testing.assert_allclose(solver.correct(x, y), moved, atol=1e-12)


def test_matches_the_fibre_where_the_rank_is_full(x64):
    mapping = build("overlapping")
    y = np.random.default_rng(5).normal(size=(5, 3))
    np.testing.assert_allclose(MinimumNorm.of(mapping, MASSES)(y), mapping.pseudoinverse(y, MASSES), atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_jit_gradient_and_dtype(x64, dtype):
    solver = MinimumNorm.of(build("duplicate beads"), MASSES)
    y = np.random.default_rng(6).normal(size=(6, 3)).astype(dtype)
    cotangent = np.random.default_rng(7).normal(size=(12, 3)).astype(dtype)
    value, pull = jax.vjp(jax.jit(lambda y: solver(y)), y)
    assert value.dtype == dtype
    expected = solver.matrix().toarray().T @ cotangent
    np.testing.assert_allclose(pull(value * 0 + cotangent)[0], expected, atol=1e-5 if dtype == "float32" else 1e-13)


def test_atoms_in_no_bead_stay_at_the_origin(x64):
    found = MinimumNorm.of(build("disjoint"))(np.ones((4, 3)))
    np.testing.assert_array_equal(found[10:], 0)


def test_refusals():
    mapping = build("disjoint")
    with pytest.raises(ValueError, match="mass of atom 2 is 0"):
        MinimumNorm.of(mapping, np.where(np.arange(12) == 2, 0.0, MASSES))
    with pytest.raises(ValueError, match="mass of atom 11 is -1"):
        MinimumNorm.of(mapping, np.where(np.arange(12) == 11, -1.0, MASSES))
    # A massless site outside the beads does no harm.
    MinimumNorm.of(mapping, np.where(np.arange(12) == 11, 0.0, MASSES))
    with pytest.raises(ValueError, match="one mass for each of the 12 atoms"):
        MinimumNorm.of(mapping, MASSES[:-1])
    with pytest.raises(ValueError, match="truncation"):
        MinimumNorm.of(mapping, truncation=0.0)
    with pytest.raises(ValueError, match="tikhonov"):
        MinimumNorm.of(mapping, tikhonov=-1.0)
    with pytest.raises(ValueError, match="outside jit and grad"):
        jax.jit(lambda m: MinimumNorm.of(mapping, m)(np.ones((4, 3))))(MASSES)
