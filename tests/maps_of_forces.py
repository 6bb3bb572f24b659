"""Maps, constraints and forces that the tests of force maps share."""

import numpy as np
import pytest

from jaxcg.mapping import LinearMap
from jaxcg.units import GAS_CONSTANT

N_ATOMS = 10
MASSES = np.random.default_rng(0).uniform(1, 16, N_ATOMS)
KT = GAS_CONSTANT * 300
MAPS = {
    "centre of mass": LinearMap.center_of_mass([[0, 1, 2], [3, 4], [6, 7, 8]], MASSES),
    "slice": LinearMap.center_of_geometry([[1], [4], [7]], N_ATOMS),
    "overlapping": LinearMap.center_of_geometry([[0, 1, 2], [2, 3, 4], [4, 5], [8, 9]], N_ATOMS),
}
CONSTRAINTS = {
    "none": None,
    "inside beads": np.array([[0, 1], [7, 8]]),
    "between beads and free atoms": np.array([[4, 5], [8, 9], [1, 2], [2, 3]]),
}
EVERY_MAP = pytest.mark.parametrize("name", MAPS)
EVERY_CONSTRAINT = pytest.mark.parametrize("constraints", CONSTRAINTS)


def dense(force_map):
    return force_map.matrix().toarray()


def some_forces(frames=60, seed=1, atoms=N_ATOMS):
    """Forces with strong correlations between neighbours, as bonds make them."""
    rng = np.random.default_rng(seed)
    f = rng.normal(size=(frames, atoms, 3)) * rng.uniform(0.5, 2, (atoms, 1))
    pull = 5 * rng.normal(size=(frames, atoms - 1, 3))
    f[:, 1:] += pull
    f[:, :-1] -= pull
    return f
