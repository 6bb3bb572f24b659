"""Nearest images and molecules made whole, against searches over all images."""

import itertools

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from jaxcg.space import BondWalk, make_whole, minimum_image, nearest_image, suspect_bonds

BOXES = {
    "cube": np.diag([3.0, 3.0, 3.0]),
    "brick": np.diag([3.0, 4.5, 6.0]),
    "dodecahedron": 4 * np.array([[1, 0, 0], [0, 1, 0], [0.5, 0.5, np.sqrt(0.5)]]),
    "octahedron": 4 * np.array([[1, 0, 0], [1 / 3, np.sqrt(8) / 3, 0], [-1 / 3, np.sqrt(2) / 3, np.sqrt(6) / 3]]),
    # As tilted as a reduced box may be, and thin: its vectors are not the shortest of their lattice.
    "thin": 1.5 * np.array([[12.0, 0, 0], [5.8, 2.5, 0], [-4.1, 1.2, 1.1]]),
}
#: Compiled once for all boxes.
NEAREST = jax.jit(nearest_image)
WHOLE = jax.jit(make_whole, static_argnames="wrap")
EVERY_BOX = pytest.mark.parametrize("name", BOXES)


def searched(d, box, reach=6):
    """The shortest of all images within ``reach`` boxes."""
    shifts = np.array(list(itertools.product(range(-reach, reach + 1), repeat=3))) @ box
    images = d[:, None, :] + shifts
    return images[np.arange(len(d)), np.argmin((images**2).sum(-1), axis=1)]


@EVERY_BOX
def test_the_nearest_image_is_the_nearest(x64, name):
    box = BOXES[name]
    d = np.random.default_rng(0).uniform(-1, 1, size=(200, 3)) @ box
    expected = np.linalg.norm(searched(d, box), axis=1)
    for found in (nearest_image(d, box), NEAREST(d, box)):
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), expected, atol=1e-12)
        # It is an image: whole box vectors away.
        count = (np.asarray(found) - d) @ np.linalg.inv(box)
        np.testing.assert_allclose(count, np.round(count), atol=1e-9)


@EVERY_BOX
def test_the_brick_image_is_the_nearest_within_half_the_smallest_diagonal(x64, name):
    box = BOXES[name]
    rng = np.random.default_rng(1)
    direction = rng.normal(size=(300, 3))
    length = 0.5 * np.diag(box).min() * rng.uniform(0, 1, size=(300, 1)) ** (1 / 3)
    near = length * direction / np.linalg.norm(direction, axis=1, keepdims=True)
    moved = near + rng.integers(-3, 4, size=(300, 3)) @ box
    found = np.stack(minimum_image(tuple(jnp.asarray(moved.T)), jnp.asarray(box)), axis=1)
    np.testing.assert_allclose(found, near, atol=1e-12)
    np.testing.assert_allclose(nearest_image(moved, box), near, atol=1e-12)


def test_the_brick_image_is_not_always_the_nearest(x64):
    """Why `nearest_image` exists: beyond half the smallest diagonal, folding row by row may miss."""
    box = BOXES["thin"]
    d = np.random.default_rng(2).uniform(-1, 1, size=(200, 3)) @ box
    folded = np.stack(minimum_image(tuple(jnp.asarray(d.T)), jnp.asarray(box)), axis=1)
    assert np.any(np.linalg.norm(folded, axis=1) > np.linalg.norm(nearest_image(d, box), axis=1) + 0.1)


def test_gradients_of_the_nearest_image(x64):
    box = jnp.asarray(BOXES["thin"])
    d = jnp.asarray(np.random.default_rng(3).uniform(-1, 1, size=(5, 3)) @ BOXES["thin"])
    value = jax.jit(lambda d, box: jnp.sum(jnp.sin(nearest_image(d, box))))
    jax.test_util.check_grads(value, (d, box), 1, modes=("rev",))


# -- molecules ----------------------------------------------------------------------------------------------------


def chain(n, step=0.3, seed=0):
    """A stiff random walk, several boxes long, and its bonds."""
    rng = np.random.default_rng(seed)
    direction = np.array([1.0, 0.4, 0.3]) + 0.5 * rng.normal(size=(n, 3))
    return np.cumsum(step * direction / np.linalg.norm(direction, axis=1, keepdims=True), axis=0)


def system():
    """A chain with a branch and a ring, listed in no order; three waters; an ion. Positions, bonds."""
    x = np.concatenate([chain(60), chain(6, seed=1)])
    bonds = [(i, i + 1) for i in range(59)] + [(30, 60)] + [(i, i + 1) for i in range(60, 65)]
    x[60:66] += x[30] - x[60] + 0.1
    bonds += [(10, 12), (12, 10), (60, 62)]
    waters = np.random.default_rng(4).uniform(0, 3, size=(3, 1, 3)) + np.array([[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0]])
    x = np.concatenate([x, waters.reshape(-1, 3), [[9.0, 9.0, 9.0]]])
    bonds += [(66 + 3 * w, 66 + 3 * w + h) for w in range(3) for h in (1, 2)]
    shuffle = np.random.default_rng(5).permutation(len(x))
    place = np.argsort(shuffle)
    return x[shuffle], place[np.array(bonds)]


