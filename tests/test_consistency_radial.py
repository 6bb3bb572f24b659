"""Radial distributions: every pair once, in any lattice and at any radius; normalisation, errors, bad input."""

import jax
import numpy as np
import pytest
from scipy.special import erf

from jaxcg.consistency.structure import (
    CellPairs,
    FrameBlocks,
    RadialAccumulator,
    compared_counts,
    count_distances,
    radial_distribution,
    radial_distributions,
    soft_histogram,
    soft_radial_distribution,
    structure_factor_from_radial,
)

CUBE = np.diag([2.1, 2.4, 2.9])
TILTED = np.array([[2.2, 0.0, 0.0], [0.7, 2.0, 0.0], [-0.9, 0.8, 1.9]])


def points(n, box, seed=0):
    # Some lie outside the box.
    return np.random.default_rng(seed).uniform(-1, 2, (n, 3)) @ box


def all_distances(x, box, y=None, reach=3):
    """(points, others, images) distances by going through the images around, and which pairs are of two points."""
    shifts = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3, indexing="ij"), -1).reshape(-1, 3) @ box
    wrapped = [np.mod(p @ np.linalg.inv(box), 1.0) @ box for p in (x, x if y is None else y)]
    d = np.linalg.norm(wrapped[0][:, None, None] - wrapped[1][None, :, None] - shifts, axis=-1)
    other = np.ones((len(x), len(wrapped[1])), bool) if y is not None else ~np.eye(len(x), dtype=bool)
    return d, other


@pytest.mark.parametrize("box", [CUBE, TILTED], ids=["orthorhombic", "triclinic"])
@pytest.mark.parametrize("radius", [0.3, 0.8, 1.9, 3.1])
def test_every_pair_is_met_once(box, radius):
    x, y = points(60, box), points(25, box, 1)
    edges = np.linspace(0, radius, 41)
    d, other = all_distances(x, box)
    found = count_distances(CellPairs(x, box, radius), 40)
    np.testing.assert_array_equal(2 * found, np.histogram(d[other], edges)[0])
    d, other = all_distances(x, box, y)
    found = count_distances(CellPairs(x, box, radius, y), 40)
    np.testing.assert_array_equal(found, np.histogram(d[other], edges)[0])


@pytest.mark.parametrize("keep", ["between", "within"])
def test_molecules(keep):
    x = points(60, TILTED)
    molecules = np.random.default_rng(1).integers(0, 20, 60)
    same = molecules[:, None] == molecules
    d, other = all_distances(x, TILTED)
    wanted = other & (same if keep == "within" else ~same)
    found = radial_distribution([(x, TILTED)], 2.5, bins=25, molecules=molecules, keep=keep, images=True)
    np.testing.assert_array_equal(2 * found.counts, np.histogram(d[wanted], found.edges)[0])
    assert 2 * found.pairs == wanted.sum()


def test_many_points_and_the_device_count_the_same():
    box = np.eye(3) * 2.5
    x = points(3000, box).astype(np.float64)
    edges = np.linspace(0, 0.7, 71)
    cells = CellPairs(x, box, 0.7)
    found = count_distances(cells, 70)
    compared = np.asarray(compared_counts(np.mod(x, 2.5).astype(np.float32)[:800], box.astype(np.float32), edges))
    small = count_distances(CellPairs(x[:800], box, 0.7), 70)
    assert np.abs(compared - small).max() <= 3
    assert abs(compared.sum() - small.sum()) <= 1
    from scipy.spatial import KDTree

    tree = KDTree(np.mod(x, 2.5), boxsize=2.5)
    below = (tree.count_neighbors(tree, edges) - 3000) // 2  # the tree counts both ways and everyone itself
    np.testing.assert_array_equal(found, np.diff(below, prepend=0)[1:])


@pytest.mark.parametrize("images", [False, True])
def test_ideal_gas_by_types_within_its_errors(images):
    """g = 1 at every distance, also beyond half the box, for self and cross, with honest errors and coordination."""
    rng = np.random.default_rng(3)
    types = np.array(["A"] * 30 + ["B"] * 70)
    r_max = 2.6 if images else 0.8
    boxes = [TILTED * s for s in rng.uniform(0.97, 1.03, 100)]
    frames = [(rng.uniform(0, 1, (100, 3)) @ box, box) for box in boxes]
    found = radial_distributions(frames, r_max, bins=12, types=types, images=images)
    assert set(found) == {("A", "A"), ("A", "B"), ("B", "B")}
    pulls = np.concatenate([(one.value - 1) / one.error for one in found.values()])
    assert np.abs(pulls).max() < 4.5
    assert 0.6 < np.std(pulls) < 1.5
    # Volumes vary by 5 %: that is in the counts and in those of the ideal gas, and no error of their ratio.
    assert found["B", "B"].error[-1] < (0.003 if images else 0.02)
    one = found["A", "B"]
    density = np.mean([70 / np.linalg.det(box) for box in boxes])
    around = one.coordination(around=0)
    np.testing.assert_allclose(one.density[1], density)
    expected = density * 4 / 3 * np.pi * one.edges[1:] ** 3
    assert (np.abs(around.value - expected) < 4.5 * around.error)[1:].all()
    np.testing.assert_allclose(one.coordination(around=1).value * 70, around.value * 30)
    same = found["B", "B"].coordination().value[-1]
    assert same == pytest.approx(69 / np.mean([np.linalg.det(b) for b in boxes]) * 4 / 3 * np.pi * r_max**3, rel=0.02)
    flat = structure_factor_from_radial(found["B", "B"], np.array([5.0, 20.0]))
    assert (np.abs(flat.value - 1) < 4.5 * flat.error).all()


