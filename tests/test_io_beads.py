"""Reading coarse-grained structures and trajectories, and what is wrong with bad ones."""

from pathlib import Path

import numpy as np
import pytest

from jaxcg.errors import InputError
from jaxcg.io import make_whole, read_beads, read_frames
from jaxcg.io.beads import find_residue
from jaxcg.io.checks import check_geometry, find_disulfides
from jaxcg.io.frames import frame_numbers

FRAMES = Path(__file__).parent / "data" / "frames"
VILLIN = FRAMES / "villin" / "cg_crystal.pdb"
LYSOZYME = FRAMES / "lysozyme"


def pdb_line(number, name, residue, chain, residue_id, position, insertion=" ", kind="ATOM"):
    x, y, z = position
    return (
        f"{kind:6s}{number % 100000:5d} {name:<4s} {residue:<4s}{chain:1s}{residue_id:4d}{insertion:1s}   "
        f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00\n"
    )


def edited(tmp_path, edit, source=VILLIN, name="cg.pdb"):
    """Copy of a structure file with its atom lines passed through ``edit``."""
    lines = [line for line in source.read_text().splitlines(True) if line.startswith("ATOM")]
    path = tmp_path / name
    path.write_text("".join(edit(lines)))
    return path


def with_coordinate(line, text):
    return line[:30] + f"{text:>8s}" + line[38:]


def test_pdb_in_nanometres_with_residues():
    beads = read_beads(VILLIN)
    assert beads.n_beads == 88
    assert len(beads.residues) == 35
    assert beads.labels[2] == "BB of SER 2"
    assert beads.residue_names[:3] == ("LEU", "LEU", "SER")
    np.testing.assert_allclose(beads.positions[0], [2.6050, 1.4224, 1.8291], atol=1e-9)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_gro_equals_pdb(tmp_path):
    import MDAnalysis

    universe = MDAnalysis.Universe(str(LYSOZYME / "cg.pdb"), to_guess=())
    path = tmp_path / "cg.gro"
    universe.atoms.write(str(path))
    gro, pdb = read_beads(path), read_beads(LYSOZYME / "cg.pdb")
    assert gro.names == pdb.names
    assert gro.residue_names == pdb.residue_names
    assert gro.residue_ids == pdb.residue_ids
    np.testing.assert_allclose(gro.positions, pdb.positions, atol=6e-4)
    np.testing.assert_allclose(gro.box, pdb.box, atol=1e-4)


def test_insertion_codes_chains_and_ter_make_new_residues(tmp_path):
    rows = [
        pdb_line(1, "BB", "GLY", "A", 52, (0, 0, 0)),
        pdb_line(2, "BB", "GLY", "A", 52, (3.5, 0, 0), "A"),
        pdb_line(3, "BB", "GLY", "A", 53, (7, 0, 0)),
        "TER\n",
        pdb_line(4, "BB", "GLY", "A", 54, (7, 9, 0)),
        pdb_line(5, "BB", "GLY", "B", 55, (7, 9, 9)),
        # The same number, name and chain once more: a bead name repeats.
        pdb_line(6, "BB", "GLY", "B", 55, (7, 9, 12)),
    ]
    path = tmp_path / "cg.pdb"
    path.write_text("".join(rows))
    beads = read_beads(path)
    assert beads.residue_ids == ("52", "52A", "53", "54", "55", "55")
    assert [r.segment for r in beads.residues] == [0, 0, 0, 1, 2, 2]
    assert find_residue("A:52A", beads) == 1
    with pytest.raises(InputError, match=r"residue '55': 2 residues go by this name"):
        find_residue("55", beads)