@EVERY_BOX
def test_chains_longer_than_the_box_are_made_whole(x64, name):
    box = BOXES[name]
    x, bonds = system()
    walk = BondWalk.of(bonds, len(x))
    assert walk.n_molecules == 5
    assert len(walk.bonds) == len(bonds) - 1
    torn = x + np.random.default_rng(6).integers(-2, 3, size=x.shape) @ box
    for whole in (make_whole(torn, box, walk), WHOLE(torn, box, walk)):
        whole = np.asarray(whole)
        np.testing.assert_allclose(whole[bonds[:, 1]] - whole[bonds[:, 0]], x[bonds[:, 1]] - x[bonds[:, 0]], atol=1e-12)
        # The first atom of each molecule is where it was.
        first = np.unique(walk.molecule, return_index=True)[1]
        np.testing.assert_array_equal(whole[first], torn[first])
    assert not np.any(suspect_bonds(torn, box, walk))
    batch = jax.vmap(WHOLE, in_axes=(0, 0, None))(jnp.stack([torn, x]), jnp.stack([box, box]), walk)
    np.testing.assert_allclose(batch[0], whole, atol=1e-12)
    np.testing.assert_allclose(make_whole(whole, box, walk), whole, atol=1e-12)


@EVERY_BOX
def test_centres_are_wrapped_into_the_cell(x64, name):
    box = BOXES[name]
    x, bonds = system()
    walk = BondWalk.of(bonds, len(x))
    masses = np.random.default_rng(7).uniform(1, 16, size=len(x))
    torn = x + np.random.default_rng(6).integers(-2, 3, size=x.shape) @ box
    for weights in (None, masses):
        host = make_whole(torn, box, walk, wrap=True, weights=weights)
        np.testing.assert_allclose(
            make_whole(jnp.asarray(torn), box, walk, wrap=True, weights=weights), host, atol=1e-12
        )
        np.testing.assert_allclose(host[bonds[:, 1]] - host[bonds[:, 0]], x[bonds[:, 1]] - x[bonds[:, 0]], atol=1e-12)
        for molecule in range(walk.n_molecules):
            inside = walk.molecule == molecule
            center = np.average(host[inside], axis=0, weights=None if weights is None else weights[inside])
            fraction = center @ np.linalg.inv(box)
            assert np.all((fraction > -1e-9) & (fraction < 1 + 1e-9))


def test_single_precision_and_dtype():
    box = BOXES["dodecahedron"].astype(np.float32)
    x, bonds = system()
    walk = BondWalk.of(bonds, len(x))
    torn = (x + np.random.default_rng(6).integers(-2, 3, size=x.shape) @ box).astype(np.float32)
    for whole in (make_whole(torn, box, walk), WHOLE(jnp.asarray(torn), box, walk)):
        assert whole.dtype == np.float32
        d = np.asarray(whole[bonds[:, 1]] - whole[bonds[:, 0]])
        np.testing.assert_allclose(d, x[bonds[:, 1]] - x[bonds[:, 0]], atol=2e-5)


def test_gradients_pass_through(x64):
    box = BOXES["thin"]
    x, bonds = system()
    walk = BondWalk.of(bonds, len(x))
    torn = x + np.random.default_rng(6).integers(-2, 3, size=x.shape) @ box

    @jax.jit
    def value(x, box):
        return jnp.sum(jnp.sin(make_whole(x, box, walk, wrap=True)))

    jax.test_util.check_grads(
        value, (jnp.asarray(torn), jnp.asarray(box)), 1, modes=("fwd", "rev"), atol=1e-5, rtol=1e-5
    )


def test_bonds_that_cannot_be_trusted_are_reported(x64):
    box = BOXES["cube"]
    # A bond of 1.6 nm in a box of 3: its other image is shorter, and nobody can know which was meant.
    x = np.array([[0.0, 0, 0], [0.2, 0, 0], [1.8, 0, 0], [1.9, 0, 0]])
    walk = BondWalk.of([(0, 1), (1, 2), (2, 3)], 4)
    np.testing.assert_array_equal(suspect_bonds(x, box, walk), [False, False, False])
    np.testing.assert_allclose(make_whole(x, box, walk)[2:, 0], [-1.2, -1.1], atol=1e-12)
    diagonal = np.array([[0.0, 0, 0], [1.2, 1.2, 0]])
    np.testing.assert_array_equal(suspect_bonds(diagonal, box, BondWalk.of([(0, 1)], 2)), [True])
    # A polymer bonded to its own image: every bond is short, but the ring does not close.
    ring = np.array([[0.5, 0, 0], [1.5, 0, 0], [2.5, 0, 0]])
    flags = suspect_bonds(ring, box, BondWalk.of([(0, 1), (1, 2), (2, 0)], 3))
    assert np.asarray(flags).sum() == 1


def test_walks_without_bonds_and_bad_walks():
    walk = BondWalk.of(np.zeros((0, 2), int), 3)
    x = np.random.default_rng(8).normal(size=(3, 3))
    np.testing.assert_array_equal(make_whole(x, BOXES["cube"], walk), x)
    with pytest.raises(ValueError, match=r"outside 0\.\.2"):
        BondWalk.of([(0, 3)], 3)
    with pytest.raises(ValueError, match="x has 4 atoms, the bond walk 3"):
        make_whole(np.zeros((4, 3)), BOXES["cube"], walk)
