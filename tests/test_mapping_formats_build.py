"""Whole systems: many molecules, virtual sites, force weights, interactions, groups by number and by hand."""

import numpy as np
import pytest

from jaxcg.errors import InputError
from jaxcg.mapping import LinearMap
from jaxcg.mapping.formats import (
    AtomName,
    Atoms,
    BeadRule,
    BondedRule,
    GroupRule,
    MappingFile,
    MoleculeRule,
    SiteRule,
    build_model,
)
from jaxcg.mapping.replicated import JoinedMap, ReplicatedMap
from jaxcg.mapping.virtual_sites import VirtualSites

WATER = [("SOL", ["OW", "HW1", "HW2"])]
ETHANE = [("ETH", ["C1", "H1", "C2", "H2"])]
MASS = {"C": 12.011, "O": 15.999, "H": 1.008}


def system(*molecules, names=None, bonds=None, path="aa.gro"):
    """Atoms of molecules given as lists of (residue name, atom names)."""
    atoms, residue, molecule, residues = [], [], [], []
    for number, parts in enumerate(molecules):
        for name, members in parts:
            residue += [len(residues)] * len(members)
            molecule += [number] * len(members)
            residues.append(name)
            atoms += members
    return Atoms(
        names=tuple(atoms),
        elements=tuple(name[0] for name in atoms),
        masses=np.array([MASS[name[0]] for name in atoms]),
        residue=np.array(residue),
        residue_names=tuple(residues),
        residue_ids=tuple(str(i + 1) for i in range(len(residues))),
        chain_ids=("",) * len(residues),
        bonds=bonds,
        molecule=np.array(molecule),
        molecule_names=tuple(names) if names else ("",) * len(molecules),
        path=path,
    )


def bead(name, atoms, **more):
    return BeadRule(name, f"T{name}", tuple(AtomName.parse(atom) for atom in atoms), where="m.yaml, line 7", **more)


def rules(*molecules, **more):
    return MappingFile(tuple(molecules), name="m.yaml", **more)


def residue_rule(name, *beads, **more):
    return MoleculeRule(name, "residue", (name,), beads, where="m.yaml, line 3", **more)


WATER_RULE = residue_rule("SOL", bead("W", ["OW", "HW1", "HW2"]))
ETHANE_RULE = residue_rule("ETH", bead("A", ["C1", "H1"]), bead("B", ["C2", "H2"], weights="geometry"))


def positions(atoms, seed=0):
    return np.random.default_rng(seed).normal(size=(atoms.n_atoms, 3))


def test_rows_of_equal_molecules_share_their_weights():
    atoms = system(*[ETHANE] * 2, *[WATER] * 40, *[ETHANE] * 20)
    model = build_model(atoms, rules(WATER_RULE, ETHANE_RULE))
    assert isinstance(model.mapping, JoinedMap)
    assert sum(isinstance(part, ReplicatedMap) for part in model.mapping.parts) == 2
    x = positions(atoms)
    y = np.asarray(model.mapping(x))
    expected = []
    for members in atoms.molecule_atoms:
        mass = atoms.masses[members]
        if len(members) == 3:
            expected.append(np.average(x[members], axis=0, weights=mass))
        else:
            expected.append(np.average(x[members[:2]], axis=0, weights=mass[:2]))
            expected.append(x[members[2:]].mean(axis=0))
    np.testing.assert_allclose(y, expected, atol=1e-6)
    np.testing.assert_allclose(model.masses.sum(), atoms.masses.sum())
    assert model.bead_names[:5] == ("A", "B", "A", "B", "W")
    assert model.bead_types[4] == "TW"
    assert model.residue_names[4] == "SOL"
    assert model.residue_ids[3:6] == ("2", "3", "4")
    assert model.unmapped.size == 0


