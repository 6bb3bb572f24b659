"""Tables for other engines: read back as written, in their units, and OpenMM computes the same with them."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxcg.energy import LennardJones, PairEnergy, energy_and_forces
from jaxcg.errors import InputError
from jaxcg.io.potential_tables import (
    PairTable,
    read_gromacs_table,
    read_lammps_tables,
    read_votca_table,
    write_gromacs_table,
    write_lammps_tables,
    write_votca_table,
)


@pytest.fixture
def potential(x64):
    return LennardJones(0.3, 1.5, 0.9, shift="force")


@pytest.fixture
def table(potential):
    return PairTable.of(potential, 0.002, start=0.24)


def test_rows_are_the_potential(potential, table):
    assert table.r[0] == 0.24
    assert table.r[-1] == pytest.approx(0.9)
    s6 = (0.3 / table.r) ** 6
    at_end = 4 * 1.5 * (-12 * (1 / 3) ** 12 + 6 * (1 / 3) ** 6) / 0.9
    end = 4 * 1.5 * ((1 / 3) ** 12 - (1 / 3) ** 6)
    wanted = 6 * (s6**2 - s6) - end - (table.r - 0.9) * at_end
    np.testing.assert_allclose(table.potential, wanted, atol=1e-6)
    r = jnp.linspace(0.241, 0.895, 400)
    for one, other in zip(table.pair_potential()(r), potential(r), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("units", ["real", "metal", "nano"])
def test_lammps_there_and_back(table, tmp_path, units):
    path = tmp_path / "pair.table"
    other = PairTable(table.r, 2 * table.potential, 2 * table.slope)
    write_lammps_tables(path, {"A-A": table, "A-B": other}, units)
    found = read_lammps_tables(path, units)
    assert list(found) == ["A-A", "A-B"]
    for one, two in zip(found["A-B"], other, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-9)


def test_lammps_units(table, tmp_path):
    """1 kcal/mol is 4.184 kJ/mol, 1 Å is 0.1 nm, and the force column is minus the derivative."""
    path = tmp_path / "pair.table"
    write_lammps_tables(path, {"A": table})
    lines = path.read_text().splitlines()
    assert lines[2:4] == ["A", f"N {len(table.r)} R 2.4 9.0"]
    row = [float(word) for word in lines[5].split()]
    np.testing.assert_allclose(row, [1, 2.4, table.potential[0] / 4.184, -table.slope[0] / 41.84], rtol=1e-9)


def test_gromacs_there_and_back(table, tmp_path):
    path = tmp_path / "table_A_A.xvg"
    write_gromacs_table(path, table, length=1.2)
    rows = np.loadtxt(path)
    assert rows.shape == (601, 7)
    np.testing.assert_allclose(rows[:, 0], 0.002 * np.arange(601), atol=1e-12)
    assert not rows[:, 1:5].any()
    assert not rows[451:, 5:].any()
    found = read_gromacs_table(path)
    np.testing.assert_allclose(found.potential[119:450], table.potential[:331], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.slope[119:450], table.slope[:331], rtol=1e-12, atol=1e-12)
    # The core goes on along the tangent.
    np.testing.assert_allclose(found.potential[:119], table.pair_potential()(jnp.asarray(found.r[:119]))[0], rtol=1e-9)


def test_votca_there_and_back(table, tmp_path):
    path = tmp_path / "A-A.pot"
    write_votca_table(path, table)
    found = read_votca_table(path)
    np.testing.assert_allclose(found.potential, table.potential - table.potential[-1], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.slope[20:-2], table.slope[20:-2], rtol=2e-3, atol=1e-2)


def test_openmm_computes_the_same(table, tmp_path):
    """What is read back from the exported table, as OpenMM's own cubic spline, gives our energy and forces."""
    import openmm

    path = tmp_path / "pair.table"
    write_lammps_tables(path, {"A": table})
    read = read_lammps_tables(path)["A"]
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(5)] * 3, indexing="ij"), -1).reshape(-1, 3) * 0.4
    x, side = grid + rng.uniform(-0.05, 0.05, grid.shape), 2.0
    system = openmm.System()
    system.setDefaultPeriodicBoxVectors(*np.diag([side] * 3))
    force = openmm.CustomNonbondedForce("u(r)")
    force.addTabulatedFunction("u", openmm.Continuous1DFunction(read.potential, read.r[0], read.r[-1]))
    force.setNonbondedMethod(force.CutoffPeriodic)
    force.setCutoffDistance(read.r[-1])
    for _ in x:
        system.addParticle(1.0)
        force.addParticle([])
    system.addForce(force)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(x)
    state = context.getState(getEnergy=True, getForces=True)
    energy = PairEnergy(table.pair_potential(), len(x), box=jnp.eye(3) * side)
    ours, forces = energy_and_forces(energy, jnp.asarray(x))
    # Two splines through the same rows, 0.002 nm apart: they differ by the fourth derivative.
    assert float(ours) == pytest.approx(state.getPotentialEnergy()._value, rel=1e-5)
    theirs = np.asarray(state.getForces(asNumpy=True)._value)
    np.testing.assert_allclose(forces, theirs, atol=1e-3 * np.abs(theirs).max())


def test_bad_tables_are_refused(potential, table, tmp_path):
    path = tmp_path / "bad.table"
    wrong = table._replace(slope=-table.slope)
    write_lammps_tables(path, {"A": wrong})
    with pytest.raises(InputError, match=r"bad.table, line \d+: u changes by .* check columns, sign and units"):
        read_lammps_tables(path)
    write_gromacs_table(path, wrong)
    with pytest.raises(InputError, match="check columns"):
        read_gromacs_table(path)
    write_lammps_tables(path, {"A": table})
    text = path.read_text().splitlines()
    path.write_text("\n".join(text[:-3]))
    with pytest.raises(InputError, match="should have 331 rows, the file ends after 328"):
        read_lammps_tables(path)
    path.write_text("\n".join([*text[:8], "4 2.46 x 1", *text[9:]]))
    with pytest.raises(InputError, match="line 9: expected row, distance, energy and force"):
        read_lammps_tables(path)
    path.write_text("A\nN 10 RSQ 1 2\n")
    with pytest.raises(InputError, match="line 2: RSQ tables are not read"):
        read_lammps_tables(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_lammps_tables(tmp_path / "none")
    with pytest.raises(ValueError, match="units are real"):
        write_lammps_tables(path, {"A": table}, "si")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="one word"):
        write_lammps_tables(path, {"A B": table})
    with pytest.raises(ValueError, match="no whole number of its steps"):
        write_gromacs_table(path, PairTable.of(potential, 0.002, start=0.2411))
    with pytest.raises(ValueError, match="fewer than 4 rows"):
        PairTable.of(potential, 0.5)
