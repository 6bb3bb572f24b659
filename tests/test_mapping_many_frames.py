"""Many frames at once: the sparse product with its corrections on the beads says what the compiled map says."""

import numpy as np
import pytest

from jaxcg.mapping import LinearMap
from jaxcg.mapping.base import AbstractMap
from jaxcg.mapping.many_frames import FrameMapper, VectorMapper, map_frames
from jaxcg.space import BondWalk

ORTHORHOMBIC = np.diag([2.0, 2.5, 3.0])
TRICLINIC = np.array([[2.0, 0.0, 0.0], [0.5, 2.2, 0.0], [-0.7, 0.4, 2.5]])
N_ATOMS = 120


class Cubes(AbstractMap):
    """A map that is not linear."""

    n_beads: int = 40
    n_atoms: int = N_ATOMS

    def __call__(self, x):
        return x[::3] + (x[1::3] - x[2::3]) ** 3


def polymers(seed=0):
    """Branched chains with a ring, longer than the box, their atoms in no order; the bonds."""
    rng = np.random.default_rng(seed)
    x, bonds = [np.zeros(3)], [(5, 9)]
    for i in range(1, N_ATOMS):
        if i % 40 == 0:
            x.append(rng.normal(size=3) * 3)
            continue
        parent = int(rng.integers(max(i // 40 * 40, i - 3), i))
        bonds.append((parent, i))
        x.append(x[parent] + rng.normal(size=3) * 0.12)
    x, place = np.array(x), rng.permutation(N_ATOMS)
    x[9] = x[5] + 0.1
    return x[np.argsort(place)], place[np.array(bonds)]


def overlapping_map(seed=0):
    rng = np.random.default_rng(seed)
    groups = [rng.choice(N_ATOMS, 4, replace=False) for _ in range(25)]
    return LinearMap.center_of_mass(groups, rng.uniform(1, 16, N_ATOMS))


@pytest.mark.parametrize("box", [ORTHORHOMBIC, TRICLINIC])
def test_cut_molecules_map_to_what_whole_ones_do(box, x64):
    whole, bonds = polymers()
    cut = whole + np.random.default_rng(1).integers(-2, 3, size=whole.shape) @ box
    mapping, walk = overlapping_map(), BondWalk.of(bonds, N_ATOMS)
    frames, boxes = np.stack([cut, whole, cut]), np.stack([box, box, np.zeros((3, 3))])
    ours = FrameMapper(mapping, bonds)(frames, boxes)
    np.testing.assert_allclose(ours, np.asarray(map_frames(mapping, frames, boxes, walk)), atol=1e-12)
    # The first atom of each molecule stays, so beads agree with those of whole molecules up to box vectors.
    fraction = (ours[0] - ours[1]) @ np.linalg.inv(box)
    assert np.abs(ours[1] - np.asarray(mapping(whole))).max() < 1e-12
    single = mapping.matrix().tocsr()
    molecule = BondWalk.of(bonds, N_ATOMS).molecule
    for bead in range(mapping.n_beads):
        if len(set(molecule[single.indices[single.indptr[bead] : single.indptr[bead + 1]]])) == 1:
            assert np.abs(fraction[bead] - np.round(fraction[bead])).max() < 1e-9
    # A frame without a box is mapped as it is.
    np.testing.assert_allclose(ours[2], np.asarray(mapping(cut)), atol=1e-12)


@pytest.mark.parametrize("box", [ORTHORHOMBIC, TRICLINIC])
def test_few_cut_bonds(box, x64):
    whole, bonds = polymers()
    mapping, walk = overlapping_map(), BondWalk.of(bonds, N_ATOMS)
    frames = np.repeat(whole[None], 24, axis=0)
    for k in range(24):
        frames[k, 5 * k] += box[k % 3] - box[(k + 1) % 3]
    boxes = np.broadcast_to(box, (24, 3, 3))
    expected = np.asarray(map_frames(mapping, frames, boxes, walk))
    np.testing.assert_allclose(FrameMapper(mapping, bonds)(frames, boxes), expected, atol=1e-12)


def test_single_precision_frames_keep_their_digits():
    whole, bonds = polymers()
    mapping = overlapping_map()
    frames = whole[None].astype(np.float32)
    boxes = ORTHORHOMBIC[None].astype(np.float32)
    walk = BondWalk.of(bonds, N_ATOMS)
    ours, compiled = FrameMapper(mapping, bonds)(frames, boxes), np.asarray(map_frames(mapping, frames, boxes, walk))
    assert compiled.dtype == np.float32
    np.testing.assert_allclose(ours, compiled, atol=3e-6)


def test_other_maps_run_compiled(x64):
    whole, bonds = polymers()
    cut = whole + np.random.default_rng(1).integers(-1, 2, size=whole.shape) @ TRICLINIC
    ours = FrameMapper(Cubes(), bonds)(cut[None], TRICLINIC[None])
    expected = map_frames(Cubes(), cut[None], TRICLINIC[None], BondWalk.of(bonds, N_ATOMS))
    np.testing.assert_allclose(ours, np.asarray(expected), atol=1e-12)
    plain = FrameMapper(Cubes())(cut[None])
    np.testing.assert_allclose(plain[0], np.asarray(Cubes()(cut)), atol=1e-9)


def test_vectors_are_mapped_without_a_box():
    mapping = overlapping_map()
    v = np.random.default_rng(2).normal(size=(3, N_ATOMS, 3)).astype(np.float32)
    expected = np.einsum("ba,fax->fbx", mapping.matrix().toarray(), v)
    np.testing.assert_allclose(VectorMapper(mapping)(v), expected, atol=1e-6)
