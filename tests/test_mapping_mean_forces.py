"""What mapped forces average to: closed forms and thermodynamic identities, with and without constraints."""

import numpy as np
import openmm
import pytest
from dipeptide import trajectory
from maps_of_forces import CONSTRAINTS, EVERY_CONSTRAINT, EVERY_MAP, KT, MAPS, MASSES, N_ATOMS, dense
from openmm import unit

from jaxcg.mapping import LinearMap
from jaxcg.mapping.constraints import constrained_pairs, rigid_groups
from jaxcg.mapping.force_maps import aggregating_force_map
from jaxcg.mapping.optimal_force_maps import (
    force_variance,
    optimal_force_map,
)


class Harmonic:
    """Frames of U = ½ xᵀ H x, the same in x, y and z, with rigid groups that move without turning.

    Reduced to one coordinate for each group, H' = Cᵀ H C and W' = W C, the potential of mean force is harmonic with
    stiffness K = (W' H'⁻¹ W'ᵀ)⁻¹ and the mean force is −K y.
    """

    def __init__(self, mapping, constraints, frames, seed=5, exact=False):
        rng = np.random.default_rng(seed)
        axes = np.linalg.qr(rng.normal(size=(N_ATOMS, N_ATOMS)))[0]
        hessian = (axes * np.geomspace(50, 5000, N_ATOMS)) @ axes.T
        groups = rigid_groups(constraints, N_ATOMS)
        expand = np.eye(groups.max() + 1)[groups]
        reduced = expand.T @ hessian @ expand
        weights = mapping.matrix().toarray() @ expand
        self.stiffness = np.linalg.inv(weights @ np.linalg.inv(reduced) @ weights.T)
        noise = rng.normal(size=(frames * 3, len(reduced)))
        if exact:
            # Frames whose second moments are those of the ensemble, so that averages have no statistical error.
            noise = np.linalg.qr(noise)[0] * np.sqrt(frames * 3)
        z = np.sqrt(KT) * np.linalg.solve(np.linalg.cholesky(reduced).T, noise.T).T
        x = z @ expand.T
        self.y = x @ mapping.matrix().toarray().T
        self.forces = -(x @ hessian).reshape(frames, 3, N_ATOMS).transpose(0, 2, 1)

    def slope(self, force_map):
        """Estimated −∂F/∂y and its standard error, and the scatter of F about the line."""
        f = self.forces.transpose(0, 2, 1).reshape(-1, N_ATOMS) @ dense(force_map).T
        slope = -np.linalg.lstsq(self.y, f, rcond=None)[0].T
        residual = f + self.y @ slope.T
        inverse = np.linalg.inv(self.y.T @ self.y)
        error = np.sqrt(np.outer(residual.var(axis=0), np.diag(inverse)))
        return slope, error, residual.var(axis=0)


@EVERY_MAP
@EVERY_CONSTRAINT
def test_the_optimal_map_of_a_harmonic_system_has_no_noise(name, constraints):
    """Closed form: B = K W' H'⁻¹ gives F = −K y in every frame, so the optimum must find the mean force itself."""
    mapping, pairs = MAPS[name], CONSTRAINTS[constraints]
    system = Harmonic(mapping, pairs, frames=20, exact=True)
    fit = optimal_force_map(mapping, system.forces, pairs)
    slope, _, residual = system.slope(fit.force_map)
    np.testing.assert_allclose(slope, system.stiffness, rtol=1e-6, atol=1e-6 * np.abs(system.stiffness).max())
    np.testing.assert_allclose(residual, 0, atol=1e-8 * KT * system.stiffness.max())
    np.testing.assert_allclose(fit.variance, KT * np.diag(system.stiffness), rtol=1e-6)


