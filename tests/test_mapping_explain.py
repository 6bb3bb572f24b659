"""The table of a map: rows that add up to the totals, and text a reader can use."""

import numpy as np
import pytest

from jaxcg.mapping import LinearMap
from jaxcg.mapping.explain import explain, explain_model
from jaxcg.mapping.formats.model import Atoms, CoarseModel
from jaxcg.mapping.information import fluctuation_loss

MASSES = np.array([12.0, 1.0, 1.0, 16.0, 14.0, 1.0, 32.0, 1.0])
NAMES = ["CA", "HA", "HB", "O", "N", "H", "S", "HG"]
MAP = LinearMap.center_of_mass([[0, 1, 2], [2, 3, 4], [5]], MASSES)


def table(**more):
    return explain(
        MAP, MASSES, atom_names=NAMES, bead_names=["BB", "SC1", "X"], residues=["ALA 1", "ALA 1", "ION 2"], **more
    )


def test_rows_say_what_the_map_is_and_add_up():
    found = table()
    first, second, third = found.rows
    assert first.name == "ALA 1 BB"
    assert first.atoms == ("CA", "HA", "HB")
    np.testing.assert_allclose(first.weights, np.array([12, 1, 1]) / 14)
    assert first.shared == second.shared == ("HB",)
    assert third.shared == ()
    # The shared hydrogen counts half in each bead.
    assert (first.mass, second.mass, third.mass) == (13.5, 30.5, 1.0)
    # Five atoms and two beads in the first block: 3 × (2.5 − 1) each.
    assert [row.lost for row in found.rows] == [4.5, 4.5, 0.0]
    assert sum(row.lost for row in found.rows) + 3 * len(found.unmapped) == found.nullity == MAP.nullity
    assert found.rank == MAP.rank
    np.testing.assert_array_equal(found.unmapped, [6, 7])
    assert found.n_shared == 1


def test_dependent_beads_share_their_rank():
    twice = LinearMap.center_of_mass([[0, 1], [0, 1], [3]], MASSES)
    found = explain(twice, MASSES)
    assert (found.rank, found.nullity) == (6, 18)
    assert [row.lost for row in found.rows] == [1.5, 1.5, 0.0]
    assert "6 independent" in "\n".join(found.totals())
    assert found.rows[2].name == "2"
    assert found.rows[2].atoms == ("3",)


def test_text():
    lines = table().text().splitlines()
    assert lines[0].split() == ["bead", "name", "atoms", "(weights)", "mass/amu", "shared", "lost", "coordinates"]
    assert lines[2].split()[0] == "0"
    assert "CA 0.857, HA 0.0714, HB 0.0714" in lines[2]
    assert "8 atoms to 3 beads: 9 of 24 coordinates kept, 15 lost (62.5 %)." in lines
    assert "1 atom in more than one bead." in lines
    assert "2 atoms in no bead: their 6 coordinates are lost." in lines
    assert str(table()) == table().text()
    short = table().text(most_rows=1, most_atoms=2)
    assert "CA 0.857, HA 0.0714, and 1 more" in short
    assert "... and 2 more beads" in short
    assert "SC1" not in short


def test_fluctuations_enter_the_table(x64):
    x = np.random.default_rng(0).normal(size=(50, 8, 3))
    loss = fluctuation_loss(MAP, MASSES, [x], "translation")
    found = table(loss=loss)
    np.testing.assert_allclose([row.fraction for row in found.rows], loss.bead_fraction)
    assert found.rows[2].fraction == pytest.approx(0, abs=1e-12)
    text = found.text()
    assert "lost fluctuation" in text.splitlines()[0]
    assert (
        f"{100 * loss.fraction:.1f} % of the mass-weighted fluctuation is lost (50 frames, translation removed)."
        in text
    )


def test_a_model_explains_itself_in_its_own_names():
    atoms = Atoms(
        names=tuple(NAMES),
        elements=("",) * 8,
        masses=MASSES,
        residue=np.array([0, 0, 0, 0, 0, 1, 1, 1]),
        residue_names=("ALA", "ION"),
        residue_ids=("1", "2"),
        chain_ids=("A", "A"),
        bonds=None,
        molecule=np.zeros(8, dtype=int),
        molecule_names=("",),
    )
    model = CoarseModel(
        mapping=MAP,
        bead_names=("BB", "SC1", "X"),
        bead_types=("P2", "TC3", "Q"),
        residue_names=("ALA", "ALA", "ION"),
        residue_ids=("1", "1", "2"),
        chain_ids=("A", "A", "A"),
        masses=np.array([72.0, 36.0, 36.0]),
    )
    found = explain_model(model, atoms)
    assert found.text() == table(bead_masses=model.masses).text()


def test_given_masses_and_wrong_lengths():
    assert [row.mass for row in table(bead_masses=np.array([72.0, 72.0, 36.0])).rows] == [72, 72, 36]
    with pytest.raises(ValueError, match="atom_names has 1 entries, expected 8"):
        explain(MAP, MASSES, atom_names=["CA"])
    with pytest.raises(ValueError, match="bead_names has 1 entries, expected 3"):
        explain(MAP, MASSES, bead_names=["CA"])