@pytest.mark.parametrize("order", ["SSSE", "ESSS", "ESSSE", "SESES"])
def test_molecules_without_a_rule_are_left_out_and_said_so(order):
    kinds = {"S": [WATER] * 9, "E": [ETHANE] * 9}
    atoms = system(*[molecule for kind in order for molecule in kinds[kind]])
    model = build_model(atoms, rules(ETHANE_RULE))
    copies = 9 * order.count("E")
    assert model.n_beads == 2 * copies
    assert model.unmapped.size == 27 * order.count("S")
    assert model.notes == (f"no rule for, left out: SOL ({9 * order.count('S')}×)",)
    x = positions(atoms)
    first = [m for m in atoms.molecule_atoms if len(m) == 4]
    np.testing.assert_allclose(np.asarray(model.mapping(x))[1::2], [x[m[2:]].mean(axis=0) for m in first], atol=1e-6)


def test_a_mapping_that_fits_nothing_is_refused():
    with pytest.raises(InputError, match=r"aa\.gro: the mapping has no rule for any molecule of it \(SOL\)"):
        build_model(system(WATER), rules(ETHANE_RULE))


def test_atoms_that_are_missing_or_ambiguous_name_file_line_and_residue():
    with pytest.raises(InputError, match=r"m\.yaml, line 7: bead A names atom C9, which is missing in aa\.gro: ETH 1"):
        build_model(system(ETHANE), rules(residue_rule("ETH", bead("A", ["C9"]))))
    two = system([("ETH", ["C1", "H1"]), ("ETH", ["C1", "H1"])])
    rule = MoleculeRule("X", "molecule", ("X",), (bead("A", ["C1"]),), residues=("ETH", "ETH"))
    with pytest.raises(
        InputError, match=r"line 7: bead A in molecule 1, .*: several atoms are named C1; write NUMBER:C1"
    ):
        build_model(two, rules(rule))
    twice = system([("ETH", ["C1", "C1"])])
    with pytest.raises(InputError, match=r"line 7: bead A in .* several atoms C1"):
        build_model(twice, rules(residue_rule("ETH", bead("A", ["C1"]))))


HEXANE = [("CHL", ["C", "H1"]), ("CH2", ["C", "H1"]), ("CHR", ["C", "H1"])]


def test_molecules_are_found_by_name_by_residues_or_by_their_atoms():
    beads = (bead("A", ["1:CHL:C", "2:CH2:C"], weights=(3.0, 1.0)), bead("B", ["3:CHR:C"], residue=3))
    by_name = MoleculeRule("HEX", "molecule", ("hexane",), beads)
    by_residues = MoleculeRule("HEX", "molecule", ("?",), beads, residues=("CHL", "CH2", "CHR"))
    for names, rule in ((["hexane"], by_name), (["other"], by_residues), ([""], by_residues), ([""], by_name)):
        model = build_model(system(HEXANE, names=names), rules(rule))
        np.testing.assert_allclose(model.mapping.matrix().toarray()[0], [0.75, 0, 0.25, 0, 0, 0])
        assert model.residue_ids == ("1", "3")
    with pytest.raises(InputError, match="no rule for any molecule"):
        build_model(system(HEXANE, names=["pentane"]), rules(by_name))
    with pytest.raises(InputError, match="no rule for any molecule"):
        build_model(system([*HEXANE, ("CH2", ["C"])]), rules(by_name))


def test_interactions_and_bonds():
    bonded = (
        BondedRule("bond", "inside", (("A", "B"),)),
        BondedRule("bond", "next", (("B", "+A"),)),
        BondedRule("angle", "bend", (("A", "B", "+A"),)),
    )
    chain = [("ETH", ["C1", "H1", "C2", "H2"])] * 3
    model = build_model(system(chain, chain), rules(residue_rule("ETH", *ETHANE_RULE.beads, bonded=bonded)))
    named = {(item.kind, item.name): item.beads.tolist() for item in model.bonded}
    assert named["bond", "inside"] == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]
    assert named["bond", "next"] == [[1, 2], [3, 4], [7, 8], [9, 10]]
    assert named["angle", "bend"] == [[0, 1, 2], [2, 3, 4], [6, 7, 8], [8, 9, 10]]
    assert model.bonds.tolist() == sorted(named["bond", "inside"] + named["bond", "next"])