@EVERY_MAP
def test_every_valid_map_has_the_same_mean_force(name):
    """Within statistical error, on independent frames; the optimal one with the least scatter."""
    mapping, pairs = MAPS[name], CONSTRAINTS["between beads and free atoms"]
    system = Harmonic(mapping, pairs, frames=4000)
    fit = optimal_force_map(mapping, system.forces[:2000], pairs)
    maps = [aggregating_force_map(mapping, pairs), aggregating_force_map(mapping, pairs, MASSES), fit.force_map]
    scatters = []
    for force_map in maps:
        slope, error, scatter = system.slope(force_map)
        assert np.all(np.abs(slope - system.stiffness) < 4.5 * error + 1e-9)
        scatters.append(scatter)
    assert np.all(scatters[-1] < 0.02 * np.minimum(*scatters[:2]))
    assert np.all(force_variance(fit.force_map, system.forces[2000:]) <= force_variance(maps[0], system.forces[2000:]))


@EVERY_MAP
def test_ignoring_constraints_gives_biased_forces(name):
    mapping, pairs = MAPS[name], CONSTRAINTS["between beads and free atoms"]
    system = Harmonic(mapping, pairs, frames=4000)
    for blind in (aggregating_force_map(mapping), optimal_force_map(mapping, system.forces).force_map):
        slope, error, _ = system.slope(blind)
        assert np.max(np.abs(slope - system.stiffness) / (error + 1e-3 * system.stiffness.max())) > 10


def test_a_rigid_bond_that_turns():
    """A bead bound harmonically, with a second atom on a rigid rod in a uniform field g: the mean force is g − k y.

    Without the second atom's force the field is missed, whatever the statistics.
    """
    rng = np.random.default_rng(2)
    frames, k, d, field = 3000, 100.0, 0.1, np.array([0.0, 0.0, 40.0])
    # Directions from the density exp(a cos θ) on the sphere, by inversion.
    a = field[2] * d / KT
    cosine = np.log(np.exp(-a) + rng.uniform(size=frames) * 2 * np.sinh(a)) / a
    angle, sine = rng.uniform(0, 2 * np.pi, frames), np.sqrt(1 - cosine**2)
    rod = d * np.stack([sine * np.cos(angle), sine * np.sin(angle), cosine], axis=1)
    y = field / k + rng.normal(scale=np.sqrt(KT / k), size=(frames, 3))
    x = np.stack([y, y + rod], axis=1)
    forces = np.stack([-k * y, np.broadcast_to(field, y.shape)], axis=1)
    pairs = constrained_pairs(x)
    np.testing.assert_array_equal(pairs, [[0, 1]])
    mapping = LinearMap.center_of_geometry([[0]], 2)
    aware = dense(optimal_force_map(mapping, forces, pairs).force_map)
    np.testing.assert_allclose(aware, [[1, 1]], atol=1e-12)
    np.testing.assert_allclose(np.einsum("ia,tak->tk", aware, forces), field - k * y, atol=1e-10)
    blind = dense(aggregating_force_map(mapping))
    mean = np.einsum("ia,tak->tk", blind, forces).mean(axis=0)
    assert abs(mean[2] - (field - k * y).mean(axis=0)[2]) > 10


