"""g(r) bin by bin as freud, MDAnalysis and mdtraj have it on the same frames, in their conventions."""

import numpy as np
import pytest

from jaxcg.consistency.structure import RadialAccumulator, radial_distribution

TILTED = np.array([[2.8, 0, 0], [0.7, 2.6, 0], [-0.9, 0.8, 2.5]])
#: What freud 3.4.0 finds on the frames of `frames`: bin_counts of RDF(30, 1.2) in the cube, of RDF(30, 1.1) in the
#: other box, and rdf in the cube in its modes "exact" and "finite_size" (last ten bins), in single precision.
FREUD_CUBE = [0, 14, 22, 68, 96, 136, 196, 294, 334, 386, 536, 682, 674, 810, 1014, 1170, 1294, 1374, 1668, 1778, 2090]
FREUD_CUBE += [2260, 2484, 2654, 2850, 3068, 3360, 3484, 3728, 4334]
FREUD_TILTED = [0, 12, 44, 58, 108, 168, 268, 344, 352, 486, 602, 696, 880, 1004, 1150, 1236, 1456, 1728, 1960, 2072]
FREUD_TILTED += [2256, 2440, 2806, 3104, 3292, 3708, 3864, 4048, 4404, 4920]
EXACT = [1.043294, 1.025669, 1.029363, 1.008217, 0.996105, 0.989859, 1.003808, 0.966536, 0.962932, 1.044859]
FINITE_SIZE = [1.045908, 1.028239, 1.031943, 1.010744, 0.998602, 0.992340, 1.006324, 0.968958, 0.965346, 1.047478]


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(11)
    cube = rng.uniform(0, 3.0, (400, 3)).astype(np.float32)
    tilted = (rng.uniform(0, 1, (400, 3)) @ TILTED).astype(np.float32)
    return (cube, np.eye(3) * 3.0), (tilted, TILTED)


def test_freud(frames):
    cube = radial_distribution([frames[0]], 1.2, bins=30)
    tilted = radial_distribution([frames[1]], 1.1, bins=30)
    np.testing.assert_array_equal(2 * cube.counts, FREUD_CUBE)
    np.testing.assert_array_equal(2 * tilted.counts, FREUD_TILTED)
    np.testing.assert_allclose(cube.in_convention("freud")[-10:], EXACT, atol=1e-5)
    np.testing.assert_allclose(cube.value[-10:], FINITE_SIZE, atol=1e-5)


def test_mdtraj(frames):
    mdtraj = pytest.importorskip("mdtraj")
    x = np.stack([frames[0][0], frames[0][0][::-1] * 0.9])
    trajectory = mdtraj.Trajectory(x, None, unitcell_lengths=[[3.0] * 3, [2.9] * 3], unitcell_angles=[[90.0] * 3] * 2)
    first, second = np.triu_indices(400, 1)
    _, theirs = mdtraj.compute_rdf(trajectory, np.stack([first, second], 1), r_range=(0, 1.2), n_bins=30)
    found = radial_distribution([(x[0], np.eye(3) * 3.0), (x[1], np.eye(3) * 2.9)], 1.2, bins=30)
    np.testing.assert_allclose(found.in_convention("mdtraj"), theirs, rtol=1e-5)


def test_mdanalysis(frames):
    MDAnalysis = pytest.importorskip("MDAnalysis")
    from MDAnalysis.analysis.rdf import InterRDF

    x, box = frames[0]
    universe = MDAnalysis.Universe.empty(400, n_residues=200, atom_resindex=np.arange(400) // 2, trajectory=True)
    universe.atoms.positions = x * 10
    universe.dimensions = [30.0, 30.0, 30.0, 90.0, 90.0, 90.0]
    one, other = universe.atoms[:150], universe.atoms[150:]
    for theirs, options in (
        (InterRDF(universe.atoms, universe.atoms, nbins=30, range=(0, 12), exclusion_block=(1, 1)), {}),
        (
            InterRDF(universe.atoms, universe.atoms, nbins=30, range=(0, 12), exclusion_block=(2, 2)),
            {"molecules": np.arange(400) // 2, "keep": "between"},
        ),
    ):
        theirs.run()
        found = radial_distribution([(x, box)], 1.2, bins=30, **options)
        np.testing.assert_array_equal(2 * found.counts, theirs.results.count)
        np.testing.assert_allclose(found.in_convention("MDAnalysis"), theirs.results.rdf, rtol=1e-6)
    theirs = InterRDF(one, other, nbins=30, range=(0, 12))
    theirs.run()
    cross = RadialAccumulator(1.2, bins=30, types=["A"] * 150 + ["B"] * 250, pairs=[("A", "B")])
    cross.add(x, box)
    found = cross.results()["A", "B"]
    np.testing.assert_array_equal(found.counts, theirs.results.count)
    np.testing.assert_allclose(found.value, theirs.results.rdf, rtol=1e-6)
