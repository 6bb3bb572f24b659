"""Mapping files of other programs and jaxcg's own: what is read, round trips, and what is wrong with bad files."""

from pathlib import Path

import pytest

from jaxcg.errors import InputError
from jaxcg.mapping.formats import (
    AtomName,
    BeadRule,
    BondedRule,
    GroupRule,
    SiteRule,
    format_of,
    load_mapping,
    load_scheme,
    native,
    read_index_groups,
    read_native,
    read_openmscg,
    read_pycgtool,
    read_votca,
    write_index_groups,
    write_native,
    write_votca,
)

VOTCA = """\
<cg_molecule>
  <name>PRP</name> <!-- after mapping -->
  <ident>propane</ident>
  <topology>
    <cg_beads>
      <cg_bead>
        <name>A1</name> <type>A</type> <symmetry>1</symmetry> <mapping>end</mapping>
        <beads> 1:PRP:C1 1:PRP:H4
                1:PRP:H5 </beads>
      </cg_bead>
      <cg_bead>
        <name>B1</name> <type>B</type> <mapping>middle</mapping>
        <beads> 1:PRP:C2 2:PRQ:C3 </beads>
      </cg_bead>
    </cg_beads>
    <cg_bonded>
      <bond> <name>bond</name> <beads> A1 B1  B1 A1 </beads> </bond>
      <angle> <name>bend</name> <beads> A1 B1 A1 </beads> </angle>
      <dihedral> <name>turn</name> <beads> A1 B1 A1 B1 </beads> </dihedral>
    </cg_bonded>
  </topology>
  <maps>
    <map> <name>end</name> <weights> 12 1 1 </weights> </map>
    <map> <name>middle</name> <weights> 3 1 </weights> <d> 1 1 </d> </map>
  </maps>
</cg_molecule>
"""
PYCGTOOL = """\
; naphthalene-like
[ NAPH ]
R1 TC4 0 C8 H8 C9   ; a charge is optional
@v R3 TC4 R1 R2
R2 TC4 C6 C6 H6

[SOL]
W P4 OW HW1 HW2
"""
OPENMSCG = """\
site-types:
  CH3:
    index:    [0, 1]
    x-weight: [12.0, 1.0]
    f-weight: [1.0, 1.0]
  NO3:
    index:    [0, -1]
    x-weight: [14.0, 16.0]
system:
  - anchor: 10
    repeat: 2
    offset: 20
    groups:
      - anchor: 0
        repeat: 3
        offset: 4
        sites:
          - [CH3, 0]
      - {anchor: 12, sites: [[NO3, 1], [CH3, 2]]}
"""
INDEX = """\
; jaxcg: repeat 3 offset 4
[ A ]
1 2
[ B ]
   4
"""


def write(tmp_path, text, name):
    path = tmp_path / name
    path.write_text(text)
    return path


def yaml_example() -> str:
    return native.__doc__.split("```yaml\n")[1].split("```")[0]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (VOTCA, "votca"),
        (PYCGTOOL, "pycgtool"),
        (OPENMSCG, "openmscg"),
        (INDEX, "index"),
        (yaml_example(), "jaxcg"),
        ("[ molecule ]\nX\n[ atoms ]\n1 C A\n", "backward"),
        ("[ block ]\n", "vermouth"),
    ],
)
def test_the_format_is_found_from_the_content(tmp_path, text, kind):
    assert format_of(write(tmp_path, text, "mapping.dat")) == kind


def test_votca(tmp_path):
    mapping = read_votca(write(tmp_path, VOTCA, "m.xml"))
    (rule,) = mapping.molecules
    assert (rule.name, rule.scope, rule.matches) == ("PRP", "molecule", ("propane",))
    a, b = rule.beads
    assert a == BeadRule("A1", "A", tuple(AtomName(n, 1, "PRP") for n in ("C1", "H4", "H5")), (12.0, 1.0, 1.0))
    assert b.atoms[1] == AtomName("C3", 2, "PRQ")
    # d normalised (1/2, 1/2) over c normalised (3/4, 1/4).
    assert b.force_weights == pytest.approx((2 / 3, 2.0))
    assert rule.bonded == (
        BondedRule("bond", "bond", (("A1", "B1"), ("B1", "A1"))),
        BondedRule("angle", "bend", (("A1", "B1", "A1"),)),
        BondedRule("dihedral", "turn", (("A1", "B1", "A1", "B1"),)),
    )


