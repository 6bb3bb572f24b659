"""Constrained bonds: found in trajectories that have some, and gathered into groups."""

import numpy as np
import pytest

from jaxcg.mapping.constraints import constrained_pairs, rigid_groups

FRAMES = 40
#: Equilibrium geometry of a made molecule with two rigid bonds, 0-1 and 4-5, and softer ones.
RIGID = [(0, 1), (4, 5)]
BONDS = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]


def rotations(count, seed):
    """Random orthogonal matrices; distances do not mind reflections."""
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(count, 3, 3)))[0]


def chain(seed=0, fluctuation=0.003):
    """A tumbling chain of six atoms whose bonds are of 0.11 and 0.15 nm; those of RIGID have a fixed length."""
    rng = np.random.default_rng(seed)
    x = np.zeros((FRAMES, 6, 3))
    for i, j in BONDS:
        direction = np.array([0.8, 0.6, 0.0]) if i % 2 else np.array([0.8, -0.6, 0.0])
        direction = direction + rng.normal(scale=0.1, size=(FRAMES, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        length = 0.11 if (i, j) in RIGID else 0.15 + rng.normal(scale=fluctuation, size=(FRAMES, 1))
        x[:, j] = x[:, i] + length * direction
    x = np.einsum("tij,taj->tai", rotations(FRAMES, seed), x)
    return x + rng.normal(size=(FRAMES, 1, 3))


def test_rigid_bonds_are_told_from_others():
    x = chain()
    np.testing.assert_array_equal(constrained_pairs(x), RIGID)
    np.testing.assert_array_equal(constrained_pairs(x, np.array(BONDS[::-1])[:, ::-1]), RIGID)
    # What the caller does not ask about is not reported.
    np.testing.assert_array_equal(constrained_pairs(x, np.array(BONDS[1:])), RIGID[1:])
    np.testing.assert_array_equal(constrained_pairs(x.astype(np.float32)), RIGID)


def test_far_from_the_origin_in_single_precision():
    """Single precision at 50 nm moves a bond by 3e-5 of its length, which is no fluctuation."""
    x = (chain() + 50).astype(np.float32)
    np.testing.assert_array_equal(constrained_pairs(x), RIGID)


def test_positions_rounded_as_in_a_compressed_file():
    """Rounded to 0.001 nm a rigid bond wobbles by 0.0004 nm, which is allowed when the rounding is told."""
    x = np.round(chain(), 3)
    strict = constrained_pairs(x, tolerance=1e-3)
    assert len(strict) < len(RIGID)
    np.testing.assert_array_equal(constrained_pairs(x, tolerance=3e-3, rounding=1e-3), RIGID)


BOXES = {
    "rectangular": np.diag([2.0, 2.5, 3.0]),
    "triclinic": np.array([[2.0, 0, 0], [0.6, 1.9, 0], [-0.7, 0.8, 1.7]]),
}


@pytest.mark.parametrize("name", BOXES)
def test_molecules_across_the_faces_of_a_box(name):
    box = BOXES[name]
    x = np.concatenate([chain(seed) for seed in range(12)], axis=1)
    fraction = x @ np.linalg.inv(box)
    wrapped = (fraction - np.floor(fraction)) @ box
    expected = [(6 * k + i, 6 * k + j) for k in range(12) for i, j in RIGID]
    broken = np.linalg.norm(wrapped[:, 1::6] - wrapped[:, ::6], axis=-1).max()
    assert broken > 1, "no bond crosses a face; the test tests nothing"
    np.testing.assert_array_equal(constrained_pairs(wrapped, box=box), expected)
    boxes = np.repeat(box[None], FRAMES, axis=0)
    np.testing.assert_array_equal(constrained_pairs(wrapped, box=boxes), expected)


def test_rigid_water_has_three_fixed_distances():
    water = np.array([[0, 0, 0], [0.1, 0, 0], [-0.0333, 0.0943, 0]])
    x = np.einsum("tij,aj->tai", rotations(FRAMES, 1), water)
    pairs = constrained_pairs(x)
    np.testing.assert_array_equal(pairs, [(0, 1), (0, 2), (1, 2)])
    np.testing.assert_array_equal(rigid_groups(pairs, 3), [0, 0, 0])


def test_groups_are_connected_components():
    pairs = np.array([[7, 2], [2, 4], [9, 8], [8, 9]])
    np.testing.assert_array_equal(rigid_groups(pairs, 10), [0, 1, 2, 3, 2, 4, 5, 2, 6, 6])
    np.testing.assert_array_equal(rigid_groups(None, 3), [0, 1, 2])
    np.testing.assert_array_equal(rigid_groups(np.zeros((0, 2), dtype=int), 3), [0, 1, 2])


def test_what_cannot_be_answered_is_refused():
    with pytest.raises(ValueError, match="frames do not show"):
        constrained_pairs(chain()[:9])
    with pytest.raises(ValueError, match=r"candidates: atom indices must be in 0\.\.5"):
        constrained_pairs(chain(), np.array([[0, 6]]))
    with pytest.raises(ValueError, match="paired with itself"):
        rigid_groups(np.array([[1, 1]]), 3)
