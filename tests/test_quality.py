"""Every metric must catch a structure broken in its own way, and find nothing wrong with crystals."""

import json
import time

import numpy as np
import pytest
from proteins import protein

from jaxcg.backmap.quality import quality
from jaxcg.backmap.quality.checks import _segments_meet_triangles
from jaxcg.backmap.quality.vectors import dihedrals, fitted_rmsd, rmsd
from jaxcg.mapping import LinearMap
from jaxcg.system import System

NAMES = ("ubiquitin", "lysozyme", "villin")


def _rotate_about(x, moving, origin, axis, angle):
    """Rotates the atoms ``moving`` about the line through ``origin`` along ``axis``."""
    axis = axis / np.linalg.norm(axis)
    v = x[moving] - origin
    turned = v * np.cos(angle) + np.cross(axis, v) * np.sin(angle) + np.outer(v @ axis, axis) * (1 - np.cos(angle))
    x = x.copy()
    x[moving] = origin + turned
    return x


def _index(system: System, residue: int, name: str) -> int:
    return system.residue_atoms()[residue][name]


@pytest.mark.parametrize("name", NAMES)
def test_source_structures_are_sound(name):
    system, x, ideal = protein(name)
    found = quality(system, x, ideal_bonds=ideal, reference_positions=x)
    assert found.sound, found.summary()
    assert found.errors == {}
    assert found.offending_residues() == ()
    assert found.bonds_within_10 == 100
    assert found.bond_rms < 2
    assert found.ramachandran_outlier == 0
    assert found.ramachandran_favoured == pytest.approx(
        {"ubiquitin": 100, "lysozyme": 98.4, "villin": 97.0}[name], abs=0.1
    )
    assert found.ring_planarity < 0.01
    assert found.rmsd_heavy == 0
    assert found.rmsd_heavy_fitted < 1e-6
    assert found.phi_psi_agreement == found.chi1_agreement == found.hydrogen_bonds_kept == 100
    assert found.stereo_centers == {"ubiquitin": 84, "lysozyme": 130, "villin": 34}[name]
    assert found.peptides == system.n_residues - 1


def test_a_mirrored_structure_is_wrong_in_every_centre():
    system, x, _ = protein("villin")
    found = quality(system, x * [1, 1, -1])
    assert found.stereo_errors == found.stereo_centers
    assert "stereo_errors" in found.errors
    assert found.peptides_cis == 0


def test_one_mirrored_centre_is_named():
    system, x, _ = protein("ubiquitin")
    center, a, b, c = system.stereo_centers[10]
    normal = np.cross(x[b] - x[a], x[c] - x[a])
    normal /= np.linalg.norm(normal)
    x = x.copy()
    x[center] -= 2 * normal * ((x[center] - x[a]) @ normal)
    found = quality(system, x)
    assert found.stereo_errors == 1
    assert found.offenders["stereo_errors"][0].atoms[0] == center
    assert system.residue_label(int(system.atom_residue[center])) in found.offenders["stereo_errors"][0].label
    assert found.offending_residues("stereo_errors") == (int(system.atom_residue[center]),)


def test_a_flattened_centre_is_flat_not_wrong():
    system, x, _ = protein("ubiquitin")
    center, a, b, c = system.stereo_centers[10]
    normal = np.cross(x[b] - x[a], x[c] - x[a])
    normal /= np.linalg.norm(normal)
    x = x.copy()
    x[center] -= 0.85 * normal * ((x[center] - x[a]) @ normal)
    found = quality(system, x)
    assert (found.stereo_errors, found.stereo_flat) == (0, 1)


@pytest.mark.parametrize(("angle", "cis", "twisted"), [(0, 0, 0), (20, 0, 0), (60, 0, 1), (120, 0, 1), (180, 1, 0)])
def test_a_turned_peptide_is_twisted_or_cis(angle, cis, twisted):
    system, x, _ = protein("ubiquitin")
    quartet = system.double_bonds[30]
    assert system.residue_names[system.atom_residue[quartet[3]]] != "PRO"
    after = np.flatnonzero(system.atom_residue > system.atom_residue[quartet[1]])
    start = dihedrals(x, quartet[None])[0]
    turn = np.radians(angle) - (start - np.pi)
    x = _rotate_about(x, after, x[quartet[1]], x[quartet[2]] - x[quartet[1]], turn)
    found = quality(system, x)
    assert (found.peptides_cis, found.peptides_twisted) == (cis, twisted)


def test_cis_before_proline_is_a_finding_not_an_error():
    system, x, _ = protein("ubiquitin")
    k = next(k for k, q in enumerate(system.double_bonds) if system.residue_names[system.atom_residue[q[3]]] == "PRO")
    quartet = system.double_bonds[k]
    after = np.flatnonzero(system.atom_residue > system.atom_residue[quartet[1]])
    x = _rotate_about(x, after, x[quartet[1]], x[quartet[2]] - x[quartet[1]], np.pi)
    found = quality(system, x)
    assert (found.peptides_cis, found.peptides_cis_proline) == (0, 1)
    assert "peptides_cis_proline" not in found.errors


