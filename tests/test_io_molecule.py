"""All-atom molecules built from beads: topology, stereochemistry, protonation and what cannot be built."""

from functools import cache
from pathlib import Path

import numpy as np
import openmm
import openmm.app
import pytest
from openmm import unit
from openmm.app import ForceField, PDBFile

from jaxcg.errors import InputError
from jaxcg.io import BeadResidue, build_molecule, read_beads
from jaxcg.io.forcefield import ForceFieldLibrary
from jaxcg.io.stereochemistry import component_centers, dictionary_centers, dihedrals, stereo_centers, triple_product
from jaxcg.io.topology import build_topology
from jaxcg.mapping.formats.names import AMINO_ACIDS

DATA = Path(__file__).parent / "data"
FRAMES = DATA / "frames"
VILLIN = FRAMES / "villin" / "cg_crystal.pdb"


@cache
def molecule(name, forcefield="amber14"):
    return build_molecule(FRAMES / name / "cg_crystal.pdb", forcefield=forcefield)


def villin_with(tmp_path, edit, name="cg.pdb"):
    lines = [line for line in VILLIN.read_text().splitlines(True) if line.startswith("ATOM")]
    path = tmp_path / name
    path.write_text("".join(edit(lines)))
    return path


def renamed(old, new, residue_id=None):
    """Edit that changes residue names, of one residue or of all."""

    def edit(lines):
        for line in lines:
            hit = line[17:21].strip() == old and residue_id in (None, int(line[22:26]))
            yield line[:17] + f"{new:<4s}" + line[21:] if hit else line

    return edit


# -- topology -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ubiquitin", "lysozyme", "villin"])
def test_heavy_atoms_and_bonds_are_those_of_the_crystal(name):
    ours = molecule(name)
    crystal = PDBFile(str(FRAMES / name / "aa.pdb")).topology
    heavy = {(a.residue.index, a.name) for a in crystal.atoms() if a.residue.name != "HOH" and a.element.symbol != "H"}
    s = ours.system
    assert heavy == {(int(s.atom_residue[i]), s.atom_names[i]) for i in np.flatnonzero(s.heavy)}
    bonds = {
        frozenset(((a.residue.index, a.name), (b.residue.index, b.name)))
        for a, b in crystal.bonds()
        if "H" not in (a.element.symbol, b.element.symbol)
    }
    named = [(int(s.atom_residue[i]), s.atom_names[i]) for i in range(s.n_atoms)]
    assert bonds == {frozenset((named[a], named[b])) for a, b in s.bonds if s.heavy[a] and s.heavy[b]}


def test_the_hydrogens_of_villin_are_those_of_its_model():
    names = {(a.residue.index, a.name) for a in PDBFile(str(FRAMES / "villin" / "aa.pdb")).topology.atoms()}
    s = molecule("villin").system
    assert names == {(int(s.atom_residue[i]), s.atom_names[i]) for i in range(s.n_atoms)}


@pytest.mark.parametrize("forcefield", ["amber99sbildn", "amber19", "charmm36"])
def test_every_force_field_gives_the_same_molecule(forcefield):
    ours, other = molecule("lysozyme"), molecule("lysozyme", forcefield)
    assert sorted(ours.system.atom_names) == sorted(other.system.atom_names)
    assert other.openmm_system.getNumParticles() == 1960
    assert len(other.disulfides) == 4
    difference = (ours.mapping.matrix() @ np.ones((1960, 1))) - (other.mapping.matrix() @ np.ones((1960, 1)))
    np.testing.assert_allclose(difference, 0, atol=1e-9)


@pytest.mark.slow
def test_charmm_patches_give_openmms_own_system():
    """Templates registered by name give the energies of OpenMM's search through all patches."""
    ours = molecule("lysozyme", "charmm36")
    theirs = ForceField("charmm36.xml").createSystem(ours.topology, constraints=None, rigidWater=False)
    positions = np.random.default_rng(0).normal(size=(1960, 3))
    energies = []
    for system in (ours.openmm_system, theirs):
        context = openmm.Context(system, openmm.VerletIntegrator(1e-3), openmm.Platform.getPlatform("Reference"))
        context.setPositions(positions)
        energies.append(context.getState(getEnergy=True).getPotentialEnergy() / unit.kilojoules_per_mole)
    assert energies[0] == pytest.approx(energies[1], rel=1e-12)