def test_bonds_follow_the_atoms_where_a_file_names_none():
    bonds = np.array([[0, 1], [0, 2], [2, 3], [4, 5]])
    model = build_model(system(ETHANE, ETHANE, bonds=bonds), rules(ETHANE_RULE))
    assert model.bonds.tolist() == [[0, 1]]


def test_virtual_sites_linear_ones_stay_in_the_linear_map():
    site = SiteRule("V", "TV", "linear", ("A", "B"), (1.0, 3.0))
    rule = residue_rule("ETH", ETHANE_RULE.beads[0], site, ETHANE_RULE.beads[1])
    atoms = system(*[ETHANE] * 10)
    model = build_model(atoms, rules(rule))
    assert isinstance(model.mapping, ReplicatedMap)
    y = np.asarray(model.mapping(positions(atoms))).reshape(10, 3, 3)
    np.testing.assert_allclose(y[:, 1], 0.25 * y[:, 0] + 0.75 * y[:, 2], atol=1e-6)
    assert model.masses[1] == 0
    by_mass = residue_rule("ETH", *ETHANE_RULE.beads, SiteRule("V", "TV", "linear", ("A", "B"), "mass"))
    y = np.asarray(build_model(atoms, rules(by_mass)).mapping(positions(atoms))).reshape(10, 3, 3)
    np.testing.assert_allclose(y[:, 2], (y[:, 0] + y[:, 1]) / 2, atol=1e-6)


def test_virtual_sites_that_are_not_linear():
    rule = residue_rule(
        "SOL",
        SiteRule("M", "TM", "3fd", ("O", "H", "K"), (0.5, 0.0125)),
        bead("O", ["OW"]),
        bead("H", ["HW1"]),
        bead("K", ["HW2"]),
    )
    atoms = system(WATER, WATER, ETHANE)
    model = build_model(atoms, rules(rule))
    assert isinstance(model.mapping, VirtualSites)
    x = positions(atoms)
    y = np.asarray(model.mapping(x)).reshape(2, 4, 3)
    np.testing.assert_allclose(y[:, 1:], x[:6].reshape(2, 3, 3), atol=1e-6)
    middle = (y[:, 2] + y[:, 3]) / 2 - y[:, 1]
    expected = y[:, 1] + 0.0125 * middle / np.linalg.norm(middle, axis=1, keepdims=True)
    np.testing.assert_allclose(y[:, 0], expected, atol=1e-6)


def test_force_weights_make_the_force_map():
    # d = (1, 0) for weights c = (1, 1): the whole force is that of the first atom, twice (VOTCA: d/c, both normalised).
    rule = residue_rule("ETH", bead("A", ["C1", "H1"], weights=(1.0, 1.0), force_weights=(2.0, 0.0)))
    atoms = system(*[ETHANE] * 3)
    model = build_model(atoms, rules(rule))
    f = positions(atoms)
    np.testing.assert_allclose(np.asarray(model.force_map(f)), 2 * f[::4], atol=1e-6)
    assert build_model(atoms, rules(ETHANE_RULE)).force_map is None
    # Weights under which a bead's force is not minus the derivative along the bead are no force map.
    wrong = residue_rule("ETH", bead("A", ["C1", "H1"], weights=(1.0, 1.0), force_weights=(3.0, 0.0)))
    model = build_model(atoms, rules(wrong))
    assert model.force_map is None
    assert any("force weights left out" in note for note in model.notes)