def test_a_bond_through_a_ring_is_found():
    system, x, _ = protein("ubiquitin")
    atoms = system.residue_atoms()[system.residue_names.index("PHE")]
    ring = [atoms[n] for n in ("CG", "CD1", "CE1", "CZ", "CE2", "CD2")]
    center = x[ring].mean(axis=0)
    normal = np.linalg.svd(x[ring] - center)[2][2]
    lysine = system.residue_atoms()[system.residue_names.index("LYS")]
    x = x.copy()
    x[lysine["CD"]], x[lysine["CE"]] = center + 0.075 * normal, center - 0.075 * normal
    found = quality(system, x)
    assert found.rings_pierced >= 1
    pierced = {(o.atoms[-2], o.atoms[-1]) for o in found.offenders["rings_pierced"] if set(ring) <= set(o.atoms)}
    assert (lysine["CD"], lysine["CE"]) in pierced


def test_segments_and_triangles():
    a, b, c = np.eye(3)
    inside = np.full(3, 1 / 3)
    assert _segments_meet_triangles(inside - 0.1, inside + 0.1, a, b, c)
    assert not _segments_meet_triangles(inside + 0.1, inside + 0.2, a, b, c)
    assert not _segments_meet_triangles(np.array([1.2, 0.2, 0.2]), np.array([1.3, 0.3, 0.3]), a, b, c)
    # A segment in the triangle's plane does not pass through it.
    assert not _segments_meet_triangles(a, b, a, b, c)


def test_a_puckered_ring_is_measured():
    system, x, _ = protein("ubiquitin")
    atom = system.residue_atoms()[system.residue_names.index("PHE")]["CZ"]
    ring = [system.residue_atoms()[system.residue_names.index("PHE")][n] for n in ("CG", "CD1", "CE1")]
    normal = np.cross(x[ring[1]] - x[ring[0]], x[ring[2]] - x[ring[0]])
    x = x.copy()
    x[atom] += 0.06 * normal / np.linalg.norm(normal)
    assert quality(system, x).ring_planarity > 0.02


def test_a_stretched_bond_is_the_worst():
    system, x, ideal = protein("villin")
    k = 100
    i, j = system.bonds[k]
    x = x.copy()
    x[j] = x[i] + (x[j] - x[i]) / np.linalg.norm(x[j] - x[i]) * ideal[k] * 1.2
    found = quality(system, x, ideal_bonds=ideal)
    assert found.bond_worst >= 20 - 1e-9
    assert found.bonds_within_10 < 100
    assert {i, j} in [set(o.atoms) for o in found.offenders["bonds_off"]]
    unknown = ideal.copy()
    unknown[k] = np.nan
    assert quality(system, x, ideal_bonds=unknown).bonds == len(ideal) - 1


def test_contacts_spare_hydrogen_bonds_and_near_neighbours():
    system, x, _ = protein("ubiquitin")
    tyrosine, lysine = system.residue_names.index("TYR"), system.residue_names.index("LYS")
    x = x.copy()
    carbon, other = _index(system, tyrosine, "CZ"), _index(system, lysine, "CE")
    x[other] = x[carbon] + [0.0, 0.0, 0.10]
    found = quality(system, x)
    assert found.contacts_012 >= 1
    assert found.contacts_022 >= 1
    assert {carbon, other} in [set(o.atoms) for o in found.offenders["contacts_012"]]

    _, x, _ = protein("ubiquitin")
    x = x.copy()
    nitrogen, oxygen = _index(system, 40, "N"), _index(system, 5, "O")
    far = np.array([0.0, 0.0, 50.0])  # alone, so that nothing else comes close
    x[nitrogen], x[oxygen] = far, far + np.array([0.20, 0.0, 0.0])
    found = quality(system, x)
    assert (found.contacts_022, found.contacts_022_hydrogen_bonds) == (0, 1)


def test_ramachandran_outliers_are_named():
    system, x, _ = protein("ubiquitin")
    residue = 20
    atoms = system.residue_atoms()[residue]
    after = np.flatnonzero(system.atom_residue > residue)
    phi = quality(system, x).phi_psi[residue - 1]
    assert phi[0] == residue
    # ψ of a residue at φ ≈ −80° to −110°, where hardly any residue is.
    x = _rotate_about(
        x, np.append(after, atoms["O"]), x[atoms["CA"]], x[atoms["C"]] - x[atoms["CA"]], np.radians(-100 - phi[2])
    )
    found = quality(system, x)
    row = found.phi_psi[residue - 1]
    assert row[2] == pytest.approx(-100, abs=0.1)
    assert row[4] < 2
    assert found.ramachandran_favoured < 100