def test_implicit_solvent_and_cutoff():
    implicit = build_molecule(VILLIN, solvent="gbn2")
    assert any("GB" in force.getName() for force in implicit.openmm_system.getForces())
    cut = build_molecule(VILLIN, nonbonded_cutoff=0.9)
    (force,) = [f for f in cut.openmm_system.getForces() if isinstance(f, openmm.NonbondedForce)]
    assert force.getNonbondedMethod() == openmm.NonbondedForce.CutoffNonPeriodic
    assert force.getCutoffDistance()._value == pytest.approx(0.9)
    assert cut.openmm_system.getNumConstraints() == 0


def test_two_chains_have_two_ends(tmp_path):
    def edit(lines):
        moved = [line[:21] + "B" + line[22:30] + f"{float(line[30:38]) + 40:8.3f}" + line[38:] for line in lines]
        return [line[:21] + "A" + line[22:] for line in lines] + moved

    both = build_molecule(villin_with(tmp_path, edit))
    one = molecule("villin")
    assert both.system.n_atoms == 2 * one.system.n_atoms
    assert len(both.system.bonds) == 2 * len(one.system.bonds)
    assert both.system.chain_ids == ("A",) * 35 + ("B",) * 35
    assert len(both.peptide_bonds) == 68
    assert [r.id for r in both.topology.chains()] == ["A", "B"]


def test_peptides_phi_psi_and_prolines():
    m = molecule("ubiquitin")
    s = m.system
    assert [tuple(s.atom_names[i] for i in q) for q in m.peptide_bonds] == [("CA", "C", "N", "CA")] * 75
    assert [s.residue_ids[r] for r in m.prolines] == ["19", "37", "38"]
    assert (m.phi_psi[0, 0] == -1).all()
    assert (m.phi_psi[-1, 1] == -1).all()
    assert [s.atom_names[i] for i in m.phi_psi[5, 0]] == ["C", "N", "CA", "C"]
    assert [s.atom_names[i] for i in m.phi_psi[5, 1]] == ["N", "CA", "C", "N"]
    assert (s.double_bonds[:75] == m.peptide_bonds).all()
    assert (s.double_bond_angles[:75] == np.pi).all()


# -- stereochemistry ----------------------------------------------------------------------------------------------


def test_stereo_signs_of_the_component_dictionary():
    def sign(component, centre, *order):
        for c, *names, value in component_centers(component):
            if c == centre:
                # Parity of the reordering.
                permutation = [names.index(n) for n in order]
                return value * np.linalg.det(np.eye(3)[permutation])
        raise AssertionError(f"{component} {centre} is no centre")

    assert sign("ALA", "CA", "N", "C", "CB") == 1
    assert sign("ILE", "CB", "CA", "CG1", "CG2") == 1
    assert sign("THR", "CB", "CA", "OG1", "CG2") == 1
    assert sign("VAL", "CB", "CA", "CG1", "CG2") == -1
    assert sign("LEU", "CG", "CB", "CD1", "CD2") == -1
    assert component_centers("GLY") == ()
    assert sign("HYP", "CG", "CB", "CD", "OD1") == 1
    assert component_centers("NOSUCHTHING") == ()


def test_stored_centers_are_the_dictionarys():
    for name in AMINO_ACIDS:
        assert component_centers(name) == dictionary_centers(name)


@pytest.mark.parametrize("name", ["ubiquitin", "lysozyme", "villin"])
def test_crystals_have_the_stereo_we_ask_for(name):
    reference = build_molecule(FRAMES / name / "cg_crystal.pdb", reference=FRAMES / name / "aa.pdb")
    built = molecule(name)
    x, s = reference.reference_positions, reference.system
    table = s.residue_atoms()
    for centre, sign in zip(built.system.stereo_centers, built.system.stereo_signs):
        names = [built.system.atom_names[i] for i in centre]
        atoms = [table[built.system.atom_residue[centre[0]]][n] for n in names]
        assert np.sign(triple_product(x[atoms])) == sign
    assert len(s.stereo_centers) == len(built.system.stereo_centers)
    assert (np.sign([triple_product(x[q]) for q in s.stereo_centers]) == s.stereo_signs).all()
    np.testing.assert_array_equal(s.double_bond_angles, built.system.double_bond_angles)