def test_pycgtool(tmp_path):
    (tmp_path / "part.map").write_text("[ION]\nNA Q 1 NA\n")
    mapping = read_pycgtool(write(tmp_path, PYCGTOOL + '#include "part.map"\n', "m.map"))
    naph, water, ion = mapping.molecules
    assert [rule.scope for rule in mapping.molecules] == ["residue"] * 3
    assert naph.beads == (
        BeadRule("R1", "TC4", (AtomName("C8"), AtomName("H8"), AtomName("C9")), "geometry"),
        SiteRule("R3", "TC4", "linear", ("R1", "R2"), "geometry"),
        BeadRule("R2", "TC4", (AtomName("C6"), AtomName("C6"), AtomName("H6")), "geometry"),
    )
    assert [bead.name for bead in water.beads] == ["W"]
    assert ion.beads[0].atoms == (AtomName("NA"),)
    by_mass = read_pycgtool(tmp_path / "m.map", center="mass", virtual_center="mass")
    assert by_mass.molecules[0].beads[0].weights == by_mass.molecules[0].beads[1].parameters == "mass"


def test_openmscg(tmp_path):
    mapping = read_openmscg(write(tmp_path, OPENMSCG, "m.yaml"))
    ch3, no3 = mapping.groups
    assert ch3 == GroupRule(
        "CH3",
        "CH3",
        (0, 1),
        (10, 14, 18, 24, 30, 34, 38, 44),
        (0, 1, 2, 4, 5, 6, 7, 9),
        weights=(12.0, 1.0),
        force_weights=(1.0, 1.0),
    )
    assert (no3.index, no3.anchors, no3.order, no3.force_weights) == ((0, -1), (23, 43), (3, 8), None)


def test_index_groups(tmp_path):
    mapping = read_index_groups(write(tmp_path, INDEX, "m.ndx"), weights="geometry")
    assert mapping.groups == (
        GroupRule("A", "A", (0, 1), (0, 4, 8), (0, 2, 4), weights="geometry"),
        GroupRule("B", "B", (3,), (0, 4, 8), (1, 3, 5), weights="geometry"),
    )


def test_jaxcgs_own_file_as_its_documentation_shows_it(tmp_path):
    mapping = read_native(write(tmp_path, yaml_example(), "m.yaml"))
    ala, hexane = mapping.molecules
    assert (ala.scope, ala.matches) == ("residue", ("ALA", "ALAD"))
    assert ala.beads[1] == BeadRule("SC1", "TC3", (AtomName("CB"),), "geometry")
    assert ala.bonded[0] == BondedRule("bond", "backbone", (("BB", "+BB"),))
    assert hexane.residues == ("CHL", "CH2", "CHR")
    assert hexane.beads[0].weights == (15.0, 14.0)
    assert hexane.beads[0].force_weights == (1.0, 1.0)
    assert hexane.beads[1].residue == 3
    assert hexane.beads[3] == SiteRule("V", "U", "linear", ("A", "B"), (0.4, 0.6))
    assert hexane.beads[4] == SiteRule("W", "U", "3fd", ("A", "B", "C"), (0.5, 0.1))
    assert [rule.kind for rule in hexane.bonded] == ["bond", "angle", "constraint"]
    water, zinc = mapping.groups
    assert water.anchors == tuple(range(60, 60 + 3 * 256, 3))
    assert zinc.select == "resname ZN"
    assert zinc.split == "residue"


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (read_votca, VOTCA),
        (read_pycgtool, PYCGTOOL),
        (read_openmscg, OPENMSCG),
        (read_index_groups, INDEX),
        (read_native, yaml_example()),
    ],
)
def test_jaxcgs_own_file_says_all_that_the_others_say(tmp_path, read, text):
    mapping = read(write(tmp_path, text, "m"))
    write_native(mapping, tmp_path / "again.yaml")
    assert read_native(tmp_path / "again.yaml") == mapping