def test_reference_figures():
    system, x, _ = protein("villin")
    shift = np.array([0.03, 0.0, 0.04])
    moved = quality(system, x + shift, reference_positions=x)
    assert moved.rmsd_heavy == pytest.approx(0.05)
    assert moved.rmsd_backbone == pytest.approx(0.05)
    assert moved.rmsd_heavy_fitted < 1e-6

    atoms = system.residue_atoms()[system.residue_names.index("PHE")]
    swapped = x.copy()
    for a, b in (("CD1", "CD2"), ("CE1", "CE2")):
        swapped[[atoms[a], atoms[b]]] = x[[atoms[b], atoms[a]]]
    found = quality(system, swapped, reference_positions=x)
    assert found.rmsd_heavy > 0.01
    assert found.rmsd_heavy_symmetric == pytest.approx(0, abs=1e-12)

    partial = x.copy()
    partial[~system.heavy] = np.nan
    assert quality(system, x, reference_positions=partial).rmsd_heavy == 0


def test_chi1_and_hydrogen_bonds_against_a_reference():
    system, x, _ = protein("villin")
    residue = system.residue_names.index("PHE")
    atoms = system.residue_atoms()[residue]
    side = np.array([i for n, i in atoms.items() if n not in ("N", "CA", "C", "O", "H", "HA", "CB")])
    turned = _rotate_about(x, side, x[atoms["CA"]], x[atoms["CB"]] - x[atoms["CA"]], np.radians(90))
    found = quality(system, turned, reference_positions=x)
    side_chains = sum(name not in ("GLY", "ALA") for name in system.residue_names)
    assert found.chi1_agreement == pytest.approx(100 * (1 - 1 / side_chains))
    assert found.phi_psi_agreement == 100
    pulled = x.copy()
    pulled[_index(system, 20, "O")] += 5.0
    assert quality(system, pulled, reference_positions=x).hydrogen_bonds_kept < 100


def test_beads_are_measured_in_double_precision():
    system, x, _ = protein("villin")
    groups = [np.flatnonzero(system.atom_residue == r) for r in range(system.n_residues)]
    mapping = LinearMap.center_of_mass(groups, system.masses)
    y = mapping.matrix() @ x
    assert quality(system, x, mapping=mapping, y=y).bead_max < 1e-13
    y[3] += [0.03, 0.0, 0.04]
    found = quality(system, x, mapping=mapping, y=y)
    assert found.bead_max == pytest.approx(0.05)
    assert found.bead_rms == pytest.approx(0.05 / np.sqrt(len(groups)))


def test_angles_against_their_ideals():
    system, x, _ = protein("villin")
    atoms = np.array([[_index(system, r, n) for n in ("N", "CA", "C")] for r in range(5)])
    a, b = x[atoms[:, 0]] - x[atoms[:, 1]], x[atoms[:, 2]] - x[atoms[:, 1]]
    actual = np.arccos(np.sum(a * b, axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))
    assert quality(system, x, ideal_angles=(atoms, actual + np.radians(3))).angle_rms == pytest.approx(3)


def test_outcome_is_plain_data():
    system, x, ideal = protein("villin")
    found = quality(system, x * [1, 1, -1], ideal_bonds=ideal)
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["stereo_errors"] == found.stereo_errors == len(plain["offenders"]["stereo_errors"])
    assert plain["rmsd_heavy"] is None
    assert len(plain["phi_psi"]) == found.ramachandran_residues == system.n_residues - 2
    assert "stereo errors: CA of LEU 1" in found.summary()


def test_bad_arguments_are_refused():
    system, x, ideal = protein("villin")
    with pytest.raises(ValueError, match="positions has shape"):
        quality(system, x[:-1])
    with pytest.raises(ValueError, match="not finite"):
        quality(system, np.where(np.arange(system.n_atoms)[:, None] == 7, np.nan, x))
    with pytest.raises(ValueError, match="ideal_bonds has shape"):
        quality(system, x, ideal_bonds=ideal[:-1])


def test_systems_without_protein_or_rings_are_fine():
    water = System(
        masses=[16, 1, 1],
        elements="OHH",
        atom_names=["O", "H1", "H2"],
        atom_residue=[0, 0, 0],
        residue_names=["HOH"],
        residue_ids=[1],
        chain_ids=[""],
        bonds=[(0, 1), (0, 2)],
    )
    found = quality(water, [[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0]])
    assert found.sound
    assert found.ramachandran_favoured is None


def test_fit_ignores_rigid_motion_but_not_reflection():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 3))
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    rotation *= np.sign(np.linalg.det(rotation))
    assert fitted_rmsd(x @ rotation + 1.0, x) < 1e-6
    assert rmsd(x @ rotation + 1.0, x) > 0.1
    assert fitted_rmsd(x * [1, 1, -1], x) > 0.1


def test_it_is_quick():
    system, x, ideal = protein("ubiquitin")
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        quality(system, x, ideal_bonds=ideal, reference_positions=x)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.1  # 5 ms on an idle core
