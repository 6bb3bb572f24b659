"""Mapping files: parity with martinize2, the file formats, and what is wrong with bad files."""

from pathlib import Path

import numpy as np
import pytest

from jaxcg.errors import InputError
from jaxcg.io import build_molecule
from jaxcg.mapping.formats import (
    AtomTable,
    build_map,
    load_scheme,
    read_backward,
    read_vermouth_mapping,
    read_vermouth_modifications,
)
from jaxcg.mapping.formats.names import is_solvent, standard_atom, standard_residue

DATA = Path(__file__).parent / "data"
FRAMES, PARITY = DATA / "frames", DATA / "parity"
VILLIN = FRAMES / "villin" / "cg_crystal.pdb"
#: Half the last digit of a PDB file in both the atoms and the beads, in nm.
ROUNDING = 1e-4


@pytest.mark.parametrize(
    ("beads", "atoms", "hydrogens"),
    [
        (FRAMES / "ubiquitin" / "cg_crystal.pdb", FRAMES / "ubiquitin" / "aa.pdb", False),
        (FRAMES / "lysozyme" / "cg_crystal.pdb", FRAMES / "lysozyme" / "aa.pdb", False),
        (PARITY / "villin_no_h_cg.pdb", PARITY / "villin_no_h.pdb", False),
        (PARITY / "ubiquitin_h_cg.pdb", PARITY / "ubiquitin_h.pdb", True),
        (PARITY / "lysozyme_h_cg.pdb", PARITY / "lysozyme_h.pdb", True),
        (FRAMES / "villin" / "cg_crystal.pdb", FRAMES / "villin" / "aa.pdb", True),
        (PARITY / "villin_variants_h_cg.pdb", PARITY / "villin_variants_h.pdb", True),
    ],
    ids=lambda value: value.stem if isinstance(value, Path) else str(value),
)
def test_every_bead_is_martinize2s(beads, atoms, hydrogens):
    molecule = build_molecule(beads, reference=atoms, hydrogens=hydrogens)
    assert molecule.hydrogens is hydrogens
    mapped = molecule.mapping.matrix() @ molecule.reference_positions
    assert np.abs(mapped - molecule.y).max() < ROUNDING
    # The other choice of hydrogens is visibly wrong, so a caller can tell them apart.
    other = molecule.alternative_mapping.matrix() @ molecule.reference_positions
    assert np.abs(other - molecule.y).max() > 50 * ROUNDING


@pytest.mark.parametrize("name", ["ubiquitin_h", "lysozyme_h"])
def test_martini_2_beads_are_martinize2s(name):
    molecule = build_molecule(
        PARITY / f"{name}_m2_cg.pdb", mapping="martini2", reference=PARITY / f"{name}.pdb", hydrogens=True
    )
    assert np.abs(molecule.mapping.matrix() @ molecule.reference_positions - molecule.y).max() < ROUNDING


def test_heavy_atoms_only_is_the_default():
    molecule = build_molecule(VILLIN)
    assert molecule.hydrogens is False
    _, atoms, _ = molecule.mapping.entries()
    assert molecule.system.heavy[atoms].all()
    _, atoms, _ = molecule.alternative_mapping.entries()
    assert not molecule.system.heavy[atoms].all()
    assert any("heavy atoms" in note for note in molecule.notes)


def test_one_bead_mappings(tmp_path):
    lines = [line for line in VILLIN.read_text().splitlines(True) if line.startswith("ATOM") and " BB " in line]
    path = tmp_path / "ca.pdb"
    path.write_text("".join(line.replace(" BB ", " CA ") for line in lines))
    molecule = build_molecule(path, mapping="calpha")
    _, atoms, weights = molecule.mapping.entries()
    assert {molecule.system.atom_names[i] for i in atoms} == {"CA"}
    assert (weights == 1).all()
    assert molecule.alternative_mapping is None
    molecule = build_molecule(path, mapping="com")
    x = np.random.default_rng(0).normal(size=(molecule.system.n_atoms, 3))
    chosen = molecule.system.atom_residue == 4
    expected = np.average(x[chosen], axis=0, weights=molecule.system.masses[chosen])
    np.testing.assert_allclose((molecule.mapping.matrix() @ x)[4], expected, atol=1e-12)
    assert molecule.alternative_mapping is not None
    with pytest.raises(InputError, match=r"LEU 1: mapping calpha has one bead for each residue"):
        build_molecule(VILLIN, mapping="calpha")


