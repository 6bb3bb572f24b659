"""Bonded and three-body distributions, structure factors and tetrahedral order against closed forms."""

import jax
import numpy as np
import pytest

from jaxcg.consistency.structure import (
    BondedAccumulator,
    angular_distribution,
    bond_angles,
    bond_lengths,
    bonded_distributions,
    debye_structure_factor,
    dihedral_angles,
    lattice_magnitudes,
    lattice_structure_factor,
    nearest_neighbors,
    structure_factor,
    tetrahedral_distribution,
    tetrahedral_order,
    three_body_distribution,
    triplets,
)

TILTED = np.array([[2.2, 0.0, 0.0], [0.7, 2.0, 0.0], [-0.9, 0.8, 1.9]])


def directions(rng, n):
    d = rng.normal(size=(n, 3))
    return d / np.linalg.norm(d, axis=1, keepdims=True)


def test_internal_coordinates_across_the_boundary():
    rng = np.random.default_rng(0)
    x = np.cumsum(rng.normal(scale=0.15, size=(12, 3)), axis=0)
    cut = x + rng.integers(-2, 3, (12, 3)) @ TILTED
    atoms = np.arange(12)[:, None]
    for function, width in ((bond_lengths, 2), (bond_angles, 3), (dihedral_angles, 4)):
        terms = np.concatenate([atoms[k : 12 - width + 1 + k] for k in range(width)], axis=1)
        whole = function(x, terms)
        np.testing.assert_allclose(function(cut, terms, TILTED), whole, atol=1e-12)
    traced = jax.jit(lambda x: dihedral_angles(x, terms, TILTED))(jax.numpy.asarray(cut))
    np.testing.assert_allclose(traced, whole, atol=1e-4)
    cis = np.array([[0, 1, 0], [0, 0, 0], [1, 0, 0], [1, 1, 0.0]])
    turned = np.array([[0, 1, 0], [0, 0, 0], [1, 0, 0], [1, 0, 1.0]])
    quartet = np.arange(4)[None]
    assert dihedral_angles(cis, quartet)[0] == 0
    # IUPAC: clockwise from the front bond, looking along the middle one.
    assert dihedral_angles(turned, quartet)[0] == pytest.approx(np.pi / 2)
    assert bond_angles(turned, quartet[:, :3])[0] == pytest.approx(np.pi / 2)


def test_densities_over_their_jacobians_are_flat_for_free_points():
    """Points anywhere in a ball around their neighbour: p(r) ∝ r², p(θ) ∝ sin θ, p(φ) flat, each within its errors."""
    rng = np.random.default_rng(1)
    frames = []
    for _ in range(60):
        steps = directions(rng, 3 * 200) * np.cbrt(rng.uniform(size=(600, 1)))
        frames.append((np.concatenate([np.zeros((1, 200, 3)), np.cumsum(steps.reshape(3, 200, 3), axis=0)]), None))
    frames = [(x.transpose(1, 0, 2).reshape(-1, 3), box) for x, box in frames]
    first = 4 * np.arange(200)[:, None]
    terms = {kind: first + np.arange(n) for kind, n in (("bond", 2), ("angle", 3), ("dihedral", 4))}
    bonds = BondedAccumulator("bond", terms["bond"], bins=10, limits=(0.0, 1.0), n_points=800)
    for x, box in frames:
        bonds.add(x, box)
    found = bonded_distributions(frames, {"angle": terms["angle"], "dihedral": terms["dihedral"]}, bins=10)
    for one in (bonds.results()["bond"], found["angle"]["angle"], found["dihedral"]["dihedral"]):
        width = np.diff(one.edges)
        assert np.sum(one.value * width) == pytest.approx(1.0)
        assert np.sum(one.per_volume * width) == pytest.approx(1.0)
        assert one.outside == 0
        expected = one.jacobian / np.sum(one.jacobian * width)
        assert (np.abs(one.value - expected) < 4.5 * one.error).all()
        assert 0.4 < np.std((one.value - expected) / one.error) < 1.8
    length = bonds.results()["bond"]
    assert np.sum(length.jacobian * np.diff(length.edges)) == pytest.approx(1 / 3)
    assert abs(length.mean - 0.75) < 4 * length.mean_error
    potential, error = length.mean_force_potential(300.0)
    assert (np.abs(potential - potential[-1]) < 4.5 * (error + error[-1]))[1:].all()


