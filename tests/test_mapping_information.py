"""Null space, row space and fluctuations lost: against dense algebra and closed forms of Gaussian chains."""

import jax
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxcg.mapping import LinearMap
from jaxcg.mapping.information import FluctuationAnalysis, fluctuation_loss, null_space, split
from jaxcg.mapping.replicated import ReplicatedMap, explicit

N = 10
MASSES = np.random.default_rng(0).uniform(1, 16, size=N)
GROUPS = {
    "disjoint": [[0, 1, 2], [3, 4], [5, 6, 7, 8]],
    "overlapping": [[0, 1, 2], [2, 3, 4], [4, 5, 0], [6, 7]],
    "duplicate beads": [[0, 1, 2], [0, 1, 2], [3, 4], [5, 6], [6, 7], [5, 6]],
}
EVERY_MAP = pytest.mark.parametrize("name", GROUPS)
METRICS = pytest.mark.parametrize("masses", [None, MASSES], ids=["plain", "masses"])


def build(name, masses=MASSES):
    return LinearMap.center_of_mass(GROUPS[name], masses)


def null_projector(mapping, masses):
    """P of the mass metric, by dense algebra."""
    root = np.sqrt(masses)
    weight = mapping.matrix().toarray() / root
    return (np.eye(N) - np.linalg.pinv(weight, rcond=1e-10) @ weight) * root / root[:, None]


