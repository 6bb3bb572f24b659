"""Topologies: names, masses, bonds and molecules of files that say little."""

from pathlib import Path

import numpy as np
import pytest
from proteins import protein

from jaxcg.errors import InputError
from jaxcg.io.atoms import guess_element, read_atoms, selector
from jaxcg.io.bonds import guess_bonds, molecules, unique_bonds

FRAMES = Path(__file__).parent / "data" / "frames"
VILLIN = FRAMES / "villin" / "aa.pdb"
BOX = 3.0


def write_gro(path, atoms, box=BOX):
    """A GRO file of ``atoms``: (residue number, residue, name, position)."""
    lines = [
        f"{number:5d}{residue:<5s}{name:>5s}{i % 100000:5d}{x[0]:8.3f}{x[1]:8.3f}{x[2]:8.3f}"
        for i, (number, residue, name, x) in enumerate(atoms, 1)
    ]
    path.write_text("\n".join(["test", str(len(atoms)), *lines, f"{box:10.5f}" * 3, ""]))
    return path


def water(number, origin, names=("OW", "HW1", "HW2"), residue="SOL"):
    places = np.array([[0, 0, 0], [0.1, 0, 0], [-0.033, 0.094, 0], [0.01, 0.01, 0]])
    return [(number, residue, name, np.mod(origin + place, BOX)) for name, place in zip(names, places)]


def propane(number, origin):
    carbons = np.array([[0, 0, 0], [0.15, 0, 0], [0.2, 0.14, 0]])
    hydrogens = [(0, -0.05, 0.09, 0), (0, -0.05, -0.05, 0.08), (0, -0.05, -0.05, -0.08)]
    hydrogens += [(1, 0.05, -0.06, 0.08), (1, 0.05, -0.06, -0.08)]
    hydrogens += [(2, 0.11, 0, 0), (2, -0.05, 0.05, 0.08), (2, -0.05, 0.05, -0.08)]
    atoms = [(f"C{i}", place) for i, place in enumerate(carbons)]
    atoms += [(f"H{i}", carbons[c] + np.array(rest)) for i, (c, *rest) in enumerate(hydrogens)]
    return [(number, "XPRO", name, np.mod(origin + place, BOX)) for name, place in atoms]


def test_a_protein_has_the_bonds_of_the_force_field():
    atoms = read_atoms(VILLIN)
    system, positions, _ = protein("villin")
    assert atoms.n_atoms == system.n_atoms
    assert np.array_equal(atoms.bonds, unique_bonds(system.bonds))
    assert atoms.n_molecules == 1
    np.testing.assert_allclose(atoms.masses, system.masses, atol=0.01)
    np.testing.assert_allclose(atoms.positions, positions, atol=1e-6)
    assert atoms.label(0) == "LEU 1"
    assert any("templates" in note for note in atoms.notes)


def test_molecules_that_the_box_cuts_have_their_bonds(tmp_path):
    atoms = [atom for k in range(9) for atom in water(k + 1, np.array([0.0, 0.3 * k, BOX - 0.01]))]
    atoms += [atom for k in range(5) for atom in propane(k + 20, np.array([BOX - 0.1, 0.6 * k, 1.5]))]
    read = read_atoms(write_gro(tmp_path / "cut.gro", atoms))
    assert read.n_molecules == 14
    assert len(read.bonds) == 9 * 2 + 5 * 10
    assert read.molecule_names[:9] == ("SOL",) * 9
    assert read.molecule_names[9] == "XPRO"
    assert set(read.elements) == {"O", "H", "C"}
    assert any("XPRO" in note and "distances" in note for note in read.notes)
    np.testing.assert_allclose(read.masses[:3], [15.999, 1.008, 1.008], atol=1e-3)
    np.testing.assert_allclose(read.box, np.eye(3) * BOX, atol=1e-5)


def test_four_site_water_and_ions(tmp_path):
    atoms = water(1, np.ones(3), ("OW", "HW1", "HW2", "MW"))
    atoms += [(2, "NA", "NA", np.ones(3) * 2), (3, "CL", "CL", np.ones(3) * 2.1), (4, "SOD", "SOD", np.ones(3) * 2.2)]
    read = read_atoms(write_gro(tmp_path / "ions.gro", atoms))
    assert read.elements == ("O", "H", "H", "", "Na", "Cl", "Na")
    assert read.masses[3] == 0
    assert read.bonds.tolist() == [[0, 1], [0, 2], [0, 3]]
    assert read.n_molecules == 4