# -- files --------------------------------------------------------------------------------------------------------

TOY = """\
; a toy
[ molecule ]
TOY
[ from ]
amber
[ to ]
mine
[ martini ]
A B
[ atoms ]
 1 C1 A
 2 C2 A A A B
 3 O1 B   ; shared atom above
 4 H1 !A
 5 H2
"""
ATOMS = AtomTable(
    names=("C1", "C2", "O1", "H1", "H2"),
    elements=("C", "C", "O", "H", "H"),
    residue=np.zeros(5, dtype=int),
    residue_names=("TOY",),
    residue_labels=("TOY 1",),
)


def toy(tmp_path, text=TOY, name="toy.map"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_backward_file_to_map(tmp_path):
    ((rule, source, target),) = read_backward(toy(tmp_path))
    assert (source, target, rule.beads) == (("amber",), ("mine",), ("A", "B"))
    assert rule.shares["C2"] == {"A": 0.75, "B": 0.25}
    assert rule.shares["H1"] == {"A": 0.0}
    built = build_map({"TOY": rule}, ATOMS, ("A", "B"), [0, 0], hydrogens=True)
    expected = np.zeros((2, 5))
    expected[0, :2] = 12 / 21, 9 / 21
    expected[1, 1:3] = 3 / 19, 16 / 19
    np.testing.assert_allclose(built.matrix().toarray(), expected, atol=1e-12)


def test_vermouth_file_to_map(tmp_path):
    text = "[ block ]\n[ from ]\namber\n[ to ]\nmine\n[ from blocks ]\nTOY\n[ to blocks ]\nTOY\n[ mapping ]\n"
    text += "C1 A\nC2 A 0.75\nC2 B 0.25\nO1 B\n"
    ((rule, _, target),) = read_vermouth_mapping(toy(tmp_path, text, "toy.mapping"))
    ((same, _, _),) = read_backward(toy(tmp_path))
    assert target == ("mine",)
    assert rule.shares == {name: shares for name, shares in same.shares.items() if any(shares.values())}
    one, two = (build_map({"TOY": r}, ATOMS, ("A", "B"), [0, 0], hydrogens=True) for r in (rule, same))
    np.testing.assert_array_equal(one.matrix().toarray(), two.matrix().toarray())


VERMOUTH = """\
[ block ]
[ from ]
amber
[ to ]
mine
[ from blocks ]
TOY
[ mapping ]
C1 A
C2 A
O1 B
[ modification ]
[ from blocks ]
TOY-H1
[ from nodes ]
O1
[ mapping ]
O1 B
H1 B 0.5
"""


def test_vermouth_modifications_add_their_atoms(tmp_path):
    path = toy(tmp_path, VERMOUTH, "toy.mapping")
    (modification,) = read_vermouth_modifications(path)
    assert (modification.names, modification.shares) == (("TOY-H1",), {"O1": {"B": 1.0}, "H1": {"B": 0.5}})
    rules = load_scheme(path).rules
    built = build_map(rules, ATOMS, ("A", "B"), [0, 0], hydrogens=True).matrix().toarray()
    np.testing.assert_allclose(built[1], [0, 0, 16 / 16.5, 0.5 / 16.5, 0])


@pytest.mark.parametrize("name", ["toy.map", "toy.mapping", "toy.txt"])
def test_a_users_file_by_its_path(tmp_path, name):
    scheme = load_scheme(toy(tmp_path, name=name))
    assert set(scheme.rules) == {"TOY"}


def test_a_users_file_for_a_protein(tmp_path):
    """Chain ends go with the backbone also in a user's mapping."""
    names = {line[17:21].strip() for line in VILLIN.read_text().splitlines() if line.startswith("ATOM")}
    path = tmp_path / "mine.map"
    path.write_text(
        "".join(
            f"[ molecule ]\n{name}\n[ martini ]\nBB\n[ atoms ]\n1 N BB\n2 CA BB\n3 C BB\n4 O BB\n" for name in names
        )
    )
    beads = tmp_path / "cg.pdb"
    lines = VILLIN.read_text().splitlines(True)
    beads.write_text("".join(line for line in lines if line.startswith("ATOM") and " BB " in line))
    molecule = build_molecule(beads, mapping=path)
    last = molecule.mapping.matrix().toarray()[-1]
    assert {molecule.system.atom_names[i] for i in np.flatnonzero(last)} == {"N", "CA", "C", "O", "OXT"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello\n", r"toy\.map: no mapping found"),
        ("[ molecule ]\n[ atoms ]\n1 C1 A\n", r"toy\.map, line 1: \[ molecule \] has no name"),
        ("[ molecule ]\nTOY\n", r"toy\.map, line 1: molecule TOY has no \[ atoms \]"),
        ("[ molecule ]\nTOY\nTOO\n", r"toy\.map, line 3: a second molecule name"),
        ("[ molecule ]\nTOY\n[ atoms\n", r"toy\.map, line 3: .* is not a section header"),
        ("[ molecule ]\nTOY\n[ atoms ]\n1\n", r"toy\.map, line 4: an atom line needs"),
        ("[ molecule ]\nTOY\n[ atoms ]\n1 C1 A\n2 C1 B\n", r"toy\.map, line 5: atom C1 is listed twice"),
        ("[ molecule ]\nTOY\n[ atoms ]\n1 C1 A !A\n", r"toy\.map, line 4: bead A is named both with and without"),
        ("[ block ]\n[ mapping ]\nC1 A B C\n", r"toy\.map, line 3: expected 'atom bead"),
        ("[ block ]\n[ mapping ]\nC1 A x\n", r"toy\.map, line 3: 'x' is not a weight"),
        ("[ block ]\n[ mapping ]\nC1 A -1\n", r"toy\.map, line 3: the weight -1 is negative"),
        ("[ block ]\n[ mapping ]\nC1 A\nC1 A\n", r"toy\.map, line 4: atom C1 is given to bead A twice"),
        ("[ block ]\n[ from blocks ]\nA B\n", r"toy\.map, line 3: blocks of several residues"),
        ("[ block ]\n[ mapping ]\nC1 A\n", r"toy\.map, line 1: the block needs"),
        ("[ modification ]\n[ mapping ]\nC1 A\n", r"toy\.map, line 1: the modification needs"),
        ("[ modification ]\n[ from blocks ]\nX-Y\n[ mapping ]\nC1 A\n", r"toy\.map: the file has no \[ block \]"),
    ],
)
def test_bad_mapping_files_name_file_and_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        load_scheme(toy(tmp_path, text))


