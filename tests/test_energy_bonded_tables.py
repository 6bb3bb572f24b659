"""Tabulated bonded terms: against splines of SciPy, closed forms, OpenMM and finite differences."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import openmm
import pytest
from scipy.interpolate import CubicSpline

from jaxcg.energy import (
    HarmonicAngle,
    HarmonicBond,
    PeriodicTorsion,
    TabulatedAngle,
    TabulatedBond,
    TabulatedTorsion,
    energy_and_forces,
)

DISTANCES = np.linspace(0.1, 0.6, 26)
ANGLES = np.linspace(0.5, 3.0, 31)
TURN = -math.pi + 2 * math.pi / 36 * np.arange(36)
BONDS = [(0, 1), (1, 2), (3, 2), (0, 4)]
TRIPLES = [(0, 1, 2), (3, 2, 1), (1, 0, 4)]
QUARTETS = [(0, 1, 2, 3), (4, 0, 1, 2), (3, 2, 1, 0)]
X = np.array([[0.0, 0.02, 0.01], [0.31, 0.0, 0.0], [0.4, 0.3, 0.05], [0.65, 0.35, 0.3], [-0.1, -0.2, 0.15]])


def _u(q):
    return 3.0 * np.sin(5 * q) + 20 * (q - 0.4) ** 2


def terms():
    return {
        "bond": TabulatedBond(BONDS, DISTANCES, _u(DISTANCES), n_atoms=5),
        "angle": TabulatedAngle(TRIPLES, ANGLES, _u(ANGLES), n_atoms=5),
        "torsion": TabulatedTorsion(QUARTETS, TURN, np.cos(2 * TURN) + np.sin(TURN + 1) ** 3, n_atoms=5),
    }


def at(r):
    return jnp.asarray([[0.0, 0.0, 0.0], [r, 0.0, 0.0]])


def bent(theta):
    return jnp.asarray([[0.3, 0.0, 0.0], [0.0, 0.0, 0.0], [0.2 * math.cos(theta), 0.2 * math.sin(theta), 0.0]])


@pytest.mark.parametrize("name", ["bond", "angle", "torsion"])
def test_forces_parameters_and_precision(x64, name):
    term = terms()[name]
    x = jnp.asarray(X)
    value = eqx.filter_jit(term)
    energy, forces = energy_and_forces(term, x)
    step = 1e-6
    numeric = np.zeros_like(X)
    for i in np.ndindex(*X.shape):
        numeric[i] = -(value(x.at[i].add(step)) - value(x.at[i].add(-step))) / (2 * step)
    np.testing.assert_allclose(forces, numeric, rtol=1e-6, atol=1e-6)
    # Linear in the values: the gradient by them, which has no other part, rebuilds the energy.
    gradient = eqx.filter_grad(lambda t: t(x))(term).values
    np.testing.assert_allclose(jnp.sum(gradient * term.values), energy, rtol=1e-10)
    more = eqx.tree_at(lambda t: t.values, term, term.values.at[13].add(0.5))
    np.testing.assert_allclose(more(x) - energy, 0.5 * gradient[13], atol=1e-10)
    single = term(x.astype(jnp.float32))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, energy, rtol=1e-5)


def test_bonds_and_angles_are_the_spline(x64):
    bond = TabulatedBond([(0, 1)], DISTANCES, _u(DISTANCES), n_atoms=2)
    angle = TabulatedAngle([(0, 1, 2)], ANGLES, _u(ANGLES), n_atoms=3)
    for term, place, table in ((bond, at, DISTANCES), (angle, bent, ANGLES)):
        reference = CubicSpline(table, _u(table))
        points = np.linspace(table[0] + 1e-3, table[-1] - 1e-3, 41)
        found = jax.vmap(term)(jnp.stack([place(q) for q in points]))
        np.testing.assert_allclose(found, reference(points), atol=1e-9)


def test_harmonic_tables_are_harmonic_terms(x64):
    x = jnp.asarray(X)
    k, r0 = 800.0, 0.33
    table = TabulatedBond(BONDS, DISTANCES, 0.5 * k * (DISTANCES - r0) ** 2, n_atoms=5)
    exact = HarmonicBond(BONDS, [r0] * 4, [k] * 4, n_atoms=5)
    np.testing.assert_allclose(table.energy_and_gradient(x)[1], exact.energy_and_gradient(x)[1], atol=1e-8)
    given = TabulatedBond(BONDS, DISTANCES, 0.5 * k * (DISTANCES - r0) ** 2, slopes=k * (DISTANCES - r0), n_atoms=5)
    np.testing.assert_allclose(given(x), exact(x), rtol=1e-10)
    bends = TabulatedAngle(TRIPLES, ANGLES, 0.5 * k * (ANGLES - 2.0) ** 2, n_atoms=5)
    np.testing.assert_allclose(bends(x), HarmonicAngle(TRIPLES, [2.0] * 3, [k] * 3, n_atoms=5)(x), rtol=1e-9)


@pytest.mark.parametrize("start", [-math.pi, 0.0, 1.0])
def test_torsions_are_the_periodic_spline_wherever_they_start(x64, start):
    phi = start + 2 * math.pi / 90 * np.arange(90)
    table = TabulatedTorsion(QUARTETS, phi, 5.0 * (1 + np.cos(3 * phi - 0.7)), n_atoms=5)
    exact = PeriodicTorsion(QUARTETS, [3] * 3, [0.7] * 3, [5.0] * 3, n_atoms=5)
    np.testing.assert_allclose(table(jnp.asarray(X)), exact(jnp.asarray(X)), atol=1e-3)
    np.testing.assert_allclose(
        table.energy_and_gradient(jnp.asarray(X))[1], exact.energy_and_gradient(jnp.asarray(X))[1], atol=0.1
    )


def test_what_leaves_a_table_comes_back(x64):
    # Both ends of this table drive outwards.
    out = TabulatedBond([(0, 1)], DISTANCES, -200 * (DISTANCES - 0.35) ** 2, restoring=40.0, n_atoms=2)
    for r, force in ((0.05, 40.0), (0.7, -40.0), (5.0, -40.0)):
        np.testing.assert_allclose(energy_and_forces(out, at(r))[1][1, 0], force, rtol=1e-9)
    np.testing.assert_allclose(out(at(0.6 + 1e-9)), out(at(0.6 - 1e-9)), atol=1e-5)
    np.testing.assert_allclose(out(at(0.9)) - out(at(0.6)), 0.3 * 40.0, rtol=1e-9)
    # Both ends of this one drive back, harder than asked for: along the tangent.
    back = TabulatedBond([(0, 1)], DISTANCES, 2000 * (DISTANCES - 0.35) ** 2, n_atoms=2)
    for r, force in ((0.01, 1000.0), (0.8, -1000.0)):
        np.testing.assert_allclose(energy_and_forces(back, at(r))[1][1, 0], force, rtol=1e-9)
    bend = TabulatedAngle([(0, 1, 2)], ANGLES, 0 * ANGLES, restoring=7.0, n_atoms=3)
    np.testing.assert_allclose(bend(bent(0.2)), 0.3 * 7.0, rtol=1e-9)
    np.testing.assert_allclose(bend(bent(3.1)), 0.1 * 7.0, rtol=1e-9)
    # On one spot, and in one line, everything is finite.
    assert np.isfinite(energy_and_forces(back, at(0.0))[1]).all()
    for theta in (0.0, math.pi):
        assert np.isfinite(energy_and_forces(bend, bent(theta))[1]).all()


def test_openmm_computes_the_same(x64):
    system = openmm.System()
    for _ in range(5):
        system.addParticle(1.0)
    bond = openmm.CustomCompoundBondForce(2, "table(distance(p1, p2))")
    bond.addTabulatedFunction("table", openmm.Continuous1DFunction(np.exp(-5 * DISTANCES) * 90, 0.1, 0.6))
    for pair in BONDS:
        bond.addBond(pair)
    torsion = openmm.CustomCompoundBondForce(4, "table(dihedral(p1, p2, p3, p4))")
    u = 4 * np.cos(TURN) + np.cos(2 * TURN + 0.5)
    torsion.addTabulatedFunction("table", openmm.Continuous1DFunction(np.append(u, u[0]), -math.pi, math.pi, True))
    for quartet in QUARTETS:
        torsion.addBond(quartet)
    system.addForce(bond)
    system.addForce(torsion)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(X)
    state = context.getState(getEnergy=True, getForces=True)
    ours = TabulatedBond(BONDS, DISTANCES, np.exp(-5 * DISTANCES) * 90, n_atoms=5)
    ours = ours + TabulatedTorsion(QUARTETS, TURN, u, n_atoms=5)
    energy, forces = energy_and_forces(ours, jnp.asarray(X))
    # OpenMM's spline of an open table has no curvature at its ends, ours has.
    np.testing.assert_allclose(energy, state.getPotentialEnergy()._value, rtol=1e-4)
    np.testing.assert_allclose(forces, state.getForces(asNumpy=True)._value, atol=0.1)


def test_refusals():
    r, u = DISTANCES, np.zeros(26)
    for wrong, words in (
        (lambda: TabulatedBond([(0, 2)], r, u, n_atoms=2), "between 0 and 1"),
        (lambda: TabulatedBond([(0, 1)], r**2, u, n_atoms=2), "equal steps"),
        (lambda: TabulatedBond([(0, 1)], r, u, slopes=u[:-1], n_atoms=2), "one finite slope"),
        (lambda: TabulatedBond([(0, 1)], r, u, restoring=0.0, n_atoms=2), "must be positive"),
        (lambda: TabulatedAngle([(0, 1, 2)], np.linspace(0, 180, 26), u, n_atoms=3), "in rad"),
        (lambda: TabulatedTorsion([(0, 1, 2, 3)], np.linspace(0, 2 * math.pi, 26), u, n_atoms=4), "without its end"),
        (lambda: TabulatedTorsion([(0, 1, 2, 3)], TURN, u, n_atoms=4), "a value for each"),
        (lambda: TabulatedTorsion([(0, 1, 2, 3)], TURN, TURN * np.nan, n_atoms=4), "finite"),
    ):
        with pytest.raises(ValueError, match=words):
            wrong()