def test_names_that_yaml_takes_for_something_else(tmp_path):
    """NO, ON and 1 are atoms here, not truth values and numbers."""
    mapping = read_pycgtool(write(tmp_path, "[NO]\nON Y NO 1 null\n", "m.map"))
    write_native(mapping, tmp_path / "again.yaml")
    assert read_native(tmp_path / "again.yaml") == mapping


def test_writing_back_in_the_same_format(tmp_path):
    mapping = read_votca(write(tmp_path, VOTCA, "m.xml"))
    write_votca(mapping, tmp_path / "again.xml")
    again = read_votca(tmp_path / "again.xml")
    assert again.molecules[0].bonded == mapping.molecules[0].bonded
    for one, two in zip(mapping.molecules[0].beads, again.molecules[0].beads):
        assert (one.name, one.type, one.atoms, one.weights) == (two.name, two.type, two.atoms, two.weights)
        assert one.force_weights == (two.force_weights and pytest.approx(two.force_weights))
    mapping = read_index_groups(write(tmp_path, INDEX, "m.ndx"))
    write_index_groups(mapping, tmp_path / "again.ndx")
    assert read_index_groups(tmp_path / "again.ndx") == mapping
    with pytest.raises(InputError, match="exactly one molecule"):
        write_votca(mapping, tmp_path / "no.xml")
    with pytest.raises(InputError, match="only groups of atoms by number"):
        write_index_groups(read_openmscg(write(tmp_path, OPENMSCG, "m.yaml")), tmp_path / "no.ndx")


def test_several_files(tmp_path):
    one, two = write(tmp_path, VOTCA, "a.xml"), write(tmp_path, VOTCA.replace("propane", "butane"), "b.xml")
    mapping = load_mapping(f"{one};{two}")
    assert [rule.matches[0] for rule in mapping.molecules] == ["propane", "butane"]
    with pytest.raises(InputError, match="only files that list beads can be joined"):
        load_mapping(f"{one};martini3")
    with pytest.raises(InputError, match="only maps forwards"):
        load_scheme(one)


def replaced(text, old, new):
    assert old in text
    return text.replace(old, new, 1)