@EVERY_MAP
@METRICS
def test_null_space_is_orthonormal_sparse_and_complete(name, masses):
    mapping = build(name)
    basis = null_space(mapping, masses)
    metric = np.ones(N) if masses is None else masses
    dense = basis.toarray()
    assert dense.shape == (N, mapping.nullity // 3) == (N, N - mapping.rank // 3)
    np.testing.assert_allclose(mapping.matrix() @ dense, 0, atol=1e-14)
    np.testing.assert_allclose(dense.T @ (metric[:, None] * dense), np.eye(dense.shape[1]), atol=1e-13)
    # P = Z Zᵀ m, whatever the basis.
    np.testing.assert_allclose(dense @ dense.T * metric, null_projector(mapping, metric), atol=1e-13)
    touched = (mapping.matrix().toarray() != 0) @ (np.abs(dense) > 1e-12)
    assert (touched.astype(bool).sum(axis=0) <= 3).all(), "a column leaves its group of overlapping beads"


@EVERY_MAP
@METRICS
def test_split_is_orthogonal_and_complete(x64, name, masses):
    mapping = build(name)
    metric = np.ones(N) if masses is None else masses
    v = np.random.default_rng(1).normal(size=(N, 3))
    kept, lost = split(mapping, v, masses)
    np.testing.assert_allclose(kept + lost, v, atol=1e-14)
    np.testing.assert_allclose(mapping(lost), 0, atol=1e-13)
    np.testing.assert_allclose(np.sum(metric[:, None] * kept * lost), 0, atol=1e-12)
    np.testing.assert_allclose(lost, null_projector(mapping, metric) @ v, atol=1e-13)


def chain(seed, frames, stiffness=1000.0, temperature=2.5):
    """Frames of a harmonic chain tied weakly to the origin, and its covariance (atoms, atoms), nm²."""
    laplacian = 2 * np.eye(N) - np.eye(N, k=1) - np.eye(N, k=-1)
    laplacian[0, 0] = laplacian[-1, -1] = 1
    covariance = temperature * np.linalg.inv(stiffness * laplacian + 10 * np.eye(N))
    noise = np.random.default_rng(seed).normal(size=(frames, N, 3))
    positions = 0.15 * np.arange(N)[:, None] * [1.0, 0.3, 0.0]
    return positions + np.einsum("ij,fjk->fik", np.linalg.cholesky(covariance), noise), covariance


def exact(covariance, projector, masses=MASSES):
    """Per-atom m⟨|δx|²⟩ and m⟨|Pδx|²⟩ of Gaussian data, three coordinates."""
    return 3 * masses * np.diag(covariance), 3 * masses * np.diag(projector @ covariance @ projector.T)


@EVERY_MAP
def test_fluctuations_of_a_harmonic_chain(x64, name):
    mapping, frames = build(name), 4000
    x, covariance = chain(2, frames)
    found = fluctuation_loss(mapping, MASSES, [x])
    total, lost = exact(covariance, null_projector(mapping, MASSES))
    # Each is a sum of squares of 3 × frames independent normals per atom: relative error √(2/(3 frames)), 5 of them.
    tolerance = 5 * np.sqrt(2 / (3 * frames))
    np.testing.assert_allclose(found.atom_fluctuation, total, rtol=tolerance)
    np.testing.assert_allclose(found.atom_loss, lost, rtol=tolerance, atol=1e-12)
    np.testing.assert_allclose(found.fraction, lost.sum() / total.sum(), rtol=tolerance)
    assert 0 < found.fraction < 1
    # The same numbers from the sample covariance, exactly.
    sample = np.einsum("fik,fjk->ij", x - x.mean(axis=0), x - x.mean(axis=0)) / (frames - 1)
    total, lost = (part / 3 for part in exact(sample, null_projector(mapping, MASSES)))
    np.testing.assert_allclose(found.atom_fluctuation, total, rtol=1e-10)
    np.testing.assert_allclose(found.atom_loss, lost, rtol=1e-9, atol=1e-14)
    owners = mapping.matrix().toarray() != 0
    parts = 1 / np.maximum(owners.sum(axis=0), 1)
    np.testing.assert_allclose(found.bead_fluctuation, owners @ (parts * total), rtol=1e-10)
    np.testing.assert_allclose(found.bead_fraction, owners @ (parts * lost) / (owners @ (parts * total)), rtol=1e-9)
    np.testing.assert_allclose(found.atom_fraction, lost / total, rtol=1e-9, atol=1e-12)


def test_chunks_do_not_matter_and_memory_is_constant(x64):
    mapping = build("overlapping")
    x, _ = chain(3, 60)
    whole = fluctuation_loss(mapping, MASSES, [x])
    chunks = fluctuation_loss(mapping, MASSES, (x[start : start + 20] for start in range(0, 60, 20)))
    np.testing.assert_allclose(chunks.atom_loss, whole.atom_loss, rtol=1e-12)
    np.testing.assert_allclose(chunks.atom_fluctuation, whole.atom_fluctuation, rtol=1e-12)
    assert chunks.frames == whole.frames == 60
    analysis = FluctuationAnalysis.of(mapping, MASSES)
    state = analysis.init(x[0])
    shapes = [leaf.shape for leaf in jax.tree.leaves(state)]
    after = analysis.update(analysis.update(state, x[:20]), x[20:40])
    assert [leaf.shape for leaf in jax.tree.leaves(after)] == shapes
    uneven = analysis.result(analysis.update(after, x[40:]))
    np.testing.assert_allclose(uneven.bead_loss, whole.bead_loss, rtol=1e-12)


def test_global_motion_is_removed(x64):
    mapping = build("disjoint")
    still, _ = chain(4, 40)
    rng = np.random.default_rng(5)
    shifted = still + rng.normal(size=(40, 1, 3))
    turned = np.einsum("fij,faj->fai", Rotation.random(40, random_state=6).as_matrix(), shifted)
    turned[0] = still[0]  # the reference
    for removed, moved in (("translation", shifted), ("translation and rotation", turned)):
        moved[0] = still[0]
        expected = fluctuation_loss(mapping, MASSES, [still], removed)
        found = fluctuation_loss(mapping, MASSES, [moved], removed)
        np.testing.assert_allclose(found.atom_loss, expected.atom_loss, rtol=1e-7)
        np.testing.assert_allclose(found.fluctuation, expected.fluctuation, rtol=1e-7)
        assert fluctuation_loss(mapping, MASSES, [moved]).fluctuation > 5 * expected.fluctuation


def test_rigid_motion_and_internal_motion_are_told_apart(x64):
    mapping = build("disjoint", np.ones(N))
    x = np.random.default_rng(7).normal(size=(N, 3))
    shifts = np.random.default_rng(8).normal(size=(30, 3, 3))
    kept, lost = np.tile(x, (30, 1, 1)), np.tile(x, (30, 1, 1))
    for bead, group in enumerate(GROUPS["disjoint"]):
        kept[:, group] += shifts[:, bead, None]
        lost[:, group[0]] += shifts[:, bead]
        lost[:, group[1]] -= shifts[:, bead]
    assert fluctuation_loss(mapping, np.ones(N), [kept]).fraction < 1e-12
    still = fluctuation_loss(mapping, np.ones(N), [lost])
    np.testing.assert_allclose(still.fraction, 1, atol=1e-12)
    assert still.atom_fraction[9] == 0


def test_single_precision_far_from_the_origin():
    mapping = build("overlapping")
    x, _ = chain(9, 200)
    frames = (x + 8.0).astype("float32")
    found = fluctuation_loss(mapping, MASSES, [frames[:100], frames[100:]])
    centred = frames.astype(float) - frames.astype(float).mean(axis=0)
    expected = MASSES * np.sum(centred**2, axis=(0, 2)) / 199
    np.testing.assert_allclose(found.atom_fluctuation, expected, rtol=1e-5)


def test_replicated_molecules_are_analysed_like_one_large_map(x64):
    one = build("overlapping")
    many = ReplicatedMap(one, 3)
    masses = np.tile(MASSES, 3)
    x = np.random.default_rng(12).normal(size=(20, 3 * N, 3))
    found, expected = (fluctuation_loss(m, masses, [x]) for m in (many, explicit(many)))
    np.testing.assert_allclose(found.bead_loss, expected.bead_loss, rtol=1e-12)
    np.testing.assert_allclose(split(many, x[0], masses).lost, split(explicit(many), x[0], masses).lost, atol=1e-13)
    assert null_space(many, masses).shape == (3 * N, many.nullity // 3)


def test_refusals():
    mapping = build("disjoint")
    x, _ = chain(11, 1)
    with pytest.raises(ValueError, match="1 frames have no fluctuation"):
        fluctuation_loss(mapping, MASSES, [x])
    with pytest.raises(ValueError, match="no frames"):
        fluctuation_loss(mapping, MASSES, [])
    with pytest.raises(ValueError, match="removed is"):
        FluctuationAnalysis.of(mapping, MASSES, "everything")
