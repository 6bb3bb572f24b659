"""What a posterior takes, refuses and keeps: noise, frames, rigid bonds."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxcg.energy import HarmonicBond
from jaxcg.energy.base import AbstractEnergy
from jaxcg.io.problem import load_tree, save_tree
from jaxcg.mapping import Frames, LinearMap, ReferenceFrameMap, RigidBonds
from jaxcg.posterior import Posterior

MASSES = np.random.default_rng(4).uniform(1, 16, 9)
SHAPE = np.random.default_rng(3).uniform(0, 0.3, (9, 3))
GROUPS = [[0, 1, 2, 3], [4, 5, 6, 7]]
LINEAR = LinearMap.center_of_mass(GROUPS, MASSES)
FRAMES = ReferenceFrameMap.of(GROUPS, MASSES, SHAPE)


class Nothing(AbstractEnergy):
    """Zero."""

    def __call__(self, x):
        return jnp.zeros((), x.dtype)


@pytest.mark.parametrize("noise", [-0.1, 0.0, np.nan, np.inf])
def test_noise_must_be_positive(noise):
    with pytest.raises(ValueError, match="positive and finite"):
        Posterior(Nothing(), LINEAR, jnp.zeros((2, 3)), noise=noise)


@pytest.mark.parametrize("temperature", [-300.0, 0.0, np.nan, np.inf])
def test_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match="positive and finite"):
        Posterior(Nothing(), LINEAR, jnp.zeros((2, 3)), temperature)


def test_beads_must_be_finite():
    with pytest.raises(ValueError, match=r"bead 1 of y .* not finite"):
        Posterior(Nothing(), LINEAR, jnp.zeros((2, 3)).at[1, 2].set(jnp.nan))


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="the mapping gives 2 beads"):
        Posterior(Nothing(), LINEAR, jnp.zeros((3, 3)))
    with pytest.raises(ValueError, match="needs Frames"):
        Posterior(Nothing(), FRAMES, jnp.zeros((2, 3)))
    with pytest.raises(ValueError, match="no rotation"):
        Posterior(Nothing(), FRAMES, Frames(jnp.zeros((2, 3)), -jnp.stack([jnp.eye(3)] * 2)))
    with pytest.raises(ValueError, match="two numbers"):
        Posterior(Nothing(), FRAMES, FRAMES(SHAPE.astype(np.float32)), noise=0.1)
    with pytest.raises(ValueError, match="among 5 atoms"):
        Posterior(Nothing(), LINEAR, jnp.zeros((2, 3)), rigid_bonds=RigidBonds.of([[0, 1]], [0.1], 5))
    bonds = RigidBonds.at([[0, 1]], SHAPE)
    with pytest.raises(ValueError, match="does not hold rigid bonds"):
        Posterior(Nothing(), LINEAR, jnp.zeros((2, 3)), rigid_bonds=bonds).linear_map("map_estimate")
    with pytest.raises(ValueError, match="not a ReferenceFrameMap"):
        Posterior(Nothing(), FRAMES, FRAMES(SHAPE.astype(np.float32))).linear_map("map_estimate")


@pytest.mark.parametrize(
    ("pairs", "lengths", "message"),
    [
        ([[0, 9]], [0.1], "in 0..8"),
        ([[3, 3]], [0.1], "to itself"),
        ([[0, 1], [1, 0]], [0.1, 0.1], "given twice"),
        ([[0, 1]], [0.0], "positive"),
        ([[0, 1]], [0.1, 0.2], "one for each"),
    ],
)
def test_rigid_bonds_that_make_no_sense_are_refused(pairs, lengths, message):
    with pytest.raises(ValueError, match=message):
        RigidBonds.of(pairs, lengths, 9)


def test_soft_frames_count_shifts_and_turns():
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    x = jnp.asarray(SHAPE, jnp.float32)
    posterior = Posterior(Nothing(), FRAMES, FRAMES(x), noise=(0.02, 0.1))
    centre = np.average(SHAPE[:4], axis=0, weights=MASSES[:4])
    moved = SHAPE.copy()
    moved[:4] = (SHAPE[:4] - centre) @ turn.T + centre + np.array([0.01, 0, 0])
    expected = 0.5 * (0.01 / 0.02) ** 2 + 0.5 * (angle / 0.1) ** 2
    found = posterior.log_density(jnp.asarray(moved, jnp.float32))
    assert float(found) == pytest.approx(-expected, rel=1e-4)


def test_frames_and_bonds_survive_a_file(tmp_path):
    energy = HarmonicBond(atoms=np.array([[0, 1]]), length=np.ones(1), stiffness=np.ones(1), n_atoms=9)
    bonds = RigidBonds.at([[0, 8]], SHAPE)
    posterior = Posterior(energy, FRAMES, FRAMES(SHAPE.astype(np.float32)), rigid_bonds=bonds)
    save_tree(tmp_path / "problem.npz", posterior)
    loaded = load_tree(tmp_path / "problem.npz")
    np.testing.assert_array_equal(loaded.y, posterior.y)
    np.testing.assert_array_equal(loaded.rigid_bonds.pairs, [[0, 8]])
    np.testing.assert_array_equal(loaded.mapping(SHAPE).rotations, FRAMES(SHAPE).rotations)