def test_rigid_water_of_a_force_field():
    """Two rigid waters held together: the forces on the oxygens obey ⟨F·(y₁ − y₂)⟩ = −3 kT, which holds for the
    potential of mean force of any system; forces that ignore the hydrogens do not.
    """
    system = openmm.System()
    nonbonded, bond = openmm.NonbondedForce(), openmm.HarmonicBondForce()
    half = 0.1 * np.sin(np.radians(109.47 / 2)), 0.1 * np.cos(np.radians(109.47 / 2))
    water = np.array([[0, 0, 0], [half[0], half[1], 0], [-half[0], half[1], 0]])
    for first in (0, 3):
        for mass, charge, sigma, epsilon in [(15.999, -0.8476, 0.316557, 0.650194)] + 2 * [(1.008, 0.4238, 1.0, 0.0)]:
            system.addParticle(mass)
            nonbonded.addParticle(charge, sigma, epsilon)
        for i, j in ((0, 1), (0, 2), (1, 2)):
            system.addConstraint(first + i, first + j, float(np.linalg.norm(water[i] - water[j])))
            nonbonded.addException(first + i, first + j, 0.0, 1.0, 0.0)
    bond.addBond(0, 3, 0.3, 500.0)
    system.addForce(nonbonded)
    system.addForce(bond)
    integrator = openmm.LangevinMiddleIntegrator(300.0, 10.0, 0.002)
    integrator.setRandomNumberSeed(7)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(np.concatenate([water, water + np.array([0.0, 0.0, 0.3])]))
    integrator.step(2000)
    x, f = [], []
    for _ in range(4000):
        integrator.step(50)
        state = context.getState(getPositions=True, getForces=True)
        x.append(state.getPositions(asNumpy=True).value_in_unit(unit.nanometer))
        f.append(state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer))
    x, f = np.array(x), np.array(f)
    pairs = constrained_pairs(x[::10])
    np.testing.assert_array_equal(pairs, [(0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5)])
    mapping = LinearMap.center_of_geometry([[0], [3]], 6)

    def virial(force_map):
        """⟨F·(y₁ − y₂)⟩ / kT with its error from ten blocks."""
        mapped = np.einsum("ia,tak->tik", dense(force_map), f)
        blocks = np.sum(mapped[:, 0] * (x[:, 0] - x[:, 3]), axis=1).reshape(10, -1).mean(axis=1) / KT
        return blocks.mean(), blocks.std(ddof=1) / np.sqrt(10)

    for force_map in (aggregating_force_map(mapping, pairs), optimal_force_map(mapping, f, pairs).force_map):
        mean, error = virial(force_map)
        assert abs(mean + 3) < 4 * error
        assert error < 1
    mean, error = virial(aggregating_force_map(mapping))
    assert abs(mean + 3) > 8 * error


@pytest.mark.slow
def test_alanine_dipeptide_with_constrained_hydrogens():
    """Forces on backbone atoms obey ⟨F_I·(y_I − y_J)⟩ = −3 kT where the constraints are seen, and not elsewhere."""
    x, f, _, constraints = trajectory()
    pairs = constrained_pairs(x[::120])
    np.testing.assert_array_equal(pairs, constraints[np.lexsort(constraints.T[::-1])])
    np.testing.assert_array_equal(constrained_pairs(np.round(x[::120], 3), rounding=1e-3), pairs)
    # C of the acetyl group, N, CA, CB and C of alanine.
    mapping = LinearMap.center_of_geometry([[4], [6], [8], [10], [14]], 22)

    def worst(force_map):
        """Largest deviation from −3 of the virials of pairs that bonds to hydrogen disturb, in standard errors."""
        mapped = np.einsum("ia,tak->tik", dense(force_map), f)
        deviations = []
        for i, j in ((2, 3), (3, 4), (1, 4)):
            d = x[:, [4, 6, 8, 10, 14]][:, i] - x[:, [4, 6, 8, 10, 14]][:, j]
            blocks = np.sum(mapped[:, i] * d, axis=1).reshape(20, -1).mean(axis=1) / KT
            deviations.append(abs(blocks.mean() + 3) / (blocks.std(ddof=1) / np.sqrt(20)))
        return max(deviations)

    fit = optimal_force_map(mapping, f[::2], pairs)
    basic = aggregating_force_map(mapping, pairs)
    assert worst(basic) < 4.5
    assert worst(fit.force_map) < 4.5
    assert worst(aggregating_force_map(mapping)) > 5
    # Carbonyl carbons give much of their noise to their oxygen; on frames that were not fitted, too.
    gain = force_variance(fit.force_map, f[1::2]) / force_variance(basic, f[1::2])
    assert np.all(gain[[0, 4]] < 0.5)
    assert np.all(gain < 1.02)