def test_a_stream_is_the_sum_of_its_frames_whatever_its_length():
    rows = np.random.default_rng(5).normal(size=(75, 3))
    blocks = FrameBlocks(8)
    for row in rows:
        blocks.add(row)
    np.testing.assert_allclose(blocks.total(), rows.sum(axis=0))
    assert blocks.frames == 75
    assert blocks.length == 8
    np.testing.assert_allclose(blocks.means(), rows[:72].reshape(9, 8, 3).mean(axis=1))


def test_programs_and_their_conventions():
    x = points(50, CUBE)
    found = radial_distribution([(x, CUBE)], 1.0, bins=10)
    np.testing.assert_allclose(found.in_convention("freud"), found.value * 49 / 50)
    np.testing.assert_array_equal(found.in_convention("MDAnalysis"), found.value)
    with pytest.raises(ValueError, match="no convention"):
        found.in_convention("gmx")


def test_bad_input():
    x = points(20, CUBE)
    with pytest.raises(ValueError, match="needs a periodic box"):
        radial_distribution([(x, None)], 0.5)
    with pytest.raises(ValueError, match=r"r_max 1.2 nm is more than half .* 1.05 nm"):
        radial_distribution([(x, CUBE)], 1.2)
    with pytest.raises(ValueError, match="no frames"):
        radial_distribution([], 0.5)
    with pytest.raises(ValueError, match="no points of type W; there are A"):
        RadialAccumulator(0.5, types=["A"] * 20, pairs=[("A", "W")])
    with pytest.raises(ValueError, match="20 types but 19 points"):
        radial_distributions([(x[1:], CUBE)], 0.5, types=["A"] * 20)
    with pytest.raises(ValueError, match="1 of 20 positions are not finite, the first is number 3"):
        radial_distribution([(np.where(np.arange(20)[:, None] == 3, np.nan, x), CUBE)], 0.5)
    with pytest.raises(ValueError, match="19 points, but 20 in the frames before"):
        radial_distribution([(x, CUBE), (x[1:], CUBE)], 0.5)
    with pytest.raises(ValueError, match="need the molecule"):
        RadialAccumulator(0.5, keep="between")
    with pytest.raises(ValueError, match="span a volume"):
        radial_distribution([(x, np.zeros((3, 3)))], 0.5)


def test_soft_histograms_are_smooth_and_count_everything(x64):
    values, edges = np.array([0.31, 0.5, 0.77]), np.linspace(0, 1, 11)
    weights = np.array([1.0, 2.0, 0.5])
    soft = soft_histogram(values, edges, 0.05, weights)
    upper, lower = ((edges[1:, None] - values) / 0.05, (edges[:-1, None] - values) / 0.05)
    np.testing.assert_allclose(soft, 0.5 * (erf(upper / 2**0.5) - erf(lower / 2**0.5)) @ weights, rtol=1e-10)
    np.testing.assert_allclose(np.sum(soft), 3.5, rtol=1e-5)
    np.testing.assert_allclose(soft_histogram(values[:1], edges, 1e-6), np.eye(10)[3], atol=1e-12)


def test_soft_radial_distribution_and_its_gradient(x64):
    x, edges = points(40, TILTED), np.linspace(0.1, 0.8, 8)
    molecules = np.arange(40) // 2
    hard = radial_distribution([(x, TILTED)], 0.8, bins=8, molecules=molecules, keep="between")
    soft = soft_radial_distribution(x, TILTED, hard.edges, 1e-7, groups=molecules)
    np.testing.assert_allclose(soft, hard.value, rtol=1e-9)
    cross = soft_radial_distribution(
        x[:13], TILTED, hard.edges, 1e-7, groups=molecules[:13], others=x[13:], other_groups=molecules[13:]
    )
    both = radial_distributions(
        [(x, TILTED)], 0.8, bins=8, types=["A"] * 13 + ["B"] * 27, molecules=molecules, keep="between"
    )
    np.testing.assert_allclose(cross, both["A", "B"].value, rtol=1e-9)

    weights = np.linspace(-1, 1, 7)

    @jax.jit
    def score(x, box):
        return soft_radial_distribution(x, box, edges, 0.05) @ weights

    slopes = jax.grad(score, (0, 1))(x, TILTED)
    rng = np.random.default_rng(2)
    steps = rng.normal(size=x.shape), rng.normal(size=(3, 3)) * np.tri(3)
    for k, (slope, step) in enumerate(zip(slopes, steps, strict=True)):
        ends = [float(score(x + s * step, TILTED) if k == 0 else score(x, TILTED + s * step)) for s in (1e-6, -1e-6)]
        assert np.sum(slope * step) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5)
