"""Replicated and joined maps against the same map with its weights written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcg.energy.base import AbstractEnergy
from jaxcg.mapping import LinearMap
from jaxcg.mapping.replicated import JoinedMap, ReplicatedFibre, ReplicatedMap, explicit
from jaxcg.posterior import Posterior
from jaxcg.sampling import LinearGeometry

#: A molecule of six atoms and three beads, two of which overlap; atom 5 is in none.
LIPID = LinearMap.from_weights([0, 0, 1, 1, 2], [0, 1, 1, 2, 3], [0.5, 0.5, 0.3, 0.7, 1.0], 3, 6)
WATER = LinearMap.center_of_mass([[0, 1, 2]], np.array([16.0, 1.0, 1.0]))
LIPID_MASSES, WATER_MASSES = np.array([12.0, 14.0, 1.0, 16.0, 2.0, 3.0]), np.array([16.0, 1.0, 1.0])
#: One molecule, many equal ones, and many of a pair of different ones.
SYSTEM = JoinedMap([LIPID, ReplicatedMap(WATER, 4), ReplicatedMap(JoinedMap([LIPID, WATER]), 2)])
MASSES = np.concatenate([LIPID_MASSES, np.tile(WATER_MASSES, 4), np.tile(np.append(LIPID_MASSES, WATER_MASSES), 2)])


@pytest.fixture(scope="module")
def plain():
    return explicit(SYSTEM)


def operations(mapping, masses, x, y, v):
    """Everything a linear map does, compiled together."""
    fibre = mapping.fibre(masses)
    return {
        "map": mapping(x),
        "transpose": mapping.transpose(y),
        "pseudoinverse": fibre.lift(y),
        "lift transpose": fibre.lift_transpose(v),
        "tangent": fibre.tangent(v),
        "cotangent": fibre.cotangent(v),
        "retract": fibre.retract(x, y),
        "gradient": jax.grad(lambda x: jnp.sum(jnp.sin(mapping(x))) + jnp.sum(fibre.tangent(x) ** 3))(x),
        "batch": jax.vmap(mapping)(jnp.stack([x, v])),
    }


def run(mapping, masses, dtype):
    rng = np.random.default_rng(0)
    shapes = [(mapping.n_atoms, 3), (mapping.n_beads, 3), (mapping.n_atoms, 3)]
    x, y, v = (jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes)
    # The map and known masses are closed over: the fibre is factored on the host.
    return jax.jit(lambda x, y, v: operations(mapping, masses, x, y, v))(x, y, v)


def test_shape_rank_and_entries(plain):
    assert (SYSTEM.n_beads, SYSTEM.n_atoms) == (3 + 4 + 8, 6 + 12 + 18) == (plain.n_beads, plain.n_atoms)
    assert SYSTEM.rank == plain.rank
    assert SYSTEM.nullity == plain.nullity == 3 * 36 - 3 * 15
    expected = np.zeros((15, 36))
    expected[:3, :6] = LIPID.matrix().toarray()
    for copy in range(4):
        expected[3 + copy, 6 + 3 * copy : 9 + 3 * copy] = WATER.matrix().toarray()
    for copy in range(2):
        expected[7 + 4 * copy : 10 + 4 * copy, 18 + 9 * copy : 24 + 9 * copy] = LIPID.matrix().toarray()
        expected[10 + 4 * copy, 24 + 9 * copy : 27 + 9 * copy] = WATER.matrix().toarray()
    np.testing.assert_allclose(SYSTEM.matrix().toarray(), expected, atol=1e-15)


@pytest.mark.parametrize("masses", [None, MASSES, MASSES * np.linspace(1, 2, 36)], ids=["unit", "equal", "different"])
def test_every_operation_is_that_of_the_explicit_map(x64, plain, masses):
    expected = run(plain, masses, np.float64)
    for name, found in run(SYSTEM, masses, np.float64).items():
        np.testing.assert_allclose(found, expected[name], atol=1e-12, err_msg=name)


def test_the_fibre_is_that_of_one_molecule():
    waters = ReplicatedMap(WATER, 100_000)
    fibre = waters.fibre(np.tile(WATER_MASSES, 100_000))
    assert isinstance(fibre, ReplicatedFibre)
    assert sum(leaf.size for leaf in jax.tree.leaves(fibre)) < 50
    x = np.random.default_rng(1).normal(size=(300_000, 3)).astype(np.float32)
    y = np.asarray(waters(x))
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, np.average(x.reshape(-1, 3, 3), axis=1, weights=WATER_MASSES), atol=1e-6)


def test_masses_may_be_traced(x64):
    waters, masses = ReplicatedMap(WATER, 3), np.tile(WATER_MASSES, 3)
    v = np.random.default_rng(2).normal(size=(9, 3))
    traced = jax.jit(lambda m: waters.tangent(v, m))(masses)
    np.testing.assert_allclose(traced, waters.tangent(v, masses), atol=1e-12)


class Well(AbstractEnergy):
    """½ |x|²."""

    def __call__(self, x):
        return 0.5 * jnp.sum(x**2)


def test_a_posterior_takes_any_linear_map(x64):
    y = np.random.default_rng(3).normal(size=(SYSTEM.n_beads, 3))
    posterior = Posterior(Well(), SYSTEM, y)
    geometry = LinearGeometry(posterior, MASSES)
    assert geometry.dimension == SYSTEM.nullity
    velocities = geometry.thermal_velocities(jax.random.key(0), 2.5, jnp.zeros((SYSTEM.n_atoms, 3)))
    np.testing.assert_allclose(SYSTEM(velocities), 0, atol=1e-12)
    x = geometry.retract(jnp.zeros((SYSTEM.n_atoms, 3)), y)
    np.testing.assert_allclose(SYSTEM(x), y, atol=1e-12)
    assert float(posterior.potential(x)) == pytest.approx(0.5 * np.sum(np.asarray(x) ** 2))


def test_mistakes_are_errors():
    with pytest.raises(ValueError, match="copies is 0"):
        ReplicatedMap(WATER, 0)
    with pytest.raises(ValueError, match="at least one map"):
        JoinedMap([])
    for mapping in (SYSTEM, ReplicatedMap(WATER, 12), explicit(SYSTEM)):
        with pytest.raises(ValueError, match=r"takes an array of 36 atoms or beads, got one of shape \(35, 3\)"):
            mapping(np.zeros((35, 3)))
    with pytest.raises(ValueError, match=r"takes an array of 15 atoms or beads, got one of shape \(36, 3\)"):
        SYSTEM.transpose(np.zeros((36, 3)))