def test_bonded_by_name_and_the_mean_of_a_circle():
    x = np.array([[0, 0, 0], [1, 0, 0], [1, 0, 2], [1, 3, 2.0]])
    made = BondedAccumulator("bond", [[0, 1], [1, 2], [2, 3]], names=["a", "b", "a"], bins=4, limits=(0.0, 2.0))
    for _ in range(5):
        made.add(x, None)
    found = made.results()
    assert found["a"].terms == 2
    assert found["a"].mean == 2.0
    assert found["a"].outside == 5
    np.testing.assert_array_equal(found["a"].counts, [0, 0, 5, 0])
    np.testing.assert_array_equal(found["b"].counts, [0, 0, 0, 5])
    assert found["a"].value[2] == 1.0
    # Two angles on either side of π.
    around = BondedAccumulator("dihedral", [[0, 1, 2, 3]], bins=4)
    rng = np.random.default_rng(0)
    angles = np.pi + rng.normal(scale=0.1, size=400)
    for angle in angles:
        around.add(np.array([[1, 0, 0], [0, 0, 0], [0, 0, 1], [np.cos(angle), np.sin(angle), 1]]), None)
    turned = around.results()["dihedral"]
    assert abs(np.sin(turned.mean)) < 4 * turned.mean_error
    assert np.cos(turned.mean) < 0
    assert turned.mean_error == pytest.approx(0.1 / 400**0.5, rel=0.5)


def test_bad_bonded_input():
    with pytest.raises(ValueError, match="indices, one term at least"):
        BondedAccumulator("angle", np.zeros((0, 3), int))
    with pytest.raises(ValueError, match="points 0 to 9, but there are 5"):
        BondedAccumulator("bond", [[0, 9]], n_points=5)
    with pytest.raises(ValueError, match="not finite"):
        BondedAccumulator("bond", [[0, 1]]).add(np.full((2, 3), np.nan), None)
    with pytest.raises(ValueError, match="no frames"):
        BondedAccumulator("bond", [[0, 1]]).results()


def test_triplets_are_those_of_a_loop():
    x = np.random.default_rng(2).uniform(0, 1, (30, 3)) @ TILTED
    shifts = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3) @ TILTED
    expected = []
    for i in range(30):
        d = (x[None] + shifts[:, None] - x[i])[:, np.arange(30) != i].reshape(-1, 3)
        d = d[np.linalg.norm(d, axis=1) < 0.7]
        for a in range(len(d)):
            for b in range(a):
                r, s = np.linalg.norm(d[a]), np.linalg.norm(d[b])
                expected.append((*sorted((r, s)), np.arccos(np.clip(d[a] @ d[b] / (r * s), -1, 1))))
    found = np.concatenate(
        [np.stack([np.minimum(r, s), np.maximum(r, s), t], 1) for r, s, t in triplets(x, TILTED, 0.7)]
    )
    assert len(found) == len(expected) > 100
    order = [np.lexsort(np.round(np.asarray(table), 9).T) for table in (found, expected)]
    np.testing.assert_allclose(found[order[0]], np.asarray(expected)[order[1]], atol=1e-6)
    chosen = list(triplets(x, TILTED, 0.7, centers=np.array([3]), ends=np.arange(10, 30)))
    near = np.linalg.norm((x[None] + shifts[:, None] - x[3])[:, 10:], axis=-1) < 0.7
    assert sum(len(t) for _, _, t in chosen) == near.sum() * (near.sum() - 1) // 2
    with pytest.raises(ValueError, match="empty"):
        list(triplets(x, TILTED, 0.7, centers=np.zeros(0, int)))


def test_three_bodies_of_an_ideal_gas():
    rng = np.random.default_rng(3)
    frames = [(rng.uniform(0, 1, (80, 3)) @ TILTED, TILTED) for _ in range(40)]
    angles = angular_distribution(frames, 0.6, bins=9)
    sine = -np.diff(np.cos(angles.edges)) / 2 / np.diff(angles.edges)
    assert (np.abs(angles.value - sine) < 4.5 * angles.error).all()
    assert abs(angles.mean.value - np.pi / 2) < 4 * angles.mean.error
    found = three_body_distribution(frames, 0.6, bins=2, angles=3)
    np.testing.assert_array_equal(found.value, found.value.transpose(1, 0, 2))
    assert (np.abs(found.value - 1) < 4.5 * found.error).all()
    assert found.error.max() < 0.3