def test_chains_are_joined_where_atoms_are_near_only():
    names = ["N", "CA", "C", "O"] * 2
    residue = np.repeat([0, 1], 4)
    near = np.array([[0, 0, 0], [0.146, 0, 0], [0.2, 0.142, 0], [0.12, 0.23, 0]])
    positions = np.concatenate([near, near + np.array([0.32, 0.19, 0])])
    positions[4] = positions[2] + [0.133, 0, 0]
    arguments = (names, ["N", "C", "C", "O"] * 2, residue, ["ALA", "GLY"], ["", ""])
    bonds, guessed = guess_bonds(*arguments, positions, None)
    assert [2, 4] in bonds.tolist()
    assert not guessed
    apart = positions.copy()
    apart[4:] += 1.0
    assert [2, 4] not in guess_bonds(*arguments, apart, None)[0].tolist()
    assert [2, 4] in guess_bonds(*arguments, apart, np.eye(3))[0].tolist()
    assert [2, 4] in guess_bonds(*arguments, None, None)[0].tolist()


def test_disulfides_join_chains():
    names, elements = ["CB", "SG"] * 2, ["C", "S"] * 2
    positions = np.array([[0, 0, 0], [0.18, 0, 0], [0.5, 0, 0], [0.385, 0, 0]])
    arguments = (names, elements, np.array([0, 0, 1, 1]), ["CYS", "CYX"], ["A", "B"])
    assert [1, 3] in guess_bonds(*arguments, positions, None)[0].tolist()
    positions[2:] += 0.1
    assert [1, 3] not in guess_bonds(*arguments, positions, None)[0].tolist()


def test_molecules_are_numbered_by_their_first_atoms():
    bonds = np.array([[5, 1], [0, 3], [3, 4]])
    assert molecules(bonds, 7).tolist() == [0, 1, 2, 0, 0, 1, 3]


@pytest.mark.parametrize(
    ("name", "residue", "alone", "element"),
    [
        ("CA", "ALA", False, "C"),
        ("CA", "ALA", True, "C"),
        ("CA", "CA", True, "Ca"),
        ("1HB", "ALA", False, "H"),
        ("CL1", "LIG", False, "Cl"),
        ("OH2", "TIP3", False, "O"),
        ("ZN", "ZN2", True, "Zn"),
        ("CLA", "CLA", True, "Cl"),
        ("MW", "SOL", False, ""),
    ],
)
def test_elements_from_names(name, residue, alone, element):
    assert guess_element(name, residue, alone) == element


def test_selections(tmp_path):
    select = selector(VILLIN)
    assert len(select("name CA")) == 35
    assert len(select("element S")) > 0
    with pytest.raises(InputError, match="selection 'nome CA'"):
        select("nome CA")


def test_what_cannot_be_read_is_refused(tmp_path):
    empty, folder = tmp_path / "empty.pdb", tmp_path / "folder"
    empty.write_text("")
    folder.mkdir()
    broken = tmp_path / "broken.gro"
    broken.write_text("t\n1\n    1SOL     OW    1   0.000   0.x00   0.000\n   1.0 1.0 1.0\n")
    nan = write_gro(tmp_path / "nan.gro", [(1, "SOL", "OW", np.array([np.nan, 0, 0]))])
    for path, said in (
        (tmp_path / "none.pdb", "no such file"),
        (folder, "is a folder"),
        (empty, "the file is empty"),
        (broken, "broken.gro: cannot be read as a topology"),
        (nan, "atom OW of SOL 1"),
    ):
        with pytest.raises(InputError, match=said) as refused:
            read_atoms(path)
        assert "\n" not in str(refused.value)


def test_mmcif_through_openmm(tmp_path):
    from openmm.app import PDBFile, PDBxFile

    pdb = PDBFile(str(VILLIN))
    with open(tmp_path / "villin.cif", "w") as file:
        PDBxFile.writeFile(pdb.topology, pdb.positions, file)
    read, same = read_atoms(tmp_path / "villin.cif"), read_atoms(VILLIN)
    assert read.names == same.names
    assert np.array_equal(read.bonds, same.bonds)
    assert read.residue_names == same.residue_names