def test_dihedral_convention():
    trans = np.array([[1.0, 1, 0], [0, 1, 0], [0, 0, 0], [-1, 0, 0]])
    right = np.array([[1.0, 0, 0], [0, 0, 0], [0, 0, 1], [0, 1, 1]])
    assert abs(dihedrals(trans, [[0, 1, 2, 3]])[0]) == pytest.approx(np.pi)
    # IUPAC: looking along b → c, clockwise from a to d is positive.
    assert dihedrals(right, [[0, 1, 2, 3]])[0] == pytest.approx(np.pi / 2)


# -- protonation --------------------------------------------------------------------------------------------------


def test_default_protonation_is_said():
    m = molecule("ubiquitin")
    assert any("HIE 68" in note for note in m.notes)
    assert m.variants[67] == "HIE"
    charge = sum(
        f.getParticleParameters(i)[0]._value
        for f in m.openmm_system.getForces()
        if isinstance(f, openmm.NonbondedForce)
        for i in range(m.system.n_atoms)
    )
    # 11 Lys/Arg, 11 Asp/Glu, both ends charged.
    assert charge == pytest.approx(0, abs=1e-4)


def test_protonation_file(tmp_path):
    path = tmp_path / "protonation.txt"
    path.write_text("# a comment\n27 HIP  # both\n\n:3 ASH\n4 glh\n")
    m = build_molecule(VILLIN, protonation=path)
    assert (m.variants[26], m.variants[2], m.variants[3]) == ("HIP", "ASH", "GLH")
    assert m.system.n_atoms == 582 + 3
    assert m.system.residue_names[26] == "HIS"
    assert any("HIS 27 as HIP" in note for note in m.notes)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("27", r"line 2: expected 'chain:residue NAME'"),
        ("99 HIP", r"line 2: .*residue '99': no such residue"),
        ("B:27 HIP", r"line 2: .*residue 'B:27': no such residue"),
        ("27 LYN", r"line 2: LYN is no form of HIS 27; choose one of HIE, HID, HIP"),
        ("2 ASH", r"line 2: SER 2 has no other protonation"),
    ],
)
def test_bad_protonation_files(tmp_path, line, message):
    path = tmp_path / "protonation.txt"
    path.write_text(f"27 HIP\n{line}\n")
    with pytest.raises(InputError, match=message):
        build_molecule(VILLIN, protonation=path)


def test_residue_names_may_say_the_protonation(tmp_path):
    m = build_molecule(villin_with(tmp_path, renamed("HIS", "HSP")))
    assert m.variants[26] == "HIP"
    assert m.system.residue_names[26] == "HIS"


def test_a_variant_the_force_field_lacks_at_a_chain_end(tmp_path):
    path = tmp_path / "protonation.txt"
    path.write_text("A:1 LYN\n")
    with pytest.raises(InputError, match=r"LYS 1 \(chain A\): .* no LYN as the first residue of a chain"):
        build_molecule(FRAMES / "lysozyme" / "cg_crystal.pdb", protonation=path)


def test_disulfides_by_hand():
    path = FRAMES / "lysozyme" / "cg_crystal.pdb"
    assert len(build_molecule(path, disulfides="none").disulfides) == 0
    assert build_molecule(path, disulfides="none").system.n_atoms == 1968
    assert build_molecule(path, disulfides=[("A:6", "127")]).disulfides.tolist() == [[5, 126]]
    with pytest.raises(InputError, match="only cysteines"):
        build_molecule(path, disulfides=[("A:6", "A:7")])


# -- lipids -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("forcefield", ["amber14", "charmm36"])
def test_popc(forcefield):
    m = build_molecule(DATA / "popc.pdb", forcefield=forcefield)
    s = m.system
    assert s.n_atoms == 2 * 134
    assert m.mapping.n_beads == 24
    named = [tuple(s.atom_names[i] for i in q) for q in s.double_bonds]
    assert named == [("C28", "C29", "C210", "C211")] * 2
    assert (s.double_bond_angles == 0).all()