def test_structure_factor_on_the_lattice(x64):
    rng = np.random.default_rng(4)
    x, b = rng.uniform(-1, 2, (37, 3)) @ TILTED, rng.normal(size=37)
    most, magnitude = lattice_magnitudes(TILTED, 9.0)
    n = np.stack(
        np.meshgrid(*[np.arange(-m, m + 1) for m in (most[0] + 2, most[1] + 2, most[2] + 2)], indexing="ij"), -1
    )
    q = 2 * np.pi * n.reshape(-1, 3) @ np.linalg.inv(TILTED).T
    length = np.linalg.norm(q, axis=1)
    inside = (length < 9.0) & (length > 0)
    # Every vector up to q_max is there once, up to its sign.
    assert 2 * (magnitude < 9.0).sum() == inside.sum()
    np.testing.assert_allclose(np.sort(np.repeat(magnitude[magnitude < 9.0], 2)), np.sort(length[inside]))
    direct = np.abs(np.exp(-1j * x @ q[inside].T).T @ b) ** 2 / np.sum(b * b)
    found = np.asarray(lattice_structure_factor(x, TILTED, most, b))[magnitude < 9.0]
    np.testing.assert_allclose(np.sort(np.repeat(found, 2)), np.sort(direct), rtol=1e-9)

    score = jax.jit(lambda x: lattice_structure_factor(x, TILTED, most, b)[1, 2, 3])
    step = rng.normal(size=x.shape)
    difference = (float(score(x + 1e-6 * step)) - float(score(x - 1e-6 * step))) / 2e-6
    assert np.sum(np.asarray(jax.grad(score)(x)) * step) == pytest.approx(difference, rel=1e-6)


def test_structure_factor_of_an_ideal_gas_is_one():
    rng = np.random.default_rng(5)
    frames = [(rng.uniform(0, 1, (200, 3)) @ TILTED, TILTED) for _ in range(40)]
    q, found = structure_factor(frames, 12.0, bins=8)
    assert (np.abs(found.value - 1) < 4.5 * found.error).all()
    assert found.error.max() < 0.2
    assert (np.diff(q) > 0).all()
    with pytest.raises(ValueError, match="no wave vector"):
        structure_factor(frames, 1.0)


def test_debye_sum():
    rng = np.random.default_rng(6)
    x, b, q = rng.normal(size=(20, 3)), rng.uniform(0.5, 2, 20).round(1), np.array([0.0, 0.7, 3.0])
    r = np.linalg.norm(x[:, None] - x, axis=-1)
    expected = [b @ np.sinc(one * r / np.pi) @ b / (b @ b) for one in q]
    np.testing.assert_allclose(debye_structure_factor(x, q, b), expected, rtol=2e-5)


def test_tetrahedral_order():
    # Diamond: every point in a perfect tetrahedron.
    corner = np.array([[0, 0, 0], [0, 2, 2], [2, 0, 2], [2, 2, 0], [1, 1, 1], [1, 3, 3], [3, 1, 3], [3, 3, 1]]) / 4
    cells = np.stack(np.meshgrid(*[np.arange(2)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    x, box = 0.543 * (cells + corner).reshape(-1, 3), np.eye(3) * 1.086
    near = nearest_neighbors(x, box, 4)
    np.testing.assert_allclose(tetrahedral_order(x, near, box), 1.0, atol=1e-12)
    # Of a regular tetrahedron q has its maximum.
    slope = jax.grad(lambda x: tetrahedral_order(x, near, box).sum())(jax.numpy.asarray(x))
    np.testing.assert_allclose(slope, 0.0, atol=1e-4)
    rng = np.random.default_rng(7)
    gas = [(rng.uniform(0, 1, (150, 3)) @ TILTED, TILTED) for _ in range(20)]
    found = tetrahedral_distribution(gas, bins=30, limits=(-3.0, 1.0))
    # Six angles of independent directions: 1 − ⅜ · 6 (⅓ + ¹⁄₉) = 0.
    assert abs(found.mean.value) < 4 * found.mean.error < 0.1
    assert np.sum(found.counts) == 20 * 150
    y = gas[0][0]
    shifts = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3) @ TILTED
    d = np.linalg.norm(y[:, None, None] - y[None, :, None] - shifts, axis=-1).min(axis=-1)
    np.testing.assert_array_equal(nearest_neighbors(y, TILTED, 4), np.argsort(d, axis=1)[:, 1:5])
    with pytest.raises(ValueError, match="4 neighbours of each of 4"):
        nearest_neighbors(y[:4], TILTED, 4)
