"""Consistency conditions: maps that fulfil them, maps that break one each, and the bead that breaks it."""

import numpy as np
import pytest

from jaxcg.mapping import LinearMap
from jaxcg.mapping.conditions import (
    check_conditions,
    consistent_masses,
    constraint_orthogonality,
    disjoint_beads,
    force_map_orthogonality,
    independent_beads,
    momentum_masses,
    specific_atoms,
    weights_sum_to_one,
)
from jaxcg.mapping.force_maps import aggregating_force_map

MASSES = np.array([12.0, 1.0, 1.0, 16.0, 14.0, 1.0, 32.0])


def center_of_mass(*groups):
    return LinearMap.center_of_mass(groups, MASSES)


GOOD = center_of_mass([0, 1, 2], [3, 4], [5])
SHARING = center_of_mass([0, 1, 2], [2, 3, 4], [5])
#: Bead 1 has only atoms of its neighbours, but beads are independent.
NO_OWN = center_of_mass([0, 1, 2], [2, 3], [3, 4, 5])
DUPLICATE = center_of_mass([0, 1], [3, 4], [3, 4])


def by_name(conditions):
    return {condition.name: condition for condition in conditions}


def test_a_disjoint_center_of_mass_map_fulfils_everything():
    found = check_conditions(GOOD, MASSES, constraints=np.array([[0, 1], [0, 2]]))
    assert len(found) == 7
    for condition in found:
        assert condition.holds, condition
        assert condition.where == ()
        assert str(condition).startswith(f"[ok] {condition.name}: ")
        assert "20" in condition.source, "a paper with its year"


def test_weights_that_do_not_sum_to_one_are_found():
    assert weights_sum_to_one(GOOD).holds

    class Scaled:
        n_beads, n_atoms = 2, 3

        def entries(self):
            return np.array([0, 0, 1]), np.array([0, 1, 2]), np.array([0.5, 0.5, 0.9])

    condition = weights_sum_to_one(Scaled())  # type: ignore[arg-type]
    assert not condition.holds
    assert condition.where == (1,)
    assert "0.9" in condition.explanation


def test_shared_atoms_and_specific_atoms():
    assert disjoint_beads(GOOD).holds
    condition = disjoint_beads(SHARING)
    assert (condition.holds, condition.where) == (False, (0, 1))
    assert "1 atom in more than one bead" in condition.explanation
    assert specific_atoms(SHARING).holds
    assert specific_atoms(NO_OWN).where == (1,)
    assert independent_beads(NO_OWN).holds, "sufficient, not necessary"
    assert force_map_orthogonality(NO_OWN, aggregating_force_map(NO_OWN)).holds
    assert specific_atoms(DUPLICATE).where == (1, 2)


def test_dependent_beads_are_named():
    assert independent_beads(SHARING).holds
    assert independent_beads(DUPLICATE).where == (1, 2)
    # Three beads of two atoms: all three take part.
    assert independent_beads(center_of_mass([0, 1], [0], [1], [6])).where == (0, 1, 2)
    # A dependence among some beads of one block leaves the others out.
    partly = center_of_mass([0, 1], [0, 1], [1, 2])
    assert independent_beads(partly).where == (0, 1)
    found = by_name(check_conditions(DUPLICATE, MASSES))
    assert found["force map orthogonality"].where == (1, 2)
    assert "no linear force map exists" in found["force map orthogonality"].explanation


def test_momentum_masses():
    np.testing.assert_allclose(consistent_masses(GOOD, MASSES), [14, 30, 1], rtol=1e-12)
    assert momentum_masses(GOOD, MASSES).holds
    geometry = LinearMap.center_of_geometry([[0, 1, 2], [3, 4], [5]], 7)
    expected = [9 / (1 / 12 + 2), 4 / (1 / 16 + 1 / 14), 1]
    np.testing.assert_allclose(consistent_masses(geometry, MASSES), expected, rtol=1e-12)
    condition = momentum_masses(geometry, MASSES)
    assert condition.where == (0, 1)
    assert momentum_masses(geometry, MASSES, np.array(expected)).holds
    assert momentum_masses(GOOD, MASSES, np.array([14.0, 72.0, 1.0])).where == (1,)
    with pytest.raises(ValueError, match="bead_masses"):
        momentum_masses(GOOD, MASSES, np.ones(2))


def test_mapped_momenta_have_the_variance_of_the_consistent_mass():
    """<V²> = kT/M_I of mapped Maxwell velocities, against the sample."""
    rng, samples = np.random.default_rng(0), 20000
    geometry = LinearMap.center_of_geometry([[0, 1, 2], [3, 4], [5]], 7)
    velocities = rng.normal(size=(7, samples)) / np.sqrt(MASSES)[:, None]
    variance = np.mean((geometry.matrix() @ velocities) ** 2, axis=1)
    np.testing.assert_allclose(variance * consistent_masses(geometry, MASSES), 1, rtol=5 * np.sqrt(2 / samples))


def test_force_map_orthogonality():
    aggregate = (GOOD.matrix().toarray() != 0).astype(float)
    for shape in (aggregate, GOOD.matrix() != 0, aggregating_force_map(GOOD)):
        assert force_map_orthogonality(GOOD, shape).holds
    mean = aggregate.copy()
    mean[1] /= 2
    assert force_map_orthogonality(GOOD, mean).where == (1,)
    assert force_map_orthogonality(GOOD, 0 * aggregate).where == (0, 1, 2)
    # Summing the forces of shared atoms into both beads counts them twice.
    doubled = force_map_orthogonality(SHARING, (SHARING.matrix().toarray() != 0).astype(float))
    assert doubled.where == (0, 1)
    with pytest.raises(ValueError, match="shape"):
        force_map_orthogonality(GOOD, aggregate[:2])


def test_constraints_inside_and_across_beads():
    forces = aggregating_force_map(GOOD)
    inside = np.array([[0, 1], [0, 2], [1, 2], [3, 4]])
    assert constraint_orthogonality(forces, inside).holds
    across = constraint_orthogonality(forces, np.array([[0, 1], [2, 3]]))
    assert across.where == (0, 1)
    assert "1 of 2 constraints, e.g. of atoms 2 and 3" in across.explanation
    # A constraint to an atom in no bead.
    assert constraint_orthogonality(forces, np.array([[5, 6]])).where == (2,)
    mended = aggregating_force_map(GOOD, np.array([[5, 6]]))
    assert constraint_orthogonality(mended, np.array([[5, 6]])).holds
    assert not by_name(check_conditions(GOOD, MASSES, constraints=np.array([[2, 3]])))["rigid constraints"].holds
