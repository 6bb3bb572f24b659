"""Reference densities of the backbone torsions."""

import numpy as np
import pytest
from proteins import protein

from jaxcg.backmap import ramachandran
from jaxcg.backmap.ramachandran import CLASSES, backbone_torsions, ramachandran_regions, ramachandran_tables


def _region(phi, psi, name):
    return ramachandran_regions(np.radians([phi]), np.radians([psi]), np.array([CLASSES.index(name)]))[0]


@pytest.mark.parametrize("tail", [0.0, 0.02])
def test_tables_are_normalised_densities(tail):
    cell = np.radians(4.0) ** 2
    for name, table in ramachandran_tables(tail).items():
        assert name in CLASSES
        assert table.shape == (90, 90)
        assert table.sum() * cell == pytest.approx(1.0)
        assert table.min() >= 0
    if tail:
        assert all(table.min() > 0 for table in ramachandran_tables(tail).values())


def test_glycine_is_symmetric():
    table = ramachandran_tables()["glycine"]
    np.testing.assert_allclose(table, table[::-1, ::-1], rtol=1e-10)


@pytest.mark.parametrize(
    ("phi", "psi", "name", "expected"),
    [
        (-63, -43, "general", 2),  # helix
        (-120, 130, "general", 2),  # sheet
        (-70, 145, "general", 2),  # polyproline
        (55, 45, "general", 2),  # left-handed helix
        (80, -120, "general", 0),
        (0, 0, "general", 0),
        (80, 10, "glycine", 2),
        (90, 180, "glycine", 2),
        (-90, 180, "glycine", 2),
        (0, 0, "glycine", 0),
        (-63, 145, "proline", 2),
        (-60, -30, "proline", 2),
        (-120, 130, "proline", 0),
        (-70, 140, "pre-proline", 2),
        (-60, -45, "pre-proline", 2),
        (-95, 0, "pre-proline", 0),  # the ring of the proline is there
        (-95, 0, "general", 2),
    ],
)
def test_regions_are_where_textbooks_have_them(phi, psi, name, expected):
    assert _region(phi, psi, name) == expected


def test_favoured_regions_hold_their_share():
    cell = np.radians(4.0) ** 2
    for name, share in (("general", 0.98), ("proline", 0.98), ("pre-proline", 0.98), ("glycine", 0.95)):
        table = ramachandran_tables()[name]
        favoured, allowed = ramachandran.ramachandran_levels()[name]
        assert favoured > allowed > 0
        assert table[table >= favoured].sum() * cell == pytest.approx(share, abs=0.03)  # smoothing moves some out


def test_regions_are_periodic():
    grid = np.radians(np.arange(-180, 180, 17.0))
    phi, psi = (a.ravel() for a in np.meshgrid(grid, grid))
    classes = np.zeros(len(phi), dtype=int)
    np.testing.assert_array_equal(
        ramachandran_regions(phi, psi, classes), ramachandran_regions(phi + 2 * np.pi, psi - 2 * np.pi, classes)
    )


def test_torsions_follow_the_bond_graph():
    system, _, _ = protein("ubiquitin")
    phi, psi, residues, classes = backbone_torsions(system)
    assert len(residues) == system.n_residues - 2
    names = np.array(system.atom_names)
    assert (names[phi] == ("C", "N", "CA", "C")).all()
    assert (names[psi] == ("N", "CA", "C", "N")).all()
    by_class = {c: [system.residue_names[r] for r in residues[classes == k]] for k, c in enumerate(CLASSES)}
    assert set(by_class["glycine"]) == {"GLY"}
    assert set(by_class["proline"]) == {"PRO"}
    assert "GLY" not in by_class["general"]
    assert len(by_class["pre-proline"]) == sum(
        system.residue_names[r + 1] == "PRO" and system.residue_names[r] not in ("GLY", "PRO") for r in residues
    )


def test_missing_data_say_what_to_install(monkeypatch):
    monkeypatch.setattr(ramachandran, "_reference_file", lambda: None)
    monkeypatch.setattr(ramachandran, "_class_counts", ramachandran._class_counts.__wrapped__)
    assert not ramachandran.available()
    with pytest.raises(ModuleNotFoundError, match="pip install MDAnalysis"):
        ramachandran_tables.__wrapped__()