def test_the_glycerol_of_dopc_is_r(tmp_path):
    """OpenMM's own DOPC membrane."""
    path = tmp_path / "lipids.pdb"
    with open(Path(openmm.app.__file__).parent / "data" / "DOPC.pdb") as file:
        path.write_text("".join(next(file) for _ in range(1500)))
    pdb = PDBFile(str(path))
    positions = np.array(pdb.positions._value)
    signs = []
    for residue in pdb.topology.residues():
        atoms = {a.name: a.index for a in residue.atoms()}
        if {"C2", "O21", "C1", "C3"} <= atoms.keys():
            signs.append(np.sign(triple_product(positions[[atoms[n] for n in ("C2", "O21", "C1", "C3")]])))
    assert len(signs) >= 10
    assert set(signs) == {stereo_centers(["DOPC"], [{"C2": 0, "O21": 1, "C1": 2, "C3": 3}])[1][0]}


# -- what cannot be built -----------------------------------------------------------------------------------------


def test_unknown_residue(tmp_path):
    with pytest.raises(InputError, match=r"cg\.pdb: XYZ 7: mapping martini3001 does not know residue XYZ"):
        build_molecule(villin_with(tmp_path, renamed("LYS", "XYZ", 7)))


def test_unknown_bead(tmp_path):
    path = villin_with(tmp_path, lambda lines: [*lines[:3], lines[3].replace("SC1", "QQ1"), *lines[4:]])
    with pytest.raises(InputError, match=r"cg\.pdb: SER 2: unknown bead QQ1 \(expected BB SC1\)"):
        build_molecule(path)


def test_missing_bead(tmp_path):
    with pytest.raises(InputError, match=r"cg\.pdb: SER 2: bead SC1 is missing \(expected BB SC1\)"):
        build_molecule(villin_with(tmp_path, lambda lines: lines[:3] + lines[4:]))


def test_extra_bead(tmp_path):
    def edit(lines):
        extra = lines[3][:12] + " SC2" + lines[3][16:30] + f"{float(lines[3][30:38]) + 2:8.3f}" + lines[3][38:]
        return [*lines[:4], extra, *lines[4:]]

    with pytest.raises(InputError, match=r"cg\.pdb: SER 2: extra bead SC2"):
        build_molecule(villin_with(tmp_path, edit))


def test_the_mapping_that_fits_is_named():
    with pytest.raises(InputError, match="All beads fit mapping martini2"):
        build_molecule(DATA / "parity" / "ubiquitin_h_m2_cg.pdb")


def test_atoms_given_as_beads():
    with pytest.raises(InputError, match="These are atoms, not beads"):
        build_molecule(FRAMES / "villin" / "aa.pdb")


def test_a_force_field_with_drude_particles():
    with pytest.raises(InputError, match="particles that are no atoms"):
        build_molecule(VILLIN, forcefield="charmm_polar_2019")


def test_a_residue_the_force_field_lacks(tmp_path):
    (tmp_path / "ff.xml").write_text("<ForceField></ForceField>")
    with pytest.raises(InputError, match=r"LEU 1: force field .* has no residue LEU"):
        build_molecule(VILLIN, forcefield=str(tmp_path / "ff.xml"))


@pytest.mark.parametrize("name", ["nosuchfield", "nosuchfile.xml"])
def test_unknown_force_field(name):
    with pytest.raises(InputError, match=name.split(".")[0]):
        build_molecule(VILLIN, forcefield=name)


def test_damaged_force_field_file(tmp_path):
    (tmp_path / "ff.xml").write_text("<ForceField><AtomTypes>")
    with pytest.raises(InputError, match=r"ff\.xml: cannot be read"):
        build_molecule(VILLIN, forcefield=str(tmp_path / "ff.xml"))


def test_unknown_solvent_and_mapping():
    with pytest.raises(InputError, match="choose none, obc2 or gbn2"):
        build_molecule(VILLIN, solvent="beer")
    with pytest.raises(InputError, match="mapping 'nomap' is not known"):
        build_molecule(VILLIN, mapping="nomap")


# -- reference ----------------------------------------------------------------------------------------------------


def test_a_reference_gives_topology_and_protonation():
    m = build_molecule(
        DATA / "parity" / "villin_variants_h_cg.pdb", reference=DATA / "parity" / "villin_variants_h.pdb"
    )
    atoms = m.system.residue_atoms()
    assert {"HD1", "HE2"} <= atoms[26].keys()
    assert "HE2" in atoms[3]
    assert m.system.n_atoms == 584
    assert m.reference_positions.shape == (584, 3)


