"""Ideal geometry and hydrogens: against a crystal structure and against OpenMM's placement."""

import numpy as np
import pytest
from fragments import FRAMES
from proteins import protein

from jaxcg.backmap.geometry import ideal_geometry, small_rings
from jaxcg.backmap.hydrogens import HydrogenRules
from jaxcg.energy import HarmonicBond, SumEnergy
from jaxcg.io import build_molecule


@pytest.fixture(scope="module")
def ubiquitin():
    molecule = build_molecule(FRAMES / "ubiquitin" / "cg_crystal.pdb")
    _, x, _ = protein("ubiquitin")
    names = [(int(r), n) for r, n in zip(molecule.system.atom_residue, molecule.system.atom_names)]
    other, _, _ = protein("ubiquitin")
    position = {(int(r), n): p for r, n, p in zip(other.atom_residue, other.atom_names, x)}
    return molecule, np.array([position.get(name, np.full(3, np.nan)) for name in names])


@pytest.fixture(scope="module")
def geometry(ubiquitin):
    return ideal_geometry(ubiquitin[0].system, ubiquitin[0].energy)


def test_distances_are_those_of_the_crystal(ubiquitin, geometry):
    molecule, x = ubiquitin
    heavy = molecule.system.heavy[geometry.pairs].all(axis=1)
    d = np.linalg.norm(x[geometry.pairs[:, 0]] - x[geometry.pairs[:, 1]], axis=1) - geometry.lengths
    # A wrong cis/trans assignment of a planar 1-4 pair would be off by 0.08 nm.
    assert np.abs(d[heavy & (geometry.separation == 1)]).max() < 0.01
    assert np.abs(d[heavy & (geometry.separation == 2)]).max() < 0.03
    planar = heavy & (geometry.separation == 3)
    assert planar.sum() > 150
    assert np.abs(d[planar]).max() < 0.035


def test_volumes_have_the_crystals_sign_and_size(ubiquitin, geometry):
    _, x = ubiquitin
    a, b, c = (x[geometry.centers[:, k]] - x[geometry.centers[:, 0]] for k in (1, 2, 3))
    share = np.sum(a * np.cross(b, c), axis=1) / geometry.volumes
    assert len(share) > 80
    assert share.min() > 0.75
    assert share.max() < 1.2


def test_small_rings_are_found_once():
    # naphthalene-like: two six-rings share the bond 4-5
    ring = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0), (4, 6), (6, 7), (7, 8), (8, 9), (9, 5), (9, 10)]
    found = small_rings(np.array(ring), 11)
    assert sorted(sorted(r) for r in found) == [[0, 1, 2, 3, 4, 5], [4, 5, 6, 7, 8, 9]]


def test_subset_keeps_what_lies_inside(geometry):
    atoms = np.arange(40)
    part = geometry.subset(atoms)
    assert part.pairs.max() < 40
    assert len(part.radii) == 40
    inside = (geometry.pairs < 40).all(axis=1)
    np.testing.assert_array_equal(part.lengths, geometry.lengths[inside])


def test_an_energy_without_bonds_is_refused(ubiquitin):
    system = ubiquitin[0].system
    with pytest.raises(ValueError, match="HarmonicBond and a Nonbonded"):
        ideal_geometry(system, SumEnergy((HarmonicBond([[0, 1]], [0.1], [1.0], n_atoms=system.n_atoms),)))


def test_hydrogens_sit_where_openmm_puts_them(ubiquitin):
    molecule, x = ubiquitin
    system = molecule.system
    rules = HydrogenRules.of(system, molecule.energy)
    placed = rules.place(np.where(system.heavy[:, None], x, 0.0))
    hydrogen = ~system.heavy
    lengths = {
        tuple(sorted(p)): v
        for term in molecule.energy.terms()
        if isinstance(term, HarmonicBond)
        for p, v in zip(np.asarray(term.atoms).tolist(), np.asarray(term.length).tolist())
    }
    for i, j in system.bonds.tolist():
        if hydrogen[i] or hydrogen[j]:
            assert np.linalg.norm(placed[i] - placed[j]) == pytest.approx(lengths[min(i, j), max(i, j)], abs=1e-6)
    # Hydrogens that geometry determines alone: backbone amide and alpha, aromatic rings.
    determined = [k for k in np.flatnonzero(hydrogen) if system.atom_names[k] in ("H", "HA", "HE1", "HZ", "HH2")]
    determined = [k for k in determined if system.residue_names[system.atom_residue[k]] not in ("MET", "GLY")]
    away = np.linalg.norm(placed - x, axis=1)[determined]
    assert len(determined) > 120
    assert np.percentile(away, 95) < 0.03
    # No hydrogen lies on another atom.
    d = np.linalg.norm(placed[hydrogen][:, None] - placed[None], axis=-1)
    d[np.arange(hydrogen.sum()), np.flatnonzero(hydrogen)] = 1.0
    assert d.min() > 0.08