def test_a_mapping_that_names_atoms_the_residue_lacks(tmp_path):
    path = tmp_path / "mine.map"
    path.write_text("[ molecule ]\nTOY\n[ atoms ]\n1 C1 A\n2 C9 A\n")
    ((rule, _, _),) = read_backward(path)
    with pytest.raises(InputError, match=r"TOY 1: the mapping \(.*mine\.map\) names atom C9, which the residue lacks"):
        build_map({"TOY": rule}, ATOMS, ("A",), [0], hydrogens=True)


def test_a_bead_that_no_atom_counts_in(tmp_path):
    path = tmp_path / "mine.map"
    path.write_text("[ molecule ]\nTOY\n[ atoms ]\n1 C1 A\n2 H1 B\n")
    ((rule, _, _),) = read_backward(path)
    with pytest.raises(InputError, match="TOY 1: no atom counts in bead B"):
        build_map({"TOY": rule}, ATOMS, ("A", "B"), [0, 0], hydrogens=False)


# -- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("residue", "name", "standard"),
    [
        ("ILE", "CD", "CD1"),
        ("ILE", "HD1", "HD11"),
        ("ALA", "HN", "H"),
        ("ALA", "OT1", "O"),
        ("ALA", "OT2", "OXT"),
        ("SER", "HG1", "HG"),
        ("LYS", "HB1", "HB3"),
        ("LYS", "HB2", "HB2"),
        ("POPC", "C12", "C12"),
    ],
)
def test_atom_names_of_all_conventions(residue, name, standard):
    assert standard_atom(residue, name) == standard


def test_residue_aliases_and_solvent():
    assert standard_residue("HSP") == ("HIS", "HIP")
    assert standard_residue("ALA") == ("ALA", None)
    assert is_solvent("W", "W")
    assert is_solvent("ION", "NA+")
    assert is_solvent("CL", "CL")
    assert not is_solvent("ALA", "BB")
    assert not is_solvent("PHE", "CA")


def test_unknown_names_are_errors():
    with pytest.raises(InputError, match="mapping 'martini4' is not known"):
        load_scheme("martini4")