def test_hydrogens_are_added_to_a_reference_and_said(tmp_path):
    path = DATA / "parity" / "villin_no_h.pdb"
    protonation = tmp_path / "p.txt"
    protonation.write_text("27 HID\n")
    m = build_molecule(VILLIN, reference=path, protonation=protonation)
    assert m.system.n_atoms == 582
    assert "HD1" in m.system.residue_atoms()[26]
    assert any("hydrogens added" in note for note in m.notes)


def test_a_reference_of_something_else():
    with pytest.raises(InputError, match=r"aa\.pdb: residue MET 1 stands where .* has LEU 1"):
        build_molecule(VILLIN, reference=FRAMES / "ubiquitin" / "aa.pdb")


def test_a_reference_that_is_too_short(tmp_path):
    lines = (FRAMES / "villin" / "aa.pdb").read_text().splitlines(True)
    path = tmp_path / "short.pdb"
    path.write_text("".join(line for line in lines if line.startswith("ATOM") and int(line[22:26]) < 35))
    with pytest.raises(InputError, match=r"residue PHE 35 has no counterpart in .*short\.pdb"):
        build_molecule(VILLIN, reference=path)


def test_a_reference_with_missing_heavy_atoms(tmp_path):
    lines = (FRAMES / "villin" / "aa.pdb").read_text().splitlines(True)
    path = tmp_path / "holes.pdb"
    path.write_text("".join(line for line in lines if not (line[12:16] == " OG " and int(line[22:26]) == 2)))
    with pytest.raises(InputError, match=r"holes\.pdb: SER 2 .*lacks atom OG; complete the reference"):
        build_molecule(VILLIN, reference=path)
    path.write_text("".join(line for line in lines if line[12:16] != " OXT"))
    with pytest.raises(InputError, match=r"PHE 35 .*lacks atom OXT at the end of its chain"):
        build_molecule(VILLIN, reference=path)


def test_beads_given_as_reference():
    with pytest.raises(InputError, match=r"cg_crystal\.pdb: "):
        build_molecule(VILLIN, reference=VILLIN)


def test_the_bead_order_of_the_file_is_kept(tmp_path):
    """Beads of a residue may come in any order."""

    def edit(lines):
        return [lines[1], lines[0], *lines[2:]]

    swapped = build_molecule(villin_with(tmp_path, edit))
    x = np.random.default_rng(0).normal(size=(582, 3))
    ours = molecule("villin").mapping.matrix() @ x
    np.testing.assert_allclose(swapped.mapping.matrix() @ x, ours[[1, 0, *range(2, 88)]], atol=1e-12)
    assert swapped.bead_labels[0] == "SC1 of LEU 1"
    assert read_beads(VILLIN).labels[0] == "BB of LEU 1"


def test_a_capped_reference(tmp_path):
    """Caps have no beads: they are atoms of the reference that the map does not see."""
    names = ("ACE", "ALA", "SER", "NME")
    residues = [BeadResidue(name, str(i), "A", 0, (i,)) for i, name in enumerate(names)]
    built = build_topology(residues, names, [], ForceFieldLibrary("amber14"))
    positions = np.random.default_rng(0).uniform(0, 1, size=(built.topology.getNumAtoms(), 3))
    with open(tmp_path / "aa.pdb", "w") as file:
        PDBFile.writeFile(built.topology, positions * 10, file)
    rows = [("BB", "ALA", 1, 0.0), ("SC1", "ALA", 1, 2.7), ("BB", "SER", 2, 3.8), ("SC1", "SER", 2, 6.0)]
    lines = [
        f"ATOM  {number:5d} {bead:<4s} {name} A{residue:4d}    {x:8.3f}{0:8.3f}{0:8.3f}  1.00  0.00\n"
        for number, (bead, name, residue, x) in enumerate(rows, 1)
    ]
    (tmp_path / "cg.pdb").write_text("".join(lines))
    m = build_molecule(tmp_path / "cg.pdb", reference=tmp_path / "aa.pdb")
    assert m.system.residue_names == names
    bead, atoms, _ = m.mapping.entries()
    assert {int(m.system.atom_residue[a]) for a in atoms} == {1, 2}
    assert {int(m.system.atom_residue[a]) for a in atoms[bead >= 2]} == {2}
    assert len(m.peptide_bonds) == 1
    assert len(m.system.double_bonds) == 3
