"""Forward maps of whole systems agree with martinize2 and csg_map to the precision of their output."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaxcg.errors import InputError
from jaxcg.io.atoms import read_atoms
from jaxcg.mapping.force_maps import aggregating_force_map
from jaxcg.mapping.formats import Atoms, build_model, load_mapping

DATA = Path(__file__).parent / "data"
PARITY, VOTCA = DATA / "parity", DATA / "votca"
#: Half the last digit of a PDB file in both the atoms and the beads, in nm.
ROUNDING = 1e-4


def read_beads(path):
    lines = [line for line in path.read_text().splitlines() if line.startswith("ATOM")]
    positions = np.array([[float(line[start : start + 8]) for start in (30, 38, 46)] for line in lines]) / 10
    return tuple(line[12:16].strip() for line in lines), positions


def mapped(model, atoms):
    return model.mapping.matrix() @ np.asarray(atoms.positions, dtype=float)


@pytest.mark.parametrize(
    ("name", "beads", "mapping", "source"),
    [
        ("ubiquitin_h", "ubiquitin_h_cg", "martini3", None),
        ("lysozyme_h", "lysozyme_h_cg", "martini3", "charmm"),
        ("lysozyme_h", "lysozyme_h_amber_cg", "martini3", "amber"),
        ("lysozyme_h", "lysozyme_h_m2_cg", "martini2", None),
        ("villin_no_h", "villin_no_h_cg", "martini3", None),
        ("villin_variants_h", "villin_variants_h_cg", "martini3", None),
        ("variants_amber", "variants_amber_cg", "martini3", "amber"),
        ("variants_charmm", "variants_charmm_cg", "martini3", "charmm"),
        ("neutral_amber", "neutral_amber_cg", "martini3", "amber"),
        ("neutral_charmm", "neutral_charmm_cg", "martini3", "charmm"),
    ],
)
def test_every_bead_is_martinize2s(name, beads, mapping, source):
    atoms = read_atoms(PARITY / f"{name}.pdb")
    model = build_model(atoms, mapping, source=source)
    names, expected = read_beads(PARITY / f"{beads}.pdb")
    assert model.bead_names == names
    difference = np.abs(mapped(model, atoms) - expected).max(axis=1)
    if name == "neutral_amber":
        # martinize2 does not find its own modification of a neutral C-terminus from amber, whose mapping names an
        # atom HN that Amber's residues lack, and leaves out both atoms of the hydroxyl group. jaxcg counts them.
        assert np.flatnonzero(difference > ROUNDING).tolist() == [len(names) - 2]
    else:
        assert difference.max() < ROUNDING


def charmm_names(atoms: Atoms) -> Atoms:
    """The same atoms as CHARMM names them."""
    members = [{atoms.names[i] for i in residue} for residue in atoms.residue_atoms]
    names = []
    for name, residue in zip(atoms.names, atoms.residue):
        here, kind = members[residue], atoms.residue_names[residue]
        if name in ("H", "H1"):
            name = "HT1" if "H2" in here else "HN"
        elif name in ("H2", "H3"):
            name = name.replace("H", "HT")
        elif "OXT" in here and name in ("O", "OXT"):
            name = {"O": "OT1", "OXT": "OT2"}[name]
        elif kind == "ILE" and name in ("CD1", "HD11", "HD12", "HD13", "HG13"):
            name = {"CD1": "CD", "HG13": "HG11"}.get(name, name.replace("HD1", "HD"))
        elif kind in ("SER", "CYS") and name == "HG":
            name = "HG1"
        elif name in ("HA3", "HB3", "HG3", "HD3", "HE3") and name[:2] + "2" in here and name[:2] + "1" not in here:
            name = name[:2] + "1"
        names.append(name)
    kinds = {"HIS": "HSE", "HIE": "HSE", "HID": "HSD", "HIP": "HSP"}
    return replace(atoms, names=tuple(names), residue_names=tuple(kinds.get(n, n) for n in atoms.residue_names))


@pytest.mark.parametrize("mapping", ["martini3", "martini2", "elnedyn22"])
def test_names_of_charmm_and_of_the_pdb_give_the_same_map(mapping):
    atoms = read_atoms(PARITY / "lysozyme_h.pdb")
    other = charmm_names(atoms)
    assert len(set(atoms.names) - set(other.names)) > 5
    one, two = (build_model(system, mapping) for system in (atoms, other))
    assert one.bead_names == two.bead_names
    assert abs(one.mapping.matrix() - two.mapping.matrix()).max() == 0


def test_the_source_matters_for_histidine_and_backbone_hydrogens():
    atoms = read_atoms(PARITY / "variants_amber.pdb")
    difference = np.abs(mapped(build_model(atoms, "martini3"), atoms) - read_beads(PARITY / "variants_amber_cg.pdb")[1])
    assert 0.1 < difference.max() < 0.3
    with pytest.raises(InputError, match="source 'gromos' is not known; choose charmm or amber"):
        build_model(atoms, "martini3", source="gromos")
    with pytest.raises(InputError, match="no files from amber to martini22; use source charmm"):
        build_model(atoms, "martini2", source="amber")


def test_cysteines_in_bridges_are_cysteines():
    atoms = read_atoms(PARITY / "variants_amber.pdb")
    named = replace(atoms, residue_names=tuple("CYX" if n == "CYS" else n for n in atoms.residue_names))
    for source in ("amber", "charmm"):
        one, two = (build_model(system, "martini3", source=source) for system in (atoms, named))
        assert abs(one.mapping.matrix() - two.mapping.matrix()).max() == 0


def test_what_martini_has_no_beads_for_is_left_out():
    atoms = read_atoms(PARITY / "neutral_charmm.pdb")
    named = replace(atoms, residue_names=("HOH", *atoms.residue_names[1:]))
    model = build_model(named, "martini3")
    assert model.notes[-1] == "no rule for, left out: HOH"
    assert set(model.unmapped) >= set(atoms.residue_atoms[0])
    lacking = replace(atoms, names=tuple("CX" if n == "CA" else n for n in atoms.names))
    with pytest.raises(InputError, match=r"neutral_charmm\.pdb: LEU .*names atom CA, which the residue lacks"):
        build_model(lacking, "martini3")


def test_heavy_atoms_only():
    with_h, without = (read_atoms(PARITY / f"villin_{name}.pdb") for name in ("variants_h", "no_h"))
    expected = read_beads(PARITY / "villin_no_h_cg.pdb")[1]
    assert np.abs(mapped(build_model(without, "martini3"), without) - expected).max() < ROUNDING
    assert np.abs(mapped(build_model(with_h, "martini3", hydrogens=False), with_h) - expected).max() < ROUNDING


# -- csg_map ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["spce", "hexane", "propane", "methanol"])
def test_positions_and_forces_are_csg_maps(name):
    stored = np.load(VOTCA / f"{name}.npz")
    keys = ("names", "elements", "residue_names", "residue_ids", "molecule_names")
    atoms = Atoms(
        **{key: tuple(str(word) for word in stored[key]) for key in keys},
        **{key: stored[key] for key in ("masses", "residue", "molecule")},
        chain_ids=("",) * len(stored["residue_names"]),
        bonds=None,
    )
    model = build_model(atoms, VOTCA / f"{name}.xml")
    difference = model.mapping.matrix() @ stored["positions"].astype(float) - stored["beads"]
    difference -= stored["box"] * np.rint(difference / stored["box"])
    assert np.abs(difference).max() < 5e-7  # single precision, at 6 nm
    assert (model.force_map is not None) == (name == "methanol")
    force_map = model.force_map or aggregating_force_map(model.mapping)
    forces = force_map.matrix() @ stored["forces"].astype(float)
    assert np.abs(forces - stored["bead_forces"]).max() < 2e-7 * np.abs(stored["forces"]).max()
    masses = np.bincount(stored["molecule"], weights=stored["masses"])
    np.testing.assert_allclose(model.masses.reshape(len(masses), -1).sum(axis=1), masses)


def test_bonded_interactions_of_the_tutorials():
    stored = np.load(VOTCA / "hexane.npz")
    mapping = load_mapping(VOTCA / "hexane.xml")
    assert {(rule.kind, rule.name): rule.beads for rule in mapping.molecules[0].bonded} == {
        ("bond", "bond"): (("A1", "B"), ("A2", "B")),
        ("angle", "angle"): (("A1", "B", "A2"),),
    }
    assert len(stored["beads"]) == 30
