"""Row-reduced forces against the gradient of the energies they belong to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from molecules import quick

from jaxcg.backmap._rows import gather_forces, harmonic_rows, incidence_table, repulsive_rows, volume_forces
from jaxcg.backmap.embedding import Restraints, contact_table
from jaxcg.backmap.geometry import Geometry
from jaxcg.backmap.softcore import CUTOFF, PERMITTIVITY, SoftNonbonded
from jaxcg.energy import Nonbonded
from jaxcg.mapping._sparse import padded_rows
from jaxcg.neighbors import make_table, sequential_order
from jaxcg.units import COULOMB_CONSTANT


def both_ways(pairs, values, n):
    i, j = pairs.T
    return padded_rows(np.concatenate([i, j]), np.concatenate([j, i]), np.tile(values, 2), n)


@pytest.fixture
def cloud():
    rng = np.random.default_rng(0)
    x = rng.normal(scale=0.2, size=(12, 4))
    pairs = np.array([(i, j) for i in range(12) for j in range(i + 1, 12) if rng.random() < 0.4])
    return x, pairs, rng.uniform(0.1, 0.3, len(pairs)), rng.uniform(1e3, 1e4, len(pairs))


def test_harmonic_rows(x64, cloud):
    x, pairs, length, stiffness = cloud

    def energy(x):
        r = jnp.linalg.norm(x[pairs[:, 0]] - x[pairs[:, 1]], axis=1)
        return jnp.sum(0.5 * stiffness * (r - length) ** 2)

    index, lengths = both_ways(pairs, length, 12)
    _, strengths = both_ways(pairs, stiffness, 12)
    forces = harmonic_rows(jnp.asarray(x), index, lengths, strengths)
    np.testing.assert_allclose(forces, -jax.grad(energy)(jnp.asarray(x)), rtol=1e-9, atol=1e-9)


def test_repulsive_rows(x64, cloud):
    x, pairs, reach, _ = cloud
    reach = reach + 0.2

    def energy(x):
        r = jnp.linalg.norm(x[pairs[:, 0]] - x[pairs[:, 1]], axis=1)
        return jnp.sum(0.5 * 2e3 * jnp.maximum(reach - r, 0) ** 2)

    index, table = both_ways(pairs, reach, 12)
    forces = repulsive_rows(jnp.asarray(x), index, table, 2e3)
    assert np.abs(forces).max() > 1
    np.testing.assert_allclose(forces, -jax.grad(energy)(jnp.asarray(x)), rtol=1e-9, atol=1e-9)


def test_volume_forces(x64, cloud):
    x = cloud[0]
    centers = np.array([[0, 1, 2, 3], [4, 0, 5, 6], [7, 8, 9, 10]])
    volumes = np.array([1e-3, -2e-3, 5e-4])

    def energy(x):
        p = x[centers][..., :3]
        a, b, c = (p[:, k] - p[:, 0] for k in (1, 2, 3))
        e = jnp.abs((jnp.sum(a * jnp.cross(b, c), -1) - volumes) / 1e-3)
        return 30.0 * jnp.sum(jnp.where(e < 1, 0.5 * e**2, e - 0.5))

    entries = volume_forces(jnp.asarray(x), centers, volumes, 30.0)
    forces = gather_forces(entries, incidence_table(centers, 12))
    np.testing.assert_allclose(forces, -jax.grad(energy)(jnp.asarray(x)), rtol=1e-8, atol=1e-7)
    np.testing.assert_array_equal(forces[:, 3], 0)


@pytest.mark.parametrize("radius", [CUTOFF + 0.05, 10.0], ids=["neighbours", "everything"])
def test_soft_nonbonded_is_the_gradient_of_its_potential(x64, radius):
    n, rng = 40, np.random.default_rng(1)
    x3 = rng.normal(scale=0.45, size=(n, 3))
    charges, sigmas, epsilons = rng.normal(size=n), rng.uniform(0.2, 0.35, n), rng.uniform(0.1, 1, n)
    exceptions = np.array([[0, 1], [2, 3], [4, 5], [38, 6]])
    # An excluded pair and three 1-4 pairs, one of which is beyond the cutoff of the Coulomb part.
    products, s14, e14 = (
        np.array([0.0, 0.3, -0.2, 0.4]),
        np.array([0.3, 0.25, 0.3, 0.3]),
        np.array([0.0, 0.4, 0.2, 0.3]),
    )
    soft = SoftNonbonded.of(Nonbonded(charges, sigmas, epsilons, exceptions, products, s14, e14), np.float64)
    pairs = np.array(
        [(i, j) for i in range(n) for j in range(i + 1, n) if sorted((i, j)) not in np.sort(exceptions).tolist()]
    )

    def lj(r, s, e, alpha):
        sixth = (r / s) ** 6
        return 4 * e * (1 / (alpha + sixth) ** 2 - 1 / (alpha + sixth))

    def energy(x, alpha, charge):
        r = jnp.linalg.norm(x[pairs[:, 0]] - x[pairs[:, 1]], axis=1)
        i, j = pairs.T
        k = COULOMB_CONSTANT / PERMITTIVITY
        shifted = jnp.where(r < CUTOFF, 1 / r + r / CUTOFF**2 - 2 / CUTOFF, 0.0)
        total = jnp.where(r < CUTOFF, lj(r, (sigmas[i] + sigmas[j]) / 2, np.sqrt(epsilons[i] * epsilons[j]), alpha), 0)
        total = jnp.sum(total + charge * k * charges[i] * charges[j] * shifted)
        r = jnp.linalg.norm(x[exceptions[1:, 0]] - x[exceptions[1:, 1]], axis=1)
        shifted = jnp.where(r < CUTOFF, 1 / r + r / CUTOFF**2 - 2 / CUTOFF, 0.0)
        return total + jnp.sum(lj(r, s14[1:], e14[1:], alpha) + charge * k * products[1:] * shifted)

    distances = np.linalg.norm(x3[:, None] - x3[None], axis=-1)[np.triu_indices(n, 1)]
    assert ((distances > CUTOFF) & (distances < radius)).any()
    assert distances.min() > 0.05  # nearer, forces stop growing
    table = make_table(jnp.asarray(x3), radius, jnp.asarray(sequential_order(n)), 8, 1, jnp.asarray(soft.excluded))
    x4 = jnp.pad(jnp.asarray(x3), ((0, 0), (0, 1)))
    compute, compute_plain = quick(lambda *arguments: soft.forces(*arguments)), quick(jax.grad(energy))
    for alpha, charge in ((0.5, 0.0), (0.2, 0.7), (0.0, 1.0)):
        forces = compute(x4, table, alpha, charge)
        expected = -compute_plain(jnp.asarray(x3), alpha, charge)
        np.testing.assert_allclose(forces[:, :3], expected, rtol=1e-7, atol=1e-9 * float(jnp.abs(expected).max()))
        np.testing.assert_array_equal(forces[:, 3], 0)


def test_soft_nonbonded_of_coincident_atoms_is_finite(x64):
    soft = SoftNonbonded.of(Nonbonded(np.ones(3), np.full(3, 0.3), np.ones(3)), np.float64)
    x = jnp.zeros((3, 4)).at[2, 0].set(0.02)
    table = make_table(x[:, :3], CUTOFF, jnp.asarray(sequential_order(3)), 8, 1)
    forces = quick(lambda x, table: soft.forces(x, table, 0.0, 1.0))(x, table)
    assert np.isfinite(forces).all()
    np.testing.assert_allclose(forces[0], forces[1])
    assert forces[2, 0] > 0 > forces[0, 0]


def test_contact_table_lists_every_near_pair_once_each_way():
    rng = np.random.default_rng(2)
    x = rng.uniform(size=(60, 3))
    excluded = np.array([[0, 1], [5, 9]])
    table = contact_table(x, 0.3, excluded)
    assert table.shape[0] % 16 == 0
    found = {(i, int(j)) for i in range(60) for j in table[:, i] if j != i}
    near = {(i, j) for i in range(60) for j in range(60) if i != j and np.linalg.norm(x[i] - x[j]) < 0.3}
    near -= {(0, 1), (1, 0), (5, 9), (9, 5)}
    assert found == near
    # A narrow table keeps the nearest.
    narrow = contact_table(x, 0.3, excluded, capacity=2)
    for i in range(60):
        partners = sorted((j for a, j in near if a == i), key=lambda j: np.linalg.norm(x[i] - x[j]))
        assert {int(j) for j in narrow[:, i]} - {i} == set(partners[:2])


def test_padding_exerts_no_force():
    geometry = Geometry(
        np.array([[0, 1]]), np.array([0.15]), np.array([1]), np.zeros((0, 4), int), np.zeros(0), np.full(3, 0.17)
    )
    restraints = Restraints.of(geometry)
    contacts = np.tile(np.arange(3, dtype=np.int32), (16, 1))
    x = jnp.asarray([[0.0, 0, 0, 0], [0.15, 0, 0, 0], [0.01, 0, 0, 0]])
    np.testing.assert_allclose(restraints.forces(x, contacts, restraints.reach(contacts)), 0.0, atol=1e-3)
