"""Files of pair potentials and equations of state: what is read, which pair it is for, what is refused."""

from pathlib import Path

import numpy as np
import pytest

from jaxcg.errors import InputError
from jaxcg.io.consistency.potentials import read_pair_potentials, read_pair_table
from jaxcg.io.consistency.pressures import compare_isotherms
from jaxcg.io.consistency.states import StateTable, read_states
from jaxcg.units import BAR


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("# r u\n0.1 4\n0.2 3\n0.3 2\n0.4 1\n", "columns"),
        ("0.0 nan u\n0.1 4 o\n0.2 3 i\n0.3 2 i\n0.4 1 i\n", "VOTCA"),
        ("@ legend\n0 0 0 0 0 inf 0\n.1 0 0 0 0 4 1\n.2 0 0 0 0 3 1\n.3 0 0 0 0 2 1\n.4 0 0 0 0 1 1\n", "Gromacs"),
    ],
)
def test_tables_of_potentials_are_read(tmp_path, text, kind):
    path = tmp_path / f"{kind}.pot"
    path.write_text(text)
    table = read_pair_table(path)
    np.testing.assert_allclose(table.r, [0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(table.u, [3, 2, 1, 0])
    assert table.cutoff == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("", "holds no numbers"),
        ("0.1 1\n0.2 x\n", r"line 2: expected r \(nm\) and u"),
        ("0.1 1 2 3\n", "line 1: expected"),
        ("0.1 3\n0.2 2\n0.3 nan\n0.4 0\n", "line 3: .* not a finite number"),
        ("0.1 3\n0.3 2\n0.35 1\n0.4 0\n", "line 2: r = 0.3 nm follows 0.1 nm"),
        ("0.1 1\n0.2 0\n", "holds 2 rows"),
        (".1 1 0 0 0 4 1\n.2 1 0 0 0 3 1\n.3 1 0 0 0 3 1\n.4 1 0 0 0 3 1\n", "has a Coulomb part"),
    ],
)
def test_bad_tables_of_potentials_are_refused(tmp_path, text, pattern):
    path = tmp_path / "u.pot"
    path.write_text(text)
    with pytest.raises(InputError, match=pattern):
        read_pair_table(path)


def test_tables_find_their_pairs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("table_A_B.xvg", "A-A.pot", "x.pot"):
        Path(name).write_text("0.1 4\n0.2 3\n0.3 2\n0.4 0\n")
    found = read_pair_potentials(["table_A_B.xvg", "A-A.pot", "B-B=x.pot"], ["A", "B", "A"])
    assert {pair: table.path for pair, table in found.items()} == {
        ("A", "B"): "table_A_B.xvg",
        ("A", "A"): "A-A.pot",
        ("B", "B"): "x.pot",
    }
    assert set(read_pair_potentials(["x.pot"], ["W"])) == {("W", "W")}
    for given, pattern in (
        (["A-A.pot"], "no table for A-B, B-B"),
        (["A-A.pot", "A-A=x.pot"], "has one already"),
        (["x.pot"], "does not say for which beads"),
        (["C-C=x.pot"], "does not say for which beads"),
        (["A-A=y.pot"], "y.pot: there is no such file"),
    ):
        with pytest.raises(InputError, match=pattern):
            read_pair_potentials(given, ["A", "B"])


def test_equations_of_state(tmp_path):
    path = tmp_path / "eos.csv"
    path.write_text("density, pressure, error\n3, 30, 2\n1, 10, 1\n2, 20, 1\n")
    table = read_states(path)
    np.testing.assert_allclose(table.densities, [1, 2, 3])
    np.testing.assert_allclose(table.pressures, np.array([10, 20, 30]) * BAR)
    shifted = StateTable("model", table.densities, table.pressures + 5 * BAR, 0 * table.errors)
    exact = StateTable("reference", table.densities, table.pressures, 0 * table.errors)
    found = compare_isotherms(exact, shifted, 300.0)
    assert found.root_mean_square / BAR == pytest.approx(5)
    assert found.difference.value / BAR**2 == pytest.approx(50)
    assert [round((b.value - a.value) / BAR, 6) for a, b in found.pairs().values()] == [5, 5, 5]
    for text, pattern in (
        ("1 2\n2 x\n", "line 2: expected a density"),
        ("-1 2\n", "line 1: densities must be above zero"),
        ("1 2\n", "holds 1 states"),
        ("1 2\n1 3\n", "is there twice"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=pattern):
            read_states(path)
    with pytest.raises(InputError, match="they must overlap"):
        compare_isotherms(exact, StateTable("m", np.array([5.0, 6.0]), np.ones(2), np.ones(2)), 300.0)