def test_groups_by_number_keep_their_places():
    atoms = system(*[WATER] * 4)
    groups = (
        GroupRule("O", "O", (0,), (0, 3, 6), (1, 3, 5), where="m.yaml, line 2"),
        GroupRule("H", "H", (1, 2), (0, 3, 6), (0, 2, 4), weights=(3.0, 1.0)),
    )
    model = build_model(atoms, MappingFile(groups=groups))
    assert model.bead_names == ("H", "O") * 3
    x = positions(atoms)
    np.testing.assert_allclose(np.asarray(model.mapping(x))[1::2], x[:9:3], atol=1e-6)
    np.testing.assert_allclose(np.asarray(model.mapping(x))[2], 0.75 * x[4] + 0.25 * x[5], atol=1e-6)
    assert model.unmapped.tolist() == [9, 10, 11]
    assert isinstance(model.mapping, LinearMap)
    with pytest.raises(InputError, match=r"m\.yaml, line 2: bead O names atom 12 \(from 0\) of 12"):
        build_model(atoms, MappingFile(groups=(GroupRule("O", "O", (0,), (12,), where="m.yaml, line 2"),)))


def test_groups_chosen_by_hand():
    atoms = system(WATER, ETHANE, WATER)
    chosen = {"name OW": [0, 7], "all": list(range(10)), "none": []}

    def select(text):
        if text not in chosen:
            raise InputError(f"the selection '{text}' cannot be understood")
        return np.array(chosen[text])

    def model(*groups, **more):
        return build_model(atoms, MappingFile(groups=groups, **more), select=select)

    by_residue = model(GroupRule("M", "M", select="all", split="residue"))
    assert by_residue.n_beads == 3
    assert by_residue.residue_names == ("SOL", "ETH", "SOL")
    one = model(
        GroupRule("P", "P", select="name OW"),
        GroupRule("Q", "Q", (3,)),
        bonded=(BondedRule("bond", "b", (("P", "Q"),)),),
    )
    np.testing.assert_allclose(one.mapping.matrix().toarray()[0, [0, 7]], [0.5, 0.5])
    assert one.bonds.tolist() == [[0, 1]]
    for text, message in (("none", "holds no atom"), ("nam OW", r"m\.yaml, line 9: the selection 'nam OW' cannot be")):
        with pytest.raises(InputError, match=message):
            model(GroupRule("P", "P", select=text, where="m.yaml, line 9"))
    with pytest.raises(InputError, match="needs a selection of atoms, which is not available"):
        build_model(atoms, MappingFile(groups=(GroupRule("P", "P", select="all"),)))


def test_molecules_scattered_over_the_file():
    """Atoms of a molecule need not be neighbours."""
    atoms = system(ETHANE, ETHANE)
    order = np.array([0, 4, 1, 5, 2, 6, 3, 7])
    mixed = Atoms(
        **{
            **{key: getattr(atoms, key) for key in ("residue_names", "residue_ids", "chain_ids", "bonds")},
            "names": tuple(atoms.names[i] for i in order),
            "elements": tuple(atoms.elements[i] for i in order),
            "masses": atoms.masses[order],
            "residue": atoms.residue[order],
            "molecule": atoms.molecule[order],
            "molecule_names": atoms.molecule_names,
        }
    )
    x = positions(atoms)
    expected = np.asarray(build_model(atoms, rules(ETHANE_RULE)).mapping(x))
    np.testing.assert_allclose(
        np.asarray(build_model(mixed, rules(ETHANE_RULE)).mapping(x[order])), expected, atol=1e-6
    )


def test_one_bead_for_each_residue():
    atoms = system([("ALA", ["CA", "C"]), ("ALA", ["CA", "C"])], WATER)
    model = build_model(atoms, "calpha")
    assert model.notes == ("no rule for, left out: SOL",)
    np.testing.assert_array_equal(model.mapping.matrix().toarray().nonzero()[1], [0, 2])
    model = build_model(atoms, "com", hydrogens=False)
    np.testing.assert_allclose(model.mapping.matrix().toarray()[2, 4:], [1, 0, 0])
    with pytest.raises(InputError, match="hydrogens cannot be chosen"):
        build_model(atoms, rules(WATER_RULE), hydrogens=False)