V, P, O = VOTCA, PYCGTOOL, OPENMSCG
BAD_VOTCA = [
    (replaced(V, "</name>", "<name>"), "line 26: not well-formed XML"),
    ("<cg></cg>", "line 1: the root is <cg>, expected <cg_molecule>"),
    (replaced(V, "<ident>propane</ident>", ""), "line 1: <cg_molecule> has no <ident>"),
    (replaced(V, "propane", " "), "line 3: <ident> is empty"),
    (replaced(V, "<symmetry>1", "<symmetry>3"), r"line 7: bead A1 has symmetry 3"),
    (replaced(V, "1:PRP:H5", "PRP:H5"), "line 8: 'PRP:H5' does not begin with the number of a residue"),
    (replaced(V, "1:PRP:H5", "H5"), "line 8: bead A1 needs its atoms as number:residue:atom"),
    (replaced(V, "<mapping>end", "<mapping>none"), "line 6: bead A1 uses the map 'none'"),
    (replaced(V, "12 1 1", "12 1"), "line 6: bead A1 has 2 weights for 3 atoms"),
    (replaced(V, "12 1 1", "12 1 x"), "line 23: <weights> holds something that is not a number"),
    (replaced(V, "12 1 1", "1 0 -1"), "line 6: the weights of bead A1 sum to zero"),
    (replaced(V, "<d> 1 1", "<d> 1"), "line 24: <d> needs 2 numbers"),
    (replaced(V, "3 1 </w", "3 0 </w"), "line 24: <d> is not zero where the weight is zero"),
    (replaced(V, "A1 B1  B1 A1", "A1 B1 A1"), "line 17: 3 beads for bonds, which join 2 each"),
    (replaced(V, "A1 B1 A1 <", "A1 B1 C1 <"), "line 18: angle bend names bead C1, which is not defined"),
    (
        replaced(V, "<bond>", "<bund>").replace("</bond>", "</bund>", 1),
        "line 17: <bund> is not bond, angle",
    ),
    (replaced(V, "<name>B1", "<name>A1"), "line 11: a second bead named A1"),
]
BAD_PYCGTOOL = [
    ("A B C\n[X]\nA B 1\n", "line 1: expected a section header"),
    (replaced(P, "[SOL]", "[SOL"), "line 7: .* is not a section header"),
    (replaced(P, "[SOL]", "[NAPH]"), r"line 7: a second section \[NAPH\]"),
    (replaced(P, "@v", "@w"), "line 4: '@w' is not known"),
    (replaced(P, "@v R3 TC4 R1 R2", "@v R3 TC4 R1 R9"), "line 4: virtual site R3 stands on R9"),
    (replaced(P, "W P4 OW HW1 HW2", "W P4 1.0"), "line 8: expected a bead name"),
    (replaced(P, "R2 TC4", "R1 TC4"), "line 5: a second bead named R1|line 4: virtual site R3 stands on R2"),
    (P + "[END]\n", r"line 9: section \[END\] has no bead"),
    (P + '#include "m"\n', "m: the file includes itself"),
    (P + "#include\n", r'line 9: expected #include "file"'),
    (P + '#include "gone.map"\n', r"gone\.map: cannot be read"),
]
BAD_OPENMSCG = [
    (replaced(O, "x-weight: [12.0, 1.0]", "x-weight: [12.0]"), "line 4: x-weight has 1 numbers for 2 atoms"),
    (replaced(O, "f-weight: [1.0, 1.0]", "f-weight: [1.0, x]"), "line 5: expected a number"),
    (replaced(O, "x-weight: [12.0, 1.0]", "x-weight: [1, -1]"), "line 3: the weights of bead CH3 sum to zero"),
    (replaced(O, "index:    [0, 1]", "index:    [0, 1.5]"), "line 3: expected a whole number"),
    (replaced(O, "[CH3, 0]", "[CH4, 0]"), "line 18: site type 'CH4' is not defined"),
    (replaced(O, "[CH3, 0]", "[CH3]"), r"line 18: a site is a pair \[type, offset\]"),
    (replaced(O, "repeat: 2\n    offset: 20\n", "repeat: 2\n"), "line 10: a group that repeats needs 'offset'"),
    (replaced(O, "repeat: 2", "repeat: 0"), "line 11: expected a whole number of at least 1"),
    (replaced(O, "repeat: 2", "repeet: 2"), "line 11: 'repeet' is not known in a group"),
    (replaced(O, "anchor: 10\n    repeat", "repeat"), "line 10: a group needs 'anchor'"),
    (replaced(O, "repeat: 2", "repeat: 200000000"), "are too many"),
    (replaced(O, "  CH3:\n", "  CH3: [\n"), r"line \d+: not YAML"),
    (replaced(O, "system:", "system: []\nrest:"), r"line 10: 'rest' is not known"),
    (
        replaced(O, "  - anchor: 10", "  - sites: []\n    anchor: 10"),
        "line 10: a group needs either 'sites' or",
    ),
]
BAD_INDEX = [
    (replaced(INDEX, "1 2", "0 2"), r"line 3: '0' is not the number of an atom"),
    (replaced(INDEX, "1 2", "2 2"), "line 3: atom 2 is in group A twice"),
    (replaced(INDEX, "[ B ]", "[ A ]"), "line 4: a second group named A"),
    (replaced(INDEX, "1 2\n", ""), "line 2: group A has no atoms"),
    (replaced(INDEX, "[ B ]", "[ B"), "line 4: .* is not a group header"),
    (replaced(INDEX, "[ A ]\n", ""), "line 2: expected a group header"),
    (replaced(INDEX, "offset 4", "offset 0"), "line 1: repeat and offset must be at least 1"),
]
HEAD = "jaxcg-mapping: 1\n"
ONE = HEAD + "residues:\n- name: X\n  beads:\n  - {name: A, atoms: [C]}\n"
BAD_NATIVE = [
    ("jaxcg-mapping: 2\n", "line 1: only version 1"),
    ("- jaxcg-mapping: 1\njaxcg-mapping: 1\n", "not YAML"),
    (HEAD, "the file defines no bead"),
    (ONE + "beeds: []\n", "line 6: 'beeds' is not known in the file"),
    (ONE + "residues: []\n", "line 6: 'residues' is given twice"),
    (HEAD + "weights: [1, 2]\n" + ONE[len(HEAD) :], "line 2: the default must be mass or geometry"),
    (replaced(ONE, "name: A, ", ""), "line 5: a bead needs 'name'"),
    (replaced(ONE, "atoms: [C]", "atoms: C"), "line 5: atoms must be a list"),
    (replaced(ONE, "atoms: [C]", "atoms: []"), "line 5: bead A has no atoms"),
    (replaced(ONE, "[C]", "['1:2:3:4']"), "line 5: '1:2:3:4' is not an atom"),
    (replaced(ONE, "[C]", "['0:C']"), "line 5: '0:C' does not begin with the number"),
    (replaced(ONE, "[C]", "[C], weights: heavy"), "line 5: 'heavy' is not known; give mass, geometry or"),
    (replaced(ONE, "[C]", "[C], weights: [1, 2]"), "line 5: bead A has 2 weights for 1 atoms"),
    (replaced(ONE, "[C]", "[C], force-weights: [.inf]"), "line 5: expected a number"),
    (ONE + "  - {name: V, site: 3fe, beads: [A]}\n", "line 6: virtual site '3fe' is not known"),
    (ONE + "  - {name: V, site: 3fd, beads: [A]}\n", r"line 6: virtual site V \(3fd\) needs 3 beads"),
    (ONE + "  - {name: V, site: 2fd, beads: [A, A]}\n", r"line 6: virtual site V \(2fd\) needs 1 parameters"),
    (ONE + "  - {name: V, site: 2fd, beads: [A, A], parameters: [1, 2]}\n", "line 6: .* has 2 parameters, expected 1"),
    (ONE + "  bonds: {b: [[A]]}\n", "line 6: bond b joins 1 beads, expected 2"),
    (ONE + "  bonds: {b: [[A, B]]}\n", "line 6: bond b names bead B, which is not defined"),
    (ONE + "groups:\n- {name: G, index: [1]}\nbonds: {b: [[G, +G]]}\n", r"line 8: bond b: \+ is only for"),
    (ONE + "groups:\n- {name: G}\n", "line 7: a group needs either 'index' or 'select'"),
    (ONE + "groups:\n- {name: G, index: []}\n", "line 7: a bead needs at least one atom"),
    (ONE + "groups:\n- {name: G, index: [1], split: residue}\n", "line 7: 'split' does not go with 'index'"),
    (ONE + "groups:\n- {name: G, select: all, split: chain}\n", "line 7: split 'chain' is not known"),
    (ONE + "groups:\n- {name: G, select: all, split: residue, weights: [1]}\n", "line 7: a group that is split"),
    (ONE + "groups:\n- {name: G, index: [1], places: [1, 2]}\n", "line 7: a group needs anchors"),
    (ONE + "sites:\n- {name: G, atoms: [C]}\n", "line 7: only virtual sites belong here"),
    ("jaxcg-mapping: 1\nresidues: !!python/object:os.system x\n", "line 2: residues must be a list"),
]


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (read, *case)
        for read, cases in (
            (read_votca, BAD_VOTCA),
            (read_pycgtool, BAD_PYCGTOOL),
            (read_openmscg, BAD_OPENMSCG),
            (read_index_groups, BAD_INDEX),
            (read_native, BAD_NATIVE),
        )
        for case in cases
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_bad_files_name_file_line_and_reason(tmp_path, read, text, message):
    with pytest.raises(InputError, match=message) as caught:
        read(write(tmp_path, text, "m"))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [read_votca, read_pycgtool, read_openmscg, read_index_groups, read_native, format_of])
def test_files_that_cannot_be_read(tmp_path, read):
    with pytest.raises(InputError, match=r"gone: cannot be read"):
        read(tmp_path / "gone")
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    with pytest.raises(InputError):
        read(Path(tmp_path / "binary"))