def test_residue_numbers_beyond_the_pdb_limit(tmp_path):
    n = 10050
    rows = [pdb_line(i + 1, "BB", "GLY", "A", (i + 1) % 10000, (3.5 * i % 9000, i // 2500 * 50.0, 0)) for i in range(n)]
    path = tmp_path / "long.pdb"
    path.write_text("".join(rows))
    beads = read_beads(path)
    assert len(beads.residues) == n
    assert len({residue.segment for residue in beads.residues}) == 1


def test_solvent_and_go_sites_are_left_out_and_named(tmp_path):
    def edit(lines):
        water = pdb_line(900, "W", "W", " ", 900, (90, 90, 90))
        ion = pdb_line(901, "NA+", "ION", " ", 901, (95, 90, 90))
        site = lines[0][:12] + " CA " + lines[0][16:]
        return [water, *lines, site, ion]

    beads = read_beads(edited(tmp_path, edit))
    assert beads.names == read_beads(VILLIN).names
    np.testing.assert_array_equal(beads.kept, np.arange(1, 89))
    assert "2 solvent or ion beads (ION, W) left out" in beads.notes
    assert any("virtual sites" in note for note in beads.notes)


def test_one_bead_models_keep_their_ca(tmp_path):
    path = edited(tmp_path, lambda lines: [line.replace(" BB ", " CA ") for line in lines if " BB " in line])
    assert set(read_beads(path).names) == {"CA"}


def test_frames_are_those_asked_for():
    beads = read_beads(LYSOZYME / "cg.pdb")
    frames = read_frames(beads, LYSOZYME / "cg.xtc", "0:20:5")
    read = list(frames)
    assert len(frames) == 4
    assert [number for number, _, _ in read] == [0, 5, 10, 15]
    np.testing.assert_allclose(read[0][1], beads.positions, atol=6e-4)
    np.testing.assert_allclose(read[0][2], beads.box, atol=1e-4)
    assert not np.allclose(read[1][1], read[0][1], atol=0.05)
    # A second pass gives the same.
    np.testing.assert_array_equal(next(iter(frames))[1], read[0][1])


def test_reading_a_trajectory_leaves_nothing_beside_it(tmp_path):
    (tmp_path / "cg.xtc").write_bytes((FRAMES / "villin" / "cg.xtc").read_bytes())
    list(read_frames(FRAMES / "villin" / "cg.pdb", tmp_path / "cg.xtc", "0"))
    assert [path.name for path in tmp_path.iterdir()] == ["cg.xtc"]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [(None, [0, 1, 2, 3]), ("1:", [1, 2, 3]), ("::2", [0, 2]), ("3", [3]), ("-1", [3]), ("0,2", [0, 2])],
)
def test_frame_selections(selection, expected):
    assert frame_numbers(selection, 4) == expected


@pytest.mark.parametrize("selection", ["a", "4", "9:12", "1:2:3:4", "0.5"])
def test_bad_frame_selections(selection):
    with pytest.raises(InputError, match="frames"):
        frame_numbers(selection, 4)


def test_trajectory_of_another_structure():
    with pytest.raises(InputError, match=r"cg\.xtc: .*(304|beads)"):
        list(read_frames(VILLIN, LYSOZYME / "cg.xtc"))


def test_damaged_trajectory(tmp_path):
    path = tmp_path / "cg.xtc"
    path.write_bytes(b"not a trajectory at all" * 10)
    with pytest.raises(InputError, match=r"cg\.xtc: cannot be read as a trajectory"):
        list(read_frames(VILLIN, path))


# -- periodic boxes -----------------------------------------------------------------------------------------------


def test_molecules_cut_by_a_box_are_made_whole():
    beads = read_beads(LYSOZYME / "cg.pdb")
    box = np.diag([7.2, 7.2, 7.2])
    # Placed across a corner of the box, then wrapped into it.
    moved = beads.positions - beads.positions.mean(axis=0) + 0.3
    wrapped = moved % 7.2
    assert np.abs(wrapped - moved).max() > 7
    whole = make_whole(wrapped, beads, box)
    shift = whole - moved
    np.testing.assert_allclose(shift, np.broadcast_to(shift[0], shift.shape), atol=1e-9)
    np.testing.assert_allclose(shift[0] / 7.2, np.round(shift[0] / 7.2), atol=1e-9)


def test_a_triclinic_box(tmp_path):
    beads = read_beads(VILLIN)
    box = np.array([[6.0, 0, 0], [2.0, 5.7, 0], [-1.9, 1.8, 5.2]])
    moved = beads.positions - beads.positions.mean(axis=0)
    shifts = np.random.default_rng(0).integers(-2, 3, size=(beads.n_beads, 3)) @ box
    whole = make_whole(moved + shifts, beads, box)
    relative = whole - whole[0] - (moved - moved[0])
    np.testing.assert_allclose(relative, 0, atol=1e-9)


def test_whole_molecules_do_not_move():
    beads = read_beads(LYSOZYME / "cg.pdb")
    np.testing.assert_array_equal(make_whole(beads.positions, beads, beads.box), beads.positions)


# -- bad input ----------------------------------------------------------------------------------------------------


def test_missing_file():
    with pytest.raises(InputError, match=r"nothere\.pdb: no such file"):
        read_beads("nothere.pdb")


def test_empty_file(tmp_path):
    path = tmp_path / "cg.pdb"
    path.write_text("")
    with pytest.raises(InputError, match="the file is empty"):
        read_beads(path)


@pytest.mark.parametrize("name", ["cg.pdb", "cg.gro", "cg.xyzzy"])
def test_a_file_that_is_no_structure(tmp_path, name):
    path = tmp_path / name
    path.write_text("This is a letter,\nnot a structure.\nYours, S.\n")
    with pytest.raises(InputError, match=name.replace(".", r"\.")) as caught:
        read_beads(path)
    assert "\n" not in str(caught.value)


def test_only_solvent(tmp_path):
    path = tmp_path / "cg.pdb"
    path.write_text(pdb_line(1, "W", "W", " ", 1, (0, 0, 0)))
    with pytest.raises(InputError, match="only solvent or ions"):
        read_beads(path)


@pytest.mark.parametrize("text", ["nan", "inf"])
def test_coordinates_that_are_no_numbers(tmp_path, text):
    path = edited(tmp_path, lambda lines: [*lines[:3], with_coordinate(lines[3], text), *lines[4:]])
    with pytest.raises(InputError, match=r"cg\.pdb: bead SC1 of SER 2 has a coordinate that is not a number"):
        read_beads(path)


def test_a_coordinate_that_cannot_be_read_names_the_line(tmp_path):
    path = edited(tmp_path, lambda lines: [*lines[:3], with_coordinate(lines[3], "oops"), *lines[4:]])
    with pytest.raises(InputError, match=r"line 4: 'oops' is not a coordinate"):
        read_beads(path)


def test_absurd_coordinates():
    from jaxcg.io.beads import check_finite

    beads = read_beads(VILLIN)
    positions = beads.positions.copy()
    positions[5] = 3e6
    with pytest.raises(InputError, match=r"bead SC1 of ASP 3 lies at 3e\+06 nm"):
        check_finite(beads.with_positions(positions))


def test_two_beads_on_one_spot():
    beads = read_beads(VILLIN)
    positions = beads.positions.copy()
    positions[40] = positions[3]
    with pytest.raises(InputError, match=r"beads SC1 of SER 2 and .* are 0\.000 nm apart"):
        check_geometry(beads.with_positions(positions))


def test_chain_break_names_both_residues(tmp_path):
    path = edited(tmp_path, lambda lines: [line for line in lines if not 10 <= int(line[22:26]) <= 14])
    with pytest.raises(InputError, match=r"chain break between \w+ 9 and \w+ 15"):
        check_geometry(read_beads(path))
    # A TER record says that two chains are meant.
    path = edited(
        tmp_path,
        lambda lines: [
            *(line for line in lines if int(line[22:26]) < 10),
            "TER\n",
            *(line for line in lines if int(line[22:26]) > 14),
        ],
    )
    check_geometry(read_beads(path))


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_wrong_units_are_recognised(factor):
    beads = read_beads(VILLIN)
    with pytest.raises(InputError, match="seem to be in"):
        check_geometry(beads.with_positions(beads.positions * factor))


def test_a_bead_far_from_its_residue():
    beads = read_beads(VILLIN)
    positions = beads.positions.copy()
    positions[3] += 4.0
    with pytest.raises(InputError, match=r"bead SC1 of SER 2 is .* nm from BB of the same residue"):
        check_geometry(beads.with_positions(positions))


# -- disulfides ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["cg_crystal.pdb", "cg.pdb"])
def test_disulfides_of_lysozyme(file):
    beads = read_beads(LYSOZYME / file)
    found = {(beads.residues[a].id, beads.residues[b].id) for a, b, _ in find_disulfides(beads)}
    assert found == {("6", "127"), ("30", "115"), ("64", "80"), ("76", "94")}


def test_disulfides_of_every_frame_are_the_same():
    beads = read_beads(LYSOZYME / "cg.pdb")
    for _, positions, box in read_frames(beads, LYSOZYME / "cg.xtc"):
        assert len(find_disulfides(beads.with_positions(positions, box))) == 4


@pytest.mark.parametrize("name", ["ubiquitin", "villin"])
def test_no_disulfides_elsewhere(name):
    assert find_disulfides(read_beads(FRAMES / name / "cg_crystal.pdb")) == []
